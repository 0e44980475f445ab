//! What pods and containers use.

use crate::convert::{id, metrics, stats as show};
use crate::errors::Error;
use crate::service::Service;
use insula_cri_api::v1::{
    ContainerStatsFilter, ContainerStatsRequest, ContainerStatsResponse, ListContainerStatsRequest,
    ListContainerStatsResponse, ListMetricDescriptorsResponse, ListPodSandboxMetricsResponse,
    ListPodSandboxStatsRequest, ListPodSandboxStatsResponse, PodSandboxStatsFilter,
    PodSandboxStatsRequest, PodSandboxStatsResponse,
};
use insula_pods::{ContainerFilter, PodFilter};

pub(super) async fn container(
    service: &Service,
    asked: ContainerStatsRequest,
) -> Result<ContainerStatsResponse, Error> {
    let container = id(asked.container_id, "container_id")?;
    let stats = service.pods().container_stats(&container).await?;
    Ok(ContainerStatsResponse {
        stats: Some(show::container(&stats)),
    })
}

pub(super) async fn list_containers(
    service: &Service,
    asked: ListContainerStatsRequest,
) -> Result<ListContainerStatsResponse, Error> {
    let ContainerStatsFilter {
        id,
        pod_sandbox_id,
        label_selector,
    } = asked.filter.unwrap_or_default();
    let filter = ContainerFilter {
        id: Some(id).filter(|id| !id.is_empty()),
        pod_id: Some(pod_sandbox_id).filter(|id| !id.is_empty()),
        state: None,
        labels: label_selector,
    };
    let stats = service.pods().list_container_stats(&filter).await?;
    Ok(ListContainerStatsResponse {
        stats: stats.iter().map(show::container).collect(),
    })
}

pub(super) async fn pod(
    service: &Service,
    asked: PodSandboxStatsRequest,
) -> Result<PodSandboxStatsResponse, Error> {
    let pod = id(asked.pod_sandbox_id, "pod_sandbox_id")?;
    let stats = service.pods().sandbox_stats(&pod).await?;
    Ok(PodSandboxStatsResponse {
        stats: Some(show::pod(&stats)),
    })
}

pub(super) async fn list_pods(
    service: &Service,
    asked: ListPodSandboxStatsRequest,
) -> Result<ListPodSandboxStatsResponse, Error> {
    let PodSandboxStatsFilter { id, label_selector } = asked.filter.unwrap_or_default();
    let filter = PodFilter {
        id: Some(id).filter(|id| !id.is_empty()),
        state: None,
        labels: label_selector,
    };
    let stats = service.pods().list_sandbox_stats(&filter).await?;
    Ok(ListPodSandboxStatsResponse {
        stats: stats.iter().map(show::pod).collect(),
    })
}

/// What this host has values for.
pub(super) async fn descriptors(service: &Service) -> Result<ListMetricDescriptorsResponse, Error> {
    let measurable = service.pods().measurable().await?;
    Ok(ListMetricDescriptorsResponse {
        descriptors: metrics::descriptors(&measurable),
    })
}

/// Of ready pods and their running containers.
pub(super) async fn metrics_of_pods(
    service: &Service,
) -> Result<ListPodSandboxMetricsResponse, Error> {
    let measured = service.pods().measure_all().await?;
    Ok(ListPodSandboxMetricsResponse {
        pod_metrics: measured.iter().map(metrics::pod).collect(),
    })
}
