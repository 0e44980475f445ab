//! Standard streams of a new process.

use crate::launch::report::{Report, Reporter, step, system_failure};
use insula_sys::path::{Shape, ensure_in_root, open_in_root};
use insula_sys::{Error, fd, mount};
use insula_wire::message::Failure;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{Gid, Mode, OFlags, ResolveFlags, Uid};
use rustix::io::Errno;
use rustix::pty::OpenptFlags;
use rustix::termios::Winsize;

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

/// A terminal that was just made.
#[derive(Debug)]
pub struct Terminal {
    /// The end that the supervisor gets.
    pub master: OwnedFd,
    /// The end that the process gets.
    pub terminal: OwnedFd,
}

/// Gives a new terminal a size.
pub fn set_size(terminal: &OwnedFd) -> Result<(), Failure> {
    let sized = rustix::termios::tcsetwinsize(terminal, SIZE)
        .map_err(|errno| Error::new("ioctl(TIOCSWINSZ, 80x24)", errno));
    step("make terminal", sized)
}

/// Size of a terminal until somebody looks at it: what terminals have had since
/// there were any. Zero by zero makes some programs divide by it.
const SIZE: Winsize = Winsize {
    ws_row: 24,
    ws_col: 80,
    ws_xpixel: 0,
    ws_ypixel: 0,
};

// === impl Terminal ===

impl Terminal {
    /// Makes a terminal on the devpts at `/dev/pts` below a root that its
    /// tenant may have written. Whatever is there is looked at before it is
    /// opened for use: only a devpts will do, and of that only its own `ptmx`,
    /// not something that was mounted over it.
    pub fn open(root: BorrowedFd<'_>, owner: u32) -> Result<Self, Failure> {
        let name = "make terminal";
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        let devpts = step(name, open_in_root(root, "/dev/pts", flags))?;
        let kind =
            rustix::fs::fstatfs(&devpts).map_err(|errno| Error::new("fstatfs(/dev/pts)", errno));
        if step(name, kind)?.f_type != DEVPTS_SUPER_MAGIC {
            return Err(system_failure(
                name,
                &Error::new("fstatfs(/dev/pts) is not devpts", Errno::NODEV),
            ));
        }
        let master = rustix::fs::openat2(
            &devpts,
            "ptmx",
            OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC,
            Mode::empty(),
            ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV,
        )
        .map_err(|errno| {
            let call = "openat2(/dev/pts, \"ptmx\", O_RDWR|O_NOCTTY, RESOLVE_BENEATH|RESOLVE_NO_SYMLINKS|RESOLVE_NO_XDEV)";
            Error::new(call, errno)
        });
        let master = step(name, master)?;
        let unlocked = rustix::pty::unlockpt(&master)
            .map_err(|errno| Error::new("ioctl(TIOCSPTLCK, 0)", errno));
        step(name, unlocked)?;
        let terminal = rustix::pty::ioctl_tiocgptpeer(
            &master,
            OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC,
        )
        .map_err(|errno| Error::new("ioctl(TIOCGPTPEER)", errno));
        let terminal = step(name, terminal)?;
        let owned = rustix::fs::fchown(&terminal, Some(Uid::from_raw(owner)), None::<Gid>)
            .map_err(|errno| Error::new(format!("fchown(terminal, {owner}, -1)"), errno));
        step(name, owned)?;
        set_size(&terminal)?;
        Ok(Self { master, terminal })
    }

    /// Shows it as `/dev/console`.
    pub fn show_as_console(&self, root: BorrowedFd<'_>) -> Result<(), Failure> {
        let name = "make console";
        let console = step(name, ensure_in_root(root, "/dev/console", Shape::File))?;
        let clone = step(
            name,
            mount::clone_tree_at(&self.terminal, "".as_ref(), false),
        )?;
        step(name, mount::attach(clone.as_fd(), console.as_fd()))
    }

    /// Hands the master to the supervisor and gives back the three streams.
    pub fn into_streams(self, reporter: &Reporter) -> Result<Streams, Failure> {
        let name = "make terminal";
        reporter.send(&Report::Terminal, &[self.master.as_fd()]);
        Ok(Streams {
            stdin: step(name, fd::duplicate(&self.terminal))?,
            stdout: step(name, fd::duplicate(&self.terminal))?,
            stderr: self.terminal,
        })
    }
}
