//! Several channels over one WebSocket.

use super::channel::{Event, decode, encode};
use crate::negotiate::{Channels, Encoding};
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt as _, StreamExt as _};
use std::collections::HashMap;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, DuplexStream};
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Error as SocketError, Message};
use tokio_util::sync::PollSender;

/// Most of a client's data that waits for its reader, per channel, in bytes.
/// When it is full the connection is not read, so that TCP holds the client.
const UNREAD_MAX: usize = 64 << 10;
/// Data in one message, in bytes.
const DATA_MAX: usize = 32 << 10;
/// Messages that wait to be written.
const QUEUE: usize = 4;
/// How long a client may take to answer the end of a session.
const GOODBYE: Duration = Duration::from_secs(2);

/// A WebSocket before its session begins: channels are added, then it is
/// driven.
#[derive(Debug)]
pub(crate) struct Mux<I> {
    socket: WebSocketStream<I>,
    protocol: Channels,
    readers: HashMap<u8, DuplexStream>,
    sender: mpsc::Sender<Message>,
    queue: mpsc::Receiver<Message>,
}

/// Writes one channel's data.
#[derive(Debug)]
pub(crate) struct Writer {
    encoding: Encoding,
    channel: u8,
    sender: PollSender<Message>,
}

// === impl Mux ===

impl<I: AsyncRead + AsyncWrite + Unpin> Mux<I> {
    pub(crate) fn new(socket: WebSocketStream<I>, protocol: Channels) -> Self {
        let (sender, queue) = mpsc::channel(QUEUE);
        Self {
            socket,
            protocol,
            readers: HashMap::new(),
            sender,
            queue,
        }
    }

    /// What the client writes on a channel. What it writes on any other is
    /// dropped, as is what nobody reads any more.
    pub(crate) fn reader(&mut self, channel: u8) -> DuplexStream {
        let (near, far) = tokio::io::duplex(UNREAD_MAX);
        self.readers.insert(channel, near);
        far
    }

    /// Writes to a channel, which is less than ten with base64.
    pub(crate) fn writer(&self, channel: u8) -> Writer {
        Writer {
            encoding: self.protocol.encoding,
            channel,
            sender: PollSender::new(self.sender.clone()),
        }
    }

    /// Tells the client that the session has begun: an empty message on a
    /// channel that it reads.
    pub(crate) async fn greet(&mut self, channel: u8) -> io::Result<()> {
        let message = encode(self.protocol.encoding, channel, &[]);
        self.socket.send(message).await.map_err(into_io)
    }

    /// Moves data until all writers are gone, then says goodbye. An error is
    /// that of a client that went away, or that does not follow the protocol.
    pub(crate) async fn drive(self) -> io::Result<()> {
        let Self {
            socket,
            protocol,
            readers,
            sender,
            queue,
        } = self;
        // What is left are the writers'.
        drop(sender);
        let (sink, stream) = socket.split();
        let mut reading = std::pin::pin!(read(stream, protocol, readers));
        let written = tokio::select! {
            ended = &mut reading => return ended,
            written = write(sink, queue) => written,
        };
        written?;
        // The client's own goodbye; without it the connection would be reset
        // by data that is still on its way, and what was written be lost.
        let _ = tokio::time::timeout(GOODBYE, reading).await;
        Ok(())
    }
}

async fn write<I: AsyncRead + AsyncWrite + Unpin>(
    mut sink: SplitSink<WebSocketStream<I>, Message>,
    mut queue: mpsc::Receiver<Message>,
) -> io::Result<()> {
    while let Some(message) = queue.recv().await {
        sink.send(message).await.map_err(into_io)?;
    }
    let goodbye = CloseFrame {
        code: CloseCode::Normal,
        reason: "".into(),
    };
    sink.send(Message::Close(Some(goodbye)))
        .await
        .map_err(into_io)
}

/// Gives channels their data. Comes back at the client's end, which is an
/// error as long as the session goes on.
async fn read<I: AsyncRead + AsyncWrite + Unpin>(
    mut stream: SplitStream<WebSocketStream<I>>,
    protocol: Channels,
    mut readers: HashMap<u8, DuplexStream>,
) -> io::Result<()> {
    while let Some(message) = stream.next().await {
        let payload = match message.map_err(into_io)? {
            payload @ (Message::Binary(_) | Message::Text(_)) => payload.into_data(),
            Message::Close(_) => break,
            // Pings are answered by the library.
            Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => continue,
        };
        let event = decode(protocol, &payload)
            .map_err(|malformed| io::Error::new(io::ErrorKind::InvalidData, malformed))?;
        match event {
            Event::Data { channel, data } => {
                if let Some(reader) = readers.get_mut(&channel)
                    && reader.write_all(&data).await.is_err()
                {
                    // Its reader has had enough.
                    readers.remove(&channel);
                }
            }
            Event::Close { channel } => {
                readers.remove(&channel);
            }
            Event::Nothing => {}
        }
    }
    Err(io::ErrorKind::ConnectionReset.into())
}

pub(super) fn into_io(error: SocketError) -> io::Error {
    match error {
        SocketError::Io(error) => error,
        SocketError::ConnectionClosed | SocketError::AlreadyClosed => {
            io::ErrorKind::ConnectionReset.into()
        }
        other => io::Error::new(io::ErrorKind::InvalidData, other),
    }
}

// === impl Writer ===

impl AsyncWrite for Writer {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        let gone = |_| io::Error::from(io::ErrorKind::BrokenPipe);
        ready!(self.sender.poll_reserve(context)).map_err(gone)?;
        let chunk = &data[..data.len().min(DATA_MAX)];
        let message = encode(self.encoding, self.channel, chunk);
        self.sender.send_item(message).map_err(gone)?;
        Poll::Ready(Ok(chunk.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The order of messages is kept, and a session ends when all are written.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.sender.close();
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests;
