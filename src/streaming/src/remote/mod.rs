//! Remote commands: exec and attach.
//!
//! [`spdy`] and [`websocket`] gather a client's streams, [`session`] joins them
//! to a process, [`status`] tells the client how that ended.

pub mod resize;
mod session;
mod spdy;
pub mod status;
mod websocket;

use crate::negotiate::{Channels, SpdyCommand};
use crate::runtime::{AttachRequest, ExecRequest, Process, Runtime, StreamError, Streams};
use session::Until;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::WebSocketStream;

/// What a client asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Command {
    Exec(ExecRequest),
    Attach(AttachRequest),
}

/// Serves a remote command over SPDY to its end.
pub(crate) async fn over_spdy<I>(
    io: I,
    command: &Command,
    runtime: &dyn Runtime,
    protocol: SpdyCommand,
    limits: crate::spdy::Limits,
    creation: Duration,
) -> Result<(), StreamError>
where
    I: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (connection, mut incoming) = crate::spdy::serve(io, limits);
    let streams = command.streams();
    let session = async {
        let client = spdy::gather(&mut incoming, streams, protocol, creation).await?;
        // What else a client opens is of no use to it.
        let extra = async { while incoming.next().await.is_some() {} };
        let session = async {
            let process = command.start(runtime).await;
            session::run(process, client, command.until()).await
        };
        tokio::select! {
            ended = session => ended,
            () = extra => Err(gone()),
        }
    };
    let ended = tokio::select! {
        ended = session => ended,
        end = connection.closed() => Err(StreamError::Client(std::io::Error::other(end.to_string()))),
    };
    if !matches!(ended, Err(StreamError::Client(_))) {
        connection.close();
        connection.closed().await;
    }
    ended
}

/// Serves a remote command over a WebSocket to its end.
pub(crate) async fn over_websocket<I>(
    socket: WebSocketStream<I>,
    command: &Command,
    runtime: &dyn Runtime,
    protocol: Channels,
) -> Result<(), StreamError>
where
    I: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (mux, client) = websocket::open(socket, command.streams(), protocol).await?;
    let session = async {
        let process = command.start(runtime).await;
        session::run(process, client, command.until()).await
    };
    let driving = mux.drive();
    tokio::pin!(session, driving);
    tokio::select! {
        // The writers are gone with the session, so this says goodbye.
        ended = &mut session => {
            driving.await?;
            ended
        }
        driven = &mut driving => Err(driven.map_or_else(StreamError::from, |()| gone())),
    }
}

fn gone() -> StreamError {
    StreamError::Client(std::io::ErrorKind::ConnectionReset.into())
}

// === impl Command ===

impl Command {
    fn streams(&self) -> Streams {
        match self {
            Self::Exec(request) => request.streams,
            Self::Attach(request) => request.streams,
        }
    }

    fn until(&self) -> Until {
        match self {
            Self::Exec(_) => Until::Exit,
            Self::Attach(_) => Until::Streams,
        }
    }

    async fn start(&self, runtime: &dyn Runtime) -> Result<Process, StreamError> {
        match self {
            Self::Exec(request) => runtime.exec(request).await,
            Self::Attach(request) => runtime.attach(request).await,
        }
    }
}
