//! The connection to one pod's supervisor.
//!
//! Requests are numbered and answered in any order; events go to the pod's
//! owner, except the ends of execs, which go to whoever waits for them. When
//! the connection ends, every waiting request fails and the event channel
//! closes: the owner then finds out whether the supervisor died.

use crate::error::{Error, Result};
use crate::readiness;
use insula_wire::WIRE_VERSION;
use insula_wire::channel::{ChannelError, Packet, receive_from_supervisor};
use insula_wire::message::{
    Answer, ContainerState, Envelope, Event, Exit, Failure, FailureKind, FromSupervisor, Request,
};
use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::{mpsc, oneshot};

/// A container's main process ended.
#[derive(Debug, Clone)]
pub(crate) struct Exited {
    pub(crate) container_id: String,
    pub(crate) exit: Exit,
}

/// What a supervisor says of itself when it is connected to.
#[derive(Debug, Clone)]
pub(crate) struct Hello {
    pub(crate) pid: i32,
    pub(crate) pod_made: bool,
    pub(crate) containers: Vec<ContainerState>,
}

/// The end of an exec.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ExecEnd {
    pub(crate) code: i32,
    pub(crate) timed_out: bool,
}

/// Somebody who was attached did not read fast enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lagged;

/// A connection. Shared by all who ask something of the supervisor; it closes
/// when the last of them lets go.
#[derive(Debug)]
pub(crate) struct Link {
    shared: Arc<Shared>,
    next_id: AtomicU64,
    next_exec: AtomicU64,
    /// Packets of one request follow each other.
    writing: tokio::sync::Mutex<()>,
    reader: tokio::task::JoinHandle<()>,
    /// Things are dropped on any thread.
    runtime: tokio::runtime::Handle,
}

#[derive(Debug)]
struct Shared {
    socket: AsyncFd<OwnedFd>,
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    closed: Option<String>,
    replies: HashMap<u64, oneshot::Sender<Reply>>,
    execs: HashMap<u64, oneshot::Sender<ExecEnd>>,
    attaches: HashMap<u64, oneshot::Sender<Lagged>>,
}

type Reply = std::result::Result<(Answer, Vec<OwnedFd>), Refused>;

/// Why a request did not succeed.
#[derive(Debug)]
pub(crate) enum Refused {
    /// The supervisor said no.
    Failure(Failure),
    /// The connection ended.
    Lost(String),
}

// === impl Link ===

impl Link {
    /// Takes over a connected socket and says hello.
    pub(crate) async fn open(
        socket: OwnedFd,
        events: mpsc::Sender<Exited>,
        deadline: Duration,
    ) -> Result<(Arc<Self>, Hello)> {
        let stage = "connect to the pod's supervisor";
        insula_sys::seqpacket::set_nonblocking(&socket, true)
            .map_err(|error| Error::internal(stage, error))?;
        let socket = readiness::watch(socket, Interest::READABLE | Interest::WRITABLE)
            .map_err(|error| Error::internal(stage, error))?;
        let shared = Arc::new(Shared {
            socket,
            waiting: Mutex::default(),
        });
        let reader = tokio::spawn(read(Arc::clone(&shared), events));
        let link = Arc::new(Self {
            shared,
            next_id: AtomicU64::new(1),
            // A daemon before this one may have execs that still run.
            next_exec: AtomicU64::new(crate::files::now().unsigned_abs()),
            writing: tokio::sync::Mutex::new(()),
            reader,
            runtime: tokio::runtime::Handle::current(),
        });
        let hello = Request::Hello {
            version: WIRE_VERSION,
        };
        match link
            .ask("greet the pod's supervisor", hello, &[], deadline)
            .await?
        {
            (
                Answer::Hello {
                    version,
                    pid,
                    pod_made,
                    containers,
                },
                _,
            ) if (WIRE_VERSION.saturating_sub(1)..=WIRE_VERSION).contains(&version) => Ok((
                link,
                Hello {
                    pid,
                    pod_made,
                    containers,
                },
            )),
            (Answer::Hello { version, .. }, _) => Err(Error::internal(
                stage,
                format!(
                    "it speaks version {version} of the messages; this daemon speaks {WIRE_VERSION} and the one before it"
                ),
            )),
            (other, _) => Err(unexpected(stage, &other)),
        }
    }

    /// Asks something and waits for the answer.
    pub(crate) async fn ask(
        &self,
        stage: &str,
        request: Request,
        descriptors: &[BorrowedFd<'_>],
        deadline: Duration,
    ) -> Result<(Answer, Vec<OwnedFd>)> {
        self.try_ask(stage, request, descriptors, deadline)
            .await?
            .map_err(|refused| refused.into_error(stage))
    }

    /// The same for those who decide by how it failed.
    pub(crate) async fn try_ask(
        &self,
        stage: &str,
        request: Request,
        descriptors: &[BorrowedFd<'_>],
        deadline: Duration,
    ) -> Result<Reply> {
        let begun = Instant::now();
        let late = |_| Error::DeadlineExceeded {
            stage: stage.to_owned(),
            after: begun.elapsed(),
        };
        tokio::time::timeout(deadline, self.exchange(stage, request, descriptors))
            .await
            .map_err(late)?
    }

    /// Asks something whose answer nobody waits for, in a task of its own on the
    /// runtime that the connection was made on.
    pub(crate) fn ask_later(
        self: &Arc<Self>,
        stage: &'static str,
        request: Request,
        deadline: Duration,
    ) {
        let link = Arc::clone(self);
        self.runtime.spawn(async move {
            let answer = link.try_ask(stage, request, &[], deadline).await;
            tracing::debug!(stage, ?answer, "asked");
        });
    }

    async fn exchange(
        &self,
        stage: &str,
        request: Request,
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<Reply> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let packets = Packet::request(&Envelope { id, request }, descriptors)
            .map_err(|error| Error::internal(stage, error))?;
        let (sender, receiver) = oneshot::channel();
        {
            let mut waiting = self.shared.waiting();
            if let Some(why) = &waiting.closed {
                return Ok(Err(Refused::Lost(why.clone())));
            }
            waiting.replies.insert(id, sender);
        }
        let _forget = Forget {
            shared: &self.shared,
            id,
        };
        {
            let _turn = self.writing.lock().await;
            for packet in packets {
                let sent = self
                    .shared
                    .socket
                    .async_io(Interest::WRITABLE, |socket| {
                        packet.send(socket.as_fd()).map_err(into_io)
                    })
                    .await;
                if let Err(error) = sent {
                    return Ok(Err(Refused::Lost(error.to_string())));
                }
            }
        }
        Ok(receiver
            .await
            .unwrap_or_else(|_| Err(Refused::Lost("the connection was closed".to_owned()))))
    }

    /// A new exec's id, and its end when it comes.
    pub(crate) fn expect_exec(&self) -> (u64, oneshot::Receiver<ExecEnd>) {
        let id = self.next_exec.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = oneshot::channel();
        self.shared.waiting().execs.insert(id, sender);
        (id, receiver)
    }

    /// Nobody waits for this exec any more.
    pub(crate) fn forget_exec(&self, id: u64) {
        self.shared.waiting().execs.remove(&id);
    }

    /// The id of somebody who attaches, and that they did not keep up, if that
    /// comes.
    pub(crate) fn expect_attach(&self) -> (u64, oneshot::Receiver<Lagged>) {
        let id = self.next_exec.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = oneshot::channel();
        self.shared.waiting().attaches.insert(id, sender);
        (id, receiver)
    }

    /// They are not attached any more.
    pub(crate) fn forget_attach(&self, id: u64) {
        self.shared.waiting().attaches.remove(&id);
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

// === impl Shared ===

impl Shared {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn close(&self, why: &str) {
        let mut waiting = self.waiting();
        waiting.closed = Some(why.to_owned());
        waiting.execs.clear();
        waiting.attaches.clear();
        for (_, reply) in waiting.replies.drain() {
            let _gone = reply.send(Err(Refused::Lost(why.to_owned())));
        }
    }
}

// === impl Refused ===

impl Refused {
    pub(crate) fn into_error(self, stage: &str) -> Error {
        match self {
            Self::Failure(failure) => match failure.kind {
                FailureKind::WrongState => Error::FailedPrecondition(format!("{stage}: {failure}")),
                _ => Error::internal(stage, failure),
            },
            Self::Lost(why) => Error::internal(
                stage,
                format!("the connection to the pod's supervisor was lost: {why}"),
            ),
        }
    }
}

/// An answer that does not fit the request.
pub(crate) fn unexpected(stage: &str, answer: &Answer) -> Error {
    Error::internal(
        stage,
        format!("the pod's supervisor answered something else: {answer:?}"),
    )
}

/// Takes a request off the list of those that wait, however its wait ends.
struct Forget<'a> {
    shared: &'a Shared,
    id: u64,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        self.shared.waiting().replies.remove(&self.id);
    }
}

async fn read(shared: Arc<Shared>, events: mpsc::Sender<Exited>) {
    let why = loop {
        let received = shared
            .socket
            .async_io(Interest::READABLE, |socket| {
                receive_from_supervisor(socket.as_fd()).map_err(into_io)
            })
            .await;
        match received {
            Ok((FromSupervisor::Reply { id, reply }, descriptors)) => {
                let waiter = shared.waiting().replies.remove(&id);
                if let Some(waiter) = waiter {
                    let reply = reply
                        .map(|answer| (answer, descriptors))
                        .map_err(Refused::Failure);
                    let _gone = waiter.send(reply);
                }
            }
            Ok((FromSupervisor::Event(Event::Exited { container_id, exit }), _)) => {
                let event = Exited { container_id, exit };
                if events.send(event).await.is_err() {
                    break "nobody listens any more".to_owned();
                }
            }
            Ok((
                FromSupervisor::Event(Event::ExecExited {
                    exec_id,
                    code,
                    timed_out,
                }),
                _,
            )) => {
                let waiter = shared.waiting().execs.remove(&exec_id);
                if let Some(waiter) = waiter {
                    let _gone = waiter.send(ExecEnd { code, timed_out });
                }
            }
            Ok((FromSupervisor::Event(Event::AttachLagged { attach_id }), _)) => {
                let waiter = shared.waiting().attaches.remove(&attach_id);
                if let Some(waiter) = waiter {
                    let _gone = waiter.send(Lagged);
                }
            }
            Err(error) => break error.to_string(),
        }
    };
    shared.close(&why);
}

fn into_io(error: ChannelError) -> io::Error {
    match error {
        ChannelError::System(error) if insula_sys::seqpacket::would_block(&error) => {
            io::ErrorKind::WouldBlock.into()
        }
        other => io::Error::other(other.to_string()),
    }
}
