//! What a privileged container has, and who may be one.

use crate::support::case::cases;
use crate::support::outcome::{check_contains, check_eq};
use crate::support::requests::{self, BUSYBOX, host_pod, sleeper};
use crate::support::{Case, Node, Outcome};

pub fn cases() -> Vec<Case> {
    cases![
        privileged_needs_a_privileged_pod,
        privileged_is_everything_and_plain_is_not,
    ]
}

async fn privileged_needs_a_privileged_pod(node: &mut Node) -> Outcome {
    let plain = node.run_pod(host_pod("plain")).await?;
    node.pull(BUSYBOX).await?;
    let mut config = sleeper("main");
    requests::security(&mut config).privileged = true;
    check_contains!(
        node.refused_container(&plain, config.clone()).await?,
        "privileged"
    );
    let mut pod = host_pod("privileged");
    requests::pod_security(&mut pod).privileged = true;
    let pod = node.run_pod(pod).await?;
    let id = node.run(&pod, config).await?;
    node.shell(&id, "mkdir /m && mount -t tmpfs none /m && mknod /tmp/null c 1 3 && head -c 1 /tmp/null && test -e /dev/kmsg").await?;
    check_contains!(
        node.shell(&id, "grep CapInh /proc/self/status").await?,
        "CapInh:\t0000000000000000"
    );
    Ok(())
}

/// What is taken from a container, and what a privileged one has of it.
async fn privileged_is_everything_and_plain_is_not(node: &mut Node) -> Outcome {
    let mut pod = host_pod("privileged");
    requests::pod_security(&mut pod).privileged = true;
    let pod = node.run_pod(pod).await?;
    let asked = |name: &str, privileged: bool| {
        let mut config = sleeper(name);
        let security = requests::security(&mut config);
        security.privileged = privileged;
        security.masked_paths = vec!["/proc/uptime".into()];
        security.readonly_paths = vec!["/proc/sys".into()];
        config
    };
    let status = std::fs::read_to_string(format!("/proc/{}/status", node.daemon()?.pid()))?;
    let bounding = status.lines().find(|line| line.starts_with("CapBnd:"));
    let bounding = bounding.unwrap_or_default().replace("CapBnd:", "");
    let flags = |path: &str| {
        format!(
            "awk '$5 == \"{path}\" {{ split($6, a, \",\"); print a[1] }}' /proc/self/mountinfo | tail -n 1"
        )
    };
    for (name, privileged, expected) in [("whole", true, "rw"), ("plain", false, "ro")] {
        let id = node.run(&pod, asked(name, privileged)).await?;
        for path in ["/sys", "/sys/fs/cgroup"] {
            let shown = node.shell(&id, &flags(path)).await?;
            check_eq!(shown.trim(), expected, "{path}, {name}");
        }
        let masked = node.shell(&id, "wc -c < /proc/uptime").await?;
        check_eq!(masked.trim() == "0", !privileged, "/proc/uptime, {name}");
        let sys = node.shell(&id, &flags("/proc/sys")).await?;
        check_eq!(
            sys.trim(),
            if privileged { "" } else { "ro" },
            "/proc/sys, {name}"
        );
        let seccomp = node.shell(&id, "grep Seccomp: /proc/self/status").await?;
        if privileged {
            check_eq!(seccomp.trim(), "Seccomp:\t0", "{name}");
        }
        let effective = node.shell(&id, "grep CapEff: /proc/self/status").await?;
        let effective = effective.replace("CapEff:", "");
        check_eq!(
            effective.trim() == bounding.trim(),
            privileged,
            "capabilities, {name}"
        );
        let devices = node.shell(&id, "ls /dev | wc -l").await?;
        let kmsg = node.exec(&id, &["test", "-e", "/dev/kmsg"]).await?;
        check_eq!(kmsg.code == 0, privileged, "{devices} devices, {name}");
    }
    Ok(())
}
