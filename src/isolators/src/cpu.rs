//! Processor time.

use crate::change::Change;
use crate::isolator::{ApplyError, HostFacts, Isolator, Refusal, Usage};
use crate::spec::Resources;
use insula_sys::cgroup::{Cgroup, Version};
use insula_wire::plan::CgroupResources;

/// Bounds of `cpu.shares`, sched/core.c.
const SHARES: (u64, u64) = (2, 262_144);

/// Bounds of the CFS period in microseconds, sched/core.c.
const PERIOD: (u64, u64) = (1_000, 1_000_000);

/// The least CFS quota in microseconds, sched/core.c.
const MIN_QUOTA: i64 = 1_000;

/// `cpu.shares`, `cpu.cfs_*` of version 1; `cpu.weight`, `cpu.max` of version 2
/// (admin-guide/cgroup-v2.rst, "CPU").
#[derive(Debug)]
pub(crate) struct Cpu;

impl Isolator for Cpu {
    fn name(&self) -> &'static str {
        "cpu"
    }

    /// 0 means "not set"; any negative quota is unlimited.
    fn limits(&self, wanted: &Resources, _host: &HostFacts) -> Result<CgroupResources, Refusal> {
        let cpu_shares = match u64::try_from(wanted.cpu_shares) {
            Ok(0) => None,
            Ok(shares) => Some(shares.clamp(SHARES.0, SHARES.1)),
            Err(_) => {
                return Err(Refusal::new(format!(
                    "cpu_shares {} is negative",
                    wanted.cpu_shares
                )));
            }
        };
        let cpu_period = match u64::try_from(wanted.cpu_period) {
            Ok(0) => None,
            Ok(period) if (PERIOD.0..=PERIOD.1).contains(&period) => Some(period),
            _ => {
                return Err(Refusal::new(format!(
                    "cpu_period {} is not between 1000 and 1000000 microseconds",
                    wanted.cpu_period
                )));
            }
        };
        let cpu_quota = match wanted.cpu_quota {
            0 => None,
            quota if quota < 0 => Some(-1),
            quota if quota >= MIN_QUOTA => Some(quota),
            quota => {
                return Err(Refusal::new(format!(
                    "cpu_quota {quota} is less than 1000 microseconds, the least that the kernel takes"
                )));
            }
        };
        Ok(CgroupResources {
            cpu_shares,
            cpu_quota,
            cpu_period,
            ..CgroupResources::default()
        })
    }

    fn isolate(&self, change: &mut Change<'_>, want: &CgroupResources) -> Result<(), ApplyError> {
        if want.cpu_shares.is_none() && want.cpu_quota.is_none() && want.cpu_period.is_none() {
            return Ok(());
        }
        match change.cgroup().controller("cpu") {
            Some(Version::V2) => write_v2(change, want),
            _ => write_v1(change, want),
        }
    }

    fn usage(&self, cgroup: &Cgroup, usage: &mut Usage) {
        let nanoseconds = match cgroup.controller("cpuacct") {
            Some(Version::V1) => cgroup.read_number("cpuacct", "cpuacct.usage").ok(),
            // cpu.stat exists in version 2 also without the controller.
            _ => cgroup
                .read("cpu", "cpu.stat")
                .ok()
                .and_then(|text| crate::memory::keyed(&text, "usage_usec"))
                .and_then(|microseconds| microseconds.checked_mul(1_000)),
        };
        usage.cpu_nanoseconds = nanoseconds;
        usage.cpu_pressure = crate::pressure::of(cgroup, "cpu.pressure");
    }
}

fn write_v1(change: &mut Change<'_>, want: &CgroupResources) -> Result<(), ApplyError> {
    if let Some(shares) = want.cpu_shares {
        change.write("cpu", "cpu.shares", &shares.to_string())?;
    }
    let period = want.cpu_period.map(|period| period.to_string());
    let quota = want.cpu_quota.map(|quota| quota.to_string());
    // The kernel refuses a pair that exceeds the group around it. With the old
    // quota, a shorter period can be such a pair, so then the quota goes first.
    let mut period_written = false;
    if let Some(period) = &period {
        match change.write("cpu", "cpu.cfs_period_us", period) {
            Ok(()) => period_written = true,
            Err(_) if quota.is_some() => {}
            Err(error) => return Err(error),
        }
    }
    if let Some(quota) = &quota {
        change.write("cpu", "cpu.cfs_quota_us", quota)?;
    }
    match &period {
        Some(period) if !period_written => change.write("cpu", "cpu.cfs_period_us", period),
        _ => Ok(()),
    }
}

fn write_v2(change: &mut Change<'_>, want: &CgroupResources) -> Result<(), ApplyError> {
    if let Some(shares) = want.cpu_shares {
        change.write("cpu", "cpu.weight", &weight(shares).to_string())?;
    }
    let quota = match want.cpu_quota {
        Some(quota) if quota < 0 => "max".to_owned(),
        Some(quota) => quota.to_string(),
        None if want.cpu_period.is_none() => return Ok(()),
        // The file takes a period only behind a quota.
        None => {
            let text = change.cgroup().read("cpu", "cpu.max")?;
            text.split_whitespace().next().unwrap_or("max").to_owned()
        }
    };
    let value = match want.cpu_period {
        Some(period) => format!("{quota} {period}"),
        None => quota,
    };
    change.write("cpu", "cpu.max", &value)
}

/// The weight of version 2, 1 to 10,000, for shares of version 1, 2 to
/// 262,144.
///
/// The curve goes through (2, 1), (1024, 100) and (262144, 10000), so that a
/// request of one processor gets the kernel's default weight, as current OCI
/// runtimes do. The older straight line gave it 39.
pub fn weight(shares: u64) -> u64 {
    match shares {
        0..=2 => 1,
        262_144.. => 10_000,
        _ => {
            #[expect(clippy::cast_precision_loss, reason = "shares are below 2^18")]
            let exponent = (shares as f64).log2();
            let power = (exponent * exponent + 125.0 * exponent) / 612.0 - 7.0 / 34.0;
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "between 1 and 10,000 by the bounds of the argument"
            )]
            let weight = (10f64.powf(power) - 1e-9).ceil() as u64;
            weight.clamp(1, 10_000)
        }
    }
}
