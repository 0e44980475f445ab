//! What was measured last, for a second, and for rates.

use super::{ContainerStats, PodStats};
use crate::host::{Group, Host};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How old a measurement may be when it is given out again.
const FRESH: Duration = Duration::from_secs(1);

/// How long ago the measurement before may be for a rate of "lately".
const LATELY: i64 = 5 * 60 * 1_000_000_000;

/// A measurement that a rate can be computed from.
pub(crate) trait Sample: Clone {
    /// When, in nanoseconds since the epoch, and the processor time until then
    /// in nanoseconds.
    fn processor_time(&self) -> (i64, Option<u64>);

    /// The rate.
    fn nano_cores(&mut self) -> &mut Option<u64>;
}

/// The last measurement of one thing.
#[derive(Debug)]
pub(crate) struct Meter<T> {
    last: Mutex<Option<(Instant, T)>>,
}

/// The measurements of a pod, and its cgroup, opened when first asked for.
#[derive(Debug)]
pub(crate) struct PodMeter {
    pub(crate) stats: Meter<PodStats>,
    cgroup_path: String,
    group: Mutex<Option<Arc<dyn Group>>>,
}

// === impl Meter ===

impl<T> Default for Meter<T> {
    fn default() -> Self {
        Self {
            last: Mutex::new(None),
        }
    }
}

impl<T: Sample> Meter<T> {
    /// The last measurement, unless it is too old to be given out again.
    pub(crate) fn fresh(&self) -> Option<T> {
        let last = self.lock();
        let (at, stats) = last.as_ref()?;
        (at.elapsed() < FRESH).then(|| stats.clone())
    }

    /// The last measurement.
    pub(crate) fn last(&self) -> Option<T> {
        self.lock().as_ref().map(|(_, stats)| stats.clone())
    }

    /// Keeps a measurement, with its rate since the one before.
    pub(crate) fn keep(&self, mut stats: T) {
        let mut last = self.lock();
        if let Some((_, before)) = last.as_mut() {
            let old = *before.nano_cores();
            *stats.nano_cores() = rate(before.processor_time(), stats.processor_time(), old);
        }
        *last = Some((Instant::now(), stats));
    }

    fn lock(&self) -> MutexGuard<'_, Option<(Instant, T)>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Nanoseconds of processor time in each second between two moments. Two calls
/// at the same time measure within less than a tick: then the old rate stays.
fn rate(
    (from, used): (i64, Option<u64>),
    (to, now_used): (i64, Option<u64>),
    old: Option<u64>,
) -> Option<u64> {
    let passed = to.checked_sub(from)?;
    match passed {
        ..0 | LATELY.. => None,
        0..100_000_000 => old,
        _ => {
            let used = u128::from(now_used?.checked_sub(used?)?);
            u64::try_from(used * 1_000_000_000 / u128::from(passed.unsigned_abs())).ok()
        }
    }
}

// === impl PodMeter ===

impl PodMeter {
    pub(crate) fn new(cgroup_path: String) -> Self {
        Self {
            stats: Meter::default(),
            cgroup_path,
            group: Mutex::default(),
        }
    }

    /// The pod's cgroup; `None` where there is none. One that was removed and
    /// made again (its values cannot be read any more) is opened anew.
    pub(crate) fn group(&self, host: &dyn Host) -> Option<Arc<dyn Group>> {
        let mut group = self.group.lock().unwrap_or_else(PoisonError::into_inner);
        if group.as_ref().is_none_or(|group| group.is_gone()) {
            *group = match host.open_group(&self.cgroup_path) {
                Ok(opened) => opened,
                Err(error) => {
                    tracing::debug!(cgroup = self.cgroup_path, %error, "cannot open the pod's cgroup");
                    None
                }
            };
        }
        group.clone()
    }
}

impl Sample for ContainerStats {
    fn processor_time(&self) -> (i64, Option<u64>) {
        (self.timestamp, self.usage.cpu_nanoseconds)
    }

    fn nano_cores(&mut self) -> &mut Option<u64> {
        &mut self.nano_cores
    }
}

impl Sample for PodStats {
    fn processor_time(&self) -> (i64, Option<u64>) {
        (self.timestamp, self.usage.cpu_nanoseconds)
    }

    fn nano_cores(&mut self) -> &mut Option<u64> {
        &mut self.nano_cores
    }
}

#[cfg(test)]
mod tests {
    use super::rate;

    #[test]
    fn a_rate_needs_two_moments_that_are_apart() {
        const SECOND: i64 = 1_000_000_000;
        for (to, used, old, expected) in [
            (2 * SECOND, Some(500_000_000), None, Some(250_000_000)),
            (
                2 * SECOND,
                Some(4_000_000_000),
                Some(1),
                Some(2_000_000_000),
            ),
            (SECOND / 100, Some(5), Some(7), Some(7)),
            (2 * SECOND, None, Some(7), None),
            (3600 * SECOND, Some(1), Some(7), None),
            (-SECOND, Some(1), Some(7), None),
        ] {
            assert_eq!(
                rate((0, Some(0)), (to, used), old),
                expected,
                "{to} {used:?}"
            );
        }
        assert_eq!(
            rate((0, Some(9)), (SECOND, Some(1)), None),
            None,
            "went back"
        );
    }
}
