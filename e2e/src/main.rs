//! The privileged suite.
#![forbid(unsafe_code)]
fn main() {}
