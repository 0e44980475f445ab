//! Layers in the store.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{Mode, RenameFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::{Durability, Staging, Store, StoreLock, exists, names, read_record, write_file};
use crate::digest::Digest;
use crate::error::{Error, IoContext as _, Result};
use crate::layer::Accounting;
use crate::layer::remove::DIRECTORY;

/// What is known about a layer: `<diffID>.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct LayerInfo {
    version: u32,
    diff_id: Digest,
    #[serde(flatten)]
    pub(crate) accounting: Accounting,
    /// It has been flushed to the disk.
    synced: bool,
    /// The boot in which it was written; decides for layers that were not flushed.
    boot_id: String,
}

/// Facts about layers, which never change while they exist.
#[derive(Debug, Default)]
pub(super) struct Cache(Mutex<HashMap<Digest, Arc<Accounting>>>);

const VERSION: u32 = 1;

// === impl Store ===

impl Store {
    /// What a layer takes, if it is here.
    pub(crate) fn layer(&self, diff_id: &Digest) -> Result<Option<Arc<Accounting>>> {
        if !exists(&self.layers, &tree_name(diff_id))? {
            return Ok(None);
        }
        let mut cache = self
            .layer_cache
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(accounting) = cache.get(diff_id) {
            return Ok(Some(Arc::clone(accounting)));
        }
        let info: Option<LayerInfo> = read_record(&self.layers, &info_name(diff_id))?;
        let accounting = info
            .filter(|info| info.diff_id == *diff_id)
            .map(|info| Arc::new(info.accounting));
        if let Some(accounting) = &accounting {
            cache.insert(diff_id.clone(), Arc::clone(accounting));
        }
        Ok(accounting)
    }

    /// Opens a layer's tree.
    pub(crate) fn open_layer(&self, diff_id: &Digest) -> Result<OwnedFd> {
        rustix::fs::openat(&self.layers, tree_name(diff_id), DIRECTORY, Mode::empty())
            .context(|| format!("open the layer {diff_id}"))
    }

    /// Moves a verified tree from a pull's staging directory into the store.
    pub(crate) fn publish_layer(
        &self,
        staging: &Staging,
        diff_id: &Digest,
        accounting: Accounting,
    ) -> Result<()> {
        let _lock = self.lock()?;
        if self.layer(diff_id)?.is_some() {
            // Another process was faster; ours goes with the staging directory.
            return Ok(());
        }
        let info = LayerInfo {
            version: VERSION,
            diff_id: diff_id.clone(),
            accounting,
            synced: false,
            boot_id: self.boot_id.clone(),
        };
        self.write_info(&info)?;
        let tree = tree_name(diff_id);
        match rustix::fs::renameat_with(
            staging.directory(),
            &tree,
            &self.layers,
            &tree,
            RenameFlags::NOREPLACE,
        ) {
            Ok(()) => {}
            Err(Errno::EXIST) => {
                // A tree without facts: a leftover. Take its place.
                self.trash(&self.layers, &tree)?;
                rustix::fs::renameat(staging.directory(), &tree, &self.layers, &tree)
                    .context(|| format!("move the layer {diff_id} into the store"))?;
            }
            Err(error) => {
                return Err(Error::io(
                    format!("move the layer {diff_id} into the store"),
                    error,
                ));
            }
        }
        Ok(())
    }

    /// Flushes the file system and notes which layers are safe now.
    pub(crate) fn sync_layers(&self) -> Result<()> {
        let unsynced: Vec<LayerInfo> = self
            .layer_infos()?
            .into_iter()
            .filter(|info| !info.synced)
            .collect();
        if unsynced.is_empty() {
            return Ok(());
        }
        rustix::fs::syncfs(&self.layers).context(|| "flush the layers".into())?;
        let _lock = self.lock()?;
        for mut info in unsynced {
            if exists(&self.layers, &tree_name(&info.diff_id))? {
                info.synced = true;
                self.write_info(&info)?;
            }
        }
        // The renames themselves: losing one would only cost a pull.
        rustix::fs::fsync(&self.layers).context(|| "flush the layers".into())
    }

    /// Bytes and inodes of all layers.
    pub(crate) fn usage(&self) -> Result<(u64, u64)> {
        let mut sum = (0, 0);
        for diff_id in self.layer_ids()? {
            if let Some(accounting) = self.layer(&diff_id)? {
                sum = (sum.0 + accounting.bytes, sum.1 + accounting.inodes);
            }
        }
        Ok(sum)
    }

    /// The layers whose trees are here.
    pub(super) fn layer_ids(&self) -> Result<Vec<Digest>> {
        let names = names(&self.layers, "the layers")?;
        let stems = names.iter().filter_map(|name| name.strip_suffix(".tree"));
        Ok(stems.filter_map(Digest::from_file_stem).collect())
    }

    fn layer_infos(&self) -> Result<Vec<LayerInfo>> {
        let mut infos = Vec::new();
        for diff_id in self.layer_ids()? {
            infos.extend(read_record::<LayerInfo>(
                &self.layers,
                &info_name(&diff_id),
            )?);
        }
        Ok(infos)
    }

    /// Takes a layer out of the store; its files are removed later.
    pub(super) fn drop_layer(&self, _lock: &StoreLock, diff_id: &Digest) -> Result<()> {
        self.layer_cache
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(diff_id);
        self.trash(&self.layers, &tree_name(diff_id))?;
        self.trash(&self.layers, &info_name(diff_id))
    }

    /// Drops layers that may have lost bytes in a power cut, trees without facts, and facts
    /// without trees.
    pub(super) fn drop_torn_layers(&self, lock: &StoreLock) -> Result<()> {
        for name in names(&self.layers, "the layers")? {
            if let Some(diff_id) = name.strip_suffix(".tree").and_then(Digest::from_file_stem) {
                let info: Option<LayerInfo> = read_record(&self.layers, &info_name(&diff_id))?;
                let whole = info.is_some_and(|info| {
                    info.version == VERSION
                        && info.diff_id == diff_id
                        && (info.synced || info.boot_id == self.boot_id)
                });
                if !whole {
                    tracing::warn!(layer = %diff_id, "a layer was never flushed to the disk, or has no record; it is dropped");
                    self.drop_layer(lock, &diff_id)?;
                }
            } else if let Some(diff_id) =
                name.strip_suffix(".json").and_then(Digest::from_file_stem)
            {
                if !exists(&self.layers, &tree_name(&diff_id))? {
                    self.trash(&self.layers, &name)?;
                }
            } else if name.strip_suffix(".tmp").is_some() {
                self.trash(&self.layers, &name)?;
            }
        }
        Ok(())
    }

    fn write_info(&self, info: &LayerInfo) -> Result<()> {
        let json = serde_json::to_vec(info)
            .map_err(|error| Error::corrupt("layer record", error.to_string()))?;
        write_file(
            &self.layers,
            &info_name(&info.diff_id),
            &json,
            Durability::Atomic,
        )
    }
}

/// The name of a layer's tree, here and in a staging directory.
pub(crate) fn tree_name(diff_id: &Digest) -> String {
    format!("{}.tree", diff_id.file_stem())
}

fn info_name(diff_id: &Digest) -> String {
    format!("{}.json", diff_id.file_stem())
}
