use super::{container_in_list, container_status, container_statuses, pod_in_list, pod_status};
use crate::convert::{container, pod};
use insula_cri_api::v1::{
    ContainerConfig, ContainerMetadata, ImageSpec, Mount, NamespaceMode, PodSandboxConfig,
    PodSandboxMetadata, Signal,
};
use insula_isolators::spec::{NamespaceMode as Mode, Resources};
use insula_pods::{
    ContainerId, ContainerState, ContainerStatus, ExitReason, PodId, PodState, PodStatus,
};
use std::sync::Arc;

pub(in crate::convert) fn a_pod() -> PodStatus {
    let config = PodSandboxConfig {
        metadata: Some(PodSandboxMetadata {
            name: "web".into(),
            uid: "u".into(),
            namespace: "default".into(),
            attempt: 1,
        }),
        labels: [("app".to_owned(), "web".to_owned())].into(),
        ..PodSandboxConfig::default()
    };
    PodStatus {
        cgroup_path: "insula/p".into(),
        id: PodId::parse(&"a".repeat(64)).unwrap(),
        spec: Arc::new(pod::from_cri(config, "native".into()).unwrap()),
        state: PodState::Ready,
        created_at: 7,
        ips: vec!["10.0.0.2".parse().unwrap(), "fd00::2".parse().unwrap()],
        network_namespace: None,
        supervisor: Some(12),
        reason: String::new(),
        message: String::new(),
        resources: None,
        overhead: None,
    }
}

fn a_container() -> ContainerStatus {
    let config = ContainerConfig {
        metadata: Some(ContainerMetadata {
            name: "redis".into(),
            attempt: 0,
        }),
        image: Some(ImageSpec {
            image: "sha256:id".into(),
            user_specified_image: "redis".into(),
            ..ImageSpec::default()
        }),
        mounts: vec![Mount {
            container_path: "/dev/termination-log".into(),
            host_path: "/var/lib/kubelet/x".into(),
            ..Mount::default()
        }],
        ..ContainerConfig::default()
    };
    ContainerStatus {
        id: ContainerId::parse(&"b".repeat(64)).unwrap(),
        pod_id: PodId::parse(&"a".repeat(64)).unwrap(),
        spec: Arc::new(container::from_cri(config).unwrap()),
        state: ContainerState::Exited,
        created_at: 1,
        started_at: 2,
        finished_at: 3,
        exit_code: 137,
        reason: Some(ExitReason::OomKilled),
        message: "killed".into(),
        image_id: "sha256:id".into(),
        image_ref: "docker.io/library/redis@sha256:d".into(),
        image_name: "docker.io/library/redis:latest".into(),
        log_path: Some("/var/log/pods/p/redis/0.log".into()),
        user: insula_wire::plan::User {
            uid: 999,
            gid: 998,
            supplementary_groups: vec![998, 1000],
        },
        stop_signal: 15,
        resources: Resources {
            cpu_shares: 512,
            ..Resources::default()
        },
        pid: None,
    }
}

#[test]
fn a_pod_shows_its_addresses_and_modes() {
    let mut pod = a_pod();
    let status = pod_status(&pod);
    let network = status.network.unwrap();
    assert_eq!(network.ip, "10.0.0.2");
    assert_eq!(network.additional_ips[0].ip, "fd00::2");
    assert_eq!(status.state, 0);
    assert_eq!(status.labels, pod_in_list(&pod).labels);

    pod.ips.clear();
    pod.state = PodState::NotReady;
    Arc::make_mut(&mut pod.spec).namespaces.network = Mode::Node;
    let status = pod_status(&pod);
    assert_eq!(status.network.unwrap().ip, "");
    assert_eq!(status.state, 1);
    let options = status.linux.unwrap().namespaces.unwrap().options.unwrap();
    assert_eq!(options.network, NamespaceMode::Node as i32);
}

#[test]
fn a_container_shows_one_image_id_everywhere() {
    let container = a_container();
    let (listed, status) = (container_in_list(&container), container_status(&container));
    assert_eq!(listed.image_id, status.image_id);
    assert_eq!(listed.image_ref, status.image_ref);
    assert_eq!(listed.image.unwrap().image, "sha256:id");
    let image = status.image.unwrap();
    assert_eq!(image.image, "docker.io/library/redis:latest");
    assert_eq!(image.user_specified_image, "redis");
}

#[test]
fn a_container_shows_what_kubelet_reads() {
    let status = container_status(&a_container());
    assert_eq!(status.reason, "OOMKilled");
    assert_eq!(status.exit_code, 137);
    assert_eq!(status.log_path, "/var/log/pods/p/redis/0.log");
    assert_eq!(status.stop_signal, Signal::Sigterm as i32);
    assert_eq!(status.mounts.len(), 1);
    assert_eq!(status.mounts[0].host_path, "/var/lib/kubelet/x");
    assert_eq!(status.resources.unwrap().linux.unwrap().cpu_shares, 512);
    let user = status.user.unwrap().linux.unwrap();
    assert_eq!((user.uid, user.gid), (999, 998));
    assert_eq!(user.supplemental_groups, [998, 1000]);
}

#[test]
fn the_newest_container_comes_first() {
    let made = [(1, 0), (5, 3), (3, 1), (5, 4)].map(|(created_at, attempt)| {
        let mut container = a_container();
        container.created_at = created_at;
        Arc::make_mut(&mut container.spec).attempt = attempt;
        Arc::new(container)
    });
    let shown: Vec<_> = container_statuses(&made)
        .into_iter()
        .map(|status| (status.created_at, status.metadata.unwrap().attempt))
        .collect();
    assert_eq!(shown, [(5, 4), (5, 3), (3, 1), (1, 0)]);
}
