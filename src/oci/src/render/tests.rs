use super::{Surroundings, render};
use insula_wire::plan::LaunchPlan;
use insula_wire::{IdMappings, IdRange};
use serde_json::{Value, json};

/// A plan with something of everything, as it stands in a record.
pub(crate) fn plan() -> LaunchPlan {
    let everything = json!({
        "container_id": "c1",
        "namespaces": {
            "user": "pod", "network": "pod", "ipc": "pod", "uts": "pod",
            "pid": "container", "cgroup": "new"
        },
        "rootfs": {"readonly": true},
        "mounts": [
            mount("/proc", &json!("proc"), &["nosuid", "nodev", "noexec"], "private"),
            mount("/dev", &json!({"filesystem": {"kind": "tmpfs", "options": [["mode", "755"], ["newinstance", null]]}}), &["nosuid"], "private"),
            mount("/dev/shm", &json!("pod_shm"), &[], "private"),
            mount("/data", &json!({"host": {"path": "/srv/data"}}), &["readonly", "recursive_readonly", "id_mapped"], "host_to_container"),
            mount("/model", &json!({"image": {"id": "sha256:ab", "sub_path": "files"}}), &["readonly"], "private"),
        ],
        "devices": [
            {"path": "/dev/null", "kind": "character", "major": 1, "minor": 3, "mode": 0o666, "uid": 0, "gid": 0},
            {"path": "/dev/sda", "kind": "block", "major": 8, "minor": 0, "mode": 0o660, "uid": 0, "gid": 6}
        ],
        "links": [{"path": "/dev/fd", "target": "/proc/self/fd"}],
        "masked_paths": ["/proc/kcore"],
        "readonly_paths": ["/proc/sys"],
        "process": {
            "args": ["/bin/app", {"base64": "/2E="}],
            "env": ["PATH=/bin"],
            "cwd": "/",
            "user": {"uid": 1000, "gid": 1001, "supplementary_groups": [5, 6]},
            "umask": 0o022,
            "capabilities": {
                "bounding": ["CAP_CHOWN", "CAP_KILL"], "effective": ["CAP_KILL"],
                "permitted": ["CAP_KILL"], "inheritable": [], "ambient": []
            },
            "no_new_privileges": true,
            "rlimits": [{"resource": "nofile", "soft": 1024, "hard": 4096}],
            "oom_score_adj": -999,
            "apparmor_profile": "insula-default",
            "selinux_label": null,
            "seccomp": {"program": "BgAAAAAA/38=", "log": false, "spec_allow": false, "listener": null}
        },
        "stdio": {"terminal": true, "stdin": false, "stdin_once": false, "log_path": null},
        "cgroup": {
            "path": "kubepods/c1",
            "resources": {
                "cpu_shares": 512, "cpu_quota": -1, "cpuset_cpus": "0-1",
                "memory_limit": 1_048_576, "memory_swap_limit": -1, "pids_limit": 100,
                "hugepage_limits": {"2MB": 4_194_304},
                "devices": [
                    {"allow": true, "kind": null, "major": null, "minor": null, "access": "m"},
                    {"allow": true, "kind": "character", "major": 1, "minor": 3, "access": "rw"}
                ],
                "unified": {"memory.high": "max"}
            }
        },
        "stop_signal": 15,
        "mount_label": "system_u:object_r:container_file_t:s0",
        "hooks": {
            "create_container": [
                {"path": "/usr/bin/hook", "args": ["hook", "links"], "env": ["A=b"], "timeout": 5}
            ],
            "poststop": [{"path": "/usr/bin/gone", "args": [], "env": [], "timeout": null}]
        },
        "bundle": {"path": "/run/bundle", "annotations": {}},
        "runtime": null
    });
    serde_json::from_value(everything).unwrap()
}

fn mount(target: &str, source: &Value, set: &[&str], propagation: &str) -> Value {
    let all = [
        "readonly",
        "recursive_readonly",
        "nosuid",
        "nodev",
        "noexec",
        "id_mapped",
    ];
    let attributes: serde_json::Map<_, _> = all
        .iter()
        .map(|name| ((*name).to_owned(), Value::Bool(set.contains(name))))
        .collect();
    json!({"target": target, "source": source, "attributes": attributes, "propagation": propagation})
}

fn around() -> Surroundings {
    Surroundings {
        root_path: "rootfs".to_owned(),
        hostname: "web".to_owned(),
        id_mappings: Some(IdMappings {
            uids: IdRange::new(0, 100_000, 65_536).unwrap(),
            gids: IdRange::new(0, 200_000, 1000).unwrap(),
        }),
        network_namespace: Some("/run/insula/netns/p".to_owned()),
        process: None,
        sysctls: [("net.ipv4.ip_forward".to_owned(), "1".to_owned())].into(),
        annotations: [("a".to_owned(), "b".to_owned())].into(),
    }
}

fn shown(change: impl FnOnce(&mut LaunchPlan, &mut Surroundings)) -> Value {
    let (mut plan, mut around) = (plan(), around());
    change(&mut plan, &mut around);
    serde_json::to_value(render(&plan, &around)).unwrap()
}

/// The value at each JSON pointer.
#[track_caller]
fn holds(document: &Value, expected: &[(&str, Value)]) {
    for (pointer, value) in expected {
        assert_eq!(document.pointer(pointer), Some(value), "{pointer}");
    }
}

#[test]
fn the_process_is_as_the_schema_names_it() {
    holds(
        &shown(|_, _| {}),
        &[
            ("/ociVersion", json!("1.2.0")),
            ("/process/terminal", json!(true)),
            (
                "/process/user",
                json!({"uid": 1000, "gid": 1001, "umask": 18, "additionalGids": [5, 6]}),
            ),
            ("/process/args", json!(["/bin/app", "\u{fffd}a"])),
            ("/process/env", json!(["PATH=/bin"])),
            (
                "/process/capabilities/bounding",
                json!(["CAP_CHOWN", "CAP_KILL"]),
            ),
            ("/process/capabilities/ambient", json!([])),
            (
                "/process/rlimits",
                json!([{"type": "RLIMIT_NOFILE", "soft": 1024, "hard": 4096}]),
            ),
            ("/process/noNewPrivileges", json!(true)),
            ("/process/oomScoreAdj", json!(-999)),
            ("/process/apparmorProfile", json!("insula-default")),
            ("/root", json!({"path": "rootfs", "readonly": true})),
            ("/hostname", json!("web")),
            ("/annotations", json!({"a": "b"})),
        ],
    );
}

#[test]
fn hooks_are_listed_by_their_moment() {
    let document = shown(|_, _| {});
    holds(
        &document,
        &[(
            "/hooks",
            json!({
                "createContainer": [{"path": "/usr/bin/hook", "args": ["hook", "links"],
                                     "env": ["A=b"], "timeout": 5}],
                "poststop": [{"path": "/usr/bin/gone"}]
            }),
        )],
    );
    let without = shown(|plan, _| plan.hooks = insula_wire::Hooks::default());
    assert_eq!(without.get("hooks"), None);
}

#[test]
fn mounts_have_a_type_a_source_and_options() {
    holds(
        &shown(|_, _| {}),
        &[
            (
                "/mounts/0",
                json!({"destination": "/proc", "type": "proc", "source": "proc",
                       "options": ["nosuid", "nodev", "noexec", "rprivate"]}),
            ),
            (
                "/mounts/1",
                json!({"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
                       "options": ["mode=755", "newinstance", "nosuid", "rprivate"]}),
            ),
            ("/mounts/2/source", json!("shm")),
            (
                "/mounts/3",
                json!({"destination": "/data", "type": "bind", "source": "/srv/data",
                       "options": ["rbind", "ro", "rro", "ridmap", "rslave"],
                       "uidMappings": [{"containerID": 0, "hostID": 100_000, "size": 65_536}],
                       "gidMappings": [{"containerID": 0, "hostID": 200_000, "size": 1000}]}),
            ),
            (
                "/mounts/4",
                json!({"destination": "/model", "type": "image", "source": "sha256:ab",
                       "options": ["subpath=files", "ro", "rprivate"]}),
            ),
            ("/linux/rootfsPropagation", json!("slave")),
        ],
    );
}

#[test]
fn linux_has_devices_resources_and_paths() {
    let document = shown(|_, _| {});
    holds(
        &document,
        &[
            (
                "/linux/devices/1",
                json!({"path": "/dev/sda", "type": "b", "major": 8, "minor": 0,
                       "fileMode": 432, "uid": 0, "gid": 6}),
            ),
            ("/linux/cgroupsPath", json!("/kubepods/c1")),
            (
                "/linux/resources",
                json!({
                    "devices": [
                        {"allow": false, "type": "a", "access": "rwm"},
                        {"allow": true, "type": "a", "access": "m"},
                        {"allow": true, "type": "c", "major": 1, "minor": 3, "access": "rw"}
                    ],
                    "memory": {"limit": 1_048_576, "swap": -1},
                    "cpu": {"shares": 512, "quota": -1, "cpus": "0-1"},
                    "pids": {"limit": 100},
                    "hugepageLimits": [{"pageSize": "2MB", "limit": 4_194_304}],
                    "unified": {"memory.high": "max"}
                }),
            ),
            ("/linux/sysctl", json!({"net.ipv4.ip_forward": "1"})),
            ("/linux/maskedPaths", json!(["/proc/kcore"])),
            ("/linux/readonlyPaths", json!(["/proc/sys"])),
            (
                "/linux/mountLabel",
                json!("system_u:object_r:container_file_t:s0"),
            ),
            (
                "/linux/uidMappings",
                json!([{"containerID": 0, "hostID": 100_000, "size": 65_536}]),
            ),
        ],
    );
    assert_eq!(
        document["linux"].get("seccomp"),
        None,
        "a program is no profile"
    );
}

#[test]
fn namespaces_of_the_host_are_absent_and_joined_ones_have_paths() {
    use insula_wire::plan::{NewOrHost, PidNamespace, PodOrHost};
    let kinds = |document: &Value| -> Vec<String> {
        let list = document["linux"]["namespaces"].as_array().unwrap();
        list.iter()
            .map(|entry| {
                let kind = entry["type"].as_str().unwrap();
                format!("{kind}={}", entry["path"].as_str().unwrap_or_default())
            })
            .collect()
    };
    assert_eq!(
        kinds(&shown(|_, _| {})),
        [
            "mount=",
            "network=/run/insula/netns/p",
            "ipc=",
            "uts=",
            "user=",
            "pid=",
            "cgroup="
        ]
    );
    assert_eq!(
        kinds(&shown(|plan, around| {
            around.process = Some(7);
            plan.namespaces.pid = PidNamespace::Target("other".to_owned());
        })),
        [
            "mount=",
            "network=/run/insula/netns/p",
            "ipc=/proc/7/ns/ipc",
            "uts=/proc/7/ns/uts",
            "user=/proc/7/ns/user",
            "pid=/proc/7/ns/pid",
            "cgroup="
        ]
    );
    let of_host = shown(|plan, _| {
        plan.namespaces.user = PodOrHost::Host;
        plan.namespaces.network = PodOrHost::Host;
        plan.namespaces.ipc = PodOrHost::Host;
        plan.namespaces.uts = PodOrHost::Host;
        plan.namespaces.pid = PidNamespace::Host;
        plan.namespaces.cgroup = NewOrHost::Host;
    });
    assert_eq!(kinds(&of_host), ["mount="]);
    assert_eq!(
        of_host.get("hostname"),
        None,
        "the node's name is not set again"
    );
    assert_eq!(of_host["linux"].get("uidMappings"), None);
}
