//! Merging contributions.

use super::{Fixture, plan_of};
use crate::contribution::Contribution;
use crate::merge::{Conflict, PlanInputs, merge};
use insula_wire::plan::{
    Capabilities, CgroupResources, LaunchPlan, Mount, MountAttributes, MountSource, Namespaces,
    NewOrHost, PidNamespace, PodOrHost, Propagation, Rlimit, RlimitResource, Stdio, Symlink, User,
};
use insula_wire::{Bundle, Hook, Hooks, OsText};
use proptest::prelude::*;

fn inputs() -> PlanInputs {
    PlanInputs {
        container_id: "c".to_owned(),
        cgroup_path: "a/b".to_owned(),
        stdio: Stdio {
            terminal: false,
            stdin: false,
            stdin_once: false,
            log_path: None,
        },
        bundle: Bundle {
            path: "/bundle".to_owned(),
            ..Bundle::default()
        },
    }
}

/// The least that a plan needs.
fn base() -> Contribution {
    Contribution {
        namespaces: Some(Namespaces {
            user: PodOrHost::Host,
            network: PodOrHost::Pod,
            ipc: PodOrHost::Pod,
            uts: PodOrHost::Pod,
            pid: PidNamespace::Pod,
            cgroup: NewOrHost::New,
        }),
        readonly_rootfs: Some(false),
        args: Some(vec![OsText::try_from("a").unwrap()]),
        cwd: Some("/".to_owned()),
        user: Some(User {
            uid: 0,
            gid: 0,
            supplementary_groups: vec![0],
        }),
        capabilities: Some(Capabilities::default()),
        no_new_privileges: Some(false),
        stop_signal: Some(15),
        ..Contribution::default()
    }
}

fn mount(target: &str) -> Mount {
    Mount {
        target: target.to_owned(),
        source: MountSource::Proc,
        attributes: MountAttributes::default(),
        propagation: Propagation::Private,
    }
}

#[test]
fn what_is_set_twice_names_both() {
    type Part = fn(&mut Contribution);
    let table: &[(&str, Part)] = &[
        ("working directory", |part| part.cwd = Some("/x".to_owned())),
        ("namespaces", |part| part.namespaces = base().namespaces),
        ("read-only root", |part| part.readonly_rootfs = Some(true)),
        ("arguments", |part| part.args = base().args),
        ("user", |part| part.user = base().user),
        ("capabilities", |part| {
            part.capabilities = base().capabilities;
        }),
        ("no_new_privileges", |part| {
            part.no_new_privileges = Some(true);
        }),
        ("stop signal", |part| part.stop_signal = Some(9)),
    ];
    for (field, set) in table {
        let mut second = Contribution::default();
        set(&mut second);
        let error = merge(inputs(), vec![("one", base()), ("two", second)]).unwrap_err();
        let expected = Conflict::Twice {
            field: (*field).to_owned(),
            first: "one",
            second: "two",
        };
        assert_eq!(error, expected);
    }
    let table: &[(&str, Part)] = &[
        ("oom_score_adj", |part| part.oom_score_adj = Some(1)),
        ("mount /a", |part| part.mounts = vec![mount("/a")]),
        ("link /l", |part| {
            part.links = vec![Symlink {
                path: "/l".to_owned(),
                target: "t".to_owned(),
            }];
        }),
        ("rlimit Nofile", |part| {
            part.rlimits = vec![Rlimit {
                resource: RlimitResource::Nofile,
                soft: 1,
                hard: 1,
            }];
        }),
        ("cgroup value memory_limit", |part| {
            part.resources.memory_limit = Some(1);
        }),
        ("cgroup value cpuset_mems", |part| {
            part.resources.cpuset_mems = Some("0".to_owned());
        }),
        ("huge page limit 2MB", |part| {
            part.resources.hugepage_limits.insert("2MB".to_owned(), 0);
        }),
        ("cgroup file io.max", |part| {
            part.resources
                .unified
                .insert("io.max".to_owned(), "x".to_owned());
        }),
    ];
    for (field, set) in table {
        let (mut first, mut second) = (base(), Contribution::default());
        set(&mut first);
        set(&mut second);
        let text = merge(inputs(), vec![("one", first), ("two", second)])
            .unwrap_err()
            .to_string();
        assert_eq!(text, format!("isolators one and two both set {field}"));
    }
}

#[test]
fn who_has_hooks_has_a_bundle() {
    let hooked = |path: &str| Contribution {
        hooks: Hooks {
            poststart: vec![Hook {
                path: path.to_owned(),
                args: Vec::new(),
                env: Vec::new(),
                timeout: None,
            }],
            ..Hooks::default()
        },
        ..Contribution::default()
    };
    let plain = merge(inputs(), vec![("one", base())]).unwrap();
    assert!(plain.hooks.is_empty());
    assert_eq!(plain.bundle, None);
    let parts = vec![
        ("one", base()),
        ("two", hooked("/a")),
        ("three", hooked("/b")),
    ];
    let plan = merge(inputs(), parts).unwrap();
    let paths: Vec<_> = plan
        .hooks
        .poststart
        .iter()
        .map(|hook| hook.path.as_str())
        .collect();
    assert_eq!(paths, ["/a", "/b"]);
    assert_eq!(plan.bundle, Some(inputs().bundle));
}

#[test]
fn what_nobody_sets_is_named() {
    let mut part = base();
    part.cwd = None;
    let error = merge(inputs(), vec![("one", part)]).unwrap_err();
    assert_eq!(
        error,
        Conflict::Missing {
            field: "working directory"
        }
    );
}

#[test]
fn the_isolators_never_contradict_each_other() {
    let plan = plan_of(|_| {});
    assert_eq!(plan.cgroup.path, "kubepods/pod1/container");
    assert_eq!(plan.process.umask, 0o022);
    let text = serde_json::to_string(&plan).unwrap();
    assert_eq!(serde_json::from_str::<LaunchPlan>(&text).unwrap(), plan);
    Fixture::privileged().plan().unwrap();
    let mut names: Vec<&str> = crate::isolators()
        .iter()
        .map(|isolator| isolator.name())
        .collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), crate::isolators().len(), "names are unique");
}

proptest! {
    /// Nothing is lost, parents come first, and equal depths keep their order.
    #[test]
    fn mounts_keep_their_order_but_for_depth(paths in proptest::collection::vec("(/[a-c]{1,2}){1,4}", 0..12)) {
        let mut unique = Vec::new();
        for path in paths {
            if !unique.contains(&path) {
                unique.push(path);
            }
        }
        let part = Contribution { mounts: unique.iter().map(|path| mount(path)).collect(), ..base() };
        let plan = merge(inputs(), vec![("one", part)]).unwrap();
        let merged: Vec<&str> = plan.mounts.iter().map(|mount| mount.target.as_str()).collect();
        prop_assert_eq!(merged.len(), unique.len());
        for pair in merged.windows(2) {
            let (one, other) = (crate::path::depth(pair[0]), crate::path::depth(pair[1]));
            prop_assert!(one <= other);
            if one == other {
                let place = |path: &str| unique.iter().position(|known| known == path);
                prop_assert!(place(pair[0]) < place(pair[1]));
            }
        }
    }

    /// Each name is there once, with its last value, at its first place.
    #[test]
    fn environment_is_unique(entries in proptest::collection::vec(("[A-C]", "[a-z]{0,2}"), 0..12)) {
        let env = entries.iter().map(|(name, value)| (name.clone(), OsText::try_from(value.as_str()).unwrap())).collect();
        let plan = merge(inputs(), vec![("one", Contribution { env, ..base() })]).unwrap();
        let mut expected: Vec<String> = Vec::new();
        for (name, _) in &entries {
            let last = entries.iter().rev().find(|(other, _)| other == name).unwrap();
            let entry = format!("{}={}", last.0, last.1);
            if !expected.contains(&entry) {
                expected.push(entry);
            }
        }
        let merged: Vec<String> = plan.process.env.iter().map(|entry| entry.to_string_lossy().into_owned()).collect();
        prop_assert_eq!(merged, expected);
    }

    /// Values reach the plan whoever sets them.
    #[test]
    fn limits_of_several_isolators_are_all_there(memory in any::<i64>(), shares in any::<u64>()) {
        let one = Contribution { resources: CgroupResources { memory_limit: Some(memory), ..CgroupResources::default() }, ..base() };
        let two = Contribution { resources: CgroupResources { cpu_shares: Some(shares), ..CgroupResources::default() }, ..Contribution::default() };
        let resources = merge(inputs(), vec![("one", one), ("two", two)]).unwrap().cgroup.resources;
        prop_assert_eq!((resources.memory_limit, resources.cpu_shares), (Some(memory), Some(shares)));
    }

    /// A clean path is absolute, has no odd part, and stays as it is.
    #[test]
    fn cleaning_is_idempotent(path in "[a-b./]{0,20}") {
        let clean = crate::path::clean(&path);
        prop_assert!(clean.starts_with('/'));
        prop_assert!(clean == "/" || clean.split('/').skip(1).all(|part| !matches!(part, "" | "." | "..")));
        prop_assert_eq!(crate::path::clean(&clean), clean);
    }
}
