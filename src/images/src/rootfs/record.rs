//! `rw/<container>`: the writable part of a root file system, and what it stands on.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::fs::{Gid, Mode, Uid};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::{
    KnownRootfs, OverlayDescription, Rootfs, RootfsBackend, RootfsIds, RootfsMount, RootfsUsage,
    check_container, idmapped, shadow, shadow::Shadow, usage,
};
use crate::digest::Digest;
use crate::error::{Error, IoContext as _, Result};
use crate::layer::remove::DIRECTORY;
use crate::layer::{Accounting, RootAttributes};
use crate::store::{Durability, Image, ImageId, Store, names, read_record, write_file};

/// `rootfs.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct RootfsRecord {
    version: u32,
    image: ImageId,
    /// Images shown in it as volumes.
    #[serde(default)]
    volumes: Vec<ImageId>,
    /// What must not be removed while this exists, the bottom layer first.
    pub(crate) layers: Vec<Digest>,
    /// SELinux label of its files and of those of its volumes.
    #[serde(default)]
    label: Option<String>,
}

/// What is stacked, the top layer first.
#[derive(Default)]
struct Stack {
    lower: Vec<OwnedFd>,
    /// What the image says about its root.
    root: Option<RootAttributes>,
    layers: Vec<Arc<Accounting>>,
}

const RECORD: &str = "rootfs.json";

// === impl Store ===

impl Store {
    /// Makes a container's root file system from an image.
    pub(crate) fn prepare_rootfs(
        &self,
        backend: &dyn RootfsBackend,
        id: &ImageId,
        container: &str,
        label: Option<String>,
        ids: Option<&RootfsIds>,
    ) -> Result<Rootfs> {
        check_container(container)?;
        let image = self
            .image(id)?
            .ok_or_else(|| Error::not_found(format!("image {id}")))?;
        match rustix::fs::mkdirat(self.rw(), container, Mode::from_raw_mode(0o700)) {
            Ok(()) => {}
            Err(Errno::EXIST) => {
                return Err(Error::Unsupported(format!(
                    "container {container} has a root file system already; remove it first"
                )));
            }
            Err(error) => return Err(Error::io(format!("make rw/{container}"), error)),
        }
        let made = self.fill_rootfs(backend, &image, container, label, ids);
        if made.is_err() {
            // Best effort: reconciliation finds what is left.
            let _ = self.trash(self.rw(), container);
        }
        made
    }

    fn fill_rootfs(
        &self,
        backend: &dyn RootfsBackend,
        image: &Arc<Image>,
        container: &str,
        label: Option<String>,
        ids: Option<&RootfsIds>,
    ) -> Result<Rootfs> {
        let what = || format!("make rw/{container}");
        let own =
            rustix::fs::openat(self.rw(), container, DIRECTORY, Mode::empty()).context(what)?;
        let record = RootfsRecord {
            version: 1,
            image: image.id.clone(),
            volumes: Vec::new(),
            layers: image.config.diff_ids.clone(),
            label,
        };
        self.hold(&own, &record, image)?;
        let label = record.label.as_deref();
        let mount = self.mount_image(backend, image, &own, (label, ids), &what)?;
        Ok(Rootfs {
            image: image.id.clone(),
            mount,
        })
    }

    /// Mounts an image as a volume of a container whose root file system exists, and goes with it.
    /// What is written to it is the container's own, as in its root file system; whoever shows it
    /// makes the mount read-only.
    pub(crate) fn mount_volume(
        &self,
        backend: &dyn RootfsBackend,
        id: &ImageId,
        container: &str,
        index: usize,
        ids: Option<&RootfsIds>,
    ) -> Result<Rootfs> {
        check_container(container)?;
        let image = self
            .image(id)?
            .ok_or_else(|| Error::not_found(format!("image {id}")))?;
        let mut record = self.rootfs_record(container)?.ok_or_else(|| {
            Error::not_found(format!("root file system of container {container}"))
        })?;
        let name = format!("{container}/volume-{index}");
        let what = || format!("make rw/{name}");
        let rootfs =
            rustix::fs::openat(self.rw(), container, DIRECTORY, Mode::empty()).context(what)?;
        record.volumes.push(image.id.clone());
        record.layers.extend(image.config.diff_ids.iter().cloned());
        self.hold(&rootfs, &record, &image)?;
        rustix::fs::mkdirat(self.rw(), &name, Mode::from_raw_mode(0o700)).context(what)?;
        let own = rustix::fs::openat(self.rw(), &name, DIRECTORY, Mode::empty()).context(what)?;
        let label = record.label.as_deref();
        let mount = self.mount_image(backend, &image, &own, (label, ids), &what)?;
        Ok(Rootfs {
            image: image.id.clone(),
            mount,
        })
    }

    /// Writes a record that keeps an image's layers.
    fn hold(&self, own: &OwnedFd, record: &RootfsRecord, image: &Image) -> Result<()> {
        let json = serde_json::to_vec(record)
            .map_err(|error| Error::corrupt(RECORD, error.to_string()))?;
        write_file(own, RECORD, &json, Durability::Atomic)?;
        // Whoever removes layers removes the image's record before it looks for ours. So, if the
        // image's is there now, ours will be seen.
        match self.image(&image.id)? {
            Some(_) => Ok(()),
            None => Err(Error::not_found(format!("image {}", image.id))),
        }
    }

    /// Stacks an image's layers under a writable directory made in `own`, with an SELinux label and
    /// a user namespace's ids where they are given.
    fn mount_image(
        &self,
        backend: &dyn RootfsBackend,
        image: &Image,
        own: &OwnedFd,
        (label, ids): (Option<&str>, Option<&RootfsIds>),
        what: &dyn Fn() -> String,
    ) -> Result<RootfsMount> {
        let directory = |name: &str| -> Result<OwnedFd> {
            rustix::fs::mkdirat(own, name, Mode::from_raw_mode(0o755)).context(what)?;
            rustix::fs::openat(own, name, DIRECTORY, Mode::empty()).context(what)
        };
        let (upper, work) = (directory("upper")?, directory("work")?);
        let Stack {
            mut lower,
            root,
            layers,
        } = self.stack(image)?;
        let shadows = self.shadows(&image.id, &lower, &layers)?;
        if lower.is_empty() {
            // An image without layers: overlayfs wants one.
            lower.push(directory("empty")?);
        }
        if let Some(ids) = ids {
            lower = idmapped::map_layers(&lower, ids)?;
        }
        // Before the root's owner and mode: what is made in it changes its time only.
        shadow::make(&upper, &lower, &shadows).context(what)?;
        let (mode, uid, gid) = root.map_or((0o755, 0, 0), |root| (root.mode, root.uid, root.gid));
        let (uid, gid) = ids.map_or((uid, gid), |ids| ids.owner(uid, gid));
        rustix::fs::fchown(&upper, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))
            .context(what)?;
        rustix::fs::fchmod(&upper, Mode::from_raw_mode(mode)).context(what)?;
        let overlay = OverlayDescription {
            lower,
            upper,
            work,
            label: label.map(str::to_owned),
        };
        match ids {
            None => backend.mount(overlay),
            Some(_) => idmapped::assemble(backend, &overlay, own),
        }
    }

    /// The layers to stack.
    ///
    /// A layer that comes twice counts where it is highest: overlayfs refuses it twice, and all it
    /// has is there already. Nothing below a layer that hides everything is stacked.
    fn stack(&self, image: &Image) -> Result<Stack> {
        let mut seen: Vec<&Digest> = Vec::new();
        let mut stack = Stack::default();
        for diff_id in image.config.diff_ids.iter().rev() {
            if seen.contains(&diff_id) {
                continue;
            }
            seen.push(diff_id);
            let accounting = self.layer(diff_id)?.ok_or_else(|| {
                Error::not_found(format!(
                    "layer {diff_id} of image {}; pull the image again: the layer",
                    image.id
                ))
            })?;
            stack.lower.push(self.open_layer(diff_id)?);
            stack.root = stack.root.or(accounting.root);
            let last = accounting.root_opaque;
            stack.layers.push(accounting);
            if last {
                break;
            }
        }
        Ok(stack)
    }

    /// The same for all containers of an image, so it is found once.
    fn shadows(
        &self,
        image: &ImageId,
        lower: &[OwnedFd],
        layers: &[Arc<Accounting>],
    ) -> Result<Arc<Vec<Shadow>>> {
        if layers.iter().all(|layer| layer.implicit.is_empty()) {
            return Ok(Arc::default());
        }
        if let Some(known) = self.shadow_cache.get(image) {
            return Ok(known);
        }
        let found = shadow::find(lower, layers)
            .context(|| format!("compare the layers of image {image}"))?;
        Ok(self.shadow_cache.keep(image.clone(), found))
    }

    /// Takes a container's root file system away; its files are removed later. Missing is no
    /// error. True if an image of it is gone, so that layers may be free now.
    pub(crate) fn remove_rootfs(&self, container: &str) -> Result<bool> {
        check_container(container)?;
        let record = self.rootfs_record(container)?;
        self.trash(self.rw(), container)?;
        Ok(match record {
            Some(record) => {
                let mut gone = self.image(&record.image)?.is_none();
                for image in &record.volumes {
                    gone |= self.image(image)?.is_none();
                }
                gone
            }
            None => true,
        })
    }

    /// What a container has written.
    pub(crate) fn rootfs_usage(&self, container: &str) -> Result<RootfsUsage> {
        check_container(container)?;
        let path = format!("{container}/upper");
        match rustix::fs::openat(self.rw(), &path, DIRECTORY, Mode::empty()) {
            Ok(upper) => usage::walk(upper).context(|| format!("measure rw/{path}")),
            Err(Errno::NOENT) => Err(Error::not_found(format!(
                "root file system of container {container}"
            ))),
            Err(error) => Err(Error::io(format!("open rw/{path}"), error)),
        }
    }

    /// All root file systems.
    pub(crate) fn list_rootfs(&self) -> Result<Vec<KnownRootfs>> {
        let records = self.rootfs_records()?.into_iter();
        Ok(records
            .map(|(container, record)| KnownRootfs {
                path: self.root().join("rw").join(&container),
                image: record.map(|record| record.image),
                container,
            })
            .collect())
    }

    /// All containers' records. None for one that cannot be read.
    pub(crate) fn rootfs_records(&self) -> Result<Vec<(String, Option<RootfsRecord>)>> {
        let mut found = Vec::new();
        for name in names(self.rw(), "the root file systems")? {
            let record = self.rootfs_record(&name)?;
            found.push((name, record));
        }
        Ok(found)
    }

    fn rootfs_record(&self, container: &str) -> Result<Option<RootfsRecord>> {
        match rustix::fs::openat(self.rw(), container, DIRECTORY, Mode::empty()) {
            Ok(own) => read_record(&own, RECORD),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            Err(error) => Err(Error::io(format!("open rw/{container}"), error)),
        }
    }
}
