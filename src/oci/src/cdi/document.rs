//! One file of a vendor, JSON or YAML.

use super::name::{check_kind, check_name};
use insula_wire::hooks::Hook;
use insula_wire::plan::{DeviceKind, Mount, MountAttributes, MountSource, Propagation};
use insula_wire::{Hooks, OsText};
use serde::Deserialize;
use serde::de::IgnoredAny;
use std::collections::BTreeMap;

/// Largest file that is read, in bytes.
pub const MAX_FILE: u64 = 1 << 20;

/// Most events of a YAML file; as many as a file of that size may need.
const MAX_EVENTS: usize = 200_000;

/// The versions whose fields are known, the oldest first.
const VERSIONS: &[&str] = &[
    "0.3.0", "0.4.0", "0.5.0", "0.6.0", "0.7.0", "0.8.0", "1.0.0", "1.1.0", "1.1.1",
];

/// How a file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `*.json`.
    Json,
    /// `*.yaml`.
    Yaml,
}

/// What one file says.
#[derive(Debug, Clone, PartialEq)]
pub struct Vendor {
    /// Vendor and class of its devices.
    pub kind: String,
    /// What each device needs, by name.
    pub devices: BTreeMap<String, Edits>,
    /// What a container needs in any case that has one of them.
    pub common: Edits,
}

/// What a container is to be given.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Edits {
    /// Environment; a later value of a name wins.
    pub env: Vec<(String, OsText)>,
    /// Device nodes.
    pub devices: Vec<DeviceEdit>,
    /// Mounts. Paths are as the vendor wrote them.
    pub mounts: Vec<Mount>,
    /// Supplementary groups of the process.
    pub additional_gids: Vec<u32>,
    /// Programs that are run for it.
    pub hooks: Hooks,
    /// The first thing among them that cannot be done, in words.
    pub unsupported: Option<String>,
}

/// A device node that a container is to be given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceEdit {
    /// Path in the container.
    pub path: String,
    /// Path on the host, where it differs.
    pub host_path: Option<String>,
    /// `None` is what it is on the host.
    pub kind: Option<DeviceKind>,
    /// Major and minor number; `None` are the host's.
    pub numbers: Option<(u32, u32)>,
    /// Permission bits, at most 0o777; `None` are the host's.
    pub mode: Option<u32>,
    /// Owner in the container; `None` is the process's.
    pub uid: Option<u32>,
    /// Group in the container; `None` is the process's.
    pub gid: Option<u32>,
    /// Any of `r`, `w`, `m`, and at least one.
    pub access: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct RawVendor {
    cdi_version: String,
    kind: String,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
    #[serde(default)]
    devices: Vec<RawDevice>,
    #[serde(default)]
    container_edits: RawEdits,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct RawDevice {
    name: String,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
    container_edits: RawEdits,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
struct RawEdits {
    env: Vec<String>,
    device_nodes: Vec<RawNode>,
    mounts: Vec<RawMount>,
    hooks: Vec<RawHook>,
    net_devices: Vec<IgnoredAny>,
    intel_rdt: Option<RawRdt>,
    additional_gids: Vec<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct RawNode {
    path: String,
    host_path: Option<String>,
    #[serde(default, rename = "type")]
    kind: String,
    #[serde(default)]
    major: u32,
    #[serde(default)]
    minor: u32,
    file_mode: Option<u32>,
    #[serde(default)]
    permissions: String,
    uid: Option<u32>,
    gid: Option<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct RawMount {
    host_path: String,
    container_path: String,
    #[serde(default)]
    options: Vec<String>,
    #[serde(default, rename = "type")]
    kind: String,
}

/// Of Intel RDT only what tells the version apart; the rest is for who does it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawRdt {
    schemata: Option<IgnoredAny>,
    enable_monitoring: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct RawHook {
    hook_name: String,
    path: String,
    #[serde(default)]
    args: Vec<String>,
    #[serde(default)]
    env: Vec<String>,
    timeout: Option<u32>,
}

/// Reads a file's text.
///
/// # Errors
/// Says in words what is wrong with it: as in the CDI's own library, a field
/// that is not known spoils the whole file.
pub fn parse(text: &str, format: Format) -> Result<Vendor, String> {
    if text.len() as u64 > MAX_FILE {
        return Err(format!("is larger than {MAX_FILE} bytes"));
    }
    let raw: RawVendor = match format {
        Format::Json => serde_json::from_str(text).map_err(|error| error.to_string())?,
        Format::Yaml => {
            let options = serde_saphyr::options! {
                budget: serde_saphyr::budget! { max_events: MAX_EVENTS, max_documents: 1 },
                with_snippet: false,
                legacy_octal_numbers: true,
            };
            serde_saphyr::from_str_with_options(text, options).map_err(|error| error.to_string())?
        }
    };
    if !VERSIONS.contains(&raw.cdi_version.as_str()) {
        return Err(format!(
            "cdiVersion {:?} is not known: those are {}",
            raw.cdi_version,
            VERSIONS.join(", ")
        ));
    }
    check_version(&raw)?;
    check_kind(&raw.kind).map_err(|why| format!("kind {:?}: {why}", raw.kind))?;
    if raw.devices.is_empty() {
        return Err("has no devices".to_owned());
    }
    let mut devices = BTreeMap::new();
    for device in raw.devices {
        let name = device.name;
        check_name(&name).map_err(|why| format!("device {name:?}: {why}"))?;
        let within = |why| format!("device {name:?}: {why}");
        let edits = edits(device.container_edits).map_err(within)?;
        if devices.insert(name.clone(), edits).is_some() {
            return Err(format!("device {name:?} is described twice"));
        }
    }
    Ok(Vendor {
        kind: raw.kind,
        devices,
        common: edits(raw.container_edits).map_err(|why| format!("containerEdits: {why}"))?,
    })
}

/// A file may only say what its version knows (SPEC.md, "Released versions").
fn check_version(raw: &RawVendor) -> Result<(), String> {
    let has = |version: &str| VERSIONS.iter().position(|known| *known == version);
    let said = has(&raw.cdi_version);
    match needed(raw) {
        Some((version, what)) if said < has(version) => Err(format!(
            "cdiVersion {:?} is too old: {what} came with {version}",
            raw.cdi_version
        )),
        _ => Ok(()),
    }
}

/// The newest version that something in a file came with, and what that is.
fn needed(raw: &RawVendor) -> Option<(&'static str, &'static str)> {
    let devices = &raw.devices;
    let all = || {
        let of_devices = devices.iter().map(|device| &device.container_edits);
        of_devices.chain([&raw.container_edits])
    };
    let class = raw.kind.split_once('/').map_or("", |(_, class)| class);
    let rules = [
        (
            all().any(|edits| !edits.net_devices.is_empty()),
            ("1.1.0", "netDevices"),
        ),
        (
            all().any(|edits| {
                let rdt = edits.intel_rdt.as_ref();
                rdt.is_some_and(|rdt| rdt.schemata.is_some() || rdt.enable_monitoring.is_some())
            }),
            ("1.1.0", "schemata and enableMonitoring of intelRdt"),
        ),
        (
            all().any(|edits| edits.intel_rdt.is_some()),
            ("0.7.0", "intelRdt"),
        ),
        (
            all().any(|edits| !edits.additional_gids.is_empty()),
            ("0.7.0", "additionalGids"),
        ),
        (
            !raw.annotations.is_empty() || devices.iter().any(|one| !one.annotations.is_empty()),
            ("0.6.0", "annotations"),
        ),
        (
            class.contains('.'),
            ("0.6.0", "a dot in the class of a kind"),
        ),
        (
            all().any(|edits| {
                edits
                    .device_nodes
                    .iter()
                    .any(|node| node.host_path.is_some())
            }),
            ("0.5.0", "hostPath of a device node"),
        ),
        (
            devices.iter().any(|device| {
                device
                    .name
                    .starts_with(|first: char| first.is_ascii_digit())
            }),
            ("0.5.0", "a device name that begins with a digit"),
        ),
        (
            all().any(|edits| edits.mounts.iter().any(|mount| !mount.kind.is_empty())),
            ("0.4.0", "type of a mount"),
        ),
    ];
    rules
        .into_iter()
        .find_map(|(applies, rule)| applies.then_some(rule))
}

fn edits(raw: RawEdits) -> Result<Edits, String> {
    let mut unsupported = None;
    if raw.intel_rdt.is_some() {
        unsupported = Some("Intel RDT".to_owned());
    } else if !raw.net_devices.is_empty() {
        unsupported = Some("network devices moved into the container".to_owned());
    }
    let mut devices = Vec::with_capacity(raw.device_nodes.len());
    for node in raw.device_nodes {
        if node.kind == "p" {
            unsupported.get_or_insert_with(|| format!("the named pipe {:?}", node.path));
        } else {
            devices.push(device(node)?);
        }
    }
    let mut mounts = Vec::with_capacity(raw.mounts.len());
    for one in raw.mounts {
        match mount(one)? {
            Ok(mount) => mounts.push(mount),
            Err(what) => {
                unsupported.get_or_insert(what);
            }
        }
    }
    let groups = raw.additional_gids.into_iter();
    Ok(Edits {
        env: raw
            .env
            .iter()
            .map(|text| variable(text))
            .collect::<Result<_, _>>()?,
        devices,
        mounts,
        // As in the CDI's own library, 0 says nothing.
        additional_gids: groups.filter(|gid| *gid != 0).collect(),
        hooks: hooks(raw.hooks)?,
        unsupported,
    })
}

fn hooks(raw: Vec<RawHook>) -> Result<Hooks, String> {
    let mut all = Hooks::default();
    for one in raw {
        let name = one.hook_name;
        let list = match name.as_str() {
            "prestart" => &mut all.prestart,
            "createRuntime" => &mut all.create_runtime,
            "createContainer" => &mut all.create_container,
            "startContainer" => &mut all.start_container,
            "poststart" => &mut all.poststart,
            "poststop" => &mut all.poststop,
            _ => return Err(format!("hookName {name:?} is not one of {HOOK_NAMES}")),
        };
        let hook = Hook {
            path: absolute(one.path, "path of a hook")?,
            args: one.args,
            env: one.env,
            timeout: one.timeout,
        };
        check_hook(&hook).map_err(|why| format!("{name} hook {:?}: {why}", hook.path))?;
        list.push(hook);
    }
    Ok(all)
}

/// The moments at which a hook can be run (config.md, "POSIX-platform Hooks").
const HOOK_NAMES: &str =
    "prestart, createRuntime, createContainer, startContainer, poststart and poststop";

/// Longest time a hook may ask for, in seconds: an hour.
const MAX_TIMEOUT: u32 = 3600;

fn check_hook(hook: &Hook) -> Result<(), String> {
    if hook.args.iter().any(|arg| arg.contains('\0')) {
        return Err("an argument holds a NUL byte".to_owned());
    }
    for text in &hook.env {
        variable(text)?;
    }
    match hook.timeout {
        Some(seconds) if !(1..=MAX_TIMEOUT).contains(&seconds) => Err(format!(
            "its timeout of {seconds} s is not from 1 to {MAX_TIMEOUT}"
        )),
        _ => Ok(()),
    }
}

fn variable(text: &str) -> Result<(String, OsText), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() && !name.contains('\0') => OsText::try_from(value)
            .map(|value| (name.to_owned(), value))
            .map_err(|error| format!("environment variable {name:?}: {error}")),
        _ => Err(format!(
            "environment {text:?} is not of the form NAME=value"
        )),
    }
}

fn device(raw: RawNode) -> Result<DeviceEdit, String> {
    let path = absolute(raw.path, "device node")?;
    let kind = match raw.kind.as_str() {
        "" => None,
        "b" => Some(DeviceKind::Block),
        "c" | "u" => Some(DeviceKind::Character),
        other => {
            return Err(format!(
                "device node {path:?}: type {other:?} is not b, c, u or p"
            ));
        }
    };
    if !raw.permissions.chars().all(|letter| "rwm".contains(letter)) {
        return Err(format!(
            "device node {path:?}: permissions {:?} are not made of r, w and m",
            raw.permissions
        ));
    }
    let access = match raw.permissions.as_str() {
        "" => "rwm".to_owned(),
        given => "rwm"
            .chars()
            .filter(|letter| given.contains(*letter))
            .collect(),
    };
    Ok(DeviceEdit {
        host_path: match raw.host_path {
            Some(path) if !path.is_empty() => Some(absolute(path, "hostPath of a device node")?),
            _ => None,
        },
        kind,
        // Nothing but the host knows a device without a type or a major number.
        numbers: (kind.is_some() && raw.major != 0).then_some((raw.major, raw.minor)),
        mode: raw.file_mode.map(|mode| mode & 0o777),
        uid: raw.uid,
        gid: raw.gid,
        access,
        path,
    })
}

/// The inner error is what cannot be done; the outer one what is wrong.
fn mount(raw: RawMount) -> Result<Result<Mount, String>, String> {
    let target = absolute(raw.container_path, "containerPath of a mount")?;
    let mut attributes = MountAttributes::default();
    let mut propagation = Propagation::Private;
    let mut own = Vec::new();
    for option in &raw.options {
        match option.as_str() {
            "ro" => attributes.readonly = true,
            "rro" => (attributes.readonly, attributes.recursive_readonly) = (true, true),
            "nosuid" => attributes.nosuid = true,
            "nodev" => attributes.nodev = true,
            "noexec" => attributes.noexec = true,
            // A host directory is shown with what is mounted below it.
            "rw" | "suid" | "dev" | "exec" | "bind" | "rbind" | "private" | "rprivate" => {}
            "slave" | "rslave" => propagation = Propagation::HostToContainer,
            other => own.push(other),
        }
    }
    let source = match raw.kind.as_str() {
        "" | "bind" | "none" => {
            if let Some(option) = own.first() {
                return Ok(Err(format!(
                    "the option {option:?} of the mount at {target:?}"
                )));
            }
            MountSource::Host {
                path: absolute(raw.host_path, "hostPath of a mount")?,
            }
        }
        "tmpfs" => MountSource::Filesystem {
            kind: raw.kind,
            options: own
                .iter()
                .map(|option| match option.split_once('=') {
                    Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
                    None => ((*option).to_owned(), None),
                })
                .collect(),
        },
        other => return Ok(Err(format!("the mount of type {other:?} at {target:?}"))),
    };
    Ok(Ok(Mount {
        target,
        source,
        attributes,
        propagation,
    }))
}

fn absolute(path: String, what: &str) -> Result<String, String> {
    let bad = if !path.starts_with('/') {
        "is not absolute"
    } else if path.contains('\0') {
        "holds a NUL byte"
    } else if path.split('/').any(|part| part == "..") {
        "holds `..`"
    } else if path.len() > 4095 {
        "is too long"
    } else {
        return Ok(path);
    };
    Err(format!("{what}: {path:?} {bad}"))
}

#[cfg(test)]
mod tests;
