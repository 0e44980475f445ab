//! A further process in a running container.

use crate::cgroup::ExecGroup;
use crate::launch::report::ProgramName;
use crate::poll::Output;
use insula_sys::fork::{self, Child};
use insula_sys::outcome::Outcome;
use insula_wire::message::{Failure, Notify};
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
    /// Who is told of its system call filter.
    pub notify: Option<Notify>,
    /// Why it was killed before it ran.
    pub refused: Option<Failure>,
    /// The group it can be killed by.
    pub group: Option<ExecGroup>,
    /// When it is killed.
    pub deadline: Option<Instant>,
    /// Why its group was killed, if it was.
    pub killed: Option<Cause>,
    /// All its streams are one terminal.
    pub terminal: bool,
    /// Write end of its standard input, if that is a pipe. The daemon has a
    /// copy; this one keeps it open when the daemon is gone.
    pub stdin: Option<OwnedFd>,
    /// Read ends of its output, or the master of its terminal. The daemon reads
    /// copies; these keep the process from SIGPIPE, or its terminal from being
    /// hung up, when the daemon is gone.
    pub outputs: Vec<(Output, OwnedFd)>,
    /// The number by which the runtime of a sandbox knows the process.
    pub number: Option<u32>,
    /// Nobody else reads its outputs any more: they are read here, and dropped.
    pub abandoned: bool,
}

/// Why an exec was killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// The daemon asked for it.
    Request,
    /// Its deadline had come.
    Deadline,
}

// === impl Exec ===

impl Exec {
    /// Kills it with all its descendants that stayed in its group.
    pub fn kill(&mut self, cause: Cause) {
        self.killed.get_or_insert(cause);
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

    /// When it is going to be killed.
    pub fn due(&self) -> Option<Instant> {
        self.deadline.filter(|_| self.killed.is_none())
    }

    /// Whether its deadline is why it was killed.
    pub fn timed_out(&self) -> bool {
        self.killed == Some(Cause::Deadline)
    }
}
