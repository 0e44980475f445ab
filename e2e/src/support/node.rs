//! A node of its own for each test: directories, network, cgroup, configuration, daemon.

use super::cgroup;
use super::daemon::{Daemon, Files};
use super::network::Network;
use super::outcome::{Outcome, Stop};
use super::proof;
use super::world::World;
use insula_cri_api::v1::image_service_client::ImageServiceClient;
use insula_cri_api::v1::runtime_service_client::RuntimeServiceClient;
use insula_cri_api::v1::{ListPodSandboxRequest, RemovePodSandboxRequest, StopPodSandboxRequest};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;
use tonic::transport::Channel;

/// How much of the daemon's log a failure shows, in bytes.
const LOG_TAIL: usize = 6 << 10;
/// How long a command of a client may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Names an external runtime that all pods are run with.
const HANDLER: &str = "INSULA_E2E_HANDLER";

/// The program of an external runtime: one that `hack/peers/runtimes` has built, or Debian's.
pub fn external_runtime(name: &str) -> Option<PathBuf> {
    let built = std::env::var_os("INSULA_RUNTIMES").map(PathBuf::from);
    [built, Some("/usr/bin".into())]
        .into_iter()
        .flatten()
        .map(|directory| directory.join(name))
        .find(|program| program.exists())
}

/// One daemon and everything that belongs to it.
#[derive(Debug)]
pub struct Node {
    /// What all tests share.
    pub world: Arc<World>,
    /// Name of the node, its network, its bridge and its cgroup.
    pub name: String,
    /// Holds everything of the node.
    pub directory: PathBuf,
    /// Its network.
    pub network: Network,
    /// Runtime handler of its pods; empty is the default.
    pub handler: String,
    daemon: Option<Daemon>,
}

// === impl Node ===

impl Node {
    /// Makes the directories and writes the configuration; nothing runs yet.
    pub fn new(world: &Arc<World>, test: &str) -> Outcome<Self> {
        let number = world.number();
        // An interface's name holds 15 bytes.
        let name = format!(
            "ie2e-{:05x}-{:03x}",
            std::process::id() & 0xf_ffff,
            number & 0xfff
        );
        let directory = world.scratch.join(&name);
        std::fs::create_dir(&directory)?;
        for part in ["root", "state", "cni", "certs.d", "logs", "volumes"] {
            std::fs::create_dir(directory.join(part))?;
        }
        std::fs::write(directory.join("test"), test)?;
        let node = Self {
            world: Arc::clone(world),
            network: Network::free(&name, number)?,
            handler: String::new(),
            daemon: None,
            directory,
            name,
        };
        node.write_network()?;
        std::fs::write(node.path("config.toml"), node.configuration())?;
        // To run any test with an external runtime; not all are meant for that.
        match std::env::var(HANDLER) {
            Ok(name) => {
                let path =
                    external_runtime(&name).ok_or(format!("there is no runtime {name:?}"))?;
                node.add_handler(&name, &path)?;
                Ok(Self {
                    handler: name,
                    ..node
                })
            }
            Err(_) => Ok(node),
        }
    }

    /// A path of the node.
    pub fn path(&self, below: impl AsRef<Path>) -> PathBuf {
        self.directory.join(below)
    }

    /// The daemon's configuration, as its file has it.
    pub fn configuration(&self) -> String {
        let at = |below: &str| format!("{:?}", self.path(below));
        format!(
            "listen = \"unix://{}\"\nroot = {}\nstate = {}\n\n\
             [cni]\nconf_dir = {}\nbin_dirs = [{}, \"/usr/lib/cni\", \"/opt/cni/bin\"]\n\
             default_network = false\n\n\
             [registry]\nconfig_path = [{}, {:?}]\n\n\
             [cgroup]\ndriver = {:?}\nparent = {:?}\n\n\
             [cdi]\nspec_dirs = [{}, {}]\n\n\
             [log]\nlevel = \"debug\"\n",
            self.path("state/insula.sock").display(),
            at("root"),
            at("state"),
            at("cni"),
            at("plugins"),
            at("certs.d"),
            self.world.mirrors,
            cgroup::driver(),
            self.name,
            at("cdi/static"),
            at("cdi/dynamic"),
        )
    }

    /// Adds a handler that is an external runtime to the configuration, for the next start of the
    /// daemon.
    pub fn add_handler(&self, name: &str, program: &Path) -> Outcome {
        let file = self.path("config.toml");
        let before = std::fs::read_to_string(&file)?;
        let section = format!("\n[runtimes.{name}]\ntype = \"oci\"\npath = {program:?}\n");
        Ok(std::fs::write(file, before + &section)?)
    }

    /// Writes the CNI configuration that nodes have by default.
    pub fn write_network(&self) -> Outcome {
        let configuration = self.network.configuration(&self.path("addresses"));
        self.write_network_file(&configuration)
    }

    /// Writes another CNI configuration.
    pub fn write_network_file(&self, configuration: &serde_json::Value) -> Outcome {
        // Renamed into place, as a network add-on does it.
        let (new, file) = (self.path("cni/.new"), self.path("cni/10-insula.conflist"));
        std::fs::write(&new, configuration.to_string())?;
        Ok(std::fs::rename(new, file)?)
    }

    /// Starts the daemon and waits until it answers.
    pub async fn start(&mut self) -> Outcome {
        let (program, config) = (self.world.binaries.join("insula"), self.path("config.toml"));
        let (log, socket) = (self.path("log"), self.path("state/insula.sock"));
        let files = Files {
            program: &program,
            config: &config,
            log: &log,
            socket: &socket,
        };
        self.daemon = Some(Daemon::start(files).await?);
        Ok(())
    }

    /// Starts a daemon that must end at once because it cannot serve; why is in the log.
    pub async fn refused_start(&self) -> Outcome {
        let (program, config) = (self.world.binaries.join("insula"), self.path("config.toml"));
        let (log, socket) = (self.path("log"), self.path("state/insula.sock"));
        let files = Files {
            program: &program,
            config: &config,
            log: &log,
            socket: &socket,
        };
        let status = Daemon::refused(files).await?;
        if status.success() {
            Err("the daemon that must not serve ended well".into())
        } else {
            Ok(())
        }
    }

    /// Kills the daemon with SIGKILL.
    pub fn kill(&mut self) -> Outcome {
        self.daemon.take().ok_or("the daemon does not run")?.kill()
    }

    /// Ends the daemon by SIGTERM.
    pub async fn terminate(&mut self) -> Outcome {
        self.daemon
            .take()
            .ok_or("the daemon does not run")?
            .terminate()
            .await
    }

    /// Kills the daemon and starts it again.
    pub async fn restart(&mut self) -> Outcome {
        self.kill()?;
        self.start().await
    }

    /// The running daemon.
    pub fn daemon(&self) -> Outcome<&Daemon> {
        self.daemon
            .as_ref()
            .ok_or_else(|| "the daemon does not run".into())
    }

    /// A client of the RuntimeService.
    pub fn runtime(&self) -> Outcome<RuntimeServiceClient<Channel>> {
        Ok(self.daemon()?.runtime())
    }

    /// A client of the ImageService.
    pub fn images(&self) -> Outcome<ImageServiceClient<Channel>> {
        Ok(self.daemon()?.images())
    }

    /// What the `insula` command prints when it is given these words and this node's daemon; it
    /// must end with `code`.
    pub async fn insula(&self, words: &[&str], code: i32) -> Outcome<String> {
        let mut command = tokio::process::Command::new(self.world.binaries.join("insula"));
        let socket = self.path("state/insula.sock");
        command
            .arg(format!("--address=unix://{}", socket.display()))
            .args(words)
            .stdin(Stdio::null())
            .kill_on_drop(true);
        let output = tokio::time::timeout(PATIENCE, command.output())
            .await
            .map_err(|_| format!("insula {words:?} did not end in {PATIENCE:?}"))??;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if output.status.code() != Some(code) {
            let (out, error) = (text(&output.stdout), text(&output.stderr));
            let status = output.status;
            return Err(format!("insula {words:?} ended with {status}: {out}{error}").into());
        }
        Ok(text(&output.stdout) + &text(&output.stderr))
    }

    /// The daemon's log so far.
    pub fn log(&self) -> String {
        std::fs::read(self.path("log")).map_or_else(
            |_| String::new(),
            |log| String::from_utf8_lossy(&log).into_owned(),
        )
    }

    /// The end of the daemon's log.
    pub fn log_tail(&self) -> String {
        let log = self.log();
        let start = log.len().saturating_sub(LOG_TAIL);
        let start = (start..=log.len())
            .find(|at| log.is_char_boundary(*at))
            .unwrap_or(log.len());
        log[start..].to_owned()
    }

    /// Removes all pods, ends the daemon, and proves that nothing is left. What is left is an error
    /// and is then taken away, too.
    pub async fn take_down(&mut self) -> Outcome {
        let ended = self.end().await;
        let left = proof::left(self).await;
        let clean = ended.is_ok() && left.is_empty();
        proof::remove(self);
        if clean {
            std::fs::remove_dir_all(&self.directory)?;
            return Ok(());
        }
        let mut problems: Vec<_> = ended
            .err()
            .map(|stop| stop.text().to_owned())
            .into_iter()
            .collect();
        problems.extend(left.iter().map(|thing| format!("left behind: {thing}")));
        Err(Stop::Failed(problems.join("\n")))
    }

    async fn end(&mut self) -> Outcome {
        if self.daemon.is_none() {
            self.start().await?;
        }
        let mut first = Ok(());
        let mut runtime = self.runtime()?;
        let pods = runtime
            .list_pod_sandbox(ListPodSandboxRequest::default())
            .await;
        let pods = pods
            .map(|list| list.into_inner().items)
            .map_err(|status| Stop::from(status).within("list the pods at the end"))?;
        for pod in pods {
            let (pod_sandbox_id, again) = (pod.id.clone(), pod.id);
            let stopped = runtime
                .stop_pod_sandbox(StopPodSandboxRequest { pod_sandbox_id })
                .await;
            let removal = RemovePodSandboxRequest {
                pod_sandbox_id: again,
            };
            let removed = runtime.remove_pod_sandbox(removal).await.map(drop);
            if let Err(status) = stopped.map(drop).and(removed) {
                first = first.and(Err(Stop::from(status).within("take a pod down at the end")));
            }
        }
        first.and(self.terminate().await)
    }
}
