//! Paths inside a root that its tenant may have written: every step by
//! descriptor, `openat2(2)` with `RESOLVE_IN_ROOT`, no magic links.

use crate::{Error, Result};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

/// What shall be at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// A directory, made with mode 0755.
    Directory,
    /// Anything but a directory; an empty file with mode 0644 is made.
    File,
}

/// Opens a path inside a root. `..` and absolute links stay inside.
pub fn open_in_root(root: BorrowedFd<'_>, path: &str, flags: OFlags) -> Result<OwnedFd> {
    let relative = relative(path);
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    loop {
        match rustix::fs::openat2(
            root,
            relative,
            flags | OFlags::CLOEXEC,
            Mode::empty(),
            resolve,
        ) {
            // A rename somewhere made the kernel unsure; ask again.
            Err(Errno::AGAIN | Errno::INTR) => {}
            result => {
                return result.map_err(|errno| {
                    Error::new(
                        format!("openat2({root:?}, {relative:?}, {flags:?}, RESOLVE_IN_ROOT|RESOLVE_NO_MAGICLINKS)"),
                        errno,
                    )
                });
            }
        }
    }
}

/// Checks that a descriptor is on procfs: what is written to a file of another
/// file system, mounted where `/proc` was expected, has no effect
/// (CVE-2019-16884, CVE-2025-52881).
pub fn check_procfs(file: impl AsFd) -> Result<()> {
    const PROC_SUPER_MAGIC: i64 = 0x9fa0;
    let file = file.as_fd();
    let call = || format!("fstatfs({file:?})");
    let status = rustix::fs::fstatfs(file).map_err(|errno| Error::new(call(), errno))?;
    if status.f_type == PROC_SUPER_MAGIC {
        Ok(())
    } else {
        Err(Error::new(
            format!("{}: not PROC_SUPER_MAGIC but {:#x}", call(), status.f_type),
            Errno::XDEV,
        ))
    }
}

/// Opens (`O_PATH`) what is at a path inside a root, after making what is
/// missing of it. Symbolic links on the way are followed inside the root.
pub fn ensure_in_root(root: BorrowedFd<'_>, path: &str, shape: Shape) -> Result<OwnedFd> {
    let existing = open_in_root(root, path, OFlags::PATH);
    if !matches!(&existing, Err(error) if error.errno() == Errno::NOENT) {
        return existing;
    }
    let mut parts: Vec<&str> = path
        .split('/')
        .filter(|part| !matches!(*part, "" | "."))
        .collect();
    let last = match shape {
        Shape::File => parts.pop(),
        Shape::Directory => None,
    };
    let mut directory = open_in_root(root, "/", OFlags::PATH | OFlags::DIRECTORY)?;
    let mut so_far = String::new();
    for part in parts {
        so_far.push('/');
        so_far.push_str(part);
        directory = match open_in_root(root, &so_far, OFlags::PATH | OFlags::DIRECTORY) {
            Ok(next) => next,
            Err(error) if error.errno() == Errno::NOENT && part != ".." => {
                make_directory(&directory, part)?
            }
            Err(error) => return Err(error),
        };
    }
    match last {
        None => Ok(directory),
        Some(name) => make_file(&directory, name),
    }
}

fn make_directory(parent: &OwnedFd, name: &str) -> Result<OwnedFd> {
    match rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(0o755)) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(errno) => {
            return Err(Error::new(
                format!("mkdirat({parent:?}, {name:?}, 0755)"),
                errno,
            ));
        }
    }
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(parent, name, flags, Mode::empty())
        .map_err(|errno| Error::new(format!("openat({parent:?}, {name:?}, {flags:?})"), errno))
}

fn make_file(parent: &OwnedFd, name: &str) -> Result<OwnedFd> {
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::WRONLY;
    match rustix::fs::openat(parent, name, flags, Mode::from_raw_mode(0o644)) {
        Ok(_) | Err(Errno::EXIST) => {}
        Err(errno) => {
            return Err(Error::new(
                format!("openat({parent:?}, {name:?}, {flags:?}, 0644)"),
                errno,
            ));
        }
    }
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(parent, name, flags, Mode::empty())
        .map_err(|errno| Error::new(format!("openat({parent:?}, {name:?}, {flags:?})"), errno))
}

fn relative(path: &str) -> &str {
    match path.trim_start_matches('/') {
        "" => ".",
        relative => relative,
    }
}

#[cfg(test)]
mod tests {
    use super::{Shape, check_procfs, ensure_in_root};
    use rustix::fs::{Mode, OFlags};
    use std::os::unix::fs::symlink;

    #[test]
    fn procfs_is_told_from_what_pretends_to_be() {
        check_procfs(std::fs::File::open("/proc/self/status").unwrap()).unwrap();
        let other = check_procfs(tempfile::tempfile().unwrap()).unwrap_err();
        assert!(
            other.to_string().contains("not PROC_SUPER_MAGIC"),
            "{other}"
        );
    }

    #[test]
    fn missing_parts_are_made_and_links_stay_inside() {
        let outside = tempfile::tempdir().unwrap();
        let inside = tempfile::tempdir().unwrap();
        symlink(outside.path(), inside.path().join("absolute")).unwrap();
        symlink("../../../../..", inside.path().join("up")).unwrap();
        symlink("nowhere", inside.path().join("dangling")).unwrap();
        let root = rustix::fs::open(inside.path(), OFlags::PATH, Mode::empty()).unwrap();
        let root = rustix::fd::AsFd::as_fd(&root);
        ensure_in_root(root, "/a/b/../c", Shape::Directory).unwrap();
        ensure_in_root(root, "etc/file", Shape::File).unwrap();
        ensure_in_root(root, "up/x", Shape::Directory).unwrap();
        assert!(inside.path().join("etc/file").is_file());
        assert!(inside.path().join("x").is_dir());
        assert!(ensure_in_root(root, "dangling/x", Shape::Directory).is_err());
        assert!(ensure_in_root(root, "absolute/y", Shape::Directory).is_err());
        assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 0);
    }
}
