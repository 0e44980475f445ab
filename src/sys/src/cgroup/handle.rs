//! One cgroup in every hierarchy.

use super::{CgroupPath, Hierarchy, Layout, Version};
use crate::{Error, Result};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{CWD, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The most that is read of one file. `memory.stat`, the longest that is of
/// interest, has some 4 KiB; `cgroup.procs` of a container with a hundred
/// thousand processes 700 KiB.
const MAX_FILE: usize = 4 << 20;

/// Controllers that are switched on for children in version 2. Without one of
/// them the files of that controller do not exist below.
const WANTED: &[&str] = &["cpu", "cpuset", "io", "memory", "pids", "hugetlb"];

/// One cgroup: the same relative path in every hierarchy, each held as an open
/// directory.
#[derive(Debug)]
pub struct Cgroup {
    pub(super) members: Vec<Member>,
}

/// The cgroup's directory in one hierarchy.
#[derive(Debug)]
pub(super) struct Member {
    /// Whether it is of version 1 or 2.
    pub(super) version: Version,
    /// Controllers of the hierarchy.
    pub(super) controllers: Vec<String>,
    /// For error messages and for rmdir(2) only.
    pub(super) path: PathBuf,
    /// The directory.
    pub(super) directory: OwnedFd,
}

// === impl Cgroup ===

impl Cgroup {
    /// Makes the cgroup in every hierarchy, with the ones around it. What
    /// exists already is taken as it is.
    ///
    /// In version 2, controllers are switched on in the groups around it as
    /// far as the kernel lets us; a value that then cannot be written fails
    /// with `ENOENT` when it is written. In version 1, an empty cpuset is
    /// filled from the group around it, since nothing can run in an empty one.
    pub fn create(layout: &Layout, path: &CgroupPath) -> Result<Self> {
        let members = layout
            .hierarchies()
            .iter()
            .map(|hierarchy| Member::create(hierarchy, path))
            .collect::<Result<_>>()?;
        Ok(Self { members })
    }

    /// Opens the cgroup in every hierarchy that has it. `ENOENT` where none
    /// has.
    pub fn open(layout: &Layout, path: &CgroupPath) -> Result<Self> {
        let mut members = Vec::new();
        for hierarchy in layout.hierarchies() {
            match Member::open(hierarchy, &hierarchy.mount_point.join(path.as_str())) {
                Ok(member) => members.push(member),
                Err(error) if error.errno() == Errno::NOENT => {}
                Err(error) => return Err(error),
            }
        }
        if members.is_empty() {
            return Err(Error::new(format!("open(cgroup {path:?})"), Errno::NOENT));
        }
        Ok(Self { members })
    }

    /// Makes a group inside this one whose only purpose is to be killed as a
    /// whole, such as that of an exec. It is in one hierarchy, the unified or
    /// else version 1's freezer, and gets no controllers there, so that what
    /// its processes use is accounted to this cgroup as before.
    ///
    /// `ENODEV` where there is neither hierarchy.
    pub fn create_kill_group(&self, name: &str) -> Result<Self> {
        let parent = self
            .members
            .iter()
            .find(|member| member.version == Version::V2)
            .map_or_else(|| self.member("freezer"), Ok)?;
        let failed = |errno| {
            let path = parent.path.join(name);
            Error::new(format!("mkdir({:?}, 0755)", path.display()), errno)
        };
        if name.is_empty() || name.contains('/') || name == "." || name == ".." {
            return Err(failed(Errno::INVAL));
        }
        match rustix::fs::mkdirat(&parent.directory, name, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(failed(errno)),
        }
        let member = parent.child(name)?.ok_or_else(|| failed(Errno::NOENT))?;
        Ok(Self {
            members: vec![member],
        })
    }

    /// Takes over directories that another process opened, as
    /// [`Cgroup::descriptors`] gave them. Which hierarchy each is of is read
    /// from the file system itself: its type, and which files are there.
    pub fn from_descriptors(descriptors: Vec<OwnedFd>) -> Result<Self> {
        let members = descriptors
            .into_iter()
            .map(Member::from_descriptor)
            .collect::<Result<_>>()?;
        Ok(Self { members })
    }

    /// The directories, for another process: one with version 2, else that of
    /// every hierarchy, with the named and the unified one.
    pub fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        self.members
            .iter()
            .map(|member| member.directory.as_fd())
            .collect()
    }

    /// The directory in the unified hierarchy, which `CLONE_INTO_CGROUP`,
    /// `cgroup.kill` and BPF programs need.
    pub fn unified(&self) -> Option<BorrowedFd<'_>> {
        self.members
            .iter()
            .find(|member| member.version == Version::V2)
            .map(|member| member.directory.as_fd())
    }

    /// [`Version::V2`] where the cgroup is in the unified hierarchy alone.
    pub fn version(&self) -> Version {
        if self
            .members
            .iter()
            .all(|member| member.version == Version::V2)
        {
            Version::V2
        } else {
            Version::V1
        }
    }

    /// The version of the hierarchy that a controller is bound to, or `None`
    /// where this cgroup has no such controller.
    pub fn controller(&self, controller: &str) -> Option<Version> {
        self.member(controller).ok().map(|member| member.version)
    }

    /// Whether a controller has a file of this name here.
    pub fn has_file(&self, controller: &str, file: &str) -> bool {
        self.member(controller).is_ok_and(|member| {
            rustix::fs::accessat(
                &member.directory,
                file,
                rustix::fs::Access::EXISTS,
                rustix::fs::AtFlags::empty(),
            )
            .is_ok()
        })
    }

    /// Writes a value into a controller's file, in one write(2).
    pub fn write(&self, controller: &str, file: &str, value: &str) -> Result<()> {
        self.member(controller)?.write(file, value)
    }

    /// Reads a controller's file.
    pub fn read(&self, controller: &str, file: &str) -> Result<String> {
        self.member(controller)?.read(file)
    }

    /// Reads a file of the unified hierarchy, such as `cpu.pressure`, which no
    /// version 1 hierarchy has. `ENODEV` where this cgroup is not in it.
    pub fn read_unified(&self, file: &str) -> Result<String> {
        let member = self
            .members
            .iter()
            .find(|member| member.version == Version::V2);
        member
            .ok_or_else(|| {
                Error::new(
                    format!("find the unified hierarchy for {file:?}"),
                    Errno::NODEV,
                )
            })?
            .read(file)
    }

    /// Reads a controller's file that holds one number; `max` is `u64::MAX`.
    pub fn read_number(&self, controller: &str, file: &str) -> Result<u64> {
        let member = self.member(controller)?;
        let text = member.read(file)?;
        match text.trim() {
            "max" => Ok(u64::MAX),
            number => number.parse().map_err(|_| {
                Error::new(
                    format!("parse({:?}, {text:?})", member.path.join(file).display()),
                    Errno::INVAL,
                )
            }),
        }
    }

    /// Puts a process with all its threads into the cgroup, in every
    /// hierarchy.
    ///
    /// A process that has ended meanwhile (`ESRCH`) is no error: it needs no
    /// cgroup, and its parent learns of its end anyway.
    pub fn place(&self, pid: i32) -> Result<()> {
        for member in &self.members {
            member.place(pid)?;
        }
        Ok(())
    }

    /// Puts the calling process, which must have one thread, into the cgroup in
    /// its version 1 hierarchies; `CLONE_INTO_CGROUP` is for version 2.
    ///
    /// Writing 0 to `tasks` moves the one thread at once. Writing to
    /// `cgroup.procs` takes a lock of the whole system that, after a quiet
    /// moment, waits for a grace period: 5 to 20 ms.
    pub fn enter_legacy(&self) -> Result<()> {
        self.members
            .iter()
            .filter(|member| member.version == Version::V1)
            .try_for_each(|member| member.write("tasks", "0"))
    }

    /// Processes in this cgroup (not in ones below it), from every hierarchy,
    /// ascending, each once. Processes of an outer PID namespace are left out.
    pub fn procs(&self) -> Result<Vec<i32>> {
        let mut pids = Vec::new();
        for member in &self.members {
            pids.extend(member.procs()?);
        }
        pids.sort_unstable();
        pids.dedup();
        Ok(pids)
    }

    /// Whether its directory was removed: then nothing can be read or written
    /// in it any more, also when another of that name was made.
    pub fn is_gone(&self) -> bool {
        self.members.first().is_none_or(|member| {
            rustix::fs::accessat(
                &member.directory,
                "cgroup.procs",
                rustix::fs::Access::EXISTS,
                rustix::fs::AtFlags::empty(),
            )
            .is_err()
        })
    }

    /// Processes in this cgroup and in all below it, ascending, each once; at
    /// most `limit`, else `EFBIG`. Read from one hierarchy, in which every
    /// process of the cgroup is.
    pub fn processes_below(&self, limit: usize) -> Result<Vec<i32>> {
        let member = self.member("pids").or_else(|_| self.member("memory"))?;
        let mut pids = Vec::new();
        member.add_processes_below(limit, &mut pids)?;
        pids.sort_unstable();
        pids.dedup();
        Ok(pids)
    }

    /// Whether no process is in this cgroup or below it, in any hierarchy.
    pub fn is_empty(&self) -> Result<bool> {
        for member in &self.members {
            if !member.is_empty()? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Names of the cgroups directly below, from every hierarchy, sorted, each
    /// once. For reconciling what is there with what is known.
    pub fn children(&self) -> Result<Vec<String>> {
        let mut names = Vec::new();
        for member in &self.members {
            names.extend(member.children()?);
        }
        names.sort_unstable();
        names.dedup();
        Ok(names)
    }

    /// How many processes the kernel has killed here for want of memory, since
    /// the cgroup was made: `oom_kill` of `memory.events` (with what is below)
    /// or of version 1's `memory.oom_control` (this cgroup alone).
    pub fn oom_kills(&self) -> Result<u64> {
        let member = self.member("memory")?;
        let file = match member.version {
            Version::V1 => "memory.oom_control",
            Version::V2 => "memory.events",
        };
        let text = member.read(file)?;
        Ok(flat_keyed(&text, "oom_kill").unwrap_or(0))
    }

    /// `memory.events` of version 2, open, which becomes readable out of turn
    /// (`POLLPRI`) when it changes after it was read; `None` in version 1.
    pub fn memory_events(&self) -> Result<Option<OwnedFd>> {
        let member = self.member("memory")?;
        if member.version == Version::V1 {
            return Ok(None);
        }
        let file = "memory.events";
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        rustix::fs::openat(&member.directory, file, flags, Mode::empty())
            .map(Some)
            .map_err(|errno| {
                let path = member.path.join(file);
                Error::new(format!("open({:?}, O_RDONLY)", path.display()), errno)
            })
    }

    /// The hierarchy's directory that has a controller. Version 1 hierarchies
    /// come before the unified one, which may hold the rest on hybrid hosts.
    fn member(&self, controller: &str) -> Result<&Member> {
        self.members
            .iter()
            .find(|member| member.controllers.iter().any(|name| name == controller))
            .ok_or_else(|| {
                let place = self
                    .members
                    .first()
                    .map_or_else(PathBuf::new, |member| member.path.clone());
                Error::new(
                    format!(
                        "find cgroup controller {controller:?} for {:?}",
                        place.display()
                    ),
                    Errno::NODEV,
                )
            })
    }
}

/// The number after a key in a file of `key value` lines.
pub(super) fn flat_keyed(text: &str, key: &str) -> Option<u64> {
    text.lines()
        .filter_map(|line| line.split_once(' '))
        .find(|(name, _)| *name == key)
        .and_then(|(_, value)| value.trim().parse().ok())
}

// === impl Member ===

impl Member {
    fn create(hierarchy: &Hierarchy, path: &CgroupPath) -> Result<Self> {
        let mut here = Self::open(hierarchy, &hierarchy.mount_point)?;
        for name in path.names() {
            if here.version == Version::V2 {
                here.enable_controllers();
            }
            let below = here.path.join(name);
            match rustix::fs::mkdirat(&here.directory, name, Mode::from_raw_mode(0o755)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(errno) => {
                    let call = format!("mkdir({:?}, 0755)", below.display());
                    return Err(Error::new(call, errno));
                }
            }
            let directory = open_directory(here.directory.as_fd(), Path::new(name), &below)?;
            let child = Self {
                directory,
                path: below,
                version: here.version,
                controllers: std::mem::take(&mut here.controllers),
            };
            if child.version == Version::V1 && child.controllers.iter().any(|c| c == "cpuset") {
                child.inherit_cpuset(&here)?;
            }
            here = child;
        }
        Ok(here)
    }

    fn open(hierarchy: &Hierarchy, path: &Path) -> Result<Self> {
        Ok(Self {
            version: hierarchy.version,
            controllers: hierarchy.controllers.clone(),
            directory: open_directory(CWD, path, path)?,
            path: path.to_owned(),
        })
    }

    fn from_descriptor(directory: OwnedFd) -> Result<Self> {
        let fd = std::os::fd::AsRawFd::as_raw_fd(&directory);
        let path = std::fs::read_link(format!("/proc/self/fd/{fd}"))
            .unwrap_or_else(|_| PathBuf::from(format!("fd:{fd}")));
        let statfs = rustix::fs::fstatfs(&directory)
            .map_err(|errno| Error::new(format!("fstatfs({fd} = {:?})", path.display()), errno))?;
        let mut member = Self {
            version: Version::V1,
            controllers: Vec::new(),
            path,
            directory,
        };
        if statfs.f_type == rustix::fs::FsWord::from(CGROUP2_SUPER_MAGIC) {
            member.version = Version::V2;
            let text = member.read("cgroup.controllers")?;
            member.controllers = text.split_whitespace().map(str::to_owned).collect();
        } else {
            member.controllers = member.controllers_by_files()?;
        }
        Ok(member)
    }

    /// The controllers of a version 1 directory, from the first part of the
    /// names of the files in it.
    fn controllers_by_files(&self) -> Result<Vec<String>> {
        let mut names: Vec<String> = self
            .entries()?
            .into_iter()
            .filter_map(|(name, _)| name.split_once('.').map(|(first, _)| first.to_owned()))
            .filter(|name| name != "cgroup")
            .collect();
        names.sort_unstable();
        names.dedup();
        Ok(names)
    }

    /// Switches controllers on for the groups below, one by one: a write of
    /// several fails as a whole. A group with processes of its own refuses
    /// (`EBUSY`), as does a controller that is not available; the value that
    /// needs it then says so.
    fn enable_controllers(&self) {
        let (Ok(available), Ok(enabled)) = (
            self.read("cgroup.controllers"),
            self.read("cgroup.subtree_control"),
        ) else {
            return;
        };
        for &name in WANTED {
            let lists = |text: &str| text.split_whitespace().any(|word| word == name);
            if lists(&available) && !lists(&enabled) {
                let _unavailable = self.write("cgroup.subtree_control", &format!("+{name}"));
            }
        }
    }

    fn inherit_cpuset(&self, parent: &Self) -> Result<()> {
        for file in ["cpuset.cpus", "cpuset.mems"] {
            if self.read(file)?.trim().is_empty() {
                self.write(file, parent.read(file)?.trim())?;
            }
        }
        Ok(())
    }

    pub(super) fn write(&self, file: &str, value: &str) -> Result<()> {
        let failed = |errno| {
            let path = self.path.join(file);
            Error::new(format!("write({:?}, {value:?})", path.display()), errno)
        };
        let flags = OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let fd = rustix::fs::openat(&self.directory, file, flags, Mode::empty()).map_err(failed)?;
        let written = rustix::io::write(&fd, value.as_bytes()).map_err(failed)?;
        if written != value.len() {
            return Err(failed(Errno::IO));
        }
        Ok(())
    }

    pub(super) fn read(&self, file: &str) -> Result<String> {
        let failed = |errno| {
            let path = self.path.join(file);
            Error::new(format!("read({:?})", path.display()), errno)
        };
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let fd = rustix::fs::openat(&self.directory, file, flags, Mode::empty()).map_err(failed)?;
        let mut text = Vec::new();
        let mut chunk = [0; 8192];
        loop {
            match rustix::io::read(&fd, &mut chunk) {
                Ok(0) => break,
                Ok(length) => text.extend_from_slice(&chunk[..length]),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(failed(errno)),
            }
            if text.len() > MAX_FILE {
                return Err(failed(Errno::FBIG));
            }
        }
        String::from_utf8(text).map_err(|_| failed(Errno::ILSEQ))
    }

    /// `EINVAL` may mean that the kernel has not finished making the process
    /// (its state is `TASK_NEW`); that passes within milliseconds.
    fn place(&self, pid: i32) -> Result<()> {
        let mut attempts = 5;
        loop {
            match self.write("cgroup.procs", &pid.to_string()) {
                Err(error) if error.errno() == Errno::SRCH => return Ok(()),
                Err(error) if error.errno() == Errno::INVAL && attempts > 0 => {
                    attempts -= 1;
                    std::thread::sleep(Duration::from_millis(10));
                }
                result => return result,
            }
        }
    }

    /// A process that an outer PID namespace owns is listed as 0, which means
    /// "my own process group" to kill(2): it is left out here, once, for all.
    /// A group that is gone has none.
    pub(super) fn procs(&self) -> Result<Vec<i32>> {
        match self.read("cgroup.procs") {
            Ok(text) => Ok(text
                .split_whitespace()
                .filter_map(|word| word.parse().ok())
                .filter(|pid| *pid > 0)
                .collect()),
            Err(error) if is_gone(&error) => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    fn add_processes_below(&self, limit: usize, pids: &mut Vec<i32>) -> Result<()> {
        pids.extend(self.procs()?);
        if pids.len() > limit {
            let call = format!("count the processes below {:?}", self.path.display());
            return Err(Error::new(call, Errno::FBIG));
        }
        for name in self.children()? {
            if let Some(child) = self.child(&name)? {
                child.add_processes_below(limit, pids)?;
            }
        }
        Ok(())
    }

    pub(super) fn is_empty(&self) -> Result<bool> {
        if self.version == Version::V2 {
            match self.read("cgroup.events") {
                Ok(text) => return Ok(flat_keyed(&text, "populated") == Some(0)),
                Err(error) if is_gone(&error) => return Ok(true),
                Err(error) => return Err(error),
            }
        }
        if !self.procs()?.is_empty() {
            return Ok(false);
        }
        for name in self.children()? {
            if let Some(child) = self.child(&name)?
                && !child.is_empty()?
            {
                return Ok(false);
            }
        }
        Ok(true)
    }

    pub(super) fn children(&self) -> Result<Vec<String>> {
        Ok(self
            .entries()?
            .into_iter()
            .filter(|(_, kind)| *kind == FileType::Directory)
            .map(|(name, _)| name)
            .collect())
    }

    /// A group below; `None` where it is gone.
    pub(super) fn child(&self, name: &str) -> Result<Option<Self>> {
        let path = self.path.join(name);
        match open_directory(self.directory.as_fd(), Path::new(name), &path) {
            Ok(directory) => Ok(Some(Self {
                version: self.version,
                controllers: self.controllers.clone(),
                path,
                directory,
            })),
            Err(error) if is_gone(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn entries(&self) -> Result<Vec<(String, FileType)>> {
        let failed = |errno| Error::new(format!("getdents({:?})", self.path.display()), errno);
        let mut entries = Vec::new();
        let directory = match Dir::read_from(&self.directory) {
            Ok(directory) => directory,
            Err(Errno::NOENT) => return Ok(entries),
            Err(errno) => return Err(failed(errno)),
        };
        for entry in directory {
            let entry = match entry {
                Ok(entry) => entry,
                Err(Errno::NOENT) => break,
                Err(errno) => return Err(failed(errno)),
            };
            match entry.file_name().to_str() {
                Ok("." | "..") | Err(_) => {}
                Ok(name) => entries.push((name.to_owned(), entry.file_type())),
            }
        }
        Ok(entries)
    }
}

/// `CGROUP2_SUPER_MAGIC` of linux/magic.h.
const CGROUP2_SUPER_MAGIC: u32 = 0x6367_7270;

/// A cgroup that was removed answers `ENODEV` to whoever still holds it.
pub(super) fn is_gone(error: &Error) -> bool {
    matches!(error.errno(), Errno::NOENT | Errno::NODEV)
}

fn open_directory(base: BorrowedFd<'_>, path: &Path, shown: &Path) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    rustix::fs::openat(base, path, flags, Mode::empty()).map_err(|errno| {
        let call = format!(
            "open({:?}, O_RDONLY|O_DIRECTORY|O_NOFOLLOW)",
            shown.display()
        );
        Error::new(call, errno)
    })
}
