//! What only metrics show of a cgroup: more files than the regular measurement
//! reads, so it is asked for by itself.

mod devices;
mod processes;

pub use devices::{DeviceIo, parse_v1, parse_v2};
pub use processes::ProcessCounts;

use crate::memory::{UNLIMITED_V1, keyed};
use insula_sys::cgroup::{Cgroup, Hierarchy, Layout, Version};

/// Measurements of one cgroup beyond [`Usage`](crate::isolator::Usage); `None`
/// is "not known".
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Details {
    /// Nanoseconds of processor time outside the kernel.
    pub cpu_user_nanoseconds: Option<u64>,
    /// Nanoseconds of processor time in the kernel.
    pub cpu_system_nanoseconds: Option<u64>,
    /// Periods of the bandwidth limit that have passed.
    pub cpu_periods: Option<u64>,
    /// Periods in which the quota was used up.
    pub cpu_throttled_periods: Option<u64>,
    /// Nanoseconds for which processes were held back.
    pub cpu_throttled_nanoseconds: Option<u64>,
    /// Bytes of the page cache.
    pub memory_cache: Option<u64>,
    /// Bytes that the kernel uses for the cgroup.
    pub memory_kernel: Option<u64>,
    /// Bytes of files that are mapped.
    pub memory_mapped_file: Option<u64>,
    /// The most bytes that were ever charged.
    pub memory_max_usage: Option<u64>,
    /// How often the limit was hit.
    pub memory_limit_hits: Option<u64>,
    /// Bytes of the page cache that were used lately.
    pub memory_active_file: Option<u64>,
    /// Bytes of the page cache that were not.
    pub memory_inactive_file: Option<u64>,
    /// Processes killed for want of memory.
    pub oom_kills: Option<u64>,
    /// The limit of memory in bytes; 0 is none.
    pub memory_limit: Option<u64>,
    /// Memory that is left alone as long as possible, in bytes; 0 is none.
    pub memory_reservation: Option<u64>,
    /// The limit of memory and swap together in bytes; 0 is none.
    pub memory_swap_limit: Option<u64>,
    /// The limit of processes and threads; 0 is none.
    pub threads_limit: Option<u64>,
    /// Reads and writes by block device; those without any are left out.
    pub devices: Option<Vec<DeviceIo>>,
    /// Huge pages by size; empty without the controller.
    pub huge_pages: Vec<HugePages>,
    /// What its processes hold.
    pub processes: Option<ProcessCounts>,
}

/// Use of huge pages of one size, in bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HugePages {
    /// The size as the kernel names it, such as `2MB`.
    pub size: String,
    /// Bytes in use.
    pub usage: u64,
    /// The most that were ever in use; version 2 does not keep that.
    pub max_usage: Option<u64>,
}

/// Measures a cgroup in full. What cannot be read is left out.
pub fn details(cgroup: &Cgroup) -> Details {
    let mut details = Details::default();
    cpu(cgroup, &mut details);
    match cgroup.controller("memory") {
        Some(Version::V2) => memory_v2(cgroup, &mut details),
        Some(Version::V1) => memory_v1(cgroup, &mut details),
        None => {}
    }
    details.oom_kills = cgroup.oom_kills().ok();
    details.threads_limit = limit(cgroup.read_number("pids", "pids.max").ok(), u64::MAX);
    details.devices = devices::of(cgroup);
    details.huge_pages = huge_pages(cgroup);
    details.processes = processes::of(cgroup);
    details
}

fn cpu(cgroup: &Cgroup, details: &mut Details) {
    let stat = cgroup.read("cpu", "cpu.stat").unwrap_or_default();
    let nanoseconds = |key: &str| keyed(&stat, key).and_then(|number| number.checked_mul(1_000));
    details.cpu_periods = keyed(&stat, "nr_periods");
    details.cpu_throttled_periods = keyed(&stat, "nr_throttled");
    // Version 1 counts in nanoseconds, version 2 in microseconds.
    details.cpu_throttled_nanoseconds =
        keyed(&stat, "throttled_time").or_else(|| nanoseconds("throttled_usec"));
    if cgroup.controller("cpuacct") == Some(Version::V1) {
        let number = |file: &str| cgroup.read_number("cpuacct", file).ok();
        details.cpu_user_nanoseconds = number("cpuacct.usage_user");
        details.cpu_system_nanoseconds = number("cpuacct.usage_sys");
    } else {
        details.cpu_user_nanoseconds = nanoseconds("user_usec");
        details.cpu_system_nanoseconds = nanoseconds("system_usec");
    }
}

fn memory_v1(cgroup: &Cgroup, details: &mut Details) {
    let number = |file: &str| cgroup.read_number("memory", file).ok();
    let stat = cgroup.read("memory", "memory.stat").unwrap_or_default();
    details.memory_cache = keyed(&stat, "total_cache");
    details.memory_mapped_file = keyed(&stat, "total_mapped_file");
    details.memory_active_file = keyed(&stat, "total_active_file");
    details.memory_inactive_file = keyed(&stat, "total_inactive_file");
    details.memory_kernel = number("memory.kmem.usage_in_bytes");
    details.memory_max_usage = number("memory.max_usage_in_bytes");
    details.memory_limit_hits = number("memory.failcnt");
    details.memory_limit = limit(number("memory.limit_in_bytes"), UNLIMITED_V1);
    details.memory_reservation = limit(number("memory.soft_limit_in_bytes"), UNLIMITED_V1);
    details.memory_swap_limit = limit(number("memory.memsw.limit_in_bytes"), UNLIMITED_V1);
}

fn memory_v2(cgroup: &Cgroup, details: &mut Details) {
    let number = |file: &str| cgroup.read_number("memory", file).ok();
    let stat = cgroup.read("memory", "memory.stat").unwrap_or_default();
    details.memory_cache = keyed(&stat, "file");
    details.memory_mapped_file = keyed(&stat, "file_mapped");
    details.memory_active_file = keyed(&stat, "active_file");
    details.memory_inactive_file = keyed(&stat, "inactive_file");
    details.memory_kernel = keyed(&stat, "kernel");
    details.memory_max_usage = number("memory.peak");
    let events = cgroup.read("memory", "memory.events").unwrap_or_default();
    details.memory_limit_hits = keyed(&events, "max");
    details.memory_limit = limit(number("memory.max"), u64::MAX);
    details.memory_reservation = number("memory.low");
    details.memory_swap_limit = match (number("memory.max"), number("memory.swap.max")) {
        (Some(u64::MAX), Some(_)) | (Some(_), Some(u64::MAX)) => Some(0),
        (Some(memory), Some(swap)) => Some(memory.saturating_add(swap)),
        _ => None,
    };
}

/// A limit, with 0 for none, as kubelet's own metrics show it.
fn limit(value: Option<u64>, none_from: u64) -> Option<u64> {
    value.map(|value| if value >= none_from { 0 } else { value })
}

fn huge_pages(cgroup: &Cgroup) -> Vec<HugePages> {
    let Some(version) = cgroup.controller("hugetlb") else {
        return Vec::new();
    };
    let (usage, max_usage) = match version {
        Version::V1 => ("usage_in_bytes", Some("max_usage_in_bytes")),
        Version::V2 => ("current", None),
    };
    page_sizes()
        .into_iter()
        .filter_map(|size| {
            let number = |file: &str| {
                let file = format!("hugetlb.{size}.{file}");
                cgroup.read_number("hugetlb", &file).ok()
            };
            Some(HugePages {
                usage: number(usage)?,
                max_usage: max_usage.and_then(number),
                size,
            })
        })
        .collect()
}

/// What [`details`] will say of huge pages in a cgroup that is yet to be made.
pub fn huge_pages_of_new_groups(layout: &Layout) -> Vec<HugePages> {
    let counts = |hierarchy: &&Hierarchy| hierarchy.controllers.iter().any(|it| it == "hugetlb");
    let Some(hierarchy) = layout.hierarchies().iter().find(counts) else {
        return Vec::new();
    };
    let of_size = |size| HugePages {
        usage: 0,
        max_usage: (hierarchy.version == Version::V1).then_some(0),
        size,
    };
    page_sizes().into_iter().map(of_size).collect()
}

/// The sizes of huge pages of this machine, as cgroup files name them
/// (admin-guide/mm/hugetlbpage.rst; mm/hugetlb_cgroup.c, `mem_fmt`).
fn page_sizes() -> Vec<String> {
    let Ok(entries) = std::fs::read_dir("/sys/kernel/mm/hugepages") else {
        return Vec::new();
    };
    let mut sizes: Vec<u64> = entries
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name();
            let name = name.to_str()?.strip_prefix("hugepages-")?;
            name.strip_suffix("kB")?.parse().ok()
        })
        .collect();
    sizes.sort_unstable();
    sizes.into_iter().map(page_size).collect()
}

fn page_size(kibibytes: u64) -> String {
    match kibibytes {
        0..1024 => format!("{kibibytes}KB"),
        1024..1_048_576 => format!("{}MB", kibibytes / 1024),
        _ => format!("{}GB", kibibytes / 1_048_576),
    }
}

#[cfg(test)]
mod tests {
    use super::{UNLIMITED_V1, limit, page_size};

    #[test]
    fn sizes_are_named_as_the_kernel_names_them() {
        for (kibibytes, name) in [(64, "64KB"), (2048, "2MB"), (1_048_576, "1GB")] {
            assert_eq!(page_size(kibibytes), name);
        }
    }

    #[test]
    fn no_limit_is_zero() {
        for (value, expected) in [
            (None, None),
            (Some(5), Some(5)),
            (Some(UNLIMITED_V1), Some(0)),
            (Some(u64::MAX), Some(0)),
        ] {
            assert_eq!(limit(value, UNLIMITED_V1), expected);
        }
    }
}
