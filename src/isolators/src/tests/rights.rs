//! Namespaces, users, environment, process, capabilities, profiles.

use super::views::text;
use super::{Fixture, plan_of, refusal_of};
use crate::spec::{GroupsPolicy, NamespaceMode};
use crate::sysctls;
use crate::table::exec_process;
use insula_wire::plan::{NewOrHost, PidNamespace, PodOrHost, User};
use insula_wire::{Capability, CapabilitySet, OsText};

#[test]
fn namespaces() {
    let plan = plan_of(|_| {});
    assert_eq!(plan.namespaces.network, PodOrHost::Pod);
    assert_eq!(plan.namespaces.uts, PodOrHost::Pod);
    assert_eq!(plan.namespaces.pid, PidNamespace::Pod);
    assert_eq!(plan.namespaces.cgroup, NewOrHost::New);
    assert_eq!(
        Fixture::privileged().plan().unwrap().namespaces.cgroup,
        NewOrHost::Host
    );
    let pid = |mode, target: &str| {
        plan_of(|fixture| {
            fixture.spec.security.namespaces.pid = mode;
            fixture.spec.security.namespaces.target_id = target.to_owned();
        })
        .namespaces
        .pid
    };
    assert_eq!(pid(NamespaceMode::Container, ""), PidNamespace::Container);
    assert_eq!(pid(NamespaceMode::Node, ""), PidNamespace::Host);
    assert_eq!(
        pid(NamespaceMode::Target, "abc"),
        PidNamespace::Target("abc".to_owned())
    );
    let plan = plan_of(|fixture| fixture.pod.namespaces.network = NamespaceMode::Node);
    assert_eq!(plan.namespaces.network, PodOrHost::Host, "the pod decides");
    assert_eq!(plan.namespaces.uts, PodOrHost::Host);
    let text = refusal_of(|fixture| fixture.spec.security.namespaces.network = NamespaceMode::Node);
    assert!(text.contains("network"), "{text}");
    refusal_of(|fixture| fixture.spec.security.namespaces.ipc = NamespaceMode::Node);
    refusal_of(|fixture| fixture.spec.security.namespaces.ipc = NamespaceMode::Container);
    refusal_of(|fixture| fixture.spec.security.namespaces.pid = NamespaceMode::Target);
    refusal_of(|fixture| fixture.pod.namespaces.pid = NamespaceMode::Container);
}

fn user_of(change: impl FnOnce(&mut Fixture)) -> (u32, u32, Vec<u32>) {
    let User {
        uid,
        gid,
        supplementary_groups,
    } = plan_of(change).process.user;
    (uid, gid, supplementary_groups)
}

#[test]
fn users_of_the_image() {
    for (user, expected) in [
        ("", (0, 0, vec![0])),
        ("app", (1000, 1001, vec![1001, 50000])),
        ("app:", (1000, 1001, vec![1001, 50000])),
        ("1000", (1000, 1001, vec![1001, 50000])),
        ("001000", (1000, 1001, vec![1001, 50000])),
        ("1003", (1003, 0, vec![0])),
        ("1003:1004", (1003, 1004, vec![1004])),
        ("app:1004", (1000, 1004, vec![1004, 50000])),
        ("app:more", (1000, 50001, vec![50000, 50001])),
        ("0:extra", (0, 50000, vec![50000])),
        ("2147483647", (2_147_483_647, 0, vec![0])),
    ] {
        assert_eq!(
            user_of(|fixture| fixture.image.user = user.to_owned()),
            expected,
            "{user:?}"
        );
    }
}

#[test]
fn users_that_are_refused() {
    for user in [
        "nobody",
        "app:nogroup",
        ":1000",
        ":",
        "2147483648",
        "4294967295",
        "4294967296",
        "99999999999",
        "99999999999999999999999",
        "-1",
        "+1",
        "1:4294967296",
        "1:-1",
        "app ",
        "a\nb",
    ] {
        let text = refusal_of(|fixture| {
            fixture.image.user = user.to_owned();
            // Whatever the image says, a number is never a name.
            fixture.passwd.extend_from_slice(
                format!("{user}:x:0:0::/:\n99999999999:x:0:0::/:\n4294967296:x:0:0::/:\n")
                    .replace("nobody", "somebody")
                    .replace("app ", "x")
                    .as_bytes(),
            );
        });
        assert!(text.starts_with("users: "), "{user:?}: {text}");
    }
    let number = user_of(|fixture| {
        fixture.image.user = "1000".to_owned();
        fixture.passwd = b"1000:x:0:0::/root:/bin/sh\n".to_vec();
    });
    assert_eq!(number, (1000, 0, vec![0]));
}

#[test]
fn users_of_the_container() {
    let security = |change: &dyn Fn(&mut crate::spec::SecurityContext)| {
        user_of(|fixture| {
            fixture.image.user = "root".to_owned();
            change(&mut fixture.spec.security);
        })
    };
    assert_eq!(
        security(&|s| s.run_as_user = Some(1000)),
        (1000, 1001, vec![1001, 50000])
    );
    assert_eq!(
        security(&|s| s.run_as_username = "app".to_owned()),
        (1000, 1001, vec![1001, 50000])
    );
    assert_eq!(
        security(&|s| s.run_as_username = "1234".to_owned()),
        (1234, 0, vec![0])
    );
    let both = security(&|s| {
        s.run_as_user = Some(1000);
        s.run_as_group = Some(3000);
        s.supplemental_groups = vec![5, 3000, 4];
    });
    assert_eq!(both, (1000, 3000, vec![4, 5, 3000, 50000]));
    let strict = security(&|s| {
        s.run_as_user = Some(1000);
        s.supplemental_groups = vec![1234];
        s.supplemental_groups_policy = GroupsPolicy::Strict;
    });
    assert_eq!(strict, (1000, 1001, vec![1001, 1234]));
    for change in [
        (|s| s.run_as_group = Some(1)) as fn(&mut crate::spec::SecurityContext),
        |s| s.run_as_user = Some(-1),
        |s| s.run_as_user = Some(1 << 31),
        |s| s.run_as_user = Some(1 << 32),
        |s| s.run_as_username = "ghost".to_owned(),
        |s| s.run_as_username = "app:0".to_owned(),
        |s| s.supplemental_groups = vec![-7],
    ] {
        let text = refusal_of(|fixture| change(&mut fixture.spec.security));
        assert!(text.starts_with("users: "), "{text}");
    }
}

fn env_of(change: impl FnOnce(&mut Fixture)) -> Vec<String> {
    let env = plan_of(change).process.env;
    env.iter()
        .map(|entry| entry.to_string_lossy().into_owned())
        .collect()
}

#[test]
fn environment_in_order_and_later_wins() {
    let path = format!("PATH={}", crate::environment::DEFAULT_PATH);
    assert_eq!(env_of(|_| {}), ["HOME=/root", &path, "HOSTNAME=pod"]);
    let env = env_of(|fixture| {
        fixture.spec.tty = true;
        fixture.image.env = ["PATH=/opt", "HOSTNAME=image", "A=1", "B=x=y"]
            .map(text)
            .into();
        fixture.spec.envs = vec![
            ("A".to_owned(), text("2")),
            ("HOME".to_owned(), text("")),
            ("HOSTNAME".to_owned(), text("container")),
            ("C".to_owned(), text("")),
            ("A".to_owned(), text("3")),
        ];
    });
    assert_eq!(
        env,
        [
            "PATH=/opt",
            "HOSTNAME=container",
            "TERM=xterm",
            "A=3",
            "B=x=y",
            "HOME=",
            "C="
        ]
    );
    for (entry, name) in [
        ("NOEQUALS", "A"),
        ("=x", "A"),
        ("A=1", ""),
        ("A=1", "B=C"),
        ("A=1", "B\0"),
    ] {
        refusal_of(|fixture| {
            fixture.image.env = vec![text(entry)];
            fixture.spec.envs = vec![(name.to_owned(), text("x"))];
        });
    }
}

#[test]
fn home_from_passwd_only_where_it_is_a_path() {
    for (home, expected) in [
        ("/home/app", "HOME=/home/app"),
        ("", "HOME=/"),
        ("relative", "HOME=/"),
        ("/a\tb", "HOME=/"),
        ("/a\rb", "HOME=/"),
        ("/home/a:x:y", "HOME=/home/a"),
    ] {
        let env = env_of(|fixture| {
            fixture.image.user = "u".to_owned();
            fixture.passwd = format!("u:x:1:1:gecos:{home}\n").into_bytes();
        });
        assert_eq!(env[0], expected, "{home:?}");
    }
    assert_eq!(
        env_of(|fixture| fixture.image.user = "5".to_owned())[0],
        "HOME=/"
    );
}

#[test]
fn arguments() {
    let args = |command: &[&str], args: &[&str], entrypoint: &[&str], cmd: &[&str]| {
        let list =
            |words: &[&str]| -> Vec<OsText> { words.iter().map(|word| text(word)).collect() };
        let mut fixture = Fixture::new();
        fixture.spec.command = list(command);
        fixture.spec.args = list(args);
        fixture.image.entrypoint = list(entrypoint);
        fixture.image.cmd = list(cmd);
        fixture.plan().map(|plan| {
            plan.process
                .args
                .iter()
                .map(|word| word.to_string_lossy().into_owned())
                .collect::<Vec<_>>()
        })
    };
    assert_eq!(args(&["a"], &["b"], &["e"], &["c"]).unwrap(), ["a", "b"]);
    assert_eq!(args(&["a"], &[], &["e"], &["c"]).unwrap(), ["a"]);
    assert_eq!(args(&[], &["b"], &["e"], &["c"]).unwrap(), ["e", "b"]);
    assert_eq!(args(&[], &["b"], &[], &["c"]).unwrap(), ["b"]);
    assert_eq!(args(&[], &[], &["e"], &["c"]).unwrap(), ["e", "c"]);
    assert_eq!(args(&[], &[], &[], &["c"]).unwrap(), ["c"]);
    let error = args(&[], &[], &[], &[]).unwrap_err().to_string();
    assert!(
        error.contains("no command specified") && error.contains("registry.example/app:1"),
        "{error}"
    );
    args(&[""], &[], &[], &[]).unwrap_err();
}

#[test]
fn working_directories() {
    let cwd = |container: &str, image: &str| {
        let mut fixture = Fixture::new();
        fixture.spec.working_dir = container.to_owned();
        fixture.image.working_dir = image.to_owned();
        fixture.plan().map(|plan| plan.process.cwd)
    };
    assert_eq!(cwd("", "").unwrap(), "/");
    assert_eq!(cwd("", "srv/./x").unwrap(), "/srv/x");
    assert_eq!(cwd("/a", "/b").unwrap(), "/a");
    assert_eq!(cwd("/proc", "").unwrap(), "/proc");
    for path in [
        "/proc/self/fd/3",
        "/proc/self/fd/8/../../..",
        "/x/../proc//self/./fd/7",
        "/proc/1/cwd",
        "/proc/thread-self/root",
        "/a\0",
    ] {
        // What leads out again by text is harmless.
        let harmless = crate::path::clean(path) == "/proc" || crate::path::clean(path) == "/";
        assert_eq!(cwd(path, "").is_ok(), harmless, "{path:?}");
        assert_eq!(cwd("", path).is_ok(), harmless, "{path:?}");
    }
}

#[test]
fn stop_signals() {
    let signal = |container: Option<i32>, image: Option<&str>| {
        let mut fixture = Fixture::new();
        fixture.spec.stop_signal = container;
        fixture.image.stop_signal = image.map(str::to_owned);
        fixture.plan().map(|plan| plan.stop_signal)
    };
    assert_eq!(signal(None, None).unwrap(), 15);
    assert_eq!(signal(None, Some("")).unwrap(), 15);
    assert_eq!(signal(None, Some("SIGQUIT")).unwrap(), 3);
    assert_eq!(signal(Some(10), Some("SIGQUIT")).unwrap(), 10);
    signal(None, Some("SIGFOO")).unwrap_err();
    signal(Some(65), None).unwrap_err();
}

#[test]
fn capabilities() {
    let set = |names: &[Capability]| -> CapabilitySet { names.iter().copied().collect() };
    let caps = |add: &[&str], drop: &[&str]| {
        plan_of(|fixture| {
            fixture.spec.security.add_capabilities =
                add.iter().map(|&name| name.to_owned()).collect();
            fixture.spec.security.drop_capabilities =
                drop.iter().map(|&name| name.to_owned()).collect();
        })
        .process
        .capabilities
    };
    let default = caps(&[], &[]);
    assert_eq!(default.bounding.iter().count(), 14);
    assert!(
        default.bounding.contains(Capability::NetRaw)
            && !default.bounding.contains(Capability::SysAdmin)
    );
    assert_eq!(
        (default.effective, default.permitted),
        (default.bounding, default.bounding)
    );
    assert_eq!(
        (default.inheritable, default.ambient),
        (CapabilitySet::EMPTY, CapabilitySet::EMPTY)
    );
    assert!(
        caps(&["net_admin"], &[])
            .bounding
            .contains(Capability::NetAdmin)
    );
    assert!(
        !caps(&[], &["CAP_CHOWN"])
            .bounding
            .contains(Capability::Chown)
    );
    assert_eq!(caps(&["All"], &[]).bounding, CapabilitySet::all());
    assert_eq!(caps(&["ALL"], &["KILL"]).bounding.iter().count(), 40);
    assert_eq!(caps(&[], &["all"]).bounding, CapabilitySet::EMPTY);
    assert_eq!(caps(&["KILL"], &["ALL"]).bounding, set(&[Capability::Kill]));
    assert_eq!(
        caps(&["KILL"], &["KILL"]).bounding,
        default.bounding,
        "what is added by name wins"
    );
    assert_eq!(caps(&["ALL"], &["ALL"]).bounding, CapabilitySet::EMPTY);
    for name in ["", "FLY", "CAP_"] {
        refusal_of(|fixture| fixture.spec.security.add_capabilities = vec![name.to_owned()]);
    }
}

#[test]
fn capabilities_of_ambient_privileged_and_weak_hosts() {
    let all_but = |gone: Capability| {
        let mut set = CapabilitySet::all();
        set.remove(gone);
        set
    };
    let ambient = plan_of(|fixture| {
        fixture.spec.security.add_ambient_capabilities =
            vec!["NET_BIND_SERVICE".to_owned(), "SYS_TIME".to_owned()];
        fixture.host.capabilities = all_but(Capability::SysTime);
    })
    .process
    .capabilities;
    let raised: CapabilitySet = [Capability::NetBindService].into_iter().collect();
    assert_eq!((ambient.ambient, ambient.inheritable), (raised, raised));
    assert!(ambient.permitted.contains(Capability::NetBindService));
    assert!(!ambient.permitted.contains(Capability::SysTime));

    let ambient_and_dropped = |ambient: &str, dropped: &str| {
        let mut fixture = Fixture::new();
        fixture.spec.security.add_ambient_capabilities = vec![ambient.to_owned()];
        fixture.spec.security.drop_capabilities = vec![dropped.to_owned()];
        fixture.plan().map(|plan| plan.process.capabilities)
    };
    let alone = ambient_and_dropped("NET_BIND_SERVICE", "ALL").unwrap();
    assert_eq!((alone.bounding, alone.ambient), (raised, raised));
    assert_eq!((alone.permitted, alone.effective), (raised, raised));
    let all = ambient_and_dropped("ALL", "CHOWN").unwrap();
    assert_eq!(all.ambient, all.bounding);
    assert!(!all.ambient.contains(Capability::Chown));
    let error = ambient_and_dropped("chown", "CAP_CHOWN").unwrap_err();
    assert!(error.to_string().contains("only one of both"), "{error}");

    let mut fixture = Fixture::privileged();
    fixture.spec.security.drop_capabilities = vec!["ALL".to_owned()];
    fixture.host.capabilities = all_but(Capability::SysResource);
    let privileged = fixture.plan().unwrap().process.capabilities;
    assert_eq!(privileged.bounding, fixture.host.capabilities);
    assert_eq!(privileged.inheritable, CapabilitySet::EMPTY);
}

#[test]
fn gates() {
    let text = refusal_of(|fixture| fixture.spec.security.privileged = true);
    assert!(
        text.contains("no privileged container allowed in sandbox"),
        "{text}"
    );
}

#[test]
fn rlimits_and_oom_score() {
    let nofile = |hard| {
        plan_of(|fixture| fixture.host.open_files = hard)
            .process
            .rlimits[0]
            .clone()
    };
    assert_eq!(
        (nofile(1 << 20).soft, nofile(1 << 20).hard),
        (1024, 524_288)
    );
    assert_eq!((nofile(4096).soft, nofile(4096).hard), (1024, 4096));
    assert_eq!((nofile(512).soft, nofile(512).hard), (512, 512));
    let score = |wanted, own, lower| {
        plan_of(|fixture| {
            fixture.spec.resources.oom_score_adj = wanted;
            fixture.host.oom_score_adj = own;
            fixture.host.can_lower_oom_score = lower;
        })
        .process
        .oom_score_adj
    };
    assert_eq!(score(-998, 0, true), Some(-998));
    assert_eq!(score(-998, 0, false), None);
    assert_eq!(score(1000, 0, false), Some(1000));
    assert_eq!(score(0, -500, false), Some(0));
    refusal_of(|fixture| fixture.spec.resources.oom_score_adj = 1001);
    refusal_of(|fixture| fixture.spec.resources.oom_score_adj = i64::MIN);
}

#[test]
fn settings_of_a_pod() {
    use NamespaceMode::{Node, Pod};
    let settings = |name: &str, value: &str, network, ipc| {
        let mut fixture = Fixture::new();
        fixture
            .pod
            .sysctls
            .insert(name.to_owned(), value.to_owned());
        fixture.pod.namespaces.network = network;
        fixture.pod.namespaces.ipc = ipc;
        sysctls::of_pod(&fixture.pod)
    };
    let all = settings("net/core/somaxconn", "1024", Pod, Pod).unwrap();
    assert_eq!(all["net.core.somaxconn"], "1024");
    assert_eq!(all["net.ipv4.ip_unprivileged_port_start"], "0");
    assert_eq!(all["net.ipv4.ping_group_range"], "0 2147483647");
    let all = settings("net.ipv4.ip_unprivileged_port_start", "1024", Pod, Pod).unwrap();
    assert_eq!(all["net.ipv4.ip_unprivileged_port_start"], "1024");
    assert_eq!(
        settings("kernel.shm_rmid_forced", "1", Node, Pod)
            .unwrap()
            .len(),
        1
    );
    settings("fs.mqueue.msg_max", "10", Pod, Pod).unwrap();
    for (name, value, network, ipc) in [
        ("net.core.somaxconn", "1", Node, Pod),
        ("kernel.sem", "1", Pod, Node),
        ("fs.mqueue.msg_max", "1", Pod, Node),
        ("kernel.core_pattern", "|/bin/x", Pod, Pod),
        ("vm.overcommit_memory", "1", Pod, Pod),
        (
            "kernel.shm_rmid_forced",
            "1+kernel.core_pattern=|x\n",
            Pod,
            Pod,
        ),
        ("kernel.shm_rmid_forced", "1\0", Pod, Pod),
        ("net/../kernel/core_pattern", "x", Pod, Pod),
        ("net..x", "x", Pod, Pod),
        ("net.", "x", Pod, Pod),
        ("net.ipv4/conf", "x", Pod, Pod),
        ("net.ipv4.a b", "x", Pod, Pod),
        ("", "x", Pod, Pod),
        ("kernel.shm", "x", Pod, Pod),
    ] {
        let result = settings(name, value, network, ipc);
        assert!(result.is_err(), "{name:?} {value:?} {result:?}");
    }
}

#[test]
fn an_exec_has_the_rights_of_its_container() {
    let plan = plan_of(|fixture| {
        fixture.image.user = "app".to_owned();
        fixture.spec.security.no_new_privs = true;
        fixture.spec.working_dir = "/srv".to_owned();
    });
    let process = exec_process(&plan, vec![text("id"), text("-u")]).unwrap();
    assert_eq!(process.args, [text("id"), text("-u")]);
    assert!(process.no_new_privileges);
    let mut expected = plan.process.clone();
    expected.args.clone_from(&process.args);
    assert_eq!(process, expected);
    exec_process(&plan, Vec::new()).unwrap_err();
    exec_process(&plan, vec![text("")]).unwrap_err();
}
