//! Removing links without waiting for the kernel to forget them.
//!
//! RTM_DELLINK takes a link out of sight within a millisecond, and then waits, 15 to 40 ms on a
//! small machine, until no processor can still be looking at it. Nobody who removes a pod needs
//! that. A child does the waiting; it holds nothing of ours, least of all the pipe by which a
//! runtime waits for the answer.
//!
//! But for one thing: whoever is the last to close a socket of the packet filter after something
//! was removed there waits 5 to 15 ms, too. The child has it and is the last.

use super::link;
use crate::error::{Code, Failure};
use crate::netlink::{Family, Socket};
use crate::nft::Filter;
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
/// them any more. Where something of `filter` was removed, the wait for that goes along.
pub(crate) fn remove(
    host: &Socket,
    names: &[String],
    filter: Option<&Filter>,
) -> Result<(), Failure> {
    let mut removals = Vec::new();
    for name in names {
        if link::by_name(host, name)?.is_some() {
            removals.push((name, begin(name, filter)?));
        }
    }
    for (name, child) in &removals {
        await_end(host, name, child)?;
    }
    Ok(())
}

fn begin(name: &str, filter: Option<&Filter>) -> Result<Child, Failure> {
    let proof = SingleThread::prove().map_err(Failure::system)?;
    match fork(proof, &ForkOptions::default()).map_err(Failure::system)? {
        Fork::Parent(child) => Ok(child),
        Fork::Child => exit_now(removed(name, filter)),
    }
}

/// The child's work; its exit status is the error number.
fn removed(name: &str, filter: Option<&Filter>) -> i32 {
    let kept: Vec<_> = filter
        .iter()
        .map(|filter| filter.socket().as_fd())
        .collect();
    if let Err(error) = close_all_except(&kept) {
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
