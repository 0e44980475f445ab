//! Filling an image's volumes with what the image has at their place.
//!
//! The root file system was made from hostile data: every step in it is by
//! descriptor and stays inside, and what is copied is bounded.

use crate::error::{Error, Result};
use crate::files;
use insula_sys::path::open_in_root;
use rustix::fs::{AtFlags, Dir, FileType, Gid, Mode, OFlags, Stat, Uid};
use rustix::io::Errno;
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

/// How deep directories are followed.
const MAX_DEPTH: usize = 64;

/// Most files of one volume; an image with more there must get a real volume.
const MAX_ENTRIES: usize = 200_000;

/// A volume of an image: where it is in the root file system, and the
/// directory that takes its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Volume {
    pub(crate) container_path: String,
    pub(crate) directory: PathBuf,
}

/// Makes the volumes' directories, with owner, mode and content of what is at
/// their paths in the image. A path that the image does not have gives an
/// empty directory, mode 0755, of `owner`: root of the container, by the host's
/// user and group.
pub(crate) fn fill(root: &OwnedFd, volumes: &[Volume], owner: (u32, u32)) -> Result<()> {
    for volume in volumes {
        files::make_directory(&volume.directory)?;
        let target = open_directory(&volume.directory)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        match open_in_root(root.as_fd(), &volume.container_path, flags) {
            Ok(source) => {
                let mut copy = Copy { entries: 0 };
                copy.directory(&source, &target, 0)
                    .map_err(|why| failed(&volume.container_path, &why))?;
            }
            Err(error) if matches!(error.errno(), Errno::NOENT | Errno::NOTDIR) => {
                let (uid, gid) = (Uid::from_raw(owner.0), Gid::from_raw(owner.1));
                rustix::fs::fchown(&target, Some(uid), Some(gid))
                    .and_then(|()| rustix::fs::fchmod(&target, Mode::from_raw_mode(0o755)))
                    .map_err(|errno| failed(&volume.container_path, &errno.to_string()))?;
            }
            Err(error) => return Err(failed(&volume.container_path, &error.to_string())),
        }
    }
    Ok(())
}

struct Copy {
    entries: usize,
}

impl Copy {
    /// Copies a directory's content, then its owner and mode.
    fn directory(
        &mut self,
        source: &OwnedFd,
        target: &OwnedFd,
        depth: usize,
    ) -> std::result::Result<(), String> {
        if depth > MAX_DEPTH {
            return Err(format!("it is more than {MAX_DEPTH} directories deep"));
        }
        let entries = Dir::read_from(source).map_err(|errno| format!("getdents64() = {errno}"))?;
        for entry in entries {
            let entry = entry.map_err(|errno| format!("getdents64() = {errno}"))?;
            let name = entry.file_name();
            if name.to_bytes() == b"." || name.to_bytes() == b".." {
                continue;
            }
            self.entries += 1;
            if self.entries > MAX_ENTRIES {
                return Err(format!(
                    "it holds more than {MAX_ENTRIES} files; mount a volume there"
                ));
            }
            self.entry(source, target, name, depth)
                .map_err(|why| format!("{name:?}: {why}"))?;
        }
        let stat = rustix::fs::fstat(source).map_err(|errno| format!("fstat() = {errno}"))?;
        let failed = |errno| format!("set owner and mode = {errno}");
        rustix::fs::fchown(target, Some(owner(&stat)), Some(group(&stat))).map_err(failed)?;
        rustix::fs::fchmod(target, mode(&stat)).map_err(failed)
    }

    fn entry(
        &mut self,
        source: &OwnedFd,
        target: &OwnedFd,
        name: &CStr,
        depth: usize,
    ) -> std::result::Result<(), String> {
        let stat = rustix::fs::statat(source, name, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|errno| format!("fstatat() = {errno}"))?;
        let no_follow = OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | no_follow;
                rustix::fs::mkdirat(target, name, Mode::from_raw_mode(0o700))
                    .map_err(|errno| format!("mkdirat() = {errno}"))?;
                let below = open(source.as_fd(), name, flags)?;
                let made = open(target.as_fd(), name, flags)?;
                self.directory(&below, &made, depth + 1)
            }
            FileType::RegularFile => {
                let from = open(source.as_fd(), name, OFlags::RDONLY | no_follow)?;
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | no_follow;
                let made = rustix::fs::openat(target, name, flags, Mode::from_raw_mode(0o600))
                    .map_err(|errno| format!("openat(O_CREAT) = {errno}"))?;
                let mut made = std::fs::File::from(made);
                std::io::copy(&mut std::fs::File::from(from), &mut made)
                    .map_err(|error| format!("copy: {error}"))?;
                let failed = |errno| format!("set owner and mode = {errno}");
                rustix::fs::fchown(&made, Some(owner(&stat)), Some(group(&stat)))
                    .map_err(failed)?;
                rustix::fs::fchmod(&made, mode(&stat)).map_err(failed)
            }
            FileType::Symlink => {
                let link: CString = rustix::fs::readlinkat(source, name, Vec::new())
                    .map_err(|errno| format!("readlinkat() = {errno}"))?;
                rustix::fs::symlinkat(link.as_c_str(), target, name)
                    .map_err(|errno| format!("symlinkat() = {errno}"))?;
                rustix::fs::chownat(
                    target,
                    name,
                    Some(owner(&stat)),
                    Some(group(&stat)),
                    AtFlags::SYMLINK_NOFOLLOW,
                )
                .map_err(|errno| format!("fchownat() = {errno}"))
            }
            // Devices, pipes and sockets mean nothing in a volume.
            _ => Ok(()),
        }
    }
}

fn open(
    directory: BorrowedFd<'_>,
    name: &CStr,
    flags: OFlags,
) -> std::result::Result<OwnedFd, String> {
    rustix::fs::openat(directory, name, flags, Mode::empty())
        .map_err(|errno| format!("openat({flags:?}) = {errno}"))
}

fn open_directory(path: &Path) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    rustix::fs::open(path, flags, Mode::empty())
        .map_err(|errno| Error::internal("open a volume", format!("open({path:?}) = {errno}")))
}

fn owner(stat: &Stat) -> Uid {
    Uid::from_raw(stat.st_uid)
}

fn group(stat: &Stat) -> Gid {
    Gid::from_raw(stat.st_gid)
}

fn mode(stat: &Stat) -> Mode {
    Mode::from_raw_mode(stat.st_mode & 0o7777)
}

fn failed(container_path: &str, why: &str) -> Error {
    Error::internal(format!("fill the image's volume {container_path:?}"), why)
}

#[cfg(test)]
mod tests {
    use super::{Volume, fill};
    use std::fs;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    #[test]
    fn content_mode_and_links_are_copied_and_nothing_from_outside() {
        let image = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        let volumes = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("secret"), "secret").unwrap();
        let data = image.path().join("data");
        fs::create_dir_all(data.join("sub")).unwrap();
        fs::write(data.join("sub/file"), "content").unwrap();
        fs::set_permissions(data.join("sub/file"), fs::Permissions::from_mode(0o640)).unwrap();
        fs::set_permissions(&data, fs::Permissions::from_mode(0o1777)).unwrap();
        symlink(outside.path(), data.join("escape")).unwrap();
        symlink(outside.path(), image.path().join("volume-link")).unwrap();
        let root = fs::File::open(image.path()).unwrap().into();
        let volume = |path: &str, name: &str| Volume {
            container_path: path.to_owned(),
            directory: volumes.path().join(name),
        };
        fill(
            &root,
            &[
                volume("/data", "0"),
                volume("/absent", "1"),
                volume("/volume-link", "2"),
            ],
            (
                rustix::process::geteuid().as_raw(),
                rustix::process::getegid().as_raw(),
            ),
        )
        .unwrap();
        let at = |path: &str| volumes.path().join(path);
        assert_eq!(fs::read_to_string(at("0/sub/file")).unwrap(), "content");
        assert_eq!(
            fs::metadata(at("0/sub/file")).unwrap().permissions().mode() & 0o7777,
            0o640
        );
        assert_eq!(
            fs::metadata(at("0")).unwrap().permissions().mode() & 0o7777,
            0o1777
        );
        assert!(fs::symlink_metadata(at("0/escape")).unwrap().is_symlink());
        assert_eq!(fs::read_dir(at("1")).unwrap().count(), 0);
        assert_eq!(
            fs::read_dir(at("2")).unwrap().count(),
            0,
            "the link leads nowhere in the root"
        );
    }
}
