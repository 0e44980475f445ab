//! What pods and containers use.

use crate::status::{ContainerStatus, PodStatus};
use insula_isolators::isolator::Usage;
use std::path::PathBuf;
use std::sync::Arc;

/// What a container uses.
#[derive(Debug, Clone)]
pub struct ContainerStats {
    /// Which container.
    pub status: Arc<ContainerStatus>,
    /// When it was measured, nanoseconds since the epoch.
    pub timestamp: i64,
    /// Processor, memory and processes.
    pub usage: Usage,
    /// What it wrote to its root file system; `None` when that is not known.
    pub writable_layer: Option<FilesystemUsage>,
}

/// What a pod uses.
#[derive(Debug, Clone)]
pub struct PodStats {
    /// Which pod.
    pub status: Arc<PodStatus>,
    /// When it was measured, nanoseconds since the epoch.
    pub timestamp: i64,
    /// Of all its containers together.
    pub usage: Usage,
    /// Of its network interfaces, without `lo`; empty on the host's network.
    pub interfaces: Vec<InterfaceUsage>,
    /// Of each of its running containers.
    pub containers: Vec<ContainerStats>,
}

/// Bytes and files on a file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilesystemUsage {
    /// When it was measured, nanoseconds since the epoch.
    pub timestamp: i64,
    /// A directory that exists on the node and lies on that file system.
    pub mountpoint: PathBuf,
    /// Bytes.
    pub used_bytes: u64,
    /// Files and directories.
    pub inodes_used: u64,
}

/// Counters of one network interface since it was made.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields of CRI NetworkInterfaceUsage")]
pub struct InterfaceUsage {
    pub name: String,
    pub rx_bytes: u64,
    pub rx_errors: u64,
    pub tx_bytes: u64,
    pub tx_errors: u64,
}
