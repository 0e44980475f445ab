//! How far a pull is.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::digest::Digest;

/// A snapshot of a pull in flight.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PullProgress {
    /// The image's layers, the bottom one first; empty until the manifest is known.
    pub layers: Vec<LayerSnapshot>,
}

/// A snapshot of one layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerSnapshot {
    /// The digest of the compressed blob.
    pub digest: Digest,
    /// Its size in bytes.
    pub total: u64,
    /// How many of them have arrived.
    pub downloaded: u64,
    /// How many uncompressed bytes have been unpacked.
    pub extracted: u64,
    /// What is happening to it.
    pub state: LayerState,
}

/// What is happening to a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LayerState {
    /// It waits for its turn.
    Waiting,
    /// It is being fetched and unpacked.
    Fetching,
    /// It was verified and is in the store.
    Done,
    /// It was in the store before.
    Present,
}

/// The live counters behind a [`LayerSnapshot`].
#[derive(Debug)]
pub(crate) struct LayerProgress {
    digest: Digest,
    total: u64,
    downloaded: AtomicU64,
    extracted: AtomicU64,
    state: AtomicU8,
}

/// The live counters behind a [`PullProgress`].
#[derive(Debug, Default)]
pub(crate) struct Tracker {
    layers: Mutex<Vec<Arc<LayerProgress>>>,
}

// === impl LayerProgress ===

impl LayerProgress {
    pub(crate) fn new(digest: Digest, total: u64) -> Self {
        Self {
            digest,
            total,
            downloaded: AtomicU64::new(0),
            extracted: AtomicU64::new(0),
            state: AtomicU8::new(LayerState::Waiting as u8),
        }
    }

    pub(crate) fn downloaded(&self, bytes: u64) {
        self.downloaded.store(bytes, Ordering::Relaxed);
    }

    pub(crate) fn extracted(&self, bytes: u64) {
        self.extracted.store(bytes, Ordering::Relaxed);
    }

    pub(crate) fn enter(&self, state: LayerState) {
        self.state.store(state as u8, Ordering::Relaxed);
    }

    fn snapshot(&self) -> LayerSnapshot {
        let states = [
            LayerState::Waiting,
            LayerState::Fetching,
            LayerState::Done,
            LayerState::Present,
        ];
        let state = usize::from(self.state.load(Ordering::Relaxed));
        LayerSnapshot {
            digest: self.digest.clone(),
            total: self.total,
            downloaded: self.downloaded.load(Ordering::Relaxed),
            extracted: self.extracted.load(Ordering::Relaxed),
            state: states.get(state).copied().unwrap_or(LayerState::Waiting),
        }
    }
}

// === impl Tracker ===

impl Tracker {
    pub(crate) fn start(&self, layers: Vec<Arc<LayerProgress>>) {
        *self.layers.lock().unwrap_or_else(PoisonError::into_inner) = layers;
    }

    pub(crate) fn snapshot(&self) -> PullProgress {
        let layers = self.layers.lock().unwrap_or_else(PoisonError::into_inner);
        PullProgress {
            layers: layers.iter().map(|layer| layer.snapshot()).collect(),
        }
    }
}
