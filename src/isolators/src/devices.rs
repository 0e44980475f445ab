//! Device nodes and access to devices.

use crate::change::Change;
use crate::contribution::Contribution;
use crate::isolator::{ApplyError, Isolator, PodView, Refusal};
use crate::path;
use crate::spec::{ContainerSpec, DeviceMapping};
use insula_sys::bpf;
use insula_sys::cgroup::Version;
use insula_wire::plan::{CgroupResources, DeviceKind, DeviceNode, DeviceRule};

/// Nodes in `/dev`, and the rules of the device controller: `devices.allow` and
/// `devices.deny` of version 1, a BPF program with version 2.
#[derive(Debug)]
pub(crate) struct Devices;

/// The nodes of every container: path, minor and major number.
const NODES: &[(&str, u32, u32)] = &[
    ("/dev/null", 1, 3),
    ("/dev/zero", 1, 5),
    ("/dev/full", 1, 7),
    ("/dev/random", 1, 8),
    ("/dev/urandom", 1, 9),
    ("/dev/tty", 5, 0),
];

/// Devices without a node that may be opened: `/dev/console` and `/dev/ptmx`.
const TERMINALS: &[(u32, u32)] = &[(5, 1), (5, 2)];

/// Major number of the terminals in devpts, `Unix98` slaves.
const PTS_MAJOR: u32 = 136;

/// What a privileged container gets no node of: what other isolators mount.
const NOT_COPIED: &[&str] = &[
    "/dev/pts",
    "/dev/shm",
    "/dev/mqueue",
    "/dev/console",
    "/dev/ptmx",
];

impl Isolator for Devices {
    fn name(&self) -> &'static str {
        "devices"
    }

    fn prepare(&self, spec: &ContainerSpec, pod: &PodView<'_>) -> Result<Contribution, Refusal> {
        let mut nodes: Vec<DeviceNode> = Vec::new();
        let mut rules = if spec.security.privileged {
            vec![rule(None, None, None, "rwm")]
        } else {
            default_rules()
        };
        for mapping in &spec.devices {
            let access = access(mapping)?;
            let found: Vec<_> = pod
                .devices
                .iter()
                .filter(|device| device.mapping == *mapping)
                .collect();
            if found.is_empty() {
                return Err(Refusal::new(format!(
                    "device {:?} was not found on this host",
                    mapping.host_path
                )));
            }
            for device in found {
                let node = &device.node;
                if !spec.security.privileged {
                    rules.push(rule(
                        Some(node.kind),
                        Some(node.major),
                        Some(node.minor),
                        &access,
                    ));
                }
                add_node(&mut nodes, owned(node, spec, pod.device_ownership));
            }
        }
        for (path, major, minor) in NODES {
            add_node(&mut nodes, default_node(path, *major, *minor));
        }
        if spec.security.privileged {
            for node in &pod.host.host_devices {
                if !NOT_COPIED
                    .iter()
                    .any(|parent| path::is_at_or_below(&node.path, parent))
                {
                    add_node(&mut nodes, node.clone());
                }
            }
        }
        nodes.retain(|node| !crate::filesystem::is_replaced(spec, &node.path));
        Ok(Contribution {
            devices: nodes,
            device_rules: rules,
            ..Contribution::default()
        })
    }

    fn isolate(&self, change: &mut Change<'_>, want: &CgroupResources) -> Result<(), ApplyError> {
        if want.devices.is_empty() {
            return Ok(());
        }
        if change.cgroup().controller("devices") == Some(Version::V1) {
            return write_v1(change, &want.devices);
        }
        let Some(directory) = change.cgroup().unified() else {
            return Err(Refusal::new(
                "this host has neither the devices controller nor cgroup version 2: devices cannot be confined",
            )
            .into());
        };
        let rules: Vec<bpf::DeviceRule> = want.devices.iter().map(bpf_rule).collect();
        bpf::attach_device_program(directory, &bpf::device_program(&rules))?;
        Ok(())
    }

    /// Devices of a running container do not change.
    fn update(&self, _change: &mut Change<'_>, _want: &CgroupResources) -> Result<(), ApplyError> {
        Ok(())
    }
}

/// A node that was asked for: the host's owner and mode, or the ids that the
/// security context names, so that a workload that is not root can open it. An
/// id that is not named there stays the host's.
fn owned(node: &DeviceNode, spec: &ContainerSpec, device_ownership: bool) -> DeviceNode {
    let mut node = node.clone();
    if device_ownership {
        let named = |id: Option<i64>| id.and_then(|id| u32::try_from(id).ok());
        node.uid = named(spec.security.run_as_user).unwrap_or(node.uid);
        node.gid = named(spec.security.run_as_group).unwrap_or(node.gid);
    }
    node
}

/// The first node at a path stays: what was asked for comes before the
/// defaults.
fn add_node(nodes: &mut Vec<DeviceNode>, node: DeviceNode) {
    if !nodes.iter().any(|known| known.path == node.path) {
        nodes.push(node);
    }
}

fn default_node(path: &str, major: u32, minor: u32) -> DeviceNode {
    DeviceNode {
        path: path.to_owned(),
        kind: DeviceKind::Character,
        major,
        minor,
        mode: 0o666,
        uid: 0,
        gid: 0,
    }
}

/// Any node may be made (using it is another matter), and the harmless ones
/// used.
fn default_rules() -> Vec<DeviceRule> {
    let character = Some(DeviceKind::Character);
    let mut rules = vec![
        rule(character, None, None, "m"),
        rule(Some(DeviceKind::Block), None, None, "m"),
    ];
    for (_, major, minor) in NODES {
        rules.push(rule(character, Some(*major), Some(*minor), "rwm"));
    }
    for (major, minor) in TERMINALS {
        rules.push(rule(character, Some(*major), Some(*minor), "rwm"));
    }
    rules.push(rule(character, Some(PTS_MAJOR), None, "rwm"));
    rules
}

fn rule(
    kind: Option<DeviceKind>,
    major: Option<u32>,
    minor: Option<u32>,
    access: &str,
) -> DeviceRule {
    DeviceRule {
        allow: true,
        kind,
        major,
        minor,
        access: access.to_owned(),
    }
}

/// The permissions of a mapping: any of `r`, `w`, `m`; empty is all.
fn access(mapping: &DeviceMapping) -> Result<String, Refusal> {
    let permissions = &mapping.permissions;
    if permissions.is_empty() {
        return Ok("rwm".to_owned());
    }
    if !permissions.chars().all(|letter| "rwm".contains(letter)) {
        return Err(Refusal::new(format!(
            "permissions {permissions:?} of device {:?} are not made of r, w and m",
            mapping.host_path
        )));
    }
    Ok("rwm"
        .chars()
        .filter(|letter| permissions.contains(*letter))
        .collect())
}

/// A new group has its parent's rules, so everything is taken away first. When
/// everything is allowed in the end there is nothing to take away.
fn write_v1(change: &mut Change<'_>, rules: &[DeviceRule]) -> Result<(), ApplyError> {
    if let [only] = rules
        && only.allow
        && only.kind.is_none()
        && only.access.len() == 3
    {
        return change.write("devices", "devices.allow", "a");
    }
    change.write("devices", "devices.deny", "a")?;
    for rule in rules {
        let file = if rule.allow {
            "devices.allow"
        } else {
            "devices.deny"
        };
        for line in lines_v1(rule) {
            change.write("devices", file, &line)?;
        }
    }
    Ok(())
}

/// The form `c 1:3 rwm`. Type `a` would stand for all devices whatever the
/// numbers, so a rule for both kinds is two lines.
fn lines_v1(rule: &DeviceRule) -> Vec<String> {
    let number = |number: Option<u32>| number.map_or("*".to_owned(), |number| number.to_string());
    let kinds: &[char] = match rule.kind {
        Some(DeviceKind::Character) => &['c'],
        Some(DeviceKind::Block) => &['b'],
        None => &['c', 'b'],
    };
    kinds
        .iter()
        .map(|kind| {
            format!(
                "{kind} {}:{} {}",
                number(rule.major),
                number(rule.minor),
                rule.access
            )
        })
        .collect()
}

fn bpf_rule(rule: &DeviceRule) -> bpf::DeviceRule {
    bpf::DeviceRule {
        allow: rule.allow,
        kind: rule.kind.map(|kind| match kind {
            DeviceKind::Character => bpf::DeviceKind::Character,
            DeviceKind::Block => bpf::DeviceKind::Block,
        }),
        major: rule.major,
        minor: rule.minor,
        read: rule.access.contains('r'),
        write: rule.access.contains('w'),
        mknod: rule.access.contains('m'),
    }
}
