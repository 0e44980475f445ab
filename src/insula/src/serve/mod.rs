//! `insula serve`: puts the rooms together and serves the CRI until SIGTERM.
//!
//! ```text
//! configuration ─► log ─► directories, lock ─► images, network, pods (all records read)
//!      ─► socket ─► READY ─► serving ──SIGHUP──► reload
//!                              └──SIGTERM, SIGINT──► STOPPING ─► calls in flight end
//! ```
//! Pods, their logs and exit codes live in their supervisors: the end of this
//! process, however it comes, ends none of them.

mod args;
mod config;
pub(crate) mod handlers;
mod logging;
mod metrics;
mod notify;
mod place;
mod pulls;
mod reload;
mod streaming;
mod wiring;

pub(crate) use args::Args;
pub(crate) use config::Runtimes;

use args::ArgsError;
use config::{Address, Config, Loaded};
use logging::LevelHandle;
use notify::{State, notify};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use wiring::Rooms;

/// How long calls in flight may go on after SIGTERM.
const GRACE: Duration = Duration::from_secs(5);
/// How long work behind the scenes may go on after that.
const SETTLE: Duration = Duration::from_secs(3);
/// Threads that answer calls; what blocks has threads of its own.
const WORKERS: std::ops::RangeInclusive<usize> = 2..=4;

/// Why the daemon did not start or did not end well.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// Flags or files.
    #[error(transparent)]
    Args(#[from] ArgsError),
    /// Directories, lock or socket.
    #[error(transparent)]
    Place(#[from] place::PlaceError),
    /// Images.
    #[error("images: {0}")]
    Images(#[from] insula_images::Error),
    /// Network.
    #[error("network: {0}")]
    Network(#[from] insula_network::Error),
    /// Pods.
    #[error("pods: {0}")]
    Pods(#[from] insula_pods::Error),
    /// Serving.
    #[error(transparent)]
    Serve(#[from] insula_server::listen::ServeError),
    /// Exec, attach and port-forward.
    #[error("streaming: {0}")]
    Streaming(#[from] insula_streaming::ServerError),
    /// Anything else of the system.
    #[error("{what}: {problem}")]
    System {
        /// What was being done.
        what: &'static str,
        /// What went wrong.
        problem: String,
    },
}

/// Signals that a daemon acts on.
struct Signals {
    hangup: Signal,
    terminate: Signal,
    interrupt: Signal,
}

/// Serves until SIGTERM.
pub(crate) fn main(args: &Args) -> ExitCode {
    match start(args) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("insula serve: {error}");
            ExitCode::FAILURE
        }
    }
}

/// What `insula doctor` shows when no daemon answers: this host, seen with the
/// configuration that a daemon would start with.
pub(crate) fn host_report() -> serde_json::Value {
    let args = Args::default();
    let config = args
        .load()
        .map_or_else(|_| Config::default(), |loaded| loaded.config);
    let supervisor = supervisor(&args).unwrap_or_else(|_| "insula-pod".into());
    let streaming = crate::doctor::Listener::Planned(config.streaming.address);
    let rows = crate::doctor::examine(&wiring::places(&config, &supervisor, streaming));
    serde_json::to_value(rows).unwrap_or_default()
}

/// The configuration that a file with this text gives.
#[cfg(test)]
pub(crate) fn config_from(text: &str) -> Config {
    let mut config = Config::default();
    config::apply(&mut config, std::path::Path::new("c.toml"), text).expect("a right text");
    config
}

/// Errors are those from before there is a log.
fn start(args: &Args) -> Result<ExitCode, Error> {
    let loaded = args.load()?;
    if args.print_config {
        return print(&loaded).map(|()| ExitCode::SUCCESS);
    }
    let level = logging::start(&loaded.config.log).map_err(system("the log"))?;
    tracing::info!(
        version = insula_server::service::RUNTIME_VERSION,
        files = ?loaded.files,
        "starting"
    );
    raise_open_files();
    pass_nothing_on();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(cores.clamp(*WORKERS.start(), *WORKERS.end()))
        .thread_name("insula")
        .enable_all()
        .build()
        .map_err(|error| system("the daemon's threads")(error.to_string()))?;
    let result = runtime.block_on(run(args, loaded.config, &level));
    // A thread that hangs in the kernel must not keep the daemon from ending.
    runtime.shutdown_timeout(SETTLE);
    match result {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(error) => {
            tracing::error!("{error}");
            Ok(ExitCode::FAILURE)
        }
    }
}

async fn run(args: &Args, config: Config, level: &LevelHandle) -> Result<(), Error> {
    let signals = Signals::listen()?;
    place::directory(&config.root, 0o711)?;
    place::directory(&config.state, 0o711)?;
    let _lock = place::lock(&config.state)?;
    let rooms = Rooms::open(&config, &supervisor(args)?).await?;
    if let Some(address) = &config.metrics.address {
        let endpoint = metrics::listen(address).await.map_err(system("metrics"))?;
        tokio::spawn(metrics::serve(endpoint, rooms.gatherer.clone()));
    }
    let Address::Unix(socket) = config.listen.clone() else {
        return Err(system("--listen")(
            "only unix sockets are served".to_owned(),
        ));
    };
    let listener = tokio::net::UnixListener::from_std(place::listen(&socket)?)
        .map_err(|error| system("the socket")(error.to_string()))?;
    notify(State::Ready);
    tracing::info!(address = %config.listen, "serving");
    let allowed = insula_server::Allowed {
        uid: rustix::process::geteuid().as_raw(),
    };
    let images = rooms.images.clone();
    // Its sessions end with this future: their clients' connections cannot be
    // handed to the next daemon.
    let streaming = tokio::spawn(rooms.streaming.serve(Arc::new(rooms.streams)));
    let stop = signals.until_stopped(args, config, level);
    let served = insula_server::serve(listener, rooms.service, allowed, stop, GRACE).await;
    streaming.abort();
    // Whoever comes next binds its own; a client must not wait on this one.
    let _ = std::fs::remove_file(&socket);
    if !images.shut_down(SETTLE).await {
        tracing::warn!(
            "layers are still being flushed or removed; the next start finishes what is not done"
        );
    }
    match served {
        // The pods are not harmed by it, so neither is the service manager told.
        Err(error @ insula_server::listen::ServeError::StillRunning(_)) => {
            tracing::warn!(%error);
        }
        other => other?,
    }
    tracing::info!("stopped; pods go on running");
    Ok(())
}

/// The configuration in force, in the form of its file.
fn print(loaded: &Loaded) -> Result<(), Error> {
    let text = toml::to_string(&loaded.config)
        .map_err(|error| system("the configuration")(error.to_string()))?;
    let mut out = std::io::stdout().lock();
    let written = loaded
        .files
        .iter()
        .try_for_each(|file| writeln!(out, "# from {}", file.display()))
        .and_then(|()| write!(out, "{text}"));
    match written {
        // A reader that has seen enough.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        other => other.map_err(|error| system("standard output")(error.to_string())),
    }
}

/// `insula-pod` beside this program.
fn supervisor(args: &Args) -> Result<PathBuf, Error> {
    if let Some(program) = &args.supervisor {
        return Ok(program.clone());
    }
    let own = std::env::current_exe()
        .map_err(|error| system("the path of this program")(error.to_string()))?;
    Ok(own.with_file_name("insula-pod"))
}

/// Each pod costs a few descriptors; the usual soft limit of 1024 is for
/// programs that still use select(2).
fn raise_open_files() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    if let Err(errno) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%errno, soft = ?limit.current, "cannot raise the limit of open files");
    }
}

/// What this process was born with is nothing for the plugins and hooks that it
/// starts.
fn pass_nothing_on() {
    if let Err(error) = insula_sys::fd::close_inherited_on_exec() {
        tracing::warn!(%error, "programs that are started may inherit descriptors");
    }
}

fn system(what: &'static str) -> impl Fn(String) -> Error {
    move |problem| Error::System { what, problem }
}

// === impl Signals ===

impl Signals {
    fn listen() -> Result<Self, Error> {
        let listen = |kind| signal(kind).map_err(|error| system("signals")(error.to_string()));
        Ok(Self {
            hangup: listen(SignalKind::hangup())?,
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
        })
    }

    /// Reloads at each SIGHUP; comes back when the daemon shall end.
    async fn until_stopped(mut self, args: &Args, mut config: Config, level: &LevelHandle) {
        let name = loop {
            tokio::select! {
                _ = self.hangup.recv() => reload::reload(args, &mut config, level),
                _ = self.terminate.recv() => break "SIGTERM",
                _ = self.interrupt.recv() => break "SIGINT",
            }
        };
        notify(State::Stopping);
        tracing::info!(signal = name, "stopping");
    }
}
