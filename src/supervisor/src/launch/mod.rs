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

pub mod bundle;
pub mod container;
pub mod exec;
pub mod external;
pub mod filter;
pub mod hooks;
pub mod identity;
pub mod keeper;
pub mod outside;
pub mod program;
pub mod report;
pub mod root;
pub mod sandbox;
pub mod streams;

use crate::launch::filter::Filter;
use crate::launch::keeper::Keeper;
use crate::launch::program::Program;
use crate::launch::report::{Reporter, malformed, step};
use insula_sys::cgroup::Cgroup;
use insula_sys::fork::{SingleThread, exit_now, fork_beside};
use insula_sys::outcome::{Outcome, Stage};
use insula_sys::{Error, fd};
use insula_wire::LaunchPlan;
use insula_wire::message::Failure;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

/// Largest plan that is read.
const MAX_PLAN: u64 = 16 << 20;

/// Largest description of a further process that is read.
const MAX_PROCESS: u64 = 4 << 20;

/// Reads a plan. Only children do: see the messages' `Create`.
fn read_plan(plan: &OwnedFd) -> Result<LaunchPlan, Failure> {
    let plan = step("read plan", fd::duplicate(plan))?;
    let content = step("read plan", fd::read_sealed(plan, MAX_PLAN))?;
    serde_json::from_slice(&content).map_err(|error| malformed("read plan", error.to_string()))
}

/// What the child of a further process reads of that, a sealed memfd.
fn read_process(process: &OwnedFd) -> Result<Vec<u8>, Failure> {
    let process = step("read process", fd::duplicate(process))?;
    step("read process", fd::read_sealed(process, MAX_PROCESS))
}

/// Enters the version 1 cgroups of a further process.
fn enter_cgroups(cgroups: &[&Cgroup]) -> Result<(), Failure> {
    cgroups
        .iter()
        .try_for_each(|cgroup| step("enter cgroup", cgroup.enter_legacy()))
}

/// The root of the mount namespace that this process is in.
fn open_root() -> Result<OwnedFd, Failure> {
    let top = rustix::fs::open("/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
        .map_err(|errno| Error::new("open(\"/\", O_PATH)", errno));
    step("open root", top)
}

/// Closes what a child has no use for. 0, 1 and 2 stay taken until the
/// container's streams replace them: else the next descriptor that is opened
/// would get such a number, and closing it later would close a stream.
fn close_inherited(theirs: &[BorrowedFd<'_>]) -> Result<(), Failure> {
    let streams = (std::io::stdin(), std::io::stdout(), std::io::stderr());
    let mut keep = vec![streams.0.as_fd(), streams.1.as_fd(), streams.2.as_fd()];
    keep.extend(theirs);
    step("close inherited descriptors", fd::close_all_except(&keep))
}

/// Executes in a process that nobody else can see. Returns only on failure,
/// which is left in shared memory, too: a filter may forbid to send it.
fn execute_alone(
    program: &Program,
    terminal: bool,
    (filter, keeper): (&Filter, Option<&Keeper>),
    outcome: &Outcome,
) -> Failure {
    if let Err(errno) = lead_session(terminal) {
        return report::system_failure(
            "lead session",
            &Error::new("setsid(), ioctl(TIOCSCTTY)", errno),
        );
    }
    let loaded = match keeper {
        Some(keeper) => filter.load_listening(keeper, outcome),
        None => filter.load(),
    };
    if let Err(error) = loaded {
        return report::system_failure("load system call filter", &error);
    }
    let errno = program.execute();
    outcome.set_failure(Stage::Execute, errno);
    program.name().failure(errno)
}

/// Clones into a PID namespace that a tenant can see, and executes. From here
/// on nothing is open but the standard streams, so the outcome is left in
/// shared memory; the caller sleeps until the execve(2) is done and then ends.
fn clone_beside_others(
    proof: SingleThread,
    program: &Program,
    terminal: bool,
    filter: &Filter,
    keeper: Option<(&Keeper, &Reporter)>,
    outcome: &Outcome,
) -> Result<(), Failure> {
    let streams = (std::io::stdin(), std::io::stdout(), std::io::stderr());
    let mut keep = vec![streams.0.as_fd(), streams.1.as_fd(), streams.2.as_fd()];
    if let Some((keeper, reporter)) = keeper {
        // Which the keeper closes when it is done.
        keep.extend(keeper.descriptors());
        keep.push(reporter.socket());
    }
    step(
        "close all but standard streams",
        fd::close_all_except(&keep),
    )?;
    let loaded = match keeper {
        Some((keeper, _)) => filter.load_listening_for_clone(keeper, outcome),
        None => filter.load_for_clone(),
    };
    if let Err(error) = loaded {
        outcome.set_failure(Stage::Filter, error.errno());
        exit_now(1)
    }
    match fork_beside(proof, outcome) {
        // Its id was left by the kernel.
        Ok(false) => {}
        Ok(true) => {
            let filter = keeper.is_none().then_some(filter);
            let (stage, errno) = execute_beside_others(program, terminal, filter);
            outcome.set_failure(stage, errno);
            exit_now(127)
        }
        Err(errno) => outcome.set_failure(Stage::Clone, errno),
    }
    exit_now(0)
}

/// Executes in that clone. Returns only on failure.
fn execute_beside_others(
    program: &Program,
    terminal: bool,
    filter: Option<&Filter>,
) -> (Stage, Errno) {
    if let Err(errno) = lead_session(terminal) {
        return (Stage::Session, errno);
    }
    if let Some(Err(error)) = filter.map(Filter::load_in_clone) {
        return (Stage::Filter, error.errno());
    }
    (Stage::Execute, program.execute())
}

/// A session of its own, with standard input as its terminal if that is one.
fn lead_session(terminal: bool) -> Result<(), Errno> {
    rustix::process::setsid()?;
    if terminal {
        rustix::process::ioctl_tiocsctty(std::io::stdin())?;
    }
    Ok(())
}
