//! The fakes, and the bench that holds them.

use super::specs;
use super::supervisor::Supervisor;
use crate::config::PodsConfig;
use crate::error::{Error, Result};
use crate::host::{Group, Host, NodeFiles, PlanRequest, Process};
use crate::ids::{ContainerId, PodId};
use crate::paths::PodDirectory;
use crate::pods::Pods;
use crate::ports::{Attachment, ImageFacts, ImageStore, PodNetwork, PreparedRootfs, UserNamespace};
use crate::stats::{FilesystemUsage, InterfaceUsage};
use crate::status::Condition;
use futures_util::future::{BoxFuture, FutureExt as _};
use insula_isolators::apparmor::Profiles;
use insula_isolators::details::Details;
use insula_isolators::isolator::{ImageView, Usage};
use insula_isolators::selinux::Labels;
use insula_isolators::spec::{ContainerSpec, ImageRequest, PodSpec, Resources};
use insula_wire::plan::CgroupResources;
use insula_wire::{IdMappings, LaunchPlan};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

/// What goes wrong, at each place where something can.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    StartSupervisor,
    Connect,
    MakePod,
    BindNamespace,
    PlaceSupervisor,
    Attach,
    HangAttach,
    Image,
    Rootfs,
    ImageMount,
    Plan,
    MakeGroup,
    ApplyGroup,
    Volume,
    HangVolume,
    Create,
    Place,
    Placed,
    Start,
    Detach,
    HangDetach,
}

/// What there is on the machine.
#[derive(Debug, Default)]
pub(crate) struct World {
    pub(crate) fault: Option<Fault>,
    pub(crate) supervisors: BTreeMap<PathBuf, Arc<Supervisor>>,
    pub(crate) namespaces: BTreeSet<PathBuf>,
    pub(crate) attached: BTreeSet<PodId>,
    pub(crate) rootfs: BTreeSet<ContainerId>,
    pub(crate) groups: BTreeSet<String>,
    pub(crate) killed: Vec<String>,
    pub(crate) selinux: bool,
    pub(crate) relabelled: Vec<(PathBuf, String)>,
    /// The ids of root file systems and volumes for user namespaces.
    pub(crate) mapped: Vec<IdMappings>,
    next_pid: i32,
}

/// The machine, the image store and the network in one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Machine(Arc<Mutex<World>>);

/// A machine with a directory.
#[derive(Debug)]
pub(crate) struct Bench {
    pub(crate) directory: tempfile::TempDir,
    pub(crate) machine: Machine,
}

#[derive(Debug)]
struct FakeGroup {
    machine: Machine,
    path: String,
}

// === impl Bench ===

impl Bench {
    pub(crate) fn new() -> Self {
        Self {
            directory: tempfile::tempdir().unwrap(),
            machine: Machine::default(),
        }
    }

    pub(crate) fn config(&self) -> PodsConfig {
        let at = |name: &str| self.directory.path().join(name);
        let mut config = PodsConfig::new(at("root"), at("state"), at("insula-pod"));
        config.deadlines.kill = Duration::from_secs(2);
        config.deadlines.drain = Duration::from_millis(50);
        config
    }

    /// Starts a daemon on this machine.
    pub(crate) async fn open(&self) -> Pods {
        let machine = Arc::new(self.machine.clone());
        Pods::open_on(self.config(), machine.clone(), machine.clone(), machine)
            .await
            .unwrap()
    }

    pub(crate) fn world(&self) -> MutexGuard<'_, World> {
        self.machine.world()
    }

    pub(crate) fn break_at(&self, fault: Option<Fault>) {
        self.world().fault = fault;
    }

    pub(crate) fn supervisor(&self, pod: &PodId) -> Arc<Supervisor> {
        let directory = self.directory.path().join("state/pods").join(pod.as_str());
        Arc::clone(&self.world().supervisors[&directory])
    }

    /// What is left on the machine, in words; empty is nothing.
    pub(crate) fn leftovers(&self) -> Vec<String> {
        let mut left = Vec::new();
        let world = self.world();
        left.extend(
            world
                .supervisors
                .iter()
                .filter(|(_, s)| s.is_alive())
                .map(|(path, _)| format!("supervisor {path:?}")),
        );
        left.extend(
            world
                .namespaces
                .iter()
                .map(|path| format!("namespace {path:?}")),
        );
        left.extend(world.attached.iter().map(|pod| format!("attachment {pod}")));
        left.extend(world.rootfs.iter().map(|id| format!("rootfs {id}")));
        left.extend(world.groups.iter().map(|path| format!("group {path}")));
        for directory in ["state/pods", "state/netns", "root/volumes"] {
            for entry in std::fs::read_dir(self.directory.path().join(directory))
                .into_iter()
                .flatten()
            {
                left.push(format!("{:?}", entry.unwrap().path()));
            }
        }
        left
    }

    /// Waits until nothing is left.
    pub(crate) async fn settles(&self) {
        for _ in 0..500 {
            if self.leftovers().is_empty() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("left: {:#?}", self.leftovers());
    }
}

// === impl Machine ===

impl Machine {
    pub(crate) fn world(&self) -> MutexGuard<'_, World> {
        self.0.lock().unwrap()
    }

    /// Fails if this is what shall go wrong.
    pub(crate) fn check(&self, fault: Fault) -> Result<()> {
        if self.world().fault == Some(fault) {
            return Err(Error::internal("test", format!("{fault:?}")));
        }
        Ok(())
    }
}

fn null() -> OwnedFd {
    std::fs::File::open("/dev/null").unwrap().into()
}

impl Host for Machine {
    fn start_supervisor(&self, _pod: &PodId, directory: &PodDirectory) -> Result<Process> {
        self.check(Fault::StartSupervisor)?;
        let pid = {
            let mut world = self.world();
            world.next_pid += 1;
            world.next_pid
        };
        let supervisor = Supervisor::start(pid, directory.path(), self.clone());
        let pidfd = supervisor.pidfd();
        self.world()
            .supervisors
            .insert(directory.path().to_owned(), supervisor);
        Ok(Process { pid, pidfd })
    }

    fn supervisor_ended(&self, directory: &PodDirectory) -> Result<bool> {
        let world = self.world();
        Ok(world
            .supervisors
            .get(directory.path())
            .is_none_or(|supervisor| !supervisor.is_alive()))
    }

    fn connect(&self, directory: &PodDirectory) -> Result<OwnedFd> {
        self.check(Fault::Connect)?;
        insula_sys::seqpacket::connect(&directory.path().join("sock"))
            .map_err(|error| Error::internal("connect", error))
    }

    fn open_process(&self, pid: i32) -> Result<OwnedFd> {
        let world = self.world();
        let found = world
            .supervisors
            .values()
            .find(|supervisor| supervisor.pid == pid);
        Ok(found.unwrap().pidfd())
    }

    fn kill_process(&self, pidfd: BorrowedFd<'_>) -> Result<()> {
        let all: Vec<_> = self.world().supervisors.values().cloned().collect();
        for supervisor in all {
            if supervisor.is(pidfd) {
                supervisor.die();
            }
        }
        Ok(())
    }

    fn reap(&self, _pidfd: BorrowedFd<'_>) {}

    fn place_supervisor(&self, _pid: i32) -> Result<()> {
        self.check(Fault::PlaceSupervisor)
    }

    fn bind_network_namespace(&self, _namespace: BorrowedFd<'_>, path: &Path) -> Result<()> {
        self.world().namespaces.insert(path.to_owned());
        self.check(Fault::BindNamespace)
    }

    fn release_network_namespace(&self, path: &Path) -> Result<()> {
        self.world().namespaces.remove(path);
        crate::files::remove_file(path)
    }

    fn clone_tree(&self, _path: &Path, user: Option<&UserNamespace>) -> Result<OwnedFd> {
        self.check(Fault::Volume)?;
        self.world().mapped.extend(user.map(|user| user.ids));
        while self.check(Fault::HangVolume).is_err() {
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(null())
    }

    fn apparmor_profiles(&self) -> Result<Profiles> {
        Ok(Profiles::default())
    }

    fn has_selinux_levels(&self) -> bool {
        self.world().selinux
    }

    fn selinux_labels(
        &self,
        _pod: &PodSpec,
        _container: Option<&ContainerSpec>,
        level: Option<&str>,
    ) -> Result<Labels> {
        Ok(Labels {
            process: None,
            mount: level.map(|level| format!("u:o:file_t:{level}")),
        })
    }

    fn relabel(&self, path: &Path, label: &str, _deadline: Duration) -> Result<()> {
        self.world()
            .relabelled
            .push((path.to_owned(), label.to_owned()));
        Ok(())
    }

    fn node_files(&self, _container: &ContainerSpec) -> Result<NodeFiles> {
        Ok(NodeFiles::default())
    }

    fn plan(&self, request: &PlanRequest<'_>) -> Result<LaunchPlan> {
        self.check(Fault::Plan)?;
        let mut plan = specs::plan(request.container_id);
        plan.cgroup.path = request.cgroup_path.to_owned();
        plan.mount_label = request.selinux_level.map(str::to_owned);
        plan.process.args.clone_from(&request.container.command);
        plan.stdio.stdin = request.container.stdin;
        plan.stdio.stdin_once = request.container.stdin_once;
        plan.mounts = request
            .container
            .mounts
            .iter()
            .map(|mount| insula_wire::plan::Mount {
                target: mount.container_path.clone(),
                source: match &mount.image {
                    Some(image) => insula_wire::plan::MountSource::Image {
                        id: image.id.clone(),
                        sub_path: image.sub_path.clone(),
                    },
                    None => insula_wire::plan::MountSource::Host {
                        path: mount.host_path.clone(),
                    },
                },
                attributes: insula_wire::plan::MountAttributes {
                    id_mapped: mount.ids.is_some(),
                    ..Default::default()
                },
                propagation: mount.propagation,
            })
            .collect();
        Ok(plan)
    }

    fn plan_resources(&self, _want: &Resources) -> Result<CgroupResources> {
        Ok(CgroupResources::default())
    }

    fn missing_groups(&self, path: &str) -> Result<Vec<String>> {
        Ok(vec![path.to_owned()])
    }

    fn make_group(&self, path: &str) -> Result<Arc<dyn Group>> {
        self.check(Fault::MakeGroup)?;
        let mut world = self.world();
        // The group that all pods share is not one of theirs.
        if let Some((parent, _)) = path.rsplit_once('/')
            && parent.contains('/')
        {
            world.groups.insert(parent.to_owned());
        }
        world.groups.insert(path.to_owned());
        Ok(Arc::new(FakeGroup {
            machine: self.clone(),
            path: path.to_owned(),
        }))
    }

    fn open_group(&self, path: &str) -> Result<Option<Arc<dyn Group>>> {
        let exists = self.world().groups.contains(path);
        Ok(exists.then(|| {
            Arc::new(FakeGroup {
                machine: self.clone(),
                path: path.to_owned(),
            }) as Arc<dyn Group>
        }))
    }

    fn remove_empty_group(&self, path: &str) -> bool {
        let mut world = self.world();
        let below = format!("{path}/");
        if world.groups.iter().any(|group| group.starts_with(&below)) {
            return false;
        }
        world.groups.remove(path);
        true
    }

    fn groups_below(&self, path: &str) -> Result<Vec<String>> {
        let below = format!("{path}/");
        let world = self.world();
        Ok(world
            .groups
            .iter()
            .filter_map(|group| group.strip_prefix(&below))
            .filter(|name| !name.contains('/'))
            .map(str::to_owned)
            .collect())
    }

    fn interface_counters(&self, namespaces: &[PathBuf]) -> Vec<Result<Vec<InterfaceUsage>>> {
        namespaces.iter().map(|_| Ok(Vec::new())).collect()
    }

    fn sample(&self) -> (Usage, Details) {
        (Usage::default(), Details::default())
    }

    /// All pods of tests are on the loopback of this machine.
    fn tcp_socket(&self, _namespace: Option<&Path>, ipv6: bool) -> Result<OwnedFd> {
        insula_sys::namespace::tcp_socket(None, ipv6)
            .map_err(|error| Error::FailedPrecondition(error.to_string()))
    }
}

impl Group for FakeGroup {
    fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        Vec::new()
    }

    fn takes_births(&self) -> bool {
        false
    }

    fn place(&self, _pid: i32) -> Result<()> {
        self.machine.check(Fault::Place)
    }

    fn apply(&self, _want: &CgroupResources) -> Result<()> {
        self.machine.check(Fault::ApplyGroup)
    }

    fn update(&self, _want: &CgroupResources) -> Result<()> {
        Ok(())
    }

    fn usage(&self) -> Usage {
        Usage::default()
    }

    fn details(&self) -> Details {
        Details::default()
    }

    fn processes(&self) -> Option<u64> {
        None
    }

    fn is_gone(&self) -> bool {
        false
    }

    fn kill(&self, _deadline: Duration) -> Result<()> {
        self.machine.world().killed.push(self.path.clone());
        Ok(())
    }

    fn is_empty(&self) -> bool {
        true
    }

    fn remove(&self, _deadline: Duration) -> Result<()> {
        let mut world = self.machine.world();
        let below = format!("{}/", self.path);
        world
            .groups
            .retain(|group| *group != self.path && !group.starts_with(&below));
        Ok(())
    }
}

impl ImageStore for Machine {
    fn image<'a>(&'a self, image: &'a ImageRequest) -> BoxFuture<'a, Result<ImageFacts>> {
        async move {
            self.check(Fault::Image)?;
            if image.image != "image" {
                return Err(Error::NotFound {
                    what: "image",
                    id: image.image.clone(),
                });
            }
            Ok(ImageFacts {
                id: "sha256:1".to_owned(),
                reference: "image@sha256:2".to_owned(),
                name: Some("image:latest".to_owned()),
                view: ImageView::default(),
            })
        }
        .boxed()
    }

    fn prepare_rootfs<'a>(
        &'a self,
        container: &'a ContainerId,
        _image: &'a ImageFacts,
        _mount_label: Option<&'a str>,
        user: Option<&'a UserNamespace>,
    ) -> BoxFuture<'a, Result<PreparedRootfs>> {
        async move {
            self.world().rootfs.insert(container.clone());
            self.check(Fault::Rootfs)?;
            self.world().mapped.extend(user.map(|user| user.ids));
            Ok(PreparedRootfs {
                mount: null(),
                passwd: Vec::new(),
                group: Vec::new(),
            })
        }
        .boxed()
    }

    fn mount_image<'a>(
        &'a self,
        container: &'a ContainerId,
        _image: &'a str,
        _index: usize,
        _user: Option<&'a UserNamespace>,
    ) -> BoxFuture<'a, Result<OwnedFd>> {
        assert!(self.world().rootfs.contains(container), "it goes with that");
        async { self.check(Fault::ImageMount).map(|()| null()) }.boxed()
    }

    fn remove_rootfs<'a>(&'a self, container: &'a ContainerId) -> BoxFuture<'a, Result<()>> {
        self.world().rootfs.remove(container);
        async { Ok(()) }.boxed()
    }

    fn rootfs_usage<'a>(
        &'a self,
        _container: &'a ContainerId,
    ) -> BoxFuture<'a, Result<Option<FilesystemUsage>>> {
        async { Ok(None) }.boxed()
    }

    fn rootfs_owners(&self) -> BoxFuture<'_, Result<Vec<ContainerId>>> {
        let all = self.world().rootfs.iter().cloned().collect();
        async { Ok(all) }.boxed()
    }
}

impl PodNetwork for Machine {
    fn attach<'a>(&'a self, pod: &'a Attachment) -> BoxFuture<'a, Result<Vec<IpAddr>>> {
        async move {
            self.world().attached.insert(pod.pod.clone());
            self.check(Fault::Attach)?;
            while self.check(Fault::HangAttach).is_err() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            Ok(vec!["10.0.0.1".parse().unwrap()])
        }
        .boxed()
    }

    fn detach<'a>(&'a self, pod: &'a PodId, _namespace: &'a Path) -> BoxFuture<'a, Result<()>> {
        async move {
            self.check(Fault::Detach)?;
            while self.check(Fault::HangDetach).is_err() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            self.world().attached.remove(pod);
            Ok(())
        }
        .boxed()
    }

    fn sweep<'a>(&'a self, keep: &'a BTreeSet<PodId>) -> BoxFuture<'a, Result<u64>> {
        let mut world = self.world();
        let before = world.attached.len();
        world.attached.retain(|pod| keep.contains(pod));
        let swept = (before - world.attached.len()) as u64;
        async move { Ok(swept) }.boxed()
    }

    fn condition(&self) -> BoxFuture<'_, Condition> {
        async { Condition::holds() }.boxed()
    }

    fn set_pod_cidr<'a>(&'a self, _cidr: &'a str) -> BoxFuture<'a, Result<()>> {
        async { Ok(()) }.boxed()
    }
}

/// Compares descriptors by what they refer to.
pub(super) fn same(one: BorrowedFd<'_>, other: &OwnedFd) -> bool {
    let inode = |fd: BorrowedFd<'_>| rustix::fs::fstat(fd).unwrap().st_ino;
    inode(one) == inode(other.as_fd())
}
