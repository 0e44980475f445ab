//! Hooks: programs of the node that are run for a container (OCI runtime-spec).

use super::cdi::{asking, describe};
use crate::support::case::cases;
use crate::support::outcome::{check, check_contains, check_eq};
use crate::support::requests::{self, BUSYBOX, host_pod, mapped, mapped_pod, pod, script, sleeper};
use crate::support::{Case, Node, Outcome};
use insula_cri_api::v1::{ContainerConfig, NamespaceMode};
use serde_json::{Value, json};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::PathBuf;

pub fn cases() -> Vec<Case> {
    cases![
        hooks_run_in_order_each_in_its_place,
        a_hook_has_nothing_that_it_was_not_given,
        hooks_beside_other_processes_and_in_user_namespaces in cgroup,
        nothing_of_a_hook_is_seen_by_a_racer,
        a_hook_that_fails_fails_its_container_by_name,
        a_hook_that_hangs_is_killed_with_all_it_started,
        hooks_after_the_fact_only_warn,
        a_removal_after_a_restart_runs_its_hooks,
    ]
}

/// What every hook on the node does: it leaves its state, and its turn.
const NOTE: &str = r#"set -e
    umask 0
    stage=$1 out=$2
    state=$(cat)
    bundle=$(printf %s "$state" | sed 's/.*"bundle":"\([^"]*\)".*/\1/')
    pid=$(printf %s "$state" | sed -n 's/.*"pid":\([0-9]*\).*/\1/p')
    printf %s "$state" > "$out/$stage.state"
    echo "$stage" >> "$out/order"
    for kind in mnt net pid user; do readlink /proc/self/ns/$kind; done > "$out/$stage.ns"
    pwd > "$out/$stage.cwd"
    cat config.json > "$out/$stage.config"
"#;

/// A hook that runs a script of the node's shell after [`NOTE`].
fn hook(node: &Node, stage: &str, more: &str) -> Value {
    let text = format!("{NOTE}{more}");
    json!({
        "hookName": stage, "path": "/bin/sh", "timeout": 60,
        "args": ["hook", "-c", text, "sh", stage, node.path("hooks")],
        "env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"]
    })
}

/// A vendor whose one device has these hooks.
fn vendor(node: &Node, hooks: &[Value]) -> Outcome {
    let place = node.path("hooks");
    std::fs::create_dir_all(&place)?;
    // A hook of a user namespace is nobody here.
    std::fs::set_permissions(&place, std::fs::Permissions::from_mode(0o777))?;
    let file = json!({
        "cdiVersion": "0.6.0", "kind": "e2e.example/hooked",
        "devices": [{"name": "0", "containerEdits": {"hooks": hooks}}]
    });
    describe(node, "static", "hooked.json", &file.to_string())
}

fn hooked(config: ContainerConfig) -> ContainerConfig {
    asking(config, &["e2e.example/hooked=0"])
}

fn noted(node: &Node, file: &str) -> Outcome<String> {
    let path = node.path("hooks").join(file);
    std::fs::read_to_string(&path).map_err(|error| format!("{path:?}: {error}").into())
}

fn namespaces_of(pid: &str) -> Outcome<Vec<String>> {
    ["mnt", "net", "pid", "user"]
        .iter()
        .map(|kind| {
            let path = PathBuf::from(format!("/proc/{pid}/ns/{kind}"));
            Ok(std::fs::read_link(path)?.to_string_lossy().into_owned())
        })
        .collect()
}

/// Changes the container's root as the hooks of device vendors do.
const CHANGE_ROOT: &str = r#"
    root=$(sed 's/.*"root":{"path":"\([^"]*\)".*/\1/' config.json)
    echo "from the hook" > "$root/from-hook"
    ln -s from-hook "$root/link"
"#;

async fn hooks_run_in_order_each_in_its_place(node: &mut Node) -> Outcome {
    node.pull(BUSYBOX).await?;
    let seen_through = r#"
        ls "/proc/$pid/root$bundle/rootfs/bin/sh" > "$out/$stage.root"
        ls "$bundle/rootfs" > "$out/$stage.outside""#;
    let inside = json!({
        "hookName": "startContainer", "path": "/bin/sh",
        "args": ["sh", "-c", "cat > /tmp/state; id -u > /tmp/uid; pwd > /tmp/cwd; ls -l /proc/$$/fd > /tmp/fds"],
        "env": ["PATH=/bin"]
    });
    let hooks = [
        hook(node, "poststop", ""),
        hook(node, "poststart", ""),
        inside,
        hook(node, "createContainer", CHANGE_ROOT),
        hook(node, "createRuntime", seen_through),
        hook(node, "prestart", ""),
    ];
    vendor(node, &hooks)?;
    let pod = node.run_pod(pod("hooks")).await?;
    let mut config = hooked(script(
        "main",
        "cat /from-hook /link /tmp/uid /tmp/cwd; cat /tmp/state; echo; exec sleep 1000",
    ));
    config.working_dir = "/tmp".into();
    config.annotations.insert("e2e".into(), "yes".into());
    let security = requests::security(&mut config);
    security.run_as_user = Some(insula_cri_api::v1::Int64Value { value: 1234 });
    let id = node.create(&pod, config).await?;
    let created = "prestart\ncreateRuntime\ncreateContainer\n";
    check_eq!(
        noted(node, "order")?.as_str(),
        created,
        "order until created"
    );
    node.start_container(&id).await?;
    let started = format!("{created}poststart\n");
    check_eq!(noted(node, "order")?, started, "order until started");
    node.wait_for_output(&id, "\"status\":\"created\"").await?;

    check_what_they_saw(node, &id).await?;
    check_contains!(noted(node, "createRuntime.root")?, "/rootfs/bin/sh");
    check_eq!(
        noted(node, "createRuntime.outside")?.as_str(),
        "",
        "the root on the node"
    );
    let output = node.stdout(&id).await?;
    check_contains!(output, "from the hook\nfrom the hook\n1234\n/tmp\n{");
    let state: Value = serde_json::from_str(output.lines().last().unwrap_or_default())?;
    check_eq!(
        (&state["pid"], &state["id"]),
        (&json!(1), &json!(id)),
        "startContainer"
    );
    let fds = node.shell(&id, "grep -c ' -> ' /tmp/fds").await?;
    check_eq!(fds.trim(), "3", "descriptors of startContainer");

    node.remove(&id).await?;
    check_eq!(
        noted(node, "order")?,
        format!("{started}poststop\n"),
        "order to the end"
    );
    let state: Value = serde_json::from_str(&noted(node, "poststop.state")?)?;
    check_eq!(state["status"], json!("stopped"), "status told to poststop");
    Ok(())
}

/// The state, the bundle and the namespaces of each hook on the node.
async fn check_what_they_saw(node: &Node, id: &str) -> Outcome {
    let pid = node.pid(id).await?;
    let (own, theirs) = (namespaces_of("self")?, namespaces_of(&pid.to_string())?);
    for (stage, status, told) in [
        ("prestart", "creating", pid),
        ("createRuntime", "creating", pid),
        ("createContainer", "creating", 1),
        ("poststart", "running", pid),
    ] {
        let state: Value = serde_json::from_str(&noted(node, &format!("{stage}.state"))?)?;
        check_eq!(state["id"], json!(id), "id told to {stage}");
        check_eq!(state["status"], json!(status), "status told to {stage}");
        check_eq!(state["pid"], json!(told), "pid told to {stage}");
        check_eq!(state["annotations"]["e2e"], json!("yes"), "told to {stage}");
        let bundle = state["bundle"].as_str().ok_or("no bundle")?;
        let cwd = noted(node, &format!("{stage}.cwd"))?;
        check_eq!(cwd.trim(), bundle, "working directory of {stage}");
        let config: Value = serde_json::from_str(&noted(node, &format!("{stage}.config"))?)?;
        let root = format!("{bundle}/rootfs");
        check_eq!(config["root"]["path"], json!(root), "root told to {stage}");
        check_eq!(
            config["process"]["user"]["uid"],
            json!(1234),
            "user told to {stage}"
        );
        let seen: Vec<_> = noted(node, &format!("{stage}.ns"))?
            .lines()
            .map(str::to_owned)
            .collect();
        if stage == "createContainer" {
            check_eq!(seen[..2], theirs[..2], "mounts and network of {stage}");
            check!(seen[2] != own[2], "{stage} sees the node's processes");
        } else {
            check_eq!(seen, own, "namespaces of {stage}");
        }
    }
    Ok(())
}

async fn a_hook_has_nothing_that_it_was_not_given(node: &mut Node) -> Outcome {
    node.pull(BUSYBOX).await?;
    // A shell that redirects one command alone may keep its own stream elsewhere meanwhile; and
    // /proc is the node's, whatever the hook's own process ids are.
    let look = r#"exec 2> /dev/null > "$2/$1.env"; tr '\0' '\n' < /proc/self/environ
        exec > "$2/$1.fds"; ls /proc/self/fd
        exec > "$2/$1.status"; grep -E '^(SigIgn|SigBlk|Umask)' /proc/self/status
        exec > "$2/$1.label"; cat /proc/self/attr/current || true"#;
    let stages = ["createRuntime", "createContainer", "poststart"];
    let hooks = stages.map(|stage| {
        json!({
            "hookName": stage, "path": "/bin/sh",
            "args": ["sh", "-c", look, "sh", stage, node.path("hooks")],
            "env": ["ONLY=this"]
        })
    });
    vendor(node, &hooks)?;
    let pod = node.run_pod(host_pod("hooks")).await?;
    let mut config = hooked(sleeper("main"));
    config
        .envs
        .push(requests::variable("LD_PRELOAD", "/evil.so"));
    node.run(&pod, config).await?;
    for stage in stages {
        check_eq!(
            noted(node, &format!("{stage}.env"))?.as_str(),
            "ONLY=this\n",
            "{stage}"
        );
        check_eq!(
            noted(node, &format!("{stage}.fds"))?.as_str(),
            "0\n1\n2\n3\n",
            "{stage}"
        );
        let status = noted(node, &format!("{stage}.status"))?;
        check_contains!(status, "Umask:\t0022");
        check_contains!(status, "SigBlk:\t0000000000000000");
        let ignored = status
            .lines()
            .find_map(|line| line.strip_prefix("SigIgn:\t"))
            .and_then(|mask| u64::from_str_radix(mask, 16).ok())
            .ok_or("no SigIgn")?;
        // Rust's programs ignore SIGPIPE, the thirteenth.
        check_eq!(ignored & (1 << 12), 0, "whether {stage} ignores SIGPIPE");
        check!(
            !noted(node, &format!("{stage}.label"))?.contains("insula"),
            "{stage} is confined as the container"
        );
    }
    Ok(())
}

async fn hooks_beside_other_processes_and_in_user_namespaces(node: &mut Node) -> Outcome {
    node.pull(BUSYBOX).await?;
    let inside = json!({
        "hookName": "startContainer", "path": "/bin/sh",
        "args": ["sh", "-c", "id -u > /tmp/uid; grep -c . /proc/self/uid_map > /dev/null; cat > /tmp/state"],
        "env": ["PATH=/bin"]
    });
    vendor(
        node,
        &[
            hook(node, "createRuntime", ""),
            hook(node, "createContainer", CHANGE_ROOT),
            inside,
        ],
    )?;
    for (round, (shared, user)) in [(true, false), (false, true), (true, true)]
        .into_iter()
        .enumerate()
    {
        let mut config = host_pod(&format!("hooks-{round}"));
        let mut main = hooked(script(
            "main",
            "stat -c %u /from-hook; cat /from-hook /tmp/uid; cat /tmp/state",
        ));
        if user {
            (config, main) = (mapped_pod(config), mapped(main));
        }
        if shared {
            requests::namespaces(&mut config).pid = NamespaceMode::Pod.into();
            requests::container_namespaces(&mut main).pid = NamespaceMode::Pod.into();
        }
        let pod = node.run_pod(config).await?;
        let (status, output) = node.finish(&pod, main).await?;
        check_eq!(
            status.exit_code,
            0,
            "exit code where shared {shared}, user {user}"
        );
        check_contains!(output, "0\nfrom the hook\n0\n{");
        check_eq!(
            output.contains("\"pid\":1,"),
            !shared,
            "whether the process's id is known: {output}"
        );
        let owner = std::fs::metadata(node.path("hooks/createContainer.state"))?;
        let wanted = if user { requests::FIRST_ID } else { 0 };
        check_eq!(
            owner.uid(),
            wanted,
            "whose rights a createContainer hook has"
        );
        node.remove_pod(&pod.id).await?;
        std::fs::remove_dir_all(node.path("hooks"))?;
        std::fs::create_dir(node.path("hooks"))?;
        let open = std::fs::Permissions::from_mode(0o777);
        std::fs::set_permissions(node.path("hooks"), open)?;
    }
    Ok(())
}

async fn nothing_of_a_hook_is_seen_by_a_racer(node: &mut Node) -> Outcome {
    node.pull(BUSYBOX).await?;
    vendor(
        node,
        &[
            hook(node, "createContainer", "sleep 0.05"),
            json!({
                "hookName": "startContainer", "path": "/bin/true"
            }),
        ],
    )?;
    super::processes::race_of_containers(node, || hooked(script("hooked", "true"))).await
}

async fn a_hook_that_fails_fails_its_container_by_name(node: &mut Node) -> Outcome {
    node.pull(BUSYBOX).await?;
    let pod = node.run_pod(host_pod("hooks")).await?;
    let failing = r#"echo "no $stage today" >&2; exit 3"#;
    for stage in ["prestart", "createRuntime", "createContainer"] {
        vendor(
            node,
            &[hook(node, stage, failing), hook(node, "poststop", "")],
        )?;
        let refusal = node
            .refused_container(&pod, hooked(sleeper("main")))
            .await?;
        for words in [stage, "hook /bin/sh", "3", &format!("no {stage} today")] {
            check_contains!(refusal, words);
        }
        check_contains!(noted(node, "order")?, "poststop");
        std::fs::remove_file(node.path("hooks/order"))?;
    }
    for stage in ["prestart", "createContainer"] {
        vendor(
            node,
            &[json!({"hookName": stage, "path": "/usr/bin/no-such-hook"})],
        )?;
        let refusal = node
            .refused_container(&pod, hooked(sleeper("main")))
            .await?;
        check_contains!(refusal, "/usr/bin/no-such-hook");
        check_contains!(refusal, "No such file");
    }
    let inside = json!({
        "hookName": "startContainer", "path": "/bin/sh",
        "args": ["sh", "-c", "echo not today >&2; exit 4"]
    });
    vendor(node, &[inside])?;
    let id = node.create(&pod, hooked(sleeper("main"))).await?;
    let refusal = node
        .start_container(&id)
        .await
        .unwrap_err()
        .text()
        .to_owned();
    for words in ["startContainer hook /bin/sh", "exit status 4: not today"] {
        check_contains!(refusal, words);
    }
    let status = node.wait_for_end(&id).await?;
    check_eq!(status.exit_code, 128, "exit code of what was not started");
    Ok(())
}

async fn a_hook_that_hangs_is_killed_with_all_it_started(node: &mut Node) -> Outcome {
    node.pull(BUSYBOX).await?;
    let pod = node.run_pod(host_pod("hooks")).await?;
    let hanging = "setsid sleep 4242 & echo $$ > $2/pid; echo waits >&2; exec sleep 4242";
    for stage in ["createRuntime", "createContainer", "startContainer"] {
        let text = match stage {
            "startContainer" => "setsid sleep 4242 & echo waits >&2; exec sleep 4242",
            _ => hanging,
        };
        let hook = json!({
            "hookName": stage, "path": "/bin/sh", "timeout": 1,
            "args": ["sh", "-c", text, "sh", "x", node.path("hooks")],
            "env": ["PATH=/usr/bin:/bin"]
        });
        vendor(node, &[hook])?;
        let refusal = if stage == "startContainer" {
            let id = node.create(&pod, hooked(sleeper("main"))).await?;
            let refusal = node.start_container(&id).await.unwrap_err();
            node.remove(&id).await?;
            refusal.text().to_owned()
        } else {
            node.refused_container(&pod, hooked(sleeper("main")))
                .await?
        };
        check_contains!(refusal, "killed after 1 s, its timeout: waits");
        if stage == "createRuntime" {
            // A process that left its group on the node is beyond reach, as
            // with every service there.
            end_sleepers()?;
        } else {
            check_eq!(sleeping()?, Vec::<i32>::new(), "what {stage} has left");
        }
    }
    Ok(())
}

/// Who sleeps for 4242 seconds.
fn sleeping() -> Outcome<Vec<i32>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc")? {
        let Ok(pid) = entry?.file_name().to_string_lossy().parse::<i32>() else {
            continue;
        };
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        if line == b"sleep\x004242\0" {
            found.push(pid);
        }
    }
    Ok(found)
}

fn end_sleepers() -> Outcome {
    for pid in sleeping()? {
        if let Some(pid) = rustix::process::Pid::from_raw(pid) {
            rustix::process::kill_process(pid, rustix::process::Signal::KILL)?;
        }
    }
    Ok(())
}

async fn hooks_after_the_fact_only_warn(node: &mut Node) -> Outcome {
    node.pull(BUSYBOX).await?;
    let failing = "echo alas >&2; exit 1";
    vendor(
        node,
        &[
            hook(node, "poststart", failing),
            hook(node, "poststart", ""),
            hook(node, "poststop", failing),
            hook(node, "poststop", ""),
        ],
    )?;
    let pod = node.run_pod(host_pod("hooks")).await?;
    let id = node.run(&pod, hooked(sleeper("main"))).await?;
    check_eq!(
        noted(node, "order")?.as_str(),
        "poststart\npoststart\n",
        "order"
    );
    node.remove(&id).await?;
    check_eq!(
        noted(node, "order")?.as_str(),
        "poststart\npoststart\npoststop\npoststop\n",
        "order"
    );
    let log = node.log();
    for words in ["alas", "poststart", "poststop"] {
        check!(
            log.lines()
                .any(|line| line.contains("a hook failed") && line.contains(words)),
            "{words} is not in the log"
        );
    }
    Ok(())
}

async fn a_removal_after_a_restart_runs_its_hooks(node: &mut Node) -> Outcome {
    node.pull(BUSYBOX).await?;
    vendor(
        node,
        &[hook(node, "poststart", ""), hook(node, "poststop", "")],
    )?;
    let pod = node.run_pod(host_pod("hooks")).await?;
    let id = node.run(&pod, hooked(sleeper("main"))).await?;
    // What the vendor says by then does not count any more.
    std::fs::remove_file(node.path("cdi/static/hooked.json"))?;
    node.restart().await?;
    check_eq!(
        noted(node, "order")?.as_str(),
        "poststart\n",
        "order before"
    );
    node.remove_pod(&pod.id).await?;
    check_eq!(
        noted(node, "order")?.as_str(),
        "poststart\npoststop\n",
        "order after"
    );
    let state: Value = serde_json::from_str(&noted(node, "poststop.state")?)?;
    check_eq!(state["id"], json!(id), "whose end poststop is told");
    Ok(())
}

/// An external runtime runs the hooks itself; when, and with which state, is its own affair beyond
/// what the runtime specification says of all.
pub(super) async fn an_external_runtime_runs_them(node: &mut Node) -> Outcome {
    let note = |stage: &str, more: &str| {
        let text = format!("cat > \"$2/$1.state\"; echo \"$1\" >> \"$2/order\"; {more}");
        json!({
            "hookName": stage, "path": "/bin/sh", "timeout": 60,
            "args": ["hook", "-c", text, "sh", stage, node.path("hooks")],
            "env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"]
        })
    };
    let stages = ["prestart", "createRuntime", "poststart", "poststop"];
    vendor(node, &stages.map(|stage| note(stage, "")))?;
    let pod = node.run_pod(pod("hooks")).await?;
    let id = node.run(&pod, hooked(sleeper("main"))).await?;
    let ran = "prestart\ncreateRuntime\npoststart\n";
    check_eq!(noted(node, "order")?.as_str(), ran, "order until started");
    node.remove(&id).await?;
    let ran = format!("{ran}poststop\n");
    check_eq!(noted(node, "order")?, ran, "order to the end");
    for stage in stages {
        let state: Value = serde_json::from_str(&noted(node, &format!("{stage}.state"))?)?;
        check_eq!(state["id"], json!(id), "id told to {stage}");
    }

    vendor(node, &[note("createRuntime", "echo broken >&2; exit 3")])?;
    let refused = node
        .refused_container(&pod, hooked(sleeper("next")))
        .await?;
    check_contains!(refused, "hook");
    check_eq!(node.containers().await?.len(), 0, "containers");
    Ok(())
}
