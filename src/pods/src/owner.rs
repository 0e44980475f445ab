//! The owner of one pod: the only task that changes its state.
//!
//! It takes requests from a channel, asks the [`Queue`](crate::queue::Queue)
//! which may begin, runs those as tasks of their own, and applies what became
//! of them. It never waits for anything but the next thing to happen. After
//! each change it publishes a snapshot, from which lists and states are read.
//!
//! ```text
//! requests ──►┌───────┐ begin ┌────────────┐
//! exits ─────►│ owner │──────►│ operations │ (create, start, stop, adopt, bury …)
//! death ─────►└───┬───┘◄──────└────────────┘ finished
//!                 └─► snapshot, records
//! ```

mod apply;
mod begin;
mod supervisor;
mod types;

pub(crate) use types::{Adoption, Ask, Given, Want};

use crate::container::{self, Container};
use crate::env::{Env, Pod};
use crate::error::Error;
use crate::events::EventKind;
use crate::files;
use crate::ids::ContainerId;
use crate::link::{Exited, Link};
use crate::queue::{Decision, Queue};
use crate::records::{ContainerRecord, End, PodRecord, Progress};
use crate::registry::{Handle, Snapshot, View};
use crate::sandbox::make::Made;
use crate::stats::PodMeter;
use crate::status::{ContainerState, ContainerStatus, PodState, PodStatus};
use std::collections::{BTreeMap, HashMap};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use types::{Finished, Flight, Ticket};

/// How many requests to one pod may wait to be looked at.
const ASKS: usize = 1024;

/// How many requests to one pod may wait for something else to end.
const WAITING: usize = 1024;

/// A container as its owner knows it.
#[derive(Debug)]
struct Entry {
    container: Arc<Container>,
    record: ContainerRecord,
    state: ContainerState,
    pid: Option<i32>,
    ended: watch::Sender<Option<End>>,
    /// When a stop in flight turns into a kill.
    kill_at: Option<watch::Sender<Instant>>,
    /// As published; made anew when something changed.
    status: Arc<ContainerStatus>,
}

/// The task's state.
#[derive(Debug)]
pub(crate) struct Owner {
    pod: Arc<Pod>,
    record: PodRecord,
    queue: Queue,
    entries: BTreeMap<ContainerId, Entry>,
    /// Containers that are being made, with their names.
    making: HashMap<ContainerId, Arc<insula_isolators::spec::ContainerSpec>>,
    link: Option<Arc<Link>>,
    events: Option<mpsc::Receiver<Exited>>,
    process: Option<Arc<OwnedFd>>,
    supervisor_pid: Option<i32>,
    asks: mpsc::Receiver<Ask>,
    waiting: Vec<Ask>,
    flights: HashMap<Ticket, Flight>,
    operations: JoinSet<Finished>,
    tickets: HashMap<tokio::task::Id, Ticket>,
    /// Turns true when the pod is to be stopped; creations give up.
    closing: watch::Sender<bool>,
    publish: watch::Sender<Arc<Snapshot>>,
    meter: Arc<PodMeter>,
    /// Nobody has been told yet that the pod has ended.
    works: bool,
    removed: bool,
}

// === impl Owner ===

impl Owner {
    /// Starts the owner of a pod that was just made, and makes it known.
    pub(crate) fn start_new(made: Made) {
        let mut owner = Self::new(Arc::clone(&made.pod), made.record, Queue::new(), Vec::new());
        owner.link = Some(made.link);
        owner.events = Some(made.events);
        owner.supervisor_pid = Some(made.process.pid);
        let snapshot = owner.replace_snapshot().1;
        let id = owner.pod.id.clone();
        for kind in [EventKind::Created, EventKind::Started] {
            owner.pod.env.events.tell(id.as_str(), kind, &snapshot);
        }
        owner.watch_supervisor(made.process.pidfd);
        owner.make_known_and_run();
    }

    /// Starts the owner of a pod on record. Its supervisor is looked for.
    pub(crate) fn start_recorded(
        env: &Arc<Env>,
        record: PodRecord,
        containers: Vec<(ContainerRecord, Option<Arc<dyn crate::host::Group>>)>,
    ) {
        let pod = Pod::recorded(env, &record);
        let queue = Queue::recorded(record.progress);
        let broken = record.progress == Progress::Broken;
        let stopped = record.progress == Progress::Stopped;
        let mut owner = Self::new(Arc::new(pod), record, queue, containers);
        // What is on record has been told by an earlier daemon.
        owner.replace_snapshot();
        if broken {
            owner.begin_burial();
        } else if !stopped {
            owner.begin_adoption();
        }
        owner.make_known_and_run();
    }

    fn new(
        pod: Arc<Pod>,
        record: PodRecord,
        mut queue: Queue,
        containers: Vec<(ContainerRecord, Option<Arc<dyn crate::host::Group>>)>,
    ) -> Self {
        let mut entries = BTreeMap::new();
        for (record, group) in containers {
            let entry = Entry::recorded(record, group);
            queue.restore(entry.record.id.clone(), entry.state);
            pod.env.registry.add_container(&entry.record.id, &pod.id);
            entries.insert(entry.record.id.clone(), entry);
        }
        let (asks_sender, asks) = mpsc::channel(ASKS);
        let meter = Arc::new(PodMeter::new(pod.cgroup_path.clone()));
        let snapshot = Arc::new(Snapshot {
            pod: Arc::new(status_of(&pod, &record, &queue, None)),
            containers: Vec::new(),
            meter: Arc::clone(&meter),
        });
        let (publish, snapshots) = watch::channel(snapshot);
        // Until the registry has it, the handle lives in the owner.
        let handle = Handle {
            asks: asks_sender,
            snapshot: snapshots,
        };
        pod.env.registry.add_pod(&pod.spec, &pod.id, handle);
        Self {
            works: !record.progress.has_ended(),
            pod,
            record,
            queue,
            entries,
            making: HashMap::new(),
            link: None,
            events: None,
            process: None,
            supervisor_pid: None,
            asks,
            waiting: Vec::new(),
            flights: HashMap::new(),
            operations: JoinSet::new(),
            tickets: HashMap::new(),
            closing: watch::Sender::new(false),
            publish,
            meter,
            removed: false,
        }
    }

    fn make_known_and_run(self) {
        tokio::spawn(self.run());
    }

    async fn run(mut self) {
        while !self.removed {
            let expiry = self.waiting.iter().map(|ask| ask.deadline).min();
            tokio::select! {
                ask = self.asks.recv() => match ask {
                    Some(ask) => self.take(ask),
                    // The daemon is going away; the pod stays.
                    None => return,
                },
                exited = next(&mut self.events) => match exited {
                    Some(exited) => self.container_exited(&exited),
                    None => self.link_lost(),
                },
                Some(finished) = self.operations.join_next_with_id() => self.finished(finished),
                () = until(expiry) => self.expire(),
            }
            self.offer_waiting();
            self.publish();
        }
        for ask in self.waiting.drain(..) {
            ask.answer(Err(Error::no_pod(self.pod.id.as_str())));
        }
    }

    /// Looks at a request for the first time.
    fn take(&mut self, ask: Ask) {
        if let Some(ask) = self.consider(ask) {
            if self.waiting.len() < WAITING {
                self.waiting.push(ask);
            } else {
                ask.answer(Err(Error::ResourceExhausted(format!(
                    "more than {WAITING} requests wait for pod {}",
                    self.pod.id
                ))));
            }
        }
    }

    /// Looks again at those that wait, in order.
    fn offer_waiting(&mut self) {
        for ask in std::mem::take(&mut self.waiting) {
            if self.removed {
                ask.answer(Err(Error::no_pod(self.pod.id.as_str())));
            } else if let Some(ask) = self.consider(ask) {
                self.waiting.push(ask);
            }
        }
    }

    /// Begins a request, joins it, answers it, or gives it back to wait.
    fn consider(&mut self, ask: Ask) -> Option<Ask> {
        if ask.is_abandoned() {
            return None;
        }
        let ask = match self.check(ask) {
            Ok(ask) => ask,
            Err(answered) => return answered,
        };
        let request = ask.request();
        let decision = self.queue.ask(&request);
        if self.queue.is_closing() {
            self.closing.send_replace(true);
            self.record_closing();
        }
        match decision {
            Decision::Begin => self.begin(ask),
            Decision::Join => self.join(ask),
            Decision::Done => ask.answer(Ok(Given::Nothing)),
            Decision::Wait => return Some(ask),
            Decision::Refuse(refusal) => {
                let error = self.explain(&ask, &refusal);
                ask.answer(Err(error));
            }
        }
        None
    }

    fn expire(&mut self) {
        let now = Instant::now();
        for ask in std::mem::take(&mut self.waiting) {
            if ask.deadline > now {
                self.waiting.push(ask);
                continue;
            }
            let error = Error::DeadlineExceeded {
                stage: self.what_is_waited_for(),
                after: ask.since.elapsed(),
            };
            ask.answer(Err(error));
        }
    }

    /// Publishes the state as it is now, and tells what has changed.
    fn publish(&mut self) {
        let (before, after) = self.replace_snapshot();
        let events = &self.pod.env.events;
        events.tell_changes(&before, &after);
        if self.works && self.record.progress.has_ended() {
            self.works = false;
            events.tell(self.pod.id.as_str(), EventKind::Stopped, &after);
        }
    }

    /// Publishes the state; gives back the one before and the new one.
    fn replace_snapshot(&mut self) -> (Arc<Snapshot>, Arc<Snapshot>) {
        for entry in self.entries.values_mut() {
            let status = container::status(&entry.record, entry.state, entry.pid);
            if *entry.status != status {
                entry.status = Arc::new(status);
            }
        }
        let snapshot = Snapshot {
            pod: Arc::new(status_of(
                &self.pod,
                &self.record,
                &self.queue,
                self.supervisor_pid,
            )),
            containers: self
                .entries
                .values()
                .map(|entry| View {
                    status: Arc::clone(&entry.status),
                    container: Arc::clone(&entry.container),
                })
                .collect(),
            meter: Arc::clone(&self.meter),
        };
        let snapshot = Arc::new(snapshot);
        let before = self.publish.send_replace(Arc::clone(&snapshot));
        (before, snapshot)
    }

    /// A daemon that dies from here on leaves a pod that may lack its network: the next one must not
    /// call it ready, nor its supervisor's end a death.
    fn record_closing(&mut self) {
        if self.record.progress == Progress::Ready {
            self.record.progress = Progress::Closed;
            self.write_pod();
        }
    }

    /// Writes the pod's record; that it cannot be written is reported.
    fn write_pod(&self) {
        if let Err(error) = self.pod.env.records.write_pod(&self.record) {
            tracing::error!(pod = %self.pod.id, %error, "the pod's record cannot be written");
        }
    }

    fn write_container(&self, id: &ContainerId) {
        if let Some(entry) = self.entries.get(id)
            && let Err(error) = self.pod.env.records.write_container(&entry.record)
        {
            tracing::error!(container = %id, %error, "the container's record cannot be written");
        }
    }
}

// === impl Entry ===

impl Entry {
    fn recorded(record: ContainerRecord, group: Option<Arc<dyn crate::host::Group>>) -> Self {
        let state = match (&record.end, record.started_at) {
            (Some(_), _) => ContainerState::Exited,
            (None, 0) => ContainerState::Created,
            (None, _) => ContainerState::Running,
        };
        let (ended, watched) = watch::channel(record.end.clone());
        let container = Arc::new(Container::new(&record, group, watched));
        let status = Arc::new(container::status(&record, state, None));
        Self {
            container,
            state,
            pid: None,
            ended,
            kill_at: None,
            status,
            record,
        }
    }

    fn made(made: container::create::Made) -> Self {
        let status = container::status(&made.record, ContainerState::Created, Some(made.pid));
        Self {
            container: made.container,
            record: made.record,
            state: ContainerState::Created,
            pid: Some(made.pid),
            ended: made.ended,
            kill_at: None,
            status: Arc::new(status),
        }
    }
}

fn status_of(pod: &Pod, record: &PodRecord, queue: &Queue, supervisor: Option<i32>) -> PodStatus {
    let ready = record.progress.state() == PodState::Ready && queue.is_ready();
    PodStatus {
        id: pod.id.clone(),
        spec: Arc::clone(&pod.spec),
        state: if ready {
            PodState::Ready
        } else {
            PodState::NotReady
        },
        created_at: record.created_at,
        ips: record.ips.clone(),
        network_namespace: pod
            .has_network()
            .then(|| pod.env.paths.network_namespace(&pod.id)),
        supervisor,
        reason: record.reason.clone(),
        message: record.message.clone(),
        cgroup_path: record.cgroup_path.clone(),
        resources: record.resources.clone(),
        overhead: record.overhead.clone(),
    }
}

/// The next exit; `None` when the connection ended; never without one.
async fn next(events: &mut Option<mpsc::Receiver<Exited>>) -> Option<Exited> {
    match events {
        Some(receiver) => receiver.recv().await,
        None => std::future::pending().await,
    }
}

async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment.into()).await,
        None => std::future::pending().await,
    }
}

/// The end of a container whose record is not known to its supervisor.
fn lost_end() -> End {
    End {
        message: "its supervisor does not know how it ended".to_owned(),
        finished_at: files::now(),
        ..End::orphaned()
    }
}
