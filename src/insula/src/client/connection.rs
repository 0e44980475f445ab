//! The connection to a daemon.

use std::future::Future;
use std::io::ErrorKind;
use std::time::Duration;

use insula_cri_api::v1;
use insula_cri_api::v1::image_service_client::ImageServiceClient;
use insula_cri_api::v1::runtime_service_client::RuntimeServiceClient;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Response, Status};

use super::address::Address;
use super::error::{ClientError, one_line};

/// Largest answer: two streams of 16 MiB, which is where an `ExecSync` is cut, and what is around.
const MAX_ANSWER: usize = 40 << 20;
/// How long questions about what there is may take.
pub(crate) const QUESTION: Duration = Duration::from_secs(30);
/// How long changes may take: what kubelet gives a pod to start.
pub(crate) const CHANGE: Duration = Duration::from_mins(4);

/// Both services of a daemon.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    runtime: RuntimeServiceClient<Channel>,
    images: ImageServiceClient<Channel>,
}

impl Client {
    /// Connects, or says why not.
    pub(crate) async fn connect(address: &Address) -> Result<Self, ClientError> {
        // The transport's own error does not tell "nobody there" from "not allowed".
        if let Err(error) = UnixStream::connect(address.path()).await {
            return Err(match error.kind() {
                ErrorKind::NotFound | ErrorKind::ConnectionRefused => ClientError::NoDaemon {
                    address: address.to_string(),
                    hint: "start one with insula serve",
                },
                ErrorKind::PermissionDenied => ClientError::NotAllowed {
                    address: address.to_string(),
                },
                _ => ClientError::Connection {
                    address: address.to_string(),
                    reason: error.to_string(),
                },
            });
        }
        let connection = |error: tonic::transport::Error| ClientError::Connection {
            address: address.to_string(),
            reason: one_line(&error),
        };
        let channel = Endpoint::from_shared(address.to_string())
            .map_err(connection)?
            .connect_timeout(QUESTION)
            .connect()
            .await
            .map_err(connection)?;
        Ok(Self {
            runtime: RuntimeServiceClient::new(channel.clone())
                .max_decoding_message_size(MAX_ANSWER),
            images: ImageServiceClient::new(channel).max_decoding_message_size(MAX_ANSWER),
        })
    }

    /// A handle on the runtime service; handles are cheap.
    pub(crate) fn runtime(&self) -> RuntimeServiceClient<Channel> {
        self.runtime.clone()
    }

    /// A handle on the image service.
    pub(crate) fn images(&self) -> ImageServiceClient<Channel> {
        self.images.clone()
    }

    pub(crate) async fn version(&self) -> Result<v1::VersionResponse, ClientError> {
        let request = v1::VersionRequest {
            version: "v1".into(),
        };
        answer(
            "ask for the version",
            QUESTION,
            self.runtime().version(request),
        )
        .await
    }

    pub(crate) async fn pods(
        &self,
        filter: Option<v1::PodSandboxFilter>,
    ) -> Result<Vec<v1::PodSandbox>, ClientError> {
        let request = v1::ListPodSandboxRequest { filter };
        let mut runtime = self.runtime();
        let list = answer("list pods", QUESTION, runtime.list_pod_sandbox(request));
        Ok(list.await?.items)
    }

    pub(crate) async fn containers(&self) -> Result<Vec<v1::Container>, ClientError> {
        let request = v1::ListContainersRequest { filter: None };
        let mut runtime = self.runtime();
        let list = answer(
            "list containers",
            QUESTION,
            runtime.list_containers(request),
        );
        Ok(list.await?.containers)
    }

    /// `info` is filled only if `verbose`.
    pub(crate) async fn container_status(
        &self,
        id: &str,
        verbose: bool,
    ) -> Result<v1::ContainerStatusResponse, ClientError> {
        let request = v1::ContainerStatusRequest {
            container_id: id.to_owned(),
            verbose,
        };
        answer(
            "ask for a container's state",
            QUESTION,
            self.runtime().container_status(request),
        )
        .await
    }

    /// `info` is filled only if `verbose`.
    pub(crate) async fn pod_status(
        &self,
        id: &str,
        verbose: bool,
    ) -> Result<v1::PodSandboxStatusResponse, ClientError> {
        let request = v1::PodSandboxStatusRequest {
            pod_sandbox_id: id.to_owned(),
            verbose,
        };
        answer(
            "ask for a pod's state",
            QUESTION,
            self.runtime().pod_sandbox_status(request),
        )
        .await
    }

    /// Waits for the container to stop; `grace` is in seconds.
    pub(crate) async fn stop_container(&self, id: &str, grace: u32) -> Result<(), ClientError> {
        let request = v1::StopContainerRequest {
            container_id: id.to_owned(),
            timeout: grace.into(),
        };
        answer(
            "stop the container",
            CHANGE + Duration::from_secs(grace.into()),
            self.runtime().stop_container(request),
        )
        .await
        .map(drop)
    }

    pub(crate) async fn remove_container(&self, id: &str) -> Result<(), ClientError> {
        let request = v1::RemoveContainerRequest {
            container_id: id.to_owned(),
        };
        answer(
            "remove the container",
            CHANGE,
            self.runtime().remove_container(request),
        )
        .await
        .map(drop)
    }

    pub(crate) async fn stop_pod(&self, id: &str) -> Result<(), ClientError> {
        let request = v1::StopPodSandboxRequest {
            pod_sandbox_id: id.to_owned(),
        };
        answer(
            "stop the pod",
            CHANGE,
            self.runtime().stop_pod_sandbox(request),
        )
        .await
        .map(drop)
    }

    pub(crate) async fn remove_pod(&self, id: &str) -> Result<(), ClientError> {
        let request = v1::RemovePodSandboxRequest {
            pod_sandbox_id: id.to_owned(),
        };
        answer(
            "remove the pod",
            CHANGE,
            self.runtime().remove_pod_sandbox(request),
        )
        .await
        .map(drop)
    }
}

/// Waits for an answer until a deadline. `doing` completes the sentence "cannot ...".
pub(crate) async fn answer<T>(
    doing: &str,
    limit: Duration,
    call: impl Future<Output = Result<Response<T>, Status>>,
) -> Result<T, ClientError> {
    match tokio::time::timeout(limit, call).await {
        Ok(Ok(response)) => Ok(response.into_inner()),
        Ok(Err(status)) => Err(ClientError::Refused {
            doing: doing.to_owned(),
            status: Box::new(status),
        }),
        Err(_) => Err(ClientError::Timeout {
            doing: doing.to_owned(),
            limit,
        }),
    }
}
