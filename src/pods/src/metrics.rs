//! The room's own metrics.

use crate::error::{Error, Result};
use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, IntGauge, Opts, Registry};
use std::time::Duration;

/// Counters and histograms of pods and containers; cheap to clone.
#[derive(Debug, Clone)]
pub struct Metrics {
    registry: Registry,
    operations: IntCounterVec,
    seconds: HistogramVec,
    stages: HistogramVec,
    leaks: IntCounterVec,
    supervisors: IntGauge,
    supervisor_deaths: prometheus::IntCounter,
    set_aside: prometheus::IntCounter,
    listeners: IntGauge,
    lagged: prometheus::IntCounter,
}

/// Upper bounds of the latency histograms, in seconds.
const BUCKETS: &[f64] = &[
    0.000_5, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0,
];

// === impl Metrics ===

impl Metrics {
    /// Makes them all, at zero.
    pub fn new() -> Result<Self> {
        Self::build().map_err(|error| Error::internal("make the metrics", error))
    }

    fn build() -> prometheus::Result<Self> {
        let seconds = |name: &str, help: &str, labels: &[&str]| {
            HistogramVec::new(
                HistogramOpts::new(name, help).buckets(BUCKETS.to_vec()),
                labels,
            )
        };
        let metrics = Self {
            registry: Registry::new(),
            operations: IntCounterVec::new(
                Opts::new(
                    "insula_pods_operations_total",
                    "Operations on pods and containers that ended.",
                ),
                &["operation", "outcome"],
            )?,
            seconds: seconds(
                "insula_pods_operation_seconds",
                "Time that operations on pods and containers took.",
                &["operation"],
            )?,
            stages: seconds(
                "insula_pods_stage_seconds",
                "Time that stages of operations took.",
                &["operation", "stage"],
            )?,
            leaks: IntCounterVec::new(
                Opts::new(
                    "insula_pods_leaks_total",
                    "Things that belonged to nobody and were found at a start.",
                ),
                &["kind"],
            )?,
            supervisors: IntGauge::new("insula_pods_supervisors", "Supervisors that run.")?,
            supervisor_deaths: prometheus::IntCounter::new(
                "insula_pods_supervisor_deaths_total",
                "Supervisors that died without having been asked to.",
            )?,
            set_aside: prometheus::IntCounter::new(
                "insula_pods_unreadable_records_total",
                "Records that could not be used and were moved aside.",
            )?,
            listeners: IntGauge::new(
                "insula_pods_event_listeners",
                "Clients that listen to events.",
            )?,
            lagged: prometheus::IntCounter::new(
                "insula_pods_event_listeners_dropped_total",
                "Clients that were cut off because they did not read their events.",
            )?,
        };
        let registry = &metrics.registry;
        registry.register(Box::new(metrics.operations.clone()))?;
        registry.register(Box::new(metrics.seconds.clone()))?;
        registry.register(Box::new(metrics.stages.clone()))?;
        registry.register(Box::new(metrics.leaks.clone()))?;
        registry.register(Box::new(metrics.supervisors.clone()))?;
        registry.register(Box::new(metrics.supervisor_deaths.clone()))?;
        registry.register(Box::new(metrics.set_aside.clone()))?;
        registry.register(Box::new(metrics.listeners.clone()))?;
        registry.register(Box::new(metrics.lagged.clone()))?;
        Ok(metrics)
    }

    /// The registry that holds them, to be gathered with those of other rooms.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// An operation ended.
    pub(crate) fn operation(&self, name: &str, succeeded: bool, took: Duration) {
        let outcome = if succeeded { "ok" } else { "error" };
        self.operations.with_label_values(&[name, outcome]).inc();
        self.seconds
            .with_label_values(&[name])
            .observe(took.as_secs_f64());
    }

    /// A stage of an operation was passed.
    pub(crate) fn stage(&self, operation: &str, stage: &str, took: Duration) {
        self.stages
            .with_label_values(&[operation, stage])
            .observe(took.as_secs_f64());
    }

    /// Things that belonged to nobody were found.
    pub(crate) fn leaked(&self, kind: &str, count: u64) {
        self.leaks.with_label_values(&[kind]).inc_by(count);
    }

    /// A record was moved aside.
    pub(crate) fn moved_aside(&self, count: u64) {
        self.set_aside.inc_by(count);
    }

    /// A client listens to events.
    pub(crate) fn listener_came(&self) {
        self.listeners.inc();
    }

    /// A client does not listen any more.
    pub(crate) fn listener_went(&self) {
        self.listeners.dec();
    }

    /// A client was cut off.
    pub(crate) fn listener_lagged(&self) {
        self.lagged.inc();
    }

    /// A supervisor runs.
    pub(crate) fn supervisor_runs(&self) {
        self.supervisors.inc();
    }

    /// A supervisor has ended.
    pub(crate) fn supervisor_ended(&self) {
        self.supervisors.dec();
    }

    /// A supervisor died unasked.
    pub(crate) fn supervisor_died(&self) {
        self.supervisor_deaths.inc();
    }
}
