//! Root file systems of containers.
//!
//! A [`Rootfs`] is one mountable value. With the directory backend it is an overlay: the layers'
//! trees below, `rw/<container>/upper` above, `volatile` because a container's changes need not
//! survive a power cut. The mount is made by `fsopen`/`fsmount` and attached nowhere: it lives as
//! long as its fd, or as the mount namespace that it is moved into.

mod idmapped;
mod overlay;
mod read;
mod record;
pub(crate) mod shadow;
mod usage;

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use crate::error::{Error, Result};
use crate::store::ImageId;

pub use self::idmapped::{RootfsIds, try_ids};
pub use self::read::read_in_root;
pub use self::usage::RootfsUsage;

/// A container's root file system.
#[derive(Debug)]
pub struct Rootfs {
    /// The image it was made from.
    pub image: ImageId,
    /// How to get it into a mount namespace.
    pub mount: RootfsMount,
}

/// How to get a root file system into a mount namespace.
#[derive(Debug)]
pub enum RootfsMount {
    /// A detached mount, for `move_mount` or, before an id mapping, `open_tree`.
    Detached(OwnedFd),
    /// What to mount, on kernels that cannot take so many layers by `fsconfig` (before 6.5, more
    /// than about thirteen). Who mounts it does so inside the container's mount namespace.
    Overlay(OverlayDescription),
}

/// An overlay mount as data.
#[derive(Debug)]
pub struct OverlayDescription {
    /// Read-only directories, the top one first.
    pub lower: Vec<OwnedFd>,
    /// The writable directory.
    pub upper: OwnedFd,
    /// Overlayfs's own directory beside it.
    pub work: OwnedFd,
    /// SELinux label of all files in it (`context=`, mount(8)).
    pub label: Option<String>,
}

/// A root file system found on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownRootfs {
    /// The container it was made for.
    pub container: String,
    /// Its image; None if its record cannot be read.
    pub image: Option<ImageId>,
    /// Its directory, for messages.
    pub path: PathBuf,
}

/// A way to keep unpacked layers and to stack them: directories under overlayfs today.
pub(crate) trait RootfsBackend: std::fmt::Debug + Send + Sync {
    /// Mounts `layers` (the top one first, none twice) under the writable `upper`.
    fn mount(&self, overlay: OverlayDescription) -> Result<RootfsMount>;
}

/// Layers as directory trees.
#[derive(Debug, Default)]
pub(crate) struct DirectoryBackend {
    how: overlay::Support,
}

// === impl Rootfs ===

impl Rootfs {
    /// The detached mount, where there is one.
    pub fn detached(&self) -> Option<BorrowedFd<'_>> {
        match &self.mount {
            RootfsMount::Detached(mount) => Some(mount.as_fd()),
            RootfsMount::Overlay(_) => None,
        }
    }
}

// === impl DirectoryBackend ===

impl RootfsBackend for DirectoryBackend {
    fn mount(&self, overlay: OverlayDescription) -> Result<RootfsMount> {
        self.how.mount(overlay)
    }
}

/// Container ids become directory names: letters, digits, `_`, `-` and `.`, at most 128, not
/// beginning with a dot.
pub(crate) fn check_container(id: &str) -> Result<()> {
    let valid = !id.is_empty()
        && id.len() <= 128
        && !id.starts_with('.')
        && id
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b));
    if valid {
        return Ok(());
    }
    Err(Error::Unsupported(format!(
        "container id {:?} is not 1 to 128 letters, digits, _, - and . (not first)",
        id.chars().take(140).collect::<String>()
    )))
}
