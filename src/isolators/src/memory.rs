//! Memory and swap.

use crate::change::Change;
use crate::isolator::{ApplyError, HostFacts, Isolator, Refusal, Usage};
use crate::spec::Resources;
use insula_sys::cgroup::{Cgroup, Version};
use insula_wire::plan::CgroupResources;

/// Version 1 shows "no limit" as the largest number of pages.
pub(crate) const UNLIMITED_V1: u64 = i64::MAX as u64 & !0xffff;

/// `memory.limit_in_bytes` and `memory.memsw.limit_in_bytes` of version 1;
/// `memory.max` and `memory.swap.max` of version 2.
#[derive(Debug)]
pub(crate) struct Memory;

impl Isolator for Memory {
    fn name(&self) -> &'static str {
        "memory"
    }

    /// 0 means "not set". A limit without a limit for swap means no swap, where
    /// swap is accounted; the CRI's swap limit counts memory and swap together.
    fn limits(&self, wanted: &Resources, host: &HostFacts) -> Result<CgroupResources, Refusal> {
        let or_unset = |bytes: i64| (bytes != 0).then_some(bytes.max(-1));
        let memory_limit = or_unset(wanted.memory_limit_in_bytes);
        let asked = or_unset(wanted.memory_swap_limit_in_bytes);
        if let (Some(swap), limit) = (asked, memory_limit) {
            let limit = limit.unwrap_or(-1);
            if swap != -1 && (limit == -1 || swap < limit) {
                return Err(Refusal::new(format!(
                    "memory_swap_limit_in_bytes {swap} is less than memory_limit_in_bytes {}: it counts memory and swap together",
                    wanted.memory_limit_in_bytes
                )));
            }
            if swap != -1 && swap != limit && !host.swap_accounting {
                return Err(Refusal::new(format!(
                    "memory_swap_limit_in_bytes {swap} cannot be kept: this kernel does not account swap per cgroup"
                )));
            }
        }
        let memory_swap_limit = asked.or(memory_limit).filter(|_| host.swap_accounting);
        Ok(CgroupResources {
            memory_limit,
            memory_swap_limit,
            ..CgroupResources::default()
        })
    }

    fn isolate(&self, change: &mut Change<'_>, want: &CgroupResources) -> Result<(), ApplyError> {
        if want.memory_limit.is_none() && want.memory_swap_limit.is_none() {
            return Ok(());
        }
        match change.cgroup().controller("memory") {
            Some(Version::V2) => write_v2(change, want),
            _ => write_v1(change, want),
        }
    }

    /// Refuses a limit below what is in use: the kernel would kill at once.
    fn update(&self, change: &mut Change<'_>, want: &CgroupResources) -> Result<(), ApplyError> {
        if let Some(limit) = want.memory_limit
            && let Ok(limit) = u64::try_from(limit)
        {
            let mut usage = Usage::default();
            self.usage(change.cgroup(), &mut usage);
            if let Some(used) = usage.memory_usage
                && used > limit
            {
                return Err(Refusal::new(format!(
                    "memory limit {limit} is less than the {used} bytes in use: the kernel would kill the container; choose a higher limit"
                ))
                .into());
            }
        }
        self.isolate(change, want)
    }

    fn usage(&self, cgroup: &Cgroup, usage: &mut Usage) {
        match cgroup.controller("memory") {
            Some(Version::V2) => usage_v2(cgroup, usage),
            Some(Version::V1) => usage_v1(cgroup, usage),
            None => {}
        }
        usage.memory_pressure = crate::pressure::of(cgroup, "memory.pressure");
    }
}

/// What kubelet evicts by: what the kernel can take back at once is not in it.
fn working_set(usage: Option<u64>, inactive_file: Option<u64>) -> Option<u64> {
    Some(usage?.saturating_sub(inactive_file?))
}

/// The limit must never be above that of memory and swap, so the order of the
/// two writes depends on the direction.
fn write_v1(change: &mut Change<'_>, want: &CgroupResources) -> Result<(), ApplyError> {
    let limit = want.memory_limit.map(|limit| limit.to_string());
    let swap = want.memory_swap_limit.map(|limit| limit.to_string());
    let swap_first = match (want.memory_limit, &swap) {
        (Some(limit), Some(_)) => {
            let now = change
                .cgroup()
                .read_number("memory", "memory.memsw.limit_in_bytes")?;
            u64::try_from(limit).unwrap_or(u64::MAX) > now
        }
        _ => false,
    };
    let writes = [
        (
            "memory.memsw.limit_in_bytes",
            swap.as_ref().filter(|_| swap_first),
        ),
        ("memory.limit_in_bytes", limit.as_ref()),
        (
            "memory.memsw.limit_in_bytes",
            swap.as_ref().filter(|_| !swap_first),
        ),
    ];
    for (file, value) in writes {
        if let Some(value) = value {
            change.write("memory", file, value)?;
        }
    }
    Ok(())
}

fn write_v2(change: &mut Change<'_>, want: &CgroupResources) -> Result<(), ApplyError> {
    let or_max = |bytes: i64| {
        if bytes < 0 {
            "max".to_owned()
        } else {
            bytes.to_string()
        }
    };
    let limit = want.memory_limit.map(or_max);
    // Room is given before it is taken: else what is in use could for a moment
    // be more than both allow. A running container's limit below its use was
    // refused before.
    let grows = match want.memory_limit {
        Some(limit) if change.is_running() => {
            let now = change.cgroup().read_number("memory", "memory.max")?;
            u64::try_from(limit).unwrap_or(u64::MAX) >= now
        }
        _ => false,
    };
    if let (Some(limit), true) = (&limit, grows) {
        change.write("memory", "memory.max", limit)?;
    }
    if let Some(total) = want.memory_swap_limit {
        let swap = match want.memory_limit {
            _ if total < 0 => -1,
            Some(limit) if limit >= 0 => (total - limit).max(0),
            _ => total,
        };
        // Without swap in the kernel there is no file, and no swap to forbid.
        if swap != 0 || change.cgroup().has_file("memory", "memory.swap.max") {
            change.write("memory", "memory.swap.max", &or_max(swap))?;
        }
    }
    if let (Some(limit), false) = (&limit, grows) {
        change.write("memory", "memory.max", limit)?;
    }
    Ok(())
}

fn usage_v1(cgroup: &Cgroup, usage: &mut Usage) {
    let number = |file: &str| cgroup.read_number("memory", file).ok();
    usage.memory_usage = number("memory.usage_in_bytes");
    let limit = number("memory.limit_in_bytes").filter(|limit| *limit < UNLIMITED_V1);
    let with_swap = number("memory.memsw.usage_in_bytes");
    if let (Some(total), Some(memory)) = (with_swap, usage.memory_usage) {
        // The two are read one after the other.
        usage.swap_usage = Some(total.saturating_sub(memory));
        let total_limit =
            number("memory.memsw.limit_in_bytes").filter(|limit| *limit < UNLIMITED_V1);
        usage.swap_available = match (total_limit, limit) {
            (Some(total), Some(memory)) => {
                available(Some(total.saturating_sub(memory)), usage.swap_usage)
            }
            _ => None,
        };
    }
    if let Ok(stat) = cgroup.read("memory", "memory.stat") {
        usage.memory_working_set =
            working_set(usage.memory_usage, keyed(&stat, "total_inactive_file"));
        usage.memory_available = available(limit, usage.memory_working_set);
        usage.memory_rss = keyed(&stat, "total_rss");
        usage.page_faults = keyed(&stat, "total_pgfault");
        usage.major_page_faults = keyed(&stat, "total_pgmajfault");
    }
}

fn usage_v2(cgroup: &Cgroup, usage: &mut Usage) {
    let number = |file: &str| cgroup.read_number("memory", file).ok();
    usage.memory_usage = number("memory.current");
    let limit = number("memory.max").filter(|limit| *limit != u64::MAX);
    usage.swap_usage = number("memory.swap.current");
    let swap_limit = number("memory.swap.max").filter(|limit| *limit != u64::MAX);
    usage.swap_available = available(swap_limit, usage.swap_usage);
    if let Ok(stat) = cgroup.read("memory", "memory.stat") {
        usage.memory_working_set = working_set(usage.memory_usage, keyed(&stat, "inactive_file"));
        usage.memory_available = available(limit, usage.memory_working_set);
        usage.memory_rss = keyed(&stat, "anon");
        usage.page_faults = keyed(&stat, "pgfault");
        usage.major_page_faults = keyed(&stat, "pgmajfault");
    }
}

fn available(limit: Option<u64>, used: Option<u64>) -> Option<u64> {
    Some(limit?.saturating_sub(used?))
}

/// The number after a key in a file of `key value` lines.
pub(crate) fn keyed(text: &str, key: &str) -> Option<u64> {
    text.lines()
        .filter_map(|line| line.split_once(' '))
        .find(|(name, _)| *name == key)
        .and_then(|(_, value)| value.trim().parse().ok())
}
