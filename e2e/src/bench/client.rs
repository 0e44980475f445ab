//! The client: the CRI calls that measurements are made of, each with a deadline.

use super::error::{Error, Result};
use insula_cri_api::v1;
use insula_cri_api::v1::image_service_client::ImageServiceClient;
use insula_cri_api::v1::runtime_service_client::RuntimeServiceClient;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tonic::transport::{Channel, Endpoint};

/// No call of the benchmark may take longer.
const DEADLINE: Duration = Duration::from_secs(120);
/// Lists of many pods are larger than the usual 4 MiB.
const MESSAGE_LIMIT: usize = 64 << 20;
/// Label of everything made here.
const LABEL: &str = "insula-bench";

/// How a pod is connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    /// By the CNI plugins, which are the same for every runtime.
    Bridge,
    /// The host's own.
    Host,
}

/// What a pod of the benchmark runs.
#[derive(Clone, Debug)]
pub struct Workload {
    /// The image, pulled before.
    pub image: String,
    /// The command line.
    pub command: Vec<String>,
    /// The directory in which each pod gets a log directory of its own.
    pub logs: PathBuf,
}

/// A running pod with its one container.
#[derive(Clone, Debug)]
pub struct Pod {
    /// Id of the sandbox.
    pub id: String,
    /// Id of the container.
    pub container: String,
    /// Where its log is.
    pub log: PathBuf,
    /// What the three calls took.
    pub phases: Phases,
}

/// What the three calls of a pod's start took.
#[derive(Clone, Copy, Debug, Default)]
pub struct Phases {
    /// RunPodSandbox.
    pub run: Duration,
    /// CreateContainer.
    pub create: Duration,
    /// StartContainer.
    pub start: Duration,
}

impl Phases {
    /// From nothing to a running workload.
    pub fn total(&self) -> Duration {
        self.run + self.create + self.start
    }
}

/// A connection to a runtime. Clones share it, as kubelet's calls do.
#[derive(Clone, Debug)]
pub struct Client {
    runtime: RuntimeServiceClient<Channel>,
    images: ImageServiceClient<Channel>,
    pods_made: Arc<AtomicUsize>,
}

fn failed(call: &'static str) -> impl FnOnce(tonic::Status) -> Error {
    move |status| Error::Call {
        call,
        status: Box::new(status),
    }
}

fn timed<T>(from: &mut Instant, answer: T) -> (T, Duration) {
    let now = Instant::now();
    let time = now.duration_since(*from);
    *from = now;
    (answer, time)
}

impl Client {
    /// Connects to `unix:///…`.
    pub async fn connect(endpoint: &str) -> Result<Self> {
        let trouble = |source| Error::Connect {
            endpoint: endpoint.to_owned(),
            source,
        };
        let channel = Endpoint::from_shared(endpoint.to_owned())
            .map_err(trouble)?
            .timeout(DEADLINE)
            .connect()
            .await
            .map_err(trouble)?;
        Ok(Self {
            runtime: RuntimeServiceClient::new(channel.clone())
                .max_decoding_message_size(MESSAGE_LIMIT),
            images: ImageServiceClient::new(channel),
            pods_made: Arc::default(),
        })
    }

    /// Name and version of the runtime.
    pub async fn version(&mut self) -> Result<String> {
        let answer = self
            .runtime
            .version(v1::VersionRequest::default())
            .await
            .map_err(failed("Version"))?
            .into_inner();
        Ok(format!(
            "{} {}",
            answer.runtime_name, answer.runtime_version
        ))
    }

    /// RunPodSandbox, CreateContainer, StartContainer: one pod with one container.
    ///
    /// A pod that does not come up whole is taken down again.
    pub async fn pod_up(&mut self, network: Network, workload: &Workload) -> Result<Pod> {
        let number = self.pods_made.fetch_add(1, Ordering::Relaxed);
        let name = format!("bench-{}-{number}", std::process::id());
        let logs = workload.logs.join(&name);
        std::fs::create_dir_all(&logs).map_err(|error| Error::file("cannot make", &logs, error))?;
        let sandbox = sandbox_config(&name, network, &logs);
        let mut clock = Instant::now();
        let answer = self
            .runtime
            .run_pod_sandbox(v1::RunPodSandboxRequest {
                config: Some(sandbox.clone()),
                ..Default::default()
            })
            .await
            .map_err(failed("RunPodSandbox"))?;
        let (answer, run) = timed(&mut clock, answer);
        let id = answer.into_inner().pod_sandbox_id;
        match self.container_up(&id, sandbox, network, workload).await {
            Ok((container, create, start)) => Ok(Pod {
                id,
                container,
                log: logs.join("0.log"),
                phases: Phases { run, create, start },
            }),
            Err(error) => {
                // What went wrong first is what is told.
                let _ = self.pod_down(&id).await;
                Err(error)
            }
        }
    }

    async fn container_up(
        &mut self,
        pod: &str,
        sandbox: v1::PodSandboxConfig,
        network: Network,
        workload: &Workload,
    ) -> Result<(String, Duration, Duration)> {
        let request = v1::CreateContainerRequest {
            pod_sandbox_id: pod.to_owned(),
            config: Some(container_config(network, workload)),
            sandbox_config: Some(sandbox),
        };
        let mut clock = Instant::now();
        let answer = self
            .runtime
            .create_container(request)
            .await
            .map_err(failed("CreateContainer"))?;
        let (answer, create) = timed(&mut clock, answer);
        let container = answer.into_inner().container_id;
        let answer = self
            .runtime
            .start_container(v1::StartContainerRequest {
                container_id: container.clone(),
            })
            .await
            .map_err(failed("StartContainer"))?;
        let (_, start) = timed(&mut clock, answer);
        Ok((container, create, start))
    }

    /// StopPodSandbox and RemovePodSandbox; the container goes with its pod.
    pub async fn pod_down(&mut self, id: &str) -> Result<Duration> {
        let clock = Instant::now();
        self.runtime
            .stop_pod_sandbox(v1::StopPodSandboxRequest {
                pod_sandbox_id: id.to_owned(),
            })
            .await
            .map_err(failed("StopPodSandbox"))?;
        self.runtime
            .remove_pod_sandbox(v1::RemovePodSandboxRequest {
                pod_sandbox_id: id.to_owned(),
            })
            .await
            .map_err(failed("RemovePodSandbox"))?;
        Ok(clock.elapsed())
    }

    /// Takes down every pod that this or an earlier benchmark made.
    pub async fn remove_all(&mut self) -> Result<()> {
        let filter = v1::PodSandboxFilter {
            label_selector: [(LABEL.to_owned(), "pod".to_owned())].into(),
            ..Default::default()
        };
        let answer = self
            .runtime
            .list_pod_sandbox(v1::ListPodSandboxRequest {
                filter: Some(filter),
            })
            .await
            .map_err(failed("ListPodSandbox"))?;
        for pod in answer.into_inner().items {
            self.pod_down(&pod.id).await?;
        }
        Ok(())
    }

    /// ExecSync of a command that must succeed; what it took.
    pub async fn exec(&mut self, container: &str, command: &[&str]) -> Result<Duration> {
        let clock = Instant::now();
        let answer = self
            .runtime
            .exec_sync(v1::ExecSyncRequest {
                container_id: container.to_owned(),
                cmd: command.iter().map(ToString::to_string).collect(),
                timeout: 60,
            })
            .await
            .map_err(failed("ExecSync"))?;
        let time = clock.elapsed();
        match answer.into_inner().exit_code {
            0 => Ok(time),
            code => Err(Error::Unexpected(format!(
                "ExecSync of {command:?} ended with exit code {code}"
            ))),
        }
    }

    /// ReopenContainerLog: the next line goes to a new file if the old one was moved away.
    pub async fn reopen_log(&mut self, container: &str) -> Result<()> {
        self.runtime
            .reopen_container_log(v1::ReopenContainerLogRequest {
                container_id: container.to_owned(),
            })
            .await
            .map_err(failed("ReopenContainerLog"))?;
        Ok(())
    }

    /// ListContainers: how many there are, and what the call took.
    pub async fn list_containers(&mut self) -> Result<(usize, Duration)> {
        let clock = Instant::now();
        let answer = self
            .runtime
            .list_containers(v1::ListContainersRequest::default())
            .await
            .map_err(failed("ListContainers"))?;
        Ok((answer.into_inner().containers.len(), clock.elapsed()))
    }

    /// ListContainerStats: of how many containers with a memory figure, and what the call took.
    pub async fn list_stats(&mut self) -> Result<(usize, Duration)> {
        let clock = Instant::now();
        let answer = self
            .runtime
            .list_container_stats(v1::ListContainerStatsRequest::default())
            .await
            .map_err(failed("ListContainerStats"))?;
        let time = clock.elapsed();
        let counted = answer.into_inner().stats;
        let counted = counted.iter().filter(|stats| stats.memory.is_some());
        Ok((counted.count(), time))
    }

    /// How many pods are listed as READY.
    pub async fn ready_pods(&mut self) -> Result<usize> {
        let answer = self
            .runtime
            .list_pod_sandbox(v1::ListPodSandboxRequest::default())
            .await
            .map_err(failed("ListPodSandbox"))?;
        let ready = v1::PodSandboxState::SandboxReady as i32;
        let pods = answer.into_inner().items;
        Ok(pods.iter().filter(|pod| pod.state == ready).count())
    }

    /// PullImage; what it took.
    pub async fn pull(&mut self, image: &str) -> Result<Duration> {
        let clock = Instant::now();
        self.images
            .pull_image(v1::PullImageRequest {
                image: Some(image_spec(image)),
                ..Default::default()
            })
            .await
            .map_err(failed("PullImage"))?;
        Ok(clock.elapsed())
    }

    /// RemoveImage, present or not.
    pub async fn remove_image(&mut self, image: &str) -> Result<()> {
        self.images
            .remove_image(v1::RemoveImageRequest {
                image: Some(image_spec(image)),
            })
            .await
            .map_err(failed("RemoveImage"))?;
        Ok(())
    }
}

fn image_spec(image: &str) -> v1::ImageSpec {
    v1::ImageSpec {
        image: image.to_owned(),
        ..Default::default()
    }
}

fn namespaces(network: Network) -> v1::NamespaceOption {
    v1::NamespaceOption {
        network: match network {
            Network::Bridge => v1::NamespaceMode::Pod,
            Network::Host => v1::NamespaceMode::Node,
        } as i32,
        pid: v1::NamespaceMode::Container as i32,
        ipc: v1::NamespaceMode::Pod as i32,
        ..Default::default()
    }
}

fn sandbox_config(name: &str, network: Network, logs: &Path) -> v1::PodSandboxConfig {
    v1::PodSandboxConfig {
        metadata: Some(v1::PodSandboxMetadata {
            name: name.to_owned(),
            uid: format!("{name}-uid"),
            namespace: "bench".to_owned(),
            attempt: 0,
        }),
        // A pod on the host's network has the host's name.
        hostname: match network {
            Network::Bridge => name.to_owned(),
            Network::Host => String::new(),
        },
        log_directory: logs.to_string_lossy().into_owned(),
        labels: [(LABEL.to_owned(), "pod".to_owned())].into(),
        linux: Some(v1::LinuxPodSandboxConfig {
            security_context: Some(v1::LinuxSandboxSecurityContext {
                namespace_options: Some(namespaces(network)),
                ..Default::default()
            }),
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// The container as kubelet asks for one of a best-effort pod.
fn container_config(network: Network, workload: &Workload) -> v1::ContainerConfig {
    v1::ContainerConfig {
        metadata: Some(v1::ContainerMetadata {
            name: "main".to_owned(),
            attempt: 0,
        }),
        image: Some(image_spec(&workload.image)),
        command: workload.command.clone(),
        log_path: "0.log".to_owned(),
        labels: [(LABEL.to_owned(), "container".to_owned())].into(),
        linux: Some(v1::LinuxContainerConfig {
            resources: Some(v1::LinuxContainerResources {
                cpu_period: 100_000,
                cpu_shares: 2,
                oom_score_adj: 1000,
                ..Default::default()
            }),
            security_context: Some(v1::LinuxContainerSecurityContext {
                namespace_options: Some(namespaces(network)),
                ..Default::default()
            }),
        }),
        ..Default::default()
    }
}
