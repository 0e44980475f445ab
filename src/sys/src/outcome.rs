//! A word from a process that may hold no descriptor.
//!
//! A process that is cloned into a PID namespace where a tenant can see it must
//! own nothing but its standard streams, so it cannot report over a socket.
//! What became of it is left in a page of memory that it, the process that
//! cloned it and their supervisor share. A tenant that can trace the process
//! could write there too: what is read is checked, never believed.

use crate::fork::last_errno;
use crate::{Error, Result};
use rustix::io::Errno;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicI32, Ordering};

/// What is in the page.
#[derive(Debug)]
#[repr(C)]
struct Page {
    pid: AtomicI32,
    stage: AtomicI32,
    errno: AtomicI32,
    /// The number of a filter's listener, and one; 0 where there is none.
    listener: AtomicI32,
    /// The listener was passed on.
    confirmed: AtomicI32,
}

/// How far a cloned process came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// No failure was left.
    Executed,
    /// The system call filter could not be loaded, or what was needed for that
    /// not given up.
    Filter,
    /// clone(2) failed.
    Clone,
    /// Its session or terminal could not be set up.
    Session,
    /// execve(2) failed.
    Execute,
}

/// A shared page with the outcome of one clone and execve.
#[derive(Debug)]
pub struct Outcome(NonNull<Page>);

// === impl Outcome ===

impl Outcome {
    /// A page that every process forked from now on shares with this one.
    pub fn new() -> Result<Self> {
        // SAFETY: an anonymous mapping at an address of the kernel's choice
        // touches no memory that exists, mmap(2).
        let page = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                std::mem::size_of::<Page>(),
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        match NonNull::new(page.cast::<Page>()) {
            Some(page) if page.as_ptr().cast() != libc::MAP_FAILED => Ok(Self(page)),
            _ => Err(Error::new(
                "mmap(NULL, MAP_SHARED|MAP_ANONYMOUS)",
                last_errno(),
            )),
        }
    }

    fn page(&self) -> &Page {
        // SAFETY: the mapping is page-aligned, zero-filled (a valid Page),
        // large enough, and lives until self is dropped. All access is atomic,
        // also from other processes.
        unsafe { self.0.as_ref() }
    }

    /// Where the kernel leaves the id of the process that is cloned, see
    /// [`fork_beside`](crate::fork::fork_beside).
    pub(crate) fn pid_address(&self) -> *mut i32 {
        self.page().pid.as_ptr()
    }

    /// Leaves a failure.
    pub fn set_failure(&self, stage: Stage, errno: Errno) {
        self.page()
            .errno
            .store(errno.raw_os_error(), Ordering::Relaxed);
        self.page().stage.store(stage as i32, Ordering::Release);
    }

    /// The process that was cloned, if it was.
    pub fn pid(&self) -> Option<i32> {
        Some(self.page().pid.load(Ordering::Acquire)).filter(|pid| *pid > 0)
    }

    /// Leaves the number of a filter's listener.
    pub(crate) fn leave_listener(&self, number: i32) {
        self.page().listener.store(number + 1, Ordering::Release);
    }

    /// The number of a filter's listener in the table of who loaded it, once it
    /// was loaded.
    pub fn listener(&self) -> Option<i32> {
        let number = self.page().listener.load(Ordering::Acquire);
        (number > 0).then(|| number - 1)
    }

    /// Leaves word that the listener was passed on.
    pub fn confirm_listener(&self) {
        self.page().confirmed.store(1, Ordering::Release);
    }

    /// Waits until the listener was passed on, without a system call: any may be
    /// one that the filter holds up until somebody has the listener. It spins,
    /// for as long as another process needs for a message there and back, and
    /// gives up after some seconds. Says whether it was.
    pub fn spin_until_confirmed(&self) -> bool {
        const TURNS: u64 = 1 << 28;
        (0..TURNS).any(|_| {
            std::hint::spin_loop();
            self.page().confirmed.load(Ordering::Acquire) != 0
        })
    }

    /// The failure that was left, if any.
    pub fn failure(&self) -> Option<(Stage, Errno)> {
        let stage = match self.page().stage.load(Ordering::Acquire) {
            0 => return None,
            stage if stage == Stage::Filter as i32 => Stage::Filter,
            stage if stage == Stage::Clone as i32 => Stage::Clone,
            stage if stage == Stage::Session as i32 => Stage::Session,
            _ => Stage::Execute,
        };
        let errno = self.page().errno.load(Ordering::Relaxed).clamp(1, 4095);
        Some((stage, Errno::from_raw_os_error(errno)))
    }
}

impl Drop for Outcome {
    fn drop(&mut self) {
        // SAFETY: the mapping was made in `new` with this length and nothing
        // refers into it any more.
        unsafe { libc::munmap(self.0.as_ptr().cast(), std::mem::size_of::<Page>()) };
    }
}

#[cfg(test)]
mod tests {
    use super::{Outcome, Stage};
    use rustix::io::Errno;
    use std::sync::atomic::Ordering;

    #[test]
    fn nothing_was_left_at_first_and_garbage_is_not_believed() {
        let outcome = Outcome::new().unwrap();
        assert_eq!((outcome.pid(), outcome.failure()), (None, None));
        outcome.page().pid.store(-5, Ordering::Relaxed);
        assert_eq!(outcome.pid(), None);
        outcome.page().stage.store(99, Ordering::Relaxed);
        outcome.page().errno.store(-1, Ordering::Relaxed);
        assert_eq!(outcome.failure(), Some((Stage::Execute, Errno::PERM)));
        assert_eq!(outcome.listener(), None);
        outcome.leave_listener(0);
        assert_eq!(outcome.listener(), Some(0));
        outcome.confirm_listener();
        assert!(outcome.spin_until_confirmed());
        outcome.set_failure(Stage::Session, Errno::NOENT);
        assert_eq!(outcome.failure(), Some((Stage::Session, Errno::NOENT)));
    }
}
