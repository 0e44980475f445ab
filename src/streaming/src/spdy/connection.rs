//! A session that runs over a connection.

use std::collections::{HashMap, VecDeque};
use std::future::poll_fn;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;

use super::driver::Driver;
use super::error::{End, SpdyError};
use super::headers::Headers;
use super::limits::Limits;
use super::session::{Event, Role, Session};
use super::stream::Stream;

/// How long an answer to a new stream may take, as in the Go client.
const ANSWER_DEADLINE: Duration = Duration::from_secs(30);

/// Runs the server's end of a session over a connection that was upgraded to SPDY/3.1. Must be
/// called on a tokio runtime: a task of its own moves the octets, until the connection ends.
pub fn serve<I>(io: I, limits: Limits) -> (Connection, Incoming)
where
    I: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let connection = start(io, Role::Server, limits);
    let incoming = Incoming {
        shared: Arc::clone(&connection.shared),
    };
    (connection, incoming)
}

/// Runs the client's end of a session over a connection that was upgraded to SPDY/3.1. Must be
/// called on a tokio runtime.
pub fn connect<I>(io: I, limits: Limits) -> Connection
where
    I: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    start(io, Role::Client, limits)
}

fn start<I>(io: I, role: Role, limits: Limits) -> Connection
where
    I: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (ended, watch) = watch::channel(None);
    let shared = Arc::new(Shared {
        state: Mutex::new(State {
            session: Session::new(role, limits),
            tasks: Tasks {
                half_window: limits.window as usize / 2,
                accepts: role == Role::Server,
                ..Tasks::default()
            },
        }),
        ended: watch,
    });
    tokio::spawn(Driver::new(io, Arc::clone(&shared), limits).run(ended));
    Connection { shared }
}

/// A session over a connection. It is closed when this is dropped.
#[derive(Debug)]
pub struct Connection {
    shared: Arc<Shared>,
}

impl Connection {
    /// Opens a stream and waits until the other end answers. Only a client can; the error says so.
    pub async fn open(&self, headers: &[(&str, &str)]) -> Result<Stream, SpdyError> {
        let id = self.shared.with(|session, _| session.open(headers))?;
        // from here on the stream is released when this future is dropped
        let stream = Stream::new(id, Headers::default(), Arc::clone(&self.shared));
        let answer = poll_fn(|context| stream.poll_answered(context));
        match tokio::time::timeout(ANSWER_DEADLINE, answer).await {
            Ok(answer) => answer.map(|()| stream).map_err(SpdyError::from),
            Err(_) => Err(SpdyError::Unanswered(ANSWER_DEADLINE)),
        }
    }

    /// Waits until the connection has ended, and says how. Its streams give an error or their end
    /// by then.
    pub async fn closed(&self) -> End {
        let mut ended = self.shared.ended.clone();
        let end = match ended.wait_for(Option::is_some).await {
            Ok(end) => end.clone(),
            // the task is gone together with its runtime
            Err(_) => None,
        };
        end.unwrap_or(End::Closed)
    }

    /// Ends the connection: what was written to streams is transmitted, then GOAWAY, then the
    /// connection beneath is shut down. [`Limits::linger`] is the deadline for it. What is written
    /// to streams from now on is refused.
    pub fn close(&self) {
        self.shared.with(|session, _| session.close());
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.close();
    }
}

/// The streams that the other end opens.
#[derive(Debug)]
pub struct Incoming {
    shared: Arc<Shared>,
}

impl Incoming {
    /// Waits for the next stream. It is answered already. `None`: the connection ended.
    ///
    /// Nothing is lost when the future is dropped.
    pub async fn next(&mut self) -> Option<Stream> {
        let (id, headers) = poll_fn(|context| self.shared.poll_accept(context)).await?;
        Some(Stream::new(id, headers, Arc::clone(&self.shared)))
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        self.shared.with(|session, tasks| {
            tasks.accepts = false;
            for (id, _) in tasks.opened.drain(..) {
                session.release(id);
            }
        });
    }
}

/// What a connection's task, its handle and its streams have in common. The lock is held for
/// short straight pieces of code only; who is to be woken is woken after it.
#[derive(Debug)]
pub(super) struct Shared {
    state: Mutex<State>,
    ended: watch::Receiver<Option<End>>,
}

#[derive(Debug)]
struct State {
    session: Session,
    tasks: Tasks,
}

/// Who waits for what.
#[derive(Debug, Default)]
pub(super) struct Tasks {
    /// The connection's task, which waits for something to do.
    pub(super) driver: Option<Waker>,
    /// The connection's task does not read because too much is unread.
    pub(super) paused: bool,
    /// The connection is over.
    pub(super) ended: bool,
    pub(super) readers: HashMap<u32, Waker>,
    pub(super) writers: HashMap<u32, Waker>,
    /// Somebody takes the streams of the other end.
    accepts: bool,
    /// Streams of the other end that nobody took yet.
    opened: VecDeque<(u32, Headers)>,
    accepter: Option<Waker>,
    /// Room at which a writer is worth to be woken.
    half_window: usize,
}

impl Shared {
    /// Does something to the session, and wakes everybody whom it concerns.
    pub(super) fn with<T>(&self, change: impl FnOnce(&mut Session, &mut Tasks) -> T) -> T {
        self.change(change, Tasks::driver_has_work)
    }

    /// The same for the connection's own task, which is not woken.
    pub(super) fn look<T>(&self, change: impl FnOnce(&mut Session, &mut Tasks) -> T) -> T {
        self.change(change, |_, _| false)
    }

    fn change<T>(
        &self,
        change: impl FnOnce(&mut Session, &mut Tasks) -> T,
        wakes_driver: impl FnOnce(&Tasks, &Session) -> bool,
    ) -> T {
        let mut wakers = Vec::new();
        let result = {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            let State { session, tasks } = &mut *state;
            let result = change(session, tasks);
            tasks.dispatch(session, &mut wakers);
            if wakes_driver(tasks, session) {
                wakers.extend(tasks.driver.take());
            }
            result
        };
        for waker in wakers {
            waker.wake();
        }
        result
    }

    fn poll_accept(&self, context: &mut Context<'_>) -> Poll<Option<(u32, Headers)>> {
        self.with(|_, tasks| match tasks.opened.pop_front() {
            Some(opened) => Poll::Ready(Some(opened)),
            None if tasks.ended => Poll::Ready(None),
            None => {
                tasks.accepter = Some(context.waker().clone());
                Poll::Pending
            }
        })
    }
}

impl Tasks {
    /// Turns what happened in the session into wakers.
    fn dispatch(&mut self, session: &mut Session, wakers: &mut Vec<Waker>) {
        while let Some(event) = session.event() {
            match event {
                Event::Opened(id, headers) if self.accepts => {
                    self.opened.push_back((id, headers));
                    wakers.extend(self.accepter.take());
                }
                Event::Opened(id, _) => session.release(id),
                Event::Answered(id) | Event::Readable(id) => {
                    wakers.extend(self.readers.remove(&id));
                }
                Event::Writable(id) => {
                    let little = matches!(session.room(id), Ok(room) if room < self.half_window);
                    if !little || matches!(session.finished(id), Ok(true)) {
                        wakers.extend(self.writers.remove(&id));
                    }
                }
            }
        }
        if self.ended {
            wakers.extend(self.accepter.take());
        }
    }

    fn driver_has_work(&self, session: &Session) -> bool {
        session.wants_output() || self.paused && session.wants_input()
    }
}
