//! A client's socket, and when it was last used.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;

/// How often it is looked whether a client is gone whose data nobody reads.
const LOOK: Duration = Duration::from_secs(1);
/// How long what such a client has written may still take to be read.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// A socket. Clones are handles on the same one.
#[derive(Debug, Clone)]
pub(crate) struct Socket {
    stream: Arc<TcpStream>,
    begun: Instant,
    /// Milliseconds from the beginning to the last octet.
    last: Arc<AtomicU64>,
}

// === impl Socket ===

impl Socket {
    pub(crate) fn new(stream: TcpStream) -> Self {
        Self {
            stream: Arc::new(stream),
            begun: Instant::now(),
            last: Arc::default(),
        }
    }

    /// Comes back when no octet has come or gone for so long.
    pub(crate) async fn idle(&self, limit: Duration) {
        while let Some(left) = self.left(limit, Instant::now()) {
            tokio::time::sleep(left).await;
        }
    }

    /// Comes back when the client has closed its end and nothing moves any
    /// more. Who reads sees the client's end as well, but may not be reading:
    /// what comes is held back while a process does not take its input.
    pub(crate) async fn abandoned(&self) {
        loop {
            match self.stream.ready(Interest::READABLE).await {
                Ok(ready) if !ready.is_read_closed() => tokio::time::sleep(LOOK).await,
                _ => return self.idle(LAST_WORDS).await,
            }
        }
    }

    /// How long it may still be silent.
    fn left(&self, limit: Duration, now: Instant) -> Option<Duration> {
        let last = self.begun + Duration::from_millis(self.last.load(Ordering::Relaxed));
        let left = (last + limit).saturating_duration_since(now);
        (!left.is_zero()).then_some(left)
    }

    fn touch(&self) {
        let since = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last.store(since, Ordering::Relaxed);
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            ready!(self.stream.poll_read_ready(context))?;
            match self.stream.try_read(buffer.initialize_unfilled()) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                read => {
                    buffer.advance(read?);
                    self.touch();
                    return Poll::Ready(Ok(()));
                }
            }
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(context, &[io::IoSlice::new(data)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.stream.poll_write_ready(context))?;
            match self.stream.try_write_vectored(parts) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                written => {
                    self.touch();
                    return Poll::Ready(written);
                }
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(rustix::net::shutdown(
            &*self.stream,
            rustix::net::Shutdown::Write,
        )?))
    }
}

#[cfg(test)]
mod tests {
    use super::Socket;
    use std::sync::atomic::Ordering;
    use std::time::Duration;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};

    const LIMIT: Duration = Duration::from_secs(60);

    async fn connected() -> (Socket, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap())
            .await
            .unwrap();
        (Socket::new(near), listener.accept().await.unwrap().0)
    }

    #[tokio::test]
    async fn the_end_is_counted_from_the_last_octet() {
        let (socket, _peer) = connected().await;
        let at = |seconds| socket.begun + Duration::from_secs(seconds);
        assert_eq!(socket.left(LIMIT, at(0)), Some(LIMIT));
        assert_eq!(socket.left(LIMIT, at(59)), Some(Duration::from_secs(1)));
        assert_eq!(socket.left(LIMIT, at(60)), None);
        socket.last.store(30_000, Ordering::Relaxed);
        assert_eq!(socket.left(LIMIT, at(60)), Some(Duration::from_secs(30)));
        assert_eq!(socket.left(LIMIT, at(100)), None);
    }

    #[tokio::test]
    async fn octets_in_both_directions_count() {
        let (mut socket, mut peer) = connected().await;
        // As if the connection were old.
        socket.begun = socket.begun.checked_sub(LIMIT).unwrap();
        socket.write_all(b"x").await.unwrap();
        let written = socket.last.swap(0, Ordering::Relaxed);
        peer.write_all(b"y").await.unwrap();
        socket.read_u8().await.unwrap();
        let read = socket.last.load(Ordering::Relaxed);
        assert!(written >= 60_000 && read >= 60_000, "{written} {read}");
        socket.idle(Duration::ZERO).await;
        socket.shutdown().await.unwrap();
        assert_eq!(peer.read_u8().await.unwrap(), b'x');
        assert!(peer.read_u8().await.is_err());
    }

    #[tokio::test]
    async fn a_client_that_is_gone_is_noticed_behind_data_that_nobody_reads() {
        let (socket, mut peer) = connected().await;
        peer.write_all(b"unread").await.unwrap();
        let waited = tokio::time::timeout(Duration::from_millis(50), socket.abandoned()).await;
        assert!(waited.is_err(), "the client is still there");
        drop(peer);
        let waited = tokio::time::timeout(LIMIT, socket.abandoned()).await;
        assert!(waited.is_ok());
    }
}
