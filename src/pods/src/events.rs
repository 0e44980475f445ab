//! What happens to pods and containers, told to whoever listens.
//!
//! Owners tell; each listener has a queue of its own. A listener gets every
//! event from the moment it begins, in the order of their times, or it is cut
//! off: when its queue is full, what is in it is dropped and the listener is
//! told that it lagged. Nothing is ever skipped in silence, and nobody who does
//! not read costs more than one queue.
//!
//! Events are not kept for those who come later: a client lists first, or a
//! kubelet relists, as after any broken stream (KEP-3386).

use crate::error::{Error, Result};
use crate::files;
use crate::metrics::Metrics;
use crate::registry::Snapshot;
use crate::status::{ContainerState, ContainerStatus, PodStatus};
use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use tokio::sync::Notify;

/// Events that may wait for one listener. A kubelet takes them as they come; a
/// node that starts 250 pods of four containers makes some 2,500.
pub const QUEUE: usize = 8192;

/// How many may listen at the same time.
pub const LISTENERS: usize = 64;

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventKind {
    /// It was made.
    Created,
    /// It runs.
    Started,
    /// It has ended.
    Stopped,
    /// It does not exist any more.
    Deleted,
}

/// Something that happened to a pod or to a container, with the state of the
/// whole pod right after it (CRI `ContainerEventResponse`).
#[derive(Debug, Clone)]
pub struct Event {
    /// The id of the container; of the pod, when it is about the pod itself.
    pub subject: String,
    /// What happened.
    pub kind: EventKind,
    /// When it was told, nanoseconds since the epoch. No two events have the
    /// same, and later ones have greater.
    pub at: i64,
    /// The pod.
    pub pod: Arc<PodStatus>,
    /// Its containers that exist.
    pub containers: Vec<Arc<ContainerStatus>>,
}

/// Why there are no more events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Ended {
    /// The listener did not keep up.
    #[error(
        "{QUEUE} events were not read in time, and all of them were dropped: list pods and containers, then ask for events again"
    )]
    Lagged,
    /// The daemon is stopping.
    #[error("the daemon is stopping: ask again when it is back")]
    Stopping,
}

/// One listener's end. Dropping it ends the listening.
#[derive(Debug)]
pub struct Events {
    line: Arc<Line>,
    metrics: Metrics,
}

/// Where owners tell.
#[derive(Debug)]
pub(crate) struct Hub {
    state: Mutex<State>,
    metrics: Metrics,
}

#[derive(Debug, Default)]
struct State {
    lines: Vec<Weak<Line>>,
    last: i64,
    stopping: bool,
}

/// One listener's queue.
struct Line {
    waiting: Mutex<Waiting>,
    changed: Notify,
}

#[derive(Default)]
struct Waiting {
    events: VecDeque<Event>,
    ended: Option<Ended>,
}

// === impl Hub ===

impl Hub {
    pub(crate) fn new(metrics: Metrics) -> Self {
        Self {
            state: Mutex::default(),
            metrics,
        }
    }

    /// Begins to listen: every event that is told from now on is given.
    pub(crate) fn listen(&self) -> Result<Events> {
        let line = Arc::new(Line {
            waiting: Mutex::default(),
            changed: Notify::new(),
        });
        let mut state = self.state();
        state.lines.retain(|line| line.strong_count() > 0);
        if state.lines.len() >= LISTENERS {
            return Err(Error::ResourceExhausted(format!(
                "{LISTENERS} clients listen to events already: end one of them"
            )));
        }
        if state.stopping {
            line.end(Ended::Stopping);
        }
        state.lines.push(Arc::downgrade(&line));
        self.metrics.listener_came();
        Ok(Events {
            line,
            metrics: self.metrics.clone(),
        })
    }

    /// Tells what has become different between two states of a pod.
    pub(crate) fn tell_changes(&self, before: &Snapshot, after: &Snapshot) {
        for (subject, kind) in changes(before, after) {
            self.tell(subject, kind, after);
        }
    }

    /// Tells one thing. Never waits for a listener.
    pub(crate) fn tell(&self, subject: &str, kind: EventKind, after: &Snapshot) {
        let mut state = self.state();
        if state.lines.is_empty() {
            return;
        }
        // The clock may stand still or go back; the order must not.
        state.last = files::now().max(state.last + 1);
        let event = Event {
            subject: subject.to_owned(),
            kind,
            at: state.last,
            pod: Arc::clone(&after.pod),
            containers: after
                .containers
                .iter()
                .map(|view| Arc::clone(&view.status))
                .collect(),
        };
        // Under the lock, so that all listeners get all events in one order.
        state.lines.retain(|line| {
            line.upgrade().is_some_and(|line| {
                let takes_more = line.push(event.clone());
                if !takes_more {
                    self.metrics.listener_lagged();
                }
                takes_more
            })
        });
    }

    /// Ends all streams, which would go on for ever.
    pub(crate) fn stop(&self) {
        let mut state = self.state();
        state.stopping = true;
        for line in state.lines.drain(..).filter_map(|line| line.upgrade()) {
            line.end(Ended::Stopping);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Line ===

impl Line {
    /// Adds an event; false when the listener is cut off.
    fn push(&self, event: Event) -> bool {
        let mut waiting = self.waiting();
        let takes_more = waiting.events.len() < QUEUE;
        if takes_more {
            waiting.events.push_back(event);
        } else {
            // At once: the listener may never come to take them.
            waiting.events = VecDeque::new();
            waiting.ended = Some(Ended::Lagged);
        }
        self.changed.notify_one();
        takes_more
    }

    /// No more events after those that wait.
    fn end(&self, why: Ended) {
        self.waiting().ended.get_or_insert(why);
        self.changed.notify_one();
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Line")
            .field("waiting", &self.waiting().events.len())
            .finish_non_exhaustive()
    }
}

// === impl Events ===

impl Events {
    /// The next event. After an end, the same end again.
    pub async fn next(&mut self) -> std::result::Result<Event, Ended> {
        loop {
            {
                let mut waiting = self.line.waiting();
                if let Some(event) = waiting.events.pop_front() {
                    return Ok(event);
                }
                if let Some(ended) = waiting.ended {
                    return Err(ended);
                }
            }
            // One that comes in between has left its permit.
            self.line.changed.notified().await;
        }
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        self.metrics.listener_went();
    }
}

/// What happened to the containers of a pod between two of its states. What is
/// gone comes last, as it does in life.
fn changes<'a>(before: &'a Snapshot, after: &'a Snapshot) -> Vec<(&'a str, EventKind)> {
    let mut found = Vec::new();
    for view in &after.containers {
        let status = &view.status;
        let old = before.container(&status.id).map(|view| view.status.state);
        let kinds: &[EventKind] = match (old, status.state) {
            (None, ContainerState::Created | ContainerState::Unknown) => &[EventKind::Created],
            (None, ContainerState::Running) => &[EventKind::Created, EventKind::Started],
            (None, ContainerState::Exited) => &[EventKind::Created, EventKind::Stopped],
            (Some(ContainerState::Created), ContainerState::Running) => &[EventKind::Started],
            (Some(old), ContainerState::Exited) if old != ContainerState::Exited => {
                &[EventKind::Stopped]
            }
            (Some(_), _) => &[],
        };
        found.extend(kinds.iter().map(|kind| (status.id.as_str(), *kind)));
    }
    let gone = before.containers.iter().map(|view| &view.status.id);
    let gone = gone.filter(|id| after.container(id).is_none());
    found.extend(gone.map(|id| (id.as_str(), EventKind::Deleted)));
    found
}
