//! The room's front door.

use crate::config::PodsConfig;
use crate::error::{Error, Result};
use crate::exec::ExecOutput;
use crate::filter::{ContainerFilter, PodFilter};
use crate::ids::{ContainerId, PodId};
use crate::metrics::Metrics;
use crate::ports::{ImageStore, PodNetwork};
use crate::stats::{ContainerStats, PodStats};
use crate::status::{ContainerStatus, PodStatus, RuntimeStatus};
use insula_isolators::isolator::HostFacts;
use insula_isolators::spec::{ContainerSpec, PodSpec, Resources};
use insula_wire::{LaunchPlan, OsText};
use std::sync::Arc;
use std::time::Duration;

/// All pods of this node. A clone is a handle on the same pods.
///
/// An operation goes on when the future that started it is dropped: the same
/// request made again joins it. Where an id is taken, the beginning of one
/// serves as long as it is unambiguous.
#[derive(Debug, Clone)]
pub struct Pods {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    metrics: Metrics,
}

// === impl Pods ===

impl Pods {
    /// Reads all records, starts to take over the pods that they name, and
    /// gives back the pods as they were last seen. Never fails because of a
    /// record.
    pub async fn open(
        _config: PodsConfig,
        _images: impl ImageStore,
        _network: impl PodNetwork,
        _host: HostFacts,
    ) -> Result<Self> {
        Err(unwritten())
    }

    /// Makes a pod and gives back its id. The same request again joins the one
    /// in flight, or gives back the id of the pod that it made.
    pub async fn run_sandbox(&self, _spec: PodSpec) -> Result<PodId> {
        Err(unwritten())
    }

    /// Ends all containers of a pod and detaches it from the network.
    /// Idempotent.
    pub async fn stop_sandbox(&self, _id: &str) -> Result<()> {
        Err(unwritten())
    }

    /// Stops a pod and removes all that belongs to it.
    pub async fn remove_sandbox(&self, _id: &str) -> Result<()> {
        Err(unwritten())
    }

    /// A pod and its containers as they are now.
    pub async fn sandbox_status(&self, _id: &str) -> Result<Arc<PodStatus>> {
        Err(unwritten())
    }

    /// Pods, oldest first. Never waits for one.
    pub async fn list_sandboxes(&self, _filter: &PodFilter) -> Result<Vec<Arc<PodStatus>>> {
        Err(unwritten())
    }

    /// Makes a container in a ready pod.
    pub async fn create_container(&self, _pod: &str, _spec: ContainerSpec) -> Result<ContainerId> {
        Err(unwritten())
    }

    /// Lets a created container run.
    pub async fn start_container(&self, _id: &str) -> Result<()> {
        Err(unwritten())
    }

    /// Asks a container to end and kills it after `timeout`. Comes back when it
    /// has ended. Idempotent; a shorter timeout shortens a stop in flight.
    pub async fn stop_container(&self, _id: &str, _timeout: Duration) -> Result<()> {
        Err(unwritten())
    }

    /// Removes a container, by force if it runs.
    pub async fn remove_container(&self, _id: &str) -> Result<()> {
        Err(unwritten())
    }

    /// A container as it is now.
    pub async fn container_status(&self, _id: &str) -> Result<Arc<ContainerStatus>> {
        Err(unwritten())
    }

    /// Containers, oldest first. Never waits for one.
    pub async fn list_containers(
        &self,
        _filter: &ContainerFilter,
    ) -> Result<Vec<Arc<ContainerStatus>>> {
        Err(unwritten())
    }

    /// Changes the limits of a container that is created or runs; 0 and empty
    /// leave a value as it is.
    pub async fn update_container(&self, _id: &str, _want: Resources) -> Result<()> {
        Err(unwritten())
    }

    /// Makes a running container's log anew at its path.
    pub async fn reopen_log(&self, _id: &str) -> Result<()> {
        Err(unwritten())
    }

    /// Runs a command in a running container. `None` is no deadline.
    pub async fn exec_sync(
        &self,
        _id: &str,
        _command: Vec<OsText>,
        _timeout: Option<Duration>,
    ) -> Result<ExecOutput> {
        Err(unwritten())
    }

    /// What a container uses.
    pub async fn container_stats(&self, _id: &str) -> Result<ContainerStats> {
        Err(unwritten())
    }

    /// What containers use; those that end meanwhile are left out.
    pub async fn list_container_stats(
        &self,
        _filter: &ContainerFilter,
    ) -> Result<Vec<ContainerStats>> {
        Err(unwritten())
    }

    /// What a pod uses.
    pub async fn sandbox_stats(&self, _id: &str) -> Result<PodStats> {
        Err(unwritten())
    }

    /// What pods use; those that end meanwhile are left out.
    pub async fn list_sandbox_stats(&self, _filter: &PodFilter) -> Result<Vec<PodStats>> {
        Err(unwritten())
    }

    /// Records what kubelet gave a pod; its cgroup is kubelet's own.
    pub async fn update_sandbox_resources(
        &self,
        _id: &str,
        _overhead: Option<Resources>,
        _resources: Option<Resources>,
    ) -> Result<()> {
        Err(unwritten())
    }

    /// Whether pods can be made and attached.
    pub async fn status(&self) -> RuntimeStatus {
        RuntimeStatus {
            runtime: crate::status::Condition::holds(),
            network: crate::status::Condition::holds(),
        }
    }

    /// The launch plan that a container was made from.
    pub async fn plan(&self, _id: &str) -> Result<LaunchPlan> {
        Err(unwritten())
    }

    /// The node's pod address ranges, comma separated.
    pub async fn set_pod_cidr(&self, _cidr: &str) -> Result<()> {
        Err(unwritten())
    }

    /// This room's metrics.
    pub fn metrics(&self) -> Metrics {
        self.inner.metrics.clone()
    }
}

fn unwritten() -> Error {
    Error::Unimplemented("pods are not served by this build".to_owned())
}
