//! Limits as values of a cgroup.

use super::host;
use crate::cpu::weight;
use crate::spec::Resources;
use crate::table::limits;
use insula_sys::cgroup::{Hierarchy, Layout};
use insula_wire::plan::CgroupResources;

fn values(change: impl FnOnce(&mut Resources)) -> Result<CgroupResources, String> {
    let mut resources = Resources::default();
    change(&mut resources);
    limits(&resources, &host()).map_err(|error| error.to_string())
}

#[test]
fn nothing_set_is_nothing_written() {
    assert_eq!(values(|_| {}).unwrap(), CgroupResources::default());
}

#[test]
fn processor_time() {
    let all = values(|wanted| {
        wanted.cpu_shares = 1024;
        wanted.cpu_quota = 50_000;
        wanted.cpu_period = 100_000;
    })
    .unwrap();
    assert_eq!(
        (all.cpu_shares, all.cpu_quota, all.cpu_period),
        (Some(1024), Some(50_000), Some(100_000))
    );
    assert_eq!(
        values(|wanted| wanted.cpu_quota = -1).unwrap().cpu_quota,
        Some(-1)
    );
    assert_eq!(
        values(|wanted| wanted.cpu_quota = i64::MIN)
            .unwrap()
            .cpu_quota,
        Some(-1)
    );
    assert_eq!(
        values(|wanted| wanted.cpu_shares = 1).unwrap().cpu_shares,
        Some(2)
    );
    assert_eq!(
        values(|wanted| wanted.cpu_shares = i64::MAX)
            .unwrap()
            .cpu_shares,
        Some(262_144)
    );
    for change in [
        (|wanted| wanted.cpu_quota = 999) as fn(&mut Resources),
        |wanted| wanted.cpu_period = 999,
        |wanted| wanted.cpu_period = 1_000_001,
        |wanted| wanted.cpu_period = -1,
        |wanted| wanted.cpu_shares = -1,
    ] {
        assert!(values(change).unwrap_err().starts_with("cpu: "));
    }
}

#[test]
fn weights_grow_with_shares() {
    for (shares, expected) in [
        (0, 1),
        (2, 1),
        (1024, 100),
        (262_144, 10_000),
        (u64::MAX, 10_000),
    ] {
        assert_eq!(weight(shares), expected, "{shares}");
    }
    let mut last = 0;
    for shares in (2..=262_144).step_by(97) {
        let now = weight(shares);
        assert!(
            now >= last && (1..=10_000).contains(&now),
            "{shares}: {now} after {last}"
        );
        last = now;
    }
}

#[test]
fn memory_and_swap() {
    for (limit, swap, expected) in [
        (0, 0, Ok((None, None))),
        (100, 0, Ok((Some(100), Some(100)))),
        (100, 150, Ok((Some(100), Some(150)))),
        (100, -1, Ok((Some(100), Some(-1)))),
        (-1, 0, Ok((Some(-1), Some(-1)))),
        (-1, -1, Ok((Some(-1), Some(-1)))),
        (-7, 0, Ok((Some(-1), Some(-1)))),
        (100, 99, Err("counts memory and swap together")),
        (0, 100, Err("counts memory and swap together")),
        (-1, 100, Err("counts memory and swap together")),
    ] {
        let result = values(|wanted| {
            wanted.memory_limit_in_bytes = limit;
            wanted.memory_swap_limit_in_bytes = swap;
        });
        match (result, expected) {
            (Ok(all), Ok(expected)) => {
                assert_eq!(
                    (all.memory_limit, all.memory_swap_limit),
                    expected,
                    "{limit} {swap}"
                );
            }
            (Err(text), Err(expected)) => assert!(text.contains(expected), "{text}"),
            (result, _) => panic!("{limit} {swap}: {result:?}"),
        }
    }
    let mut weak = host();
    weak.swap_accounting = false;
    let wanted = |swap| Resources {
        memory_limit_in_bytes: 100,
        memory_swap_limit_in_bytes: swap,
        ..Resources::default()
    };
    assert_eq!(limits(&wanted(0), &weak).unwrap().memory_swap_limit, None);
    assert_eq!(limits(&wanted(100), &weak).unwrap().memory_swap_limit, None);
    limits(&wanted(150), &weak).unwrap_err();
}

#[test]
fn processor_lists() {
    for (text, expected) in [
        ("0-3,7", true),
        ("0", true),
        (" 1 ", true),
        ("3-1", false),
        ("0,", false),
        ("a", false),
        ("0-", false),
        ("0;1", false),
        ("0\n1", false),
        ("-1", false),
        ("99999999999", false),
    ] {
        assert_eq!(
            values(|wanted| wanted.cpuset_cpus = text.to_owned()).is_ok(),
            expected,
            "{text:?}"
        );
        assert_eq!(
            values(|wanted| wanted.cpuset_mems = text.to_owned()).is_ok(),
            expected,
            "{text:?}"
        );
    }
}

#[test]
fn huge_pages() {
    for (size, expected) in [
        ("2MB", true),
        ("1GB", true),
        ("64KB", true),
        ("", false),
        ("MB", false),
        ("2mb", false),
        ("2MB/../x", false),
        ("../2MB", false),
        ("20000MB", false),
        ("2TB", false),
    ] {
        let result = values(|wanted| wanted.hugepage_limits = vec![(size.to_owned(), 0)]);
        assert_eq!(result.is_ok(), expected, "{size:?}");
    }
    values(|wanted| wanted.hugepage_limits = vec![("2MB".to_owned(), 0), ("2MB".to_owned(), 1)])
        .unwrap_err();
}

#[test]
fn raw_files() {
    for (file, value, expected) in [
        ("memory.high", "1000", true),
        ("memory.oom.group", "1", true),
        ("io.max", "8:0 rbps=100", true),
        ("hugetlb.2MB.max", "0", true),
        ("memory", "1", false),
        ("memory.", "1", false),
        ("memory..high", "1", false),
        (".memory", "1", false),
        ("memory.high/../x", "1", false),
        ("../memory.high", "1", false),
        ("cgroup.procs", "1", false),
        ("cgroup.kill", "1", false),
        ("memory.high", "", false),
        ("memory.high", "1\n2", false),
        ("memory.high", "1\0", false),
    ] {
        let result = values(|wanted| {
            wanted.unified.insert(file.to_owned(), value.to_owned());
        });
        assert_eq!(result.is_ok(), expected, "{file:?} {value:?}");
    }
    let mut old = host();
    old.cgroup = Layout::new(vec![Hierarchy::legacy("/m", &["memory"])]);
    let mut wanted = Resources::default();
    wanted
        .unified
        .insert("memory.high".to_owned(), "1".to_owned());
    assert!(
        limits(&wanted, &old)
            .unwrap_err()
            .to_string()
            .contains("version 2")
    );
}
