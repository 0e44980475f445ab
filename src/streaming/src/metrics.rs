//! Numbers about sessions.

use crate::http::Kind;
use prometheus::{IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};

/// How many sessions wait, are open, and have been.
#[derive(Debug, Clone)]
pub struct Metrics {
    pending: IntGauge,
    open: IntGaugeVec,
    total: IntCounterVec,
}

/// Counts a session as open until it is dropped.
#[derive(Debug)]
pub(crate) struct Open(IntGauge);

// === impl Metrics ===

impl Metrics {
    /// Metrics of a new server, registered in `registry`.
    pub fn new(registry: &Registry) -> prometheus::Result<Self> {
        let pending = IntGauge::new(
            "insula_streaming_pending",
            "Sessions that were asked for and are not opened yet",
        )?;
        let open = IntGaugeVec::new(
            Opts::new("insula_streaming_sessions", "Open sessions"),
            &["kind"],
        )?;
        let total = IntCounterVec::new(
            Opts::new(
                "insula_streaming_sessions_total",
                "Sessions that were opened",
            ),
            &["kind"],
        )?;
        registry.register(Box::new(pending.clone()))?;
        registry.register(Box::new(open.clone()))?;
        registry.register(Box::new(total.clone()))?;
        for kind in Kind::ALL {
            open.with_label_values(&[kind.name()]);
            total.with_label_values(&[kind.name()]);
        }
        Ok(Self {
            pending,
            open,
            total,
        })
    }

    pub(crate) fn pending(&self, number: usize) {
        self.pending.set(i64::try_from(number).unwrap_or(i64::MAX));
    }

    pub(crate) fn opened(&self, kind: Kind) -> Open {
        self.total.with_label_values(&[kind.name()]).inc();
        let gauge = self.open.with_label_values(&[kind.name()]);
        gauge.inc();
        Open(gauge)
    }
}

// === impl Open ===

impl Drop for Open {
    fn drop(&mut self) {
        self.0.dec();
    }
}
