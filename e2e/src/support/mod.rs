//! What the tests stand on: a daemon of its own for each, requests in few words, and the proof
//! that nothing is left.

pub mod calls;
pub mod case;
pub mod cgroup;
pub mod daemon;
pub mod logs;
pub mod network;
pub mod node;
pub mod outcome;
pub mod processes;
pub mod programs;
pub mod proof;
pub mod requests;
pub mod world;

pub use calls::Exec;
pub use case::Case;
pub use node::Node;
pub use outcome::{Outcome, Stop, skip};
