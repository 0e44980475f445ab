//! Reading a file of an image, such as `/etc/passwd`, before its container runs.

use std::io::Read as _;
use std::os::fd::AsRawFd as _;

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::Rootfs;
use crate::error::{Error, IoContext as _, Result};

/// Upper bound of what [`read_in_root`] reads, whatever its caller allows: 10 MiB.
const MAX_FILE: u64 = 10 * 1024 * 1024;

/// Reads a regular file inside a root file system. Links are followed as a process whose root it
/// is would, and never out of it. None if there is no such file.
///
/// `limit` is in bytes, at most 10 MiB (CVE-2026-47262: images with a passwd file of 20 GB, or
/// one that is a FIFO or a link to /dev/zero).
///
/// # Errors
/// [`Error::Corrupt`] if it is no regular file or larger; [`Error::Unsupported`] if the root file
/// system is not mounted yet ([`super::RootfsMount::Overlay`]).
pub fn read_in_root(rootfs: &Rootfs, path: &str, limit: u64) -> Result<Option<Vec<u8>>> {
    let Some(root) = rootfs.detached() else {
        return Err(Error::Unsupported(format!(
            "{path} of image {} can only be read once the overlay is mounted: this kernel has no lowerdir+",
            rootfs.image
        )));
    };
    let what = || format!("open {path} in image {}", rootfs.image);
    let bad = |reason: &str| Error::corrupt(format!("{path} in image {}", rootfs.image), reason);
    let inside = path.trim_start_matches('/');
    let inside = if inside.is_empty() { "." } else { inside };
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    // First without opening: opening a device or FIFO has effects.
    let found = match rustix::fs::openat2(
        root,
        inside,
        OFlags::PATH | OFlags::CLOEXEC,
        Mode::empty(),
        resolve,
    ) {
        Ok(found) => found,
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
        Err(Errno::LOOP) => return Err(bad("too many symbolic links")),
        Err(error) => return Err(Error::io(what(), error)),
    };
    let stat = rustix::fs::fstat(&found).context(what)?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => {}
        FileType::Directory => return Err(bad("it is a directory")),
        FileType::Fifo => return Err(bad("it is a FIFO")),
        FileType::CharacterDevice | FileType::BlockDevice => return Err(bad("it is a device")),
        _ => return Err(bad("it is no regular file")),
    }
    let limit = limit.min(MAX_FILE);
    if u64::try_from(stat.st_size).unwrap_or(u64::MAX) > limit {
        return Err(bad(&format!(
            "it has {} bytes, more than {limit}",
            stat.st_size
        )));
    }
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = rustix::fs::open(
        format!("/proc/self/fd/{}", found.as_raw_fd()),
        flags,
        Mode::empty(),
    )
    .context(what)?;
    let mut bytes = Vec::new();
    std::fs::File::from(file)
        .take(limit + 1)
        .read_to_end(&mut bytes)
        .context(what)?;
    if bytes.len() as u64 > limit {
        return Err(bad(&format!("it has more than {limit} bytes")));
    }
    Ok(Some(bytes))
}
