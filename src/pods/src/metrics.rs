//! The room's own metrics.

use prometheus::Registry;

/// Counters and histograms of pods and containers; cheap to clone.
#[derive(Debug, Clone)]
pub struct Metrics {
    registry: Registry,
}

// === impl Metrics ===

impl Metrics {
    /// The registry that holds them, to be gathered with those of other rooms.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }
}
