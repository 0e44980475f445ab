//! Limits of a pod as a whole.
//!
//! Kubelet sets those of pods whose cgroup it makes. A pod without a parent has
//! a group of its own here, and gets what the client says the pod has: the sum
//! of its containers' resources and the overhead (CRI
//! `LinuxPodSandboxConfig.resources`, `overhead`; KEP-688, KEP-2837).

use crate::env::Pod;
use crate::error::{Error, Result};
use crate::files::blocking;
use crate::host::Host;
use crate::registry::Snapshot;
use insula_isolators::spec::Resources;
use std::sync::Arc;
use std::time::Duration;

/// How long the removal of a group that nobody is in may take.
const REMOVAL: Duration = Duration::from_secs(1);

/// Makes the pod's own group with its limits; nothing to do where it is
/// somebody else's.
pub(crate) async fn make_group(pod: &Arc<Pod>) -> Result<()> {
    if !pod.owns_cgroup {
        return Ok(());
    }
    let pod = Arc::clone(pod);
    let deadline = pod.env.config.deadlines.supervisor;
    let stage = format!("make the cgroup of pod {}", pod.id);
    blocking(stage, deadline, move || {
        let host = &pod.env.host;
        let wanted = sum(pod.spec.resources.as_ref(), pod.spec.overhead.as_ref());
        let limits = host.plan_resources(&wanted)?;
        let group = host.make_group(&pod.cgroup_path)?;
        group.apply(&limits).inspect_err(|_| {
            if let Err(error) = group.remove(REMOVAL) {
                tracing::warn!(pod = %pod.id, %error, "left behind by a failed pod");
            }
        })
    })
    .await
}

/// Changes the limits of a pod whose group is ours, all or none.
pub(crate) async fn update_group(
    host: &Arc<dyn Host>,
    snapshot: &Snapshot,
    resources: Option<&Resources>,
    overhead: Option<&Resources>,
    deadline: Duration,
) -> Result<()> {
    let pod = &snapshot.pod;
    if !pod.spec.cgroup_parent.trim_matches('/').is_empty() {
        return Ok(());
    }
    let wanted = sum(
        resources.or(pod.resources.as_ref()),
        overhead.or(pod.overhead.as_ref()),
    );
    let limits = host.plan_resources(&wanted)?;
    let (host, path) = (Arc::clone(host), pod.cgroup_path.clone());
    let stage = format!("update the limits of pod {}", pod.id);
    blocking(stage.clone(), deadline, move || {
        match host.open_group(&path)? {
            Some(group) => group.update(&limits),
            None => Err(Error::internal(stage, format!("the cgroup {path} is gone"))),
        }
    })
    .await
}

/// What a pod may use: its containers and the overhead together. A limit that
/// either does not have, the sum does not have.
fn sum(resources: Option<&Resources>, overhead: Option<&Resources>) -> Resources {
    let Some(resources) = resources else {
        // The overhead alone limits nobody.
        return Resources::default();
    };
    let mut all = resources.clone();
    let Some(overhead) = overhead else {
        return all;
    };
    let limited = |limit: i64, more: i64| match limit {
        ..=0 => limit,
        limit => limit.saturating_add(more.max(0)),
    };
    all.memory_limit_in_bytes = limited(all.memory_limit_in_bytes, overhead.memory_limit_in_bytes);
    all.memory_swap_limit_in_bytes = limited(
        all.memory_swap_limit_in_bytes,
        overhead.memory_limit_in_bytes,
    );
    all.cpu_shares = limited(all.cpu_shares, overhead.cpu_shares);
    // Quotas count in periods, which may differ; kubelet's is 100 ms.
    let period = |resources: &Resources| match resources.cpu_period {
        0 => 100_000,
        period => period,
    };
    let scaled = i128::from(overhead.cpu_quota.max(0)) * i128::from(period(&all))
        / i128::from(period(overhead).max(1));
    all.cpu_quota = limited(all.cpu_quota, i64::try_from(scaled).unwrap_or(i64::MAX));
    all
}

#[cfg(test)]
mod tests {
    use super::sum;
    use insula_isolators::spec::Resources;

    #[test]
    fn a_pod_may_use_what_its_containers_may_and_the_overhead() {
        let of = |memory, swap, quota, period, shares| Resources {
            memory_limit_in_bytes: memory,
            memory_swap_limit_in_bytes: swap,
            cpu_quota: quota,
            cpu_period: period,
            cpu_shares: shares,
            ..Resources::default()
        };
        let none = Resources::default();
        for (resources, overhead, expected) in [
            (None, Some(of(1, 0, 1, 0, 1)), none.clone()),
            (Some(of(10, 0, 0, 0, 2)), None, of(10, 0, 0, 0, 2)),
            (
                Some(of(10, 15, 5_000, 100_000, 512)),
                Some(of(3, 0, 1_000, 50_000, 128)),
                of(13, 18, 7_000, 100_000, 640),
            ),
            // No limit stays none.
            (
                Some(of(0, -1, -1, 0, 0)),
                Some(of(3, 0, 1_000, 0, 128)),
                of(0, -1, -1, 0, 0),
            ),
            (
                Some(of(i64::MAX, 0, i64::MAX, 1, 0)),
                Some(of(i64::MAX, 0, i64::MAX, 1, 0)),
                of(i64::MAX, 0, i64::MAX, 1, 0),
            ),
        ] {
            assert_eq!(sum(resources.as_ref(), overhead.as_ref()), expected);
        }
    }
}
