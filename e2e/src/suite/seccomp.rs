//! Filters of system calls.

use crate::support::case::cases;
use crate::support::outcome::{check, check_contains, check_eq};
use crate::support::requests::{self, BUSYBOX, command, mount, pod, script, sleeper};
use crate::support::{Case, Node, Outcome};
use insula_cri_api::v1::security_profile::ProfileType;
use insula_cri_api::v1::{Capability, ContainerConfig, Int64Value, NamespaceMode, SecurityProfile};
use serde_json::{Value, json};
use std::path::PathBuf;

pub fn cases() -> Vec<Case> {
    cases![
        the_default_profile_refuses_what_programs_do_not_need,
        profiles_of_the_node_hold_whatever_the_capabilities,
        privileged_containers_have_no_filter,
        filters_are_for_execs_and_outlive_the_daemon,
        profiles_that_cannot_be_used_are_refused,
        a_program_of_the_node_answers_for_system_calls in cgroup,
        a_program_of_the_node_may_answer_for_all_of_them,
        the_node_says_what_holds_where_nothing_is_said,
    ]
}

/// What the program `refused` is asked for, and what the default profile makes of it.
const REFUSED: &[(&str, &str)] = &[
    ("unshare", "EPERM"),
    ("keyctl", "EPERM"),
    ("bpf", "EPERM"),
    ("clone-user", "EPERM"),
    ("clone3", "ENOSYS"),
    ("socket-alg", "EAFNOSUPPORT"),
    ("socket-vsock", "EAFNOSUPPORT"),
    ("socket-unix", "0"),
    ("personality", "0"),
    ("personality-randomize", "EPERM"),
    ("newest", "ENOSYS"),
    #[cfg(target_arch = "x86_64")]
    ("socketcall-alg", "ENOSYS"),
];

const NO_HOST_NAME: &str = r#"{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_AARCH64"],
    "syscalls": [{"names": ["sethostname"], "action": "SCMP_ACT_ERRNO", "errnoRet": 33}]}"#;

pub(super) fn profile(config: &mut ContainerConfig, profile_type: ProfileType, reference: &str) {
    requests::security(config).seccomp = Some(SecurityProfile {
        profile_type: profile_type.into(),
        localhost_ref: reference.to_owned(),
    });
}

pub(super) fn refused(node: &Node, name: &str) -> ContainerConfig {
    let mut words = vec!["/programs/refused"];
    words.extend(REFUSED.iter().map(|(call, _)| *call));
    let mut config = command(name, &words);
    mount(&mut config, &node.world.programs, "/programs");
    config
}

pub(super) fn expected() -> String {
    let lines: Vec<_> = REFUSED
        .iter()
        .map(|(call, error)| format!("{call} {error}"))
        .collect();
    lines.join("\n")
}

pub(super) async fn the_default_profile_refuses_what_programs_do_not_need(
    node: &mut Node,
) -> Outcome {
    node.write_network()?;
    let own = node.run_pod(pod("own")).await?;
    let mut shared = pod("shared");
    requests::namespaces(&mut shared).pid = NamespaceMode::Pod.into();
    let shared = node.run_pod(shared).await?;
    node.pull(BUSYBOX).await?;
    for (pod, namespace) in [
        (&own, NamespaceMode::Container),
        (&shared, NamespaceMode::Pod),
    ] {
        for (uid, no_new_privs) in [(0, false), (0, true), (1000, false), (1000, true)] {
            let name = format!("{uid}-{no_new_privs}");
            let change = |config: &mut ContainerConfig| {
                profile(config, ProfileType::RuntimeDefault, "");
                let security = requests::security(config);
                security.run_as_user = Some(Int64Value { value: uid });
                security.no_new_privs = no_new_privs;
                requests::container_namespaces(config).pid = namespace.into();
            };
            let mut config = refused(node, &format!("{name}-calls"));
            change(&mut config);
            let (status, output) = node.finish(pod, config).await?;
            check_eq!(status.exit_code, 0, "exit code of {name}");
            check_contains!(output, expected());
            // Ordinary programs do not notice: pipes, children, files, sockets, time.
            let text = "set -e; umask 077; mkdir /tmp/d; cd /tmp/d; seq 1000 | sort -rn | head -n 1 > f; \
                [ $(cat f) = 1000 ]; (sleep 0.1 & wait); date; df / >/dev/null; ps >/dev/null; \
                nc -l -p 4242 -e true & sleep 0.2; echo | nc 127.0.0.1 4242; \
                grep -E '^(Seccomp|CapEff|NoNewPrivs):' /proc/self/status; echo fine";
            let mut config = script(&format!("{name}-plain"), text);
            change(&mut config);
            let (status, output) = node.finish(pod, config).await?;
            check_eq!(status.exit_code, 0, "exit code of {name}: {output}");
            check_contains!(output, "Seccomp:\t2");
            check_contains!(output, "fine");
            let number = u8::from(no_new_privs);
            check_contains!(output, format!("NoNewPrivs:\t{number}"));
            let capabilities = match uid {
                0 => "CapEff:\t00000000a80425fb",
                _ => "CapEff:\t0000000000000000",
            };
            check_contains!(output, capabilities);
        }
    }
    Ok(())
}

async fn profiles_of_the_node_hold_whatever_the_capabilities(node: &mut Node) -> Outcome {
    node.write_network()?;
    let pod = node.run_pod(pod("node")).await?;
    let path = node.path("hostname.json");
    std::fs::write(&path, NO_HOST_NAME)?;
    let path = path.to_string_lossy();
    for (name, reference, expected) in [
        ("without", None, "changed"),
        (
            "with",
            Some(path.to_string()),
            "sethostname: Numerical argument out of domain",
        ),
        (
            "prefixed",
            Some(format!("localhost/{path}")),
            "sethostname: Numerical argument out of domain",
        ),
    ] {
        let mut config = script(name, "hostname changed 2>&1; hostname");
        requests::security(&mut config).capabilities = Some(Capability {
            add_capabilities: vec!["SYS_ADMIN".to_owned()],
            ..Capability::default()
        });
        if let Some(reference) = reference {
            profile(&mut config, ProfileType::Localhost, &reference);
        }
        let (_, output) = node.finish(&pod, config).await?;
        check_contains!(output, expected);
    }
    Ok(())
}

async fn privileged_containers_have_no_filter(node: &mut Node) -> Outcome {
    node.write_network()?;
    let mut config = pod("privileged");
    requests::pod_security(&mut config).privileged = true;
    let pod = node.run_pod(config).await?;
    for (name, kind, reference) in [
        ("default", ProfileType::RuntimeDefault, ""),
        ("absent", ProfileType::Localhost, "/does/not/exist.json"),
    ] {
        let mut config = script(
            name,
            "grep Seccomp: /proc/self/status; unshare -u true && echo unshared",
        );
        profile(&mut config, kind, reference);
        requests::security(&mut config).privileged = true;
        let (_, output) = node.finish(&pod, config).await?;
        check_contains!(output, "Seccomp:\t0");
        check_contains!(output, "unshared");
    }
    Ok(())
}

pub(super) async fn filters_are_for_execs_and_outlive_the_daemon(node: &mut Node) -> Outcome {
    node.write_network()?;
    let pod = node.run_pod(pod("exec")).await?;
    let mut config = sleeper("main");
    mount(&mut config, &node.world.programs, "/programs");
    profile(&mut config, ProfileType::RuntimeDefault, "");
    let id = node.run(&pod, config).await?;
    let words = REFUSED.iter().map(|(call, _)| *call).collect::<Vec<_>>();
    let text = format!(
        "grep Seccomp: /proc/self/status; /programs/refused {}",
        words.join(" ")
    );
    for restarted in [false, true] {
        if restarted {
            node.kill()?;
            node.start().await?;
        }
        let output = node.shell(&id, &text).await?;
        check_contains!(output, "Seccomp:\t2");
        check_contains!(output, expected());
    }
    Ok(())
}

async fn profiles_that_cannot_be_used_are_refused(node: &mut Node) -> Outcome {
    node.write_network()?;
    let pod = node.run_pod(pod("refused")).await?;
    node.pull(BUSYBOX).await?;
    let file = |name: &str, text: &str| -> Outcome<String> {
        let path = node.path(name);
        std::fs::write(&path, text)?;
        Ok(path.to_string_lossy().into_owned())
    };
    let huge = " ".repeat(2 << 20);
    for (reference, words) in [
        (
            "/does/not/exist.json".to_owned(),
            "\"/does/not/exist.json\": No such file or directory",
        ),
        ("relative.json".to_owned(), "the path is not absolute"),
        ("/dev/null".to_owned(), "it is not a file"),
        (
            file("empty.json", "")?,
            "empty.json\": EOF while parsing a value at line 1 column 0",
        ),
        // CVE-2023-2431: an empty profile is no profile, and not "unconfined".
        (file("hollow.json", "{}")?, "missing field `defaultAction`"),
        (
            file("action.json", "{\"defaultAction\":\n \"SCMP_ACT_FLY\"}")?,
            "unknown variant `SCMP_ACT_FLY`",
        ),
        (file("huge.json", &huge)?, "more than 1048576 bytes"),
        (
            file(
                "notify.json",
                r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mount"], "action": "SCMP_ACT_NOTIFY"}]}"#,
            )?,
            "SCMP_ACT_NOTIFY",
        ),
    ] {
        let mut config = sleeper("main");
        profile(&mut config, ProfileType::Localhost, &reference);
        let error = node.refused_container(&pod, config).await?;
        check!(error.contains("seccomp profile"), "{error}");
        check_contains!(error, words);
    }
    Ok(())
}

async fn the_node_says_what_holds_where_nothing_is_said(node: &mut Node) -> Outcome {
    node.pull(BUSYBOX).await?;
    let filtered = "grep '^Seccomp:' /proc/self/status";
    for (key, unset, unconfined) in [("", "0", "0"), ("runtime-default", "2", "0")] {
        if !key.is_empty() {
            let security = format!("\n[security]\nseccomp_default = {key:?}\n");
            std::fs::write(node.path("config.toml"), node.configuration() + &security)?;
            node.restart().await?;
        }
        let pod = node
            .run_pod(requests::host_pod(&format!("default{key}")))
            .await?;
        let (_, output) = node.finish(&pod, script("unset", filtered)).await?;
        check_eq!(
            output,
            format!("Seccomp:\t{unset}\n"),
            "where nothing is said"
        );
        let mut config = script("unconfined", filtered);
        profile(&mut config, ProfileType::Unconfined, "");
        let (_, output) = node.finish(&pod, config).await?;
        check_eq!(output, format!("Seccomp:\t{unconfined}\n"), "unconfined");
    }
    Ok(())
}

/// A program of the node that answers for system calls.
struct Agent {
    process: tokio::process::Child,
    socket: PathBuf,
    told: PathBuf,
}

impl Agent {
    async fn start(node: &Node, name: &str, words: &[&str]) -> Outcome<Self> {
        let (socket, told) = (node.path(format!("{name}.sock")), node.path(name));
        let process = tokio::process::Command::new(node.world.programs.join("agent"))
            .arg(&socket)
            .args(words)
            .stdout(std::fs::File::create(&told)?)
            .kill_on_drop(true)
            .spawn()?;
        let agent = Self {
            process,
            socket,
            told,
        };
        for _ in 0..500 {
            if agent.socket.exists() {
                return Ok(agent);
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        Err("the agent does not listen".into())
    }

    /// A profile with this default and action for making directories.
    fn profile(&self, node: &Node, default: &str, mkdir: &str) -> Outcome<String> {
        let profile = json!({
            "defaultAction": default,
            "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_AARCH64"],
            "listenerPath": self.socket, "listenerMetadata": "for the agent",
            // The last is there to be new: what is newer than all that are named does not exist.
            "syscalls": [{"names": ["mkdir", "mkdirat", "process_mrelease"], "action": mkdir}]
        });
        let path = node.path("asking.json");
        std::fs::write(&path, profile.to_string())?;
        Ok(path.to_string_lossy().into_owned())
    }

    /// What it was told, one connection after the other.
    fn told(&self) -> Outcome<Vec<Value>> {
        std::fs::read_to_string(&self.told)?
            .lines()
            .filter_map(|line| line.strip_prefix("TOLD "))
            .map(|text| Ok(serde_json::from_str(text)?))
            .collect()
    }

    async fn end(mut self) -> Outcome {
        self.process.kill().await?;
        Ok(std::fs::remove_file(&self.socket)?)
    }
}

async fn a_program_of_the_node_answers_for_system_calls(node: &mut Node) -> Outcome {
    node.pull(BUSYBOX).await?;
    let agent = Agent::start(node, "agent", &[]).await?;
    let reference = agent.profile(node, "SCMP_ACT_ALLOW", "SCMP_ACT_NOTIFY")?;
    for (round, (shared, user)) in [(false, false), (true, false), (false, true), (true, true)]
        .into_iter()
        .enumerate()
    {
        let mut config = requests::host_pod(&format!("asking-{round}"));
        let mut main = script(
            "main",
            "mkdir /tmp/main 2>&1; trap 'exit 0' TERM; while :; do sleep 1000 & wait; done",
        );
        profile(&mut main, ProfileType::Localhost, &reference);
        main.annotations.insert("e2e".into(), "asks".into());
        if user {
            (config, main) = (requests::mapped_pod(config), requests::mapped(main));
        }
        if shared {
            requests::namespaces(&mut config).pid = NamespaceMode::Pod.into();
            requests::container_namespaces(&mut main).pid = NamespaceMode::Pod.into();
        }
        let pod = node.run_pod(config).await?;
        let id = node.run(&pod, main).await?;
        node.wait_for_output(&id, "Protocol error").await?;
        let output = node
            .shell(
                &id,
                "mkdir /tmp/exec 2>&1; ls /tmp; ls /proc/self/fd | wc -l",
            )
            .await?;
        // The fourth is what lists them.
        check_contains!(output, "Protocol error\n4\n");
        let told = agent.told()?;
        check_eq!(
            told.len(),
            2 * (round + 1),
            "how often the agent was told of a filter"
        );
        for (told, status) in told[2 * round..].iter().zip(["created", "running"]) {
            check_eq!(told["fds"], json!(["seccompFd"]), "descriptors");
            check_eq!(told["metadata"], json!("for the agent"), "metadata");
            check_eq!(told["state"]["id"], json!(id), "id");
            check_eq!(told["state"]["status"], json!(status), "status");
            check_eq!(
                told["state"]["annotations"]["e2e"],
                json!("asks"),
                "annotations"
            );
            check!(told["pid"].as_i64() > Some(1), "no process in {told}");
        }
        if !shared {
            let pid = node.pid(&id).await?;
            check_eq!(
                told[2 * round]["pid"],
                json!(pid),
                "the container's process"
            );
        }
        node.remove_pod(&pod.id).await?;
    }
    let socket = agent.socket.to_string_lossy().into_owned();
    agent.end().await?;
    let pod = node.run_pod(requests::host_pod("nobody")).await?;
    let mut config = sleeper("main");
    profile(&mut config, ProfileType::Localhost, &reference);
    let id = node.create(&pod, config).await?;
    let refusal = node.start_container(&id).await.unwrap_err();
    check_contains!(refusal.text(), socket);
    check_contains!(refusal.text(), "does the program run");
    Ok(())
}

async fn a_program_of_the_node_may_answer_for_all_of_them(node: &mut Node) -> Outcome {
    node.pull(BUSYBOX).await?;
    let agent = Agent::start(node, "agent", &["continue"]).await?;
    let reference = agent.profile(node, "SCMP_ACT_NOTIFY", "SCMP_ACT_NOTIFY")?;
    for shared in [false, true] {
        let mut config = requests::host_pod(&format!("asking-{shared}"));
        let mut main = sleeper("main");
        profile(&mut main, ProfileType::Localhost, &reference);
        if shared {
            requests::namespaces(&mut config).pid = NamespaceMode::Pod.into();
            requests::container_namespaces(&mut main).pid = NamespaceMode::Pod.into();
        }
        let pod = node.run_pod(config).await?;
        let id = node.run(&pod, main).await?;
        let output = node.shell(&id, "mkdir /tmp/exec 2>&1; echo fine").await?;
        check_contains!(output, "Protocol error\nfine\n");
        node.remove_pod(&pod.id).await?;
    }
    agent.end().await
}
