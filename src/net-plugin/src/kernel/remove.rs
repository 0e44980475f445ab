//! Removing links without waiting for the kernel to forget them.
//!
//! RTM_DELLINK takes a link out of sight within a millisecond, and then waits, 15 to 40 ms on a
//! small machine, until no processor can still be looking at it. Nobody who removes a pod needs
//! that. A child does the waiting; it holds nothing of ours, least of all the pipe by which a
//! runtime waits for the answer.

use super::link;
use crate::error::{Code, Failure};
use crate::netlink::{Family, Socket};
use insula_sys::fd::close_all_except;
use insula_sys::fork::{Child, Fork, ForkOptions, SingleThread, exit_now, fork, reap};
use rustix::fd::AsFd;
use rustix::io::Errno;
use std::time::{Duration, Instant};

/// How long a link may stay in sight.
const PATIENCE: Duration = Duration::from_secs(20);
/// Between two looks; it becomes longer. A look itself waits while the kernel is at work.
const FIRST_PAUSE: Duration = Duration::from_micros(100);
const LONGEST_PAUSE: Duration = Duration::from_millis(2);

/// Removes links of the host; those that are gone are no error. When this returns, nobody finds
/// them any more.
pub(crate) fn remove(host: &Socket, names: &[String]) -> Result<(), Failure> {
    let mut removals = Vec::new();
    for name in names {
        if link::by_name(host, name)?.is_some() {
            removals.push((name, begin(name)?));
        }
    }
    for (name, child) in &removals {
        await_end(host, name, child)?;
    }
    Ok(())
}

fn begin(name: &str) -> Result<Child, Failure> {
    let proof = SingleThread::prove().map_err(Failure::system)?;
    match fork(proof, &ForkOptions::default()).map_err(Failure::system)? {
        Fork::Parent(child) => Ok(child),
        Fork::Child => exit_now(removed(name)),
    }
}

/// The child's work; its exit status is the error number.
fn removed(name: &str) -> i32 {
    if let Err(error) = close_all_except(&[]) {
        return error.errno().raw_os_error();
    }
    let deleted = Socket::open(Family::Route).and_then(|socket| link::delete(&socket, name));
    match deleted {
        Ok(()) => 0,
        Err(error) => error.errno.raw_os_error(),
    }
}

fn await_end(host: &Socket, name: &str, child: &Child) -> Result<(), Failure> {
    let begun = Instant::now();
    let mut pause = FIRST_PAUSE;
    while link::by_name(host, name)?.is_some() {
        let ended = reap(child.pidfd.as_fd()).map_err(Failure::system)?;
        if let Some(status) = ended.map(insula_sys::fork::Ended::code)
            && status != 0
        {
            let errno = Errno::from_raw_os_error(status);
            return Err(Failure::new(
                Code::System,
                format!("RTM_DELLINK({name:?})"),
                errno.to_string(),
            ));
        }
        if begun.elapsed() > PATIENCE {
            return Err(Failure::new(
                Code::TryAgainLater,
                format!("{name} is still there after {} s", PATIENCE.as_secs()),
                "the kernel is at work on it: ask again",
            ));
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
    Ok(())
}
