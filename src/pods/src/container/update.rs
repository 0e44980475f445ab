//! Changing a container's limits.

use super::Container;
use crate::env::Pod;
use crate::error::{Error, Result};
use crate::files::blocking;
use insula_isolators::spec::Resources;
use std::sync::Arc;

/// Writes new limits into a container's cgroup, all or none. `before` are those
/// in force.
pub(crate) async fn update(
    pod: Arc<Pod>,
    container: Arc<Container>,
    before: &Resources,
    want: &Resources,
) -> Result<()> {
    let Some(group) = container.group.clone() else {
        return Err(Error::FailedPrecondition(format!(
            "container {} has no cgroup any more",
            container.id
        )));
    };
    let limits = pod.env.host.plan_resources(&complete(before, want))?;
    let stage = format!("update the limits of container {}", container.id);
    let deadline = pod.env.config.deadlines.supervisor;
    blocking(stage, deadline, move || group.update(&limits)).await
}

/// An update with what belongs to its values: the limit of memory and that of
/// memory and swap are judged and written together.
fn complete(before: &Resources, update: &Resources) -> Resources {
    if update.memory_limit_in_bytes == 0 && update.memory_swap_limit_in_bytes == 0 {
        return update.clone();
    }
    let both = merge(before, update);
    Resources {
        memory_limit_in_bytes: both.memory_limit_in_bytes,
        memory_swap_limit_in_bytes: both.memory_swap_limit_in_bytes,
        ..update.clone()
    }
}

/// The resources in force after an update: what it did not set stays.
pub(crate) fn merge(before: &Resources, update: &Resources) -> Resources {
    let number = |before: i64, update: i64| if update == 0 { before } else { update };
    let text = |before: &String, update: &String| {
        if update.is_empty() {
            before.clone()
        } else {
            update.clone()
        }
    };
    let mut unified = before.unified.clone();
    unified.extend(update.unified.clone());
    let mut hugepage_limits = before.hugepage_limits.clone();
    for (size, limit) in &update.hugepage_limits {
        match hugepage_limits.iter_mut().find(|(known, _)| known == size) {
            Some((_, known)) => *known = *limit,
            None => hugepage_limits.push((size.clone(), *limit)),
        }
    }
    Resources {
        cpu_period: number(before.cpu_period, update.cpu_period),
        cpu_quota: number(before.cpu_quota, update.cpu_quota),
        cpu_shares: number(before.cpu_shares, update.cpu_shares),
        memory_limit_in_bytes: number(before.memory_limit_in_bytes, update.memory_limit_in_bytes),
        // oom_score_adj is set when a process starts, never later.
        oom_score_adj: before.oom_score_adj,
        cpuset_cpus: text(&before.cpuset_cpus, &update.cpuset_cpus),
        cpuset_mems: text(&before.cpuset_mems, &update.cpuset_mems),
        hugepage_limits,
        unified,
        memory_swap_limit_in_bytes: number(
            before.memory_swap_limit_in_bytes,
            update.memory_swap_limit_in_bytes,
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::{complete, merge};
    use insula_isolators::spec::Resources;

    #[test]
    fn memory_and_swap_are_judged_together() {
        let of = |memory, swap| Resources {
            memory_limit_in_bytes: memory,
            memory_swap_limit_in_bytes: swap,
            ..Resources::default()
        };
        for (before, update, expected) in [
            ((64, 0), (0, 0), (0, 0)),
            ((64, 0), (96, 0), (96, 0)),
            ((64, 128), (96, 0), (96, 128)),
            ((64, 128), (0, 256), (64, 256)),
            ((64, 0), (0, -1), (64, -1)),
        ] {
            let found = complete(&of(before.0, before.1), &of(update.0, update.1));
            assert_eq!(found, of(expected.0, expected.1), "{before:?} {update:?}");
        }
    }

    #[test]
    fn what_an_update_does_not_set_stays() {
        let before = Resources {
            cpu_quota: 1000,
            cpu_shares: 2,
            oom_score_adj: 5,
            cpuset_cpus: "0".to_owned(),
            hugepage_limits: vec![("2MB".to_owned(), 1)],
            ..Resources::default()
        };
        let update = Resources {
            cpu_quota: -1,
            oom_score_adj: 9,
            memory_limit_in_bytes: 7,
            hugepage_limits: vec![("2MB".to_owned(), 3), ("1GB".to_owned(), 4)],
            ..Resources::default()
        };
        let expected = Resources {
            cpu_quota: -1,
            cpu_shares: 2,
            oom_score_adj: 5,
            memory_limit_in_bytes: 7,
            cpuset_cpus: "0".to_owned(),
            hugepage_limits: vec![("2MB".to_owned(), 3), ("1GB".to_owned(), 4)],
            ..Resources::default()
        };
        assert_eq!(merge(&before, &update), expected);
    }
}
