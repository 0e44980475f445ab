//! Between fork and exec: how a plan becomes a process, in two steps.
//!
//! ```text
//!  supervisor ── fork ──► intermediate: places itself or is placed, joins or
//!      ▲                  makes every namespace but pid
//!      │ parent of both        │
//!      └───────────────────────┴─ clone3(CLONE_PARENT) ─► the process: execve
//! ```
//!
//! Only the second process is in the container's PID namespace, where a tenant
//! could look at it through `/proc`. In a namespace that exists already
//! ([`exec`], shared and target PID namespaces) it has by then lost its
//! capabilities, its descriptors and the host's root. In a new one it is alone
//! and builds the root itself, because procfs can only be mounted from inside.
//!
//! Everything runs single-threaded in a copy of the supervisor that never
//! returns: it ends in execve(2) or in [`exit_now`](insula_sys::fork::exit_now).

pub mod container;
pub mod exec;
pub mod identity;
pub mod program;
pub mod report;
pub mod root;
pub mod streams;

use crate::launch::program::Program;
use crate::launch::report::step;
use insula_sys::fork::{Fork, ForkOptions, SingleThread, exit_now, fork};
use insula_sys::outcome::{Outcome, Stage};
use insula_sys::{Error, fd};
use insula_wire::message::Failure;
use rustix::fd::{AsFd, BorrowedFd};
use rustix::io::Errno;

/// Closes what a child has no use for. 0, 1 and 2 stay taken until the
/// container's streams replace them: else the next descriptor that is opened
/// would get such a number, and closing it later would close a stream.
fn close_inherited(theirs: &[BorrowedFd<'_>]) -> Result<(), Failure> {
    let streams = (std::io::stdin(), std::io::stdout(), std::io::stderr());
    let mut keep = vec![streams.0.as_fd(), streams.1.as_fd(), streams.2.as_fd()];
    keep.extend(theirs);
    step("close inherited descriptors", fd::close_all_except(&keep))
}

/// Executes in a process that nobody else can see. Returns only on failure.
fn execute_alone(program: &Program, terminal: bool) -> Failure {
    if let Err(errno) = lead_session(terminal) {
        return report::system_failure(
            "lead session",
            &Error::new("setsid(), ioctl(TIOCSCTTY)", errno),
        );
    }
    program.name().failure(program.execute())
}

/// Clones into a PID namespace that a tenant can see, and executes. From here
/// on nothing is open but the standard streams, so the outcome is left in
/// shared memory; the caller sleeps until the execve(2) is done and then ends.
fn clone_beside_others(
    proof: SingleThread,
    program: &Program,
    terminal: bool,
    outcome: &Outcome,
) -> Result<(), Failure> {
    let streams = (std::io::stdin(), std::io::stdout(), std::io::stderr());
    let keep = [streams.0.as_fd(), streams.1.as_fd(), streams.2.as_fd()];
    step(
        "close all but standard streams",
        fd::close_all_except(&keep),
    )?;
    let options = ForkOptions {
        sibling: true,
        suspend_caller: true,
        leaves_pid: Some(outcome),
        ..ForkOptions::default()
    };
    match fork(proof, &options) {
        // Its id was left by the kernel.
        Ok(Fork::Parent(_)) => {}
        Ok(Fork::Child) => {
            match lead_session(terminal) {
                Err(errno) => outcome.set_failure(Stage::Session, errno),
                Ok(()) => outcome.set_failure(Stage::Execute, program.execute()),
            }
            exit_now(127)
        }
        Err(error) => outcome.set_failure(Stage::Clone, error.errno()),
    }
    exit_now(0)
}

/// A session of its own, with standard input as its terminal if that is one.
fn lead_session(terminal: bool) -> Result<(), Errno> {
    rustix::process::setsid()?;
    if terminal {
        rustix::process::ioctl_tiocsctty(std::io::stdin())?;
    }
    Ok(())
}
