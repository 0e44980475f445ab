//! What the supervisor waits for.

use insula_sys::{Error, Result};
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::fd::{AsFd, OwnedFd};
use std::collections::BTreeMap;
use std::time::Duration;

/// Something with a descriptor that becomes ready.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Source {
    /// The socket the daemon connects to.
    Listener,
    /// The daemon.
    Daemon,
    /// The socket pair to a container's child.
    ContainerChild(String),
    /// The intermediate process of a container's creation.
    ContainerIntermediate(String),
    /// A container's main process.
    ContainerMain(String),
    /// The kernel's count of what it killed in a container.
    ContainerMemory(String),
    /// A call of the container's external runtime.
    ContainerCall(String),
    /// A container's output.
    ContainerOutput(String, Output),
    /// The socket pair to an exec's child.
    ExecChild(u64),
    /// The intermediate process of an exec.
    ExecIntermediate(u64),
    /// An exec's process.
    ExecMain(u64),
    /// An output of an exec that nobody else reads any more.
    ExecOutput(u64, Output),
    /// A copy of a container's output, by its number: whoever was to read it is
    /// gone.
    Copy(u64),
}

/// Which output of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Output {
    /// Standard output, or the terminal.
    Stdout,
    /// Standard error.
    Stderr,
}

/// An epoll(7) instance that names what it watches.
#[derive(Debug)]
pub struct Poll {
    epoll: OwnedFd,
    names: BTreeMap<u64, Source>,
    numbers: BTreeMap<Source, u64>,
    next: u64,
}

// === impl Poll ===

impl Poll {
    /// Watches nothing yet.
    pub fn new() -> Result<Self> {
        Ok(Self {
            epoll: epoll::create(CreateFlags::CLOEXEC)
                .map_err(|errno| Error::new("epoll_create1(EPOLL_CLOEXEC)", errno))?,
            names: BTreeMap::new(),
            numbers: BTreeMap::new(),
            next: 0,
        })
    }

    /// Watches a descriptor for input.
    pub fn add(&mut self, source: Source, fd: impl AsFd) -> Result<()> {
        self.watch(source, fd, EventFlags::IN)
    }

    /// Watches a process for its end, which is told each time it may have become possible to reap
    /// it: at once, and once more when somebody who traces it (ptrace(2)) lets go of it.
    pub fn add_process(&mut self, source: Source, pidfd: impl AsFd) -> Result<()> {
        self.watch(source, pidfd, EventFlags::IN | EventFlags::ET)
    }

    /// Watches the write end of a pipe for the end of its reader, pipe(7).
    pub fn add_writer(&mut self, source: Source, fd: impl AsFd) -> Result<()> {
        // EPOLLERR is told without being asked for.
        self.watch(source, fd, EventFlags::empty())
    }

    /// Watches a file of cgroupfs, which tells of each change once it was read.
    pub fn add_file(&mut self, source: Source, file: impl AsFd) -> Result<()> {
        self.watch(source, file, EventFlags::PRI | EventFlags::ET)
    }

    fn watch(&mut self, source: Source, fd: impl AsFd, flags: EventFlags) -> Result<()> {
        let number = self.next;
        epoll::add(&self.epoll, fd.as_fd(), EventData::new_u64(number), flags)
            .map_err(|errno| Error::new(format!("epoll_ctl(EPOLL_CTL_ADD, {source:?})"), errno))?;
        self.next += 1;
        self.names.insert(number, source.clone());
        self.numbers.insert(source, number);
        Ok(())
    }

    /// Stops watching. To be called before the descriptor is closed: another
    /// process may hold a copy that would keep it in the set.
    pub fn remove(&mut self, source: &Source, fd: impl AsFd) {
        if let Some(number) = self.numbers.remove(source) {
            self.names.remove(&number);
            // A descriptor that is gone already needs no removal.
            let _ = epoll::delete(&self.epoll, fd.as_fd());
        }
    }

    /// Whether something is watched.
    pub fn watches(&self, source: &Source) -> bool {
        self.numbers.contains_key(source)
    }

    /// Waits until something is ready or the time is up.
    pub fn wait(&mut self, timeout: Option<Duration>) -> Vec<Source> {
        let mut events = Vec::with_capacity(32);
        let timeout = timeout.map(|timeout| Timespec {
            tv_sec: timeout.as_secs().cast_signed(),
            tv_nsec: timeout.subsec_nanos().into(),
        });
        // EINTR and the like are the same as nothing ready.
        let _ = epoll::wait(
            &self.epoll,
            rustix::buffer::spare_capacity(&mut events),
            timeout.as_ref(),
        );
        events
            .iter()
            .filter_map(|event| self.names.get(&event.data.u64()).cloned())
            .collect()
    }
}

/// Whether a descriptor has input, or was closed at the other end, right now.
pub fn has_input(fd: impl AsFd) -> bool {
    use rustix::event::{PollFd, PollFlags, poll};
    let fd = fd.as_fd();
    let mut watched = [PollFd::from_borrowed_fd(fd, PollFlags::IN)];
    let now = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    poll(&mut watched, Some(&now)).is_ok_and(|ready| ready > 0)
}
