//! This machine.

use super::apparmor::AppArmor;
use super::relabel;
use super::{Group, Host, PlanRequest, Process};
use crate::config::PodsConfig;
use crate::error::{Error, Result};
use crate::files;
use crate::ids::PodId;
use crate::paths::PodDirectory;
use crate::stats::InterfaceUsage;
use insula_isolators::apparmor::Profiles;
use insula_isolators::details::{Details, details};
use insula_isolators::host::{device_nodes, read_seccomp_profile, resolve_devices};
use insula_isolators::isolator::{ApplyError, HostFacts, Usage};
use insula_isolators::seccomp::Filters;
use insula_isolators::selinux::{self, Labels};
use insula_isolators::spec::{ContainerSpec, PodSpec, Resources};
use insula_isolators::{CgroupError, PlanError, PodView};
use insula_sys::cgroup::{Cgroup, CgroupPath, Layout};
use insula_sys::supervisor::SealedProgram;
use insula_sys::{mount, namespace, seqpacket};
use insula_wire::LaunchPlan;
use insula_wire::plan::CgroupResources;
use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Processes of a pod that are counted; there are no more than 4 million on a
/// machine.
const PROCESSES: usize = 1 << 22;

/// The kernel, through `insula-sys` and the isolators.
#[derive(Debug)]
pub(crate) struct LinuxHost {
    facts: HostFacts,
    device_ownership: bool,
    /// `None` where it is not enabled.
    apparmor: Option<AppArmor>,
    program: SealedProgram,
    supervisors: Cgroup,
    filters: Filters,
    /// Groups that all pods share, outermost first.
    shared: [CgroupPath; 2],
}

#[derive(Debug)]
struct LinuxGroup(Cgroup);

// === impl LinuxHost ===

impl LinuxHost {
    /// Loads the supervisor's program and makes the cgroup of supervisors.
    pub(crate) fn new(config: &PodsConfig, facts: HostFacts) -> Result<Self> {
        let program = SealedProgram::load(&config.supervisor_path).map_err(|error| {
            Error::internal(
                "load the supervisor's program",
                format!("{error}; it is installed beside the daemon as `insula-pod`"),
            )
        })?;
        let parent = parse(config.cgroup_parent.trim_matches('/'))?;
        let path = parse(&format!("{parent}/supervisors"))?;
        let supervisors = Cgroup::create(&facts.cgroup, &path)
            .map_err(|error| Error::internal("make the cgroup of supervisors", error))?;
        Ok(Self {
            device_ownership: config.device_ownership,
            apparmor: facts.apparmor.then(AppArmor::load),
            facts,
            program,
            supervisors,
            filters: Filters::default(),
            shared: [parent, path],
        })
    }

    fn layout(&self) -> &Layout {
        &self.facts.cgroup
    }
}

impl Drop for LinuxHost {
    /// Nothing is left of a daemon that ends without pods. With pods, their
    /// supervisors hold the groups.
    fn drop(&mut self) {
        for group in self.shared.iter().rev() {
            if !self.remove_empty_group(group.as_str()) {
                break;
            }
        }
    }
}

impl Host for LinuxHost {
    fn start_supervisor(&self, pod: &PodId, directory: &PodDirectory) -> Result<Process> {
        let stage = "start the pod's supervisor";
        let failed = |error: insula_sys::Error| Error::internal(stage, error);
        let lock = open_lock(directory)?;
        rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(|errno| {
            Error::internal(stage, format!("flock({:?}) = {errno}", directory.lock()))
        })?;
        let (_directory, socket) = socket_path(directory)?;
        let listener = seqpacket::listen(&socket).map_err(failed)?;
        let messages = std::fs::File::create(directory.messages())
            .map_err(|error| files::failed(stage, &directory.messages(), &error))?;
        let spawned = self
            .program
            .start(
                pod.as_str(),
                messages.as_fd(),
                listener.as_fd(),
                lock.as_fd(),
            )
            .map_err(failed)?;
        Ok(Process {
            pid: spawned.pid,
            pidfd: spawned.pidfd,
        })
    }

    fn supervisor_ended(&self, directory: &PodDirectory) -> Result<bool> {
        let lock = open_lock(directory)?;
        match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(true),
            Err(Errno::WOULDBLOCK) => Ok(false),
            Err(errno) => Err(Error::internal(
                "look whether the pod's supervisor lives",
                format!("flock({:?}) = {errno}", directory.lock()),
            )),
        }
    }

    fn connect(&self, directory: &PodDirectory) -> Result<OwnedFd> {
        let (_directory, socket) = socket_path(directory)?;
        seqpacket::connect(&socket)
            .map_err(|error| Error::internal("connect to the pod's supervisor", error))
    }

    fn open_process(&self, pid: i32) -> Result<OwnedFd> {
        let stage = "watch the pod's supervisor";
        let number = rustix::process::Pid::from_raw(pid)
            .ok_or_else(|| Error::internal(stage, format!("{pid} is no process id")))?;
        rustix::process::pidfd_open(number, rustix::process::PidfdFlags::empty())
            .map_err(|errno| Error::internal(stage, format!("pidfd_open({pid}) = {errno}")))
    }

    fn kill_process(&self, pidfd: BorrowedFd<'_>) -> Result<()> {
        match rustix::process::pidfd_send_signal(pidfd, rustix::process::Signal::KILL) {
            Ok(()) | Err(Errno::SRCH) => Ok(()),
            Err(errno) => Err(Error::internal(
                "kill the pod's supervisor",
                format!("pidfd_send_signal({pidfd:?}, SIGKILL) = {errno}"),
            )),
        }
    }

    fn reap(&self, pidfd: BorrowedFd<'_>) {
        use rustix::process::{WaitId, WaitIdOptions, waitid};
        // After a restart it is not our child (ECHILD) and init has taken it.
        let reaped = waitid(
            WaitId::PidFd(pidfd),
            WaitIdOptions::EXITED | WaitIdOptions::NOHANG,
        );
        tracing::trace!(?reaped, "supervisor reaped");
    }

    fn place_supervisor(&self, pid: i32) -> Result<()> {
        std::iter::once(pid)
            .chain(children(pid))
            .try_for_each(|process| self.supervisors.place(process))
            .map_err(|error| Error::internal("place the pod's supervisor in its cgroup", error))
    }

    fn bind_network_namespace(&self, namespace: BorrowedFd<'_>, path: &Path) -> Result<()> {
        std::fs::File::create(path)
            .map_err(|error| files::failed("show the network namespace at", path, &error))?;
        mount::bind_namespace(namespace, path)
            .map_err(|error| Error::internal("show the network namespace as a file", error))
    }

    fn release_network_namespace(&self, path: &Path) -> Result<()> {
        mount::detach(path)
            .map_err(|error| Error::internal("release the network namespace", error))?;
        files::remove_file(path)
    }

    fn clone_tree(&self, path: &Path) -> Result<OwnedFd> {
        mount::clone_tree(path, true)
            .map_err(|error| Error::internal(format!("open the volume {}", path.display()), error))
    }

    fn apparmor_profiles(&self) -> Result<Profiles> {
        self.apparmor
            .as_ref()
            .map_or_else(|| Ok(Profiles::default()), AppArmor::profiles)
    }

    fn has_selinux_levels(&self) -> bool {
        self.facts
            .selinux
            .as_ref()
            .is_some_and(|policy| policy.levels && policy.containers.is_some())
    }

    fn selinux_labels(
        &self,
        pod: &PodSpec,
        container: Option<&ContainerSpec>,
        level: Option<&str>,
    ) -> Result<Labels> {
        selinux::labels(self.facts.selinux.as_ref(), pod, container, level)
            .map_err(|refusal| Error::InvalidArgument(refusal.to_string()))
    }

    fn relabel(&self, path: &Path, label: &str, deadline: Duration) -> Result<()> {
        relabel::relabel(path, label, deadline)
    }

    fn plan(&self, request: &PlanRequest<'_>) -> Result<LaunchPlan> {
        let invalid = |words: String| Error::InvalidArgument(words);
        let devices = resolve_devices(&request.container.devices)
            .map_err(|refusal| invalid(refusal.to_string()))?;
        let seccomp_profile = read_seccomp_profile(&request.container.security)
            .map_err(|refusal| invalid(refusal.to_string()))?;
        let privileged;
        let facts = if request.container.security.privileged {
            privileged = HostFacts {
                host_devices: device_nodes(),
                ..self.facts.clone()
            };
            &privileged
        } else {
            &self.facts
        };
        let view = PodView {
            spec: request.pod,
            pod_id: request.pod_id,
            container_id: request.container_id,
            image: &request.image.view,
            passwd: request.passwd,
            group: request.group,
            cgroup_path: request.cgroup_path,
            files: request.files.clone(),
            image_volumes: request.volumes.clone(),
            devices: &devices,
            hostname: request.hostname,
            device_ownership: self.device_ownership,
            apparmor: request.apparmor,
            selinux_level: request.selinux_level,
            seccomp_profile: seccomp_profile.as_deref(),
            filters: &self.filters,
            host: facts,
        };
        insula_isolators::plan(request.container, &view).map_err(plan_error)
    }

    fn plan_resources(&self, want: &Resources) -> Result<CgroupResources> {
        insula_isolators::limits(want, &self.facts).map_err(plan_error)
    }

    fn missing_groups(&self, path: &str) -> Result<Vec<String>> {
        let path = parse(path)?;
        let mut missing = Vec::new();
        let mut next = Some(path);
        while let Some(group) = next {
            match Cgroup::open(self.layout(), &group) {
                Ok(_) => break,
                Err(error) if error.errno() == Errno::NOENT => {
                    next = group.parent();
                    missing.push(group.to_string());
                }
                Err(error) => return Err(Error::internal("look for cgroups", error)),
            }
        }
        missing.reverse();
        Ok(missing)
    }

    fn make_group(&self, path: &str) -> Result<Arc<dyn Group>> {
        let group = Cgroup::create(self.layout(), &parse(path)?)
            .map_err(|error| Error::internal("make the container's cgroup", error))?;
        Ok(Arc::new(LinuxGroup(group)))
    }

    fn open_group(&self, path: &str) -> Result<Option<Arc<dyn Group>>> {
        match Cgroup::open(self.layout(), &parse(path)?) {
            Ok(group) => Ok(Some(Arc::new(LinuxGroup(group)))),
            Err(error) if error.errno() == Errno::NOENT => Ok(None),
            Err(error) => Err(Error::internal("open a cgroup", error)),
        }
    }

    fn remove_empty_group(&self, path: &str) -> bool {
        let Ok(path) = parse(path) else {
            return false;
        };
        // Not `Cgroup::remove`, which also takes what is below.
        self.layout()
            .hierarchies()
            .iter()
            .fold(true, |gone, hierarchy| {
                match std::fs::remove_dir(hierarchy.mount_point.join(path.as_str())) {
                    Ok(()) => gone,
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => gone,
                    Err(error) => {
                        tracing::debug!(cgroup = %path, %error, "a cgroup stays");
                        false
                    }
                }
            })
    }

    fn groups_below(&self, path: &str) -> Result<Vec<String>> {
        match Cgroup::open(self.layout(), &parse(path)?) {
            Ok(group) => group
                .children()
                .map_err(|error| Error::internal("list cgroups", error)),
            Err(error) if error.errno() == Errno::NOENT => Ok(Vec::new()),
            Err(error) => Err(Error::internal("list cgroups", error)),
        }
    }

    fn tcp_socket(&self, path: Option<&Path>, ipv6: bool) -> Result<OwnedFd> {
        let namespace = path
            .map(|path| {
                let flags = OFlags::RDONLY | OFlags::CLOEXEC;
                rustix::fs::open(path, flags, Mode::empty()).map_err(|errno| {
                    Error::internal(
                        "enter the pod's network",
                        format!("open({path:?}) = {errno}"),
                    )
                })
            })
            .transpose()?;
        namespace::tcp_socket(namespace.as_ref().map(|namespace| namespace.as_fd()), ipv6)
            .map_err(|error| Error::FailedPrecondition(error.to_string()))
    }

    fn interface_counters(&self, paths: &[PathBuf]) -> Vec<Result<Vec<InterfaceUsage>>> {
        let stage = "read the interface counters";
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let opened: Vec<_> = paths
            .iter()
            .map(|path| {
                rustix::fs::open(path, flags, Mode::empty())
                    .map_err(|errno| Error::internal(stage, format!("open({path:?}) = {errno}")))
            })
            .collect();
        let namespaces: Vec<_> = opened.iter().flatten().map(AsFd::as_fd).collect();
        let mut counters = namespace::interface_counters(&namespaces).into_iter();
        let read = |file: Result<OwnedFd>| {
            file?;
            let lost = || Error::internal(stage, "the thread that reads them is gone");
            let found = counters.next().ok_or_else(lost)?;
            let found = found.map_err(|error| Error::internal(stage, error))?;
            Ok(found
                .into_iter()
                .filter(|interface| interface.name != "lo")
                .map(interface_usage)
                .collect())
        };
        opened.into_iter().map(read).collect()
    }

    fn sample(&self) -> (Usage, Details) {
        (
            insula_isolators::usage(&self.supervisors),
            details(&self.supervisors),
        )
    }
}

fn interface_usage(counters: namespace::InterfaceCounters) -> InterfaceUsage {
    InterfaceUsage {
        name: counters.name,
        rx_bytes: counters.rx_bytes,
        rx_packets: counters.rx_packets,
        rx_errors: counters.rx_errors,
        rx_dropped: counters.rx_dropped,
        tx_bytes: counters.tx_bytes,
        tx_packets: counters.tx_packets,
        tx_errors: counters.tx_errors,
        tx_dropped: counters.tx_dropped,
    }
}

// === impl LinuxGroup ===

impl Group for LinuxGroup {
    fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        self.0.descriptors()
    }

    fn takes_births(&self) -> bool {
        true
    }

    fn place(&self, pid: i32) -> Result<()> {
        self.0
            .place(pid)
            .map_err(|error| Error::internal("place the container in its cgroup", error))
    }

    fn apply(&self, want: &CgroupResources) -> Result<()> {
        insula_isolators::isolate(&self.0, want).map_err(cgroup_error)
    }

    fn update(&self, want: &CgroupResources) -> Result<()> {
        insula_isolators::update(&self.0, want).map_err(cgroup_error)
    }

    fn usage(&self) -> Usage {
        insula_isolators::usage(&self.0)
    }

    fn details(&self) -> Details {
        details(&self.0)
    }

    fn processes(&self) -> Option<u64> {
        let pids = self.0.processes_below(PROCESSES).ok()?;
        Some(pids.len() as u64)
    }

    fn is_gone(&self) -> bool {
        self.0.is_gone()
    }

    fn kill(&self, deadline: Duration) -> Result<()> {
        match self.0.kill(deadline) {
            Ok(()) => Ok(()),
            // It is gone, with all that was in it.
            Err(error) if matches!(error.errno(), Errno::NOENT | Errno::NODEV) => Ok(()),
            Err(error) => Err(Error::internal("kill the container's cgroup", error)),
        }
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty().unwrap_or(false)
    }

    fn remove(&self, deadline: Duration) -> Result<()> {
        match self.0.remove(deadline) {
            Ok(()) => Ok(()),
            Err(error) if matches!(error.errno(), Errno::NOENT | Errno::NODEV) => Ok(()),
            Err(error) => Err(Error::internal("remove the container's cgroup", error)),
        }
    }
}

/// The children of a single-threaded process (proc(5), `/proc/pid/task/tid/children`).
fn children(pid: i32) -> Vec<i32> {
    // One that has ended has none, and its end is noticed elsewhere.
    std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))
        .unwrap_or_default()
        .split_whitespace()
        .filter_map(|child| child.parse().ok())
        .collect()
}

fn parse(path: &str) -> Result<CgroupPath> {
    path.parse()
        .map_err(|error: insula_sys::cgroup::InvalidPath| Error::InvalidArgument(error.to_string()))
}

fn plan_error(error: PlanError) -> Error {
    match error {
        PlanError::Refused { .. } => Error::InvalidArgument(error.to_string()),
        PlanError::Conflict(_) => Error::internal("plan the container", error),
    }
}

fn cgroup_error(error: CgroupError) -> Error {
    match &error.cause {
        ApplyError::Refused(_) => Error::InvalidArgument(error.to_string()),
        ApplyError::System(_) => Error::internal("write the container's limits", error),
    }
}

fn open_lock(directory: &PodDirectory) -> Result<OwnedFd> {
    let path = directory.lock();
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    rustix::fs::open(&path, flags, Mode::from_raw_mode(0o600)).map_err(|errno| {
        Error::internal("open the pod's lock", format!("open({path:?}) = {errno}"))
    })
}

/// The socket's path by way of its directory's descriptor: a socket's address
/// holds 107 bytes, which a path with an id in it soon exceeds.
fn socket_path(directory: &PodDirectory) -> Result<(OwnedFd, PathBuf)> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let path = directory.path();
    let open = rustix::fs::open(path, flags, Mode::empty()).map_err(|errno| {
        Error::internal(
            "open the pod's directory",
            format!("open({path:?}) = {errno}"),
        )
    })?;
    let socket = PathBuf::from(format!("/proc/self/fd/{}/sock", open.as_raw_fd()));
    Ok((open, socket))
}
