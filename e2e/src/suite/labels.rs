//! AppArmor profiles, as the kernel shows them from inside.

use crate::support::case::cases;
use crate::support::outcome::{check, check_contains, check_eq, skip};
use crate::support::requests::{self, BUSYBOX, host_pod, sleeper};
use crate::support::{Case, Node, Outcome};
use insula_cri_api::v1::SecurityProfile;
use insula_cri_api::v1::security_profile::ProfileType;

pub fn cases() -> Vec<Case> {
    cases![apparmor_profiles_hold_for_containers_and_execs]
}

/// Whether AppArmor is enabled here, as the runtime finds out.
pub(super) fn enabled() -> bool {
    std::fs::read_to_string("/sys/module/apparmor/parameters/enabled")
        .is_ok_and(|text| text.trim() == "Y")
}

async fn apparmor_profiles_hold_for_containers_and_execs(node: &mut Node) -> Outcome {
    if !enabled() {
        return skip("AppArmor is not enabled in this kernel");
    }
    let mut pod = host_pod("profiles");
    requests::pod_security(&mut pod).privileged = true;
    let pod = node.run_pod(pod).await?;
    node.pull(BUSYBOX).await?;
    let asked = |name: &str, kind: Option<ProfileType>, reference: &str, privileged: bool| {
        let mut config = sleeper(name);
        let security = requests::security(&mut config);
        security.privileged = privileged;
        security.apparmor = kind.map(|kind| SecurityProfile {
            profile_type: kind.into(),
            localhost_ref: reference.into(),
        });
        config
    };
    let default = "insula-default (enforce)";
    let runtime = Some(ProfileType::RuntimeDefault);
    for (name, kind, privileged, expected) in [
        ("unset", None, false, default),
        ("default", runtime, false, default),
        (
            "unconfined",
            Some(ProfileType::Unconfined),
            false,
            "unconfined",
        ),
        ("privileged", runtime, true, "unconfined"),
    ] {
        let id = node.run(&pod, asked(name, kind, "", privileged)).await?;
        // Of the container's first process, and of the exec that asks.
        for process in ["1", "self"] {
            let text = format!("cat /proc/{process}/attr/current");
            let shown = node.shell(&id, &text).await?;
            check_eq!(
                shown.trim(),
                expected,
                "profile of process {process}, {name}"
            );
        }
        let confined = expected == default;
        let mount = node
            .exec(&id, &["sh", "-c", "echo x > /proc/sys/kernel/domainname"])
            .await?;
        check!(
            !confined || mount.code != 0,
            "/proc/sys can be written, {name}"
        );
    }
    let unknown = asked("unknown", Some(ProfileType::Localhost), "not-loaded", false);
    check_contains!(
        node.refused_container(&pod, unknown).await?,
        "\"not-loaded\" is not loaded on this node"
    );
    Ok(())
}
