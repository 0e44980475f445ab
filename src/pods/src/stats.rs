//! What pods and containers use.
//!
//! Measured when somebody asks, from cgroups that are open already, and kept
//! for a second; nothing is polled. A source that cannot be read is left out
//! and fails nothing else.

mod meter;
mod metrics;

pub use metrics::{Capacity, ContainerMetrics, Device, Measured, PodMetrics};

pub(crate) use meter::{Meter, PodMeter};
pub(crate) use metrics::{of_pods as metrics_of, sample};

use crate::env::Env;
use crate::error::{Error, Result};
use crate::files::{self, blocking};
use crate::host::Group;
use crate::registry::{Snapshot, View};
use crate::status::{ContainerState, ContainerStatus, PodState, PodStatus};
use futures_util::StreamExt as _;
use futures_util::stream;
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
    /// Nanoseconds of processor time in each second since it was last asked
    /// for; `None` the first time, and after some minutes without.
    pub nano_cores: Option<u64>,
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
    /// See [`ContainerStats::nano_cores`].
    pub nano_cores: Option<u64>,
    /// Processes of all its containers; threads do not count.
    pub processes: Option<u64>,
    /// Of its network interfaces, `lo` too; empty on the host's network.
    pub interfaces: Vec<InterfaceUsage>,
    /// Of each of its running containers.
    pub containers: Vec<ContainerStats>,
}

/// How many writable layers are measured at once. Each takes as long as handing it to a thread: a
/// thread for every one of hundreds would mostly wait for its turn to take work.
const LAYERS_AT_ONCE: usize = 4;

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
#[expect(missing_docs, reason = "the columns of /proc/net/dev")]
pub struct InterfaceUsage {
    pub name: String,
    pub rx_bytes: u64,
    pub rx_packets: u64,
    pub rx_errors: u64,
    pub rx_dropped: u64,
    pub tx_bytes: u64,
    pub tx_packets: u64,
    pub tx_errors: u64,
    pub tx_dropped: u64,
}

/// What the cgroup of a pod shows.
#[derive(Debug, Default)]
struct PodGroup {
    usage: Usage,
    processes: Option<u64>,
    interfaces: Vec<InterfaceUsage>,
}

/// Measures one container, unless it was just measured.
pub(crate) async fn container(env: &Arc<Env>, view: &View) -> Result<ContainerStats> {
    let mut measured = containers(env, std::slice::from_ref(view)).await?;
    measured
        .pop()
        .ok_or_else(|| Error::internal("measure a container", "nothing was measured"))
}

/// Measures containers, those that were not just measured: all cgroups one
/// after the other on one thread, since each takes less than handing it over.
pub(crate) async fn containers(env: &Arc<Env>, views: &[View]) -> Result<Vec<ContainerStats>> {
    let stale: Vec<_> = views
        .iter()
        .filter(|view| view.container.meter.fresh().is_none())
        .cloned()
        .collect();
    if !stale.is_empty() {
        let stage = format!("measure {} containers", stale.len());
        let deadline = env.config.deadlines.supervisor;
        let groups: Vec<_> = stale
            .iter()
            .map(|view| view.container.group.clone())
            .collect();
        let usages = blocking(stage, deadline, move || {
            Ok(groups
                .iter()
                .map(|group| (files::now(), usage(group.as_ref())))
                .collect::<Vec<_>>())
        });
        let (usages, layers) = tokio::join!(usages, writable_layers(env, &stale));
        let measured = usages?.into_iter().zip(layers);
        for (view, ((timestamp, usage), writable_layer)) in stale.iter().zip(measured) {
            view.container.meter.keep(ContainerStats {
                status: Arc::clone(&view.status),
                timestamp,
                usage,
                nano_cores: None,
                writable_layer,
            });
        }
    }
    let kept = |view: &View| {
        let stats = view.container.meter.last()?;
        Some(ContainerStats {
            status: Arc::clone(&view.status),
            ..stats
        })
    };
    Ok(views.iter().filter_map(kept).collect())
}

fn usage(group: Option<&Arc<dyn Group>>) -> Usage {
    group.map_or_else(Usage::default, |group| group.usage())
}

/// The writable layers of these containers, in their order.
async fn writable_layers(env: &Arc<Env>, views: &[View]) -> Vec<Option<FilesystemUsage>> {
    let layers: Vec<_> = views.iter().map(|view| writable_layer(env, view)).collect();
    stream::iter(layers)
        .buffered(LAYERS_AT_ONCE)
        .collect()
        .await
}

/// A file system that cannot be measured does not hide the rest.
async fn writable_layer(env: &Arc<Env>, view: &View) -> Option<FilesystemUsage> {
    match env.images.rootfs_usage(&view.container.id).await {
        Ok(usage) => usage,
        Err(error) => {
            tracing::debug!(container = %view.container.id, %error, "cannot measure the writable layer");
            None
        }
    }
}

/// Measures one pod and its running containers.
pub(crate) async fn pod(env: &Arc<Env>, snapshot: &Arc<Snapshot>) -> Result<PodStats> {
    let mut measured = pods(env, std::slice::from_ref(snapshot)).await?;
    measured
        .pop()
        .ok_or_else(|| Error::internal("measure a pod", "nothing was measured"))
}

/// Measures pods, those that were not just measured.
pub(crate) async fn pods(env: &Arc<Env>, snapshots: &[Arc<Snapshot>]) -> Result<Vec<PodStats>> {
    let stale: Vec<_> = snapshots
        .iter()
        .filter(|snapshot| snapshot.meter.stats.fresh().is_none())
        .cloned()
        .collect();
    let running: Vec<View> = snapshots
        .iter()
        .flat_map(|snapshot| running(snapshot))
        .collect();
    let of_containers = containers(env, &running);
    let of_pods = groups_of(env, stale.clone());
    let (of_containers, of_pods) = tokio::join!(of_containers, of_pods);
    let (of_containers, timestamp) = (of_containers?, files::now());
    for (snapshot, group) in stale.iter().zip(of_pods?) {
        snapshot.meter.stats.keep(PodStats {
            status: Arc::clone(&snapshot.pod),
            timestamp,
            usage: group.usage,
            nano_cores: None,
            processes: group.processes,
            interfaces: group.interfaces,
            containers: Vec::new(),
        });
    }
    let kept = |snapshot: &Arc<Snapshot>| {
        let of_pod = |stats: &&ContainerStats| stats.status.pod_id == snapshot.pod.id;
        Some(PodStats {
            status: Arc::clone(&snapshot.pod),
            containers: of_containers.iter().filter(of_pod).cloned().collect(),
            ..snapshot.meter.stats.last()?
        })
    };
    Ok(snapshots.iter().filter_map(kept).collect())
}

/// The containers of a pod that run.
fn running(snapshot: &Snapshot) -> Vec<View> {
    let running = |view: &&View| view.status.state == ContainerState::Running;
    snapshot
        .containers
        .iter()
        .filter(running)
        .cloned()
        .collect()
}

async fn groups_of(env: &Arc<Env>, pods: Vec<Arc<Snapshot>>) -> Result<Vec<PodGroup>> {
    if pods.is_empty() {
        return Ok(Vec::new());
    }
    let host = Arc::clone(&env.host);
    let stage = format!("measure {} pods", pods.len());
    blocking(stage, env.config.deadlines.supervisor, move || {
        let namespaces: Vec<_> = pods.iter().map(|pod| network_namespace(pod)).collect();
        let interfaces = interfaces(host.as_ref(), &namespaces);
        Ok(pods
            .iter()
            .zip(interfaces)
            .map(|(pod, interfaces)| {
                let group = pod.meter.group(host.as_ref());
                PodGroup {
                    usage: usage(group.as_ref()),
                    processes: group.and_then(|group| group.processes()),
                    interfaces,
                }
            })
            .collect())
    })
    .await
}

/// The file of a pod's network namespace while it has one.
fn network_namespace(pod: &Snapshot) -> Option<PathBuf> {
    let ready = pod.pod.state == PodState::Ready;
    pod.pod.network_namespace.clone().filter(|_| ready)
}

/// The interfaces of each namespace; none where they cannot be read.
fn interfaces(
    host: &dyn crate::host::Host,
    namespaces: &[Option<PathBuf>],
) -> Vec<Vec<InterfaceUsage>> {
    let paths: Vec<_> = namespaces.iter().flatten().cloned().collect();
    let mut counters = host.interface_counters(&paths).into_iter();
    namespaces
        .iter()
        .map(|path| match (path, path.as_ref().and_then(|_| counters.next())) {
            (_, Some(Ok(found))) => found,
            (Some(path), Some(Err(error))) => {
                tracing::debug!(namespace = %path.display(), %error, "cannot read the interface counters");
                Vec::new()
            }
            _ => Vec::new(),
        })
        .collect()
}
