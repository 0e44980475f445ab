//! Who may run plugins now (CNI specification 1.1.0, "Lifecycle & Ordering"): one operation at a
//! time for a sandbox, GC alone, and not too many at once.

use std::collections::{HashMap, HashSet};
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::{
    OwnedMutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard, Semaphore, SemaphorePermit,
};
use tokio::time::timeout;

use crate::attachment::SandboxId;
use crate::error::{Error, Result};

/// The queues.
#[derive(Debug)]
pub(crate) struct Turns {
    sandboxes: Mutex<HashMap<SandboxId, Weak<tokio::sync::Mutex<()>>>>,
    /// Held shared by operations of a sandbox, alone by GC.
    collecting: RwLock<()>,
    slots: Semaphore,
    /// Sandboxes that this process attaches or has attached: GC leaves them alone even if its
    /// caller made the list of valid ones a moment too early.
    live: Mutex<HashSet<SandboxId>>,
    patience: Duration,
}

/// The right to run plugins for one sandbox.
#[derive(Debug)]
#[expect(dead_code, reason = "held for their Drop")]
pub(crate) struct Turn<'a> {
    sandbox: OwnedMutexGuard<()>,
    shared: RwLockReadGuard<'a, ()>,
    slot: SemaphorePermit<'a>,
}

/// Removes the sandbox from the live ones unless it is kept.
#[derive(Debug)]
pub(crate) struct Live<'a> {
    turns: &'a Turns,
    id: SandboxId,
    keep: bool,
}

impl Live<'_> {
    /// The sandbox is attached.
    pub(crate) fn keep(mut self) {
        self.keep = true;
    }
}

impl Drop for Live<'_> {
    fn drop(&mut self) {
        if !self.keep {
            self.turns.forget(&self.id);
        }
    }
}

impl Turns {
    pub(crate) fn new(max_concurrent: usize, patience: Duration) -> Self {
        Self {
            sandboxes: Mutex::default(),
            collecting: RwLock::default(),
            slots: Semaphore::new(max_concurrent.clamp(1, 1 << 16)),
            live: Mutex::default(),
            patience,
        }
    }

    /// Waits for the turn of `id`.
    pub(crate) async fn of(&self, id: &SandboxId) -> Result<Turn<'_>> {
        let own = self.own(id);
        let sandbox = self
            .wait(
                "for another CNI operation of this sandbox",
                own.lock_owned(),
            )
            .await?;
        let shared = self
            .wait("for the CNI garbage collection", self.collecting.read())
            .await?;
        let slot = self
            .wait("for a free CNI slot", self.slots.acquire())
            .await?
            .map_err(|_| Error::Busy {
                stage: "for a free CNI slot",
                after: Duration::ZERO,
            })?;
        Ok(Turn {
            sandbox,
            shared,
            slot,
        })
    }

    /// Waits until no operation of a sandbox runs, and keeps new ones out.
    pub(crate) async fn alone(&self) -> Result<RwLockWriteGuard<'_, ()>> {
        self.wait("for running CNI operations", self.collecting.write())
            .await
    }

    /// Marks a sandbox as live until the returned value is dropped, or for good by [`Live::keep`].
    pub(crate) fn live(&self, id: &SandboxId) -> Live<'_> {
        lock(&self.live).insert(id.clone());
        Live {
            turns: self,
            id: id.clone(),
            keep: false,
        }
    }

    pub(crate) fn is_live(&self, id: &SandboxId) -> bool {
        lock(&self.live).contains(id)
    }

    pub(crate) fn forget(&self, id: &SandboxId) {
        lock(&self.live).remove(id);
    }

    fn own(&self, id: &SandboxId) -> Arc<tokio::sync::Mutex<()>> {
        let mut sandboxes = lock(&self.sandboxes);
        // Only those in use are kept, so this stays as short as the list of running operations.
        sandboxes.retain(|_, known| known.strong_count() > 0);
        if let Some(known) = sandboxes.get(id).and_then(Weak::upgrade) {
            return known;
        }
        let new = Arc::new(tokio::sync::Mutex::new(()));
        sandboxes.insert(id.clone(), Arc::downgrade(&new));
        new
    }

    async fn wait<T>(&self, stage: &'static str, future: impl Future<Output = T>) -> Result<T> {
        timeout(self.patience, future)
            .await
            .map_err(|_| Error::Busy {
                stage,
                after: self.patience,
            })
    }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing that runs under these locks leaves a value half changed.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
