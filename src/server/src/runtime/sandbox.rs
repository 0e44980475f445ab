//! Pods.

use crate::convert::{self, Rejected, id, required, resources, status as show};
use crate::errors::Error;
use crate::service::Service;
use insula_cri_api::v1::{
    ListPodSandboxRequest, ListPodSandboxResponse, PodSandboxFilter, PodSandboxState,
    PodSandboxStatusRequest, PodSandboxStatusResponse, RemovePodSandboxRequest,
    RemovePodSandboxResponse, RunPodSandboxRequest, RunPodSandboxResponse, StopPodSandboxRequest,
    StopPodSandboxResponse, UpdatePodSandboxResourcesRequest, UpdatePodSandboxResourcesResponse,
};
use insula_pods::{PodFilter, PodState, PodStatus};
use insula_wire::time::now_nanoseconds;
use serde_json::json;
use std::collections::BTreeMap;

const POD_ID: &str = "pod_sandbox_id";

pub(super) async fn run(
    service: &Service,
    asked: RunPodSandboxRequest,
) -> Result<RunPodSandboxResponse, Error> {
    let handler = asked.runtime_handler;
    let handlers = &service.node().handlers;
    if !handlers.iter().any(|known| known.name == handler) {
        let known: Vec<_> = handlers
            .iter()
            .map(|known| format!("{:?}", known.name))
            .collect();
        let handler: String = handler.chars().take(convert::NAME_MAX).collect();
        return Err(Rejected::invalid(
            "runtime_handler",
            format!(
                "{handler:?} is not configured, there are {}",
                known.join(" and ")
            ),
        )
        .into());
    }
    let config = required(asked.config, "config")?;
    let spec = convert::pod::from_cri(config, handler).map_err(|error| error.within("config"))?;
    let pod = service.pods().run_sandbox(spec).await?;
    Ok(RunPodSandboxResponse {
        pod_sandbox_id: pod.into(),
    })
}

pub(super) async fn stop(
    service: &Service,
    asked: StopPodSandboxRequest,
) -> Result<StopPodSandboxResponse, Error> {
    let pod = id(asked.pod_sandbox_id, POD_ID)?;
    absent_is_done(service.pods().stop_sandbox(&pod).await)?;
    Ok(StopPodSandboxResponse {})
}

pub(super) async fn remove(
    service: &Service,
    asked: RemovePodSandboxRequest,
) -> Result<RemovePodSandboxResponse, Error> {
    let pod = id(asked.pod_sandbox_id, POD_ID)?;
    absent_is_done(service.pods().remove_sandbox(&pod).await)?;
    Ok(RemovePodSandboxResponse {})
}

/// `timestamp` is taken before anything is read, so that what a client keeps
/// by it is never newer than it says.
pub(super) async fn status(
    service: &Service,
    asked: PodSandboxStatusRequest,
) -> Result<PodSandboxStatusResponse, Error> {
    let timestamp = now_nanoseconds();
    let pod = id(asked.pod_sandbox_id, POD_ID)?;
    let (pod, containers) = service.pods().whole_sandbox(&pod).await?;
    Ok(PodSandboxStatusResponse {
        status: Some(show::pod_status(&pod)),
        info: if asked.verbose {
            info(&pod)?
        } else {
            BTreeMap::new()
        },
        containers_statuses: show::container_statuses(&containers),
        timestamp,
    })
}

pub(super) async fn list(
    service: &Service,
    asked: ListPodSandboxRequest,
) -> Result<ListPodSandboxResponse, Error> {
    let filter = asked.filter.map(filter).transpose()?.unwrap_or_default();
    let pods = service.pods().list_sandboxes(&filter).await?;
    Ok(ListPodSandboxResponse {
        items: pods.iter().map(|pod| show::pod_in_list(pod)).collect(),
    })
}

pub(super) async fn update_resources(
    service: &Service,
    asked: UpdatePodSandboxResourcesRequest,
) -> Result<UpdatePodSandboxResourcesResponse, Error> {
    let pod = id(asked.pod_sandbox_id, POD_ID)?;
    let limits = |message: Option<_>, field: &str| {
        message
            .map(resources::from_cri)
            .transpose()
            .map_err(|rejected| rejected.within(field))
    };
    let overhead = limits(asked.overhead, "overhead")?;
    let resources = limits(asked.resources, "resources")?;
    service
        .pods()
        .update_sandbox_resources(&pod, overhead, resources)
        .await?;
    Ok(UpdatePodSandboxResourcesResponse {})
}

/// Stop and remove are idempotent: what is not there is done.
pub(super) fn absent_is_done(result: insula_pods::Result<()>) -> Result<(), Error> {
    match result {
        Err(error) if error.is_not_found() => Ok(()),
        other => Ok(other?),
    }
}

fn filter(message: PodSandboxFilter) -> Result<PodFilter, Rejected> {
    let state = message
        .state
        .map(|value| match PodSandboxState::try_from(value.state) {
            Ok(PodSandboxState::SandboxReady) => Ok(PodState::Ready),
            Ok(PodSandboxState::SandboxNotready) => Ok(PodState::NotReady),
            Err(_) => Err(Rejected::invalid(
                "filter.state",
                format!("{} is not a value of enum PodSandboxState", value.state),
            )),
        })
        .transpose()?;
    Ok(PodFilter {
        id: Some(message.id).filter(|id| !id.is_empty()),
        state,
        labels: message.label_selector,
    })
}

/// What a person wants to know of a pod: under `info` in the shape that other
/// tools read, and the parts by name.
fn info(pod: &PodStatus) -> Result<BTreeMap<String, String>, Error> {
    let spec = serde_json::to_value(&*pod.spec)
        .map_err(|error| Error::Internal(format!("the pod's specification: {error}")))?;
    let info = json!({
        "pid": pod.supervisor,
        "networkNamespace": pod.network_namespace,
        "reason": pod.reason,
        "message": pod.message,
    });
    let mut map = BTreeMap::from([
        ("info".to_owned(), info.to_string()),
        ("spec".to_owned(), spec.to_string()),
    ]);
    if let Some(pid) = pod.supervisor {
        map.insert("pid".to_owned(), pid.to_string());
    }
    Ok(map)
}
