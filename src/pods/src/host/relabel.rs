//! SELinux labels of volumes (CRI `Mount.selinux_relabel`).

use crate::error::{Error, Result};
use crate::files;
use rustix::fs::{CWD, Dir, FileType, Mode, OFlags, XattrFlags};
use rustix::io::Errno;
use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The attribute that holds a file's label, xattr(7).
const ATTRIBUTE: &str = "security.selinux";
/// Deepest tree that is gone through.
const MAX_DEPTH: usize = 256;
/// Places whose files other programs of the node count on. What is below them
/// may be a volume of its own.
const REFUSED: &[&str] = &[
    "/",
    "/bin",
    "/boot",
    "/dev",
    "/etc",
    "/home",
    "/lib",
    "/lib64",
    "/media",
    "/mnt",
    "/opt",
    "/proc",
    "/root",
    "/run",
    "/sbin",
    "/srv",
    "/sys",
    "/tmp",
    "/usr",
    "/var",
    "/var/lib",
    "/var/lib/kubelet",
    "/var/log",
    "/var/run",
    "/var/tmp",
];
/// Whose subdirectories are refused as well.
const REFUSED_BELOW: &[&str] = &[
    "/bin", "/boot", "/dev", "/lib", "/lib64", "/proc", "/sbin", "/sys", "/usr",
];

/// Gives a file, or a directory with all in it, a label. Stays on its file
/// system, follows no symbolic link below it, and gives up at the deadline.
/// A file system without labels is left as it is.
pub(super) fn relabel(path: &Path, label: &str, deadline: Duration) -> Result<()> {
    let real = path
        .canonicalize()
        .map_err(|error| files::failed("relabel", path, &error))?;
    if is_refused(&real) {
        return Err(Error::InvalidArgument(format!(
            "SELinux relabelling of {} was asked for, which the node itself needs: use a directory of its own for the volume",
            real.display()
        )));
    }
    let top = open(CWD, &real).map_err(|errno| failed(&real, errno))?;
    let device = rustix::fs::fstat(&top)
        .map_err(|errno| failed(&real, errno))?
        .st_dev;
    let mut work = Work {
        value: [label.as_bytes(), b"\0"].concat(),
        device,
        end: Instant::now() + deadline,
        deadline,
        at: real,
    };
    work.file(&top, 0)
}

struct Work {
    /// The label as the kernel keeps it, with its NUL.
    value: Vec<u8>,
    device: u64,
    end: Instant,
    deadline: Duration,
    /// Where it is, for messages.
    at: PathBuf,
}

// === impl Work ===

impl Work {
    fn file(&mut self, file: &OwnedFd, depth: usize) -> Result<()> {
        if Instant::now() > self.end {
            return Err(Error::DeadlineExceeded {
                stage: format!("relabel {}", self.at.display()),
                after: self.deadline,
            });
        }
        let stat = rustix::fs::fstat(file).map_err(|errno| failed(&self.at, errno))?;
        if stat.st_dev != self.device {
            return Ok(());
        }
        match self.set(file.as_fd()) {
            Ok(()) => {}
            Err(Errno::OPNOTSUPP) => return Ok(()),
            Err(errno) => return Err(failed(&self.at, errno)),
        }
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            return Ok(());
        }
        if depth >= MAX_DEPTH {
            return Err(Error::InvalidArgument(format!(
                "{} is deeper than {MAX_DEPTH} directories, too deep to be relabelled",
                self.at.display()
            )));
        }
        self.directory(file, depth)
    }

    fn directory(&mut self, directory: &OwnedFd, depth: usize) -> Result<()> {
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let entries = rustix::fs::openat(directory, ".", flags, Mode::empty())
            .and_then(Dir::new)
            .map_err(|errno| failed(&self.at, errno))?;
        for entry in entries {
            let entry = entry.map_err(|errno| failed(&self.at, errno))?;
            let name: &CStr = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            self.at.push(name.to_string_lossy().as_ref());
            match open(directory.as_fd(), name) {
                Ok(file) => self.file(&file, depth + 1)?,
                // Somebody removed it.
                Err(Errno::NOENT) => {}
                Err(errno) => return Err(failed(&self.at, errno)),
            }
            self.at.pop();
        }
        Ok(())
    }

    /// By the descriptor's own link: an `O_PATH` one has no other way before
    /// setxattrat(2) of Linux 6.13.
    fn set(&self, file: BorrowedFd<'_>) -> std::result::Result<(), Errno> {
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        let mut before = [0; 512];
        if let Ok(length) = rustix::fs::getxattr(&path, ATTRIBUTE, &mut before)
            && before.get(..length) == Some(self.value.as_slice())
        {
            return Ok(());
        }
        rustix::fs::setxattr(&path, ATTRIBUTE, &self.value, XattrFlags::empty())
    }
}

/// Opens what is there itself: a link, a device and a pipe, too, without
/// touching what is behind.
fn open(parent: impl AsFd, name: impl rustix::path::Arg) -> std::result::Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(parent, name, flags, Mode::empty())
}

fn is_refused(path: &Path) -> bool {
    REFUSED.iter().any(|refused| path == Path::new(refused))
        || REFUSED_BELOW
            .iter()
            .any(|refused| path.starts_with(refused))
}

fn failed(path: &Path, errno: Errno) -> Error {
    files::failed("relabel", path, &errno.into())
}

#[cfg(test)]
mod tests {
    use super::{ATTRIBUTE, Duration, Error, Path, is_refused, relabel};
    use std::os::unix::fs::symlink;

    const LABEL: &str = "u:object_r:file_t:s0:c1,c2";

    fn label_of(path: &Path) -> Option<String> {
        let mut value = [0; 256];
        let length = rustix::fs::lgetxattr(path, ATTRIBUTE, &mut value).ok()?;
        Some(String::from_utf8_lossy(&value[..length]).into_owned())
    }

    #[test]
    fn all_of_a_directory_and_nothing_else_is_relabelled() {
        let place = tempfile::tempdir().unwrap();
        let (volume, outside) = (place.path().join("volume"), place.path().join("outside"));
        std::fs::create_dir_all(volume.join("a/b")).unwrap();
        std::fs::write(volume.join("a/b/file"), "").unwrap();
        std::fs::write(&outside, "").unwrap();
        symlink(&outside, volume.join("link")).unwrap();
        rustix::fs::mkfifoat(
            rustix::fs::CWD,
            volume.join("fifo"),
            rustix::fs::Mode::from_raw_mode(0o600),
        )
        .unwrap();
        let minute = Duration::from_secs(60);
        match relabel(&volume, LABEL, minute) {
            Err(Error::Internal { .. }) if !rustix::process::geteuid().is_root() => {
                println!("skipped: this needs root, who may set labels");
                return;
            }
            result => result.unwrap(),
        }
        if label_of(&volume).is_none() {
            println!("skipped: the file system of the temporary directory has no labels");
            return;
        }
        let want = Some(format!("{LABEL}\0"));
        for path in ["", "a", "a/b", "a/b/file", "link", "fifo"] {
            assert_eq!(label_of(&volume.join(path)), want, "{path}");
        }
        assert_eq!(label_of(&outside), None);
        // Through a link the volume itself is meant, as when it is mounted.
        let link = place.path().join("to-outside");
        symlink(&outside, &link).unwrap();
        relabel(&link, LABEL, minute).unwrap();
        assert_eq!(label_of(&outside), want);
        assert!(matches!(
            relabel(&volume, "u:r:t", Duration::ZERO),
            Err(Error::DeadlineExceeded { .. })
        ));
        assert!(relabel(&place.path().join("none"), LABEL, minute).is_err());
    }

    #[test]
    fn what_the_node_needs_is_refused() {
        for path in [
            "/",
            "/etc",
            "/usr",
            "/usr/share/x",
            "/var/lib",
            "/proc/1",
            "/root",
        ] {
            assert!(is_refused(Path::new(path)), "{path}");
        }
        for path in [
            "/etc/app",
            "/srv/data",
            "/var/lib/kubelet/pods/x",
            "/home/me/data",
            "/data",
        ] {
            assert!(!is_refused(Path::new(path)), "{path}");
        }
        let error = relabel(Path::new("/etc/"), LABEL, Duration::from_secs(1)).unwrap_err();
        assert!(matches!(error, Error::InvalidArgument(_)), "{error}");
    }
}
