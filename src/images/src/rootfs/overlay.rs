//! Detached overlay mounts (Documentation/filesystems/overlayfs.rst, fsopen(2)).

use std::fmt::Write as _;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::sync::atomic::{AtomicU8, Ordering};

use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_fd, fsconfig_set_flag,
    fsconfig_set_string, fsmount, fsopen,
};

use super::{OverlayDescription, RootfsMount};
use crate::error::{IoContext as _, Result};

/// `fsconfig` takes strings of at most this many bytes, the final NUL included.
const MAX_STRING: usize = 256;

/// How this kernel takes the layers; found by trying.
///
/// | way | since | limit |
/// |---|---|---|
/// | `lowerdir+` as fd | 6.13 | 500 layers |
/// | `lowerdir+` as path | 6.5 | 500 layers |
/// | `lowerdir` as one string of short paths | 5.2 | 255 bytes: about 13 layers |
#[derive(Debug, Default)]
pub(super) struct Support(AtomicU8);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Fds,
    Paths,
    OneString,
}

const WAYS: [Way; 3] = [Way::Fds, Way::Paths, Way::OneString];

// === impl Support ===

impl Support {
    /// Mounts by the best way this kernel knows; gives the description back if none does.
    pub(super) fn mount(&self, overlay: OverlayDescription) -> Result<RootfsMount> {
        let first = usize::from(self.0.load(Ordering::Relaxed)).min(WAYS.len() - 1);
        for (at, way) in WAYS.iter().enumerate().skip(first) {
            if *way == Way::OneString && one_string(&overlay.lower).len() >= MAX_STRING {
                return Ok(RootfsMount::Overlay(overlay));
            }
            match mount(&overlay, *way) {
                Ok(mount) => {
                    self.0
                        .store(u8::try_from(at).unwrap_or(0), Ordering::Relaxed);
                    return Ok(RootfsMount::Detached(mount));
                }
                // An option or a kind of value that this kernel does not know.
                Err(Errno::INVAL | Errno::BADF) if at + 1 < WAYS.len() => {}
                Err(error) => {
                    let layers = overlay.lower.len();
                    return Err(error)
                        .context(|| format!("mount an overlay of {layers} layers ({way:?})"));
                }
            }
        }
        Ok(RootfsMount::Overlay(overlay))
    }
}

fn mount(overlay: &OverlayDescription, way: Way) -> rustix::io::Result<OwnedFd> {
    let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(&context, "source", "insula")?;
    match way {
        Way::Fds => {
            for layer in &overlay.lower {
                fsconfig_set_fd(&context, "lowerdir+", layer)?;
            }
        }
        Way::Paths => {
            for layer in &overlay.lower {
                fsconfig_set_string(&context, "lowerdir+", fd_path(layer))?;
            }
        }
        Way::OneString => fsconfig_set_string(&context, "lowerdir", one_string(&overlay.lower))?,
    }
    let writable = [("upperdir", &overlay.upper), ("workdir", &overlay.work)];
    for (key, directory) in writable {
        match way {
            // The container's own list of mounts then shows a directory, not a link of /proc.
            Way::Fds => fsconfig_set_fd(&context, key, directory)?,
            // Through the fd's magic link: short, and without the characters that overlayfs splits at.
            Way::Paths | Way::OneString => fsconfig_set_string(&context, key, fd_path(directory))?,
        }
    }
    fsconfig_set_flag(&context, "volatile")?;
    if let Some(label) = &overlay.label {
        fsconfig_set_string(&context, "context", label.as_str())?;
    }
    fsconfig_create(&context)?;
    fsmount(
        &context,
        FsMountFlags::FSMOUNT_CLOEXEC,
        MountAttrFlags::empty(),
    )
}

fn fd_path(fd: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

fn one_string(lower: &[OwnedFd]) -> String {
    let mut text = String::new();
    for (at, layer) in lower.iter().enumerate() {
        let _ = write!(text, "{}{}", if at == 0 { "" } else { ":" }, fd_path(layer));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::remove::DIRECTORY;
    use rustix::fs::Mode;

    /// Every way that this kernel knows stacks the layers in the same order.
    #[test]
    fn all_ways_stack_alike() {
        let scratch = tempfile::tempdir().unwrap();
        let open = |name: &str| {
            let path = scratch.path().join(name);
            std::fs::create_dir_all(&path).unwrap();
            rustix::fs::open(&path, DIRECTORY, Mode::empty()).unwrap()
        };
        let (mut worked, tried) = (0, WAYS.len());
        for (at, way) in WAYS.iter().enumerate() {
            let layers = ["top", "middle", "bottom"].map(|name| {
                let directory = open(name);
                std::fs::write(scratch.path().join(name).join("who"), name).unwrap();
                std::fs::write(scratch.path().join(name).join(name), name).unwrap();
                directory
            });
            let overlay = OverlayDescription {
                lower: layers.into(),
                upper: open(&format!("upper{at}")),
                work: open(&format!("work{at}")),
                label: None,
            };
            let Ok(mount) = mount(&overlay, *way) else {
                continue;
            };
            worked += 1;
            let read = |name: &str| {
                let file =
                    rustix::fs::openat(&mount, name, rustix::fs::OFlags::RDONLY, Mode::empty())
                        .unwrap();
                std::io::read_to_string(std::fs::File::from(file)).unwrap()
            };
            assert_eq!(
                (read("who"), read("bottom")),
                ("top".into(), "bottom".into()),
                "{way:?}"
            );
        }
        assert!(worked > 0, "none of {tried} ways works on this kernel");
    }
}
