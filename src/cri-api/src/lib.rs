//! Placeholder until this room has something in it.
#![forbid(unsafe_code)]
