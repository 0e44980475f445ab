//! What the server needs of a container runtime, and what clients ask for.

use futures_util::future::BoxFuture;
use insula_wire::OsText;
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::time::Duration;

/// Where commands run and ports are. One object serves all clients.
pub trait Runtime: Send + Sync + 'static {
    /// Starts a command; it runs when this returns.
    fn exec<'a>(&'a self, request: &'a ExecRequest) -> BoxFuture<'a, Result<Process, StreamError>>;

    /// Joins the streams of a container's main process.
    fn attach<'a>(
        &'a self,
        request: &'a AttachRequest,
    ) -> BoxFuture<'a, Result<Process, StreamError>>;

    /// Connects to a TCP port on the loopback interface of a pod. The socket
    /// does not block.
    fn connect<'a>(
        &'a self,
        pod: &'a str,
        port: u16,
    ) -> BoxFuture<'a, Result<TcpStream, StreamError>>;

    /// Comes back when a pod is no longer ready, which ends its forwards.
    fn pod_ended<'a>(&'a self, pod: &'a str) -> BoxFuture<'a, ()>;
}

/// A process that a client's streams are joined to. Dropping it closes the
/// streams; the process goes on.
pub struct Process {
    /// The end to write to.
    pub stdin: Option<OwnedFd>,
    /// The end to read from; with a terminal, all output.
    pub stdout: Option<OwnedFd>,
    /// The end to read from.
    pub stderr: Option<OwnedFd>,
    /// Everything that is not a stream.
    pub control: Box<dyn Control>,
}

/// What can be done with a process beside reading and writing.
pub trait Control: Send {
    /// Gives the process's terminal a size, in characters.
    fn resize(&mut self, columns: u16, rows: u16) -> Result<(), StreamError>;

    /// The client will write no more. The file descriptor was closed before.
    fn close_stdin(&mut self) -> BoxFuture<'_, Result<(), StreamError>>;

    /// Waits for the end of the process and gives back its exit code. May be
    /// dropped and called again.
    fn end(&mut self) -> BoxFuture<'_, Result<i32, StreamError>>;
}

/// `ExecRequest` of the CRI, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecRequest {
    /// Id of the container.
    pub container: String,
    /// The command and its arguments; never empty.
    pub command: Vec<OsText>,
    /// Which streams the client takes part in.
    pub streams: Streams,
}

/// `AttachRequest` of the CRI, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttachRequest {
    /// Id of the container.
    pub container: String,
    /// Which streams the client takes part in.
    pub streams: Streams,
}

/// `PortForwardRequest` of the CRI, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForwardRequest {
    /// Id of the pod.
    pub pod: String,
    /// The ports of a client that speaks the WebSocket protocol without SPDY;
    /// others name them one by one.
    pub ports: Vec<u16>,
}

/// The streams of a remote command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "the flags of the interface, each one independent"
)]
pub struct Streams {
    /// The client writes the process's input.
    pub stdin: bool,
    /// The client reads its output.
    pub stdout: bool,
    /// The client reads its errors; never with a terminal.
    pub stderr: bool,
    /// The process has a terminal, whose size the client may change.
    pub terminal: bool,
}

/// Why a session ended before its end.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// The container's side failed; the client is told.
    #[error("{0}")]
    Runtime(String),
    /// A wait took too long; the client is told.
    #[error("{stage}: nothing came in {:.1} s", .after.as_secs_f64())]
    Deadline {
        /// What was waited for.
        stage: &'static str,
        /// For how long.
        after: Duration,
    },
    /// The client is gone, so nobody can be told.
    #[error("the client went away: {0}")]
    Client(#[from] std::io::Error),
}

// === impl Process ===

impl std::fmt::Debug for Process {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Process")
            .field("stdin", &self.stdin)
            .field("stdout", &self.stdout)
            .field("stderr", &self.stderr)
            .finish_non_exhaustive()
    }
}
