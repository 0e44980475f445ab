//! The channels of a remote command over a WebSocket.

use super::session::Client;
use crate::negotiate::Channels;
use crate::runtime::Streams;
use crate::websocket::mux::Mux;
use std::io;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::WebSocketStream;

/// Numbers of the channels, the same in all versions
/// (`k8s.io/apimachinery/pkg/util/remotecommand/constants.go`).
mod number {
    pub(super) const STDIN: u8 = 0;
    pub(super) const STDOUT: u8 = 1;
    pub(super) const STDERR: u8 = 2;
    pub(super) const ERROR: u8 = 3;
    pub(super) const RESIZE: u8 = 4;
}

/// Opens the channels and greets the client on the lowest one that it reads.
pub(super) async fn open<I: AsyncRead + AsyncWrite + Unpin>(
    socket: WebSocketStream<I>,
    wanted: Streams,
    protocol: Channels,
) -> io::Result<(Mux<I>, Client)> {
    let mut mux = Mux::new(socket, protocol);
    mux.greet(match wanted {
        Streams { stdout: true, .. } => number::STDOUT,
        Streams { stderr: true, .. } => number::STDERR,
        _ => number::ERROR,
    })
    .await?;
    let output = |mux: &Mux<I>, channel| Box::new(mux.writer(channel)) as _;
    let client = Client {
        stdin: wanted
            .stdin
            .then(|| Box::new(mux.reader(number::STDIN)) as _),
        resize: wanted
            .terminal
            .then(|| Box::new(mux.reader(number::RESIZE)) as _),
        stdout: wanted.stdout.then(|| output(&mux, number::STDOUT)),
        stderr: wanted.stderr.then(|| output(&mux, number::STDERR)),
        error: output(&mux, number::ERROR),
        report: protocol.report,
    };
    Ok((mux, client))
}
