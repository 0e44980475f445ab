//! What metrics show of pods and containers: all that can be measured.

use super::{FilesystemUsage, InterfaceUsage, interfaces, network_namespace, running, usage};
use crate::env::Env;
use crate::error::Result;
use crate::files::{self, blocking};
use crate::registry::{Snapshot, View};
use crate::status::{ContainerStatus, PodState, PodStatus};
use insula_isolators::details::{Details, DeviceIo};
use insula_isolators::isolator::Usage;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// All that was measured of a pod.
#[derive(Debug, Clone)]
pub struct PodMetrics {
    /// Which pod.
    pub status: Arc<PodStatus>,
    /// When it was measured, nanoseconds since the epoch.
    pub timestamp: i64,
    /// Of its network interfaces, `lo` too; empty on the host's network.
    pub interfaces: Vec<InterfaceUsage>,
    /// Of each of its running containers.
    pub containers: Vec<ContainerMetrics>,
}

/// All that was measured of a container.
#[derive(Debug, Clone)]
pub struct ContainerMetrics {
    /// Which container.
    pub status: Arc<ContainerStatus>,
    /// What was measured.
    pub measured: Measured,
}

/// All that can be measured of a cgroup and a root file system.
#[derive(Debug, Clone)]
pub struct Measured {
    /// When, nanoseconds since the epoch.
    pub timestamp: i64,
    /// As in stats.
    pub usage: Usage,
    /// Beyond that.
    pub details: Details,
    /// Reads and writes by device; the device of the writable layers is always
    /// among them. `None` where the kernel does not count them.
    pub devices: Option<Vec<(Device, DeviceIo)>>,
    /// What was written to the root file system.
    pub writable_layer: Option<FilesystemUsage>,
    /// What there is room for.
    pub capacity: Option<Capacity>,
}

/// A block device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// `/dev/NAME`, or its numbers where it has no name.
    pub name: String,
    /// Its numbers.
    pub numbers: (u32, u32),
}

/// The file system of the writable layers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capacity {
    /// What it lies on.
    pub device: Device,
    /// Its size in bytes.
    pub bytes: u64,
    /// Files that it can hold.
    pub inodes: u64,
    /// Files that it can hold yet.
    pub inodes_free: u64,
}

/// Measures all ready pods and their running containers.
pub(crate) async fn of_pods(
    env: &Arc<Env>,
    snapshots: &[Arc<Snapshot>],
) -> Result<Vec<PodMetrics>> {
    let ready = |snapshot: &&Arc<Snapshot>| snapshot.pod.state == PodState::Ready;
    let pods: Vec<_> = snapshots.iter().filter(ready).cloned().collect();
    let views: Vec<View> = pods.iter().flat_map(|pod| running(pod)).collect();
    let layers = super::writable_layers(env, &views).await;
    let host = Arc::clone(&env.host);
    let root = env.config.root.clone();
    let stage = format!("measure {} pods in full", pods.len());
    blocking(stage, env.config.deadlines.supervisor, move || {
        let capacity = capacity(&root);
        let mut measured: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for (view, writable_layer) in views.into_iter().zip(layers) {
            let found = container(&view, writable_layer, capacity.clone());
            let pod = found.status.pod_id.clone();
            measured.entry(pod).or_default().push(found);
        }
        let namespaces: Vec<_> = pods.iter().map(|pod| network_namespace(pod)).collect();
        let interfaces = interfaces(host.as_ref(), &namespaces);
        let whole = |(pod, interfaces): (Arc<Snapshot>, _)| PodMetrics {
            timestamp: files::now(),
            interfaces,
            containers: measured.remove(&pod.pod.id).unwrap_or_default(),
            status: Arc::clone(&pod.pod),
        };
        Ok(pods.into_iter().zip(interfaces).map(whole).collect())
    })
    .await
}

/// What can be measured here at all, seen at the cgroup of the supervisors.
pub(crate) async fn sample(env: &Arc<Env>) -> Result<Measured> {
    let host = Arc::clone(&env.host);
    let root = env.config.root.clone();
    let deadline = env.config.deadlines.supervisor;
    blocking("look at what can be measured", deadline, move || {
        let (usage, details) = host.sample();
        let layer = FilesystemUsage {
            timestamp: files::now(),
            mountpoint: root.clone(),
            used_bytes: 0,
            inodes_used: 0,
        };
        Ok(complete(&usage, details, Some(layer), capacity(&root)))
    })
    .await
}

fn container(
    view: &View,
    writable_layer: Option<FilesystemUsage>,
    capacity: Option<Capacity>,
) -> ContainerMetrics {
    let group = view.container.group.as_ref();
    let details = group.map_or_else(Details::default, |group| group.details());
    ContainerMetrics {
        status: Arc::clone(&view.status),
        measured: complete(&usage(group), details, writable_layer, capacity),
    }
}

fn complete(
    usage: &Usage,
    mut details: Details,
    writable_layer: Option<FilesystemUsage>,
    capacity: Option<Capacity>,
) -> Measured {
    let devices = details.devices.take().map(|mut devices| {
        if let Some(capacity) = &capacity
            && devices
                .iter()
                .all(|io| io.device != capacity.device.numbers)
        {
            devices.push(DeviceIo {
                device: capacity.device.numbers,
                ..DeviceIo::default()
            });
        }
        let named = |io: DeviceIo| (Device::of(io.device), io);
        devices.into_iter().map(named).collect()
    });
    Measured {
        timestamp: files::now(),
        usage: *usage,
        details,
        devices,
        writable_layer,
        capacity,
    }
}

fn capacity(root: &Path) -> Option<Capacity> {
    let stat = rustix::fs::stat(root).ok()?;
    let filesystem = rustix::fs::statvfs(root).ok()?;
    let numbers = (
        rustix::fs::major(stat.st_dev),
        rustix::fs::minor(stat.st_dev),
    );
    Some(Capacity {
        device: Device::of(numbers),
        bytes: filesystem.f_blocks.saturating_mul(filesystem.f_frsize),
        inodes: filesystem.f_files,
        inodes_free: filesystem.f_ffree,
    })
}

// === impl Device ===

impl Device {
    /// Names a device as udev does (sysfs, `/sys/dev/block/M:N/uevent`).
    fn of(numbers @ (major, minor): (u32, u32)) -> Self {
        let path = format!("/sys/dev/block/{major}:{minor}/uevent");
        let text = files::read_bounded(Path::new(&path), 4096).unwrap_or_default();
        let name = String::from_utf8(text).ok().and_then(|text| {
            let name = text
                .lines()
                .find_map(|line| line.strip_prefix("DEVNAME="))?;
            Some(format!("/dev/{name}"))
        });
        Self {
            name: name.unwrap_or_else(|| format!("{major}:{minor}")),
            numbers,
        }
    }
}
