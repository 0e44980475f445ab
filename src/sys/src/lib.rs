//! The only room with `unsafe`: system calls that no safe library offers, and
//! the safe shapes the other rooms use.
//!
//! Everything takes and gives `BorrowedFd` and `OwnedFd`. An [`Error`] names
//! the call with all its arguments, as strace(1) prints them, because "EINVAL"
//! alone has never helped anyone at night.

pub mod bpf;
pub mod cgroup;
mod error;
pub mod fd;
pub mod fork;
pub mod identity;
pub mod mount;
pub mod namespace;
pub mod outcome;
pub mod path;
pub mod seccomp;
pub mod seqpacket;
pub mod supervisor;
pub mod user_namespace;

pub use error::{Error, Result};
