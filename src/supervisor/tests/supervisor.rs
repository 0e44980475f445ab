//! The real program against the real kernel: containers, execs, ends.
#![forbid(unsafe_code)]

#[expect(dead_code, reason = "each test program uses a part of it")]
mod harness;

use harness::{Pod, plan};
use insula_seccomp::{Architecture, Context, Filter, KernelVersion, Profile};
use insula_wire::message::{Answer, Event, FailureKind, Request};
use insula_wire::plan::PidNamespace;
use insula_wire::{CapabilitySet, FilterProgram, SeccompFilter};
use std::time::Duration;

#[test]
fn a_container_runs_and_its_log_and_exit_are_told() {
    let mut pod = Pod::start(false);
    let wanted = plan(
        &pod,
        "one",
        &["sh", "-c", "echo out; echo err >&2; hostname; exit 7"],
    );
    let (code, log) = pod.output_of(&wanted);
    assert_eq!(code, 7);
    let mut sorted = log.clone();
    sorted.sort();
    assert_eq!(sorted, ["stderr F err", "stdout F island", "stdout F out"]);
    let record = std::fs::read_to_string(pod.path("one.exit")).unwrap();
    assert!(record.contains("\"code\":7"), "{record}");
    pod.ask(
        Request::Forget {
            container_id: "one".to_owned(),
        },
        &[],
    )
    .unwrap();
}

#[test]
fn a_process_is_what_a_login_would_have_made_it() {
    let mut pod = Pod::start(false);
    let script = "ls /proc/self/fd; umask; grep -E '^(SigIgn|SigBlk|NoNewPrivs|CapEff|CapInh)' /proc/self/status; \
        cat /proc/self/oom_score_adj; ps | wc -l; yes | head -n 1; readlink /proc/self/ns/net";
    let wanted = plan(&pod, "login", &["sh", "-c", script]);
    let (code, log) = pod.output_of(&wanted);
    let text = log.join("\n");
    assert_eq!(code, 0, "{text}");
    for expected in [
        "stdout F 0022",
        "stdout F SigBlk:\t0000000000000000",
        "stdout F SigIgn:\t0000000000000000",
        "stdout F CapInh:\t0000000000000000",
        "stdout F CapEff:\t0000000000000000",
        "stdout F NoNewPrivs:\t1",
        "stdout F 100",
        "stdout F y",
    ] {
        assert!(
            log.iter().any(|line| line == expected),
            "{expected} in {text}"
        );
    }
    // 0, 1, 2 and the directory that ls reads.
    let descriptors = log
        .iter()
        .take_while(|line| *line != "stdout F 0022")
        .count();
    assert_eq!(descriptors, 4, "{text}");
    let own = std::fs::read_link("/proc/self/ns/net").unwrap();
    assert!(!text.contains(own.to_str().unwrap()));
}

#[test]
fn the_root_is_furnished_as_planned() {
    let mut pod = Pod::start(false);
    let outside = pod.path("volume");
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(outside.join("file"), "content\n").unwrap();
    let script = "cat /data/deep/file; echo x > /data/deep/new; echo x > /proc/sys/kernel/domainname; \
        cat /proc/kcore; echo x > /dev/shm/x && cat /dev/shm/x; ls /; ls /proc/1/root";
    let mut wanted = plan(&pod, "root", &["sh", "-c", script]);
    let mut volume = wanted.mounts[0].clone();
    volume.target = "/data/deep".to_owned();
    volume.source = insula_wire::plan::MountSource::Host {
        path: outside.to_str().unwrap().to_owned(),
    };
    volume.attributes.readonly = true;
    wanted.mounts.push(volume);
    wanted.rootfs.readonly = true;
    let (_, log) = pod.output_of(&wanted);
    let text = log.join("\n");
    assert!(text.contains("stdout F content"), "{text}");
    assert_eq!(text.matches("Read-only file system").count(), 2, "{text}");
    assert!(text.contains("stdout F x"), "{text}");
    assert!(!outside.join("new").exists());
}

#[test]
fn execs_run_beside_the_container_and_end_in_time() {
    let mut pod = Pod::start(false);
    let wanted = plan(&pod, "main", &["sleep", "1000"]);
    pod.run(&wanted).unwrap();
    let (code, timed_out, stdout, stderr) = pod
        .exec("main", &["sh", "-c", "echo a; echo b >&2; ps; exit 3"], 0)
        .unwrap();
    assert_eq!((code, timed_out, stderr.as_str()), (3, false, "b\n"));
    assert!(
        stdout.starts_with("a\n") && stdout.contains("sleep 1000"),
        "{stdout}"
    );
    let (code, timed_out, ..) = pod.exec("main", &["sleep", "1000"], 100).unwrap();
    assert_eq!((code, timed_out), (137, true));
    let failure = pod.exec("main", &["missing"], 0).unwrap_err();
    assert_eq!(failure.kind, FailureKind::ProgramNotFound);
    assert_eq!(
        failure.message,
        "exec: \"missing\": executable file not found in $PATH"
    );
    let failure = pod.exec("main", &["/proc/version"], 0).unwrap_err();
    assert_eq!(failure.kind, FailureKind::ProgramNotExecutable);
    let failure = pod.exec("nobody", &["true"], 0).unwrap_err();
    assert_eq!(failure.kind, FailureKind::NotFound);
    for _ in 0..50 {
        assert_eq!(pod.exec("main", &["true"], 0).unwrap().0, 0);
    }
    pod.ask(
        Request::Signal {
            container_id: "main".to_owned(),
            signal: 9,
        },
        &[],
    )
    .unwrap();
    assert_eq!(pod.exit_of("main").code, 137);
}

#[test]
fn a_program_that_cannot_be_executed_is_a_failed_start() {
    let mut pod = Pod::start(false);
    let wanted = plan(&pod, "bad", &["/bin/nothing"]);
    pod.create(&wanted).unwrap();
    let failure = pod
        .ask(
            Request::Start {
                container_id: "bad".to_owned(),
            },
            &[],
        )
        .unwrap_err();
    assert_eq!(
        failure.message,
        "exec: \"/bin/nothing\": no such file or directory"
    );
    assert_eq!(pod.exit_of("bad").code, 128);
}

#[test]
fn a_shared_pid_namespace_has_a_reaper_with_nothing() {
    let mut pod = Pod::start(true);
    let script = "echo pid $$; cat /proc/1/status | grep -E '^(CapEff|CapBnd|Name)'; \
        (sleep 0.1 & ) ; sleep 0.3; ps | grep -c defunct; ls /proc/1/fd | wc -l";
    let mut wanted = plan(&pod, "shared", &["sh", "-c", script]);
    wanted.namespaces.pid = PidNamespace::Pod;
    let (code, log) = pod.output_of(&wanted);
    let text = log.join("\n");
    assert_eq!(code, 0, "{text}");
    assert!(!text.contains("pid 1\n"), "{text}");
    assert!(text.contains("CapEff:\t0000000000000000"), "{text}");
    assert!(text.contains("CapBnd:\t0000000000000000"), "{text}");
    let script = "ls /proc/self/fd; echo out; echo err >&2; echo path > /dev/stderr";
    let mut streams = plan(&pod, "streams", &["sh", "-c", script]);
    streams.namespaces.pid = PidNamespace::Pod;
    streams.links = vec![insula_wire::plan::Symlink {
        path: "/dev/stderr".to_owned(),
        target: "/proc/self/fd/2".to_owned(),
    }];
    let (_, mut log) = pod.output_of(&streams);
    log.sort();
    let expected = [
        "stderr F err",
        "stderr F path",
        "stdout F 0",
        "stdout F 1",
        "stdout F 2",
        "stdout F 3",
        "stdout F out",
    ];
    assert_eq!(log, expected);
    let mut missing = plan(&pod, "missing", &["nothing-here"]);
    missing.namespaces.pid = PidNamespace::Pod;
    let failure = pod.run(&missing).unwrap_err();
    assert_eq!(failure.kind, FailureKind::ProgramNotFound, "{failure}");
}

#[test]
fn another_container_of_the_pod_can_be_looked_at() {
    let mut pod = Pod::start(false);
    let main = plan(&pod, "main", &["sleep", "1234"]);
    pod.run(&main).unwrap();
    let mut debug = plan(&pod, "debug", &["ps"]);
    debug.namespaces.pid = PidNamespace::Target("main".to_owned());
    let (code, log) = pod.output_of(&debug);
    let text = log.join("\n");
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("sleep 1234"), "{text}");
}

#[test]
fn a_terminal_is_the_containers_own() {
    let mut pod = Pod::start(false);
    let mut wanted = plan(
        &pod,
        "tty",
        &["sh", "-c", "tty; ls -l /dev/console; echo done"],
    );
    wanted.stdio.terminal = true;
    let (code, log) = pod.output_of(&wanted);
    let text = log.join("\n");
    assert_eq!(code, 0, "{text}");
    assert!(
        text.contains("stdout F /dev/pts/0") || text.contains("stdout F /dev/console"),
        "{text}"
    );
    assert!(text.contains("stdout F done"), "{text}");
}

#[test]
fn a_daemon_that_comes_back_learns_everything() {
    let mut pod = Pod::start(false);
    let short = plan(&pod, "short", &["sh", "-c", "sleep 0.2; exit 5"]);
    let long = plan(&pod, "long", &["sleep", "1000"]);
    pod.run(&short).unwrap();
    pod.run(&long).unwrap();
    let created = plan(&pod, "created", &["true"]);
    pod.create(&created).unwrap();
    drop(pod.reconnect());
    std::thread::sleep(Duration::from_millis(500));
    let Answer::Hello {
        containers,
        pod_made,
        ..
    } = pod.reconnect()
    else {
        panic!("not a greeting");
    };
    assert!(pod_made);
    let codes: Vec<_> = containers
        .iter()
        .map(|state| {
            (
                state.container_id.as_str(),
                state.pid > 0,
                state.exit.as_ref().map(|exit| exit.code),
            )
        })
        .collect();
    assert_eq!(
        codes,
        [
            ("created", true, None),
            ("long", true, None),
            ("short", false, Some(5))
        ]
    );
    let failure = pod.ask(Request::Shutdown, &[]).unwrap_err();
    assert_eq!(failure.kind, FailureKind::WrongState);
    pod.ask(
        Request::Start {
            container_id: "created".to_owned(),
        },
        &[],
    )
    .unwrap();
    assert!(matches!(pod.event(), Event::Exited { exit, .. } if exit.code == 0));
}

#[test]
fn logs_lose_no_line_and_can_be_reopened() {
    let mut pod = Pod::start(false);
    let wanted = plan(
        &pod,
        "log",
        &["sh", "-c", "seq 1 200000; sleep 0.5; echo last"],
    );
    pod.run(&wanted).unwrap();
    std::thread::sleep(Duration::from_millis(300));
    let path = wanted.stdio.log_path.clone().unwrap();
    std::fs::rename(&path, format!("{path}.1")).unwrap();
    pod.ask(
        Request::ReopenLog {
            container_id: "log".to_owned(),
        },
        &[],
    )
    .unwrap();
    assert_eq!(pod.exit_of("log").code, 0);
    let old = std::fs::read_to_string(format!("{path}.1")).unwrap();
    let all: Vec<String> = old
        .lines()
        .map(|line| line.rsplit_once(' ').unwrap().1.to_owned())
        .chain(
            Pod::log(&wanted)
                .iter()
                .map(|line| line.rsplit_once(' ').unwrap().1.to_owned()),
        )
        .collect();
    let expected: Vec<String> = (1..=200_000)
        .map(|n| n.to_string())
        .chain(["last".to_owned()])
        .collect();
    assert!(all == expected, "{} lines of {}", all.len(), expected.len());
}

/// A filter that refuses these system calls with `EDOM`.
fn refusing(names: &[&str]) -> SeccompFilter {
    let text = format!(
        r#"{{"defaultAction": "SCMP_ACT_ALLOW", "syscalls":
            [{{"names": {names:?}, "action": "SCMP_ACT_ERRNO", "errno": "EDOM"}}]}}"#
    );
    let context = Context {
        architecture: Architecture::native().unwrap(),
        capabilities: CapabilitySet::EMPTY,
        kernel: KernelVersion {
            major: 5,
            minor: 15,
        },
    };
    let filter = Filter::compile(&Profile::parse(text.as_bytes()).unwrap(), &context).unwrap();
    SeccompFilter {
        program: FilterProgram::new(filter.program.to_bytes()).unwrap(),
        log: false,
        spec_allow: true,
        listener: None,
    }
}

/// What a launch does after the latest moment a filter could be loaded at.
const OURS: &[&str] = &[
    "setsid",
    "clone",
    "clone3",
    "capset",
    "prctl",
    "sendmsg",
    "close_range",
    "seccomp",
];

#[test]
fn a_filter_is_loaded_last_and_judges_the_workload_alone() {
    for (shared, no_new_privileges, uid, refused) in [
        (false, true, 0, OURS),
        (false, false, 0, OURS),
        (false, false, 1000, OURS),
        (true, true, 0, OURS),
        (true, true, 1000, OURS),
        // Who may not load a filter in sight of others is cloned under it.
        (true, false, 0, &OURS[4..]),
        (true, false, 1000, &OURS[4..]),
    ] {
        let mut pod = Pod::start(shared);
        let script =
            "grep -E '^(Seccomp|CapEff|CapPrm|NoNewPrivs):' /proc/self/status; mkdir /tmp/x";
        let mut wanted = plan(&pod, "filtered", &["/bin/busybox", "sh", "-c", script]);
        if shared {
            wanted.namespaces.pid = PidNamespace::Pod;
        }
        let process = &mut wanted.process;
        process.no_new_privileges = no_new_privileges;
        process.user.uid = uid;
        process.capabilities.bounding = CapabilitySet::EMPTY;
        let refused: Vec<_> = refused.iter().chain(&["mkdir"]).copied().collect();
        // A shell needs clone.
        let refused: Vec<_> = refused
            .into_iter()
            .filter(|name| *name != "clone")
            .collect();
        process.seccomp = Some(refusing(&refused));
        let (_, log) = pod.output_of(&wanted);
        let text = log.join("\n");
        let title = format!("{shared} {no_new_privileges} {uid}: {text}");
        assert!(text.contains("Seccomp:\t2"), "{title}");
        assert!(text.contains("CapEff:\t0000000000000000"), "{title}");
        assert!(text.contains("CapPrm:\t0000000000000000"), "{title}");
        assert!(
            text.contains("can't create directory '/tmp/x': Numerical"),
            "{title}"
        );
    }
}

#[test]
fn a_program_that_cannot_be_executed_is_told_through_any_filter() {
    for shared in [false, true] {
        let mut pod = Pod::start(shared);
        let mut wanted = plan(&pod, "bad", &["/bin/nothing"]);
        if shared {
            wanted.namespaces.pid = PidNamespace::Pod;
        }
        wanted.process.seccomp = Some(refusing(&[
            "sendmsg",
            "sendto",
            "write",
            "brk",
            "mmap",
            "munmap",
            "exit",
            "exit_group",
            "futex",
        ]));
        pod.create(&wanted).unwrap();
        let failure = pod
            .ask(
                Request::Start {
                    container_id: "bad".to_owned(),
                },
                &[],
            )
            .unwrap_err();
        assert_eq!(
            failure.message,
            "exec: \"/bin/nothing\": no such file or directory"
        );
        assert_eq!(pod.exit_of("bad").code, 128);
    }
}

#[test]
fn a_filter_that_forbids_the_launch_itself_fails_it_by_name() {
    let mut pod = Pod::start(true);
    let mut wanted = plan(&pod, "bad", &["/bin/busybox", "true"]);
    wanted.namespaces.pid = PidNamespace::Pod;
    wanted.process.no_new_privileges = false;
    for (refused, message) in [
        ("capset", "load system call filter"),
        ("clone", "clone(CLONE_PARENT|CLONE_VFORK)"),
        ("setsid", "setsid()"),
        ("execve", "exec: \"/bin/busybox\""),
    ] {
        wanted.container_id = refused.to_owned();
        wanted.process.seccomp = Some(refusing(&[refused]));
        pod.create(&wanted).unwrap();
        let start = Request::Start {
            container_id: refused.to_owned(),
        };
        let failure = pod.ask(start, &[]).unwrap_err();
        let told = format!("{}: {}", failure.step, failure.message);
        assert!(told.contains(message), "{told}");
    }
}
