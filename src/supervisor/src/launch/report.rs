//! What a child and its supervisor say to each other on their socket pair.

use insula_sys::fork::exit_now;
use insula_sys::seqpacket;
use insula_wire::message::{Failure, FailureKind};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

/// A message from a child.
#[derive(Debug, Serialize, Deserialize)]
pub enum Report {
    /// The helper of a pod has made a user namespace that has no ids yet.
    WithoutIds,
    /// The main process was cloned; its id on the host.
    Cloned(i32),
    /// The root is built, and hooks are to be run on the node before it is
    /// entered; with the id that this process has there.
    Built(i32),
    /// The bundle of an external runtime was made; its mount namespace travels
    /// with this.
    Bundle,
    /// An external runtime has made the container.
    Adopted {
        /// Its process's id on the host.
        pid: i32,
        /// That is the first one of a PID namespace of its own.
        own_pid_namespace: bool,
    },
    /// The listener of the filter travels with this. Answered by
    /// [`Go::Listened`].
    Listener,
    /// The master of the container's terminal travels with this.
    Terminal,
    /// All is done but the execve(2) of this program.
    Ready(ProgramName),
    /// A step failed; nothing more comes.
    Failed(Failure),
}

/// A program as its supervisor has to know it to explain a failure.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct ProgramName {
    /// The first argument, at most a few hundred bytes of it.
    pub name: String,
    /// It was looked for in `PATH`.
    pub searched: bool,
}

/// A message to a child, one byte each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Go {
    /// Its user namespace has ids.
    Mapped,
    /// It is in its cgroups.
    Placed,
    /// The hooks on the node have run.
    Enter,
    /// It may execute.
    Start,
    /// Somebody has the filter's listener.
    Listened,
}

/// A child's end of its socket pair.
#[derive(Debug)]
pub struct Reporter(OwnedFd);

// === impl Go ===

impl Go {
    /// The byte that stands for it.
    pub fn byte(self) -> u8 {
        match self {
            Self::Mapped => b'm',
            Self::Placed => b'p',
            Self::Enter => b'e',
            Self::Start => b's',
            Self::Listened => b'l',
        }
    }
}

// === impl ProgramName ===

impl ProgramName {
    /// What a failed execution means to the person who asked for it.
    pub fn failure(&self, errno: Errno) -> Failure {
        let Self { name, searched } = self;
        let missing = matches!(errno, Errno::NOENT | Errno::NOTDIR);
        let why = match missing && *searched {
            true => "executable file not found in $PATH".to_owned(),
            false => reason(errno),
        };
        Failure {
            kind: match missing {
                true => FailureKind::ProgramNotFound,
                false => FailureKind::ProgramNotExecutable,
            },
            step: "execute program".to_owned(),
            message: format!("exec: {name:?}: {why}"),
        }
    }
}

/// The C library's words for an error, as shells print them.
fn reason(errno: Errno) -> String {
    match errno {
        Errno::NOENT => "no such file or directory".to_owned(),
        Errno::NOTDIR => "not a directory".to_owned(),
        Errno::ACCESS => "permission denied".to_owned(),
        Errno::NOEXEC => "exec format error".to_owned(),
        other => other.to_string(),
    }
}

// === impl Reporter ===

impl Reporter {
    /// Wraps a child's end of a seqpacket pair.
    pub fn new(socket: OwnedFd) -> Self {
        Self(socket)
    }

    /// The socket, to be kept open across the clean-up of descriptors.
    pub fn socket(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    /// Sends a report. A supervisor that is gone ends the child.
    pub fn send(&self, report: &Report, descriptors: &[BorrowedFd<'_>]) {
        let sent = serde_json::to_vec(report)
            .is_ok_and(|bytes| seqpacket::send(self.socket(), &bytes, descriptors).is_ok());
        if !sent {
            exit_now(1);
        }
    }

    /// Reports a failure and ends the child.
    pub fn fail(&self, failure: Failure) -> ! {
        self.send(&Report::Failed(failure), &[]);
        exit_now(1)
    }

    /// Ends the child of a launch that came back: for want of an execve(2) to
    /// do, or because of a failure, which is reported.
    pub fn end(&self, launched: Result<(), Failure>) -> ! {
        match launched {
            Ok(()) => exit_now(0),
            Err(failure) => self.fail(failure),
        }
    }

    /// Waits for the supervisor's word. If the supervisor dies, the read gives
    /// nothing and the child ends: no half-built container outlives it.
    pub fn wait_for(&self, go: Go) {
        match seqpacket::receive(self.socket()) {
            Ok(received) if received.bytes == [go.byte()] => {}
            _ => exit_now(1),
        }
    }
}

/// Gives a system call's error the name of the step it belongs to.
pub fn step<T>(name: &str, result: insula_sys::Result<T>) -> Result<T, Failure> {
    result.map_err(|error| system_failure(name, &error))
}

/// A failed system call as a [`Failure`].
pub fn system_failure(step: &str, error: &insula_sys::Error) -> Failure {
    Failure {
        kind: FailureKind::System,
        step: step.to_owned(),
        message: error.to_string(),
    }
}

/// A plan or message that is not understood.
pub fn malformed(step: &str, message: impl Into<String>) -> Failure {
    Failure {
        kind: FailureKind::Malformed,
        step: step.to_owned(),
        message: message.into(),
    }
}
