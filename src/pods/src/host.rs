//! What this room needs from the machine: processes, mounts, cgroups, plans.
//!
//! [`Host`] is a seam as the traits in [`ports`](crate::ports) are: life cycles
//! are tested against a fake, without root. Its functions block; callers put
//! them on a thread for it, with a deadline.

use crate::config::CgroupDriver;
use crate::error::{Error, Result};
use crate::handlers::OciRuntime;
use crate::ids::PodId;
use crate::paths::PodDirectory;
use crate::ports::{ImageFacts, UserNamespace};
use crate::stats::InterfaceUsage;
use insula_isolators::apparmor::Profiles;
use insula_isolators::cdi::Injection;
use insula_isolators::details::Details;
use insula_isolators::isolator::Usage;
use insula_isolators::selinux::Labels;
use insula_isolators::spec::{ContainerSpec, PodSpec, Resources};
use insula_sys::cgroup::Layout;
use insula_wire::LaunchPlan;
use insula_wire::plan::CgroupResources;
use std::fmt::Debug;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

mod apparmor;
mod cdi;
mod group;
mod linux;
mod relabel;
mod systemd;
mod tree;

pub(crate) use linux::LinuxHost;
pub(crate) use systemd::booted;
pub(crate) use tree::Tree;

/// Who makes cgroups on this machine where this is configured, tried: an error
/// says what stands in the way.
pub async fn try_cgroup_driver(configured: CgroupDriver) -> Result<CgroupDriver> {
    let layout = Layout::detect().map_err(|error| Error::internal("find cgroups", error))?;
    let driver = configured.decide(&layout);
    if driver == CgroupDriver::Systemd {
        systemd::Systemd::open(&layout, Duration::from_secs(5)).await?;
    }
    Ok(driver)
}

/// The machine.
pub(crate) trait Host: Debug + Send + Sync + 'static {
    /// Makes the pod's lock and socket and starts its supervisor, which gets
    /// both.
    fn start_supervisor(&self, pod: &PodId, directory: &PodDirectory) -> Result<Process>;

    /// Whether a pod's supervisor has provably ended: nobody holds its lock.
    fn supervisor_ended(&self, directory: &PodDirectory) -> Result<bool>;

    /// Connects to a pod's supervisor.
    fn connect(&self, directory: &PodDirectory) -> Result<OwnedFd>;

    /// Opens a process by its id, for watching and killing it.
    fn open_process(&self, pid: i32) -> Result<OwnedFd>;

    /// Kills a process.
    fn kill_process(&self, pidfd: BorrowedFd<'_>) -> Result<()>;

    /// Takes the exit status of a child that has ended, so that no zombie
    /// stays. A process that is no child of ours is no error.
    fn reap(&self, pidfd: BorrowedFd<'_>);

    /// Puts a supervisor into the cgroup of supervisors, and with it the first
    /// process of a shared PID namespace, which it has forked before.
    fn place_supervisor(&self, pid: i32) -> Result<()>;

    /// Shows a network namespace as a file.
    fn bind_network_namespace(&self, namespace: BorrowedFd<'_>, path: &Path) -> Result<()>;

    /// Takes that file away. Idempotent.
    fn release_network_namespace(&self, path: &Path) -> Result<()>;

    /// Clones the mount at a host path with all below it, detached, and shows
    /// it with a user namespace's ids if one is given. May hang.
    fn clone_tree(&self, path: &Path, user: Option<&UserNamespace>) -> Result<OwnedFd>;

    /// What AppArmor has loaded. May wait for its default profile to be.
    fn apparmor_profiles(&self) -> Result<Profiles>;

    /// Whether SELinux is on, with a policy that has levels.
    fn has_selinux_levels(&self) -> bool;

    /// SELinux labels of a container, or of what is the pod's own.
    fn selinux_labels(
        &self,
        pod: &PodSpec,
        container: Option<&ContainerSpec>,
        level: Option<&str>,
    ) -> Result<Labels>;

    /// Gives a file, or a directory with all in it, an SELinux label. May take
    /// as long as the deadline.
    fn relabel(&self, path: &Path, label: &str, deadline: Duration) -> Result<()>;

    /// Reads the node's own files that a container asks for. May hang.
    fn node_files(&self, container: &ContainerSpec) -> Result<NodeFiles>;

    /// What the isolators make of a container's specification.
    fn plan(&self, request: &PlanRequest<'_>) -> Result<LaunchPlan>;

    /// What they make of its resources alone.
    fn plan_resources(&self, want: &Resources) -> Result<CgroupResources>;

    /// Which groups of a path do not exist yet, outermost first.
    fn missing_groups(&self, path: &str) -> Result<Vec<String>>;

    /// Makes a cgroup in every hierarchy.
    fn make_group(&self, path: &str) -> Result<Arc<dyn Group>>;

    /// Opens a cgroup; `None` where there is none.
    fn open_group(&self, path: &str) -> Result<Option<Arc<dyn Group>>>;

    /// Removes a cgroup if it holds neither processes nor other groups.
    /// Idempotent; gives back whether it is gone.
    fn remove_empty_group(&self, path: &str) -> bool;

    /// Names of the groups directly below a path.
    fn groups_below(&self, path: &str) -> Result<Vec<String>>;

    /// Counters of all interfaces of network namespaces; one result for each.
    fn interface_counters(&self, namespaces: &[PathBuf]) -> Vec<Result<Vec<InterfaceUsage>>>;

    /// What a cgroup of ours that always exists uses, to see what can be
    /// measured here.
    fn sample(&self) -> (Usage, Details);

    /// A non-blocking TCP socket of a network namespace, `None` for the host's;
    /// of IPv6 or IPv4.
    fn tcp_socket(&self, namespace: Option<&Path>, ipv6: bool) -> Result<OwnedFd>;
}

/// One cgroup, open.
pub(crate) trait Group: Debug + Send + Sync + 'static {
    /// Its directories, one for each hierarchy; none before the first process
    /// was placed, where it comes to be with that.
    fn descriptors(&self) -> Vec<BorrowedFd<'_>>;

    /// Whether a child gets into it by itself, born there or by its own hand.
    /// Else it is placed: a service manager may want to do that.
    fn takes_births(&self) -> bool;

    /// Puts a blocked process into it, and makes it where that needs one.
    fn place(&self, pid: i32) -> Result<()>;

    /// Writes a new container's values, or keeps them for the moment when it
    /// is made.
    fn apply(&self, want: &CgroupResources) -> Result<()>;

    /// Changes a container's values; all or none.
    fn update(&self, want: &CgroupResources) -> Result<()>;

    /// What its processes use.
    fn usage(&self) -> Usage;

    /// What only metrics show of it.
    fn details(&self) -> Details;

    /// How many processes are in it and below; `None` when that is not known.
    fn processes(&self) -> Option<u64>;

    /// Whether it was removed.
    fn is_gone(&self) -> bool;

    /// Kills all its processes and waits for their end.
    fn kill(&self, deadline: Duration) -> Result<()>;

    /// Whether it holds no process.
    fn is_empty(&self) -> bool;

    /// Removes it, with the groups that the workload made in it. Idempotent.
    fn remove(&self, deadline: Duration) -> Result<()>;
}

/// A supervisor that was started.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) pid: i32,
    /// Readable once it has ended.
    pub(crate) pidfd: OwnedFd,
}

/// What the node's own files say of a container.
#[derive(Debug, Default)]
pub(crate) struct NodeFiles {
    /// The seccomp profile that it names.
    pub(crate) seccomp_profile: Option<Vec<u8>>,
    /// What the vendors of its CDI devices give it.
    pub(crate) cdi: Injection,
}

/// What a plan is made from.
#[derive(Debug)]
pub(crate) struct PlanRequest<'a> {
    pub(crate) pod: &'a PodSpec,
    pub(crate) pod_id: &'a str,
    pub(crate) hostname: &'a str,
    pub(crate) files: PathBuf,
    /// Directory of the image's volumes.
    pub(crate) volumes: PathBuf,
    /// Directory that hooks are shown, if there are any.
    pub(crate) bundle: PathBuf,
    pub(crate) container: &'a ContainerSpec,
    pub(crate) node_files: &'a NodeFiles,
    pub(crate) container_id: &'a str,
    pub(crate) image: &'a ImageFacts,
    pub(crate) passwd: &'a [u8],
    pub(crate) group: &'a [u8],
    pub(crate) cgroup_path: &'a str,
    pub(crate) apparmor: &'a Profiles,
    pub(crate) selinux_level: Option<&'a str>,
    /// Who executes the plan, if not the supervisor.
    pub(crate) runtime: Option<&'a OciRuntime>,
}
