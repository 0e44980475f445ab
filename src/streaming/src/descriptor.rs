//! Pipes and terminals as asynchronous streams.

use rustix::io::{Errno, ioctl_fionbio};
use std::io;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::unix::pipe;

/// The end of a pipe to read from, or a terminal's master.
#[derive(Debug)]
pub(crate) struct Reader(pipe::Receiver);

/// The end of a pipe to write to, or a terminal's master.
#[derive(Debug)]
pub(crate) struct Writer(pipe::Sender);

// === impl Reader ===

impl Reader {
    /// Takes over a descriptor, which is made non-blocking together with its
    /// duplicates.
    pub(crate) fn new(fd: OwnedFd) -> io::Result<Self> {
        ioctl_fionbio(&fd, true)?;
        // "Unchecked" is its kind: a terminal's master is polled and read as a
        // pipe is.
        pipe::Receiver::from_owned_fd_unchecked(fd).map(Self)
    }
}

impl AsyncRead for Reader {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            ready!(self.0.poll_read_ready(context))?;
            // The library's own poll_read takes a short read for the sign of an
            // empty pipe, which it is not on a terminal.
            match self.0.try_read(buffer.initialize_unfilled()) {
                Ok(length) => {
                    buffer.advance(length);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // A terminal whose other end nobody has open any more.
                Err(error) if Errno::from_io_error(&error) == Some(Errno::IO) => {
                    return Poll::Ready(Ok(()));
                }
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

// === impl Writer ===

impl Writer {
    /// As [`Reader::new`].
    pub(crate) fn new(fd: OwnedFd) -> io::Result<Self> {
        ioctl_fionbio(&fd, true)?;
        pipe::Sender::from_owned_fd_unchecked(fd).map(Self)
    }
}

impl AsyncWrite for Writer {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.0.poll_write_ready(context))?;
            match self.0.try_write(data) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                other => return Poll::Ready(other),
            }
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::{Reader, Writer};
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    #[tokio::test]
    async fn more_than_a_pipe_holds_goes_through() {
        let (read, write) = rustix::pipe::pipe().unwrap();
        let mut writer = Writer::new(write).unwrap();
        let mut reader = Reader::new(read).unwrap();
        let sent: Vec<u8> = (0..300_000u32).map(|at| at.to_le_bytes()[0]).collect();
        let expected = sent.clone();
        let writing = tokio::spawn(async move { writer.write_all(&sent).await });
        let mut received = Vec::new();
        reader.read_to_end(&mut received).await.unwrap();
        writing.await.unwrap().unwrap();
        assert!(received == expected);
    }

    #[tokio::test]
    async fn a_closed_reader_is_an_error() {
        let (read, write) = rustix::pipe::pipe().unwrap();
        let mut writer = Writer::new(write).unwrap();
        drop(read);
        let error = writer.write_all(b"x").await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::BrokenPipe);
    }

    #[tokio::test]
    async fn a_terminal_ends_with_its_last_user() {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap();
        let flags = rustix::fs::OFlags::RDWR | rustix::fs::OFlags::NOCTTY;
        let user = rustix::fs::open(&name, flags, rustix::fs::Mode::empty()).unwrap();
        let mut reader = Reader::new(master).unwrap();
        rustix::io::write(&user, b"bye").unwrap();
        drop(user);
        let mut received = String::new();
        reader.read_to_string(&mut received).await.unwrap();
        assert_eq!(received, "bye");
    }
}
