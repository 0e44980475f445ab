//! The isolator's interface.

use crate::apparmor::Profiles;
use crate::cdi::Injection;
use crate::change::Change;
use crate::contribution::Contribution;
use crate::pressure::Pressure;
use crate::seccomp::Filters;
use crate::selinux::Policy;
use crate::spec::{ContainerSpec, DeviceMapping, PodSpec, Resources};
use insula_seccomp::KernelVersion;
use insula_sys::cgroup::Cgroup;
use insula_wire::plan::{CgroupResources, DeviceNode};
use insula_wire::{CapabilitySet, OsText};
use std::path::PathBuf;

/// What an isolator may know beside the container's specification. All of it
/// is values: nothing is looked up while planning.
#[derive(Debug)]
pub struct PodView<'a> {
    /// The pod.
    pub spec: &'a PodSpec,
    /// The pod's id.
    pub pod_id: &'a str,
    /// The container's id.
    pub container_id: &'a str,
    /// The image's configuration.
    pub image: &'a ImageView,
    /// The image's `/etc/passwd`; empty where it has none.
    pub passwd: &'a [u8],
    /// The image's `/etc/group`; empty where it has none.
    pub group: &'a [u8],
    /// The container's cgroup below each hierarchy's root.
    pub cgroup_path: &'a str,
    /// Directory with the pod's `hosts`, `hostname` and `resolv.conf`.
    pub files: PathBuf,
    /// Directory with one directory per volume of the image, filled with what
    /// the image holds there: see [`crate::image_volumes`].
    pub image_volumes: PathBuf,
    /// Directory of the bundle that hooks are shown, if there are any.
    pub bundle: PathBuf,
    /// What the container's [`DeviceMapping`]s turned out to be on this host:
    /// see [`crate::host::resolve_devices`].
    pub devices: &'a [ResolvedDevice],
    /// What the vendors of its CDI devices give it.
    pub cdi: &'a Injection,
    /// Host name of the pod (never empty).
    pub hostname: &'a str,
    /// Nodes of the container's [`DeviceMapping`]s belong to its user and group
    /// (`[security] device_ownership_from_security_context`).
    pub device_ownership: bool,
    /// A container of which nothing is said has the default system call filter
    /// (`[security] seccomp_default`).
    pub seccomp_default: bool,
    /// What AppArmor has loaded, where it is enabled and the container needs
    /// it: see [`crate::apparmor::needs_profiles`].
    pub apparmor: &'a Profiles,
    /// The pod's SELinux level, `None` where there are none.
    pub selinux_level: Option<&'a str>,
    /// Content of the seccomp profile that the container names; see
    /// [`crate::host::read_seccomp_profile`].
    pub seccomp_profile: Option<&'a [u8]>,
    /// Seccomp filters that were compiled for other containers.
    pub filters: &'a Filters,
    /// What this host can do.
    pub host: &'a HostFacts,
}

/// What an image says about how it wants to be run (OCI image-spec
/// config.md), parsed.
#[derive(Debug, Clone, Default, PartialEq)]
#[expect(missing_docs, reason = "the fields of the OCI image configuration")]
pub struct ImageView {
    pub entrypoint: Vec<OsText>,
    pub cmd: Vec<OsText>,
    pub env: Vec<OsText>,
    pub working_dir: String,
    pub user: String,
    pub stop_signal: Option<String>,
    pub volumes: Vec<String>,
}

/// One node that a [`DeviceMapping`] stands for; a mapped directory stands for
/// several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResolvedDevice {
    /// The mapping it comes from.
    pub mapping: DeviceMapping,
    /// The node to make; its path is the one in the container.
    pub node: DeviceNode,
}

/// What was found out about the host, once, at start. [`HostFacts::detect`]
/// does.
#[derive(Debug, Clone)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is one thing the host can or cannot do"
)]
pub struct HostFacts {
    /// cgroup v1 hierarchies or one v2 hierarchy.
    pub cgroup: insula_sys::cgroup::Layout,
    /// `MOUNT_ATTR_RDONLY` with `AT_RECURSIVE` works.
    pub recursive_readonly: bool,
    /// An `oom_score_adj` below this process's own can be set
    /// (`CAP_SYS_RESOURCE` over the host).
    pub can_lower_oom_score: bool,
    /// `oom_score_adj` of this process, which containers inherit.
    pub oom_score_adj: i32,
    /// The bounding set of this process: no container can have more.
    pub capabilities: CapabilitySet,
    /// The hard limit of open files of this process; no container's can be
    /// higher without `CAP_SYS_RESOURCE`.
    pub open_files: u64,
    /// The kernel accounts swap per cgroup.
    pub swap_accounting: bool,
    /// Device nodes of the host, for privileged containers: see
    /// [`crate::host::device_nodes`], to be read anew for each of them.
    pub host_devices: Vec<DeviceNode>,
    /// The kernel's version, for seccomp profiles that ask about it.
    pub kernel: KernelVersion,
    /// AppArmor is enabled.
    pub apparmor: bool,
    /// What the SELinux policy says of containers; `None` where SELinux is
    /// off.
    pub selinux: Option<Policy>,
}

/// One small piece of isolation policy.
///
/// Order: `prepare` runs for all isolators in table order before anything
/// exists. `isolate` runs after the container's cgroup was made and before its
/// child is in it. `cleanup` runs in reverse order and may be called for a
/// container that never got as far as `isolate`.
pub trait Isolator: Send + Sync {
    /// Short name for errors and logs, such as `memory`.
    fn name(&self) -> &'static str;

    /// What the specification means for this isolator, cgroup values apart.
    /// Pure.
    fn prepare(&self, _spec: &ContainerSpec, _pod: &PodView<'_>) -> Result<Contribution, Refusal> {
        Ok(Contribution::default())
    }

    /// What limits mean as values of a cgroup, device rules apart. Pure; asked
    /// for a new container and for each change of a running one.
    fn limits(
        &self,
        _resources: &Resources,
        _host: &HostFacts,
    ) -> Result<CgroupResources, Refusal> {
        Ok(CgroupResources::default())
    }

    /// Writes this isolator's values into the container's new cgroup. What is
    /// `None` or empty in `want` is left as it is.
    fn isolate(&self, _change: &mut Change<'_>, _want: &CgroupResources) -> Result<(), ApplyError> {
        Ok(())
    }

    /// Changes the values of a running container. What was changed before an
    /// error is put back by the [`Change`].
    fn update(&self, change: &mut Change<'_>, want: &CgroupResources) -> Result<(), ApplyError> {
        self.isolate(change, want)
    }

    /// Adds what this isolator can measure. A source that cannot be read is
    /// left out; it never fails the rest.
    fn usage(&self, _cgroup: &Cgroup, _usage: &mut Usage) {}
}

/// An isolator cannot do what was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub struct Refusal {
    /// What was asked, why it cannot be done, what to do instead.
    pub what: String,
}

/// A value could not be put into a cgroup.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// The kernel said no.
    #[error(transparent)]
    System(#[from] insula_sys::Error),
    /// We said no.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

/// Measurements of one cgroup; `None` is "not known".
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Usage {
    /// Nanoseconds of processor time.
    pub cpu_nanoseconds: Option<u64>,
    /// Bytes charged.
    pub memory_usage: Option<u64>,
    /// Bytes charged without inactive file pages, what kubelet evicts by.
    pub memory_working_set: Option<u64>,
    /// Anonymous bytes.
    pub memory_rss: Option<u64>,
    /// The limit without the working set, in bytes; `None` without a limit.
    pub memory_available: Option<u64>,
    /// Page faults.
    pub page_faults: Option<u64>,
    /// Major page faults.
    pub major_page_faults: Option<u64>,
    /// Bytes swapped out.
    pub swap_usage: Option<u64>,
    /// Bytes of swap until the limit.
    pub swap_available: Option<u64>,
    /// Processes and threads.
    pub processes: Option<u64>,
    /// Time lost for want of processors.
    pub cpu_pressure: Option<Pressure>,
    /// Time lost for want of memory.
    pub memory_pressure: Option<Pressure>,
    /// Time lost waiting for block devices.
    pub io_pressure: Option<Pressure>,
}

// === impl Refusal ===

impl Refusal {
    /// A refusal with this text.
    pub fn new(what: impl Into<String>) -> Self {
        Self { what: what.into() }
    }
}
