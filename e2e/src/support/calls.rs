//! Requests in few words.

use super::node::Node;
use super::outcome::{Outcome, Stop};
use super::requests::{BUSYBOX, image};
use insula_cri_api::v1::{
    Container, ContainerConfig, ContainerState, ContainerStatus, ContainerStatusRequest,
    CreateContainerRequest, ExecSyncRequest, LinuxContainerResources, ListContainersRequest,
    ListPodSandboxRequest, PodSandbox, PodSandboxConfig, PodSandboxStatus, PodSandboxStatusRequest,
    PullImageRequest, RemoveContainerRequest, RemovePodSandboxRequest, RunPodSandboxRequest,
    StartContainerRequest, StopContainerRequest, StopPodSandboxRequest,
    UpdateContainerResourcesRequest,
};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use tonic::{Code, Response, Status};

/// How long a container that is to end by itself may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// A pod that runs.
#[derive(Debug, Clone)]
pub struct Pod {
    /// Its id.
    pub id: String,
    /// What was asked for.
    pub config: PodSandboxConfig,
}

/// What a command said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exec {
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
    /// Exit code.
    pub code: i32,
}

/// The error of a request that must be refused, "Code: message".
pub fn refusal<T>(answer: Result<Response<T>, Status>) -> Outcome<String> {
    match answer {
        Ok(_) => Err("the request succeeded, although it must be refused".into()),
        Err(status)
            if status.code() == Code::Unavailable && status.message().contains("transport") =>
        {
            Err(Stop::from(status))
        }
        Err(status) => Ok(format!("{:?}: {}", status.code(), status.message())),
    }
}

// === impl Node ===

impl Node {
    /// Pulls an image; gives back its id.
    pub async fn pull(&self, reference: &str) -> Outcome<String> {
        let request = PullImageRequest {
            image: Some(image(reference)),
            ..PullImageRequest::default()
        };
        let answer = self.images()?.pull_image(request).await;
        let answer =
            answer.map_err(|status| Stop::from(status).within(format!("pull {reference}")))?;
        Ok(answer.into_inner().image_ref)
    }

    /// Runs a pod whose logs go to a directory of the node.
    pub async fn run_pod(&self, mut config: PodSandboxConfig) -> Outcome<Pod> {
        self.prepare(&mut config);
        let request = RunPodSandboxRequest {
            config: Some(config.clone()),
            runtime_handler: self.handler.clone(),
        };
        let answer = self.runtime()?.run_pod_sandbox(request).await;
        let answer = answer.map_err(|status| Stop::from(status).within("run a pod"))?;
        Ok(Pod {
            id: answer.into_inner().pod_sandbox_id,
            config,
        })
    }

    /// The refusal of a pod.
    pub async fn refused_pod(&self, mut config: PodSandboxConfig) -> Outcome<String> {
        self.prepare(&mut config);
        let request = RunPodSandboxRequest {
            config: Some(config),
            runtime_handler: self.handler.clone(),
        };
        refusal(self.runtime()?.run_pod_sandbox(request).await)
    }

    /// The configuration that a pod was made from which another request has made.
    pub fn adopted(&self, mut config: PodSandboxConfig) -> PodSandboxConfig {
        self.prepare(&mut config);
        config
    }

    fn prepare(&self, config: &mut PodSandboxConfig) {
        if config.log_directory.is_empty() {
            let name = config
                .metadata
                .as_ref()
                .map_or("pod", |metadata| metadata.name.as_str());
            config.log_directory = self.path("logs").join(name).to_string_lossy().into_owned();
        }
    }

    /// Creates a container.
    pub async fn create(&self, pod: &Pod, config: ContainerConfig) -> Outcome<String> {
        let answer = self
            .runtime()?
            .create_container(create_request(pod, config))
            .await;
        let answer = answer.map_err(|status| Stop::from(status).within("create a container"))?;
        Ok(answer.into_inner().container_id)
    }

    /// The refusal of a container, when it is created or when it is started.
    pub async fn refused_container(&self, pod: &Pod, config: ContainerConfig) -> Outcome<String> {
        let mut runtime = self.runtime()?;
        match runtime.create_container(create_request(pod, config)).await {
            Ok(created) => {
                let container_id = created.into_inner().container_id;
                refusal(
                    runtime
                        .start_container(StartContainerRequest { container_id })
                        .await,
                )
            }
            refused => refusal(refused),
        }
    }

    /// Starts a container.
    pub async fn start_container(&self, id: &str) -> Outcome {
        let request = StartContainerRequest {
            container_id: id.to_owned(),
        };
        let answer = self.runtime()?.start_container(request).await;
        answer.map_err(|status| Stop::from(status).within("start a container"))?;
        Ok(())
    }

    /// Creates and starts a container of an image that is pulled if need be.
    pub async fn run(&self, pod: &Pod, config: ContainerConfig) -> Outcome<String> {
        let reference = config
            .image
            .as_ref()
            .map_or(BUSYBOX, |image| image.image.as_str());
        // Quick when it is here already.
        self.pull(reference).await?;
        let id = self.create(pod, config).await?;
        self.start_container(&id).await?;
        Ok(id)
    }

    /// Runs a container to its end in a pod; gives back its status and output.
    pub async fn finish(
        &self,
        pod: &Pod,
        config: ContainerConfig,
    ) -> Outcome<(ContainerStatus, String)> {
        let id = self.run(pod, config).await?;
        let status = self.wait_for_end(&id).await?;
        let output = self.stdout(&id).await?;
        Ok((status, output))
    }

    /// Waits until a container has ended.
    pub async fn wait_for_end(&self, id: &str) -> Outcome<ContainerStatus> {
        let begun = Instant::now();
        loop {
            let status = self.container_status(id).await?;
            if status.state() == ContainerState::ContainerExited {
                return Ok(status);
            }
            if begun.elapsed() > PATIENCE {
                return Err(
                    format!("container {id} is {:?} after {PATIENCE:?}", status.state()).into(),
                );
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// A container's status.
    pub async fn container_status(&self, id: &str) -> Outcome<ContainerStatus> {
        Ok(self.container_status_and_info(id).await?.0)
    }

    /// A container's status and what is told to people.
    pub async fn container_status_and_info(
        &self,
        id: &str,
    ) -> Outcome<(ContainerStatus, BTreeMap<String, String>)> {
        let request = ContainerStatusRequest {
            container_id: id.to_owned(),
            verbose: true,
        };
        let answer = self
            .runtime()?
            .container_status(request)
            .await?
            .into_inner();
        Ok((
            answer.status.ok_or("the answer has no status")?,
            answer.info,
        ))
    }

    /// A pod's status.
    pub async fn pod_status(&self, id: &str) -> Outcome<PodSandboxStatus> {
        Ok(self.pod_status_and_info(id).await?.0)
    }

    /// A pod's status and what is told to people.
    pub async fn pod_status_and_info(
        &self,
        id: &str,
    ) -> Outcome<(PodSandboxStatus, BTreeMap<String, String>)> {
        let request = PodSandboxStatusRequest {
            pod_sandbox_id: id.to_owned(),
            verbose: true,
        };
        let answer = self
            .runtime()?
            .pod_sandbox_status(request)
            .await?
            .into_inner();
        Ok((
            answer.status.ok_or("the answer has no status")?,
            answer.info,
        ))
    }

    /// The process id of a pod's supervisor.
    pub async fn supervisor(&self, pod: &Pod) -> Outcome<i32> {
        let (_, info) = self.pod_status_and_info(&pod.id).await?;
        number(&info, "pid")
    }

    /// The host's process id of a container's first process.
    pub async fn pid(&self, container: &str) -> Outcome<i32> {
        let (_, info) = self.container_status_and_info(container).await?;
        number(&info, "pid")
    }

    /// All pods.
    pub async fn pods(&self) -> Outcome<Vec<PodSandbox>> {
        let list = self
            .runtime()?
            .list_pod_sandbox(ListPodSandboxRequest::default())
            .await?;
        Ok(list.into_inner().items)
    }

    /// All containers.
    pub async fn containers(&self) -> Outcome<Vec<Container>> {
        let list = self
            .runtime()?
            .list_containers(ListContainersRequest::default())
            .await?;
        Ok(list.into_inner().containers)
    }

    /// Runs a command in a container.
    pub async fn exec(&self, id: &str, command: &[&str]) -> Outcome<Exec> {
        let answer = self
            .runtime()?
            .exec_sync(exec_request(id, command, 30))
            .await;
        let answer = answer
            .map_err(|status| Stop::from(status).within(format!("exec {command:?}")))?
            .into_inner();
        Ok(Exec {
            stdout: String::from_utf8_lossy(&answer.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&answer.stderr).into_owned(),
            code: answer.exit_code,
        })
    }

    /// What a script in a container prints; it must succeed.
    pub async fn shell(&self, id: &str, script: &str) -> Outcome<String> {
        let ran = self.exec(id, &["sh", "-c", script]).await?;
        if ran.code != 0 {
            return Err(format!(
                "{script:?} ended with {}: {}{}",
                ran.code, ran.stdout, ran.stderr
            )
            .into());
        }
        Ok(ran.stdout)
    }

    /// New limits for a container; the refusal as it came.
    pub async fn update(&self, id: &str, linux: LinuxContainerResources) -> Result<(), Status> {
        let request = UpdateContainerResourcesRequest {
            container_id: id.to_owned(),
            linux: Some(linux),
            ..UpdateContainerResourcesRequest::default()
        };
        let mut runtime = self
            .runtime()
            .map_err(|stop| Status::internal(stop.text()))?;
        runtime.update_container_resources(request).await.map(drop)
    }

    /// Stops a container.
    pub async fn stop(&self, id: &str, timeout: i64) -> Outcome {
        let request = StopContainerRequest {
            container_id: id.to_owned(),
            timeout,
        };
        let answer = self.runtime()?.stop_container(request).await;
        answer.map_err(|status| Stop::from(status).within("stop a container"))?;
        Ok(())
    }

    /// Removes a container.
    pub async fn remove(&self, id: &str) -> Outcome {
        let request = RemoveContainerRequest {
            container_id: id.to_owned(),
        };
        let answer = self.runtime()?.remove_container(request).await;
        answer.map_err(|status| Stop::from(status).within("remove a container"))?;
        Ok(())
    }

    /// Stops a pod.
    pub async fn stop_pod(&self, id: &str) -> Outcome {
        let request = StopPodSandboxRequest {
            pod_sandbox_id: id.to_owned(),
        };
        let answer = self.runtime()?.stop_pod_sandbox(request).await;
        answer.map_err(|status| Stop::from(status).within("stop a pod"))?;
        Ok(())
    }

    /// Removes a pod.
    pub async fn remove_pod(&self, id: &str) -> Outcome {
        let request = RemovePodSandboxRequest {
            pod_sandbox_id: id.to_owned(),
        };
        let answer = self.runtime()?.remove_pod_sandbox(request).await;
        answer.map_err(|status| Stop::from(status).within("remove a pod"))?;
        Ok(())
    }

    /// Where a container's log is.
    pub async fn log_path(&self, container: &str) -> Outcome<PathBuf> {
        Ok(PathBuf::from(
            self.container_status(container).await?.log_path,
        ))
    }
}

/// The request that makes a container.
pub fn create_request(pod: &Pod, config: ContainerConfig) -> CreateContainerRequest {
    CreateContainerRequest {
        pod_sandbox_id: pod.id.clone(),
        config: Some(config),
        sandbox_config: Some(pod.config.clone()),
    }
}

/// The request that runs a command; without a deadline for 0 seconds.
pub fn exec_request(id: &str, command: &[&str], timeout: i64) -> ExecSyncRequest {
    ExecSyncRequest {
        container_id: id.to_owned(),
        cmd: command.iter().map(|word| (*word).to_owned()).collect(),
        timeout,
    }
}

fn number(info: &BTreeMap<String, String>, key: &str) -> Outcome<i32> {
    let text = info
        .get(key)
        .ok_or_else(|| format!("the verbose answer has no {key:?}: {info:?}"))?;
    Ok(text.parse::<i32>()?)
}
