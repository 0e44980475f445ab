//! A daemon that a command starts by itself.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::address::Address;
use super::connection::Client;
use super::error::ClientError;
use crate::cli::Embedded;

/// How long a daemon may take to answer after its start.
const READY: Duration = Duration::from_secs(10);
/// How long a daemon may take to end after SIGTERM.
const GONE: Duration = Duration::from_secs(10);
/// How often to look.
const TICK: Duration = Duration::from_millis(10);
/// How much of the end of its log is read for an error, in bytes.
const EXCERPT: u64 = 4096;

/// A child process `insula serve`.
#[derive(Debug)]
pub(crate) struct Daemon {
    child: Child,
    log: PathBuf,
    /// Where in the log this daemon begins; before it are the words of earlier ones.
    log_start: u64,
}

/// Starts a daemon and waits until it answers.
///
/// It is in a process group of its own, so that a Ctrl-C meant for the command does not reach it.
/// When another command was faster, that one's daemon is used and this one's has ended: the
/// daemon's lock on its directories decides.
pub(crate) async fn start(
    address: &Address,
    place: &Embedded,
) -> Result<(Client, Option<Daemon>), ClientError> {
    if !rustix::process::geteuid().is_root() {
        return Err(ClientError::NoDaemon {
            address: address.to_string(),
            hint: "run this command as root, so that it can start one",
        });
    }
    let mut daemon = spawn(address, place)?;
    let started = Instant::now();
    loop {
        if let Ok(client) = Client::connect(address).await
            && client.version().await.is_ok()
        {
            let ours = daemon.ended()?.is_none();
            return Ok((client, ours.then_some(daemon)));
        }
        if let Some(how) = daemon.ended()? {
            // The other daemon may need a moment longer than ours took to give up.
            if started.elapsed() < Duration::from_secs(1) && !address_is_free(address) {
                tokio::time::sleep(TICK).await;
                continue;
            }
            return Err(daemon.failed(format!("ended with {how}")));
        }
        if started.elapsed() > READY {
            let error = daemon.failed(format!("did not answer within {} s", READY.as_secs()));
            daemon.stop().await?;
            return Err(error);
        }
        tokio::time::sleep(TICK).await;
    }
}

fn address_is_free(address: &Address) -> bool {
    !address.path().exists()
}

fn spawn(address: &Address, place: &Embedded) -> Result<Daemon, ClientError> {
    let program = std::env::current_exe()
        .map_err(ClientError::file("find this program, to start a daemon"))?;
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o711)
        .create(&place.state)
        .map_err(ClientError::file(format!("make {}", place.state.display())))?;
    let log = place.state.join("daemon.log");
    let output = File::options()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(&log)
        .map_err(ClientError::file(format!("open {}", log.display())))?;
    let log_start = output
        .metadata()
        .map_err(ClientError::file(format!("read {}", log.display())))?
        .len();
    let errors = output
        .try_clone()
        .map_err(ClientError::file("copy a file descriptor"))?;

    let mut command = Command::new(program);
    command
        .arg("serve")
        .arg("--listen")
        .arg(address.to_string());
    command.arg("--state").arg(&place.state);
    for (option, value) in [("--config", &place.config), ("--root", &place.root)] {
        if let Some(value) = value {
            command.arg(option).arg(value);
        }
    }
    let child = command
        .stdin(Stdio::null())
        .stdout(output)
        .stderr(errors)
        .process_group(0)
        .spawn()
        .map_err(ClientError::file("start a daemon"))?;
    Ok(Daemon {
        child,
        log,
        log_start,
    })
}

impl Daemon {
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it has.
    fn ended(&mut self) -> Result<Option<String>, ClientError> {
        let status = self
            .child
            .try_wait()
            .map_err(ClientError::file("ask whether the daemon has ended"))?;
        Ok(status.map(|status| status.to_string()))
    }

    fn failed(&self, what: String) -> ClientError {
        ClientError::Embedded {
            what,
            log: last_words(&self.log, self.log_start),
        }
    }

    /// Ends the daemon and removes its log.
    pub(crate) async fn stop(mut self) -> Result<(), ClientError> {
        if self.ended()?.is_none() {
            let pid = Pid::from_child(&self.child);
            kill_process(pid, Signal::TERM)
                .map_err(|errno| ClientError::file("stop the daemon")(errno.into()))?;
        }
        let asked = Instant::now();
        while self.ended()?.is_none() {
            if asked.elapsed() > GONE {
                self.child
                    .kill()
                    .map_err(ClientError::file("kill the daemon"))?;
            }
            tokio::time::sleep(TICK).await;
        }
        // Nothing to report if it is not there: the daemon may own its state directory whole.
        let _ = fs::remove_file(&self.log);
        Ok(())
    }
}

/// The end of the daemon's log; empty if it cannot be read.
fn last_words(log: &Path, start: u64) -> String {
    let read = || {
        let mut file = File::open(log)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(start.max(length.saturating_sub(EXCERPT))))?;
        let mut text = Vec::new();
        file.take(EXCERPT).read_to_end(&mut text)?;
        io::Result::Ok(text)
    };
    String::from_utf8_lossy(&read().unwrap_or_default()).into_owned()
}
