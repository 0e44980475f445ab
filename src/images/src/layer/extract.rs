//! Entries into a directory, by directory fds only.
//!
//! Every name is resolved by the kernel with the layer's root as root (`RESOLVE_IN_ROOT`), so a
//! symbolic link in the layer may be a parent, as for other runtimes, but leads nowhere else. The
//! last part of a name is never followed.

use std::collections::HashMap;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::attributes::{apply_to_fd, apply_to_node, times};
use super::path::{EntryPath, Role};
use super::read::{Entry, Kind, Sparse};
use super::remove::{DIRECTORY, remove_tree};
use super::untar::Content;
use crate::error::{Error, Result};

pub(crate) const OPAQUE: &str = "trusted.overlay.opaque";
const IN_ROOT: ResolveFlags = ResolveFlags::IN_ROOT.union(ResolveFlags::NO_MAGICLINKS);
const PATH_DIRECTORY: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// What a layer takes on disk, and what it says about its root.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Accounting {
    /// Bytes: file contents in blocks of 4 KiB, and one block per directory.
    pub(crate) bytes: u64,
    /// Files, directories and other nodes.
    pub(crate) inodes: u64,
    /// Owner and mode of the root, if the layer has an entry for it.
    pub(crate) root: Option<RootAttributes>,
    /// The layer hides everything below it.
    pub(crate) root_opaque: bool,
    /// Directories that the layer has files in but no entry for. What a layer below says about
    /// them holds. At most [`MAX_IMPLICIT`], the shortest first; none that is not UTF-8.
    #[serde(default)]
    pub(crate) implicit: Vec<String>,
}

/// Directories without an entry that are remembered of one layer. What layers below know, too, is
/// near the root.
const MAX_IMPLICIT: usize = 1024;

/// Owner and mode of a root directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RootAttributes {
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

/// Writes one layer.
pub(super) struct Extractor {
    root: OwnedFd,
    /// The directory of the last entry. Given up whenever something is removed, so that it is
    /// never another one than its name means now (CVE-2025-47290).
    parent: Option<(Vec<u8>, OwnedFd)>,
    /// Directories' times, set at the end: entries within change them.
    directory_times: Vec<(EntryPath, Timestamps)>,
    /// Directories made without an entry, as they were named, by inode.
    implicit: HashMap<u64, Vec<u8>>,
    accounting: Accounting,
}

// === impl Extractor ===

impl Extractor {
    pub(super) fn new(root: OwnedFd) -> Self {
        Self {
            root,
            parent: None,
            directory_times: Vec::new(),
            implicit: HashMap::new(),
            accounting: Accounting::default(),
        }
    }

    /// Writes one entry.
    pub(super) fn entry(&mut self, entry: &Entry, content: &mut Content<'_, '_>) -> Result<()> {
        let failed = |error: Errno, what: &str| entry_error(error, &entry.path, what);
        match entry.path.role() {
            Role::Plain => {}
            Role::AufsPrivate => return Ok(()),
            Role::Malformed => {
                let reason = format!("entry {}: a malformed whiteout", entry.path);
                return Err(Error::corrupt(content.what(), reason));
            }
            Role::Opaque => {
                let what = content.what();
                return self
                    .opaque(&entry.path)
                    .map_err(|error| failed(error, what));
            }
            Role::Whiteout(hidden) => {
                let what = content.what();
                return self
                    .whiteout(&entry.path, hidden)
                    .map_err(|error| failed(error, what));
            }
        }
        if let Kind::File { size, sparse } = &entry.kind {
            return self.file(entry, *size, sparse.as_ref(), content);
        }
        self.node(entry)
            .map_err(|error| failed(error, content.what()))
    }

    /// Sets the directories' times and gives the sums.
    pub(super) fn finish(mut self) -> Result<Accounting> {
        self.accounting.implicit = self.implicit_paths();
        for (path, times) in &self.directory_times {
            let opened = if path.is_root() {
                rustix::fs::openat(&self.root, ".", DIRECTORY, Mode::empty())
            } else {
                rustix::fs::openat2(
                    &self.root,
                    path.as_bytes(),
                    DIRECTORY,
                    Mode::empty(),
                    ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS,
                )
            };
            match opened.and_then(|directory| rustix::fs::futimens(directory, times)) {
                // It may have been replaced, or reached through a link: its time is not worth more.
                Ok(()) | Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
                Err(error) => return Err(Error::io(format!("set the time of {path}"), error)),
            }
        }
        Ok(self.accounting)
    }

    /// Where the directories without an entry are now; a name may have led through a link.
    fn implicit_paths(&self) -> Vec<String> {
        let real = |fd: &OwnedFd| {
            std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd()))
                .ok()
                .and_then(|path| path.into_os_string().into_string().ok())
        };
        let Some(root) = real(&self.root) else {
            return Vec::new();
        };
        let found = self.implicit.iter().filter_map(|(inode, path)| {
            let directory = self.existing_directory(path).ok()?;
            if rustix::fs::fstat(&directory).ok()?.st_ino != *inode {
                return None;
            }
            let path = real(&directory)?;
            Some(path.strip_prefix(&root)?.strip_prefix('/')?.to_owned())
        });
        let mut paths: Vec<String> = found.collect();
        paths.sort_by(|one, other| one.len().cmp(&other.len()).then_with(|| one.cmp(other)));
        paths.truncate(MAX_IMPLICIT);
        paths
    }

    fn file(
        &mut self,
        entry: &Entry,
        size: u64,
        sparse: Option<&Sparse>,
        content: &mut Content<'_, '_>,
    ) -> Result<()> {
        let file = self
            .create(&entry.path)
            .map_err(|error| entry_error(error, &entry.path, content.what()))?;
        let write = |error: Errno| Error::io(format!("write {} of a layer", entry.path), error);
        match sparse {
            None => copy(content, size, &file, write)?,
            Some(sparse) => {
                rustix::fs::ftruncate(&file, sparse.size).map_err(write)?;
                for region in &sparse.regions {
                    rustix::fs::seek(&file, rustix::fs::SeekFrom::Start(region.offset))
                        .map_err(write)?;
                    copy(content, region.length, &file, write)?;
                }
            }
        }
        self.count(size);
        apply_to_fd(&file, entry)
            .and_then(|()| rustix::fs::futimens(&file, &times(entry)))
            .map_err(|error| entry_error(error, &entry.path, content.what()))
    }

    fn create(&mut self, path: &EntryPath) -> rustix::io::Result<OwnedFd> {
        let (directory, name) = path.split();
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(0o600);
        match rustix::fs::openat(self.directory(directory)?, name, flags, mode) {
            Err(Errno::EXIST) => {
                self.clear(directory, name)?;
                rustix::fs::openat(self.directory(directory)?, name, flags, mode)
            }
            other => other,
        }
    }

    fn node(&mut self, entry: &Entry) -> rustix::io::Result<()> {
        let (directory, name) = entry.path.split();
        if matches!(entry.kind, Kind::Directory) {
            return self.directory_entry(entry);
        }
        match self.make_node(entry) {
            Err(Errno::EXIST) => {
                if let Kind::HardLink(target) = &entry.kind
                    && self.same_file(target, directory, name)?
                {
                    return Ok(());
                }
                self.clear(directory, name)?;
                self.make_node(entry)?;
            }
            other => other?,
        }
        // A hard link's attributes are those of its target.
        if !matches!(entry.kind, Kind::HardLink(_)) {
            let is_symlink = matches!(entry.kind, Kind::Symlink(_));
            apply_to_node(self.directory(directory)?, name, entry, is_symlink)?;
            self.count(0);
        }
        Ok(())
    }

    fn make_node(&mut self, entry: &Entry) -> rustix::io::Result<()> {
        let (directory, name) = entry.path.split();
        let none = Mode::empty();
        if let Kind::HardLink(target) = &entry.kind {
            let (target_directory, target_name) = target.split();
            let from = self.existing_directory(target_directory)?;
            let into = self.directory(directory)?;
            // Without AT_SYMLINK_FOLLOW: a link to a symbolic link is one to the link itself.
            return rustix::fs::linkat(from, target_name, into, name, AtFlags::empty());
        }
        let into = self.directory(directory)?;
        match &entry.kind {
            Kind::Symlink(target) => rustix::fs::symlinkat(target.as_slice(), into, name),
            Kind::CharacterDevice(major, minor) => {
                let device = rustix::fs::makedev(*major, *minor);
                rustix::fs::mknodat(into, name, FileType::CharacterDevice, none, device)
            }
            Kind::BlockDevice(major, minor) => {
                let device = rustix::fs::makedev(*major, *minor);
                rustix::fs::mknodat(into, name, FileType::BlockDevice, none, device)
            }
            Kind::Fifo => rustix::fs::mknodat(into, name, FileType::Fifo, none, 0),
            Kind::Directory | Kind::File { .. } | Kind::HardLink(_) => Err(Errno::INVAL),
        }
    }

    fn directory_entry(&mut self, entry: &Entry) -> rustix::io::Result<()> {
        let (parent, name) = entry.path.split();
        let opened = if entry.path.is_root() {
            let RootAttributes { .. } = *self.accounting.root.insert(RootAttributes {
                mode: entry.mode,
                uid: entry.uid,
                gid: entry.gid,
            });
            rustix::fs::openat(&self.root, ".", DIRECTORY, Mode::empty())?
        } else {
            self.make_directory(parent, name)?
        };
        apply_to_fd(&opened, entry)?;
        if !self.implicit.is_empty() {
            self.implicit.remove(&rustix::fs::fstat(&opened)?.st_ino);
        }
        self.directory_times
            .push((entry.path.clone(), times(entry)));
        // What follows is most likely in it.
        self.parent = Some((entry.path.as_bytes().to_vec(), opened));
        Ok(())
    }

    /// A directory `name` in `parent`: one that is there, or a new one in place of what is there.
    fn make_directory(&mut self, parent: &[u8], name: &[u8]) -> rustix::io::Result<OwnedFd> {
        let into = self.directory(parent)?;
        match rustix::fs::mkdirat(into, name, Mode::from_raw_mode(0o700)) {
            Ok(()) => self.count_directory(),
            Err(Errno::EXIST) => {
                let found = rustix::fs::statat(into, name, AtFlags::SYMLINK_NOFOLLOW)?;
                if FileType::from_raw_mode(found.st_mode) != FileType::Directory {
                    self.clear(parent, name)?;
                    let into = self.directory(parent)?;
                    rustix::fs::mkdirat(into, name, Mode::from_raw_mode(0o700))?;
                    if is_whiteout(&found) {
                        let opened = rustix::fs::openat(into, name, DIRECTORY, Mode::empty())?;
                        set_opaque(&opened)?;
                    }
                    self.count_directory();
                }
            }
            Err(error) => return Err(error),
        }
        rustix::fs::openat(self.directory(parent)?, name, DIRECTORY, Mode::empty())
    }

    fn opaque(&mut self, path: &EntryPath) -> rustix::io::Result<()> {
        let (directory, _) = path.split();
        if directory.is_empty() {
            // Overlayfs does not look at a layer's root: what is below is left out when mounting.
            self.accounting.root_opaque = true;
            return Ok(());
        }
        let opened = rustix::fs::openat(self.directory(directory)?, ".", DIRECTORY, Mode::empty())?;
        set_opaque(&opened)
    }

    /// Hides `hidden` of the layers below; what this layer itself has of that name stays.
    fn whiteout(&mut self, path: &EntryPath, hidden: &[u8]) -> rustix::io::Result<()> {
        let (directory, _) = path.split();
        let into = self.directory(directory)?;
        match rustix::fs::mknodat(into, hidden, FileType::CharacterDevice, Mode::empty(), 0) {
            Ok(()) => {
                self.count(0);
                Ok(())
            }
            Err(Errno::EXIST) => match rustix::fs::openat(into, hidden, DIRECTORY, Mode::empty()) {
                Ok(opened) => set_opaque(&opened),
                Err(Errno::NOTDIR | Errno::LOOP) => Ok(()),
                Err(error) => Err(error),
            },
            Err(error) => Err(error),
        }
    }

    fn same_file(
        &mut self,
        target: &EntryPath,
        directory: &[u8],
        name: &[u8],
    ) -> rustix::io::Result<bool> {
        let (target_directory, target_name) = target.split();
        let from = self.existing_directory(target_directory)?;
        let a = rustix::fs::statat(from, target_name, AtFlags::SYMLINK_NOFOLLOW)?;
        let b = rustix::fs::statat(self.directory(directory)?, name, AtFlags::SYMLINK_NOFOLLOW)?;
        Ok((a.st_dev, a.st_ino) == (b.st_dev, b.st_ino))
    }

    /// Removes what an entry replaces.
    fn clear(&mut self, directory: &[u8], name: &[u8]) -> rustix::io::Result<()> {
        remove_tree(self.directory(directory)?, name)?;
        self.parent = None;
        Ok(())
    }

    fn existing_directory(&self, path: &[u8]) -> rustix::io::Result<OwnedFd> {
        let path = if path.is_empty() { b"." } else { path };
        rustix::fs::openat2(&self.root, path, PATH_DIRECTORY, Mode::empty(), IN_ROOT)
    }

    /// The directory of that name, made with its parents if there is none.
    fn directory(&mut self, path: &[u8]) -> rustix::io::Result<BorrowedFd<'_>> {
        if path.is_empty() {
            return Ok(self.root.as_fd());
        }
        if self
            .parent
            .as_ref()
            .is_none_or(|(cached, _)| cached != path)
        {
            let opened = match self.existing_directory(path) {
                Err(Errno::NOENT | Errno::NOTDIR) => self.make_parents(path)?,
                other => other?,
            };
            self.parent = Some((path.to_vec(), opened));
        }
        self.parent
            .as_ref()
            .map(|(_, fd)| fd.as_fd())
            .ok_or(Errno::NOENT)
    }

    /// Walks down part by part and makes what is missing: owned by root, mode 0755.
    fn make_parents(&mut self, path: &[u8]) -> rustix::io::Result<OwnedFd> {
        let mut at = rustix::fs::openat(&self.root, ".", PATH_DIRECTORY, Mode::empty())?;
        let mut end = 0;
        for part in path.split(|byte| *byte == b'/') {
            end += part.len();
            let flags = PATH_DIRECTORY | OFlags::NOFOLLOW;
            at = match rustix::fs::openat(&at, part, flags, Mode::empty()) {
                Ok(next) => next,
                Err(Errno::NOENT) => self.implicit_directory(&at, &path[..end], false)?,
                Err(Errno::NOTDIR | Errno::LOOP) => {
                    let found = rustix::fs::statat(&at, part, AtFlags::SYMLINK_NOFOLLOW)?;
                    if is_whiteout(&found) {
                        rustix::fs::unlinkat(&at, part, AtFlags::empty())?;
                        self.implicit_directory(&at, &path[..end], true)?
                    } else {
                        self.existing_directory(&path[..end])?
                    }
                }
                Err(error) => return Err(error),
            };
            end += 1;
        }
        Ok(at)
    }

    /// Makes the last part of `path` in `parent`.
    fn implicit_directory(
        &mut self,
        parent: &OwnedFd,
        path: &[u8],
        opaque: bool,
    ) -> rustix::io::Result<OwnedFd> {
        let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or(path);
        rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(0o755))?;
        let opened = rustix::fs::openat(parent, name, DIRECTORY, Mode::empty())?;
        rustix::fs::fchown(&opened, Some(Uid::ROOT), Some(Gid::ROOT))?;
        rustix::fs::fchmod(&opened, Mode::from_raw_mode(0o755))?;
        if opaque {
            set_opaque(&opened)?;
        }
        self.implicit
            .insert(rustix::fs::fstat(&opened)?.st_ino, path.to_vec());
        self.count_directory();
        Ok(opened)
    }

    fn count(&mut self, size: u64) {
        self.accounting.inodes += 1;
        self.accounting.bytes += size.next_multiple_of(4096);
    }

    fn count_directory(&mut self) {
        self.count(4096);
    }
}

fn copy(
    content: &mut Content<'_, '_>,
    size: u64,
    file: &OwnedFd,
    failed: impl Fn(Errno) -> Error,
) -> Result<()> {
    let mut left = size;
    while left > 0 {
        let piece = content.next(left)?;
        if piece.is_empty() {
            break;
        }
        left -= piece.len() as u64;
        let mut rest = piece;
        while !rest.is_empty() {
            match rustix::io::write(file, rest) {
                Ok(written) => rest = &rest[written..],
                Err(Errno::INTR) => {}
                Err(error) => return Err(failed(error)),
            }
        }
    }
    Ok(())
}

fn set_opaque(directory: &OwnedFd) -> rustix::io::Result<()> {
    rustix::fs::fsetxattr(directory, OPAQUE, b"y", XattrFlags::empty())
}

/// Overlayfs's mark for a hidden name: a character device 0:0.
fn is_whiteout(found: &rustix::fs::Stat) -> bool {
    FileType::from_raw_mode(found.st_mode) == FileType::CharacterDevice && found.st_rdev == 0
}

/// What the archive can cause is corruption; what the disk can, an input/output error.
fn entry_error(error: Errno, path: &EntryPath, what: &str) -> Error {
    let reason = match error {
        Errno::NOENT => "a link to something that is not in this layer",
        Errno::NOTDIR => "its parent is no directory",
        Errno::LOOP => "its parent is a loop of symbolic links",
        Errno::NAMETOOLONG => "its name or target is too long",
        Errno::MLINK => "more hard links than the file system holds",
        _ => return Error::io(format!("unpack {path} of {what}"), error),
    };
    Error::corrupt(what, format!("entry {path}: {reason}"))
}

#[cfg(test)]
mod tests;
