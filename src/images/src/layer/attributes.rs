//! Owners, modes, times and extended attributes of unpacked entries.

use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd};

use rustix::fs::{AtFlags, Gid, Mode, OFlags, Timestamps, Uid, XattrFlags};
use rustix::io::{Errno, Result};

use super::read::Entry;

/// Whether an image may set this attribute. Labels and signatures are the host's policy, and the
/// overlay's own attributes would let a layer point into others.
fn allowed(name: &[u8]) -> bool {
    if name.contains(&0) || name.len() > 255 {
        return false;
    }
    name == b"security.capability"
        || name == b"system.posix_acl_access"
        || name == b"system.posix_acl_default"
        || name.starts_with(b"user.")
        || (name.starts_with(b"trusted.") && !name.starts_with(b"trusted.overlay."))
}

/// A file system without this kind of attribute is no reason to refuse an image, but a program
/// that lost its capability is.
fn tolerate(name: &[u8], result: Result<()>) -> Result<()> {
    match result {
        Err(Errno::OPNOTSUPP) if name != b"security.capability" => Ok(()),
        other => other,
    }
}

/// Applies an entry's attributes to an open file or directory; all but a directory's times, which
/// later entries would change.
pub(super) fn apply_to_fd(fd: impl AsFd, entry: &Entry) -> Result<()> {
    let fd = fd.as_fd();
    let (uid, gid) = owner(entry);
    rustix::fs::fchown(fd, uid, gid)?;
    // After the owner: a change of owner clears set-id bits and capabilities.
    rustix::fs::fchmod(fd, Mode::from_raw_mode(entry.mode))?;
    for (name, value) in entry.xattrs.iter().filter(|(name, _)| allowed(name)) {
        tolerate(
            name,
            rustix::fs::fsetxattr(fd, name.as_slice(), value, XattrFlags::empty()),
        )?;
    }
    Ok(())
}

/// Gives one directory the owner, mode and extended attributes of another; all but its times.
pub(crate) fn copy(from: impl AsFd, to: impl AsFd) -> Result<()> {
    let (from, to) = (from.as_fd(), to.as_fd());
    let stat = rustix::fs::fstat(from)?;
    rustix::fs::fchown(
        to,
        Some(Uid::from_raw(stat.st_uid)),
        Some(Gid::from_raw(stat.st_gid)),
    )?;
    rustix::fs::fchmod(to, Mode::from_raw_mode(stat.st_mode & 0o7777))?;
    // XATTR_LIST_MAX and XATTR_SIZE_MAX, xattr(7).
    let mut list = vec![0; 64 * 1024];
    let length = match rustix::fs::flistxattr(from, list.as_mut_slice()) {
        Err(Errno::OPNOTSUPP) => return Ok(()),
        other => other?,
    };
    let mut value = Vec::new();
    for name in list[..length].split(|byte| *byte == 0) {
        if name.is_empty() || !allowed(name) {
            continue;
        }
        value.resize(64 * 1024, 0);
        let length = rustix::fs::fgetxattr(from, name, value.as_mut_slice())?;
        let set = rustix::fs::fsetxattr(to, name, &value[..length], XattrFlags::empty());
        tolerate(name, set)?;
    }
    Ok(())
}

/// Applies an entry's attributes to something that must not be opened (a device) or cannot be (a
/// symbolic link), without ever following a link.
pub(super) fn apply_to_node(
    parent: BorrowedFd<'_>,
    name: &[u8],
    entry: &Entry,
    is_symlink: bool,
) -> Result<()> {
    let (uid, gid) = owner(entry);
    rustix::fs::chownat(parent, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)?;
    if !is_symlink {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let node = rustix::fs::openat(parent, name, flags, Mode::empty())?;
        // A path fd has no fchmod; its magic link leads to this node and nowhere else.
        rustix::fs::chmod(
            format!("/proc/self/fd/{}", node.as_raw_fd()),
            Mode::from_raw_mode(entry.mode),
        )?;
    }
    for (attribute, value) in entry.xattrs.iter().filter(|(name, _)| allowed(name)) {
        let mut path = format!("/proc/self/fd/{}/", parent.as_raw_fd()).into_bytes();
        path.extend_from_slice(name);
        let set = rustix::fs::lsetxattr(path, attribute.as_slice(), value, XattrFlags::empty());
        // user.* is not possible on links and devices: EPERM.
        let set = if attribute.starts_with(b"user.") && set == Err(Errno::PERM) {
            Ok(())
        } else {
            set
        };
        tolerate(attribute, set)?;
    }
    rustix::fs::utimensat(parent, name, &times(entry), AtFlags::SYMLINK_NOFOLLOW)
}

/// An entry's time of change, for both times that can be set.
pub(super) fn times(entry: &Entry) -> Timestamps {
    Timestamps {
        last_access: entry.mtime,
        last_modification: entry.mtime,
    }
}

fn owner(entry: &Entry) -> (Option<Uid>, Option<Gid>) {
    (
        Some(Uid::from_raw(entry.uid)),
        Some(Gid::from_raw(entry.gid)),
    )
}

#[cfg(test)]
mod tests {
    use super::allowed;

    #[test]
    fn which_attributes_an_image_may_set() {
        let cases: [(&[u8], bool); 8] = [
            (b"security.capability", true),
            (b"user.x", true),
            (b"trusted.x", true),
            (b"trusted.overlay.redirect", false),
            (b"trusted.overlay.opaque", false),
            (b"security.selinux", false),
            (b"security.ima", false),
            (b"user.a\0b", false),
        ];
        for (name, expected) in cases {
            assert_eq!(allowed(name), expected, "{}", String::from_utf8_lossy(name));
        }
    }
}
