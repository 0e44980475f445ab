//! The pod's network namespace beside the host's.

use crate::error::{Code, Failure};
use crate::netlink::{Family, Socket};
use insula_sys::namespace::{Kind, join, open_own};
use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags};
use std::path::{Path, PathBuf};

/// A network namespace that is not the host's.
#[derive(Debug)]
pub(crate) struct PodNamespace {
    pub(crate) fd: OwnedFd,
    pub(crate) path: PathBuf,
    host: OwnedFd,
}

// === impl PodNamespace ===

impl PodNamespace {
    /// Opens the namespace at `path`; `None` if it is gone, which is no error for DEL.
    pub(crate) fn open(path: &Path) -> Result<Option<Self>, Failure> {
        let host = open_own(Kind::Network).map_err(Failure::system)?;
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let fd = match rustix::fs::open(path, flags, Mode::empty()) {
            Ok(fd) => fd,
            Err(rustix::io::Errno::NOENT) => return Ok(None),
            Err(errno) => {
                let call = format!("open({path:?}, O_RDONLY|O_CLOEXEC)");
                return Err(Failure::system(insula_sys::Error::new(call, errno)));
            }
        };
        let same = |fd: &OwnedFd| rustix::fs::fstat(fd).map(|found| (found.st_dev, found.st_ino));
        if same(&fd) == same(&host) {
            return Err(Failure::new(
                Code::InvalidEnvironment,
                format!("CNI_NETNS {path:?} is the host's own network namespace"),
                "a pod of the host's network is attached to no other",
            ));
        }
        Ok(Some(Self {
            fd,
            path: path.to_owned(),
            host,
        }))
    }

    /// Runs `work` in the namespace and comes back. The program has one thread, and this is it.
    pub(crate) fn within<T>(
        &self,
        work: impl FnOnce() -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        join(&self.fd, Kind::Network).map_err(Failure::system)?;
        let result = work();
        // Whoever cannot come back must not go on: what follows is meant for the host.
        join(&self.host, Kind::Network).map_err(Failure::system)?;
        result
    }

    /// A socket that speaks of the pod's network, from wherever it is used.
    pub(crate) fn socket(&self) -> Result<Socket, Failure> {
        self.within(|| Ok(Socket::open(Family::Route)?))
    }
}
