//! The room's front door.

use crate::cgroups::Naming;
use crate::config::{CgroupDriver, PodsConfig};
use crate::connect;
use crate::env::Env;
use crate::error::{Error, Result};
use crate::events::{Events, Hub};
use crate::exec::{self, ExecOutput, ExecStreams};
use crate::files::{self, blocking};
use crate::filter::{ContainerFilter, PodFilter};
use crate::host::{Host, LinuxHost, Tree};
use crate::ids::{ContainerId, PodId};
use crate::levels::Levels;
use crate::metrics::Metrics;
use crate::owner::{Ask, Given, Owner, Want};
use crate::paths::Paths;
use crate::ports::{ImageStore, PodNetwork};
use crate::reconcile;
use crate::records::{self, Found, Progress, Records};
use crate::registry::{Claimed, Handle, Making, Registry, View};
use crate::sandbox::{make, resources};
use crate::session::{self, AttachStreams, Session};
use crate::stats::{self, ContainerStats, Measured, PodMetrics, PodStats};
use crate::status::{
    Condition, ContainerState, ContainerStatus, PodState, PodStatus, RuntimeStatus,
};
use insula_isolators::isolator::HostFacts;
use insula_isolators::spec::{ContainerSpec, PodSpec, Resources};
use insula_wire::{LaunchPlan, OsText};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// All pods of this node. A clone is a handle on the same pods.
///
/// An operation goes on when the future that started it is dropped: the same
/// request made again joins it. Where an id is taken, the beginning of one
/// serves as long as it is unambiguous.
#[derive(Debug, Clone)]
pub struct Pods {
    env: Arc<Env>,
}

// === impl Pods ===

#[expect(
    clippy::unused_async,
    reason = "which calls wait for something is not its callers' business"
)]
impl Pods {
    /// Reads all records, starts to take over the pods that they name, and
    /// gives back the pods as they were last seen. Never fails because of a
    /// record. Needs a tokio runtime that lives as long as the pods are served.
    pub async fn open(
        config: PodsConfig,
        images: impl ImageStore,
        network: impl PodNetwork,
        host: HostFacts,
    ) -> Result<Self> {
        let config = PodsConfig {
            cgroup_driver: config.cgroup_driver.decide(&host.cgroup),
            ..config
        };
        let groups = Tree::open(&config, &host.cgroup).await?;
        let host = LinuxHost::new(&config, host, groups)?;
        Self::open_on(config, Arc::new(images), Arc::new(network), Arc::new(host)).await
    }

    /// The same on any machine.
    pub(crate) async fn open_on(
        config: PodsConfig,
        images: Arc<dyn ImageStore>,
        network: Arc<dyn PodNetwork>,
        host: Arc<dyn Host>,
    ) -> Result<Self> {
        let paths = Paths::new(&config.state, &config.root);
        let metrics = Metrics::new()?;
        let env = Arc::new(Env {
            naming: Naming::new(config.cgroup_driver, &config.cgroup_parent)?,
            records: Records::new(paths.clone(), &records::boot_id()?),
            registry: Registry::default(),
            levels: Levels::default(),
            events: Hub::new(metrics.clone()),
            metrics,
            paths,
            config,
            host,
            images,
            network,
        });
        let reading = Arc::clone(&env);
        let deadline = env.config.deadlines.service;
        let mut found = blocking("read the records", deadline, move || {
            for directory in [
                reading.paths.pods(),
                reading.paths.network_namespaces(),
                reading.paths.volumes(),
            ] {
                files::make_directory(&directory)?;
            }
            reading.records.read_all()
        })
        .await?;
        env.metrics.moved_aside(found.set_aside.len() as u64);
        let mut unfinished = Vec::new();
        found.pods.retain(|(pod, _)| {
            let made = pod.progress != Progress::Making;
            if !made {
                unfinished.push(pod.clone());
            }
            made
        });
        match reconcile::find(&env, &found, unfinished).await {
            Ok(leftovers) => {
                Self::start_owners(&env, found).await?;
                tokio::spawn(leftovers.remove(Arc::clone(&env)));
            }
            Err(error) => {
                tracing::error!(%error, "cannot look for leftovers; they stay");
                Self::start_owners(&env, found).await?;
            }
        }
        Ok(Self { env })
    }

    async fn start_owners(env: &Arc<Env>, found: Found) -> Result<()> {
        let host = Arc::clone(&env.host);
        let deadline = env.config.deadlines.service;
        let mut pods = blocking("open the cgroups of containers", deadline, move || {
            let open = |pods: Vec<(records::PodRecord, Vec<records::ContainerRecord>)>| {
                pods.into_iter().map(|(pod, containers)| {
                    let containers: Vec<_> = containers
                        .into_iter()
                        .map(|container| {
                            let group = host.open_group(&container.plan.cgroup.path).unwrap_or_else(|error| {
                                tracing::error!(container = %container.id, %error, "cannot open the container's cgroup");
                                None
                            });
                            (container, group)
                        })
                        .collect();
                    (pod, containers)
                }).collect::<Vec<_>>()
            };
            Ok(open(found.pods))
        })
        .await?;
        // The youngest comes last and keeps a name that two records claim.
        pods.sort_by_key(|(pod, _)| pod.created_at);
        for (pod, containers) in pods {
            Owner::start_recorded(env, pod, containers);
        }
        Ok(())
    }

    /// Makes a pod and gives back its id. The same request again joins the one
    /// in flight, or gives back the id of the pod that it made.
    pub async fn run_sandbox(&self, spec: PodSpec) -> Result<PodId> {
        let spec = Arc::new(spec);
        match self.env.registry.claim(&spec)? {
            Claimed::Exists(id) => Ok(id),
            Claimed::Join(making) => outcome(making).await,
            Claimed::New(id, sender, making) => {
                let env = Arc::clone(&self.env);
                tokio::spawn(async move {
                    let claim = Release {
                        env: Arc::clone(&env),
                        id: id.clone(),
                        armed: true,
                    };
                    let begun = Instant::now();
                    let made = make::make(&env, id, spec).await;
                    let took = begun.elapsed();
                    env.metrics.operation("run_sandbox", made.is_ok(), took);
                    let ms = took.as_secs_f64() * 1e3;
                    let result = match made {
                        Ok(made) => {
                            let id = made.pod.id.clone();
                            tracing::info!(pod = %id, ms, "pod is ready");
                            claim.keep();
                            Owner::start_new(made);
                            Ok(id)
                        }
                        Err(error) => {
                            tracing::warn!(pod = %claim.id, ms, %error, "pod failed");
                            drop(claim);
                            Err(error)
                        }
                    };
                    sender.send_replace(Some(result));
                });
                outcome(making).await
            }
        }
    }

    /// Ends all containers of a pod and detaches it from the network.
    /// Idempotent.
    pub async fn stop_sandbox(&self, id: &str) -> Result<()> {
        let (_, handle) = self.env.registry.pod(id)?;
        self.ask(&handle, Want::StopPod).await.map(drop)
    }

    /// Stops a pod and removes all that belongs to it.
    pub async fn remove_sandbox(&self, id: &str) -> Result<()> {
        let (_, handle) = self.env.registry.pod(id)?;
        self.ask(&handle, Want::RemovePod).await.map(drop)
    }

    /// A pod as it is now. Never waits for it.
    pub async fn sandbox_status(&self, id: &str) -> Result<Arc<PodStatus>> {
        let (_, handle) = self.env.registry.pod(id)?;
        let status = Arc::clone(&handle.snapshot.borrow().pod);
        Ok(status)
    }

    /// A pod and its containers at one moment. Never waits for it.
    pub async fn whole_sandbox(
        &self,
        id: &str,
    ) -> Result<(Arc<PodStatus>, Vec<Arc<ContainerStatus>>)> {
        let (_, handle) = self.env.registry.pod(id)?;
        let snapshot = Arc::clone(&handle.snapshot.borrow());
        let containers = snapshot.containers.iter();
        Ok((
            Arc::clone(&snapshot.pod),
            containers.map(|view| Arc::clone(&view.status)).collect(),
        ))
    }

    /// Listens to what happens to pods and containers from now on.
    pub fn events(&self) -> Result<Events> {
        self.env.events.listen()
    }

    /// Ends the streams of all who listen, because the daemon stops.
    pub fn stop_events(&self) {
        self.env.events.stop();
    }

    /// Pods, oldest first. Never waits for one.
    pub async fn list_sandboxes(&self, filter: &PodFilter) -> Result<Vec<Arc<PodStatus>>> {
        let pods = self.env.registry.snapshots();
        Ok(pods
            .iter()
            .map(|snapshot| &snapshot.pod)
            .filter(|pod| filter.matches(pod))
            .map(Arc::clone)
            .collect())
    }

    /// Makes a container in a ready pod. The same request again joins the one
    /// in flight, or gives back the id of the container that it made.
    pub async fn create_container(&self, pod: &str, spec: ContainerSpec) -> Result<ContainerId> {
        let (_, handle) = self.env.registry.pod(pod)?;
        if spec.name.is_empty() {
            return Err(Error::InvalidArgument(
                "the container has no name in its metadata".to_owned(),
            ));
        }
        let want = Want::Create(ContainerId::random()?, Arc::new(spec));
        match self.ask(&handle, want).await? {
            Given::Container(id) => Ok(id),
            _ => Err(Error::internal("create a container", "no id was given")),
        }
    }

    /// Lets a created container run.
    pub async fn start_container(&self, id: &str) -> Result<()> {
        let (id, handle) = self.env.registry.container(id)?;
        self.ask(&handle, Want::Start(id)).await.map(drop)
    }

    /// Asks a container to end and kills it after `timeout`. Comes back when it
    /// has ended. Idempotent; a shorter timeout shortens a stop in flight.
    pub async fn stop_container(&self, id: &str, timeout: Duration) -> Result<()> {
        let (id, handle) = self.env.registry.container(id)?;
        self.ask(&handle, Want::Stop(id, timeout)).await.map(drop)
    }

    /// Removes a container, by force if it runs.
    pub async fn remove_container(&self, id: &str) -> Result<()> {
        let (id, handle) = self.env.registry.container(id)?;
        self.ask(&handle, Want::Remove(id)).await.map(drop)
    }

    /// A container as it is now. Never waits for its pod.
    pub async fn container_status(&self, id: &str) -> Result<Arc<ContainerStatus>> {
        Ok(self.view(id)?.1.status)
    }

    /// Containers, oldest first. Never waits for one.
    pub async fn list_containers(
        &self,
        filter: &ContainerFilter,
    ) -> Result<Vec<Arc<ContainerStatus>>> {
        Ok(self
            .views(filter)
            .into_iter()
            .map(|view| view.status)
            .collect())
    }

    /// Changes the limits of a container that is created or runs; 0 and empty
    /// leave a value as it is.
    pub async fn update_container(&self, id: &str, want: Resources) -> Result<()> {
        let (id, handle) = self.env.registry.container(id)?;
        self.ask(&handle, Want::Update(id, Box::new(want)))
            .await
            .map(drop)
    }

    /// Makes a running container's log anew at its path.
    pub async fn reopen_log(&self, id: &str) -> Result<()> {
        let (container, link) = self.running(id).await?;
        let stage = format!("reopen the log of container {}", container.id);
        let request = insula_wire::message::Request::ReopenLog {
            container_id: container.id.to_string(),
        };
        let deadline = self.env.config.deadlines.supervisor;
        link.ask(&stage, request, &[], deadline).await.map(drop)
    }

    /// Runs a command in a running container. `None` is no deadline. Output
    /// over [`exec::OUTPUT_LIMIT`] bytes of a stream is dropped. At the
    /// deadline the command is killed with all that it started, and the error
    /// is [`Error::DeadlineExceeded`].
    pub async fn exec_sync(
        &self,
        id: &str,
        command: Vec<OsText>,
        timeout: Option<Duration>,
    ) -> Result<ExecOutput> {
        let (container, link) = self.running(id).await?;
        let begun = Instant::now();
        let result = exec::run(&self.env, &container, &link, command, timeout).await;
        self.env
            .metrics
            .operation("exec_sync", result.is_ok(), begun.elapsed());
        result
    }

    /// Refuses a container that no command can be run in now. Never waits.
    pub async fn check_exec(&self, id: &str) -> Result<()> {
        self.check_running(id).map(drop)
    }

    /// Starts a command in a running container and connects to it. When the
    /// future is dropped, the command is killed; when the [`Session`] is, it
    /// goes on.
    pub async fn exec(&self, id: &str, streams: ExecStreams) -> Result<Session> {
        let (container, link) = self.running(id).await?;
        let begun = Instant::now();
        let result = session::exec(&self.env, &container, &link, streams).await;
        self.env
            .metrics
            .operation("exec", result.is_ok(), begun.elapsed());
        result
    }

    /// Refuses a container that nobody can be attached to now; says whether its
    /// streams are a terminal. Never waits.
    pub async fn check_attach(&self, id: &str) -> Result<bool> {
        let view = self.check_running(id)?;
        Ok(view.container.plan.stdio.terminal)
    }

    /// Connects to the streams of a running container, from what it writes next
    /// on. Several may be attached at once.
    pub async fn attach(&self, id: &str, streams: AttachStreams) -> Result<Session> {
        let (container, link) = self.running(id).await?;
        let begun = Instant::now();
        let result = session::attach(&self.env, &container, &link, streams).await;
        self.env
            .metrics
            .operation("attach", result.is_ok(), begun.elapsed());
        result
    }

    /// Refuses a pod whose ports cannot be forwarded now. Never waits.
    pub async fn check_port_forward(&self, id: &str) -> Result<()> {
        let (_, handle) = self.env.registry.pod(id)?;
        let snapshot = Arc::clone(&handle.snapshot.borrow());
        connect::check(&snapshot)
    }

    /// Comes back when ports of a pod can be forwarded no more.
    pub async fn port_forward_ended(&self, id: &str) {
        // An id that is not known has ended.
        if let Ok((_, handle)) = self.env.registry.pod(id) {
            let mut snapshot = handle.snapshot.clone();
            // An error is the end of the pod's owner, and so of the pod.
            let _ = snapshot
                .wait_for(|snapshot| connect::check(snapshot).is_err())
                .await;
        }
    }

    /// Connects to a TCP port of a pod's loopback, of the host's for a pod on
    /// the host's network. The socket is non-blocking.
    pub async fn connect(&self, id: &str, port: u16) -> Result<std::net::TcpStream> {
        let (_, handle) = self.env.registry.pod(id)?;
        let snapshot = Arc::clone(&handle.snapshot.borrow());
        connect::connect(&self.env, &snapshot, port).await
    }

    /// What a container uses.
    pub async fn container_stats(&self, id: &str) -> Result<ContainerStats> {
        let (_, view) = self.view(id)?;
        stats::container(&self.env, &view).await
    }

    /// What containers use.
    pub async fn list_container_stats(
        &self,
        filter: &ContainerFilter,
    ) -> Result<Vec<ContainerStats>> {
        stats::containers(&self.env, &self.views(filter)).await
    }

    /// What a pod uses.
    pub async fn sandbox_stats(&self, id: &str) -> Result<PodStats> {
        let (_, handle) = self.env.registry.pod(id)?;
        let snapshot = Arc::clone(&handle.snapshot.borrow());
        stats::pod(&self.env, &snapshot).await
    }

    /// What pods use.
    pub async fn list_sandbox_stats(&self, filter: &PodFilter) -> Result<Vec<PodStats>> {
        let mut pods = self.env.registry.snapshots();
        pods.retain(|snapshot| filter.matches(&snapshot.pod));
        stats::pods(&self.env, &pods).await
    }

    /// All that can be measured of ready pods and their running containers.
    pub async fn measure_all(&self) -> Result<Vec<PodMetrics>> {
        stats::metrics_of(&self.env, &self.env.registry.snapshots()).await
    }

    /// What this host can measure: as of a container, seen at a cgroup of ours.
    pub async fn measurable(&self) -> Result<Measured> {
        stats::sample(&self.env).await
    }

    /// Records what kubelet gave a pod, whose cgroup is kubelet's own. A pod
    /// that has one here, since it named no parent, is given the limits.
    pub async fn update_sandbox_resources(
        &self,
        id: &str,
        overhead: Option<Resources>,
        resources: Option<Resources>,
    ) -> Result<()> {
        let (_, handle) = self.env.registry.pod(id)?;
        let snapshot = Arc::clone(&handle.snapshot.borrow());
        let deadline = self.env.config.deadlines.supervisor;
        if snapshot.pod.state == PodState::Ready {
            resources::update_group(
                &self.env.host,
                &snapshot,
                resources.as_ref(),
                overhead.as_ref(),
                deadline,
            )
            .await?;
        }
        let want = Want::Record {
            overhead: overhead.map(Box::new),
            resources: resources.map(Box::new),
        };
        self.ask(&handle, want).await.map(drop)
    }

    /// Whether pods can be made and attached.
    pub async fn status(&self) -> RuntimeStatus {
        let program = &self.env.config.state;
        let runtime = if program.is_dir() {
            Condition::holds()
        } else {
            Condition::fails(
                "StateDirectoryMissing",
                format!(
                    "the state directory {} is gone: restart the daemon",
                    program.display()
                ),
            )
        };
        RuntimeStatus {
            runtime,
            network: self.env.network.condition().await,
        }
    }

    /// Who makes cgroups: never [`CgroupDriver::Auto`]. Kubelet has to use the
    /// same.
    pub fn cgroup_driver(&self) -> CgroupDriver {
        self.env.config.cgroup_driver
    }

    /// The launch plan that a container was made from.
    pub async fn plan(&self, id: &str) -> Result<LaunchPlan> {
        Ok(self.view(id)?.1.container.plan.as_ref().clone())
    }

    /// The node's pod address ranges, comma separated.
    pub async fn set_pod_cidr(&self, cidr: &str) -> Result<()> {
        self.env.network.set_pod_cidr(cidr).await
    }

    /// This room's metrics.
    pub fn metrics(&self) -> Metrics {
        self.env.metrics.clone()
    }

    /// Hands a request to a pod's owner and waits for the answer.
    async fn ask(&self, handle: &Handle, want: Want) -> Result<Given> {
        let gone = || Error::FailedPrecondition("the pod was removed meanwhile".to_owned());
        let (reply, answer) = oneshot::channel();
        let since = Instant::now();
        let ask = Ask {
            want,
            reply,
            since,
            deadline: since + self.env.config.deadlines.service,
        };
        handle.asks.send(ask).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }

    async fn running(
        &self,
        id: &str,
    ) -> Result<(Arc<crate::container::Container>, Arc<crate::link::Link>)> {
        let (id, handle) = self.env.registry.container(id)?;
        match self.ask(&handle, Want::Use(id)).await? {
            Given::Use(container, link) => Ok((container, link)),
            _ => Err(Error::internal("use a container", "it was not given")),
        }
    }

    fn check_running(&self, id: &str) -> Result<View> {
        let (_, view) = self.view(id)?;
        match view.status.state {
            ContainerState::Running => Ok(view),
            state => Err(Error::FailedPrecondition(format!(
                "container {} cannot be used: it is {}",
                view.status.id,
                state.as_str()
            ))),
        }
    }

    fn view(&self, id: &str) -> Result<(Handle, View)> {
        let (id, handle) = self.env.registry.container(id)?;
        let view = handle.snapshot.borrow().container(&id).cloned();
        view.map(|view| (handle, view))
            .ok_or_else(|| Error::no_container(id))
    }

    fn views(&self, filter: &ContainerFilter) -> Vec<View> {
        let mut views: Vec<View> = self
            .env
            .registry
            .snapshots()
            .iter()
            .flat_map(|snapshot| &snapshot.containers)
            .filter(|view| filter.matches(&view.status))
            .cloned()
            .collect();
        views.sort_by_key(|view| view.status.created_at);
        views
    }
}

/// Frees a pod's name unless the pod was made.
struct Release {
    env: Arc<Env>,
    id: PodId,
    armed: bool,
}

impl Release {
    fn keep(mut self) {
        self.armed = false;
    }
}

impl Drop for Release {
    fn drop(&mut self) {
        if self.armed {
            self.env.registry.release(&self.id);
        }
    }
}

/// How a pod's making ended.
async fn outcome(mut making: Making) -> Result<PodId> {
    let result = making
        .wait_for(Option::is_some)
        .await
        .map(|result| result.clone());
    match result {
        Ok(Some(result)) => result,
        _ => Err(Error::internal("make a pod", "the operation broke off")),
    }
}
