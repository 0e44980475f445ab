//! The only room with `unsafe`.
