//! A daemon of canned answers on a real socket.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};

use futures_util::stream::Empty;
use insula_cri_api::v1;
use insula_cri_api::v1::image_service_server::{ImageService, ImageServiceServer};
use insula_cri_api::v1::runtime_service_server::{RuntimeService, RuntimeServiceServer};
use tokio::net::UnixListener;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::{Request, Response, Status};

/// What the daemon was asked, and what it has.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) calls: Vec<String>,
    pub(super) pods: Vec<v1::PodSandbox>,
    pub(super) containers: Vec<v1::Container>,
    pub(super) images: Vec<String>,
    /// Containers fail to start.
    pub(super) broken: bool,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Fake(Arc<Mutex<State>>);

type Answer<T> = Result<Response<T>, Status>;

impl Fake {
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no panic while locked")
    }

    /// Serves in the background until the runtime ends.
    pub(super) fn serve(&self, socket: &Path) {
        let listener = UnixListener::bind(socket).expect("a socket");
        let server = tonic::transport::Server::builder()
            .add_service(RuntimeServiceServer::new(self.clone()))
            .add_service(ImageServiceServer::new(self.clone()))
            .serve_with_incoming(UnixListenerStream::new(listener));
        tokio::spawn(server);
    }

    fn called(&self, call: impl Into<String>) {
        self.state().calls.push(call.into());
    }

    pub(super) fn calls(&self) -> Vec<String> {
        self.state().calls.clone()
    }
}

/// Methods that no command calls.
macro_rules! unused {
    ($($name:ident: $request:ident -> $response:ident;)*) => {
        $(fn $name<'a, 'b>(
            &'a self,
            _: Request<v1::$request>,
        ) -> Pin<Box<dyn Future<Output = Answer<v1::$response>> + Send + 'b>>
        where
            'a: 'b,
            Self: 'b,
        {
            Box::pin(async { Err(Status::unimplemented(stringify!($name))) })
        })*
    };
}

macro_rules! unused_streams {
    ($($name:ident: $request:ident, $stream:ident -> $response:ident;)*) => {
        $(
            type $stream = Empty<Result<v1::$response, Status>>;
            fn $name<'a, 'b>(
                &'a self,
                _: Request<v1::$request>,
            ) -> Pin<Box<dyn Future<Output = Answer<Self::$stream>> + Send + 'b>>
            where
                'a: 'b,
                Self: 'b,
            {
                Box::pin(async { Err(Status::unimplemented(stringify!($name))) })
            }
        )*
    };
}

#[tonic::async_trait]
impl RuntimeService for Fake {
    async fn version(&self, _: Request<v1::VersionRequest>) -> Answer<v1::VersionResponse> {
        Ok(Response::new(v1::VersionResponse {
            version: "0.1.0".into(),
            runtime_name: "fake".into(),
            runtime_version: "1.2.3".into(),
            runtime_api_version: "v1".into(),
        }))
    }

    async fn run_pod_sandbox(
        &self,
        request: Request<v1::RunPodSandboxRequest>,
    ) -> Answer<v1::RunPodSandboxResponse> {
        let config = request.into_inner().config.unwrap_or_default();
        self.called("run pod");
        let mut state = self.state();
        let id = format!("aa{}", state.pods.len());
        state.pods.push(v1::PodSandbox {
            id: id.clone(),
            metadata: config.metadata,
            labels: config.labels,
            annotations: config.annotations,
            ..Default::default()
        });
        Ok(Response::new(v1::RunPodSandboxResponse {
            pod_sandbox_id: id,
        }))
    }

    async fn create_container(
        &self,
        request: Request<v1::CreateContainerRequest>,
    ) -> Answer<v1::CreateContainerResponse> {
        let request = request.into_inner();
        let config = request.config.unwrap_or_default();
        let image = config.image.clone().unwrap_or_default();
        self.called(format!("create from {}", image.image));
        let sandbox = request.sandbox_config.unwrap_or_default();
        let log = format!("{}/{}", sandbox.log_directory, config.log_path);
        fs::create_dir_all(PathBuf::from(&log).parent().expect("a parent"))?;
        fs::write(&log, "2026-01-31T08:00:00Z stdout F hello\n")?;
        let mut state = self.state();
        let id = format!("0c{}", state.containers.len());
        state.containers.push(v1::Container {
            id: id.clone(),
            pod_sandbox_id: request.pod_sandbox_id,
            metadata: config.metadata,
            image: Some(image),
            state: v1::ContainerState::ContainerExited.into(),
            annotations: BTreeMap::from([("log".to_owned(), log)]),
            ..Default::default()
        });
        Ok(Response::new(v1::CreateContainerResponse {
            container_id: id,
        }))
    }

    async fn start_container(
        &self,
        _: Request<v1::StartContainerRequest>,
    ) -> Answer<v1::StartContainerResponse> {
        self.called("start");
        if self.state().broken {
            return Err(Status::unknown("no such file: /bin/nothing"));
        }
        Ok(Response::new(v1::StartContainerResponse {}))
    }

    async fn stop_container(
        &self,
        request: Request<v1::StopContainerRequest>,
    ) -> Answer<v1::StopContainerResponse> {
        let request = request.into_inner();
        self.called(format!(
            "stop {} after {}",
            request.container_id, request.timeout
        ));
        Ok(Response::new(v1::StopContainerResponse {}))
    }

    async fn remove_container(
        &self,
        request: Request<v1::RemoveContainerRequest>,
    ) -> Answer<v1::RemoveContainerResponse> {
        self.called(format!("remove {}", request.into_inner().container_id));
        Ok(Response::new(v1::RemoveContainerResponse {}))
    }

    async fn stop_pod_sandbox(
        &self,
        request: Request<v1::StopPodSandboxRequest>,
    ) -> Answer<v1::StopPodSandboxResponse> {
        self.called(format!("stop pod {}", request.into_inner().pod_sandbox_id));
        Ok(Response::new(v1::StopPodSandboxResponse {}))
    }

    async fn remove_pod_sandbox(
        &self,
        request: Request<v1::RemovePodSandboxRequest>,
    ) -> Answer<v1::RemovePodSandboxResponse> {
        let id = request.into_inner().pod_sandbox_id;
        self.called(format!("remove pod {id}"));
        self.state().pods.retain(|pod| pod.id != id);
        Ok(Response::new(v1::RemovePodSandboxResponse {}))
    }

    async fn list_pod_sandbox(
        &self,
        request: Request<v1::ListPodSandboxRequest>,
    ) -> Answer<v1::ListPodSandboxResponse> {
        let filter = request.into_inner().filter.unwrap_or_default();
        let mut items = self.state().pods.clone();
        items.retain(|pod| {
            filter
                .label_selector
                .iter()
                .all(|(name, value)| pod.labels.get(name) == Some(value))
        });
        Ok(Response::new(v1::ListPodSandboxResponse { items }))
    }

    async fn list_containers(
        &self,
        _: Request<v1::ListContainersRequest>,
    ) -> Answer<v1::ListContainersResponse> {
        Ok(Response::new(v1::ListContainersResponse {
            containers: self.state().containers.clone(),
        }))
    }

    async fn container_status(
        &self,
        request: Request<v1::ContainerStatusRequest>,
    ) -> Answer<v1::ContainerStatusResponse> {
        let id = request.into_inner().container_id;
        let state = self.state();
        let Some(container) = state.containers.iter().find(|one| one.id == id) else {
            return Err(Status::not_found(id));
        };
        Ok(Response::new(v1::ContainerStatusResponse {
            status: Some(v1::ContainerStatus {
                id,
                state: v1::ContainerState::ContainerExited.into(),
                exit_code: 3,
                log_path: container
                    .annotations
                    .get("log")
                    .cloned()
                    .unwrap_or_default(),
                ..Default::default()
            }),
            info: BTreeMap::new(),
        }))
    }

    async fn pod_sandbox_status(
        &self,
        request: Request<v1::PodSandboxStatusRequest>,
    ) -> Answer<v1::PodSandboxStatusResponse> {
        Err(Status::not_found(request.into_inner().pod_sandbox_id))
    }

    async fn exec_sync(
        &self,
        request: Request<v1::ExecSyncRequest>,
    ) -> Answer<v1::ExecSyncResponse> {
        self.called(format!("exec {}", request.into_inner().cmd.join(" ")));
        Ok(Response::new(v1::ExecSyncResponse {
            exit_code: 7,
            ..Default::default()
        }))
    }

    async fn exec(&self, request: Request<v1::ExecRequest>) -> Answer<v1::ExecResponse> {
        let asked = request.into_inner();
        let with = if asked.tty { " with a terminal" } else { "" };
        self.called(format!("exec {}{with}", asked.cmd.join(" ")));
        // A server that this command cannot talk to: the status does not tell its certificate.
        let url = "https://127.0.0.1:1/exec/x".into();
        Ok(Response::new(v1::ExecResponse { url }))
    }

    async fn status(&self, _: Request<v1::StatusRequest>) -> Answer<v1::StatusResponse> {
        Ok(Response::new(v1::StatusResponse::default()))
    }

    unused! {
        update_container_resources: UpdateContainerResourcesRequest -> UpdateContainerResourcesResponse;
        reopen_container_log: ReopenContainerLogRequest -> ReopenContainerLogResponse;
        attach: AttachRequest -> AttachResponse;
        port_forward: PortForwardRequest -> PortForwardResponse;
        container_stats: ContainerStatsRequest -> ContainerStatsResponse;
        list_container_stats: ListContainerStatsRequest -> ListContainerStatsResponse;
        pod_sandbox_stats: PodSandboxStatsRequest -> PodSandboxStatsResponse;
        list_pod_sandbox_stats: ListPodSandboxStatsRequest -> ListPodSandboxStatsResponse;
        update_runtime_config: UpdateRuntimeConfigRequest -> UpdateRuntimeConfigResponse;
        checkpoint_container: CheckpointContainerRequest -> CheckpointContainerResponse;
        checkpoint_pod: CheckpointPodRequest -> CheckpointPodResponse;
        restore_pod: RestorePodRequest -> RestorePodResponse;
        list_metric_descriptors: ListMetricDescriptorsRequest -> ListMetricDescriptorsResponse;
        list_pod_sandbox_metrics: ListPodSandboxMetricsRequest -> ListPodSandboxMetricsResponse;
        runtime_config: RuntimeConfigRequest -> RuntimeConfigResponse;
        update_pod_sandbox_resources: UpdatePodSandboxResourcesRequest -> UpdatePodSandboxResourcesResponse;
    }

    unused_streams! {
        stream_pod_sandboxes: StreamPodSandboxesRequest, StreamPodSandboxesStream -> StreamPodSandboxesResponse;
        stream_containers: StreamContainersRequest, StreamContainersStream -> StreamContainersResponse;
        stream_container_stats: StreamContainerStatsRequest, StreamContainerStatsStream -> StreamContainerStatsResponse;
        stream_pod_sandbox_stats: StreamPodSandboxStatsRequest, StreamPodSandboxStatsStream -> StreamPodSandboxStatsResponse;
        stream_pod_sandbox_metrics: StreamPodSandboxMetricsRequest, StreamPodSandboxMetricsStream -> StreamPodSandboxMetricsResponse;
        get_container_events: GetEventsRequest, GetContainerEventsStream -> ContainerEventResponse;
    }
}

#[tonic::async_trait]
impl ImageService for Fake {
    async fn image_status(
        &self,
        request: Request<v1::ImageStatusRequest>,
    ) -> Answer<v1::ImageStatusResponse> {
        let name = request.into_inner().image.unwrap_or_default().image;
        let image = self.state().images.contains(&name).then(|| v1::Image {
            id: format!("sha256:{name}"),
            ..Default::default()
        });
        Ok(Response::new(v1::ImageStatusResponse {
            image,
            info: BTreeMap::new(),
        }))
    }

    async fn pull_image(
        &self,
        request: Request<v1::PullImageRequest>,
    ) -> Answer<v1::PullImageResponse> {
        let name = request.into_inner().image.unwrap_or_default().image;
        self.called(format!("pull {name}"));
        if name == "absent" {
            return Err(Status::not_found(
                "docker.io/library/absent:latest: no such image",
            ));
        }
        let image_ref = format!("sha256:{name}");
        self.state().images.push(name);
        Ok(Response::new(v1::PullImageResponse { image_ref }))
    }

    async fn remove_image(
        &self,
        request: Request<v1::RemoveImageRequest>,
    ) -> Answer<v1::RemoveImageResponse> {
        let name = request.into_inner().image.unwrap_or_default().image;
        self.called(format!("remove image {name}"));
        Ok(Response::new(v1::RemoveImageResponse {}))
    }

    unused! {
        list_images: ListImagesRequest -> ListImagesResponse;
        image_fs_info: ImageFsInfoRequest -> ImageFsInfoResponse;
    }

    unused_streams! {
        stream_images: StreamImagesRequest, StreamImagesStream -> StreamImagesResponse;
    }
}
