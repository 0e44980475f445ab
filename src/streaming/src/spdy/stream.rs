//! One stream of a connection, as tokio reads and writes it.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use tokio::io::{AsyncBufRead, AsyncRead, AsyncWrite, ReadBuf};

use super::connection::Shared;
use super::error::Reset;
use super::headers::Headers;
use super::session::Received;

/// A stream that one end opened and the other answered.
///
/// Reading ends when the other end is done with the stream (FIN). A reset, and the end of the
/// connection before that, are errors of kind [`io::ErrorKind::ConnectionReset`] that come after
/// all octets that were received before them.
///
/// Writing waits while the other end's window and this end's buffer are full. Flushing does not
/// wait: what is written is transmitted without it. `shutdown` sends FIN and waits until all is
/// handed to the connection beneath.
///
/// A stream that is dropped before it was shut down is reset. What comes for it afterwards is
/// dropped.
pub struct Stream {
    id: u32,
    headers: Headers,
    shared: Arc<Shared>,
    /// Octets that are taken from the session and not read yet.
    current: Bytes,
}

impl Stream {
    pub(super) fn new(id: u32, headers: Headers, shared: Arc<Shared>) -> Self {
        Self {
            id,
            headers,
            shared,
            current: Bytes::new(),
        }
    }

    /// The identifier: odd, and higher than that of every stream before it.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// The first value of a header that the other end opened the stream with. The name is compared
    /// without regard to case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)
    }

    pub(super) fn poll_answered(&self, context: &mut Context<'_>) -> Poll<Result<(), Reset>> {
        self.shared.with(|session, tasks| {
            if session.answered(self.id)? {
                return Poll::Ready(Ok(()));
            }
            tasks.readers.insert(self.id, context.waker().clone());
            Poll::Pending
        })
    }

    fn poll_room(&self, context: &mut Context<'_>) -> Poll<Result<usize, Reset>> {
        self.shared.with(|session, tasks| {
            let room = session.room(self.id)?;
            if room > 0 {
                return Poll::Ready(Ok(room));
            }
            tasks.writers.insert(self.id, context.waker().clone());
            Poll::Pending
        })
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream")
            .field("id", &self.id)
            .field("headers", &self.headers)
            .finish_non_exhaustive()
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.shared.with(|session, tasks| {
            session.release(self.id);
            tasks.readers.remove(&self.id);
            tasks.writers.remove(&self.id);
        });
    }
}

impl AsyncBufRead for Stream {
    fn poll_fill_buf(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
        let this = self.get_mut();
        if this.current.is_empty() {
            this.current = ready!(this.shared.with(|session, tasks| {
                match session.read(this.id) {
                    Ok(Received::Data(chunk)) => Poll::Ready(Ok(chunk)),
                    Ok(Received::End) => Poll::Ready(Ok(Bytes::new())),
                    Ok(Received::Nothing) => {
                        tasks.readers.insert(this.id, context.waker().clone());
                        Poll::Pending
                    }
                    Err(reset) => Poll::Ready(Err(as_io(reset))),
                }
            }))?;
        }
        Poll::Ready(Ok(&this.current))
    }

    fn consume(self: Pin<&mut Self>, amount: usize) {
        self.get_mut().current.advance(amount);
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let octets = ready!(self.as_mut().poll_fill_buf(context))?;
        let length = octets.len().min(buffer.remaining());
        buffer.put_slice(&octets[..length]);
        self.consume(length);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        octets: &[u8],
    ) -> Poll<io::Result<usize>> {
        let room = ready!(self.poll_room(context)).map_err(as_io)?;
        // Copied without the lock: nobody else makes the room smaller.
        let chunk = Bytes::copy_from_slice(&octets[..octets.len().min(room)]);
        let length = chunk.len();
        self.shared
            .with(|session, _| session.write(self.id, chunk))
            .map_err(as_io)?;
        Poll::Ready(Ok(length))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.shared.with(|session, tasks| {
            session.finish(self.id);
            if session.finished(self.id).map_err(as_io)? {
                return Poll::Ready(Ok(()));
            }
            tasks.writers.insert(self.id, context.waker().clone());
            Poll::Pending
        })
    }
}

fn as_io(reset: Reset) -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionReset, reset)
}
