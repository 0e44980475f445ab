//! A launch plan as an OCI runtime specification.
//!
//! What the specification has no words for is told as near as it can be:
//!
//! - a filter for system calls is a program by now, and `linux.seccomp` wants
//!   the profile it was made from: only plans for an external runtime have it;
//! - an image as a volume has the type `image` and the image's id as its
//!   source, and the pod's `/dev/shm` has the source `shm`;
//! - bytes of arguments and variables that are not UTF-8 are replaced;
//! - links in `/dev` are what every runtime makes by itself.

use crate::runtime_spec::{
    Capabilities, Cpu, Device, DeviceAccess, Hook, Hooks, HugepageLimit, IdMapping, Linux, Memory,
    Mount, Namespace, Pids, Process, Resources, Rlimit, Root, Spec, User, VERSION,
};
use insula_wire::plan::{
    self, CgroupResources, DeviceKind, DeviceRule, LaunchPlan, MountSource, NewOrHost,
    PidNamespace, PodOrHost, Propagation, RlimitResource,
};
use insula_wire::{CapabilitySet, IdMappings, IdRange, OsText};
use std::collections::BTreeMap;

/// What the specification says and a plan does not, because it is the pod's or
/// depends on when it is asked.
#[derive(Debug, Clone, Default)]
pub struct Surroundings {
    /// Where the root file system is, or the name it shall have.
    pub root_path: String,
    /// The pod's host name; empty is the node's.
    pub hostname: String,
    /// Ids of the pod's user namespace, where it has one.
    pub id_mappings: Option<IdMappings>,
    /// File that names the pod's network namespace.
    pub network_namespace: Option<String>,
    /// A process in the container, by which its other joined namespaces are
    /// named. Without it they have no path.
    pub process: Option<i32>,
    /// Namespaced kernel settings of the pod.
    pub sysctls: BTreeMap<String, String>,
    /// Annotations of the container.
    pub annotations: BTreeMap<String, String>,
}

/// Shows a plan as an OCI runtime specification.
pub fn render(plan: &LaunchPlan, around: &Surroundings) -> Spec {
    let uses_hostname = plan.namespaces.uts == PodOrHost::Pod;
    Spec {
        oci_version: VERSION,
        process: process(&plan.process, plan.stdio.terminal),
        root: Root {
            path: around.root_path.clone(),
            readonly: plan.rootfs.readonly,
        },
        hostname: if uses_hostname {
            around.hostname.clone()
        } else {
            String::new()
        },
        mounts: plan
            .mounts
            .iter()
            .map(|one| mount(one, around.id_mappings))
            .collect(),
        hooks: (!plan.hooks.is_empty()).then(|| hooks(&plan.hooks)),
        annotations: around.annotations.clone(),
        linux: linux(plan, around),
    }
}

fn hooks(all: &insula_wire::Hooks) -> Hooks {
    let list = |hooks: &[insula_wire::Hook]| {
        hooks
            .iter()
            .map(|hook| Hook {
                path: hook.path.clone(),
                args: hook.args.clone(),
                env: hook.env.clone(),
                timeout: hook.timeout,
            })
            .collect()
    };
    Hooks {
        prestart: list(&all.prestart),
        create_runtime: list(&all.create_runtime),
        create_container: list(&all.create_container),
        start_container: list(&all.start_container),
        poststart: list(&all.poststart),
        poststop: list(&all.poststop),
    }
}

/// A process of a container, with a terminal or without.
pub(crate) fn process(process: &plan::Process, terminal: bool) -> Process {
    let texts = |list: &[OsText]| {
        list.iter()
            .map(|text| text.to_string_lossy().into_owned())
            .collect()
    };
    let sets = &process.capabilities;
    Process {
        terminal,
        user: User {
            uid: process.user.uid,
            gid: process.user.gid,
            umask: process.umask,
            additional_gids: process.user.supplementary_groups.clone(),
        },
        args: texts(&process.args),
        env: texts(&process.env),
        cwd: process.cwd.clone(),
        capabilities: Capabilities {
            bounding: names(sets.bounding),
            effective: names(sets.effective),
            inheritable: names(sets.inheritable),
            permitted: names(sets.permitted),
            ambient: names(sets.ambient),
        },
        rlimits: process
            .rlimits
            .iter()
            .map(|limit| Rlimit {
                kind: rlimit(limit.resource),
                soft: limit.soft,
                hard: limit.hard,
            })
            .collect(),
        no_new_privileges: process.no_new_privileges,
        oom_score_adj: process.oom_score_adj,
        apparmor_profile: process.apparmor_profile.clone(),
        selinux_label: process.selinux_label.clone(),
    }
}

fn names(set: CapabilitySet) -> Vec<&'static str> {
    set.iter().map(insula_wire::Capability::name).collect()
}

fn rlimit(resource: RlimitResource) -> &'static str {
    match resource {
        RlimitResource::As => "RLIMIT_AS",
        RlimitResource::Core => "RLIMIT_CORE",
        RlimitResource::Cpu => "RLIMIT_CPU",
        RlimitResource::Data => "RLIMIT_DATA",
        RlimitResource::Fsize => "RLIMIT_FSIZE",
        RlimitResource::Locks => "RLIMIT_LOCKS",
        RlimitResource::Memlock => "RLIMIT_MEMLOCK",
        RlimitResource::Msgqueue => "RLIMIT_MSGQUEUE",
        RlimitResource::Nice => "RLIMIT_NICE",
        RlimitResource::Nofile => "RLIMIT_NOFILE",
        RlimitResource::Nproc => "RLIMIT_NPROC",
        RlimitResource::Rss => "RLIMIT_RSS",
        RlimitResource::Rtprio => "RLIMIT_RTPRIO",
        RlimitResource::Rttime => "RLIMIT_RTTIME",
        RlimitResource::Sigpending => "RLIMIT_SIGPENDING",
        RlimitResource::Stack => "RLIMIT_STACK",
    }
}

fn mount(mount: &plan::Mount, ids: Option<IdMappings>) -> Mount {
    let mut options = Vec::new();
    let (kind, source) = match &mount.source {
        MountSource::Host { path } => {
            options.push("rbind".to_owned());
            ("bind".to_owned(), path.clone())
        }
        MountSource::Image { id, sub_path } => {
            if !sub_path.is_empty() {
                options.push(format!("subpath={sub_path}"));
            }
            ("image".to_owned(), id.clone())
        }
        MountSource::Filesystem {
            kind,
            options: given,
        } => {
            options.extend(given.iter().map(|(name, value)| match value {
                Some(value) => format!("{name}={value}"),
                None => name.clone(),
            }));
            (kind.clone(), kind.clone())
        }
        MountSource::Proc => ("proc".to_owned(), "proc".to_owned()),
        MountSource::PodShm => ("tmpfs".to_owned(), "shm".to_owned()),
    };
    let attributes = mount.attributes;
    let flags = [
        (attributes.readonly, "ro"),
        (attributes.recursive_readonly, "rro"),
        (attributes.nosuid, "nosuid"),
        (attributes.nodev, "nodev"),
        (attributes.noexec, "noexec"),
        (attributes.id_mapped, "ridmap"),
    ];
    let set = flags.iter().filter(|(set, _)| *set);
    options.extend(set.map(|(_, name)| (*name).to_owned()));
    options.push(propagation("r", mount.propagation));
    let mapped = ids.filter(|_| attributes.id_mapped);
    Mount {
        destination: mount.target.clone(),
        kind,
        source,
        options,
        uid_mappings: mapped.map(|ids| mapping(ids.uids)).into_iter().collect(),
        gid_mappings: mapped.map(|ids| mapping(ids.gids)).into_iter().collect(),
    }
}

fn propagation(recursive: &str, propagation: Propagation) -> String {
    let word = match propagation {
        Propagation::Private => "private",
        Propagation::HostToContainer => "slave",
        Propagation::Bidirectional => "shared",
    };
    format!("{recursive}{word}")
}

fn mapping(range: IdRange) -> IdMapping {
    IdMapping {
        container_id: 0,
        host_id: range.first(),
        size: range.length(),
    }
}

fn linux(plan: &LaunchPlan, around: &Surroundings) -> Linux {
    let ids = around
        .id_mappings
        .filter(|_| plan.namespaces.user == PodOrHost::Pod);
    Linux {
        namespaces: namespaces(&plan.namespaces, around),
        uid_mappings: ids.map(|ids| mapping(ids.uids)).into_iter().collect(),
        gid_mappings: ids.map(|ids| mapping(ids.gids)).into_iter().collect(),
        devices: plan
            .devices
            .iter()
            .map(|node| Device {
                path: node.path.clone(),
                kind: device_kind(Some(node.kind)),
                major: node.major,
                minor: node.minor,
                file_mode: node.mode,
                uid: node.uid,
                gid: node.gid,
            })
            .collect(),
        cgroups_path: format!("/{}", plan.cgroup.path),
        resources: resources(&plan.cgroup.resources),
        rootfs_propagation: root_propagation(plan),
        sysctl: around.sysctls.clone(),
        masked_paths: plan.masked_paths.clone(),
        readonly_paths: plan.readonly_paths.clone(),
        mount_label: plan.mount_label.clone(),
        seccomp: plan.runtime.as_ref().and_then(|it| it.seccomp.clone()),
    }
}

/// The most that one of its mounts needs of a runtime which clones the host's
/// mount namespace, in the specification's words (config-linux.md,
/// "rootfsPropagation"): `rslave` and `rshared` are runc's.
fn root_propagation(plan: &LaunchPlan) -> &'static str {
    let any = |wanted| plan.mounts.iter().any(|mount| mount.propagation == wanted);
    if any(Propagation::Bidirectional) {
        "shared"
    } else if any(Propagation::HostToContainer) {
        "slave"
    } else {
        "private"
    }
}

/// A namespace of the host's is not in the list; one that is joined has a path
/// where one is known; the others are new.
fn namespaces(plan: &plan::Namespaces, around: &Surroundings) -> Vec<Namespace> {
    let of_process = |file: &str| around.process.map(|pid| format!("/proc/{pid}/ns/{file}"));
    let new = |kind| Namespace { kind, path: None };
    let mut list = vec![new("mount")];
    let mut join = |kind, whose, path| {
        if whose == PodOrHost::Pod {
            list.push(Namespace { kind, path });
        }
    };
    let network = around.network_namespace.clone();
    join("network", plan.network, network.or(of_process("net")));
    join("ipc", plan.ipc, of_process("ipc"));
    join("uts", plan.uts, of_process("uts"));
    join("user", plan.user, of_process("user"));
    match plan.pid {
        PidNamespace::Container => list.push(new("pid")),
        PidNamespace::Pod | PidNamespace::Target(_) => list.push(Namespace {
            kind: "pid",
            path: of_process("pid"),
        }),
        PidNamespace::Host => {}
    }
    if plan.cgroup == NewOrHost::New {
        list.push(new("cgroup"));
    }
    list
}

fn device_kind(kind: Option<DeviceKind>) -> &'static str {
    match kind {
        Some(DeviceKind::Character) => "c",
        Some(DeviceKind::Block) => "b",
        None => "a",
    }
}

fn resources(want: &CgroupResources) -> Resources {
    let memory = Memory {
        limit: want.memory_limit,
        swap: want.memory_swap_limit,
    };
    let cpu = Cpu {
        shares: want.cpu_shares,
        quota: want.cpu_quota,
        period: want.cpu_period,
        cpus: want.cpuset_cpus.clone(),
        mems: want.cpuset_mems.clone(),
    };
    let has_memory = memory.limit.is_some() || memory.swap.is_some();
    let has_cpu = cpu.shares.is_some()
        || cpu.quota.is_some()
        || cpu.period.is_some()
        || cpu.cpus.is_some()
        || cpu.mems.is_some();
    Resources {
        devices: device_access(&want.devices),
        memory: has_memory.then_some(memory),
        cpu: has_cpu.then_some(cpu),
        pids: want.pids_limit.map(|limit| Pids { limit }),
        hugepage_limits: want
            .hugepage_limits
            .iter()
            .map(|(size, limit)| HugepageLimit {
                page_size: size.clone(),
                limit: *limit,
            })
            .collect(),
        unified: want.unified.clone(),
    }
}

/// A plan denies what no rule allows; the specification has to say so.
fn device_access(rules: &[DeviceRule]) -> Vec<DeviceAccess> {
    if rules.is_empty() {
        return Vec::new();
    }
    let nothing = DeviceAccess {
        allow: false,
        kind: "a",
        major: None,
        minor: None,
        access: "rwm".to_owned(),
    };
    let each = rules.iter().map(|rule| DeviceAccess {
        allow: rule.allow,
        kind: device_kind(rule.kind),
        major: rule.major,
        minor: rule.minor,
        access: rule.access.clone(),
    });
    std::iter::once(nothing).chain(each).collect()
}

#[cfg(test)]
pub(crate) mod tests;
