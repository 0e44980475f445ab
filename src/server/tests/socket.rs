//! The services over a real socket, with real rooms below on scratch
//! directories: no pod is made, so neither root nor a network is needed.

use insula_cri_api::v1::image_service_client::ImageServiceClient;
use insula_cri_api::v1::runtime_service_client::RuntimeServiceClient;
use insula_cri_api::v1::*;
use insula_images::{Images, Pull, Reference, StoreConfig};
use insula_isolators::isolator::HostFacts;
use insula_network::{Network, NetworkConfig};
use insula_pods::{Pods, PodsConfig};
use insula_server::listen::ServeError;
use insula_server::{Allowed, CallMetrics, Node, Service, WatchPulls};
use insula_streaming::{Metrics, Server, Settings};
use insula_sys::cgroup::{Hierarchy, Layout};
use std::time::Duration;
use tempfile::TempDir;
use tokio::net::UnixListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

struct NoWatcher;

impl WatchPulls for NoWatcher {
    fn watch(&self, _: &Reference, _: &Pull) -> Box<dyn Send> {
        Box::new(())
    }
}

struct Daemon {
    directory: TempDir,
    channel: Channel,
    stop: oneshot::Sender<()>,
    served: JoinHandle<Result<(), ServeError>>,
}

impl Daemon {
    async fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        for name in ["root", "state", "cgroup"] {
            std::fs::create_dir(path(name)).unwrap();
        }
        let supervisor = path("insula-pod");
        std::fs::write(&supervisor, "#!/bin/false\n").unwrap();
        let images = Images::open(StoreConfig::new(path("root"))).unwrap();
        let network = Network::open(NetworkConfig {
            conf_dir: path("net.d"),
            ..NetworkConfig::new(path("network"))
        })
        .await
        .unwrap();
        let facts = HostFacts {
            cgroup: Layout::new(vec![Hierarchy::legacy(path("cgroup"), &["cpu"])]),
            ..HostFacts::detect(true).unwrap()
        };
        let config = PodsConfig::new(path("root"), path("state"), &supervisor);
        let pods = Pods::open(config, images.clone(), network, facts)
            .await
            .unwrap();
        let node = Node {
            root: path("root"),
            state: path("state"),
            handlers: ["", "native"]
                .map(|name| insula_server::Handler {
                    name: name.into(),
                    recursive_read_only_mounts: true,
                    user_namespaces: true,
                })
                .into(),
            user_namespaces_host_network: true,
            config: serde_json::json!({"log": {"level": "info"}}),
            doctor: Box::new(|| serde_json::json!([{"name": "kernel"}])),
            pulls: Box::new(NoWatcher),
        };
        let calls = CallMetrics::new(&prometheus::Registry::new()).unwrap();
        let settings = Settings {
            address: ([127, 0, 0, 1], 0).into(),
            tls: None,
            idle: Duration::from_mins(1),
            creation: Duration::from_secs(10),
        };
        let metrics = Metrics::new(&prometheus::Registry::new()).unwrap();
        let streaming = Server::bind(settings, metrics).await.unwrap();
        let service = Service::new(pods, images, streaming.sessions(), node, calls);
        let socket = path("i.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let (stop, stopped) = oneshot::channel();
        let served = tokio::spawn(async move {
            let stop = async {
                let _ = stopped.await;
            };
            let allowed = Allowed {
                uid: rustix::process::geteuid().as_raw(),
            };
            insula_server::serve(listener, service, allowed, stop, Duration::from_secs(20)).await
        });
        let address = format!("unix://{}", socket.display());
        let channel = Endpoint::from_shared(address)
            .unwrap()
            .connect()
            .await
            .unwrap();
        Self {
            directory,
            channel,
            stop,
            served,
        }
    }

    fn runtime(&self) -> RuntimeServiceClient<Channel> {
        RuntimeServiceClient::new(self.channel.clone()).max_encoding_message_size(64 << 20)
    }

    fn image(&self) -> ImageServiceClient<Channel> {
        ImageServiceClient::new(self.channel.clone())
    }

    async fn end(self) {
        let _ = self.stop.send(());
        self.served.await.unwrap().unwrap();
    }
}

fn refused<T: std::fmt::Debug>(answer: Result<T, Status>) -> (Code, String) {
    let status = answer.unwrap_err();
    (status.code(), status.message().to_owned())
}

fn image(name: &str) -> ImageSpec {
    ImageSpec {
        image: name.into(),
        ..ImageSpec::default()
    }
}

#[tokio::test]
async fn a_kubelet_that_starts_gets_what_it_asks() {
    let daemon = Daemon::start().await;
    let mut runtime = daemon.runtime();
    let version = runtime
        .version(VersionRequest::default())
        .await
        .unwrap()
        .into_inner();
    assert_eq!(version.runtime_name, "insula");
    assert_eq!(version.runtime_api_version, "v1");
    assert_eq!(version.version, "0.1.0");
    assert!(!version.runtime_version.is_empty());

    let usage = daemon
        .image()
        .image_fs_info(ImageFsInfoRequest {})
        .await
        .unwrap()
        .into_inner();
    let [images] = &usage.image_filesystems[..] else {
        panic!("{usage:?}");
    };
    assert!(images.used_bytes.is_some());
    assert!(std::path::Path::new(&images.fs_id.as_ref().unwrap().mountpoint).is_dir());

    let config = runtime
        .runtime_config(RuntimeConfigRequest {})
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        config.linux.unwrap().cgroup_driver(),
        CgroupDriver::Cgroupfs
    );

    let status = runtime
        .status(StatusRequest { verbose: true })
        .await
        .unwrap()
        .into_inner();
    let conditions = status.status.unwrap().conditions;
    let [ready, network] = &conditions[..] else {
        panic!("{conditions:?}");
    };
    assert_eq!(
        (ready.r#type.as_str(), ready.status),
        ("RuntimeReady", true)
    );
    // There is no network configuration.
    assert_eq!(
        (network.r#type.as_str(), network.status),
        ("NetworkReady", false)
    );
    assert_eq!(network.reason, "NetworkPluginNotReady");
    assert!(!network.message.is_empty());
    let handlers: Vec<_> = status
        .runtime_handlers
        .iter()
        .map(|handler| &*handler.name)
        .collect();
    assert_eq!(handlers, ["", "native"]);
    assert!(
        status.runtime_handlers[0]
            .features
            .unwrap()
            .recursive_read_only_mounts
    );
    assert!(status.features.unwrap().supplemental_groups_policy);
    let config: serde_json::Value = serde_json::from_str(&status.info["config"]).unwrap();
    let state = daemon.directory.path().join("state");
    assert_eq!(config["stateDir"].as_str(), state.to_str());
    assert_eq!(status.info["doctor"], r#"[{"name":"kernel"}]"#);
    daemon.end().await;
}

#[tokio::test]
async fn what_is_not_there_is_told_or_done() {
    let daemon = Daemon::start().await;
    let (mut runtime, mut images) = (daemon.runtime(), daemon.image());
    let id = "0123".to_owned();
    let pod = || id.clone();
    let stop = StopPodSandboxRequest {
        pod_sandbox_id: pod(),
    };
    runtime.stop_pod_sandbox(stop).await.unwrap();
    let remove = RemovePodSandboxRequest {
        pod_sandbox_id: pod(),
    };
    runtime.remove_pod_sandbox(remove).await.unwrap();
    let stop = StopContainerRequest {
        container_id: pod(),
        timeout: 5,
    };
    runtime.stop_container(stop).await.unwrap();
    let remove = RemoveContainerRequest {
        container_id: pod(),
    };
    runtime.remove_container(remove).await.unwrap();
    images
        .remove_image(RemoveImageRequest {
            image: Some(image("none")),
        })
        .await
        .unwrap();
    let asked = ImageStatusRequest {
        image: Some(image("none")),
        verbose: true,
    };
    assert_eq!(
        images.image_status(asked).await.unwrap().into_inner().image,
        None
    );

    let asked = PodSandboxStatusRequest {
        pod_sandbox_id: pod(),
        verbose: false,
    };
    assert_eq!(
        refused(runtime.pod_sandbox_status(asked).await).0,
        Code::NotFound
    );
    let asked = ContainerStatusRequest {
        container_id: pod(),
        verbose: false,
    };
    assert_eq!(
        refused(runtime.container_status(asked).await).0,
        Code::NotFound
    );
    let asked = ContainerStatsRequest {
        container_id: pod(),
    };
    assert_eq!(
        refused(runtime.container_stats(asked).await).0,
        Code::NotFound
    );
    let asked = ExecSyncRequest {
        container_id: pod(),
        cmd: vec!["true".into()],
        timeout: 1,
    };
    assert_eq!(refused(runtime.exec_sync(asked).await).0, Code::NotFound);
    daemon.end().await;
}

#[tokio::test]
async fn lists_and_streams_of_nothing_are_empty() {
    let daemon = Daemon::start().await;
    let (mut runtime, mut images) = (daemon.runtime(), daemon.image());
    let pods = runtime
        .list_pod_sandbox(ListPodSandboxRequest::default())
        .await
        .unwrap();
    assert!(pods.into_inner().items.is_empty());
    let mut stream = runtime
        .stream_pod_sandboxes(StreamPodSandboxesRequest::default())
        .await
        .unwrap()
        .into_inner();
    assert!(stream.message().await.unwrap().is_none());
    let mut stream = runtime
        .stream_container_stats(StreamContainerStatsRequest::default())
        .await
        .unwrap()
        .into_inner();
    assert!(stream.message().await.unwrap().is_none());
    let mut stream = images
        .stream_images(StreamImagesRequest::default())
        .await
        .unwrap()
        .into_inner();
    assert!(stream.message().await.unwrap().is_none());
    daemon.end().await;
}

#[tokio::test]
async fn wrong_requests_name_the_field() {
    let daemon = Daemon::start().await;
    let mut runtime = daemon.runtime();
    let metadata = PodSandboxMetadata {
        name: "web".into(),
        uid: "u".into(),
        namespace: "default".into(),
        attempt: 0,
    };
    let run = |config: Option<PodSandboxConfig>, handler: &str| RunPodSandboxRequest {
        config,
        runtime_handler: handler.into(),
    };
    let config = |hostname: &str| {
        Some(PodSandboxConfig {
            metadata: Some(metadata.clone()),
            hostname: hostname.into(),
            ..PodSandboxConfig::default()
        })
    };
    for (asked, want) in [
        (run(None, ""), "config: is missing"),
        (
            run(Some(PodSandboxConfig::default()), ""),
            "config.metadata: is missing",
        ),
        (run(config("a\0b"), ""), "config.hostname: holds a NUL byte"),
        (
            run(config(""), "kata"),
            "runtime_handler: \"kata\" is not configured, there are \"\" and \"native\"",
        ),
    ] {
        let (code, message) = refused(runtime.run_pod_sandbox(asked).await);
        assert_eq!((code, message.as_str()), (Code::InvalidArgument, want));
    }
    for (id, want) in [
        ("", "container_id: is empty".to_owned()),
        ("a\0", "container_id: holds a NUL byte".to_owned()),
        (
            &*"a".repeat(1 << 20),
            "container_id: is 1048576 bytes long, at most 253 are allowed".to_owned(),
        ),
    ] {
        let asked = StartContainerRequest {
            container_id: id.into(),
        };
        assert_eq!(
            refused(runtime.start_container(asked).await),
            (Code::InvalidArgument, want)
        );
    }
    let (code, message) = refused(
        daemon
            .image()
            .pull_image(PullImageRequest {
                image: Some(image("library/UPPER")),
                ..PullImageRequest::default()
            })
            .await,
    );
    assert_eq!(code, Code::InvalidArgument, "{message}");
    assert!(message.starts_with("image.image: "), "{message}");
    daemon.end().await;
}

#[tokio::test]
async fn a_stream_of_events_ends_with_the_daemon() {
    let daemon = Daemon::start().await;
    let mut runtime = daemon.runtime();
    let mut events = runtime
        .get_container_events(GetEventsRequest {})
        .await
        .unwrap()
        .into_inner();
    let (ended, ()) = tokio::join!(events.message(), daemon.end());
    let status = ended.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status}");
}

#[tokio::test]
async fn metrics_of_no_pods_are_declared_and_none_are_sent() {
    let daemon = Daemon::start().await;
    let mut runtime = daemon.runtime();
    let declared = runtime
        .list_metric_descriptors(ListMetricDescriptorsRequest {})
        .await
        .unwrap()
        .into_inner();
    let has = |name: &str| declared.descriptors.iter().any(|one| one.name == name);
    assert!(has("container_last_seen") && has("container_network_receive_bytes_total"));
    let listed = runtime
        .list_pod_sandbox_metrics(ListPodSandboxMetricsRequest {})
        .await
        .unwrap()
        .into_inner();
    assert!(listed.pod_metrics.is_empty());
    let mut streamed = runtime
        .stream_pod_sandbox_metrics(StreamPodSandboxMetricsRequest {})
        .await
        .unwrap()
        .into_inner();
    assert!(streamed.message().await.unwrap().is_none());
    daemon.end().await;
}

#[tokio::test]
async fn streams_are_of_things_that_are_there() {
    let daemon = Daemon::start().await;
    let mut runtime = daemon.runtime();
    let exec = ExecRequest {
        container_id: "none".into(),
        cmd: vec!["true".into()],
        stdout: true,
        ..ExecRequest::default()
    };
    let attach = AttachRequest {
        container_id: "none".into(),
        stdout: true,
        ..AttachRequest::default()
    };
    let forward = PortForwardRequest {
        pod_sandbox_id: "none".into(),
        port: vec![],
    };
    let terminal = ExecRequest {
        tty: true,
        stderr: true,
        ..exec.clone()
    };
    let nothing = AttachRequest {
        stdout: false,
        ..attach.clone()
    };
    let no_port = PortForwardRequest {
        port: vec![0],
        ..forward.clone()
    };
    for (answer, want, field) in [
        (refused(runtime.exec(exec).await), Code::NotFound, ""),
        (refused(runtime.attach(attach).await), Code::NotFound, ""),
        (
            refused(runtime.port_forward(forward).await),
            Code::NotFound,
            "",
        ),
        (
            refused(runtime.exec(terminal).await),
            Code::InvalidArgument,
            "stderr: ",
        ),
        (
            refused(runtime.attach(nothing).await),
            Code::InvalidArgument,
            "stdin: ",
        ),
        (
            refused(runtime.port_forward(no_port).await),
            Code::InvalidArgument,
            "port[0]: ",
        ),
        (
            refused(runtime.exec(ExecRequest::default()).await),
            Code::InvalidArgument,
            "container_id: ",
        ),
    ] {
        let (code, message) = answer;
        assert_eq!(code, want, "{message}");
        assert!(message.starts_with(field), "{message}");
    }
    daemon.end().await;
}

#[tokio::test]
async fn calls_of_later_versions_say_what_is_missing() {
    let daemon = Daemon::start().await;
    let mut runtime = daemon.runtime();
    let answers = [
        refused(
            runtime
                .checkpoint_container(CheckpointContainerRequest::default())
                .await,
        ),
        refused(
            runtime
                .checkpoint_pod(CheckpointPodRequest::default())
                .await,
        ),
        refused(runtime.restore_pod(RestorePodRequest::default()).await),
    ];
    for (code, message) in answers {
        assert_eq!(code, Code::Unimplemented);
        assert!(
            message.contains(" is not supported by this version: "),
            "{message}"
        );
    }
    daemon.end().await;
}

#[tokio::test]
async fn requests_of_kubelets_size_are_taken_and_larger_ones_are_not() {
    let daemon = Daemon::start().await;
    let mut runtime = daemon.runtime();
    let list = |bytes: usize| ListPodSandboxRequest {
        filter: Some(PodSandboxFilter {
            label_selector: [("l".to_owned(), "x".repeat(bytes))].into(),
            ..PodSandboxFilter::default()
        }),
    };
    runtime.list_pod_sandbox(list(15 << 20)).await.unwrap();
    assert_eq!(
        refused(runtime.list_pod_sandbox(list(17 << 20)).await).0,
        Code::OutOfRange
    );
    daemon.end().await;
}

#[tokio::test]
async fn health_is_told_and_a_watcher_does_not_hold_up_the_end() {
    use tonic_health::pb::HealthCheckRequest;
    use tonic_health::pb::health_check_response::ServingStatus;
    use tonic_health::pb::health_client::HealthClient;

    let daemon = Daemon::start().await;
    let mut health = HealthClient::new(daemon.channel.clone());
    for service in ["", "runtime.v1.RuntimeService", "runtime.v1.ImageService"] {
        let request = HealthCheckRequest {
            service: service.into(),
        };
        let answer = health.check(request).await.unwrap().into_inner();
        assert_eq!(answer.status(), ServingStatus::Serving, "{service}");
    }
    let request = HealthCheckRequest {
        service: "runtime.v1.RuntimeService".into(),
    };
    let mut watch = health.watch(request).await.unwrap().into_inner();
    assert!(watch.message().await.unwrap().is_some());
    let watcher = tokio::spawn(async move { while let Ok(Some(_)) = watch.message().await {} });
    drop(health);
    let Daemon {
        channel,
        stop,
        served,
        ..
    } = daemon;
    drop(channel);
    let _ = stop.send(());
    served.await.unwrap().unwrap();
    watcher.await.unwrap();
}
