//! Life cycle of pods and containers.
#![forbid(unsafe_code)]

pub mod config;
pub mod error;
pub mod exec;
pub mod filter;
pub mod ids;
pub mod metrics;
mod pods;
pub mod ports;
pub mod stats;
pub mod status;

pub use config::{CgroupDriver, Deadlines, PodsConfig};
pub use error::{Cause, Error, Result};
pub use exec::ExecOutput;
pub use filter::{ContainerFilter, PodFilter};
pub use ids::{ContainerId, PodId};
pub use metrics::Metrics;
pub use pods::Pods;
pub use stats::{ContainerStats, FilesystemUsage, InterfaceUsage, PodStats};
pub use status::{
    Condition, ContainerState, ContainerStatus, ExitReason, PodState, PodStatus, RuntimeStatus,
};
