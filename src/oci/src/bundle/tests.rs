use super::{Bundle, config};
use crate::render::tests::plan;
use insula_wire::OsText;
use insula_wire::plan::{ExternalRuntime, LaunchPlan, PidNamespace, PodOrHost, RuntimeProgram};
use serde_json::{Value, json};

/// A plan with something of everything, for a runtime.
fn external() -> LaunchPlan {
    let mut plan = plan();
    plan.namespaces.user = PodOrHost::Host;
    plan.process.args = vec![OsText::try_from("/bin/app").unwrap()];
    plan.runtime = Some(ExternalRuntime {
        program: RuntimeProgram {
            path: "/usr/bin/crun".to_owned(),
            args: Vec::new(),
            timeout_ms: 1000,
            namespaced: true,
        },
        seccomp: Some(json!({"defaultAction": "SCMP_ACT_ALLOW"})),
    });
    plan
}

fn written(plan: &LaunchPlan) -> Result<Value, String> {
    let bundle = Bundle {
        directory: "/run/insula/pods/p".to_owned(),
        cgroup: "kubepods/c1/container".to_owned(),
        hostname: String::new(),
    };
    config(plan, &bundle)
        .map(|text| serde_json::from_slice(&text).unwrap())
        .map_err(|error| error.to_string())
}

#[track_caller]
fn holds(document: &Value, expected: &[(&str, Value)]) {
    for (pointer, value) in expected {
        assert_eq!(document.pointer(pointer), Some(value), "{pointer}");
    }
}

#[test]
fn what_is_prepared_is_named_in_the_bundle() {
    let document = written(&external()).unwrap();
    let at = |part: &str| json!(format!("/run/insula/pods/p/{part}"));
    holds(
        &document,
        &[
            (
                "/root",
                json!({"path": "/run/insula/pods/p/rootfs", "readonly": true}),
            ),
            ("/ociVersion", json!("1.0.2")),
            ("/linux/cgroupsPath", json!("/kubepods/c1/container")),
            ("/linux/seccomp", json!({"defaultAction": "SCMP_ACT_ALLOW"})),
            ("/mounts/0/type", json!("proc")),
            ("/mounts/1/source", json!("tmpfs")),
            ("/mounts/2/source", at("shm")),
            ("/mounts/2/type", json!("bind")),
            ("/mounts/3/source", at("mounts/0")),
            (
                "/mounts/3/options",
                json!(["rbind", "ro", "rro", "ridmap", "rslave"]),
            ),
            ("/mounts/4/source", at("mounts/1")),
            ("/mounts/4/type", json!("bind")),
            ("/mounts/4/options", json!(["rbind", "ro", "rprivate"])),
            (
                "/linux/namespaces",
                json!([
                    {"type": "mount"},
                    {"type": "network", "path": "/run/insula/pods/p/ns/net"},
                    {"type": "ipc", "path": "/run/insula/pods/p/ns/ipc"},
                    {"type": "uts", "path": "/run/insula/pods/p/ns/uts"},
                    {"type": "pid"},
                    {"type": "cgroup"},
                ]),
            ),
        ],
    );
    // The cgroup's values are the daemon's; a runtime without rules for
    // devices would allow what it likes.
    let resources = document["linux"]["resources"].as_object().unwrap();
    assert_eq!(resources.keys().collect::<Vec<_>>(), ["devices"]);
    assert_eq!(resources["devices"][0]["allow"], false);
    assert_eq!(document.get("hostname"), None);
    assert_eq!(document["linux"].get("sysctl"), None);
}

#[test]
fn namespaces_of_others_are_joined_and_the_hosts_are_not_in_the_list() {
    for (pid, expected) in [
        (
            PidNamespace::Pod,
            Some(json!({"type": "pid", "path": "/run/insula/pods/p/ns/pid"})),
        ),
        (
            PidNamespace::Target("c0".to_owned()),
            Some(json!({"type": "pid", "path": "/run/insula/pods/p/ns/pid"})),
        ),
        (PidNamespace::Host, None),
    ] {
        let mut plan = external();
        plan.namespaces.pid = pid;
        plan.namespaces.network = PodOrHost::Host;
        let document = written(&plan).unwrap();
        let list = document["linux"]["namespaces"].as_array().unwrap();
        let found = |kind: &str| list.iter().find(|it| it["type"] == kind).cloned();
        assert_eq!(found("pid"), expected);
        assert_eq!(found("network"), None);
    }
}

#[test]
fn all_cgroups_are_one_mount() {
    let mut plan = external();
    let cgroups = [
        ("/sys/fs/cgroup", "tmpfs", json!([["mode", "755"]])),
        ("/sys/fs/cgroup/cpu", "cgroup", json!([["cpu", null]])),
        ("/sys/fs/cgroup/unified", "cgroup2", json!([])),
        ("/sys/fs/cgroupish", "tmpfs", json!([])),
    ];
    plan.mounts = cgroups
        .into_iter()
        .map(|(target, kind, options)| {
            serde_json::from_value(json!({
                "target": target,
                "source": {"filesystem": {"kind": kind, "options": options}},
                "attributes": {
                    "readonly": true, "recursive_readonly": false, "nosuid": true, "nodev": true,
                    "noexec": true, "id_mapped": false
                },
                "propagation": "private"
            }))
            .unwrap()
        })
        .collect();
    let document = written(&plan).unwrap();
    let mounts = document["mounts"].as_array().unwrap();
    assert_eq!(mounts.len(), 2);
    assert_eq!(
        mounts[0],
        json!({
            "destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
            "options": ["ro", "nosuid", "nodev", "noexec"]
        })
    );
    assert_eq!(mounts[1]["destination"], "/sys/fs/cgroupish");
}

#[test]
fn what_a_runtime_cannot_be_told_is_refused() {
    let mut bytes = external();
    bytes.process.args = plan().process.args;
    let error = written(&bytes).unwrap_err();
    assert!(
        error.starts_with("argument \"\u{fffd}a\" is not UTF-8"),
        "{error}"
    );
    let mut user = external();
    user.namespaces.user = PodOrHost::Pod;
    let error = written(&user).unwrap_err();
    assert!(error.contains("user namespace"), "{error}");
}
