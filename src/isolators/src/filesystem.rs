//! What every container's file system shows beside its image.

use crate::contribution::Contribution;
use crate::isolator::{Isolator, PodView, Refusal};
use crate::path;
use crate::spec::{ContainerSpec, NamespaceMode};
use insula_sys::cgroup::{Hierarchy, Version};
use insula_wire::plan::{Mount, MountAttributes, MountSource, Propagation, Symlink};

/// `/proc`, `/sys`, `/dev` and what is in them, and the pod's `hosts`,
/// `hostname` and `resolv.conf`.
///
/// A volume at the same path takes the place of a default mount; one at `/dev`
/// takes the place of everything below it, too, since it shows a directory of
/// the host in which nothing may be made.
#[derive(Debug)]
pub(crate) struct Filesystem;

/// Links of `/dev`; a program looks for its streams there.
const LINKS: &[(&str, &str)] = &[
    ("/dev/fd", "/proc/self/fd"),
    ("/dev/stdin", "/proc/self/fd/0"),
    ("/dev/stdout", "/proc/self/fd/1"),
    ("/dev/stderr", "/proc/self/fd/2"),
    ("/dev/core", "/proc/kcore"),
    ("/dev/ptmx", "pts/ptmx"),
];

/// The files of the pod, by their names in its directory.
const FILES: &[(&str, &str)] = &[
    ("hostname", "/etc/hostname"),
    ("hosts", "/etc/hosts"),
    ("resolv.conf", "/etc/resolv.conf"),
];

/// The group `tty` of every distribution, to which terminals belong.
const TERMINAL_GROUP: u32 = 5;

const CGROUPS: &str = "/sys/fs/cgroup";

impl Isolator for Filesystem {
    fn name(&self) -> &'static str {
        "filesystem"
    }

    fn prepare(&self, spec: &ContainerSpec, pod: &PodView<'_>) -> Result<Contribution, Refusal> {
        let mut part = Contribution {
            readonly_rootfs: Some(spec.security.readonly_rootfs),
            ..Contribution::default()
        };
        part.mounts.extend(kernel_mounts(spec, pod));
        cgroup_mounts(spec, pod, &mut part);
        for (name, target) in FILES {
            let path = pod.files.join(name);
            let path = path.to_str().ok_or_else(|| {
                Refusal::new(format!(
                    "path {:?} of the pod's files is not UTF-8",
                    path.display()
                ))
            })?;
            let attributes = MountAttributes {
                readonly: spec.security.readonly_rootfs,
                nosuid: true,
                nodev: true,
                noexec: true,
                ..MountAttributes::default()
            };
            part.mounts.push(mount(target, host(path), attributes));
        }
        part.links
            .extend(LINKS.iter().map(|(path, target)| link(path, target)));
        part.mounts
            .retain(|mount| !is_replaced(spec, &mount.target));
        part.links.retain(|link| !is_replaced(spec, &link.path));
        Ok(part)
    }
}

/// Whether a volume takes the place of a default mount, device or link: at the
/// same path; at `/dev` or `/sys/fs/cgroup` for all below; and where what would
/// be made below it would appear on the host.
pub(crate) fn is_replaced(spec: &ContainerSpec, path: &str) -> bool {
    spec.mounts.iter().any(|volume| {
        let target = path::clean(&volume.container_path);
        let whole = target == "/dev"
            || target == CGROUPS
            || volume.propagation == Propagation::Bidirectional;
        target == path || (whole && path::is_below(path, &target))
    })
}

fn kernel_mounts(spec: &ContainerSpec, pod: &PodView<'_>) -> Vec<Mount> {
    let host_ipc = pod.spec.namespaces.ipc == NamespaceMode::Node;
    let guarded = MountAttributes {
        nosuid: true,
        nodev: true,
        noexec: true,
        ..MountAttributes::default()
    };
    let sys = MountAttributes {
        readonly: !spec.security.privileged,
        ..guarded
    };
    let terminals = MountAttributes {
        nosuid: true,
        noexec: true,
        ..MountAttributes::default()
    };
    let devices = MountAttributes {
        nosuid: true,
        ..MountAttributes::default()
    };
    let mut options = vec![
        ("newinstance", None),
        ("ptmxmode", Some("0666")),
        ("mode", Some("0620")),
    ];
    let groups = pod.spec.namespaces.user.map(|user| user.gids);
    if groups.is_none_or(|groups| groups.to_host(TERMINAL_GROUP).is_some()) {
        options.push(("gid", Some("5")));
    }
    let shm = if host_ipc {
        host("/dev/shm")
    } else {
        MountSource::PodShm
    };
    vec![
        mount("/proc", MountSource::Proc, guarded),
        mount("/sys", filesystem("sysfs", &[]), sys),
        mount(
            "/dev",
            filesystem("tmpfs", &[("mode", Some("755")), ("size", Some("65536k"))]),
            devices,
        ),
        mount("/dev/pts", filesystem("devpts", &options), terminals),
        mount("/dev/mqueue", filesystem("mqueue", &[]), guarded),
        mount("/dev/shm", shm, guarded),
    ]
}

/// The container's own cgroups, seen through its cgroup namespace: one mount
/// with version 2; with version 1 one per hierarchy below a tmpfs, which the
/// supervisor makes read-only when it has made the directories and links in
/// it. A privileged container sees the host's, and can write.
fn cgroup_mounts(spec: &ContainerSpec, pod: &PodView<'_>, part: &mut Contribution) {
    let guarded = MountAttributes {
        readonly: !spec.security.privileged,
        nosuid: true,
        nodev: true,
        noexec: true,
        ..MountAttributes::default()
    };
    let layout = &pod.host.cgroup;
    if layout.version() == Version::V2 {
        part.mounts
            .push(mount(CGROUPS, filesystem("cgroup2", &[]), guarded));
        return;
    }
    let options = [
        ("mode", Some("755")),
        ("size", Some("64k")),
        ("nr_inodes", Some("128")),
    ];
    part.mounts
        .push(mount(CGROUPS, filesystem("tmpfs", &options), guarded));
    for hierarchy in layout.hierarchies() {
        let Some((directory, source)) = hierarchy_mount(hierarchy) else {
            continue;
        };
        let target = format!("{CGROUPS}/{directory}");
        part.mounts.push(mount(&target, source, guarded));
        if hierarchy.controllers.len() > 1 {
            for controller in &hierarchy.controllers {
                part.links
                    .push(link(&format!("{CGROUPS}/{controller}"), &directory));
            }
        }
    }
}

/// Directory and source of a hierarchy on a version 1 host.
fn hierarchy_mount(hierarchy: &Hierarchy) -> Option<(String, MountSource)> {
    if hierarchy.version == Version::V2 {
        return Some(("unified".to_owned(), filesystem("cgroup2", &[])));
    }
    if let Some(name) = &hierarchy.name {
        let options = [("name", Some(name.as_str()))];
        return Some((name.clone(), filesystem("cgroup", &options)));
    }
    let options: Vec<_> = hierarchy
        .controllers
        .iter()
        .map(|name| (name.as_str(), None))
        .collect();
    (!options.is_empty()).then(|| {
        (
            hierarchy.controllers.join(","),
            filesystem("cgroup", &options),
        )
    })
}

fn mount(target: &str, source: MountSource, attributes: MountAttributes) -> Mount {
    Mount {
        target: target.to_owned(),
        source,
        attributes,
        propagation: Propagation::Private,
    }
}

fn host(path: &str) -> MountSource {
    MountSource::Host {
        path: path.to_owned(),
    }
}

fn filesystem(kind: &str, options: &[(&str, Option<&str>)]) -> MountSource {
    MountSource::Filesystem {
        kind: kind.to_owned(),
        options: options
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.map(str::to_owned)))
            .collect(),
    }
}

fn link(path: &str, target: &str) -> Symlink {
    Symlink {
        path: path.to_owned(),
        target: target.to_owned(),
    }
}
