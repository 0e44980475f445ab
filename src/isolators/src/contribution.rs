//! What isolators contribute, and how contributions become one plan.

use insula_wire::plan::{
    Capabilities, CgroupResources, DeviceNode, DeviceRule, Mount, Namespaces, Rlimit, Symlink, User,
};
use insula_wire::{Hooks, OsText, SeccompFilter};

/// One isolator's part of a launch plan. What is `None` or empty says nothing.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Contribution {
    /// Its mounts and device nodes take the place of earlier ones at the same
    /// paths, and of links there.
    pub replaces: bool,
    /// Namespaces; exactly one isolator sets them.
    pub namespaces: Option<Namespaces>,
    /// Read-only root; exactly one isolator sets it.
    pub readonly_rootfs: Option<bool>,
    /// Mounts, appended in order.
    pub mounts: Vec<Mount>,
    /// Device nodes, appended; the same path twice is a conflict.
    pub devices: Vec<DeviceNode>,
    /// Links, appended.
    pub links: Vec<Symlink>,
    /// Masked paths, appended.
    pub masked_paths: Vec<String>,
    /// Read-only paths, appended.
    pub readonly_paths: Vec<String>,
    /// Arguments.
    pub args: Option<Vec<OsText>>,
    /// Environment, appended; a later value of a name wins.
    pub env: Vec<(String, OsText)>,
    /// Working directory.
    pub cwd: Option<String>,
    /// User and groups.
    pub user: Option<User>,
    /// Supplementary groups beside those of the user, appended.
    pub additional_groups: Vec<u32>,
    /// Capabilities.
    pub capabilities: Option<Capabilities>,
    /// `PR_SET_NO_NEW_PRIVS`.
    pub no_new_privileges: Option<bool>,
    /// Resource limits; the same one twice is a conflict.
    pub rlimits: Vec<Rlimit>,
    /// `oom_score_adj`.
    pub oom_score_adj: Option<i32>,
    /// AppArmor profile.
    pub apparmor_profile: Option<String>,
    /// SELinux label of the process.
    pub selinux_label: Option<String>,
    /// SELinux label of what is mounted for it.
    pub mount_label: Option<String>,
    /// System call filter.
    pub seccomp: Option<SeccompFilter>,
    /// Device access rules, appended.
    pub device_rules: Vec<DeviceRule>,
    /// cgroup values (device rules apart); a value set twice is a conflict.
    pub resources: CgroupResources,
    /// Signal that asks it to end.
    pub stop_signal: Option<i32>,
    /// Hooks, appended.
    pub hooks: Hooks,
}
