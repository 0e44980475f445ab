//! What pods and containers use.

use crate::env::Env;
use crate::error::Result;
use crate::files::{self, blocking};
use crate::registry::{Snapshot, View};
use crate::status::{ContainerState, ContainerStatus, PodState, PodStatus};
use futures_util::future::join_all;
use insula_isolators::isolator::Usage;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

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

/// How old a measurement may be when it is given out again.
const FRESH: Duration = Duration::from_secs(1);

/// Measures a container, unless it was just measured.
pub(crate) async fn container(env: &Arc<Env>, view: &View) -> Result<ContainerStats> {
    let remembered = || {
        view.container
            .measured
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    };
    if let Some((at, stats)) = remembered().as_ref()
        && at.elapsed() < FRESH
    {
        return Ok(ContainerStats {
            status: Arc::clone(&view.status),
            ..stats.clone()
        });
    }
    let deadline = env.config.deadlines.supervisor;
    let stage = format!("measure container {}", view.container.id);
    let usage = match view.container.group.clone() {
        Some(group) => blocking(stage, deadline, move || Ok(group.usage())).await?,
        None => Usage::default(),
    };
    // A file system that cannot be measured does not hide the rest.
    let writable_layer = match env.images.rootfs_usage(&view.container.id).await {
        Ok(usage) => usage,
        Err(error) => {
            tracing::debug!(container = %view.container.id, %error, "cannot measure the writable layer");
            None
        }
    };
    let stats = ContainerStats {
        status: Arc::clone(&view.status),
        timestamp: files::now(),
        usage,
        writable_layer,
    };
    *remembered() = Some((Instant::now(), stats.clone()));
    Ok(stats)
}

/// Measures a pod and its running containers.
pub(crate) async fn pod(
    env: &Arc<Env>,
    snapshot: &Snapshot,
    cgroup_path: String,
) -> Result<PodStats> {
    let running = snapshot
        .containers
        .iter()
        .filter(|view| view.status.state == ContainerState::Running);
    let containers = join_all(running.map(|view| container(env, view))).await;
    let (host, namespace) = (
        Arc::clone(&env.host),
        snapshot.pod.network_namespace.clone(),
    );
    let deadline = env.config.deadlines.supervisor;
    let ready = snapshot.pod.state == PodState::Ready;
    let stage = format!("measure pod {}", snapshot.pod.id);
    let (usage, interfaces) = blocking(stage, deadline, move || {
        let usage = host
            .open_group(&cgroup_path)?
            .map_or_else(Usage::default, |group| group.usage());
        let interfaces = match namespace.filter(|_| ready) {
            Some(path) => host.interface_counters(&path)?,
            None => Vec::new(),
        };
        Ok((usage, interfaces))
    })
    .await?;
    Ok(PodStats {
        status: Arc::clone(&snapshot.pod),
        timestamp: files::now(),
        usage,
        interfaces,
        containers: containers.into_iter().flatten().collect(),
    })
}
