//! Devices of the node that containers are given.

use crate::support::case::cases;
use crate::support::outcome::{check, check_contains, check_eq};
use crate::support::requests::{self, BUSYBOX, host_pod, mapped_pod, sleeper};
use crate::support::{Case, Node, Outcome};
use insula_cri_api::v1::{ContainerConfig, Device, Int64Value};
use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};

pub fn cases() -> Vec<Case> {
    cases![a_device_belongs_to_whom_the_security_context_names]
}

/// A user's container with a device of root's.
fn given(node: &Node, name: &str) -> ContainerConfig {
    let mut config = sleeper(name);
    config.devices.push(Device {
        container_path: "/dev/given".into(),
        host_path: node.path("zero").to_string_lossy().into_owned(),
        permissions: "rw".into(),
    });
    let security = requests::security(&mut config);
    security.run_as_user = Some(Int64Value { value: 1000 });
    security.run_as_group = Some(Int64Value { value: 2000 });
    config
}

const LOOK: &str = "stat -c '%u:%g %a' /dev/given /dev/zero; head -c 4 /dev/given | wc -c";

/// `device_ownership_from_security_context`, as containerd and CRI-O call it.
async fn a_device_belongs_to_whom_the_security_context_names(node: &mut Node) -> Outcome {
    // /dev/zero by another name, which only root may open.
    let mode = Mode::RUSR | Mode::WUSR;
    let device = node.path("zero");
    mknodat(CWD, &device, FileType::CharacterDevice, mode, makedev(1, 5))?;
    let plain = node.run_pod(host_pod("plain")).await?;
    node.pull(BUSYBOX).await?;
    let id = node.run(&plain, given(node, "before")).await?;
    let ran = node.exec(&id, &["sh", "-c", LOOK]).await?;
    check_contains!(ran.stderr, "Permission denied");
    check_eq!(ran.stdout, "0:0 600\n0:0 666\n0\n", "as on the node");

    let text =
        node.configuration() + "\n[security]\ndevice_ownership_from_security_context = true\n";
    std::fs::write(node.path("config.toml"), text)?;
    node.restart().await?;
    let id = node.run(&plain, given(node, "after")).await?;
    check_eq!(
        node.shell(&id, LOOK).await?,
        "1000:2000 600\n0:0 666\n4\n",
        "the user's own"
    );
    let mapped = node.run_pod(mapped_pod(host_pod("mapped"))).await?;
    let inside = requests::mapped(given(node, "mapped"));
    let id = node.run(&mapped, inside).await?;
    check_eq!(
        node.shell(&id, LOOK).await?,
        "1000:2000 600\n0:0 666\n4\n",
        "the user's own in a user namespace"
    );
    // The node's own is as it was.
    let owner = rustix::fs::stat(&device)?;
    check!(
        owner.st_uid == 0 && owner.st_mode & 0o777 == 0o600,
        "the node's device changed: {owner:?}"
    );
    Ok(())
}
