//! Measurements, as the CRI shows them. What is not known is left out: kubelet
//! takes a missing value as missing, and a zero as zero.

use super::{container, pod};
use insula_cri_api::v1::{
    ContainerAttributes, ContainerStats as Container, CpuUsage, FilesystemIdentifier,
    FilesystemUsage as Filesystem, IoUsage, LinuxPodSandboxStats, MemoryUsage,
    NetworkInterfaceUsage, NetworkUsage, PodSandboxAttributes, PodSandboxStats, ProcessUsage,
    PsiData, PsiStats, SwapUsage, UInt64Value,
};
use insula_isolators::isolator::Usage;
use insula_isolators::pressure::{Pressure, Stall};
use insula_pods::{ContainerStats, FilesystemUsage, InterfaceUsage, PodStats};

/// The interface that CNI gives a pod; kubelet shows its counters as the pod's.
const DEFAULT_INTERFACE: &str = "eth0";

/// Every pod has one: never the pod's own interface.
pub(super) const LOOPBACK: &str = "lo";

/// What one container uses.
pub fn container(stats: &ContainerStats) -> Container {
    let spec = &stats.status.spec;
    let (usage, timestamp) = (&stats.usage, stats.timestamp);
    let has_swap = usage.swap_usage.is_some() || usage.swap_available.is_some();
    Container {
        attributes: Some(ContainerAttributes {
            id: stats.status.id.to_string(),
            metadata: Some(container::metadata_to_cri(spec)),
            labels: spec.labels.clone(),
            annotations: spec.annotations.clone(),
        }),
        cpu: Some(cpu(usage, stats.nano_cores, timestamp)),
        memory: Some(memory(usage, timestamp)),
        writable_layer: stats.writable_layer.as_ref().map(filesystem),
        swap: has_swap.then(|| SwapUsage {
            timestamp,
            swap_available_bytes: value(usage.swap_available),
            swap_usage_bytes: value(usage.swap_usage),
        }),
        io: io(usage, timestamp),
    }
}

/// What one pod uses.
pub fn pod(stats: &PodStats) -> PodSandboxStats {
    let spec = &stats.status.spec;
    let (usage, timestamp) = (&stats.usage, stats.timestamp);
    PodSandboxStats {
        attributes: Some(PodSandboxAttributes {
            id: stats.status.id.to_string(),
            metadata: Some(pod::metadata_to_cri(&spec.metadata)),
            labels: spec.labels.clone(),
            annotations: spec.annotations.clone(),
        }),
        linux: Some(LinuxPodSandboxStats {
            cpu: Some(cpu(usage, stats.nano_cores, timestamp)),
            memory: Some(memory(usage, timestamp)),
            network: network(&stats.interfaces, timestamp),
            process: Some(ProcessUsage {
                timestamp,
                process_count: value(stats.processes),
            }),
            containers: stats.containers.iter().map(container).collect(),
            io: io(usage, timestamp),
        }),
        windows: None,
    }
}

/// What a file system holds.
pub fn filesystem(usage: &FilesystemUsage) -> Filesystem {
    Filesystem {
        timestamp: usage.timestamp,
        fs_id: Some(FilesystemIdentifier {
            mountpoint: usage.mountpoint.to_string_lossy().into_owned(),
        }),
        used_bytes: value(Some(usage.used_bytes)),
        inodes_used: value(Some(usage.inodes_used)),
    }
}

fn cpu(usage: &Usage, nano_cores: Option<u64>, timestamp: i64) -> CpuUsage {
    CpuUsage {
        timestamp,
        usage_core_nano_seconds: value(usage.cpu_nanoseconds),
        usage_nano_cores: value(nano_cores),
        psi: usage.cpu_pressure.map(pressure),
    }
}

fn memory(usage: &Usage, timestamp: i64) -> MemoryUsage {
    MemoryUsage {
        timestamp,
        working_set_bytes: value(usage.memory_working_set),
        available_bytes: value(usage.memory_available),
        usage_bytes: value(usage.memory_usage),
        rss_bytes: value(usage.memory_rss),
        page_faults: value(usage.page_faults),
        major_page_faults: value(usage.major_page_faults),
        psi: usage.memory_pressure.map(pressure),
    }
}

/// The interface has a place for waits alone; bytes and operations are metrics.
fn io(usage: &Usage, timestamp: i64) -> Option<IoUsage> {
    usage.io_pressure.map(|waits| IoUsage {
        timestamp,
        psi: Some(pressure(waits)),
    })
}

fn pressure(pressure: Pressure) -> PsiStats {
    let data = |stall: Stall| PsiData {
        total: stall.total,
        avg10: stall.avg10,
        avg60: stall.avg60,
        avg300: stall.avg300,
    };
    PsiStats {
        full: Some(data(pressure.full)),
        some: Some(data(pressure.some)),
    }
}

/// The others are all that were found (`NetworkUsage` of the CRI), the loopback
/// among them: kubelet hands them out in `/stats/summary` as they are, where an
/// empty list would be no list.
fn network(interfaces: &[InterfaceUsage], timestamp: i64) -> Option<NetworkUsage> {
    let named = |name: &str| interfaces.iter().find(|one| one.name == name);
    let first = || interfaces.iter().find(|one| one.name != LOOPBACK);
    let default = named(DEFAULT_INTERFACE).or_else(first)?;
    Some(NetworkUsage {
        timestamp,
        default_interface: Some(interface(default)),
        interfaces: interfaces
            .iter()
            .filter(|other| other.name != default.name)
            .map(interface)
            .collect(),
    })
}

fn interface(usage: &InterfaceUsage) -> NetworkInterfaceUsage {
    NetworkInterfaceUsage {
        name: usage.name.clone(),
        rx_bytes: value(Some(usage.rx_bytes)),
        rx_errors: value(Some(usage.rx_errors)),
        tx_bytes: value(Some(usage.tx_bytes)),
        tx_errors: value(Some(usage.tx_errors)),
    }
}

fn value(value: Option<u64>) -> Option<UInt64Value> {
    value.map(|value| UInt64Value { value })
}

#[cfg(test)]
mod tests {
    use super::{InterfaceUsage, Pressure, Stall, network, pressure};

    fn counters(name: &str, rx_bytes: u64) -> InterfaceUsage {
        InterfaceUsage {
            name: name.into(),
            rx_bytes,
            rx_packets: 0,
            rx_errors: 0,
            rx_dropped: 0,
            tx_bytes: 0,
            tx_packets: 0,
            tx_errors: 0,
            tx_dropped: 0,
        }
    }

    #[test]
    fn some_and_full_are_not_confused() {
        let stall = |total| Stall {
            total,
            avg10: 1.5,
            ..Stall::default()
        };
        let shown = pressure(Pressure {
            some: stall(9),
            full: stall(4),
        });
        assert_eq!(
            (shown.some.unwrap().total, shown.full.unwrap().total),
            (9, 4)
        );
        assert!((shown.some.unwrap().avg10 - 1.5).abs() < f64::EPSILON);
    }

    #[test]
    fn the_default_interface_is_eth0_else_the_first() {
        for (names, default, others) in [
            (&["lo", "net1", "eth0"][..], "eth0", &["lo", "net1"][..]),
            (&["lo", "net1", "net2"], "net1", &["lo", "net2"]),
        ] {
            let interfaces: Vec<_> = names.iter().map(|name| counters(name, 1)).collect();
            let usage = network(&interfaces, 5).unwrap();
            assert_eq!(usage.default_interface.unwrap().name, default);
            let rest: Vec<_> = usage
                .interfaces
                .into_iter()
                .map(|other| other.name)
                .collect();
            assert_eq!(rest, others);
        }
        assert_eq!(network(&[], 5), None);
        assert_eq!(network(&[counters("lo", 1)], 5), None);
    }
}
