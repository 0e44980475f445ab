//! What a pod and a container shall be, in our own words.
//!
//! These types are the validated form of a CRI configuration. They round-trip
//! through the records on disk, so that a container's status can repeat what
//! was asked for.

use insula_wire::{IdMappings, OsText};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What a pod shall be (CRI `PodSandboxConfig` and the runtime handler).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PodSpec {
    /// Names the pod; unique among pods that exist.
    pub metadata: PodMetadata,
    /// Host name; empty means the node's.
    pub hostname: String,
    /// Absolute directory of the containers' logs; empty discards them.
    pub log_directory: String,
    /// `None` copies the node's resolv.conf; present but empty is an empty file.
    pub dns: Option<Dns>,
    /// Ports of the node that lead to ports of the pod.
    pub port_mappings: Vec<PortMapping>,
    /// Given back verbatim.
    pub labels: BTreeMap<String, String>,
    /// Given back verbatim; never policy unless parsed by name.
    pub annotations: BTreeMap<String, String>,
    /// Parent of the containers' cgroups (cgroupfs path or systemd slice);
    /// empty means one of the runtime's own.
    pub cgroup_parent: String,
    /// Namespaced kernel settings.
    pub sysctls: BTreeMap<String, String>,
    /// What kubelet adds for the pod itself; recorded.
    pub overhead: Option<Resources>,
    /// The sum of the containers' resources; recorded.
    pub resources: Option<Resources>,
    /// Which namespaces the pod has.
    pub namespaces: NamespaceOptions,
    /// Whether privileged containers are allowed in it.
    pub privileged: bool,
    /// SELinux label of the pod, which its containers have unless they say
    /// otherwise; `None` is the runtime's choice.
    pub selinux: Option<SelinuxOptions>,
    /// Name of the runtime handler; empty is the default.
    pub runtime_handler: String,
}

/// Identity of a pod.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the fields of CRI PodSandboxMetadata")]
pub struct PodMetadata {
    pub name: String,
    pub namespace: String,
    pub uid: String,
    pub attempt: u32,
}

/// Contents of resolv.conf.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the lines of resolv.conf(5)")]
pub struct Dns {
    pub servers: Vec<String>,
    pub searches: Vec<String>,
    pub options: Vec<String>,
}

/// One port mapping; `host_port` 0 maps nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the fields of CRI PortMapping")]
pub struct PortMapping {
    pub protocol: PortProtocol,
    pub container_port: u16,
    pub host_port: u16,
    pub host_ip: String,
}

/// Protocol of a port mapping.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "names of protocols")]
pub enum PortProtocol {
    Tcp,
    Udp,
    Sctp,
}

/// Which namespaces are shared with whom (CRI `NamespaceOption`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamespaceOptions {
    /// `Pod` or `Node`.
    pub network: NamespaceMode,
    /// Any.
    pub pid: NamespaceMode,
    /// `Pod` or `Node`.
    pub ipc: NamespaceMode,
    /// The container whose PID namespace is joined with `pid = Target`.
    pub target_id: String,
    /// A user namespace of the pod's own with these ids; `None` is the node's.
    /// A container's has to be that of its pod (CRI `UserNamespace`).
    pub user: Option<IdMappings>,
}

/// CRI `NamespaceMode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NamespaceMode {
    /// Shared by the pod's containers.
    Pod,
    /// The container's own.
    Container,
    /// The node's.
    Node,
    /// Another container's.
    Target,
}

/// What a container shall be (CRI `ContainerConfig`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ContainerSpec {
    /// Name of the container within its pod.
    pub name: String,
    /// Attempt number.
    pub attempt: u32,
    /// The image as the client named it, given back in the status.
    pub image: ImageRequest,
    /// Replaces the image's entrypoint (and drops its command).
    pub command: Vec<OsText>,
    /// Replaces the image's command.
    pub args: Vec<OsText>,
    /// Absolute; empty means the image's, else `/`.
    pub working_dir: String,
    /// Environment in order; a later value of a name wins.
    pub envs: Vec<(String, OsText)>,
    /// Volumes.
    pub mounts: Vec<VolumeMount>,
    /// Host devices.
    pub devices: Vec<DeviceMapping>,
    /// Full names of devices that vendors describe (CRI `CDI_devices`). More may
    /// be named by annotations `cdi.k8s.io/…`.
    pub cdi_devices: Vec<String>,
    /// Given back verbatim.
    pub labels: BTreeMap<String, String>,
    /// Given back verbatim.
    pub annotations: BTreeMap<String, String>,
    /// Relative to the pod's log directory; empty discards the log.
    pub log_path: String,
    /// Keep standard input open.
    pub stdin: bool,
    /// Close it after the first attach ends.
    pub stdin_once: bool,
    /// Give it a terminal.
    pub tty: bool,
    /// signal(7) number asked for; `None` means the image's, else SIGTERM.
    pub stop_signal: Option<i32>,
    /// Limits.
    pub resources: Resources,
    /// Rights.
    pub security: SecurityContext,
}

/// CRI `ImageSpec` as given.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the fields of CRI ImageSpec")]
pub struct ImageRequest {
    pub image: String,
    pub annotations: BTreeMap<String, String>,
    pub user_specified_image: String,
    pub runtime_handler: String,
}

/// One volume (CRI `Mount`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeMount {
    /// Where it appears; made absolute by the parser.
    pub container_path: String,
    /// Absolute path on the host; symbolic links are followed. Empty for an
    /// image.
    pub host_path: String,
    /// The image that is shown instead of a path of the host.
    pub image: Option<ImageMount>,
    /// Read-only, this mount alone.
    pub readonly: bool,
    /// Read-only with all below it; needs `readonly` and private propagation.
    pub recursive_readonly: bool,
    /// Relabel for SELinux was asked for; tolerated where SELinux is off.
    pub selinux_relabel: bool,
    /// How mounts below travel.
    pub propagation: insula_wire::plan::Propagation,
    /// `noexec`, `nodev`, `nosuid` (CRI 1.37 `mount_options`).
    pub options: Vec<String>,
    /// The ids that its files are shown with: those of the pod's user namespace,
    /// or as they are on disk (KEP-127, CRI `uidMappings` and `gidMappings`).
    pub ids: Option<IdMappings>,
}

/// An image as a volume (CRI `Mount.image`, KEP-4639). Always read-only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageMount {
    /// The image as the client named it, given back in the status.
    pub request: ImageRequest,
    /// The image's id; empty until the image was looked up.
    pub id: String,
    /// The directory of the image that is shown; empty is all of it.
    pub sub_path: String,
}

/// A host device in a container (CRI `Device`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the fields of CRI Device")]
pub struct DeviceMapping {
    pub container_path: String,
    pub host_path: String,
    pub permissions: String,
}

/// Limits of a container (CRI `LinuxContainerResources`); 0 and empty mean
/// "not set", as in the CRI, and -1 of memory, swap and quota "no limit".
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the fields of CRI LinuxContainerResources")]
pub struct Resources {
    pub cpu_period: i64,
    pub cpu_quota: i64,
    pub cpu_shares: i64,
    pub memory_limit_in_bytes: i64,
    pub oom_score_adj: i64,
    pub cpuset_cpus: String,
    pub cpuset_mems: String,
    pub hugepage_limits: Vec<(String, u64)>,
    pub unified: BTreeMap<String, String>,
    pub memory_swap_limit_in_bytes: i64,
}

/// Rights of a container (CRI `LinuxContainerSecurityContext`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecurityContext {
    /// Names to add, with or without `CAP_`, or `ALL`.
    pub add_capabilities: Vec<String>,
    /// Names to drop, or `ALL`.
    pub drop_capabilities: Vec<String>,
    /// Names for the ambient set.
    pub add_ambient_capabilities: Vec<String>,
    /// All capabilities, all devices, nothing masked.
    pub privileged: bool,
    /// Namespaces.
    pub namespaces: NamespaceOptions,
    /// SELinux label; `None` is the pod's.
    pub selinux: Option<SelinuxOptions>,
    /// Numeric user.
    pub run_as_user: Option<i64>,
    /// Numeric group; needs a user.
    pub run_as_group: Option<i64>,
    /// User by name, looked up in the image.
    pub run_as_username: String,
    /// Root is read-only.
    pub readonly_rootfs: bool,
    /// Further groups.
    pub supplemental_groups: Vec<i64>,
    /// Whether the image's /etc/group counts.
    pub supplemental_groups_policy: GroupsPolicy,
    /// `PR_SET_NO_NEW_PRIVS`.
    pub no_new_privs: bool,
    /// Exactly these paths are masked.
    pub masked_paths: Vec<String>,
    /// Exactly these paths are read-only.
    pub readonly_paths: Vec<String>,
    /// A seccomp profile other than unconfined was asked for.
    pub seccomp: ProfileRequest,
    /// An AppArmor profile.
    pub apparmor: ProfileRequest,
}

/// Parts of an SELinux label (CRI `SELinuxOption`); an empty part is the
/// policy's for containers, or the pod's level.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the parts of a label, selinux(8)")]
pub struct SelinuxOptions {
    pub user: String,
    pub role: String,
    #[serde(rename = "type")]
    pub kind: String,
    pub level: String,
}

/// CRI `SupplementalGroupsPolicy` (KEP-3619).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GroupsPolicy {
    /// Groups of the image's /etc/group and those listed.
    Merge,
    /// Only those listed.
    Strict,
}

/// A security profile as asked for (CRI `SecurityProfile`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProfileRequest {
    /// Nothing was said.
    Unset,
    /// The runtime's own profile.
    RuntimeDefault,
    /// None.
    Unconfined,
    /// A profile of the node, by path or name.
    Localhost(String),
}

// === impl NamespaceOptions ===

impl Default for NamespaceOptions {
    /// The CRI's zero value: everything of the pod's.
    fn default() -> Self {
        Self {
            network: NamespaceMode::Pod,
            pid: NamespaceMode::Pod,
            ipc: NamespaceMode::Pod,
            target_id: String::new(),
            user: None,
        }
    }
}

// === impl SecurityContext ===

impl Default for SecurityContext {
    fn default() -> Self {
        Self {
            add_capabilities: Vec::new(),
            drop_capabilities: Vec::new(),
            add_ambient_capabilities: Vec::new(),
            privileged: false,
            namespaces: NamespaceOptions::default(),
            selinux: None,
            run_as_user: None,
            run_as_group: None,
            run_as_username: String::new(),
            readonly_rootfs: false,
            supplemental_groups: Vec::new(),
            supplemental_groups_policy: GroupsPolicy::Merge,
            no_new_privs: false,
            masked_paths: Vec::new(),
            readonly_paths: Vec::new(),
            seccomp: ProfileRequest::Unset,
            apparmor: ProfileRequest::Unset,
        }
    }
}
