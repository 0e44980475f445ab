//! Filters of system calls.

use crate::support::case::cases;
use crate::support::outcome::{check, check_contains, check_eq};
use crate::support::requests::{self, BUSYBOX, command, mount, pod, script, sleeper};
use crate::support::{Case, Node, Outcome};
use insula_cri_api::v1::security_profile::ProfileType;
use insula_cri_api::v1::{Capability, ContainerConfig, Int64Value, NamespaceMode, SecurityProfile};

pub fn cases() -> Vec<Case> {
    cases![
        the_default_profile_refuses_what_programs_do_not_need,
        profiles_of_the_node_hold_whatever_the_capabilities,
        privileged_containers_have_no_filter,
        filters_are_for_execs_and_outlive_the_daemon,
        profiles_that_cannot_be_used_are_refused,
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
