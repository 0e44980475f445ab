//! Root file systems for user namespaces: layers shown with other ids.
//!
//! Each layer's tree is cloned as a detached mount, which gets the namespace's ids
//! (`MOUNT_ATTR_IDMAP`), and the overlay is made of these. What a container writes goes to the
//! upper directory with the host's ids for its own, so nothing on disk belongs to root of the host
//! that root of the container made.
//!
//! Overlayfs takes layers only from mounts of its maker's mount namespace (before Linux 6.15), and
//! nothing of this shall be seen on the host. So a thread with a mount namespace of its own, which
//! ends with it, attaches them there; the overlay keeps what it needs of them.

use std::ops::Range;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;

use insula_sys::mount::{self, Attributes, Propagation};
use insula_sys::namespace::{self, Kind};
use rustix::fs::Mode;

use super::{DirectoryBackend, OverlayDescription, RootfsBackend, RootfsMount};
use crate::error::{Error, IoContext as _, Result};
use crate::layer::remove::{DIRECTORY, remove_tree};

/// Whom a file on the host belongs to whose owner has no id in the namespace: nobody,
/// `/proc/sys/kernel/overflowuid`.
const NOBODY: u32 = 65534;

/// The ids of a user namespace that a root file system is for.
#[derive(Debug)]
pub struct RootfsIds {
    /// The namespace.
    pub namespace: OwnedFd,
    /// The host's ids for its users from 0 on.
    pub uids: Range<u32>,
    /// The host's ids for its groups from 0 on.
    pub gids: Range<u32>,
}

// === impl RootfsIds ===

impl RootfsIds {
    /// The host's ids for an owner inside.
    pub(super) fn owner(&self, uid: u32, gid: u32) -> (u32, u32) {
        let on_host = |range: &Range<u32>, inside| {
            let id = range.start.checked_add(inside);
            id.filter(|id| range.contains(id)).unwrap_or(NOBODY)
        };
        (on_host(&self.uids, uid), on_host(&self.gids, gid))
    }
}

/// Tries whether root file systems in a store at `root` can have a user namespace's ids: all that
/// making one takes, in a directory that is gone afterwards.
///
/// # Errors
/// What does not work: [`Error::Unsupported`] or the system's answer.
pub fn try_ids(root: &Path, ids: &RootfsIds) -> Result<()> {
    let name = format!(".insula-ids-{}", std::process::id());
    let what = || format!("try {name} in {}", root.display());
    let parent = rustix::fs::open(root, DIRECTORY, Mode::empty()).context(what)?;
    let directory = |parent: &OwnedFd, name: &str| -> Result<OwnedFd> {
        rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(0o700)).context(what)?;
        rustix::fs::openat(parent, name, DIRECTORY, Mode::empty()).context(what)
    };
    let tried = directory(&parent, &name).and_then(|own| {
        let overlay = OverlayDescription {
            lower: map_layers(&[directory(&own, "layer")?], ids)?,
            upper: directory(&own, "upper")?,
            work: directory(&own, "work")?,
            label: None,
        };
        assemble(&DirectoryBackend::default(), &overlay, &own)
    });
    // The mount is gone, and with it what keeps the directories.
    let tried = tried.map(drop);
    remove_tree(&parent, name.as_bytes()).context(what)?;
    tried
}

/// Clones the layers' trees with the namespace's ids.
pub(super) fn map_layers(layers: &[OwnedFd], ids: &RootfsIds) -> Result<Vec<OwnedFd>> {
    let map = |layer: &OwnedFd| {
        let clone = mount::clone_tree_at(layer, "".as_ref(), false)?;
        mount::map_ids(&clone, ids.namespace.as_fd(), false)?;
        Ok(clone)
    };
    layers
        .iter()
        .map(map)
        .collect::<insula_sys::Result<_>>()
        .map_err(|error| {
            Error::Unsupported(format!(
                "a user namespace's ids for the image's layers: {error}; it takes Linux 5.12 or later, and a file system with idmapped mounts below the image store"
            ))
        })
}

/// Mounts an overlay whose lower directories were made by [`map_layers`], and whose other two are
/// `upper` and `work` in `own`, a directory of the container's.
pub(super) fn assemble(
    backend: &dyn RootfsBackend,
    overlay: &OverlayDescription,
    own: &OwnedFd,
) -> Result<RootfsMount> {
    let what = || "assemble an overlay for a user namespace".to_owned();
    let layers = &overlay.lower;
    let own = mount::clone_tree_at(own, "".as_ref(), false).map_err(|error| system(&error))?;
    std::thread::scope(|scope| {
        scope
            .spawn(|| {
                let stage = stage(layers, own.as_fd()).map_err(|error| system(&error))?;
                let open = |name: &str| {
                    rustix::fs::openat(&stage, name, DIRECTORY, Mode::empty()).context(what)
                };
                let lower = (0..layers.len()).map(|at| open(&at.to_string()));
                backend.mount(OverlayDescription {
                    lower: lower.collect::<Result<_>>()?,
                    upper: open("own/upper")?,
                    work: open("own/work")?,
                    label: overlay.label.clone(),
                })
            })
            .join()
            .unwrap_or_else(|_| Err(Error::io(what(), rustix::io::Errno::IO)))
    })
}

/// Leaves the host's mount namespace and attaches the mounts in a new one: layers by number, and
/// `own`.
fn stage(layers: &[OwnedFd], own: BorrowedFd<'_>) -> insula_sys::Result<OwnedFd> {
    namespace::unshare(&[Kind::Mount])?;
    let failed = |call: String| move |errno| insula_sys::Error::new(call, errno);
    let top = rustix::fs::open("/", DIRECTORY, Mode::empty())
        .map_err(failed("open(\"/\", O_DIRECTORY)".to_owned()))?;
    let private = Attributes {
        propagation: Some(Propagation::Private),
        recursive: true,
        ..Attributes::default()
    };
    mount::set_attributes(&top, private)?;
    let inodes = (layers.len() + 8).to_string();
    let options = [
        ("size", Some("64k")),
        ("nr_inodes", Some(inodes.as_str())),
        ("mode", Some("0700")),
    ];
    let stage = mount::new_filesystem("tmpfs", options, Attributes::default())?;
    mount::attach(stage.as_fd(), top.as_fd())?;
    let names = (0..layers.len()).map(|at| at.to_string());
    let mounts = layers.iter().map(|layer| layer.as_fd()).zip(names);
    for (mount, name) in mounts.chain([(own, "own".to_owned())]) {
        rustix::fs::mkdirat(&stage, &name, Mode::from_raw_mode(0o700))
            .map_err(failed(format!("mkdirat({name:?}, 0700)")))?;
        let target = rustix::fs::openat(&stage, &name, DIRECTORY, Mode::empty())
            .map_err(failed(format!("openat({name:?}, O_DIRECTORY)")))?;
        mount::attach(mount, target.as_fd())?;
    }
    Ok(stage)
}

fn system(error: &insula_sys::Error) -> Error {
    Error::io(error.to_string(), error.errno())
}

#[cfg(test)]
mod tests {
    use super::RootfsIds;

    #[test]
    fn owners_without_an_id_are_nobody() {
        let ids = RootfsIds {
            namespace: std::fs::File::open("/dev/null").unwrap().into(),
            uids: 1000..1010,
            gids: 4_294_967_000..u32::MAX,
        };
        for (inside, outside) in [
            ((0, 0), (1000, 4_294_967_000)),
            ((9, 294), (1009, 4_294_967_294)),
            ((10, 295), (65534, 65534)),
            ((u32::MAX, u32::MAX), (65534, 65534)),
        ] {
            assert_eq!(ids.owner(inside.0, inside.1), outside);
        }
    }
}
