//! Standard streams of a new process.

use crate::launch::report::{Report, Reporter, step};
use insula_sys::path::{Shape, ensure_in_root, open_in_root};
use insula_sys::{Error, fd, mount};
use insula_wire::message::Failure;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{Gid, OFlags, Uid};
use rustix::io::Errno;
use rustix::pty::OpenptFlags;

/// What becomes descriptor 0, 1 and 2.
#[derive(Debug)]
pub struct Streams {
    /// Standard input.
    pub stdin: OwnedFd,
    /// Standard output.
    pub stdout: OwnedFd,
    /// Standard error.
    pub stderr: OwnedFd,
}

// devpts(5) magic, statfs(2).
const DEVPTS_SUPER_MAGIC: i64 = 0x1cd1;

// === impl Streams ===

impl Streams {
    /// The descriptors, to be kept open across the clean-up.
    pub fn descriptors(&self) -> [BorrowedFd<'_>; 3] {
        [self.stdin.as_fd(), self.stdout.as_fd(), self.stderr.as_fd()]
    }

    /// Puts them in place.
    pub fn install(&self) -> Result<(), Failure> {
        step(
            "install standard streams",
            fd::install_standard_streams(self.descriptors()),
        )
    }
}

/// Makes a terminal on the container's own devpts, hands its master to the
/// supervisor, shows it as `/dev/console`, and gives back its other end.
///
/// The devpts is reached through the root we built and is checked to be one:
/// a path here could have been prepared by the image.
pub fn make_terminal(
    root: BorrowedFd<'_>,
    owner: u32,
    reporter: &Reporter,
) -> Result<Streams, Failure> {
    let name = "make terminal";
    let flags = OFlags::RDWR | OFlags::NOCTTY;
    let master = step(name, open_in_root(root, "/dev/pts/ptmx", flags))?;
    let kind =
        rustix::fs::fstatfs(&master).map_err(|errno| Error::new("fstatfs(/dev/pts/ptmx)", errno));
    if step(name, kind)?.f_type != DEVPTS_SUPER_MAGIC {
        return Err(crate::launch::report::system_failure(
            name,
            &Error::new("fstatfs(/dev/pts/ptmx) is not devpts", Errno::NODEV),
        ));
    }
    step(
        name,
        rustix::pty::unlockpt(&master).map_err(|errno| Error::new("ioctl(TIOCSPTLCK, 0)", errno)),
    )?;
    let terminal = step(
        name,
        rustix::pty::ioctl_tiocgptpeer(
            &master,
            OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC,
        )
        .map_err(|errno| Error::new("ioctl(TIOCGPTPEER)", errno)),
    )?;
    let uid = Uid::from_raw(owner);
    step(
        name,
        rustix::fs::fchown(&terminal, Some(uid), None::<Gid>)
            .map_err(|errno| Error::new(format!("fchown(terminal, {owner}, -1)"), errno)),
    )?;
    let console = step(name, ensure_in_root(root, "/dev/console", Shape::File))?;
    let clone = step(name, mount::clone_tree_at(&terminal, "".as_ref(), false))?;
    step(name, mount::attach(clone.as_fd(), console.as_fd()))?;
    reporter.send(&Report::Terminal, &[master.as_fd()]);
    Ok(Streams {
        stdin: step(name, fd::duplicate(&terminal))?,
        stdout: step(name, fd::duplicate(&terminal))?,
        stderr: terminal,
    })
}
