//! What a container has written.

use std::collections::HashSet;
use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, Dir, FileType, Mode};
use rustix::io::Errno;

use crate::layer::remove::DIRECTORY;

/// Directories deeper than this are counted themselves, but not what is in them.
const MAX_DEPTH: usize = 1000;

/// Bytes and inodes of a container's writable layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RootfsUsage {
    /// Bytes on disk (blocks, so holes do not count); a file with several names counts once.
    pub bytes: u64,
    /// Files, directories and other nodes.
    pub inodes: u64,
}

/// Walks a directory that its tenant may be changing: by fds, following nothing.
pub(super) fn walk(root: OwnedFd) -> rustix::io::Result<RootfsUsage> {
    let mut usage = RootfsUsage::default();
    let mut linked = HashSet::new();
    add(&mut usage, &mut linked, &rustix::fs::fstat(&root)?);
    let mut stack = vec![Dir::new(root)?];
    while let Some(directory) = stack.last_mut() {
        let Some(entry) = directory.next() else {
            stack.pop();
            continue;
        };
        let entry = entry?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        let fd = directory.fd()?;
        let stat = match rustix::fs::statat(fd, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => continue,
            Err(error) => return Err(error),
        };
        add(&mut usage, &mut linked, &stat);
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory && stack.len() < MAX_DEPTH {
            let below = stack.last().map(Dir::fd).transpose()?;
            let Some(below) = below else { continue };
            match rustix::fs::openat(below, name, DIRECTORY, Mode::empty()) {
                Ok(opened) => stack.push(Dir::new(opened)?),
                // Gone, or another thing by now.
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(usage)
}

fn add(usage: &mut RootfsUsage, linked: &mut HashSet<u64>, stat: &rustix::fs::Stat) {
    let is_directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
    if !is_directory && stat.st_nlink > 1 && !linked.insert(stat.st_ino) {
        return;
    }
    usage.inodes += 1;
    usage.bytes += u64::try_from(stat.st_blocks).unwrap_or(0) * 512;
}
