//! Containers.

use super::sandbox::absent_is_done;
use crate::convert::{self, Rejected, id, required, resources, status as show};
use crate::errors::Error;
use crate::service::Service;
use insula_cri_api::v1::{
    ContainerFilter as Filter, ContainerState as State, ContainerStatusRequest,
    ContainerStatusResponse, CreateContainerRequest, CreateContainerResponse,
    ListContainersRequest, ListContainersResponse, RemoveContainerRequest, RemoveContainerResponse,
    ReopenContainerLogRequest, ReopenContainerLogResponse, StartContainerRequest,
    StartContainerResponse, StopContainerRequest, StopContainerResponse,
    UpdateContainerResourcesRequest, UpdateContainerResourcesResponse,
};
use insula_oci::Surroundings;
use insula_pods::{ContainerFilter, ContainerState, ContainerStatus, PodStatus};
use serde_json::json;
use std::collections::BTreeMap;
use std::time::Duration;

const CONTAINER_ID: &str = "container_id";

pub(super) async fn create(
    service: &Service,
    asked: CreateContainerRequest,
) -> Result<CreateContainerResponse, Error> {
    let pod = id(asked.pod_sandbox_id, "pod_sandbox_id")?;
    // The pod's own record is what counts; one that is sent must be whole.
    if let Some(pod_config) = asked.sandbox_config {
        required(pod_config.metadata, "sandbox_config.metadata")?;
    }
    let config = required(asked.config, "config")?;
    let spec = convert::container::from_cri(config).map_err(|error| error.within("config"))?;
    // Large, since the whole of a container's making is in it.
    let container = Box::pin(service.pods().create_container(&pod, spec)).await?;
    Ok(CreateContainerResponse {
        container_id: container.into(),
    })
}

pub(super) async fn start(
    service: &Service,
    asked: StartContainerRequest,
) -> Result<StartContainerResponse, Error> {
    let container = id(asked.container_id, CONTAINER_ID)?;
    service.pods().start_container(&container).await?;
    Ok(StartContainerResponse {})
}

pub(super) async fn stop(
    service: &Service,
    asked: StopContainerRequest,
) -> Result<StopContainerResponse, Error> {
    let container = id(asked.container_id, CONTAINER_ID)?;
    let timeout = seconds(asked.timeout)?;
    absent_is_done(service.pods().stop_container(&container, timeout).await)?;
    Ok(StopContainerResponse {})
}

pub(super) async fn remove(
    service: &Service,
    asked: RemoveContainerRequest,
) -> Result<RemoveContainerResponse, Error> {
    let container = id(asked.container_id, CONTAINER_ID)?;
    absent_is_done(service.pods().remove_container(&container).await)?;
    Ok(RemoveContainerResponse {})
}

pub(super) async fn list(
    service: &Service,
    asked: ListContainersRequest,
) -> Result<ListContainersResponse, Error> {
    let filter = asked.filter.map(filter).transpose()?.unwrap_or_default();
    let containers = service.pods().list_containers(&filter).await?;
    Ok(ListContainersResponse {
        containers: containers
            .iter()
            .map(|container| show::container_in_list(container))
            .collect(),
    })
}

pub(super) async fn status(
    service: &Service,
    asked: ContainerStatusRequest,
) -> Result<ContainerStatusResponse, Error> {
    let container = id(asked.container_id, CONTAINER_ID)?;
    let container = service.pods().container_status(&container).await?;
    Ok(ContainerStatusResponse {
        status: Some(show::container_status(&container)),
        info: if asked.verbose {
            info(service, &container).await?
        } else {
            BTreeMap::new()
        },
    })
}

/// Without `linux` there is nothing that applies here.
pub(super) async fn update_resources(
    service: &Service,
    asked: UpdateContainerResourcesRequest,
) -> Result<UpdateContainerResourcesResponse, Error> {
    let container = id(asked.container_id, CONTAINER_ID)?;
    if let Some(linux) = asked.linux {
        let want = resources::from_cri(linux).map_err(|rejected| rejected.within("linux"))?;
        service.pods().update_container(&container, want).await?;
    } else {
        service.pods().container_status(&container).await?;
    }
    Ok(UpdateContainerResourcesResponse {})
}

pub(super) async fn reopen_log(
    service: &Service,
    asked: ReopenContainerLogRequest,
) -> Result<ReopenContainerLogResponse, Error> {
    let container = id(asked.container_id, CONTAINER_ID)?;
    service.pods().reopen_log(&container).await?;
    Ok(ReopenContainerLogResponse {})
}

/// A number of seconds that is waited for.
pub(super) fn seconds(value: i64) -> Result<Duration, Rejected> {
    u64::try_from(value)
        .map(Duration::from_secs)
        .map_err(|_| Rejected::invalid("timeout", format!("{value} is negative")))
}

fn filter(message: Filter) -> Result<ContainerFilter, Rejected> {
    let state = message
        .state
        .map(|value| match State::try_from(value.state) {
            Ok(State::ContainerCreated) => Ok(ContainerState::Created),
            Ok(State::ContainerRunning) => Ok(ContainerState::Running),
            Ok(State::ContainerExited) => Ok(ContainerState::Exited),
            Ok(State::ContainerUnknown) => Ok(ContainerState::Unknown),
            Err(_) => Err(Rejected::invalid(
                "filter.state",
                format!("{} is not a value of enum ContainerState", value.state),
            )),
        })
        .transpose()?;
    Ok(ContainerFilter {
        id: Some(message.id).filter(|id| !id.is_empty()),
        pod_id: Some(message.pod_sandbox_id).filter(|id| !id.is_empty()),
        state,
        labels: message.label_selector,
    })
}

/// What a person wants to know of a container: under `info` in the shape that
/// other tools read, and the parts by name. A plan that cannot be read is told
/// as such; the rest is shown.
async fn info(
    service: &Service,
    container: &ContainerStatus,
) -> Result<BTreeMap<String, String>, Error> {
    let spec = serde_json::to_value(&*container.spec)
        .map_err(|error| Error::Internal(format!("the container's specification: {error}")))?;
    let (plan, runtime_spec) = match service.pods().plan(container.id.as_str()).await {
        Ok(plan) => {
            let pod = service
                .pods()
                .sandbox_status(container.pod_id.as_str())
                .await?;
            let shown = insula_oci::render(&plan, &surroundings(&pod, container));
            let unshown = |error| Error::Internal(format!("the container's plan: {error}"));
            (
                serde_json::to_value(&plan).map_err(unshown)?,
                serde_json::to_value(&shown).map_err(unshown)?,
            )
        }
        Err(error) => {
            let why = json!({ "error": error.to_string() });
            (why.clone(), why)
        }
    };
    let info = json!({
        "pid": container.pid,
        "sandboxID": container.pod_id,
        "runtimeSpec": runtime_spec,
    });
    let mut map = BTreeMap::from([
        ("info".to_owned(), info.to_string()),
        ("plan".to_owned(), plan.to_string()),
        ("spec".to_owned(), spec.to_string()),
    ]);
    if let Some(pid) = container.pid {
        map.insert("pid".to_owned(), pid.to_string());
    }
    Ok(map)
}

/// What an OCI runtime specification says beside the plan. Other tools know a
/// container's pod by these annotations, which the names of the CRI's own
/// implementation in containerd are.
fn surroundings(pod: &PodStatus, container: &ContainerStatus) -> Surroundings {
    let metadata = &pod.spec.metadata;
    let known = [
        ("container-type", "container"),
        ("container-name", container.spec.name.as_str()),
        ("image-name", container.image_name.as_str()),
        ("sandbox-id", pod.id.as_str()),
        ("sandbox-name", metadata.name.as_str()),
        ("sandbox-namespace", metadata.namespace.as_str()),
        ("sandbox-uid", metadata.uid.as_str()),
    ];
    let mut annotations = container.spec.annotations.clone();
    annotations
        .extend(known.map(|(name, value)| (format!("io.kubernetes.cri.{name}"), value.to_owned())));
    let network = pod.network_namespace.as_ref();
    Surroundings {
        root_path: "rootfs".to_owned(),
        hostname: pod.spec.hostname.clone(),
        id_mappings: pod.spec.namespaces.user,
        network_namespace: network.map(|path| path.display().to_string()),
        process: container.pid,
        sysctls: pod.spec.sysctls.clone(),
        annotations,
    }
}
