//! `RuntimeService`: one method per call here, its work in the file of its group.

mod container;
mod events;
mod exec;
mod sandbox;
mod stats;
mod status;
mod streaming;

use crate::errors::Error;
use crate::observe::Call;
use crate::pieces::{Pieces, stream};
use crate::service::Service;
use insula_cri_api::v1::runtime_service_server::RuntimeService;
#[allow(
    clippy::wildcard_imports,
    reason = "nearly every message of the interface"
)]
use insula_cri_api::v1::*;
use tonic::{Request, Response, Status, async_trait};

type Answer<T> = Result<Response<T>, Status>;

impl Service {
    /// Does a call's work, seen by the log and the metrics.
    pub(crate) async fn answer<T>(
        &self,
        call: Call,
        work: impl Future<Output = Result<T, Error>>,
    ) -> Answer<T> {
        self.inner.calls.observe(call, work).await
    }

    /// A call that this build does not do.
    async fn refuse<T>(&self, method: &'static str, missing: &'static str) -> Answer<T> {
        let error = Error::Unimplemented { method, missing };
        self.answer(Call::polled(method), async { Err(error) })
            .await
    }
}

#[async_trait]
impl RuntimeService for Service {
    type StreamPodSandboxesStream = Pieces<StreamPodSandboxesResponse>;
    type StreamContainersStream = Pieces<StreamContainersResponse>;
    type StreamContainerStatsStream = Pieces<StreamContainerStatsResponse>;
    type StreamPodSandboxStatsStream = Pieces<StreamPodSandboxStatsResponse>;
    type StreamPodSandboxMetricsStream = Pieces<StreamPodSandboxMetricsResponse>;
    type GetContainerEventsStream = Pieces<ContainerEventResponse>;

    async fn run_pod_sandbox(
        &self,
        request: Request<RunPodSandboxRequest>,
    ) -> Answer<RunPodSandboxResponse> {
        let asked = request.into_inner();
        let call = Call::once("RunPodSandbox");
        self.answer(call, sandbox::run(self, asked)).await
    }

    async fn stop_pod_sandbox(
        &self,
        request: Request<StopPodSandboxRequest>,
    ) -> Answer<StopPodSandboxResponse> {
        let asked = request.into_inner();
        let call = Call::once("StopPodSandbox").pod(&asked.pod_sandbox_id);
        self.answer(call, sandbox::stop(self, asked)).await
    }

    async fn remove_pod_sandbox(
        &self,
        request: Request<RemovePodSandboxRequest>,
    ) -> Answer<RemovePodSandboxResponse> {
        let asked = request.into_inner();
        let call = Call::once("RemovePodSandbox").pod(&asked.pod_sandbox_id);
        self.answer(call, sandbox::remove(self, asked)).await
    }

    async fn pod_sandbox_status(
        &self,
        request: Request<PodSandboxStatusRequest>,
    ) -> Answer<PodSandboxStatusResponse> {
        let asked = request.into_inner();
        let call = Call::polled("PodSandboxStatus").pod(&asked.pod_sandbox_id);
        self.answer(call, sandbox::status(self, asked)).await
    }

    async fn list_pod_sandbox(
        &self,
        request: Request<ListPodSandboxRequest>,
    ) -> Answer<ListPodSandboxResponse> {
        let asked = request.into_inner();
        let call = Call::polled("ListPodSandbox");
        self.answer(call, sandbox::list(self, asked)).await
    }

    async fn update_pod_sandbox_resources(
        &self,
        request: Request<UpdatePodSandboxResourcesRequest>,
    ) -> Answer<UpdatePodSandboxResourcesResponse> {
        let asked = request.into_inner();
        let call = Call::once("UpdatePodSandboxResources").pod(&asked.pod_sandbox_id);
        self.answer(call, sandbox::update_resources(self, asked))
            .await
    }

    async fn create_container(
        &self,
        request: Request<CreateContainerRequest>,
    ) -> Answer<CreateContainerResponse> {
        let asked = request.into_inner();
        let call = Call::once("CreateContainer").pod(&asked.pod_sandbox_id);
        self.answer(call, container::create(self, asked)).await
    }

    async fn start_container(
        &self,
        request: Request<StartContainerRequest>,
    ) -> Answer<StartContainerResponse> {
        let asked = request.into_inner();
        let call = Call::once("StartContainer").container(&asked.container_id);
        self.answer(call, container::start(self, asked)).await
    }

    async fn stop_container(
        &self,
        request: Request<StopContainerRequest>,
    ) -> Answer<StopContainerResponse> {
        let asked = request.into_inner();
        let call = Call::once("StopContainer").container(&asked.container_id);
        self.answer(call, container::stop(self, asked)).await
    }

    async fn remove_container(
        &self,
        request: Request<RemoveContainerRequest>,
    ) -> Answer<RemoveContainerResponse> {
        let asked = request.into_inner();
        let call = Call::once("RemoveContainer").container(&asked.container_id);
        self.answer(call, container::remove(self, asked)).await
    }

    async fn list_containers(
        &self,
        request: Request<ListContainersRequest>,
    ) -> Answer<ListContainersResponse> {
        let asked = request.into_inner();
        let call = Call::polled("ListContainers");
        self.answer(call, container::list(self, asked)).await
    }

    async fn container_status(
        &self,
        request: Request<ContainerStatusRequest>,
    ) -> Answer<ContainerStatusResponse> {
        let asked = request.into_inner();
        let call = Call::polled("ContainerStatus").container(&asked.container_id);
        self.answer(call, container::status(self, asked)).await
    }

    async fn update_container_resources(
        &self,
        request: Request<UpdateContainerResourcesRequest>,
    ) -> Answer<UpdateContainerResourcesResponse> {
        let asked = request.into_inner();
        let call = Call::once("UpdateContainerResources").container(&asked.container_id);
        self.answer(call, container::update_resources(self, asked))
            .await
    }

    async fn reopen_container_log(
        &self,
        request: Request<ReopenContainerLogRequest>,
    ) -> Answer<ReopenContainerLogResponse> {
        let asked = request.into_inner();
        let call = Call::once("ReopenContainerLog").container(&asked.container_id);
        self.answer(call, container::reopen_log(self, asked)).await
    }

    async fn exec_sync(&self, request: Request<ExecSyncRequest>) -> Answer<ExecSyncResponse> {
        let asked = request.into_inner();
        let call = Call::polled("ExecSync").container(&asked.container_id);
        self.answer(call, exec::sync(self, asked)).await
    }

    async fn container_stats(
        &self,
        request: Request<ContainerStatsRequest>,
    ) -> Answer<ContainerStatsResponse> {
        let asked = request.into_inner();
        let call = Call::polled("ContainerStats").container(&asked.container_id);
        self.answer(call, stats::container(self, asked)).await
    }

    async fn list_container_stats(
        &self,
        request: Request<ListContainerStatsRequest>,
    ) -> Answer<ListContainerStatsResponse> {
        let asked = request.into_inner();
        let call = Call::polled("ListContainerStats");
        self.answer(call, stats::list_containers(self, asked)).await
    }

    async fn pod_sandbox_stats(
        &self,
        request: Request<PodSandboxStatsRequest>,
    ) -> Answer<PodSandboxStatsResponse> {
        let asked = request.into_inner();
        let call = Call::polled("PodSandboxStats").pod(&asked.pod_sandbox_id);
        self.answer(call, stats::pod(self, asked)).await
    }

    async fn list_pod_sandbox_stats(
        &self,
        request: Request<ListPodSandboxStatsRequest>,
    ) -> Answer<ListPodSandboxStatsResponse> {
        let asked = request.into_inner();
        let call = Call::polled("ListPodSandboxStats");
        self.answer(call, stats::list_pods(self, asked)).await
    }

    async fn version(&self, request: Request<VersionRequest>) -> Answer<VersionResponse> {
        let asked = request.into_inner();
        let call = Call::polled("Version");
        self.answer(call, async { Ok(status::version(&asked)) })
            .await
    }

    async fn status(&self, request: Request<StatusRequest>) -> Answer<StatusResponse> {
        let asked = request.into_inner();
        let call = Call::polled("Status");
        self.answer(call, status::status(self, asked)).await
    }

    async fn runtime_config(
        &self,
        request: Request<RuntimeConfigRequest>,
    ) -> Answer<RuntimeConfigResponse> {
        let asked = request.into_inner();
        let call = Call::polled("RuntimeConfig");
        self.answer(call, async { Ok(status::runtime_config(self, asked)) })
            .await
    }

    async fn update_runtime_config(
        &self,
        request: Request<UpdateRuntimeConfigRequest>,
    ) -> Answer<UpdateRuntimeConfigResponse> {
        let asked = request.into_inner();
        let call = Call::once("UpdateRuntimeConfig");
        self.answer(call, status::update_runtime_config(self, asked))
            .await
    }

    async fn stream_pod_sandboxes(
        &self,
        request: Request<StreamPodSandboxesRequest>,
    ) -> Answer<Self::StreamPodSandboxesStream> {
        let asked = ListPodSandboxRequest {
            filter: request.into_inner().filter,
        };
        let answer = self
            .answer(
                Call::polled("StreamPodSandboxes"),
                sandbox::list(self, asked),
            )
            .await?;
        Ok(stream(answer.into_inner().items, |pod_sandboxes| {
            StreamPodSandboxesResponse { pod_sandboxes }
        }))
    }

    async fn stream_containers(
        &self,
        request: Request<StreamContainersRequest>,
    ) -> Answer<Self::StreamContainersStream> {
        let asked = ListContainersRequest {
            filter: request.into_inner().filter,
        };
        let answer = self
            .answer(
                Call::polled("StreamContainers"),
                container::list(self, asked),
            )
            .await?;
        Ok(stream(answer.into_inner().containers, |containers| {
            StreamContainersResponse { containers }
        }))
    }

    async fn stream_container_stats(
        &self,
        request: Request<StreamContainerStatsRequest>,
    ) -> Answer<Self::StreamContainerStatsStream> {
        let asked = ListContainerStatsRequest {
            filter: request.into_inner().filter,
        };
        let answer = self
            .answer(
                Call::polled("StreamContainerStats"),
                stats::list_containers(self, asked),
            )
            .await?;
        Ok(stream(answer.into_inner().stats, |container_stats| {
            StreamContainerStatsResponse { container_stats }
        }))
    }

    async fn stream_pod_sandbox_stats(
        &self,
        request: Request<StreamPodSandboxStatsRequest>,
    ) -> Answer<Self::StreamPodSandboxStatsStream> {
        let asked = ListPodSandboxStatsRequest {
            filter: request.into_inner().filter,
        };
        let answer = self
            .answer(
                Call::polled("StreamPodSandboxStats"),
                stats::list_pods(self, asked),
            )
            .await?;
        Ok(stream(answer.into_inner().stats, |pod_sandbox_stats| {
            StreamPodSandboxStatsResponse { pod_sandbox_stats }
        }))
    }

    async fn exec(&self, request: Request<ExecRequest>) -> Answer<ExecResponse> {
        let asked = request.into_inner();
        let call = Call::once("Exec").container(&asked.container_id);
        self.answer(call, streaming::exec(self, asked)).await
    }

    async fn attach(&self, request: Request<AttachRequest>) -> Answer<AttachResponse> {
        let asked = request.into_inner();
        let call = Call::once("Attach").container(&asked.container_id);
        self.answer(call, streaming::attach(self, asked)).await
    }

    async fn port_forward(
        &self,
        request: Request<PortForwardRequest>,
    ) -> Answer<PortForwardResponse> {
        let asked = request.into_inner();
        let call = Call::once("PortForward").pod(&asked.pod_sandbox_id);
        self.answer(call, streaming::port_forward(self, asked))
            .await
    }

    async fn get_container_events(
        &self,
        _: Request<GetEventsRequest>,
    ) -> Answer<Pieces<ContainerEventResponse>> {
        let call = Call::once("GetContainerEvents");
        self.answer(call, async { events::listen(self) }).await
    }

    async fn list_metric_descriptors(
        &self,
        _: Request<ListMetricDescriptorsRequest>,
    ) -> Answer<ListMetricDescriptorsResponse> {
        let call = Call::polled("ListMetricDescriptors");
        self.answer(call, stats::descriptors(self)).await
    }

    async fn list_pod_sandbox_metrics(
        &self,
        _: Request<ListPodSandboxMetricsRequest>,
    ) -> Answer<ListPodSandboxMetricsResponse> {
        let call = Call::polled("ListPodSandboxMetrics");
        self.answer(call, stats::metrics_of_pods(self)).await
    }

    async fn stream_pod_sandbox_metrics(
        &self,
        _: Request<StreamPodSandboxMetricsRequest>,
    ) -> Answer<Pieces<StreamPodSandboxMetricsResponse>> {
        let call = Call::polled("StreamPodSandboxMetrics");
        let answer = self.answer(call, stats::metrics_of_pods(self)).await?;
        Ok(stream(
            answer.into_inner().pod_metrics,
            |pod_sandbox_metrics| StreamPodSandboxMetricsResponse {
                pod_sandbox_metrics,
            },
        ))
    }

    async fn checkpoint_container(
        &self,
        _: Request<CheckpointContainerRequest>,
    ) -> Answer<CheckpointContainerResponse> {
        self.refuse("CheckpointContainer", "checkpoints are missing")
            .await
    }

    async fn checkpoint_pod(
        &self,
        _: Request<CheckpointPodRequest>,
    ) -> Answer<CheckpointPodResponse> {
        self.refuse("CheckpointPod", "checkpoints are missing")
            .await
    }

    async fn restore_pod(&self, _: Request<RestorePodRequest>) -> Answer<RestorePodResponse> {
        self.refuse("RestorePod", "checkpoints are missing").await
    }
}
