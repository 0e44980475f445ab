//! The seams of [`ports`](crate::ports), for the real rooms.

mod images;
mod network;
