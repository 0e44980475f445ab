//! `LinuxContainerResources` both ways.

use super::{Rejected, text};
use insula_cri_api::v1::{HugepageLimit, LinuxContainerResources};
use insula_isolators::spec::Resources;
use std::collections::BTreeSet;

/// Longest cpuset list or unified value that is taken, in bytes: one page, as
/// much as a cgroup file takes in one write.
const VALUE_MAX: usize = 4096;

/// Limits as asked for; what the kernel allows is judged by the isolators.
pub fn from_cri(message: LinuxContainerResources) -> Result<Resources, Rejected> {
    for (value, field) in [
        (message.cpu_period, "cpu_period"),
        (message.cpu_shares, "cpu_shares"),
    ] {
        if value < 0 {
            return Err(Rejected::invalid(field, format!("{value} is negative")));
        }
    }
    // Kubelet takes the limits of a pod's memory and processor away with -1.
    for (value, field) in [
        (message.cpu_quota, "cpu_quota"),
        (message.memory_limit_in_bytes, "memory_limit_in_bytes"),
        (
            message.memory_swap_limit_in_bytes,
            "memory_swap_limit_in_bytes",
        ),
    ] {
        if value < -1 {
            return Err(Rejected::invalid(
                field,
                format!("{value} is below -1, which means unlimited"),
            ));
        }
    }
    if !(-1000..=1000).contains(&message.oom_score_adj) {
        return Err(Rejected::invalid(
            "oom_score_adj",
            format!("{} is outside -1000 to 1000", message.oom_score_adj),
        ));
    }
    Ok(Resources {
        cpu_period: message.cpu_period,
        cpu_quota: message.cpu_quota,
        cpu_shares: message.cpu_shares,
        memory_limit_in_bytes: message.memory_limit_in_bytes,
        oom_score_adj: message.oom_score_adj,
        cpuset_cpus: cpu_list(message.cpuset_cpus, "cpuset_cpus")?,
        cpuset_mems: cpu_list(message.cpuset_mems, "cpuset_mems")?,
        hugepage_limits: hugepages(message.hugepage_limits)?,
        unified: unified(message.unified)?,
        memory_swap_limit_in_bytes: message.memory_swap_limit_in_bytes,
    })
}

/// Limits as a status gives them back.
pub fn to_cri(resources: &Resources) -> LinuxContainerResources {
    LinuxContainerResources {
        cpu_period: resources.cpu_period,
        cpu_quota: resources.cpu_quota,
        cpu_shares: resources.cpu_shares,
        memory_limit_in_bytes: resources.memory_limit_in_bytes,
        oom_score_adj: resources.oom_score_adj,
        cpuset_cpus: resources.cpuset_cpus.clone(),
        cpuset_mems: resources.cpuset_mems.clone(),
        hugepage_limits: resources
            .hugepage_limits
            .iter()
            .map(|(page_size, limit)| HugepageLimit {
                page_size: page_size.clone(),
                limit: *limit,
            })
            .collect(),
        unified: resources.unified.clone(),
        memory_swap_limit_in_bytes: resources.memory_swap_limit_in_bytes,
    }
}

/// A list such as `0-3,8`, cpuset(7) "List format".
fn cpu_list(value: String, field: &str) -> Result<String, Rejected> {
    let value = text(value, field, VALUE_MAX)?;
    let allowed = |byte: u8| byte.is_ascii_digit() || matches!(byte, b',' | b'-' | b' ');
    if !value.bytes().all(allowed) {
        return Err(Rejected::invalid(
            field,
            format!("{value:?} is not a list such as \"0-3,8\""),
        ));
    }
    Ok(value)
}

fn hugepages(limits: Vec<HugepageLimit>) -> Result<Vec<(String, u64)>, Rejected> {
    let mut seen = BTreeSet::new();
    limits
        .into_iter()
        .enumerate()
        .map(|(index, HugepageLimit { page_size, limit })| {
            let field = format!("hugepage_limits[{index}].page_size");
            let digits = page_size
                .strip_suffix("KB")
                .or_else(|| page_size.strip_suffix("MB"))
                .or_else(|| page_size.strip_suffix("GB"));
            let known = digits.is_some_and(|n| {
                !n.is_empty() && n.len() <= 10 && n.bytes().all(|byte| byte.is_ascii_digit())
            });
            if !known {
                return Err(Rejected::invalid(
                    field,
                    format!("{page_size:?} is not a page size such as \"2MB\""),
                ));
            }
            if !seen.insert(page_size.clone()) {
                return Err(Rejected::invalid(
                    field,
                    format!("{page_size} is limited twice"),
                ));
            }
            Ok((page_size, limit))
        })
        .collect()
}

/// Keys of `unified` are file names of cgroup v2, cgroups(7).
fn unified(
    values: std::collections::BTreeMap<String, String>,
) -> Result<std::collections::BTreeMap<String, String>, Rejected> {
    for (key, value) in &values {
        let is_file = key.contains('.')
            && !key.starts_with('.')
            && key.len() <= 255
            && key
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'));
        if !is_file {
            return Err(Rejected::invalid(
                "unified",
                format!("{key:?} is not the name of a cgroup file such as \"memory.high\""),
            ));
        }
        text(value.clone(), &format!("unified[{key}]"), VALUE_MAX)?;
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::{from_cri, to_cri};
    use insula_cri_api::v1::{HugepageLimit, LinuxContainerResources};

    fn full() -> LinuxContainerResources {
        LinuxContainerResources {
            cpu_period: 100_000,
            cpu_quota: 20_000,
            cpu_shares: 512,
            memory_limit_in_bytes: 64 << 20,
            oom_score_adj: -998,
            cpuset_cpus: "0-1".into(),
            cpuset_mems: "0".into(),
            hugepage_limits: vec![
                HugepageLimit {
                    page_size: "2MB".into(),
                    limit: 0,
                },
                HugepageLimit {
                    page_size: "1GB".into(),
                    limit: 1 << 30,
                },
            ],
            unified: [("memory.oom.group".to_owned(), "1".to_owned())].into(),
            memory_swap_limit_in_bytes: -1,
        }
    }

    #[test]
    fn what_was_asked_comes_back() {
        let unlimited = LinuxContainerResources {
            cpu_quota: -1,
            memory_limit_in_bytes: -1,
            ..full()
        };
        for message in [full(), unlimited, LinuxContainerResources::default()] {
            assert_eq!(to_cri(&from_cri(message.clone()).unwrap()), message);
        }
    }

    #[test]
    fn each_bad_value_is_named() {
        type Change = fn(&mut LinuxContainerResources);
        let cases: &[(Change, &str)] = &[
            (|r| r.cpu_period = -1, "cpu_period: -1 is negative"),
            (
                |r| r.cpu_quota = -2,
                "cpu_quota: -2 is below -1, which means unlimited",
            ),
            (
                |r| r.memory_limit_in_bytes = -2,
                "memory_limit_in_bytes: -2 is below -1, which means unlimited",
            ),
            (
                |r| r.oom_score_adj = 1001,
                "oom_score_adj: 1001 is outside -1000 to 1000",
            ),
            (
                |r| r.cpuset_cpus = "0;rm".into(),
                "cpuset_cpus: \"0;rm\" is not a list such as \"0-3,8\"",
            ),
            (
                |r| r.hugepage_limits[1].page_size = "2MB".into(),
                "hugepage_limits[1].page_size: 2MB is limited twice",
            ),
            (
                |r| r.hugepage_limits[0].page_size = "../2MB".into(),
                "hugepage_limits[0].page_size: \"../2MB\" is not a page size such as \"2MB\"",
            ),
            (
                |r| {
                    r.unified.insert("../x".into(), "1".into());
                },
                "unified: \"../x\" is not the name of a cgroup file such as \"memory.high\"",
            ),
            (
                |r| {
                    r.unified.insert("memory.high".into(), "1\0".into());
                },
                "unified[memory.high]: holds a NUL byte",
            ),
        ];
        for (change, want) in cases {
            let mut message = full();
            change(&mut message);
            assert_eq!(from_cri(message).unwrap_err().to_string(), *want);
        }
    }
}
