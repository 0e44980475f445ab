//! Removing trees that strangers filled.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawDir};
use rustix::io::{Errno, Result};

/// Flags to open a directory that must be one itself.
pub(crate) const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// Removes `name` in `parent`, whatever it is. A missing name is no error.
///
/// Sub-directories are first moved up beside the tree's root and emptied there one by one: the
/// depth costs neither stack nor fds, and every entry is touched once.
pub(crate) fn remove_tree(parent: impl AsFd, name: &[u8]) -> Result<()> {
    let parent = parent.as_fd();
    match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(error) => return Err(error),
    }
    let root = match rustix::fs::openat(parent, name, DIRECTORY, Mode::empty()) {
        Ok(root) => root,
        Err(Errno::NOENT) => return Ok(()),
        Err(error) => return Err(error),
    };
    empty_directory(&root)?;
    match rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR) {
        Err(Errno::NOENT) => Ok(()),
        other => other,
    }
}

/// Removes everything in `root`.
fn empty_directory(root: &OwnedFd) -> Result<()> {
    let mut flat = Flat {
        root,
        next: 0,
        pending: Vec::new(),
    };
    flat.scan(root.as_fd(), true)?;
    while let Some(name) = flat.pending.pop() {
        let directory = rustix::fs::openat(root, &name, DIRECTORY, Mode::empty())?;
        flat.scan(directory.as_fd(), false)?;
        rustix::fs::unlinkat(root, &name, AtFlags::REMOVEDIR)?;
    }
    Ok(())
}

struct Flat<'a> {
    root: &'a OwnedFd,
    next: u64,
    /// Directories directly below the root that are still to be emptied.
    pending: Vec<Vec<u8>>,
}

impl Flat<'_> {
    fn scan(&mut self, directory: BorrowedFd<'_>, is_root: bool) -> Result<()> {
        let mut buffer = Vec::with_capacity(32 * 1024);
        let mut found = RawDir::new(directory, buffer.spare_capacity_mut());
        while let Some(entry) = found.next() {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if name == b"." || name == b".." {
                continue;
            }
            let mut is_directory = entry.file_type() == FileType::Directory;
            if !is_directory {
                match rustix::fs::unlinkat(directory, name, AtFlags::empty()) {
                    Ok(()) | Err(Errno::NOENT) => continue,
                    Err(Errno::ISDIR) => is_directory = true,
                    Err(error) => return Err(error),
                }
            }
            if is_directory && is_root {
                self.pending.push(name.to_vec());
            } else if is_directory {
                let flat = self.move_up(directory, name)?;
                self.pending.push(flat);
            }
        }
        Ok(())
    }

    fn move_up(&mut self, directory: BorrowedFd<'_>, name: &[u8]) -> Result<Vec<u8>> {
        use rustix::fs::RenameFlags;
        loop {
            self.next += 1;
            let flat = format!(".removed-{}", self.next).into_bytes();
            match rustix::fs::renameat_with(
                directory,
                name,
                self.root,
                &flat,
                RenameFlags::NOREPLACE,
            ) {
                Ok(()) => return Ok(flat),
                Err(Errno::EXIST) => {}
                Err(error) => return Err(error),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn removes_wide_and_deep_trees_and_no_link_target() {
        let scratch = tempfile::tempdir().unwrap();
        let canary = scratch.path().join("canary");
        std::fs::create_dir(&canary).unwrap();
        std::fs::write(canary.join("file"), b"x").unwrap();
        let tree = scratch.path().join("tree");
        std::fs::create_dir(&tree).unwrap();
        std::os::unix::fs::symlink(&canary, tree.join("link")).unwrap();
        std::fs::create_dir(tree.join(".removed-1")).unwrap();
        // Deeper than PATH_MAX, so only reachable by fd.
        let mut at = rustix::fs::open(&tree, DIRECTORY, Mode::empty()).unwrap();
        for _ in 0..3000 {
            rustix::fs::mkdirat(&at, "dd", Mode::from_raw_mode(0o755)).unwrap();
            rustix::fs::mkdirat(&at, "ee", Mode::from_raw_mode(0o755)).unwrap();
            at = rustix::fs::openat(&at, "dd", DIRECTORY, Mode::empty()).unwrap();
        }
        let parent = rustix::fs::open(scratch.path(), DIRECTORY, Mode::empty()).unwrap();
        remove_tree(&parent, b"tree").unwrap();
        remove_tree(&parent, b"tree").unwrap();
        assert!(!tree.exists());
        assert!(canary.join("file").exists());
    }
}
