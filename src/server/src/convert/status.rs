//! What is known about pods and containers, as lists and statuses show it.

use super::{container, mounts, pod, resources, security, signal};
use insula_cri_api::v1::{
    Container, ContainerResources, ContainerState as State, ContainerStatus as Status,
    ContainerUser, ImageSpec, LinuxContainerUser, LinuxPodSandboxStatus, Namespace, PodIp,
    PodSandbox, PodSandboxNetworkStatus, PodSandboxState, PodSandboxStatus,
};
use insula_pods::{ContainerState, ContainerStatus, PodState, PodStatus};
use insula_wire::plan::User;
use std::cmp::Reverse;
use std::sync::Arc;

/// A pod as lists show it.
pub fn pod_in_list(pod: &PodStatus) -> PodSandbox {
    PodSandbox {
        id: pod.id.to_string(),
        metadata: Some(pod::metadata_to_cri(&pod.spec.metadata)),
        state: pod_state(pod.state) as i32,
        created_at: pod.created_at,
        labels: pod.spec.labels.clone(),
        annotations: pod.spec.annotations.clone(),
        runtime_handler: pod.spec.runtime_handler.clone(),
    }
}

/// A pod's own status. kubelet makes the pod anew when the network mode is not
/// the one it asked for, or when a pod with a network of its own has no address.
pub fn pod_status(pod: &PodStatus) -> PodSandboxStatus {
    let mut ips = pod.ips.iter().map(ToString::to_string);
    PodSandboxStatus {
        id: pod.id.to_string(),
        metadata: Some(pod::metadata_to_cri(&pod.spec.metadata)),
        state: pod_state(pod.state) as i32,
        created_at: pod.created_at,
        network: Some(PodSandboxNetworkStatus {
            ip: ips.next().unwrap_or_default(),
            additional_ips: ips.map(|ip| PodIp { ip }).collect(),
        }),
        linux: Some(LinuxPodSandboxStatus {
            namespaces: Some(Namespace {
                options: Some(security::namespaces_to_cri(&pod.spec.namespaces)),
            }),
        }),
        labels: pod.spec.labels.clone(),
        annotations: pod.spec.annotations.clone(),
        runtime_handler: pod.spec.runtime_handler.clone(),
    }
}

/// A container as lists show it: the image as the client named it.
pub fn container_in_list(container: &ContainerStatus) -> Container {
    Container {
        id: container.id.to_string(),
        pod_sandbox_id: container.pod_id.to_string(),
        metadata: Some(container::metadata_to_cri(&container.spec)),
        image: Some(container::image_to_cri(&container.spec.image)),
        image_ref: container.image_ref.clone(),
        state: container_state(container.state) as i32,
        created_at: container.created_at,
        labels: container.spec.labels.clone(),
        annotations: container.spec.annotations.clone(),
        image_id: container.image_id.clone(),
    }
}

/// A container's own status: the image by a name of its own, and only the
/// mounts that the client asked for.
pub fn container_status(container: &ContainerStatus) -> Status {
    let spec = &container.spec;
    Status {
        id: container.id.to_string(),
        metadata: Some(container::metadata_to_cri(spec)),
        state: container_state(container.state) as i32,
        created_at: container.created_at,
        started_at: container.started_at,
        finished_at: container.finished_at,
        exit_code: container.exit_code,
        image: Some(ImageSpec {
            image: container.image_name.clone(),
            ..container::image_to_cri(&spec.image)
        }),
        image_ref: container.image_ref.clone(),
        reason: container
            .reason
            .map(|reason| reason.as_str().to_owned())
            .unwrap_or_default(),
        message: container.message.clone(),
        labels: spec.labels.clone(),
        annotations: spec.annotations.clone(),
        mounts: spec.mounts.iter().map(mounts::to_cri).collect(),
        log_path: container
            .log_path
            .as_ref()
            .map(|path| path.to_string_lossy().into_owned())
            .unwrap_or_default(),
        resources: Some(ContainerResources {
            linux: Some(resources::to_cri(&container.resources)),
            windows: None,
        }),
        image_id: container.image_id.clone(),
        user: Some(ContainerUser {
            linux: Some(user(&container.user)),
        }),
        stop_signal: signal::value(container.stop_signal) as i32,
    }
}

/// A pod's containers as its status and its events show them: the newest first.
/// kubelet with EventedPLEG takes them in the order that they come in, and the
/// first of a name for the current one (`GetPodStatus` of its `kuberuntime`).
pub fn container_statuses(containers: &[Arc<ContainerStatus>]) -> Vec<Status> {
    let mut containers: Vec<_> = containers.iter().collect();
    containers.sort_by_key(|container| Reverse((container.created_at, container.spec.attempt)));
    containers
        .into_iter()
        .map(|container| container_status(container))
        .collect()
}

fn user(user: &User) -> LinuxContainerUser {
    LinuxContainerUser {
        uid: i64::from(user.uid),
        gid: i64::from(user.gid),
        supplemental_groups: user
            .supplementary_groups
            .iter()
            .map(|group| i64::from(*group))
            .collect(),
    }
}

fn pod_state(state: PodState) -> PodSandboxState {
    match state {
        PodState::Ready => PodSandboxState::SandboxReady,
        PodState::NotReady => PodSandboxState::SandboxNotready,
    }
}

fn container_state(state: ContainerState) -> State {
    match state {
        ContainerState::Created => State::ContainerCreated,
        ContainerState::Running => State::ContainerRunning,
        ContainerState::Exited => State::ContainerExited,
        ContainerState::Unknown => State::ContainerUnknown,
    }
}

#[cfg(test)]
#[path = "status/tests.rs"]
pub(super) mod tests;
