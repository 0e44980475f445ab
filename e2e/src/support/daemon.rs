//! A running `insula serve`.

use super::outcome::Outcome;
use insula_cri_api::v1::VersionRequest;
use insula_cri_api::v1::image_service_client::ImageServiceClient;
use insula_cri_api::v1::runtime_service_client::RuntimeServiceClient;
use std::fs::File;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};
use tonic::transport::{Channel, Endpoint};

/// How long a daemon may take to answer after its start, or to end after SIGTERM.
const PATIENCE: Duration = Duration::from_secs(20);
/// Largest answer that is taken: two streams of 16 MiB and a little more.
const MAX_MESSAGE: usize = 64 << 20;

/// The process and the connection to it.
#[derive(Debug)]
pub struct Daemon {
    process: Child,
    channel: Channel,
}

/// The files of a daemon.
#[derive(Debug, Clone, Copy)]
pub struct Files<'a> {
    /// `insula`.
    pub program: &'a Path,
    /// Its configuration.
    pub config: &'a Path,
    /// Its output, appended.
    pub log: &'a Path,
    /// Its socket.
    pub socket: &'a Path,
}

// === impl Daemon ===

impl Daemon {
    /// Starts one and waits until it answers.
    pub async fn start(files: Files<'_>) -> Outcome<Self> {
        let begun = Instant::now();
        let mut daemon = Self {
            process: spawn(files)?,
            channel: channel(files.socket)?,
        };
        loop {
            if daemon
                .runtime()
                .version(VersionRequest::default())
                .await
                .is_ok()
            {
                return Ok(daemon);
            }
            if let Some(status) = daemon.process.try_wait()? {
                return Err(format!("the daemon ended at its start: {status}").into());
            }
            if begun.elapsed() > PATIENCE {
                return Err(
                    format!("the daemon does not answer {PATIENCE:?} after its start").into(),
                );
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Starts one that must refuse to serve; gives back what it ends with.
    pub async fn refused(files: Files<'_>) -> Outcome<ExitStatus> {
        let mut process = spawn(files)?;
        let status = ended(&mut process).await?;
        status.ok_or_else(|| "the daemon serves, although it must not".into())
    }

    /// A client of the RuntimeService.
    pub fn runtime(&self) -> RuntimeServiceClient<Channel> {
        RuntimeServiceClient::new(self.channel.clone()).max_decoding_message_size(MAX_MESSAGE)
    }

    /// A client of the ImageService.
    pub fn images(&self) -> ImageServiceClient<Channel> {
        ImageServiceClient::new(self.channel.clone()).max_decoding_message_size(MAX_MESSAGE)
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// SIGKILL.
    pub fn kill(mut self) -> Outcome {
        self.process.kill()?;
        self.process.wait()?;
        Ok(())
    }

    /// SIGTERM, and the wait for its end.
    pub async fn terminate(mut self) -> Outcome {
        self.signal(rustix::process::Signal::TERM)?;
        let Some(status) = ended(&mut self.process).await? else {
            self.process.kill()?;
            self.process.wait()?;
            return Err(format!("the daemon did not end within {PATIENCE:?} of SIGTERM").into());
        };
        if status.success() {
            Ok(())
        } else {
            Err(format!("the daemon ended with {status}").into())
        }
    }

    /// Any other signal.
    pub fn signal(&self, signal: rustix::process::Signal) -> Outcome {
        let pid = rustix::process::Pid::from_child(&self.process);
        Ok(rustix::process::kill_process(pid, signal)?)
    }
}

/// A connection that is made when it is used, and again when it breaks.
pub fn channel(socket: &Path) -> Outcome<Channel> {
    let endpoint = Endpoint::from_shared(format!("unix://{}", socket.display()))?;
    Ok(endpoint
        .connect_timeout(Duration::from_secs(5))
        .connect_lazy())
}

fn spawn(files: Files<'_>) -> Outcome<Child> {
    let log = File::options().create(true).append(true).open(files.log)?;
    let child = Command::new(files.program)
        .arg("serve")
        .arg("--config")
        .arg(files.config)
        .stdin(std::process::Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        // A Ctrl-C is for the suite, which then takes the daemon down.
        .process_group(0)
        .spawn()
        .map_err(|error| format!("{}: {error}", files.program.display()))?;
    Ok(child)
}

async fn ended(process: &mut Child) -> Outcome<Option<ExitStatus>> {
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE {
        if let Some(status) = process.try_wait()? {
            return Ok(Some(status));
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(None)
}
