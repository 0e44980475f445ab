//! Which layers may go.

use std::collections::HashSet;

use super::{Store, StoreLock};
use crate::error::Result;

impl Store {
    /// Takes out of the store every layer that no record, no container and no pull needs.
    ///
    /// Containers are found by their `rootfs.json`, pulls by their leases: both outlive this
    /// process. If a container's record does not say what it uses, nothing is removed.
    pub(crate) fn collect(&self, lock: &StoreLock) -> Result<()> {
        let mut needed = HashSet::new();
        for image in self.images()? {
            needed.extend(image.config.diff_ids.iter().cloned());
        }
        needed.extend(self.leased_layers()?);
        for (container, record) in self.rootfs_records()? {
            let Some(record) = record else {
                tracing::warn!(
                    container,
                    "it is not known which layers this container uses; no layer is removed"
                );
                return Ok(());
            };
            needed.extend(record.layers);
        }
        for diff_id in self.layer_ids()? {
            if !needed.contains(&diff_id) {
                tracing::debug!(layer = %diff_id, "nothing needs this layer any more");
                self.drop_layer(lock, &diff_id)?;
            }
        }
        Ok(())
    }
}
