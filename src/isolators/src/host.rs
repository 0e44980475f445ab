//! What has to be known of the host before a container can be planned.

use crate::isolator::{HostFacts, Refusal, ResolvedDevice};
use crate::path;
use crate::selinux::Policy;
use crate::spec::{DeviceMapping, ProfileRequest, SecurityContext};
use insula_seccomp::KernelVersion;
use insula_seccomp::profile::MAX_BYTES;
use insula_sys::cgroup::{Layout, Version};
use insula_wire::plan::{DeviceKind, DeviceNode};
use insula_wire::{Capability, CapabilitySet};
use rustix::fs::{Mode, OFlags};
use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;

/// How deep a directory of devices is followed.
const MAX_DEPTH: usize = 8;

/// Most nodes of one directory of devices.
const MAX_NODES: usize = 4096;

// === impl HostFacts ===

impl HostFacts {
    /// Finds out about this host, once, at start. Reads files, and writes
    /// its own `oom_score_adj` to see whether that can be lowered.
    ///
    /// `recursive_readonly` is whether `mount_setattr(2)` with `AT_RECURSIVE`
    /// works, which the caller has tried.
    pub fn detect(recursive_readonly: bool) -> insula_sys::Result<Self> {
        let cgroup = Layout::detect()?;
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let capabilities = bounding_set(&status);
        let own_oom_score = Path::new("/proc/self/oom_score_adj");
        let oom_score_adj = fs::read_to_string(own_oom_score)
            .ok()
            .and_then(|text| text.trim().parse().ok())
            .unwrap_or(0);
        Ok(Self {
            recursive_readonly,
            can_lower_oom_score: can_lower_oom_score(own_oom_score, oom_score_adj),
            oom_score_adj,
            capabilities,
            open_files: open_files_limit(),
            swap_accounting: swap_accounting(&cgroup),
            host_devices: device_nodes(),
            kernel: kernel_version(),
            apparmor: fs::read_to_string("/sys/module/apparmor/parameters/enabled")
                .is_ok_and(|text| text.trim() == "Y"),
            selinux: Policy::detect(),
            cgroup,
        })
    }
}

/// All device nodes below `/dev`, for privileged containers. What cannot be
/// read is left out; terminals and what is mounted anew are not among them.
pub fn device_nodes() -> Vec<DeviceNode> {
    let mut nodes = Vec::new();
    collect(Path::new("/dev"), "/dev", 0, &mut nodes);
    nodes.sort_by(|one: &DeviceNode, other| one.path.cmp(&other.path));
    nodes
}

/// What device mappings stand for on this host: a node, or every node in a
/// directory. Symbolic links of the host path are followed.
pub fn resolve_devices(mappings: &[DeviceMapping]) -> Result<Vec<ResolvedDevice>, Refusal> {
    let mut resolved = Vec::new();
    for mapping in mappings {
        path::validate("host path of a device", &mapping.host_path)?;
        let target = if mapping.container_path.is_empty() {
            &mapping.host_path
        } else {
            &mapping.container_path
        };
        path::refuse_parent_parts("container path of a device", target)?;
        let target = path::clean(target);
        let source = fs::canonicalize(&mapping.host_path).map_err(|error| {
            Refusal::new(format!(
                "device {:?} on this host: {error}",
                mapping.host_path
            ))
        })?;
        let mut nodes = Vec::new();
        if source.is_dir() {
            collect(&source, &target, 0, &mut nodes);
        } else {
            nodes.extend(node(&source, &target));
        }
        if nodes.is_empty() {
            return Err(Refusal::new(format!(
                "{:?} is neither a device nor a directory with devices",
                mapping.host_path
            )));
        }
        resolved.extend(nodes.into_iter().map(|node| ResolvedDevice {
            mapping: mapping.clone(),
            node,
        }));
    }
    Ok(resolved)
}

/// The device at a path of this host, symbolic links followed, as a node at
/// another path.
pub fn device_at(host_path: &str, shown: &str) -> Result<DeviceNode, Refusal> {
    path::validate("host path of a device", host_path)?;
    let source = fs::canonicalize(host_path)
        .map_err(|error| Refusal::new(format!("device {host_path:?} on this host: {error}")))?;
    node(&source, shown).ok_or_else(|| Refusal::new(format!("{host_path:?} is no device")))
}

fn collect(directory: &Path, shown: &str, depth: usize, nodes: &mut Vec<DeviceNode>) {
    let Ok(entries) = fs::read_dir(directory) else {
        return;
    };
    for entry in entries.flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        let (Some(name), Ok(kind)) = (name.to_str(), entry.file_type()) else {
            continue;
        };
        let below = format!("{shown}/{name}");
        if kind.is_dir() && depth < MAX_DEPTH {
            if !matches!(
                below.as_str(),
                "/dev/pts" | "/dev/shm" | "/dev/mqueue" | "/dev/hugepages"
            ) {
                collect(&path, &below, depth + 1, nodes);
            }
        } else if (kind.is_char_device() || kind.is_block_device()) && nodes.len() < MAX_NODES {
            nodes.extend(node(&path, &below));
        }
    }
}

fn node(path: &Path, shown: &str) -> Option<DeviceNode> {
    let metadata = fs::symlink_metadata(path).ok()?;
    let kind = if metadata.file_type().is_char_device() {
        DeviceKind::Character
    } else if metadata.file_type().is_block_device() {
        DeviceKind::Block
    } else {
        return None;
    };
    Some(DeviceNode {
        path: shown.to_owned(),
        kind,
        major: major(metadata.rdev()),
        minor: minor(metadata.rdev()),
        mode: metadata.mode() & 0o777,
        uid: metadata.uid(),
        gid: metadata.gid(),
    })
}

/// Major number of a `dev_t` as the C libraries encode it, makedev(3).
#[expect(
    clippy::cast_possible_truncation,
    reason = "the parts have at most 32 bits"
)]
fn major(device: u64) -> u32 {
    (((device >> 32) & 0xffff_f000) | ((device >> 8) & 0xfff)) as u32
}

/// Minor number of a `dev_t` as the C libraries encode it, makedev(3).
#[expect(
    clippy::cast_possible_truncation,
    reason = "the parts have at most 32 bits"
)]
fn minor(device: u64) -> u32 {
    (((device >> 12) & 0xffff_ff00) | (device & 0xff)) as u32
}

/// Tries it: a capability of this process may not be one over the host (user
/// namespaces), and one in the bounding set may not be in force.
fn can_lower_oom_score(file: &Path, current: i32) -> bool {
    if current <= -1000 {
        return true;
    }
    // Never made where it is missing.
    let write = |score: i32| {
        let mut file = fs::File::options().write(true).open(file)?;
        file.write_all(score.to_string().as_bytes())
    };
    let lowered = write(current - 1).is_ok();
    if lowered {
        // What could be lowered can be raised.
        let _ = write(current);
    }
    lowered
}

/// Reads the seccomp profile of the node that a container asks for, if it asks
/// for one: an absolute path, which may have `localhost/` before it, as
/// annotations of old had (CRI `SecurityProfile.localhost_ref`).
pub fn read_seccomp_profile(security: &SecurityContext) -> Result<Option<Vec<u8>>, Refusal> {
    let ProfileRequest::Localhost(name) = &security.seccomp else {
        return Ok(None);
    };
    if security.privileged {
        return Ok(None);
    }
    let path = name.strip_prefix("localhost/").unwrap_or(name);
    let refused = |why: &str| Refusal::new(format!("seccomp profile {path:?}: {why}"));
    if !path.starts_with('/') {
        return Err(refused("the path is not absolute"));
    }
    // A pipe would be waited for otherwise.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = rustix::fs::open(path, flags, Mode::empty())
        .map(fs::File::from)
        .map_err(|errno| refused(&errno.to_string()))?;
    let metadata = file
        .metadata()
        .map_err(|error| refused(&error.to_string()))?;
    if !metadata.is_file() {
        return Err(refused("it is not a file"));
    }
    let mut text = Vec::new();
    file.take(MAX_BYTES as u64 + 1)
        .read_to_end(&mut text)
        .map_err(|error| refused(&error.to_string()))?;
    if text.len() > MAX_BYTES {
        return Err(refused(&format!("it has more than {MAX_BYTES} bytes")));
    }
    Ok(Some(text))
}

/// The kernel's version. One that is not understood counts as older than all.
fn kernel_version() -> KernelVersion {
    fs::read_to_string("/proc/sys/kernel/osrelease")
        .ok()
        .and_then(|release| release.trim().parse().ok())
        .unwrap_or(KernelVersion { major: 0, minor: 0 })
}

/// The line `CapBnd:` of proc(5)'s status, without what this build does not
/// know.
fn bounding_set(status: &str) -> CapabilitySet {
    let mask = status
        .lines()
        .find_map(|line| line.strip_prefix("CapBnd:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or(0);
    Capability::ALL
        .iter()
        .copied()
        .filter(|capability| mask & (1 << *capability as u8) != 0)
        .collect()
}

/// Hard limit of open files, `u64::MAX` where there is none.
fn open_files_limit() -> u64 {
    let text = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    hard_limit(&text, "Max open files").unwrap_or(1024)
}

/// A line of proc(5)'s limits: name, soft, hard, unit.
fn hard_limit(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    match line.split_whitespace().nth(1)? {
        "unlimited" => Some(u64::MAX),
        number => number.parse().ok(),
    }
}

/// Version 1 has the file in every group, version 2 in every group with the
/// memory controller but the root. Where there is none yet, a kernel with swap
/// is taken to account it, as all with version 2 do by default.
fn swap_accounting(layout: &Layout) -> bool {
    let memory = layout
        .hierarchies()
        .iter()
        .find(|hierarchy| hierarchy.controllers.iter().any(|name| name == "memory"));
    let Some(memory) = memory else {
        return false;
    };
    if memory.version == Version::V1 {
        return memory
            .mount_point
            .join("memory.memsw.limit_in_bytes")
            .exists();
    }
    let limited = fs::read_dir(&memory.mount_point)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.join("memory.max").exists());
    match limited {
        Some(path) => path.join("memory.swap.max").exists(),
        None => Path::new("/proc/swaps").exists(),
    }
}

#[cfg(test)]
mod tests {
    use super::{
        HostFacts, Path, bounding_set, can_lower_oom_score, device_nodes, fs, hard_limit, major,
        minor, read_seccomp_profile, resolve_devices,
    };
    use crate::spec::{DeviceMapping, ProfileRequest, SecurityContext};
    use insula_wire::Capability;

    fn mapping(host_path: &str, container_path: &str) -> DeviceMapping {
        DeviceMapping {
            container_path: container_path.to_owned(),
            host_path: host_path.to_owned(),
            permissions: "rw".to_owned(),
        }
    }

    #[test]
    fn device_numbers_are_taken_apart() {
        // As makedev(3) puts them together.
        for (device, expected) in [
            (0x0103, (1, 3)),
            (0x8812, (0x88, 0x12)),
            (0x0010_0503, (5, 0x103)),
            (0xffff_ffff_ffff_ffff, (u32::MAX, u32::MAX)),
        ] {
            assert_eq!((major(device), minor(device)), expected, "{device:#x}");
        }
    }

    #[test]
    fn devices_are_found_through_links_and_in_directories() {
        let directory = tempfile::tempdir().unwrap();
        let link = directory.path().join("link");
        std::os::unix::fs::symlink("/dev/null", &link).unwrap();
        let link = link.to_str().unwrap();
        let found = resolve_devices(&[mapping(link, "/dev/x"), mapping("/dev/null", "")]).unwrap();
        let nodes: Vec<_> = found
            .iter()
            .map(|device| {
                (
                    device.node.path.as_str(),
                    device.node.major,
                    device.node.minor,
                )
            })
            .collect();
        assert_eq!(nodes, [("/dev/x", 1, 3), ("/dev/null", 1, 3)]);
        assert_eq!(found[0].mapping.host_path, link);
        let found = resolve_devices(&[mapping("/dev", "/host")]).unwrap();
        assert!(found.iter().any(|device| device.node.path == "/host/null"));
        for (host, container) in [
            ("/dev/does-not-exist", "/x"),
            ("/etc/passwd", "/x"),
            (directory.path().to_str().unwrap(), "/x"),
            ("/dev/null", "/../x"),
            ("", "/x"),
        ] {
            assert!(
                resolve_devices(&[mapping(host, container)]).is_err(),
                "{host} {container}"
            );
        }
    }

    #[test]
    fn the_hosts_devices_hold_no_terminals() {
        let nodes = device_nodes();
        assert!(
            nodes
                .iter()
                .any(|node| node.path == "/dev/null" && node.minor == 3)
        );
        assert!(nodes.iter().all(|node| !node.path.starts_with("/dev/pts/")));
    }

    #[test]
    fn lowering_the_oom_score_is_tried_and_undone() {
        let own = Path::new("/proc/self/oom_score_adj");
        let read = || {
            fs::read_to_string(own)
                .unwrap()
                .trim()
                .parse::<i32>()
                .unwrap()
        };
        let before = read();
        let can = can_lower_oom_score(own, before);
        assert_eq!(read(), before);
        let lowered = fs::write(own, (before - 1).to_string()).is_ok();
        if lowered {
            fs::write(own, before.to_string()).unwrap();
        }
        assert_eq!(can, lowered || before <= -1000);
        assert_eq!(HostFacts::detect(false).unwrap().can_lower_oom_score, can);
        assert!(!can_lower_oom_score(Path::new("/proc/self/none"), 0));
    }

    #[test]
    fn files_of_proc_are_read() {
        let set = bounding_set("CapEff:\t0\nCapBnd:\t000001fffeffffff\n");
        assert!(set.contains(Capability::SysAdmin) && !set.contains(Capability::SysResource));
        assert_eq!(bounding_set("").iter().count(), 0);
        let limits = "Limit   Soft   Hard   Units\nMax open files   1024   4096   files\nMax cpu time unlimited unlimited seconds\n";
        assert_eq!(hard_limit(limits, "Max open files"), Some(4096));
        assert_eq!(hard_limit(limits, "Max cpu time"), Some(u64::MAX));
        assert_eq!(hard_limit(limits, "Max nothing"), None);
    }

    #[test]
    fn profiles_are_files_with_absolute_paths() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
        fs::write(path("good"), "{}").unwrap();
        fs::write(path("large"), vec![b' '; (1 << 20) + 1]).unwrap();
        rustix::fs::mknodat(
            rustix::fs::CWD,
            path("pipe"),
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::from_raw_mode(0o600),
            0,
        )
        .unwrap();
        for (request, privileged, expected) in [
            (ProfileRequest::RuntimeDefault, false, Ok(None)),
            (
                ProfileRequest::Localhost(path("good")),
                false,
                Ok(Some("{}")),
            ),
            (ProfileRequest::Localhost(path("absent")), true, Ok(None)),
            (
                ProfileRequest::Localhost(format!("localhost/{}", path("good"))),
                false,
                Ok(Some("{}")),
            ),
            (
                ProfileRequest::Localhost(path("absent")),
                false,
                Err("No such file"),
            ),
            (
                ProfileRequest::Localhost(path("pipe")),
                false,
                Err("it is not a file"),
            ),
            (
                ProfileRequest::Localhost(path("")),
                false,
                Err("it is not a file"),
            ),
            (
                ProfileRequest::Localhost(path("large")),
                false,
                Err("more than 1048576 bytes"),
            ),
            (
                ProfileRequest::Localhost("good".to_owned()),
                false,
                Err("\"good\": the path is not absolute"),
            ),
        ] {
            let security = SecurityContext {
                seccomp: request.clone(),
                privileged,
                ..SecurityContext::default()
            };
            match (read_seccomp_profile(&security), expected) {
                (Ok(got), Ok(wanted)) => {
                    assert_eq!(got.as_deref(), wanted.map(str::as_bytes), "{request:?}");
                }
                (Err(refusal), Err(words)) => {
                    assert!(refusal.to_string().contains(words), "{refusal}");
                }
                (got, wanted) => panic!("{request:?}: {got:?}, not {wanted:?}"),
            }
        }
    }
}
