//! The launch plan of one container.
//!
//! A plan is made without root and without I/O, by merging what each isolator
//! contributes. It holds no file descriptor and no process id. What has to be
//! opened on the host (the root file system, every [`MountSource::Host`] and
//! [`MountSource::Image`]) is opened by the daemon and travels beside the plan,
//! in the order in which it appears here: first the root, then the mounts.
//!
//! Unknown fields are refused: a supervisor of an older build that is handed a
//! step it does not know says so by name and starts nothing.

use crate::message::Notify;
use crate::{Bundle, CapabilitySet, Hooks, OsText, SeccompFilter};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Everything that was decided about one container, or about one exec in it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LaunchPlan {
    /// The container's id, 64 lower-case hex digits.
    pub container_id: String,
    /// Which namespaces are joined and which are made.
    pub namespaces: Namespaces,
    /// The root file system.
    pub rootfs: Rootfs,
    /// Mounts below the root, in the order in which they are made.
    pub mounts: Vec<Mount>,
    /// Device nodes made below the root after the mounts.
    pub devices: Vec<DeviceNode>,
    /// Symbolic links made below the root after the mounts.
    pub links: Vec<Symlink>,
    /// Paths covered by `/dev/null` (files) or an empty read-only tmpfs
    /// (directories). A path that does not exist is passed over.
    pub masked_paths: Vec<String>,
    /// Paths that become read-only. A path that does not exist is passed over.
    pub readonly_paths: Vec<String>,
    /// What is executed.
    pub process: Process,
    /// Standard streams and the log.
    pub stdio: Stdio,
    /// The container's cgroup and the values in it. Written by the daemon.
    pub cgroup: Cgroup,
    /// The signal that asks the container to end, signal(7) number.
    pub stop_signal: i32,
    /// SELinux label of what is in the file systems that are made for the
    /// container (`context=`, mount(8)); `None` leaves them the policy's.
    pub mount_label: Option<String>,
    /// Programs of the node's that are run for it.
    pub hooks: Hooks,
    /// What they are told, and who listens to its system call filter; `None`
    /// where there is nobody.
    pub bundle: Option<Bundle>,
    /// The external OCI runtime that executes the plan; `None` is the pod's
    /// supervisor itself.
    pub runtime: Option<ExternalRuntime>,
}

/// What an external OCI runtime needs beside the plan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExternalRuntime {
    /// How it is called.
    pub program: RuntimeProgram,
    /// The profile that the plan's filter of system calls was made from:
    /// `linux.seccomp` of the OCI runtime specification. `None` without one.
    pub seccomp: Option<serde_json::Value>,
}

/// The program of an external OCI runtime, runtime.md of the OCI runtime
/// specification.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuntimeProgram {
    /// Absolute path of its program on the host.
    pub path: String,
    /// Arguments before every command.
    pub args: Vec<String>,
    /// How long one call of it may take, in milliseconds.
    pub timeout_ms: u64,
    /// A further process gets into its containers by joining the namespaces of
    /// their main process. Else it has to be asked for one.
    pub namespaced: bool,
}

/// Namespaces of a container, namespaces(7). The mount namespace is always new.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Namespaces {
    /// The pod's user namespace, which then owns the pod's other namespaces
    /// and those made for the container, or the host's.
    pub user: PodOrHost,
    /// The pod's network namespace, or the host's.
    pub network: PodOrHost,
    /// The pod's System V and POSIX message queue namespace, or the host's.
    pub ipc: PodOrHost,
    /// The pod's host name, or the host's.
    pub uts: PodOrHost,
    /// Whose processes are seen.
    pub pid: PidNamespace,
    /// A new cgroup namespace rooted at the container's cgroup, or the host's.
    pub cgroup: NewOrHost,
}

/// A namespace of the pod's, or the host's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PodOrHost {
    /// Shared by the pod's containers.
    Pod,
    /// The node's own.
    Host,
}

/// A namespace of the container's own, or the host's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NewOrHost {
    /// Made for this container.
    New,
    /// The node's own.
    Host,
}

/// The PID namespace of a container (CRI `NamespaceOption.pid`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PidNamespace {
    /// Its own: the workload is PID 1.
    Container,
    /// The pod's: PID 1 is the pod's reaper.
    Pod,
    /// The node's own.
    Host,
    /// That of another container of the same pod, by id.
    Target(String),
}

/// How the root file system is attached. The mount itself is the first
/// descriptor that travels with the plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rootfs {
    /// Makes the root read-only after everything below it was mounted.
    pub readonly: bool,
}

/// One mount below the container's root.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mount {
    /// Absolute path in the container, resolved inside its root. Missing parts
    /// are made: directories 0755, or an empty file where a file is mounted.
    pub target: String,
    /// What is mounted.
    pub source: MountSource,
    /// Per-mount attributes, `mount_setattr(2)`.
    pub attributes: MountAttributes,
    /// How mounts below it travel between host and container.
    pub propagation: Propagation,
}

/// What a [`Mount`] shows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
pub enum MountSource {
    /// A file or directory of the host, with what is mounted below it. The
    /// daemon resolves and clones it (`open_tree(2)`); the supervisor gets a
    /// detached mount.
    Host {
        /// Absolute path on the host.
        path: String,
    },
    /// The files of an image, CRI `Mount.image` (KEP-4639). The daemon mounts
    /// it; the supervisor gets a detached mount of the whole image.
    Image {
        /// The image's id.
        id: String,
        /// The directory of the image that is shown, resolved inside the
        /// image; empty shows all of it.
        sub_path: String,
    },
    /// A new instance of a kernel file system, made in the container's own
    /// namespaces.
    Filesystem {
        /// Its type, such as `tmpfs`, `sysfs`, `mqueue`, `devpts`, `cgroup2`.
        kind: String,
        /// `fsconfig(2)` strings; a value of `None` is a flag.
        options: Vec<(String, Option<String>)>,
    },
    /// procfs of the container's PID namespace.
    Proc,
    /// The pod's `/dev/shm`.
    PodShm,
}

/// Attributes of a mount. `recursive` ones reach every mount below.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(clippy::struct_excessive_bools, reason = "each is one kernel flag")]
pub struct MountAttributes {
    /// `MOUNT_ATTR_RDONLY` on this mount alone.
    pub readonly: bool,
    /// `MOUNT_ATTR_RDONLY` on this mount and all below it (KEP-3857).
    pub recursive_readonly: bool,
    /// `MOUNT_ATTR_NOSUID`.
    pub nosuid: bool,
    /// `MOUNT_ATTR_NODEV`.
    pub nodev: bool,
    /// `MOUNT_ATTR_NOEXEC`.
    pub noexec: bool,
    /// `MOUNT_ATTR_IDMAP` with the pod's user namespace, on this mount and all
    /// below it: a file of the host's id 0 belongs to the container's id 0. Set
    /// by the daemon, which has the namespace, on a [`MountSource::Host`].
    pub id_mapped: bool,
}

/// Propagation of a mount, mount_namespaces(7), CRI `MountPropagation`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Propagation {
    /// Nothing travels.
    Private,
    /// What the host mounts below appears in the container.
    HostToContainer,
    /// As above, and what the container mounts appears on the host.
    Bidirectional,
}

/// A device node made in the container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeviceNode {
    /// Absolute path in the container.
    pub path: String,
    /// Character or block.
    pub kind: DeviceKind,
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
    /// Permission bits, such as 0o666.
    pub mode: u32,
    /// Owner, as seen in the container.
    pub uid: u32,
    /// Group, as seen in the container.
    pub gid: u32,
}

/// Kind of a device node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeviceKind {
    /// `S_IFCHR`.
    Character,
    /// `S_IFBLK`.
    Block,
}

/// A symbolic link made in the container. An existing file is left alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Symlink {
    /// Absolute path of the link in the container.
    pub path: String,
    /// What it points to.
    pub target: String,
}

/// The process that is executed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Process {
    /// Arguments; the first is the program, looked up in `PATH` of `env` where
    /// it holds no slash. Never empty.
    pub args: Vec<OsText>,
    /// `NAME=value` strings in order, names unique.
    pub env: Vec<OsText>,
    /// Absolute working directory in the container, made if missing.
    pub cwd: String,
    /// Whose rights it has.
    pub user: User,
    /// File mode creation mask, 0o022.
    pub umask: u32,
    /// The five sets of capabilities(7).
    pub capabilities: Capabilities,
    /// `PR_SET_NO_NEW_PRIVS`.
    pub no_new_privileges: bool,
    /// Resource limits, each at most once.
    pub rlimits: Vec<Rlimit>,
    /// `/proc/PID/oom_score_adj`, -1000 to 1000; `None` keeps the inherited.
    pub oom_score_adj: Option<i32>,
    /// AppArmor profile it changes to at execve(2); `None` changes nothing.
    pub apparmor_profile: Option<String>,
    /// SELinux label it gets at execve(2), and its session keyring before;
    /// `None` changes nothing.
    pub selinux_label: Option<String>,
    /// System call filter it loads before execve(2); `None` loads none.
    pub seccomp: Option<SeccompFilter>,
}

/// Numeric ids of a process, as seen in the container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct User {
    /// User id.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
    /// Supplementary group ids, in ascending order, each once.
    pub supplementary_groups: Vec<u32>,
}

/// Capability sets of a process, capabilities(7).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Capabilities {
    /// What can ever be gained.
    pub bounding: CapabilitySet,
    /// What is in force.
    pub effective: CapabilitySet,
    /// What may be put in force.
    pub permitted: CapabilitySet,
    /// What survives an exec by file capabilities; empty unless ambient.
    pub inheritable: CapabilitySet,
    /// What survives an exec without privileges.
    pub ambient: CapabilitySet,
}

/// One resource limit, getrlimit(2).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rlimit {
    /// Which.
    pub resource: RlimitResource,
    /// Soft limit; `u64::MAX` is unlimited.
    pub soft: u64,
    /// Hard limit; `u64::MAX` is unlimited.
    pub hard: u64,
}

/// The limits of getrlimit(2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the names are those of getrlimit(2)")]
pub enum RlimitResource {
    As,
    Core,
    Cpu,
    Data,
    Fsize,
    Locks,
    Memlock,
    Msgqueue,
    Nice,
    Nofile,
    Nproc,
    Rss,
    Rtprio,
    Rttime,
    Sigpending,
    Stack,
}

/// Standard streams of a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stdio {
    /// A pseudo-terminal of the container's own devpts; all output is then in
    /// the log's stdout stream.
    pub terminal: bool,
    /// Keeps a standard input open that attach can write to; else it is
    /// `/dev/null`.
    pub stdin: bool,
    /// Closes standard input after the first attach that had it ends.
    pub stdin_once: bool,
    /// Absolute host path of the log file in the CRI format; `None` discards.
    pub log_path: Option<String>,
}

/// The container's cgroup.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cgroup {
    /// Path below each hierarchy's root, without a leading slash.
    pub path: String,
    /// What is written there.
    pub resources: CgroupResources,
}

/// Values for a cgroup, in units that hold for v1 and v2. `None` and empty
/// mean that nothing is written.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CgroupResources {
    /// `cpu.shares` of v1, 2 to 262,144; converted to a weight on v2.
    pub cpu_shares: Option<u64>,
    /// CFS quota in microseconds per period; -1 is unlimited.
    pub cpu_quota: Option<i64>,
    /// CFS period in microseconds, 1,000 to 1,000,000.
    pub cpu_period: Option<u64>,
    /// Bytes; -1 is unlimited.
    pub memory_limit: Option<i64>,
    /// Bytes of memory and swap together, as the CRI counts; -1 is unlimited.
    pub memory_swap_limit: Option<i64>,
    /// Most processes and threads; -1 is unlimited.
    pub pids_limit: Option<i64>,
    /// List of processors, cpuset(7) list format.
    pub cpuset_cpus: Option<String>,
    /// List of memory nodes, cpuset(7) list format.
    pub cpuset_mems: Option<String>,
    /// Bytes by page size (`2MB`, `1GB`).
    pub hugepage_limits: BTreeMap<String, u64>,
    /// Device access rules, first to last; what no rule allows is denied.
    pub devices: Vec<DeviceRule>,
    /// Raw cgroup v2 files by name (CRI `unified`).
    pub unified: BTreeMap<String, String>,
}

/// Access to devices, cgroup v1 `devices.allow` in form.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeviceRule {
    /// Allows or denies.
    pub allow: bool,
    /// `None` is both kinds.
    pub kind: Option<DeviceKind>,
    /// `None` is every major number.
    pub major: Option<u32>,
    /// `None` is every minor number.
    pub minor: Option<u32>,
    /// Any of `r`, `w`, `m`.
    pub access: String,
}

// === impl Process ===

impl Process {
    /// Whether somebody is asked about its system calls.
    pub fn listens(&self) -> bool {
        self.seccomp
            .as_ref()
            .is_some_and(|filter| filter.listener.is_some())
    }
}

// === impl LaunchPlan ===

impl LaunchPlan {
    /// Who is told of its system call filter, if anybody is.
    pub fn notify(&self) -> Option<Notify> {
        let listener = self.process.seccomp.as_ref()?.listener.clone()?;
        let bundle = self.bundle.clone().unwrap_or_default();
        Some(Notify { listener, bundle })
    }

    /// The mounts that are opened by the daemon and travel detached with the
    /// plan, in order, after the root file system.
    pub fn opened_mounts(&self) -> impl Iterator<Item = &Mount> {
        self.mounts.iter().filter(|mount| {
            matches!(
                mount.source,
                MountSource::Host { .. } | MountSource::Image { .. }
            )
        })
    }
}
