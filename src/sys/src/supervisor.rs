//! Starting `insula-pod`.
//!
//! The program is copied once into a sealed memfd, so that nothing on disk is
//! executed again and nothing of it can be written by a container that finds a
//! way to it (CVE-2019-5736).

use crate::fork::{Spawned, spawn};
use crate::{Error, Result, fd};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::ffi::CString;
use std::path::Path;

/// Number of the listening socket in a new supervisor.
pub const LISTENER: i32 = 3;
/// Number of the pod's lock file in a new supervisor.
pub const LOCK: i32 = 4;
/// Number of the sealed program in a new supervisor, which closes it.
pub const PROGRAM: i32 = 5;

/// The supervisor's program in memory.
#[derive(Debug)]
pub struct SealedProgram(OwnedFd);

// === impl SealedProgram ===

impl SealedProgram {
    /// Copies a program file.
    pub fn load(path: &Path) -> Result<Self> {
        let content = std::fs::read(path)
            .map_err(|error| Error::from_io(format!("read({path:?})"), &error))?;
        Ok(Self(fd::sealed_memfd("insula-pod", &content)?))
    }

    /// Starts a supervisor in a session of its own. Its descriptors are
    /// `/dev/null` twice, `messages` as standard error (what it says when it
    /// cannot say it to the daemon), the listening socket, and the lock file,
    /// whose `flock(2)` it keeps for as long as it lives.
    pub fn start(
        &self,
        pod_id: &str,
        messages: BorrowedFd<'_>,
        listener: BorrowedFd<'_>,
        lock: BorrowedFd<'_>,
    ) -> Result<Spawned> {
        let null = std::fs::File::options()
            .read(true)
            .write(true)
            .open("/dev/null")
            .map_err(|error| Error::from_io("open(\"/dev/null\", O_RDWR)", &error))?;
        let path = CString::new(format!("/proc/self/fd/{PROGRAM}"))
            .map_err(|_| Error::new("execve(program)", rustix::io::Errno::INVAL))?;
        let args = ["insula-pod", pod_id].map(|arg| {
            CString::new(arg).map_err(|_| Error::new("execve(args)", rustix::io::Errno::INVAL))
        });
        let args = args.into_iter().collect::<Result<Vec<_>>>()?;
        let null = null.as_fd();
        spawn(
            &path,
            &args,
            &[null, null, messages, listener, lock, self.0.as_fd()],
        )
    }

    /// Number of the descriptor, for messages.
    pub fn descriptor(&self) -> i32 {
        self.0.as_raw_fd()
    }
}

/// Has every large piece of memory returned to the kernel when it is freed.
/// Else the C library keeps the next ones of a size that was freed once, for
/// ever: a buffer for output would stay with a supervisor that is quiet.
pub fn return_freed_memory() {
    // SAFETY: mallopt(3) takes two plain numbers. Setting the threshold keeps
    // it from being adjusted.
    unsafe { libc::mallopt(libc::M_MMAP_THRESHOLD, 128 << 10) };
}
