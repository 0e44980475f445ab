//! Pods as the streaming server sees them.

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use insula_pods::{AttachStreams, ExecStreams, Pods, Session};
use insula_streaming::{AttachRequest, Control, ExecRequest, Process, Runtime, StreamError};
use std::net::TcpStream;

/// Gives the streaming server what it needs of pods.
#[derive(Debug, Clone)]
pub struct PodStreams(Pods);

/// A session without its descriptors.
struct Controlled(Session);

// === impl PodStreams ===

impl PodStreams {
    /// Streams of these pods.
    pub fn new(pods: Pods) -> Self {
        Self(pods)
    }
}

impl Runtime for PodStreams {
    fn exec<'a>(&'a self, request: &'a ExecRequest) -> BoxFuture<'a, Result<Process, StreamError>> {
        let streams = ExecStreams {
            command: request.command.clone(),
            terminal: request.streams.terminal,
            stdin: request.streams.stdin,
            stdout: request.streams.stdout,
            stderr: request.streams.stderr,
        };
        let started = self.0.exec(&request.container, streams);
        started
            .map(|session| Ok(process(session.map_err(|error| failed(&error))?)))
            .boxed()
    }

    fn attach<'a>(
        &'a self,
        request: &'a AttachRequest,
    ) -> BoxFuture<'a, Result<Process, StreamError>> {
        let streams = AttachStreams {
            stdin: request.streams.stdin,
            stdout: request.streams.stdout,
            stderr: request.streams.stderr,
        };
        let attached = self.0.attach(&request.container, streams);
        attached
            .map(|session| Ok(process(session.map_err(|error| failed(&error))?)))
            .boxed()
    }

    fn connect<'a>(
        &'a self,
        pod: &'a str,
        port: u16,
    ) -> BoxFuture<'a, Result<TcpStream, StreamError>> {
        let connected = self.0.connect(pod, port);
        connected
            .map(|socket| socket.map_err(|error| failed(&error)))
            .boxed()
    }

    fn pod_ended<'a>(&'a self, pod: &'a str) -> BoxFuture<'a, ()> {
        self.0.port_forward_ended(pod).boxed()
    }
}

// === impl Controlled ===

impl Control for Controlled {
    fn resize(&mut self, columns: u16, rows: u16) -> Result<(), StreamError> {
        self.0.resize(columns, rows).map_err(|error| failed(&error))
    }

    fn close_stdin(&mut self) -> BoxFuture<'_, Result<(), StreamError>> {
        self.0
            .close_stdin()
            .map(|closed| closed.map_err(|error| failed(&error)))
            .boxed()
    }

    fn end(&mut self) -> BoxFuture<'_, Result<i32, StreamError>> {
        self.0
            .end()
            .map(|end| end.map_err(|error| failed(&error)))
            .boxed()
    }
}

fn process(mut session: Session) -> Process {
    Process {
        stdin: session.stdin.take(),
        stdout: session.stdout.take(),
        stderr: session.stderr.take(),
        control: Box::new(Controlled(session)),
    }
}

fn failed(error: &insula_pods::Error) -> StreamError {
    StreamError::Runtime(error.to_string())
}
