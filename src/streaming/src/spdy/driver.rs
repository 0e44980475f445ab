//! The task that moves the octets between a session and its connection.

use std::future::{Future as _, poll_fn};
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};
use tokio::sync::watch;
use tokio::time::{Instant, Sleep};

use super::connection::Shared;
use super::error::End;
use super::limits::Limits;
use super::session::Batch;

/// Octets that one read asks for, and at which one batch of writes ends.
const READ_SIZE: usize = 64 << 10;
const BATCH_SIZE: usize = 256 << 10;
/// Pieces of one vectored write.
const MAXIMUM_SLICES: usize = 64;

/// Reads and writes a connection until the session is over.
///
/// ```text
///            GOAWAY is written           the other end's octets end,
///  Exchange ───────────────────▶ Linger ─────────────────────────────▶ over
///     │                                  or the deadline
///     │ octets end, an error, idle for too long
///     └──────────────────────────────────────────────────────────────▶ over
/// ```
pub(super) struct Driver<I> {
    io: I,
    shared: Arc<Shared>,
    limits: Limits,
    input: BytesMut,
    output: Batch,
    /// Something was written since the last flush.
    unflushed: bool,
    /// Why the session ends, once it does.
    end: Option<End>,
    /// The writing half of the connection is shut down.
    shut_down: bool,
    /// When the last octet moved.
    active: Instant,
    /// When to look at the clock next.
    sleep: Pin<Box<Sleep>>,
    /// `sleep` is the deadline of the end.
    closing: bool,
}

impl<I: AsyncRead + AsyncWrite + Unpin> Driver<I> {
    pub(super) fn new(io: I, shared: Arc<Shared>, limits: Limits) -> Self {
        Self {
            io,
            shared,
            limits,
            input: BytesMut::new(),
            output: Batch::default(),
            unflushed: false,
            end: None,
            shut_down: false,
            active: Instant::now(),
            sleep: Box::pin(tokio::time::sleep(limits.idle)),
            closing: false,
        }
    }

    pub(super) async fn run(mut self, ended: watch::Sender<Option<End>>) {
        let end = poll_fn(|context| self.poll(context)).await;
        let Self { io, shared, .. } = self;
        // The other end hears of it before anybody here does.
        drop(io);
        shared.with(|session, tasks| {
            session.lose();
            tasks.ended = true;
        });
        let _ = ended.send(Some(end));
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<End> {
        match self.poll_exchange(context) {
            Poll::Ready(Ok(())) => return Poll::Ready(self.end.take().unwrap_or(End::Left)),
            Poll::Ready(Err(error)) => {
                let failed = End::Failed(Arc::new(error.into()));
                return Poll::Ready(self.end.take().unwrap_or(failed));
            }
            Poll::Pending => {}
        }
        self.poll_deadline(context)
    }

    /// Moves octets as long as there are any; ready when no more will come.
    fn poll_exchange(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let session = self.look(context);
            let wrote = self.poll_output(context)?;
            if session.said_all && self.output.segments.is_empty() {
                self.poll_shut_down(context)?;
            }
            let read = match (session.said_all, session.wants_input) {
                (true, _) => self.poll_drain(context)?,
                (false, true) => self.poll_input(context)?,
                (false, false) => Poll::Pending,
            };
            match read {
                Poll::Ready(0) => return Poll::Ready(Ok(())),
                Poll::Ready(_) => {}
                Poll::Pending if wrote => {}
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// Fetches what the session wants to transmit, and asks to be woken when there is more.
    fn look(&mut self, context: &Context<'_>) -> Look {
        let fetch = self.output.segments.is_empty();
        let output = &mut self.output;
        let end = &mut self.end;
        let look = self.shared.look(|session, tasks| {
            if session.is_left() {
                end.get_or_insert(End::Left);
                session.close();
            }
            if session.is_closing() {
                end.get_or_insert(End::Closed);
            }
            if fetch {
                session.transmit(output, BATCH_SIZE);
            }
            let wants_input = session.wants_input();
            tasks.paused = !wants_input;
            match &mut tasks.driver {
                Some(waker) => waker.clone_from(context.waker()),
                None => tasks.driver = Some(context.waker().clone()),
            }
            Look {
                wants_input,
                said_all: session.is_closed(),
            }
        });
        if fetch && self.output.segments.len() > 1 && !self.io.is_write_vectored() {
            let all = self.output.concatenate();
            self.output.segments.push_back(all);
        }
        look
    }

    /// Writes and flushes what it can. Says whether anything was written.
    fn poll_output(&mut self, context: &mut Context<'_>) -> io::Result<bool> {
        let mut wrote = false;
        while !self.output.segments.is_empty() {
            let mut slices = [IoSlice::new(&[]); MAXIMUM_SLICES];
            let mut used = 0;
            for (slice, segment) in slices.iter_mut().zip(&self.output.segments) {
                *slice = IoSlice::new(segment);
                used += 1;
            }
            let written = match &slices[..used] {
                [one] => Pin::new(&mut self.io).poll_write(context, one),
                many => Pin::new(&mut self.io).poll_write_vectored(context, many),
            };
            match written {
                Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(written) => {
                    self.output.advance(written?);
                    self.unflushed = true;
                    self.active = Instant::now();
                    wrote = true;
                }
                Poll::Pending => return Ok(wrote),
            }
        }
        if self.unflushed {
            self.unflushed = Pin::new(&mut self.io).poll_flush(context)?.is_pending();
        }
        Ok(wrote)
    }

    /// Ends what this end sends. The other end closes the connection then, or the deadline does;
    /// if it were closed now, octets that are still unread here would make the kernel throw away
    /// those that the other end has not read.
    fn poll_shut_down(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        if !self.shut_down {
            self.shut_down = Pin::new(&mut self.io).poll_shutdown(context)?.is_ready();
        }
        Ok(())
    }

    /// Reads, and lets the session have it. Ready with 0: there will be no more.
    fn poll_input(&mut self, context: &mut Context<'_>) -> io::Result<Poll<usize>> {
        if self.input.capacity() - self.input.len() < READ_SIZE / 4 {
            self.input.reserve(READ_SIZE);
        }
        let Poll::Ready(read) = poll_read(&mut self.io, &mut self.input, context)? else {
            return Ok(Poll::Pending);
        };
        if read > 0 {
            self.active = Instant::now();
            let input = &mut self.input;
            if let Err(error) = self.shared.with(|session, _| session.receive(input)) {
                self.end = Some(End::Failed(Arc::new(error)));
            }
        }
        Ok(Poll::Ready(read))
    }

    /// Reads and drops.
    fn poll_drain(&mut self, context: &mut Context<'_>) -> io::Result<Poll<usize>> {
        self.input.clear();
        self.input.reserve(READ_SIZE);
        poll_read(&mut self.io, &mut self.input, context)
    }

    /// Ready when the connection was idle for too long, or does not come to its end.
    fn poll_deadline(&mut self, context: &mut Context<'_>) -> Poll<End> {
        if let Some(end) = &self.end {
            if !self.closing {
                self.closing = true;
                self.sleep
                    .as_mut()
                    .reset(Instant::now() + self.limits.linger);
            }
            return self.sleep.as_mut().poll(context).map(|()| end.clone());
        }
        loop {
            ready!(self.sleep.as_mut().poll(context));
            // Set again only when it rings: an octet costs no timer.
            let idle_at = self.active + self.limits.idle;
            if idle_at <= Instant::now() {
                return Poll::Ready(End::Idle(self.limits.idle));
            }
            self.sleep.as_mut().reset(idle_at);
        }
    }
}

/// What the driver wants to know of the session.
struct Look {
    wants_input: bool,
    /// GOAWAY is the last of what was fetched.
    said_all: bool,
}

/// Reads once into the room that `buffer` has.
fn poll_read<I: AsyncRead + Unpin>(
    io: &mut I,
    buffer: &mut BytesMut,
    context: &mut Context<'_>,
) -> io::Result<Poll<usize>> {
    // The future of one read keeps nothing from poll to poll.
    match pin!(io.read_buf(buffer)).poll(context) {
        Poll::Ready(read) => read.map(Poll::Ready),
        Poll::Pending => Ok(Poll::Pending),
    }
}
