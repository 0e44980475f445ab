//! Values in cgroups: version 2 with plain directories in place of the
//! kernel's, version 1 with the machine's own.

use crate::details::{Details, DeviceIo, details};
use crate::spec::Resources;
use crate::table::{isolate, limits, update, usage};
use insula_sys::cgroup::{Cgroup, CgroupPath, Hierarchy, Layout, Version};
use insula_wire::plan::{CgroupResources, DeviceKind, DeviceRule};
use std::time::Duration;

/// A directory with empty files, or with what is given, as a version 2 cgroup.
struct Plain {
    root: tempfile::TempDir,
    cgroup: Cgroup,
}

impl Plain {
    fn unified(files: &[(&str, &str)]) -> Self {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("c")).unwrap();
        for (name, text) in files {
            std::fs::write(root.path().join("c").join(name), text).unwrap();
        }
        let controllers = ["cpu", "cpuset", "io", "memory", "pids", "hugetlb"];
        let layout = Layout::new(vec![Hierarchy::unified(root.path(), &controllers)]);
        let cgroup = Cgroup::open(&layout, &"c".parse().unwrap()).unwrap();
        Self { root, cgroup }
    }

    fn legacy(files: &[(&str, &str)]) -> Self {
        let Self { root, .. } = Self::unified(files);
        let controllers = ["cpu", "cpuacct", "memory", "pids", "blkio", "devices"];
        let layout = Layout::new(vec![Hierarchy::legacy(root.path(), &controllers)]);
        let cgroup = Cgroup::open(&layout, &"c".parse().unwrap()).unwrap();
        Self { root, cgroup }
    }

    fn read(&self, file: &str) -> String {
        std::fs::read_to_string(self.root.path().join("c").join(file)).unwrap()
    }
}

fn empty(files: &[&'static str]) -> Vec<(&'static str, &'static str)> {
    files.iter().map(|file| (*file, "")).collect()
}

#[test]
fn version_2_files() {
    let plain = Plain::unified(&empty(&[
        "cpu.weight",
        "cpu.max",
        "memory.max",
        "memory.swap.max",
        "pids.max",
        "cpuset.cpus",
        "cpuset.mems",
        "hugetlb.2MB.max",
        "hugetlb.2MB.rsvd.max",
        "hugetlb.1GB.max",
        "memory.high",
    ]));
    let mut want = CgroupResources {
        cpu_shares: Some(1024),
        cpu_quota: Some(50_000),
        cpu_period: Some(100_000),
        memory_limit: Some(1 << 20),
        memory_swap_limit: Some(3 << 19),
        pids_limit: Some(-1),
        cpuset_cpus: Some("0-1".to_owned()),
        cpuset_mems: Some("0".to_owned()),
        ..CgroupResources::default()
    };
    want.hugepage_limits.insert("2MB".to_owned(), 0);
    want.hugepage_limits.insert("1GB".to_owned(), 1 << 30);
    want.unified
        .insert("memory.high".to_owned(), "1000".to_owned());
    isolate(&plain.cgroup, &want).unwrap();
    for (file, expected) in [
        ("cpu.weight", "100"),
        ("cpu.max", "50000 100000"),
        ("memory.max", "1048576"),
        ("memory.swap.max", "524288"),
        ("pids.max", "max"),
        ("cpuset.cpus", "0-1"),
        ("cpuset.mems", "0"),
        ("hugetlb.2MB.max", "0"),
        ("hugetlb.2MB.rsvd.max", "0"),
        ("hugetlb.1GB.max", "1073741824"),
        ("memory.high", "1000"),
    ] {
        assert_eq!(plain.read(file), expected, "{file}");
    }
}

#[test]
fn version_2_edges() {
    for (quota, period, now, expected) in [
        (Some(-1), Some(100_000), "", "max 100000"),
        (Some(5_000), None, "", "5000"),
        (None, Some(200_000), "max 100000", "max 200000"),
        (None, Some(200_000), "75000 100000", "75000 200000"),
    ] {
        let plain = Plain::unified(&[("cpu.max", now)]);
        let want = CgroupResources {
            cpu_quota: quota,
            cpu_period: period,
            ..CgroupResources::default()
        };
        isolate(&plain.cgroup, &want).unwrap();
        assert_eq!(plain.read("cpu.max"), expected);
    }
    for (limit, swap, expected) in [(100, 100, "0"), (100, -1, "max"), (-1, -1, "max")] {
        let plain = Plain::unified(&empty(&["memory.max", "memory.swap.max"]));
        let want = CgroupResources {
            memory_limit: Some(limit),
            memory_swap_limit: Some(swap),
            ..CgroupResources::default()
        };
        isolate(&plain.cgroup, &want).unwrap();
        assert_eq!(plain.read("memory.swap.max"), expected);
    }
}

#[test]
fn huge_pages_that_do_not_exist_need_no_limit() {
    let of = |size: &str, limit| CgroupResources {
        hugepage_limits: [(size.to_owned(), limit)].into(),
        ..CgroupResources::default()
    };
    let plain = Plain::unified(&empty(&["hugetlb.2MB.max"]));
    isolate(&plain.cgroup, &of("2MB", 4096)).unwrap();
    isolate(&plain.cgroup, &of("1GB", 0)).unwrap();
    isolate(&plain.cgroup, &of("1GB", 1)).unwrap_err();
    let without = Plain::legacy(&[]);
    isolate(&without.cgroup, &of("2MB", 0)).unwrap();
    let error = isolate(&without.cgroup, &of("2MB", 4096)).unwrap_err();
    assert!(
        error.to_string().contains("no hugetlb controller"),
        "{error}"
    );
}

#[test]
fn a_kernel_without_swap_needs_none_forbidden() {
    let plain = Plain::unified(&empty(&["memory.max"]));
    let mut want = CgroupResources {
        memory_limit: Some(100),
        memory_swap_limit: Some(100),
        ..CgroupResources::default()
    };
    isolate(&plain.cgroup, &want).unwrap();
    assert_eq!(plain.read("memory.max"), "100");
    want.memory_swap_limit = Some(200);
    isolate(&plain.cgroup, &want).unwrap_err();
}

/// The third of three writes fails; the first two are put back.
#[test]
fn an_update_is_all_or_nothing() {
    let plain = Plain::unified(&[
        ("cpu.weight", "100\n"),
        ("cpu.max", "max 100000\n"),
        ("memory.current", "5\n"),
    ]);
    let want = CgroupResources {
        cpu_shares: Some(2048),
        cpu_quota: Some(20_000),
        cpu_period: Some(10_000),
        memory_limit: Some(1_000),
        ..CgroupResources::default()
    };
    let error = update(&plain.cgroup, &want).unwrap_err();
    assert_eq!(error.isolator, "memory");
    assert!(error.to_string().contains("memory.max"), "{error}");
    assert!(error.undo_errors.is_empty());
    assert_eq!(plain.read("cpu.weight").trim(), "100");
    // A plain file is not cut short by a write as the kernel's is.
    assert!(plain.read("cpu.max").starts_with("max 100000"));
}

#[test]
fn a_limit_below_what_is_in_use_is_refused() {
    let files = [
        ("memory.max", "max\n"),
        ("memory.swap.max", ""),
        ("memory.current", "5000\n"),
        ("cpu.weight", "100"),
    ];
    let plain = Plain::unified(&files);
    let want = CgroupResources {
        memory_limit: Some(4_999),
        cpu_shares: Some(2048),
        ..CgroupResources::default()
    };
    let error = update(&plain.cgroup, &want).unwrap_err();
    assert!(error.to_string().contains("5000 bytes in use"), "{error}");
    assert_eq!(plain.read("memory.max"), "max\n");
    assert!(plain.read("cpu.weight").starts_with("100"));
    isolate(&plain.cgroup, &want).unwrap();
}

#[test]
fn usage_of_version_2() {
    let plain = Plain::unified(&[
        ("cpu.stat", "usage_usec 1500\nuser_usec 1000\n"),
        ("memory.current", "10000\n"),
        ("memory.max", "16000\n"),
        ("memory.swap.current", "7\n"),
        ("memory.swap.max", "max\n"),
        (
            "memory.stat",
            "anon 4000\nfile 6000\ninactive_file 2500\npgfault 9\npgmajfault 2\n",
        ),
        ("pids.current", "3\n"),
        (
            "memory.pressure",
            "some avg10=1.50 avg60=0.00 avg300=0.00 total=7\n",
        ),
    ]);
    let usage = usage(&plain.cgroup);
    assert_eq!(usage.cpu_nanoseconds, Some(1_500_000));
    assert_eq!(usage.memory_usage, Some(10_000));
    assert_eq!(usage.memory_working_set, Some(7_500));
    assert_eq!(usage.memory_available, Some(8_500));
    assert_eq!(usage.memory_rss, Some(4_000));
    assert_eq!(
        (usage.page_faults, usage.major_page_faults),
        (Some(9), Some(2))
    );
    assert_eq!((usage.swap_usage, usage.swap_available), (Some(7), None));
    assert_eq!(usage.processes, Some(3));
    assert_eq!(usage.memory_pressure.unwrap().some.total, 7);
    assert_eq!((usage.cpu_pressure, usage.io_pressure), (None, None));
}

#[test]
fn usage_of_version_1() {
    let plain = Plain::legacy(&[
        ("cpuacct.usage", "123456\n"),
        ("memory.usage_in_bytes", "10000\n"),
        ("memory.limit_in_bytes", "9223372036854771712\n"),
        ("memory.memsw.usage_in_bytes", "10500\n"),
        ("memory.memsw.limit_in_bytes", "9223372036854771712\n"),
        (
            "memory.stat",
            "rss 1\ninactive_file 1\ntotal_rss 4000\ntotal_inactive_file 12000\ntotal_pgfault 9\ntotal_pgmajfault 2\n",
        ),
    ]);
    let usage = usage(&plain.cgroup);
    assert_eq!(usage.cpu_nanoseconds, Some(123_456));
    assert_eq!(usage.memory_working_set, Some(0), "never below nothing");
    assert_eq!(usage.memory_available, None, "no limit");
    assert_eq!(usage.memory_rss, Some(4_000));
    assert_eq!((usage.swap_usage, usage.swap_available), (Some(500), None));
    assert_eq!(usage.processes, None, "what cannot be read is left out");
}

#[test]
fn details_of_version_2() {
    let plain = Plain::unified(&[
        (
            "cpu.stat",
            "user_usec 1000\nsystem_usec 500\nnr_periods 9\nnr_throttled 2\nthrottled_usec 30\n",
        ),
        (
            "memory.stat",
            "file 6000\nkernel 70\nfile_mapped 80\nactive_file 90\ninactive_file 100\n",
        ),
        ("memory.peak", "11000\n"),
        ("memory.max", "16000\n"),
        ("memory.swap.max", "4000\n"),
        ("memory.low", "0\n"),
        ("memory.events", "low 0\nmax 5\noom_kill 1\n"),
        ("pids.max", "max\n"),
        ("io.stat", "8:0 rbytes=100 wbytes=20 rios=1 wios=2\n"),
    ]);
    let found = details(&plain.cgroup);
    assert_eq!(
        found,
        Details {
            cpu_user_nanoseconds: Some(1_000_000),
            cpu_system_nanoseconds: Some(500_000),
            cpu_periods: Some(9),
            cpu_throttled_periods: Some(2),
            cpu_throttled_nanoseconds: Some(30_000),
            memory_cache: Some(6000),
            memory_kernel: Some(70),
            memory_mapped_file: Some(80),
            memory_max_usage: Some(11_000),
            memory_limit_hits: Some(5),
            memory_active_file: Some(90),
            memory_inactive_file: Some(100),
            oom_kills: Some(1),
            memory_limit: Some(16_000),
            memory_reservation: Some(0),
            memory_swap_limit: Some(20_000),
            threads_limit: Some(0),
            devices: Some(vec![DeviceIo {
                device: (8, 0),
                read_bytes: 100,
                write_bytes: 20,
                reads: 1,
                writes: 2,
            }]),
            huge_pages: Vec::new(),
            processes: found.processes,
        }
    );
}

#[test]
fn details_of_version_1() {
    let plain = Plain::legacy(&[
        ("cpuacct.usage_user", "7\n"),
        ("cpuacct.usage_sys", "8\n"),
        (
            "cpu.stat",
            "nr_periods 9\nnr_throttled 2\nthrottled_time 30\n",
        ),
        (
            "memory.stat",
            "cache 1\ntotal_cache 6000\ntotal_mapped_file 80\n",
        ),
        ("memory.failcnt", "5\n"),
        ("memory.max_usage_in_bytes", "11000\n"),
        ("memory.limit_in_bytes", "9223372036854771712\n"),
        ("memory.oom_control", "oom_kill_disable 0\noom_kill 1\n"),
        (
            "blkio.throttle.io_service_bytes_recursive",
            "8:0 Read 100\nTotal 100\n",
        ),
        ("blkio.throttle.io_serviced_recursive", "8:0 Read 1\n"),
    ]);
    let found = details(&plain.cgroup);
    assert_eq!(
        (found.cpu_user_nanoseconds, found.cpu_system_nanoseconds),
        (Some(7), Some(8))
    );
    assert_eq!(found.cpu_throttled_nanoseconds, Some(30));
    assert_eq!(
        (found.memory_cache, found.memory_mapped_file),
        (Some(6000), Some(80))
    );
    assert_eq!(
        (found.memory_limit_hits, found.oom_kills),
        (Some(5), Some(1))
    );
    assert_eq!(
        (found.memory_limit, found.memory_swap_limit),
        (Some(0), None)
    );
    assert_eq!(found.devices.unwrap()[0].reads, 1);
}

#[test]
fn nothing_can_be_measured_of_nothing() {
    let plain = Plain::unified(&[]);
    assert_eq!(usage(&plain.cgroup), crate::isolator::Usage::default());
}

/// On the machine's own hierarchies, whichever version they have.
#[test]
fn root_values_on_this_machine() {
    if !super::is_root() {
        eprintln!("skipped: making cgroups needs root");
        return;
    }
    let layout = Layout::detect().unwrap();
    let top: CgroupPath = format!("insula-test-isolators-{}", std::process::id())
        .parse()
        .unwrap();
    let cgroup = Cgroup::create(&layout, &top.join("c").unwrap()).unwrap();
    let result = std::panic::catch_unwind(|| on_this_machine(&cgroup));
    Cgroup::remove_at(&layout, &top, Duration::from_secs(20)).unwrap();
    if let Err(panic) = result {
        std::panic::resume_unwind(panic);
    }
}

fn on_this_machine(cgroup: &Cgroup) {
    let host = crate::isolator::HostFacts::detect(true).unwrap();
    let resources = |limit: i64, swap: i64, quota: i64| Resources {
        cpu_shares: 512,
        cpu_quota: quota,
        cpu_period: 100_000,
        memory_limit_in_bytes: limit,
        memory_swap_limit_in_bytes: swap,
        cpuset_cpus: "0".to_owned(),
        hugepage_limits: vec![("2MB".to_owned(), 0)],
        ..Resources::default()
    };
    let mut want = limits(&resources(32 << 20, 0, 20_000), &host).unwrap();
    want.devices = vec![DeviceRule {
        allow: true,
        kind: Some(DeviceKind::Character),
        major: Some(1),
        minor: Some(3),
        access: "rwm".to_owned(),
    }];
    isolate(cgroup, &want).unwrap();
    let old = cgroup.controller("memory") == Some(Version::V1);
    let memory = || {
        let file = if old {
            "memory.limit_in_bytes"
        } else {
            "memory.max"
        };
        cgroup.read_number("memory", file).unwrap()
    };
    assert_eq!(memory(), 32 << 20);
    if cgroup.controller("devices") == Some(Version::V1) {
        assert_eq!(
            cgroup.read("devices", "devices.list").unwrap(),
            "c 1:3 rwm\n"
        );
    }
    // Up and down again, and to no limit and back: the order of writes differs.
    for (limit, swap) in [
        (64 << 20, 0),
        (16 << 20, 0),
        (-1, 0),
        (24 << 20, 0),
        (48 << 20, -1),
        (20 << 20, 0),
    ] {
        let want = limits(&resources(limit, swap, 30_000), &host).unwrap();
        update(cgroup, &want).unwrap_or_else(|error| panic!("{limit} {swap}: {error}"));
        if limit > 0 {
            assert_eq!(memory(), limit.cast_unsigned());
        }
    }
    // A processor that does not exist: what was changed before is put back.
    let mut want = limits(&resources(40 << 20, 0, 40_000), &host).unwrap();
    want.pids_limit = Some(i64::MAX);
    update(cgroup, &want).unwrap_err();
    assert_eq!(memory(), 20 << 20, "put back");
    let usage = usage(cgroup);
    assert_eq!(usage.processes, Some(0));
    assert!(
        usage.memory_usage.is_some() && usage.cpu_nanoseconds == Some(0),
        "{usage:?}"
    );
    assert!(usage.memory_available.is_some_and(|free| free <= 20 << 20));
}
