//! Passing on the listener of a system call filter (seccomp_unotify(2)).
//!
//! The process that loads such a filter gets the listener, and cannot be trusted
//! to pass it on: each system call that takes may be one that waits for the
//! answer of whoever has the listener. So another process that no filter judges,
//! the keeper, shares its table of descriptors (`CLONE_FILES`), learns the
//! listener's number from shared memory, and sends it to the supervisor. The
//! loader's execve(2) then parts the two tables again.
//!
//! A keeper is never in a PID namespace that tenants see: for a process that is
//! alone in its own it is the intermediate, which then stays until the start;
//! beside others it is forked before their PID namespace is chosen.

use crate::launch::report::{Go, Report, Reporter, step};
use insula_sys::fork::{self, Fork, ForkOptions, SingleThread, exit_now};
use insula_sys::outcome::Outcome;
use insula_sys::{Error, fd};
use insula_wire::message::Failure;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

/// What loader and keeper have in common.
#[derive(Debug)]
pub struct Keeper {
    /// Counts up when the filter is about to be loaded.
    word: OwnedFd,
    /// The loader, where the keeper was forked by it.
    loader: Option<OwnedFd>,
}

/// How long the keeper sleeps between two looks at the number, once the filter
/// is being loaded: that takes as long as one system call.
const LOOK: Duration = Duration::from_micros(50);

// === impl Keeper ===

impl Keeper {
    /// For a loader that is going to be forked, with `share_files`, by who then
    /// [keeps](Self::keep).
    pub fn of_child() -> Result<Self, Failure> {
        let word = eventfd(0, EventfdFlags::CLOEXEC)
            .map_err(|errno| Error::new("eventfd(0, EFD_CLOEXEC)", errno));
        Ok(Self {
            word: step(NAME, word)?,
            loader: None,
        })
    }

    /// Forks a keeper for this process, which will load.
    pub fn of_this_process(
        proof: SingleThread,
        outcome: &Outcome,
        reporter: &Reporter,
    ) -> Result<Self, Failure> {
        let own = rustix::process::getpid().as_raw_nonzero().get();
        let keeper = Self {
            loader: Some(step(NAME, fork::open_pid(own))?),
            ..Self::of_child()?
        };
        let options = ForkOptions {
            share_files: true,
            ..ForkOptions::default()
        };
        match step(NAME, fork::fork(proof, &options))? {
            Fork::Parent(_) => Ok(keeper),
            Fork::Child => {
                if let Some(loader) = &keeper.loader {
                    keeper.keep(loader.as_fd(), outcome, reporter);
                }
                exit_now(1)
            }
        }
    }

    /// What the loader has to keep open until it has loaded.
    pub fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        [self.word.as_fd()]
            .into_iter()
            .chain(self.loader.as_ref().map(AsFd::as_fd))
    }

    /// The loader's last word before it loads.
    pub fn announce(&self) -> Result<(), Error> {
        rustix::io::write(&self.word, &1_u64.to_ne_bytes())
            .map(drop)
            .map_err(|errno| Error::new("write(eventfd, 1)", errno))
    }

    /// Waits for the listener and passes it on. Never returns: what this process
    /// would drop are the loader's descriptors, too.
    pub fn keep(&self, loader: BorrowedFd<'_>, outcome: &Outcome, reporter: &Reporter) -> ! {
        let mut watched = [
            PollFd::new(&self.word, PollFlags::IN),
            PollFd::from_borrowed_fd(loader, PollFlags::IN),
        ];
        while !matches!(poll(&mut watched, None), Ok(1..)) {}
        if !watched[0].revents().contains(PollFlags::IN) {
            exit_now(0);
        }
        let number = loop {
            if let Some(number) = outcome.listener() {
                break number;
            }
            let mut ended = [PollFd::from_borrowed_fd(loader, PollFlags::IN)];
            let now = Timespec {
                tv_sec: 0,
                tv_nsec: 0,
            };
            // The filter may have been refused, which the loader tells itself.
            if matches!(poll(&mut ended, Some(&now)), Ok(1)) {
                exit_now(0);
            }
            std::thread::sleep(LOOK);
        };
        match fd::duplicate_number(number) {
            Ok(listener) => reporter.send(&Report::Listener, &[listener.as_fd()]),
            Err(_) => exit_now(1),
        }
        reporter.wait_for(Go::Listened);
        if self.loader.is_some() {
            // From here on tenants may look at the loader: it has nothing but
            // its streams.
            let streams = (std::io::stdin(), std::io::stdout(), std::io::stderr());
            let keep = [streams.0.as_fd(), streams.1.as_fd(), streams.2.as_fd()];
            if fd::close_all_except(&keep).is_err() {
                exit_now(1);
            }
        }
        outcome.confirm_listener();
        exit_now(0)
    }
}

const NAME: &str = "pass the filter's listener on";
