//! What this room is told by the daemon's configuration.

use crate::handlers::Handlers;
use crate::host::booted;
use insula_sys::cgroup::{Layout, Version};
use std::path::PathBuf;
use std::time::Duration;

/// Where things are and how long to wait.
#[derive(Debug, Clone)]
pub struct PodsConfig {
    /// Durable state, `/var/lib/insula`.
    pub root: PathBuf,
    /// State that a reboot may void, `/run/insula` (tmpfs).
    pub state: PathBuf,
    /// The supervisor's program, `insula-pod`.
    pub supervisor_path: PathBuf,
    /// Who makes cgroups.
    pub cgroup_driver: CgroupDriver,
    /// cgroup, below each hierarchy's root and without a leading slash, of pods
    /// that name no parent of their own; default `insula`.
    pub cgroup_parent: String,
    /// Device nodes that a container asks for belong to the user and the group
    /// of its security context.
    pub device_ownership: bool,
    /// Containers of which nothing is said have the default system call filter.
    pub seccomp_default: bool,
    /// Directories of files that describe CDI devices, the most important one
    /// last.
    pub cdi_spec_dirs: Vec<PathBuf>,
    /// Who else executes containers.
    pub handlers: Handlers,
    /// How long each wait may take.
    pub deadlines: Deadlines,
}

/// Who makes cgroups (`[cgroup] driver`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CgroupDriver {
    /// systemd where it has booted the machine and cgroups are of version 2,
    /// else we do.
    #[default]
    Auto,
    /// We do.
    Cgroupfs,
    /// systemd does.
    Systemd,
}

/// How long each wait may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadlines {
    /// A supervisor's answer to one request.
    pub supervisor: Duration,
    /// Taking over one pod after a restart.
    pub adopt: Duration,
    /// Opening the sources of a container's volumes.
    pub volumes: Duration,
    /// Root file system and network work, whose own deadlines are shorter.
    pub service: Duration,
    /// The end of a killed container's processes.
    pub kill: Duration,
    /// What is left of an exec's output after its process has ended.
    pub drain: Duration,
    /// A connection to a port of a pod's loopback.
    pub connect: Duration,
}

// === impl CgroupDriver ===

impl CgroupDriver {
    /// What `auto` means on this machine. systemd has given up version 1, and
    /// never kept all of its controllers there.
    pub(crate) fn decide(self, layout: &Layout) -> Self {
        match self {
            Self::Auto if booted() && layout.version() == Version::V2 => Self::Systemd,
            Self::Auto => Self::Cgroupfs,
            decided => decided,
        }
    }

    /// Its name in configurations, kubelet's included.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Cgroupfs => "cgroupfs",
            Self::Systemd => "systemd",
        }
    }
}

// === impl Deadlines ===

impl Default for Deadlines {
    fn default() -> Self {
        Self {
            supervisor: Duration::from_secs(20),
            adopt: Duration::from_secs(10),
            volumes: Duration::from_secs(30),
            service: Duration::from_mins(3),
            kill: Duration::from_secs(10),
            drain: Duration::from_secs(1),
            connect: Duration::from_secs(10),
        }
    }
}

// === impl PodsConfig ===

impl PodsConfig {
    /// The usual configuration for these two directories and this program.
    pub fn new(
        root: impl Into<PathBuf>,
        state: impl Into<PathBuf>,
        supervisor_path: impl Into<PathBuf>,
    ) -> Self {
        Self {
            root: root.into(),
            state: state.into(),
            supervisor_path: supervisor_path.into(),
            cgroup_driver: CgroupDriver::Auto,
            cgroup_parent: "insula".to_owned(),
            device_ownership: false,
            seccomp_default: false,
            cdi_spec_dirs: vec!["/etc/cdi".into(), "/var/run/cdi".into()],
            handlers: Handlers::default(),
            deadlines: Deadlines::default(),
        }
    }
}
