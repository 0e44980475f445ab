//! A further process in a running container.

use crate::cgroup::ExecGroup;
use crate::launch::report::ProgramName;
use insula_sys::fork::{self, Child};
use insula_sys::outcome::Outcome;
use rustix::fd::{AsFd, OwnedFd};
use std::time::Instant;

/// An exec and everything that belongs to it.
#[derive(Debug)]
pub struct Exec {
    /// The container it runs in.
    pub container_id: String,
    /// The request that waits for it to start.
    pub pending: Option<u64>,
    /// To its child, until that clones.
    pub socket: OwnedFd,
    /// The first process, until reaped.
    pub intermediate: Option<Child>,
    /// The process itself, once it was cloned.
    pub main: Option<Child>,
    /// What became of it.
    pub outcome: Outcome,
    /// The program, for explaining why it cannot be executed.
    pub program: ProgramName,
    /// The group it can be killed by.
    pub group: Option<ExecGroup>,
    /// When it is killed.
    pub deadline: Option<Instant>,
    /// It was killed at its deadline.
    pub timed_out: bool,
    /// Its group was killed.
    pub killed: bool,
    /// Read ends of its output. The daemon reads copies; these keep the process
    /// from SIGPIPE when the daemon is gone.
    pub outputs: [OwnedFd; 2],
}

// === impl Exec ===

impl Exec {
    /// Kills it with all its descendants that stayed in its group.
    pub fn kill(&mut self) {
        self.killed = true;
        let by_group = self
            .group
            .as_ref()
            .is_some_and(|group| group.cgroup.kill_now().is_ok());
        if !by_group {
            for child in [&self.main, &self.intermediate].into_iter().flatten() {
                // One that ended by itself is no error.
                let _ = fork::send_signal(child.pidfd.as_fd(), 9);
            }
        }
    }
}
