//! What goes in and out of an owner.

use crate::container::Container;
use crate::container::create;
use crate::container::start::{NotStarted, Started};
use crate::error::{Error, Result};
use crate::ids::ContainerId;
use crate::link::{Exited, Hello, Link};
use crate::queue::Request;
use insula_isolators::spec::{ContainerSpec, Resources};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};

/// A request to a pod.
#[derive(Debug)]
pub(crate) struct Ask {
    pub(crate) want: Want,
    pub(crate) reply: oneshot::Sender<Result<Given>>,
    pub(crate) since: Instant,
    /// Until when it may wait for its turn.
    pub(crate) deadline: Instant,
}

/// Where an answer goes.
pub(super) type Reply = oneshot::Sender<Result<Given>>;

/// What is wanted.
#[derive(Debug)]
pub(crate) enum Want {
    Create(ContainerId, Arc<ContainerSpec>),
    Start(ContainerId),
    Stop(ContainerId, Duration),
    Remove(ContainerId),
    Update(ContainerId, Box<Resources>),
    /// A running container and the way to its supervisor.
    Use(ContainerId),
    StopPod,
    RemovePod,
    /// What kubelet gave the pod.
    Record {
        overhead: Option<Box<Resources>>,
        resources: Option<Box<Resources>>,
    },
}

/// What is given for it.
#[derive(Debug, Clone)]
pub(crate) enum Given {
    Nothing,
    Container(ContainerId),
    Use(Arc<Container>, Arc<Link>),
}

/// Names an operation in flight.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Ticket {
    Request(Request),
    Adopt,
    Bury,
    Watch,
}

/// An operation in flight: who waits for it, and since when.
#[derive(Debug)]
pub(super) struct Flight {
    pub(super) replies: Vec<Reply>,
    pub(super) since: Instant,
}

/// What became of an operation.
#[derive(Debug)]
pub(crate) enum Finished {
    Created(ContainerId, Result<Box<create::Made>>),
    Started(ContainerId, std::result::Result<Started, Box<NotStarted>>),
    Stopped(ContainerId, Result<()>),
    Removed(ContainerId, Result<()>),
    Updated(ContainerId, Box<Resources>, Result<()>),
    PodStopped(Result<()>),
    PodRemoved(Result<()>),
    Adopted(Adoption),
    Buried,
    /// The supervisor's process has ended.
    Died,
}

/// What became of looking for a supervisor.
#[derive(Debug)]
pub(crate) enum Adoption {
    /// It lives.
    Found {
        link: Arc<Link>,
        events: mpsc::Receiver<Exited>,
        hello: Box<Hello>,
        pidfd: OwnedFd,
    },
    /// It has provably ended.
    Dead,
}

// === impl Ask ===

impl Ask {
    /// As the queue knows it; records alone do not go through it.
    pub(super) fn request(&self) -> Request {
        match &self.want {
            Want::Create(id, _) => Request::Create(id.clone()),
            Want::Start(id) => Request::Start(id.clone()),
            Want::Stop(id, _) => Request::Stop(id.clone()),
            Want::Remove(id) => Request::Remove(id.clone()),
            Want::Update(id, _) => Request::Update(id.clone()),
            Want::Use(id) => Request::Use(id.clone()),
            Want::StopPod | Want::Record { .. } => Request::StopPod,
            Want::RemovePod => Request::RemovePod,
        }
    }

    /// Answers it; nobody may be there to hear it.
    pub(crate) fn answer(self, answer: Result<Given>) {
        let _gone = self.reply.send(answer);
    }

    /// Whether it has no meaning without somebody who waits for it.
    pub(super) fn is_abandoned(&self) -> bool {
        matches!(self.want, Want::Use(_) | Want::Update(..)) && self.reply.is_closed()
    }
}

// === impl Flight ===

impl Flight {
    pub(super) fn new(reply: Reply) -> Self {
        Self {
            replies: vec![reply],
            since: Instant::now(),
        }
    }

    /// Answers all who wait for it.
    pub(super) fn answer(self, answer: &Result<Given>) {
        for reply in self.replies {
            let _gone = reply.send(answer.clone());
        }
    }
}

// === impl Ticket ===

impl Ticket {
    /// The operation's name in metrics and logs.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Request(request) => match request {
                Request::Create(_) => "create_container",
                Request::Start(_) => "start_container",
                Request::Stop(_) => "stop_container",
                Request::Remove(_) => "remove_container",
                Request::Update(_) => "update_container",
                Request::Use(_) => "use_container",
                Request::StopPod => "stop_sandbox",
                Request::RemovePod => "remove_sandbox",
            },
            Self::Adopt => "adopt",
            Self::Bury => "bury",
            Self::Watch => "watch",
        }
    }
}

/// The error of an operation whose task ended without a result.
pub(super) fn broken_off(ticket: &Ticket, why: &tokio::task::JoinError) -> Error {
    Error::internal(ticket.name(), format!("the operation broke off: {why}"))
}
