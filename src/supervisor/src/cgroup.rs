//! A container's cgroup, as directory descriptors: one per hierarchy.
//!
//! The daemon made the cgroup and wrote its values; here processes enter it
//! and are killed in it.

use insula_sys::{Error, Result, fork};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

/// Directories of one cgroup.
#[derive(Debug)]
pub struct Cgroup {
    directories: Vec<OwnedFd>,
    /// The version 2 directory among them, the only one with `cgroup.kill`.
    unified: Option<usize>,
    /// The version 1 directory with `freezer.state`.
    freezer: Option<usize>,
    /// The directory with the count of OOM kills, and the file's name.
    memory: Option<(usize, &'static str)>,
}

/// A group of processes within a container's cgroup that can be killed apart,
/// without taking anything from the container's own accounting: a directory of
/// the version 2 hierarchy without controllers, or of the freezer's.
#[derive(Debug)]
pub struct Subgroup {
    directory: OwnedFd,
    slot: usize,
}

/// Rounds of kill before giving up on processes that will not die.
const KILL_ROUNDS: usize = 50;

// === impl Cgroup ===

impl Cgroup {
    /// Takes the directories the daemon opened.
    pub fn new(directories: Vec<OwnedFd>) -> Self {
        let find = |file: &str| {
            directories
                .iter()
                .position(|directory| has(directory.as_fd(), file))
        };
        let memory = find("memory.events")
            .map(|index| (index, "memory.events"))
            .or_else(|| find("memory.oom_control").map(|index| (index, "memory.oom_control")));
        Self {
            unified: find("cgroup.kill"),
            freezer: find("freezer.state"),
            memory,
            directories,
        }
    }

    /// All directories.
    pub fn directories(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.directories.iter().map(AsFd::as_fd)
    }

    /// How often the kernel killed a process here for want of memory.
    pub fn oom_kills(&self) -> u64 {
        self.memory
            .and_then(|(index, file)| read(self.directories[index].as_fd(), file).ok())
            .and_then(|text| {
                text.lines()
                    .find_map(|line| line.strip_prefix("oom_kill "))
                    .and_then(|count| count.trim().parse().ok())
            })
            .unwrap_or(0)
    }

    /// Kills every process in the cgroup and below it.
    pub fn kill(&self) -> Result<()> {
        if let Some(unified) = self.unified {
            return write(self.directories[unified].as_fd(), "cgroup.kill", "1");
        }
        let Some(freezer) = self.freezer else {
            return Ok(());
        };
        kill_frozen(self.directories[freezer].as_fd())
    }

    /// A group for one exec: an empty one of before, or a new one.
    pub fn subgroup(&self, is_taken: impl Fn(usize) -> bool) -> Result<Option<Subgroup>> {
        let Some(parent) = self.unified.or(self.freezer) else {
            return Ok(None);
        };
        let parent = self.directories[parent].as_fd();
        for slot in (0..).filter(|slot| !is_taken(*slot)) {
            let name = subgroup_name(slot);
            match rustix::fs::mkdirat(parent, &name, Mode::from_raw_mode(0o755)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(errno) => return Err(Error::new(format!("mkdirat({name:?}, 0755)"), errno)),
            }
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let directory = rustix::fs::openat(parent, &name, flags, Mode::empty())
                .map_err(|errno| Error::new(format!("openat({name:?}, {flags:?})"), errno))?;
            // Children of an exec that ended may live on in its group.
            if read(directory.as_fd(), "cgroup.procs")?.is_empty() {
                return Ok(Some(Subgroup { directory, slot }));
            }
        }
        Ok(None)
    }

    /// Removes the groups of execs; those with processes stay.
    pub fn remove_subgroups(&self, highest: usize) {
        let Some(parent) = self.unified.or(self.freezer) else {
            return;
        };
        for slot in 0..highest {
            // What is left here goes with the container's whole cgroup.
            let _ = rustix::fs::unlinkat(
                &self.directories[parent],
                subgroup_name(slot),
                AtFlags::REMOVEDIR,
            );
        }
    }
}

// === impl Subgroup ===

impl Subgroup {
    /// Its directory.
    pub fn directory(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }

    /// Its number within the container.
    pub fn slot(&self) -> usize {
        self.slot
    }

    /// Kills every process in it.
    pub fn kill(&self) -> Result<()> {
        if has(self.directory(), "cgroup.kill") {
            write(self.directory(), "cgroup.kill", "1")
        } else {
            kill_frozen(self.directory())
        }
    }
}

/// Moves the calling process into a cgroup.
pub fn enter(directory: BorrowedFd<'_>) -> Result<()> {
    write(directory, "cgroup.procs", "0")
}

fn subgroup_name(slot: usize) -> String {
    format!("insula-exec-{slot}")
}

fn has(directory: BorrowedFd<'_>, file: &str) -> bool {
    rustix::fs::statat(directory, file, AtFlags::empty()).is_ok()
}

/// Version 1 has no atomic kill: while the group is frozen nothing can fork.
fn kill_frozen(directory: BorrowedFd<'_>) -> Result<()> {
    write(directory, "freezer.state", "FROZEN")?;
    let mut result = Ok(());
    for _ in 0..KILL_ROUNDS {
        let processes = read(directory, "cgroup.procs")?;
        if processes.is_empty() {
            break;
        }
        for pid in processes.lines().filter_map(|line| line.parse().ok()) {
            // One that ended meanwhile is what we want.
            if let Ok(pidfd) = fork::open_pid(pid) {
                result = fork::send_signal(pidfd.as_fd(), 9);
            }
        }
        write(directory, "freezer.state", "THAWED")?;
        std::thread::sleep(std::time::Duration::from_millis(2));
        write(directory, "freezer.state", "FROZEN")?;
    }
    write(directory, "freezer.state", "THAWED")?;
    result
}

fn read(directory: BorrowedFd<'_>, file: &str) -> Result<String> {
    let fd = rustix::fs::openat(
        directory,
        file,
        OFlags::RDONLY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .map_err(|errno| Error::new(format!("openat(cgroup, {file:?}, O_RDONLY)"), errno))?;
    let mut text = String::new();
    std::io::Read::read_to_string(&mut std::fs::File::from(fd), &mut text)
        .map_err(|error| Error::from_io(format!("read(cgroup, {file:?})"), &error))?;
    Ok(text)
}

fn write(directory: BorrowedFd<'_>, file: &str, value: &str) -> Result<()> {
    let fd = rustix::fs::openat(
        directory,
        file,
        OFlags::WRONLY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .map_err(|errno| Error::new(format!("openat(cgroup, {file:?}, O_WRONLY)"), errno))?;
    rustix::io::write(&fd, value.as_bytes())
        .map_err(|errno| Error::new(format!("write(cgroup, {file:?}, {value:?})"), errno))?;
    Ok(())
}
