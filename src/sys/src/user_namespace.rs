//! A user namespace without processes, for trying what can be done with one.

use crate::fork::{last_errno, open_pid, send_signal, wait};
use crate::namespace::{self, Kind};
use crate::{Error, Result};
use rustix::fd::{AsFd, OwnedFd};
use std::time::Duration;

/// How long the process that is needed for it is waited for once it was killed.
const PATIENCE: Duration = Duration::from_secs(5);

/// Makes a user namespace with these lines of `uid_map` and `gid_map`
/// (user_namespaces(7)). May be called where there are other threads: the
/// process that has to be born in it does nothing and is gone when this returns.
pub fn make(uid_map: &str, gid_map: &str) -> Result<OwnedFd> {
    // SAFETY: clone_args is plain integers for which zero is "not used"
    // (clone(2)); an all-zero value is valid.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = libc::CLONE_NEWUSER as u64;
    args.exit_signal = libc::SIGCHLD as u64;
    // SAFETY: clone3(2) without CLONE_VM copies the address space, so the child
    // runs on a copy of this stack. It makes system calls only: a lock that
    // another thread held at this moment is never asked for.
    let pid = unsafe {
        libc::syscall(
            libc::SYS_clone3,
            std::ptr::from_ref(&args),
            std::mem::size_of::<libc::clone_args>(),
        )
    };
    if pid == 0 {
        wait_to_be_killed();
    }
    let Some(pid) = i32::try_from(pid).ok().filter(|pid| *pid > 0) else {
        return Err(Error::new("clone3({CLONE_NEWUSER})", last_errno()));
    };
    // A child that was not reaped: the id means no other process.
    let child = open_pid(pid)?;
    let made = namespace::open(pid, Kind::User).and_then(|made| {
        for (file, line) in [("uid_map", uid_map), ("gid_map", gid_map)] {
            let path = format!("/proc/{pid}/{file}");
            std::fs::write(&path, line)
                .map_err(|error| Error::from_io(format!("write({path:?}, {line:?})"), &error))?;
        }
        Ok(made)
    });
    send_signal(child.as_fd(), libc::SIGKILL)?;
    wait(child.as_fd(), PATIENCE)?;
    made
}

/// The child: holds nothing, ends with the thread that made it at the latest.
fn wait_to_be_killed() -> ! {
    // SAFETY: PR_SET_PDEATHSIG takes a plain number, prctl(2).
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0) };
    // SAFETY: close_range(2) takes plain numbers. This process never uses a
    // descriptor again, so that values of the parent's code own closed ones
    // does no harm.
    unsafe { libc::syscall(libc::SYS_close_range, 0_u32, u32::MAX, 0_u32) };
    crate::fork::sleep_for_ever()
}
