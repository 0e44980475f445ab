//! What vendors give a container with their devices.

use crate::contribution::Contribution;
use crate::isolator::{Isolator, PodView, Refusal};
use crate::spec::ContainerSpec;
use crate::{path, users};
use insula_wire::plan::{DeviceNode, DeviceRule, Mount, MountSource};
use insula_wire::{Hooks, OsText};

/// Devices of the Container Device Interface. What their vendors say takes the
/// place of what image, container and runtime say of the same variable, path
/// or node.
///
/// In a pod with a user namespace its mounts show the ids of the node, of which
/// none is the pod's: a vendor's files can be read by all, and root of the pod
/// shall not be their owner, who could change them for every pod.
#[derive(Debug)]
pub(crate) struct Cdi;

/// What the devices that a container asked for come to on this host. The host
/// was looked at before planning.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Injection {
    /// Environment; a later value of a name wins.
    pub env: Vec<(String, OsText)>,
    /// Device nodes.
    pub devices: Vec<InjectedDevice>,
    /// Mounts; host paths exist.
    pub mounts: Vec<Mount>,
    /// Supplementary groups of the process.
    pub groups: Vec<u32>,
    /// Hooks.
    pub hooks: Hooks,
}

/// One device node of an [`Injection`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InjectedDevice {
    /// The node; its owner and group are those below.
    pub node: DeviceNode,
    /// Its owner as the vendor wants it; `None` is the process's.
    pub uid: Option<u32>,
    /// Its group as the vendor wants it; `None` is the process's.
    pub gid: Option<u32>,
    /// Any of `r`, `w`, `m`.
    pub access: String,
}

/// Where no vendor may mount, since the runtime's own things lie there.
const RESERVED: &[&str] = &["/", "/dev", "/proc", "/sys", "/sys/fs/cgroup"];

impl Isolator for Cdi {
    fn name(&self) -> &'static str {
        "cdi"
    }

    fn prepare(&self, spec: &ContainerSpec, pod: &PodView<'_>) -> Result<Contribution, Refusal> {
        let injection = pod.cdi;
        if *injection == Injection::default() {
            return Ok(Contribution::default());
        }
        let user = users::resolve(&spec.security, &pod.image.user, pod.passwd, pod.group)?.user;
        let mut part = Contribution {
            env: injection.env.clone(),
            additional_groups: injection.groups.clone(),
            hooks: injection.hooks.clone(),
            replaces: true,
            ..Contribution::default()
        };
        for mount in &injection.mounts {
            let mount = checked(mount, pod.host.recursive_readonly)?;
            // A later one at the same place counts.
            part.mounts.retain(|known| known.target != mount.target);
            part.mounts.push(mount);
        }
        for device in &injection.devices {
            path::refuse_parent_parts("path of a CDI device", &device.node.path)?;
            let node = DeviceNode {
                path: path::clean(&device.node.path),
                uid: device.uid.unwrap_or(user.uid),
                gid: device.gid.unwrap_or(user.gid),
                ..device.node.clone()
            };
            if !spec.security.privileged {
                part.device_rules.push(DeviceRule {
                    allow: true,
                    kind: Some(node.kind),
                    major: Some(node.major),
                    minor: Some(node.minor),
                    access: device.access.clone(),
                });
            }
            part.devices.retain(|known| known.path != node.path);
            part.devices.push(node);
        }
        Ok(part)
    }
}

fn checked(mount: &Mount, recursive_readonly: bool) -> Result<Mount, Refusal> {
    path::refuse_parent_parts("container path of a CDI mount", &mount.target)?;
    let target = path::clean(&mount.target);
    if RESERVED.contains(&target.as_str()) {
        return Err(Refusal::new(format!(
            "a CDI device wants a mount at {target}, which the runtime needs itself"
        )));
    }
    if mount.attributes.recursive_readonly && !recursive_readonly {
        return Err(Refusal::new(format!(
            "a CDI device wants the mount at {target} to be read-only with all below it: this kernel has no mount_setattr(AT_RECURSIVE), which came with Linux 5.12"
        )));
    }
    if let MountSource::Host { path } = &mount.source {
        path::validate("host path of a CDI mount", path)?;
    }
    Ok(Mount {
        target,
        ..mount.clone()
    })
}
