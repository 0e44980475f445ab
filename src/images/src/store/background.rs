//! Work that nobody waits for, except whoever ends the process.

use std::sync::Arc;

use tokio::sync::watch;

use super::Store;

/// Counts what is still to be done.
#[derive(Debug, Default)]
pub(super) struct Background(watch::Sender<usize>);

/// Something that [`Store::settled`] waits for, until it is dropped.
#[derive(Debug)]
pub(super) struct Work(watch::Sender<usize>);

// === impl Background ===

impl Background {
    pub(super) fn begin(&self) -> Work {
        self.0.send_modify(|count| *count += 1);
        Work(self.0.clone())
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

// === impl Store ===

impl Store {
    /// Flushes new layers to the disk without anybody waiting for it.
    pub(crate) fn sync_later(self: &Arc<Self>) {
        self.later(|store| {
            if let Err(error) = store.sync_layers() {
                tracing::warn!(%error, "new layers could not be flushed; after a power cut they will be pulled again");
            }
        });
    }

    /// Removes what was moved to the trash without anybody waiting for it.
    pub(crate) fn empty_trash_later(self: &Arc<Self>) {
        self.later(Self::empty_trash);
    }

    /// Waits until no work is left and no pull has a directory.
    pub(crate) async fn settled(&self) {
        // It fails only without a sender, and this store holds one.
        let _ = self
            .background
            .0
            .subscribe()
            .wait_for(|count| *count == 0)
            .await;
    }

    /// On a thread that may block; at once where there is no runtime.
    fn later(self: &Arc<Self>, work: impl FnOnce(&Self) + Send + 'static) {
        let (store, guard) = (Arc::clone(self), self.background.begin());
        let run = move || {
            work(&store);
            drop(guard);
        };
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(run)),
            Err(_) => run(),
        }
    }
}
