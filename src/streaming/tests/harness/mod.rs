//! A server over processes of this machine, and raw clients for it.
#![allow(dead_code, reason = "each test uses a part of it")]

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use insula_streaming::spdy::{Connection, Limits, connect};
use insula_streaming::{
    AttachRequest, Control, ExecRequest, ForwardRequest, Metrics, Process, Runtime, Server,
    Sessions, Settings, StreamError, Streams, TlsFiles,
};
use insula_wire::OsText;
use prometheus::Registry;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::Role;

/// How long a client may take to open its streams.
pub const CREATION: Duration = Duration::from_secs(2);

/// A running server.
pub struct Node {
    pub sessions: Sessions,
    pub registry: Registry,
    /// Ends the pod `ready`.
    pub pod: watch::Sender<bool>,
    serving: JoinHandle<()>,
}

struct Local {
    pod: watch::Receiver<bool>,
}

struct Child {
    child: tokio::process::Child,
    sizes: Vec<(u16, u16)>,
}

impl Node {
    pub async fn start() -> Self {
        Self::with(Duration::from_secs(60), None).await
    }

    pub async fn with(idle: Duration, tls: Option<TlsFiles>) -> Self {
        let registry = Registry::new();
        let settings = Settings {
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            tls,
            idle,
            creation: CREATION,
        };
        let metrics = Metrics::new(&registry).unwrap();
        let server = Server::bind(settings, metrics).await.unwrap();
        let sessions = server.sessions();
        let (pod, ready) = watch::channel(true);
        let runtime = Arc::new(Local { pod: ready });
        Self {
            sessions,
            registry,
            pod,
            serving: tokio::spawn(server.serve(runtime)),
        }
    }

    /// The URL of a command in a shell.
    pub fn exec(&self, command: &str, streams: Streams) -> String {
        let command = ["sh", "-c", command].map(|word| OsText::try_from(word).unwrap());
        let request = ExecRequest {
            container: "c".into(),
            command: command.to_vec(),
            streams,
        };
        self.sessions.exec(request).unwrap()
    }

    pub fn attach(&self, streams: Streams) -> String {
        let container = "c".into();
        self.sessions
            .attach(AttachRequest { container, streams })
            .unwrap()
    }

    pub fn forward(&self, ports: &[u16]) -> String {
        let request = ForwardRequest {
            pod: "ready".into(),
            ports: ports.to_vec(),
        };
        self.sessions.port_forward(request).unwrap()
    }

    /// The sum of a metric over its labels.
    pub fn metric(&self, name: &str) -> f64 {
        self.sessions.refresh_metrics();
        let families = self.registry.gather();
        let family = families
            .iter()
            .find(|family| family.name() == name)
            .unwrap();
        let value = |metric: &prometheus::proto::Metric| match metric.get_gauge().get_value() {
            0.0 => metric.get_counter().get_value(),
            value => value,
        };
        family.get_metric().iter().map(value).sum()
    }

    /// Waits until no session is open.
    pub async fn quiet(&self) {
        for _ in 0..1000 {
            if self.metric("insula_streaming_sessions") == 0.0 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("a session is still open after 10 s");
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Runtime for Local {
    fn exec<'a>(&'a self, request: &'a ExecRequest) -> BoxFuture<'a, Result<Process, StreamError>> {
        let command: Vec<_> = request
            .command
            .iter()
            .map(|word| std::ffi::OsStr::from_bytes(word.as_bytes()))
            .collect();
        let failed = |error: std::io::Error| StreamError::Runtime(error.to_string());
        let started = tokio::process::Command::new(command[0])
            .args(&command[1..])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(failed)
            .and_then(|mut child| {
                let stdin = child
                    .stdin
                    .take()
                    .map(tokio::process::ChildStdin::into_owned_fd);
                let stdout = child
                    .stdout
                    .take()
                    .map(tokio::process::ChildStdout::into_owned_fd);
                let stderr = child
                    .stderr
                    .take()
                    .map(tokio::process::ChildStderr::into_owned_fd);
                let open =
                    |pipe: Option<std::io::Result<OwnedFd>>| pipe.transpose().map_err(failed);
                Ok(Process {
                    stdin: open(stdin)?.filter(|_| request.streams.stdin),
                    stdout: open(stdout)?,
                    stderr: open(stderr)?,
                    control: Box::new(Child {
                        child,
                        sizes: Vec::new(),
                    }),
                })
            });
        std::future::ready(started).boxed()
    }

    fn attach<'a>(
        &'a self,
        request: &'a AttachRequest,
    ) -> BoxFuture<'a, Result<Process, StreamError>> {
        let error = format!("container {} is not running", request.container);
        std::future::ready(Err(StreamError::Runtime(error))).boxed()
    }

    fn connect<'a>(
        &'a self,
        _: &'a str,
        port: u16,
    ) -> BoxFuture<'a, Result<std::net::TcpStream, StreamError>> {
        async move {
            let connected = TcpStream::connect(("127.0.0.1", port)).await;
            connected
                .and_then(TcpStream::into_std)
                .map_err(|error| StreamError::Runtime(error.to_string()))
        }
        .boxed()
    }

    fn pod_ended<'a>(&'a self, _: &'a str) -> BoxFuture<'a, ()> {
        async {
            let _ = self.pod.clone().wait_for(|ready| !ready).await;
        }
        .boxed()
    }
}

impl Control for Child {
    fn resize(&mut self, columns: u16, rows: u16) -> Result<(), StreamError> {
        self.sizes.push((columns, rows));
        Ok(())
    }

    fn close_stdin(&mut self) -> BoxFuture<'_, Result<(), StreamError>> {
        std::future::ready(Ok(())).boxed()
    }

    fn end(&mut self) -> BoxFuture<'_, Result<i32, StreamError>> {
        async {
            let ended = self.child.wait().await;
            let ended = ended.map_err(|error| StreamError::Runtime(error.to_string()))?;
            // Tests of terminals learn here which sizes arrived.
            Ok(match self.sizes.last() {
                Some((columns, rows)) => i32::from(*columns) * 1000 + i32::from(*rows),
                None => ended.code().unwrap_or(-1),
            })
        }
        .boxed()
    }
}

/// Host and path of a URL.
pub fn split(url: &str) -> (&str, &str) {
    let rest = url.split_once("://").unwrap().1;
    rest.split_at(rest.find('/').unwrap_or(rest.len()))
}

/// Sends a request's head and gives back the connection and the answer's head.
pub async fn request(url: &str, headers: &[(&str, &str)]) -> (TcpStream, String) {
    let (host, path) = split(url);
    let mut stream = TcpStream::connect(host).await.unwrap();
    let mut head = format!("POST {path} HTTP/1.1\r\nHost: {host}\r\n");
    for (name, value) in headers {
        head.extend([name, ": ", value, "\r\n"]);
    }
    head += "\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        // One by one: what comes after the head is the session's.
        match stream.read_u8().await {
            Ok(byte) => answer.push(byte),
            Err(error) => panic!("{error} after {:?}", String::from_utf8_lossy(&answer)),
        }
    }
    (stream, String::from_utf8(answer).unwrap())
}

/// A SPDY session with one of the protocols.
pub async fn spdy(url: &str, protocol: &str) -> Connection {
    let (stream, answer) = request(
        url,
        &[
            ("Connection", "Upgrade"),
            ("Upgrade", "SPDY/3.1"),
            ("X-Stream-Protocol-Version", protocol),
        ],
    )
    .await;
    assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
    assert!(answer.to_lowercase().contains(&format!(
        "x-stream-protocol-version: {}",
        protocol.to_lowercase()
    )));
    connect(stream, Limits::default())
}

/// A WebSocket with one of the protocols, or none.
pub async fn websocket(url: &str, protocol: &str) -> WebSocketStream<TcpStream> {
    let mut headers = vec![
        ("Connection", "Upgrade"),
        ("Upgrade", "websocket"),
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    if !protocol.is_empty() {
        headers.push(("Sec-WebSocket-Protocol", protocol));
    }
    let (stream, answer) = request(url, &headers).await;
    assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
    assert!(answer.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{answer}");
    assert!(answer.contains(protocol), "{answer}");
    WebSocketStream::from_raw_socket(stream, Role::Client, None).await
}

/// Reads a stream to its end.
pub async fn text(stream: &mut (impl tokio::io::AsyncRead + Unpin)) -> String {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await.unwrap();
    String::from_utf8(bytes).unwrap()
}

/// How many descriptors this process has.
pub fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}
