//! Names, labels and samples belong together.

use super::{LABELS, descriptors, families, pod};
use insula_isolators::details::{Details, DeviceIo, HugePages, ProcessCounts};
use insula_isolators::isolator::Usage;
use insula_isolators::pressure::{Pressure, Stall};
use insula_pods::{Capacity, Device, FilesystemUsage, InterfaceUsage, Measured, PodMetrics};
use std::collections::{BTreeMap, BTreeSet};

/// What kubelet's cAdvisor endpoint exports, without `container_`.
const NAMES: &str = "blkio_device_usage_total cpu_cfs_periods_total \
    cpu_cfs_throttled_periods_total cpu_cfs_throttled_seconds_total cpu_system_seconds_total \
    cpu_usage_seconds_total cpu_user_seconds_total file_descriptors fs_inodes_free \
    fs_inodes_total fs_limit_bytes fs_reads_bytes_total fs_reads_total fs_usage_bytes \
    fs_writes_bytes_total fs_writes_total hugetlb_max_usage_bytes hugetlb_usage_bytes last_seen \
    memory_cache memory_failcnt memory_failures_total memory_kernel_usage memory_mapped_file \
    memory_max_usage_bytes memory_rss memory_swap memory_usage_bytes memory_working_set_bytes \
    network_receive_bytes_total network_receive_errors_total \
    network_receive_packets_dropped_total network_receive_packets_total \
    network_transmit_bytes_total network_transmit_errors_total \
    network_transmit_packets_dropped_total network_transmit_packets_total oom_events_total \
    pressure_cpu_stalled_seconds_total pressure_cpu_waiting_seconds_total \
    pressure_io_stalled_seconds_total pressure_io_waiting_seconds_total \
    pressure_memory_stalled_seconds_total pressure_memory_waiting_seconds_total processes sockets \
    spec_cpu_period spec_cpu_quota spec_cpu_shares spec_memory_limit_bytes \
    spec_memory_reservation_limit_bytes spec_memory_swap_limit_bytes start_time_seconds threads \
    threads_max ulimits_soft";

fn everything() -> Measured {
    let stall = |total| Stall {
        total,
        ..Stall::default()
    };
    let pressure = Some(Pressure {
        some: stall(3_500_000),
        full: stall(1_000_000),
    });
    let device = Device {
        name: "/dev/vda".to_owned(),
        numbers: (254, 0),
    };
    Measured {
        timestamp: 5_000_000_000,
        usage: Usage {
            cpu_nanoseconds: Some(7_900_000_000),
            memory_usage: Some(1),
            memory_working_set: Some(2),
            memory_rss: Some(3),
            memory_available: Some(4),
            page_faults: Some(5),
            major_page_faults: Some(6),
            swap_usage: Some(7),
            swap_available: Some(8),
            processes: Some(9),
            cpu_pressure: pressure,
            memory_pressure: pressure,
            io_pressure: pressure,
        },
        details: Details {
            cpu_user_nanoseconds: Some(1),
            cpu_system_nanoseconds: Some(1),
            cpu_periods: Some(1),
            cpu_throttled_periods: Some(1),
            cpu_throttled_nanoseconds: Some(1),
            memory_cache: Some(1),
            memory_kernel: Some(1),
            memory_mapped_file: Some(1),
            memory_max_usage: Some(1),
            memory_limit_hits: Some(1),
            memory_active_file: Some(1),
            memory_inactive_file: Some(1),
            oom_kills: Some(1),
            memory_limit: Some(1),
            memory_reservation: Some(1),
            memory_swap_limit: Some(1),
            threads_limit: Some(1),
            devices: None,
            huge_pages: vec![HugePages {
                size: "2MB".to_owned(),
                usage: 1,
                max_usage: Some(1),
            }],
            processes: Some(ProcessCounts {
                processes: 1,
                descriptors: 3,
                sockets: 1,
                open_files_limit: Some(1024),
            }),
        },
        devices: Some(vec![(device.clone(), DeviceIo::default())]),
        writable_layer: Some(FilesystemUsage {
            timestamp: 1,
            mountpoint: "/".into(),
            used_bytes: 1,
            inodes_used: 1,
        }),
        capacity: Some(Capacity {
            device,
            bytes: 1,
            inodes: 1,
            inodes_free: 1,
        }),
    }
}

#[test]
fn every_name_is_declared_once_and_has_help() {
    let declared = descriptors(&everything());
    let names: BTreeSet<_> = declared.iter().map(|one| one.name.as_str()).collect();
    assert_eq!(names.len(), declared.len(), "no name twice");
    let wanted: BTreeSet<_> = NAMES
        .split_whitespace()
        .map(|name| format!("container_{name}"))
        .collect();
    assert_eq!(wanted.len(), 56);
    let missing: Vec<_> = wanted
        .iter()
        .filter(|name| !names.contains(name.as_str()))
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
    for one in &declared {
        assert!(one.help.ends_with('.'), "{}", one.name);
        assert!(
            one.label_keys.starts_with(&LABELS.map(str::to_owned)),
            "{}",
            one.name
        );
    }
}

#[test]
fn samples_have_a_value_for_each_label() {
    let measured = everything();
    let declared: BTreeMap<_, _> = descriptors(&measured)
        .into_iter()
        .map(|one| (one.name, one.label_keys.len()))
        .collect();
    let resources = insula_isolators::spec::Resources::default();
    let source = super::Source {
        measured: &measured,
        started_at: 4_999_999_999,
        resources: &resources,
    };
    let labels = ["p", "n", "c", "i", "m"].map(str::to_owned);
    for family in families::all() {
        for (own, value) in family.read.values(&source) {
            let sample = family.sample(&labels, own, 1, value);
            assert_eq!(
                sample.label_values.len(),
                declared[&sample.name],
                "{}",
                sample.name
            );
        }
    }
    let value = |name: &str| {
        let family = families::all().find(|family| family.name == name).unwrap();
        family.read.values(&source)
    };
    for (name, expected) in [
        ("container_cpu_usage_seconds_total", 7),
        ("container_pressure_io_waiting_seconds_total", 3),
        ("container_pressure_io_stalled_seconds_total", 1),
        ("container_start_time_seconds", 4),
        ("container_last_seen", 5),
        ("container_spec_cpu_period", 100_000),
        ("container_ulimits_soft", 1024),
    ] {
        assert_eq!(value(name)[0].1, expected, "{name}");
    }
    assert_eq!(value("container_spec_cpu_quota"), [], "no quota, no sample");
    assert_eq!(value("container_memory_failures_total").len(), 4);
}

#[test]
fn what_the_kernel_does_not_measure_is_not_declared() {
    let mut measured = everything();
    measured.usage.cpu_pressure = None;
    measured.details.huge_pages.clear();
    measured.devices = None;
    let names: Vec<_> = descriptors(&measured)
        .into_iter()
        .map(|one| one.name)
        .collect();
    for part in ["pressure_cpu", "hugetlb", "fs_reads", "fs_writes", "blkio"] {
        assert!(!names.iter().any(|name| name.contains(part)), "{part}");
    }
    assert!(names.iter().any(|name| name.contains("pressure_io")));
}

#[test]
fn a_pod_has_the_samples_of_its_interfaces() {
    let interface = InterfaceUsage {
        name: "eth0".to_owned(),
        rx_bytes: 1,
        rx_packets: 2,
        rx_errors: 3,
        rx_dropped: 4,
        tx_bytes: 5,
        tx_packets: 6,
        tx_errors: 7,
        tx_dropped: 8,
    };
    let loopback = InterfaceUsage {
        name: "lo".to_owned(),
        ..interface.clone()
    };
    let status = crate::convert::status::tests::a_pod();
    let shown = pod(&PodMetrics {
        status: std::sync::Arc::new(status),
        timestamp: 9,
        interfaces: vec![loopback, interface],
        containers: Vec::new(),
    });
    assert_eq!(shown.metrics.len(), 8);
    let sum: u64 = shown
        .metrics
        .iter()
        .map(|one| one.value.unwrap().value)
        .sum();
    assert_eq!(sum, 36, "each counter once");
    for sample in &shown.metrics {
        assert_eq!(sample.label_values.len(), 6);
        assert_eq!(sample.label_values[5], "eth0");
    }
}
