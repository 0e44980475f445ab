//! The life cycle of pods and containers.
//!
//! [`Pods`] is the front door. Each pod has an owner, the only task that
//! changes its state; it asks a pure policy which request may begin, and runs
//! operations as tasks of their own, so that nothing waits for anything it need
//! not wait for. Lists and states are read from snapshots that the owners
//! publish. What a daemon that starts must know lies in records; what must not
//! die with the daemon lives in the pod's supervisor.
//!
//! ```text
//!            ┌ pods ─────────────────────────────────────────────┐
//! server ───►│ registry (ids, names) ─► owner (one per pod)      │
//!            │                           │  queue (policy, pure)  │
//!            │   snapshots ◄─────────────┤                        │
//!            │   records   ◄─────────────┤                        │
//!            │              operations ◄─┘                        │
//!            │   sandbox: make, stop   container: create … remove │
//!            └──┬──────────┬─────────────┬────────────┬───────────┘
//!              link       host          ports: images, network
//!               ▼          ▼
//!          supervisor   processes, mounts, cgroups, isolators
//! ```
//!
//! A pod: made by typestate phases that undo themselves, then
//! `Ready → (Broken) → Closed → Stopped → removed`; see [`status::PodState`]. A
//! container: `Created → Running → Exited → removed`; see
//! [`status::ContainerState`].
#![forbid(unsafe_code)]

mod adapters;
mod adopt;
mod cgroups;
pub mod config;
mod connect;
mod container;
mod env;
pub mod error;
pub mod events;
pub mod exec;
mod files;
pub mod filter;
pub mod handlers;
mod hooks;
mod host;
pub mod ids;
mod levels;
mod link;
pub mod metrics;
mod owner;
mod paths;
mod pods;
pub mod ports;
mod queue;
mod readiness;
mod reconcile;
mod records;
mod registry;
mod sandbox;
mod session;
pub mod stats;
pub mod status;
#[cfg(test)]
mod testing;

pub use config::{CgroupDriver, Deadlines, PodsConfig};
pub use error::{Cause, Error, Result};
pub use events::{Event, EventKind, Events};
pub use exec::{ExecOutput, ExecStreams};
pub use filter::{ContainerFilter, PodFilter};
pub use handlers::{Handler, Handlers, OciRuntime};
pub use host::try_cgroup_driver;
pub use ids::{ContainerId, PodId};
pub use metrics::Metrics;
pub use pods::Pods;
pub use session::{AttachStreams, Session};
pub use stats::{
    Capacity, ContainerMetrics, ContainerStats, Device, FilesystemUsage, InterfaceUsage, Measured,
    PodMetrics, PodStats,
};
pub use status::{
    Condition, ContainerState, ContainerStatus, ExitReason, PodState, PodStatus, RuntimeStatus,
};
