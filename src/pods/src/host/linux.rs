//! This machine.

use super::apparmor::AppArmor;
use super::cdi;
use super::relabel;
use super::{Group, Host, NodeFiles, PlanRequest, Process, Tree};
use crate::config::PodsConfig;
use crate::container::external;
use crate::error::{Error, Result};
use crate::files;
use crate::ids::PodId;
use crate::paths::PodDirectory;
use crate::ports::UserNamespace;
use crate::stats::InterfaceUsage;
use insula_isolators::apparmor::Profiles;
use insula_isolators::details::Details;
use insula_isolators::host::{device_nodes, read_seccomp_profile, resolve_devices};
use insula_isolators::isolator::{HostFacts, Usage};
use insula_isolators::seccomp::Filters;
use insula_isolators::selinux::{self, Labels};
use insula_isolators::spec::{ContainerSpec, PodSpec, Resources};
use insula_isolators::{PlanError, PodView};
use insula_oci::cdi::Directories;
use insula_sys::supervisor::SealedProgram;
use insula_sys::{mount, namespace, seqpacket};
use insula_wire::LaunchPlan;
use insula_wire::plan::{CgroupResources, ExternalRuntime};
use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// The kernel, through `insula-sys` and the isolators.
#[derive(Debug)]
pub(crate) struct LinuxHost {
    facts: HostFacts,
    device_ownership: bool,
    seccomp_default: bool,
    cdi: Directories,
    /// `None` where it is not enabled.
    apparmor: Option<AppArmor>,
    program: SealedProgram,
    filters: Filters,
    groups: Tree,
}

// === impl LinuxHost ===

impl LinuxHost {
    /// Loads the supervisor's program.
    pub(crate) fn new(config: &PodsConfig, facts: HostFacts, groups: Tree) -> Result<Self> {
        let program = SealedProgram::load(&config.supervisor_path).map_err(|error| {
            Error::internal(
                "load the supervisor's program",
                format!("{error}; it is installed beside the daemon as `insula-pod`"),
            )
        })?;
        Ok(Self {
            device_ownership: config.device_ownership,
            seccomp_default: config.seccomp_default,
            cdi: Directories::new(config.cdi_spec_dirs.clone()),
            apparmor: facts.apparmor.then(AppArmor::load),
            facts,
            program,
            filters: Filters::default(),
            groups,
        })
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
        let mut processes = vec![pid];
        processes.extend(children(pid));
        self.groups.place_supervisor(&processes)
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

    fn clone_tree(&self, path: &Path, user: Option<&UserNamespace>) -> Result<OwnedFd> {
        let shown = path.display();
        let tree = mount::clone_tree(path, true)
            .map_err(|error| Error::internal(format!("open the volume {shown}"), error))?;
        if let Some(user) = user {
            mount::map_ids(&tree, user.namespace.as_fd(), true).map_err(|error| {
                Error::FailedPrecondition(format!(
                    "the ids of the volume {shown} cannot be mapped for the pod's user namespace: {error}; its file system, or one mounted below it, has no idmapped mounts"
                ))
            })?;
        }
        Ok(tree)
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

    fn node_files(&self, container: &ContainerSpec) -> Result<NodeFiles> {
        Ok(NodeFiles {
            seccomp_profile: read_seccomp_profile(&container.security)
                .map_err(|refusal| Error::InvalidArgument(refusal.to_string()))?,
            cdi: cdi::injection(&self.cdi, container)?,
        })
    }

    fn plan(&self, request: &PlanRequest<'_>) -> Result<LaunchPlan> {
        let invalid = |words: String| Error::InvalidArgument(words);
        let devices = resolve_devices(&request.container.devices)
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
            bundle: request.bundle.clone(),
            devices: &devices,
            cdi: &request.node_files.cdi,
            hostname: request.hostname,
            device_ownership: self.device_ownership,
            seccomp_default: self.seccomp_default,
            apparmor: request.apparmor,
            selinux_level: request.selinux_level,
            seccomp_profile: request.node_files.seccomp_profile.as_deref(),
            filters: &self.filters,
            host: facts,
        };
        let mut plan = insula_isolators::plan(request.container, &view).map_err(plan_error)?;
        if let Some(runtime) = request.runtime {
            external::check(&plan, runtime)?;
            plan.runtime = Some(ExternalRuntime {
                program: external::program(runtime)?,
                seccomp: insula_isolators::seccomp::document(request.container, &view)
                    .map_err(|refusal| invalid(refusal.to_string()))?,
            });
        }
        Ok(plan)
    }

    fn plan_resources(&self, want: &Resources) -> Result<CgroupResources> {
        insula_isolators::limits(want, &self.facts).map_err(plan_error)
    }

    fn missing_groups(&self, path: &str) -> Result<Vec<String>> {
        self.groups.missing(path)
    }

    fn make_group(&self, path: &str) -> Result<Arc<dyn Group>> {
        self.groups.make(path)
    }

    fn open_group(&self, path: &str) -> Result<Option<Arc<dyn Group>>> {
        self.groups.open_group(path)
    }

    fn remove_empty_group(&self, path: &str) -> bool {
        self.groups.remove_empty(path)
    }

    fn groups_below(&self, path: &str) -> Result<Vec<String>> {
        self.groups.below(path)
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
            Ok(found.into_iter().map(interface_usage).collect())
        };
        opened.into_iter().map(read).collect()
    }

    fn sample(&self) -> (Usage, Details) {
        self.groups.sample()
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

/// The children of a single-threaded process (proc(5), `/proc/pid/task/tid/children`).
fn children(pid: i32) -> Vec<i32> {
    // One that has ended has none, and its end is noticed elsewhere.
    std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))
        .unwrap_or_default()
        .split_whitespace()
        .filter_map(|child| child.parse().ok())
        .collect()
}

fn plan_error(error: PlanError) -> Error {
    match error {
        PlanError::Refused { .. } => Error::InvalidArgument(error.to_string()),
        PlanError::Conflict(_) => Error::internal("plan the container", error),
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
