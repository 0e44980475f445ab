//! The names, and where their values come from.

use super::{Family, Read, Source, Value, device_labels};
use insula_cri_api::v1::MetricType::{self, Counter, Gauge};
use insula_isolators::pressure::Pressure;

/// Bandwidth period of the kernel when nothing is written, in microseconds
/// (scheduler/sched-bwc.rst).
const DEFAULT_PERIOD: u64 = 100_000;

/// Shares of a cgroup to which nothing is written (cgroup-v1, `cpu.shares`; in
/// version 2 the weight 100 stands for them).
const DEFAULT_SHARES: u64 = 1024;

/// Every family, by the thing that it measures.
pub(super) fn all() -> impl Iterator<Item = &'static Family> {
    [
        CPU,
        MEMORY,
        DISK,
        NETWORK,
        PROCESSES,
        PRESSURE,
        SPECIFICATION,
    ]
    .into_iter()
    .flatten()
}

const fn family(
    name: &'static str,
    help: &'static str,
    labels: &'static [&'static str],
    kind: MetricType,
    read: Read,
) -> Family {
    Family {
        name,
        help,
        labels,
        kind,
        read,
    }
}

const fn counter(name: &'static str, help: &'static str, read: One) -> Family {
    family(name, help, &[], Counter, Read::One(read))
}

const fn gauge(name: &'static str, help: &'static str, read: One) -> Family {
    family(name, help, &[], Gauge, Read::One(read))
}

type One = fn(&Source<'_>) -> Option<u64>;

fn seconds(nanoseconds: Option<u64>) -> Option<u64> {
    nanoseconds.map(|nanoseconds| nanoseconds / 1_000_000_000)
}

fn stalled(pressure: Option<Pressure>) -> Option<u64> {
    pressure.map(|pressure| pressure.full.total / 1_000_000)
}

fn waiting(pressure: Option<Pressure>) -> Option<u64> {
    pressure.map(|pressure| pressure.some.total / 1_000_000)
}

/// A limit that was asked for, where 0 and less mean none.
fn asked(limit: i64) -> Option<u64> {
    u64::try_from(limit).ok().filter(|limit| *limit > 0)
}

const CPU: &[Family] = &[
    family(
        "container_cpu_usage_seconds_total",
        "Processor time used, in seconds.",
        &["cpu"],
        Counter,
        Read::Fixed(&["total"], |source| {
            seconds(source.measured.usage.cpu_nanoseconds)
        }),
    ),
    counter(
        "container_cpu_user_seconds_total",
        "Processor time used outside the kernel, in seconds.",
        |source| seconds(source.measured.details.cpu_user_nanoseconds),
    ),
    counter(
        "container_cpu_system_seconds_total",
        "Processor time used by the kernel, in seconds.",
        |source| seconds(source.measured.details.cpu_system_nanoseconds),
    ),
    counter(
        "container_cpu_cfs_periods_total",
        "Periods of the processor limit that have passed.",
        |source| source.measured.details.cpu_periods,
    ),
    counter(
        "container_cpu_cfs_throttled_periods_total",
        "Periods in which the processor limit was reached.",
        |source| source.measured.details.cpu_throttled_periods,
    ),
    counter(
        "container_cpu_cfs_throttled_seconds_total",
        "Time for which the processor limit held processes back, in seconds.",
        |source| seconds(source.measured.details.cpu_throttled_nanoseconds),
    ),
];

const MEMORY: &[Family] = &[
    gauge(
        "container_memory_usage_bytes",
        "Memory charged, in bytes.",
        |source| source.measured.usage.memory_usage,
    ),
    gauge(
        "container_memory_working_set_bytes",
        "Memory charged that cannot be taken back at once, in bytes.",
        |source| source.measured.usage.memory_working_set,
    ),
    gauge(
        "container_memory_rss",
        "Anonymous memory, in bytes.",
        |source| source.measured.usage.memory_rss,
    ),
    gauge(
        "container_memory_swap",
        "Memory swapped out, in bytes.",
        |source| source.measured.usage.swap_usage,
    ),
    gauge(
        "container_memory_cache",
        "Page cache, in bytes.",
        |source| source.measured.details.memory_cache,
    ),
    gauge(
        "container_memory_mapped_file",
        "Mapped files, in bytes.",
        |source| source.measured.details.memory_mapped_file,
    ),
    gauge(
        "container_memory_kernel_usage",
        "Memory that the kernel uses for the container, in bytes.",
        |source| source.measured.details.memory_kernel,
    ),
    gauge(
        "container_memory_max_usage_bytes",
        "The most memory that was ever charged, in bytes.",
        |source| source.measured.details.memory_max_usage,
    ),
    gauge(
        "container_memory_total_active_file_bytes",
        "Page cache that was used lately, in bytes.",
        |source| source.measured.details.memory_active_file,
    ),
    gauge(
        "container_memory_total_inactive_file_bytes",
        "Page cache that was not used lately, in bytes.",
        |source| source.measured.details.memory_inactive_file,
    ),
    counter(
        "container_memory_failcnt",
        "How often the memory limit was hit.",
        |source| source.measured.details.memory_limit_hits,
    ),
    family(
        "container_memory_failures_total",
        "Page faults.",
        &["failure_type", "scope"],
        Counter,
        Read::Many(page_faults),
    ),
    counter(
        "container_oom_events_total",
        "Processes killed for want of memory.",
        |source| source.measured.details.oom_kills,
    ),
    family(
        "container_hugetlb_usage_bytes",
        "Huge pages in use, in bytes.",
        &["pagesize"],
        Gauge,
        Read::Many(|source| {
            let pages = source.measured.details.huge_pages.iter();
            pages
                .map(|pages| (vec![pages.size.clone()], pages.usage))
                .collect()
        }),
    ),
    family(
        "container_hugetlb_max_usage_bytes",
        "The most huge pages that were ever in use, in bytes.",
        &["pagesize"],
        Gauge,
        Read::Many(|source| {
            let pages = source.measured.details.huge_pages.iter();
            pages
                .filter_map(|pages| Some((vec![pages.size.clone()], pages.max_usage?)))
                .collect()
        }),
    ),
];

const DISK: &[Family] = &[
    family(
        "container_fs_usage_bytes",
        "Bytes written to the root file system that are still there.",
        &["device"],
        Gauge,
        Read::Filesystem(|source, _| Some(source.measured.writable_layer.as_ref()?.used_bytes)),
    ),
    family(
        "container_fs_limit_bytes",
        "Size of the file system that holds the root file system, in bytes.",
        &["device"],
        Gauge,
        Read::Filesystem(|_, capacity| Some(capacity.bytes)),
    ),
    family(
        "container_fs_inodes_total",
        "Files that the file system can hold.",
        &["device"],
        Gauge,
        Read::Filesystem(|_, capacity| Some(capacity.inodes)),
    ),
    family(
        "container_fs_inodes_free",
        "Files that the file system can hold yet.",
        &["device"],
        Gauge,
        Read::Filesystem(|_, capacity| Some(capacity.inodes_free)),
    ),
    family(
        "container_fs_reads_bytes_total",
        "Bytes read from the device.",
        &["device"],
        Counter,
        Read::Device(|io| io.read_bytes),
    ),
    family(
        "container_fs_reads_total",
        "Reads from the device.",
        &["device"],
        Counter,
        Read::Device(|io| io.reads),
    ),
    family(
        "container_fs_writes_bytes_total",
        "Bytes written to the device.",
        &["device"],
        Counter,
        Read::Device(|io| io.write_bytes),
    ),
    family(
        "container_fs_writes_total",
        "Writes to the device.",
        &["device"],
        Counter,
        Read::Device(|io| io.writes),
    ),
    family(
        "container_blkio_device_usage_total",
        "Bytes read from and written to the device.",
        &["device", "major", "minor", "operation"],
        Counter,
        Read::Many(device_usage),
    ),
];

const NETWORK: &[Family] = &[
    family(
        "container_network_receive_bytes_total",
        "Bytes received.",
        &["interface"],
        Counter,
        Read::Interface(|interface| interface.rx_bytes),
    ),
    family(
        "container_network_receive_packets_total",
        "Packets received.",
        &["interface"],
        Counter,
        Read::Interface(|interface| interface.rx_packets),
    ),
    family(
        "container_network_receive_errors_total",
        "Packets not received because of an error.",
        &["interface"],
        Counter,
        Read::Interface(|interface| interface.rx_errors),
    ),
    family(
        "container_network_receive_packets_dropped_total",
        "Packets dropped instead of received.",
        &["interface"],
        Counter,
        Read::Interface(|interface| interface.rx_dropped),
    ),
    family(
        "container_network_transmit_bytes_total",
        "Bytes sent.",
        &["interface"],
        Counter,
        Read::Interface(|interface| interface.tx_bytes),
    ),
    family(
        "container_network_transmit_packets_total",
        "Packets sent.",
        &["interface"],
        Counter,
        Read::Interface(|interface| interface.tx_packets),
    ),
    family(
        "container_network_transmit_errors_total",
        "Packets not sent because of an error.",
        &["interface"],
        Counter,
        Read::Interface(|interface| interface.tx_errors),
    ),
    family(
        "container_network_transmit_packets_dropped_total",
        "Packets dropped instead of sent.",
        &["interface"],
        Counter,
        Read::Interface(|interface| interface.tx_dropped),
    ),
];

const PROCESSES: &[Family] = &[
    gauge("container_processes", "Processes.", |source| {
        Some(source.measured.details.processes?.processes)
    }),
    gauge(
        "container_file_descriptors",
        "Open descriptors of all processes.",
        |source| Some(source.measured.details.processes?.descriptors),
    ),
    gauge(
        "container_sockets",
        "Open sockets of all processes.",
        |source| Some(source.measured.details.processes?.sockets),
    ),
    gauge("container_threads", "Processes and threads.", |source| {
        source.measured.usage.processes
    }),
    gauge(
        "container_threads_max",
        "Processes and threads that there can be; 0 is no limit.",
        |source| source.measured.details.threads_limit,
    ),
    family(
        "container_ulimits_soft",
        "Soft resource limits of the main process.",
        &["ulimit"],
        Gauge,
        Read::Fixed(&["max_open_files"], |source| {
            source.measured.details.processes?.open_files_limit
        }),
    ),
    gauge(
        "container_last_seen",
        "When the container was measured, in seconds since the epoch.",
        |source| u64::try_from(source.measured.timestamp / 1_000_000_000).ok(),
    ),
    gauge(
        "container_start_time_seconds",
        "When the container was started, in seconds since the epoch.",
        |source| u64::try_from(source.started_at / 1_000_000_000).ok(),
    ),
];

const PRESSURE: &[Family] = &[
    counter(
        "container_pressure_cpu_waiting_seconds_total",
        "Time in which a process waited for processors, in seconds.",
        |source| waiting(source.measured.usage.cpu_pressure),
    ),
    counter(
        "container_pressure_cpu_stalled_seconds_total",
        "Time in which all processes waited for processors, in seconds.",
        |source| stalled(source.measured.usage.cpu_pressure),
    ),
    counter(
        "container_pressure_memory_waiting_seconds_total",
        "Time in which a process waited for memory, in seconds.",
        |source| waiting(source.measured.usage.memory_pressure),
    ),
    counter(
        "container_pressure_memory_stalled_seconds_total",
        "Time in which all processes waited for memory, in seconds.",
        |source| stalled(source.measured.usage.memory_pressure),
    ),
    counter(
        "container_pressure_io_waiting_seconds_total",
        "Time in which a process waited for block devices, in seconds.",
        |source| waiting(source.measured.usage.io_pressure),
    ),
    counter(
        "container_pressure_io_stalled_seconds_total",
        "Time in which all processes waited for block devices, in seconds.",
        |source| stalled(source.measured.usage.io_pressure),
    ),
];

const SPECIFICATION: &[Family] = &[
    gauge(
        "container_spec_cpu_period",
        "Period of the processor limit, in microseconds.",
        |source| Some(asked(source.resources.cpu_period).unwrap_or(DEFAULT_PERIOD)),
    ),
    gauge(
        "container_spec_cpu_quota",
        "Processor time in each period, in microseconds; only of containers with a limit.",
        |source| asked(source.resources.cpu_quota),
    ),
    gauge(
        "container_spec_cpu_shares",
        "Share of the processors when they are short.",
        |source| Some(asked(source.resources.cpu_shares).unwrap_or(DEFAULT_SHARES)),
    ),
    gauge(
        "container_spec_memory_limit_bytes",
        "Memory limit in bytes; 0 is none.",
        |source| source.measured.details.memory_limit,
    ),
    gauge(
        "container_spec_memory_reservation_limit_bytes",
        "Memory that is left alone as long as possible, in bytes; 0 is none.",
        |source| source.measured.details.memory_reservation,
    ),
    gauge(
        "container_spec_memory_swap_limit_bytes",
        "Limit of memory and swap together, in bytes; 0 is none.",
        |source| source.measured.details.memory_swap_limit,
    ),
];

/// The kernel counts them for a cgroup with all below it.
fn page_faults(source: &Source<'_>) -> Vec<Value> {
    let usage = &source.measured.usage;
    let kinds = [
        ("pgfault", usage.page_faults),
        ("pgmajfault", usage.major_page_faults),
    ];
    let mut values = Vec::new();
    for (kind, count) in kinds {
        for scope in ["container", "hierarchy"] {
            let labels = vec![kind.to_owned(), scope.to_owned()];
            values.extend(count.map(|count| (labels, count)));
        }
    }
    values
}

fn device_usage(source: &Source<'_>) -> Vec<Value> {
    let mut values = Vec::new();
    for (device, io) in source.measured.devices.iter().flatten() {
        for (operation, bytes) in [("Read", io.read_bytes), ("Write", io.write_bytes)] {
            let mut labels = device_labels(device);
            labels.push(operation.to_owned());
            values.push((labels, bytes));
        }
    }
    values
}
