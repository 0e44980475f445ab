//! How requests are checked, begun and joined.

use super::types::{Finished, Flight, Reply, Ticket};
use super::{Ask, Entry, Given, Owner, Want};
use crate::container::{create, end, external, start, update};
use crate::error::{Error, Result};
use crate::ids::ContainerId;
use crate::queue::{Refusal, Request, Supervisor};
use crate::records::Progress;
use crate::sandbox::stop::{self, Remains};
use crate::status::ContainerState;
use insula_isolators::spec::{ContainerSpec, NamespaceMode, Resources};
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// The longest grace period that is kept; a century stands for "for ever".
const FOR_EVER: Duration = Duration::from_hours(100 * 365 * 24);

impl Owner {
    /// What a request needs beside the queue's consent. `Err` holds nothing
    /// when it was answered, or the request when it has to wait.
    pub(super) fn check(&mut self, ask: Ask) -> std::result::Result<Ask, Option<Ask>> {
        match &ask.want {
            Want::Create(_, spec) => match self.holder(&spec.name, spec.attempt) {
                None => match self.check_target(spec).and_then(|()| self.check_alone()) {
                    Ok(()) => Ok(ask),
                    Err(error) => {
                        ask.answer(Err(error));
                        Err(None)
                    }
                },
                Some((holder, _)) if self.is_going(&holder) => Err(Some(ask)),
                Some((holder, same)) if same == *spec => {
                    let flight = Ticket::Request(Request::Create(holder.clone()));
                    match self.flights.get_mut(&flight) {
                        Some(flight) => flight.replies.push(ask.reply),
                        None => ask.answer(Ok(Given::Container(holder))),
                    }
                    Err(None)
                }
                Some((holder, _)) => {
                    let name = format!(
                        "{} (attempt {}) in pod {}",
                        spec.name, spec.attempt, self.pod.id
                    );
                    ask.answer(Err(Error::AlreadyExists {
                        what: "container",
                        name,
                        holder: holder.to_string(),
                        why: "which was made from a different configuration",
                    }));
                    Err(None)
                }
            },
            Want::Start(id) => {
                let target = self
                    .entries
                    .get(id)
                    .map(|entry| self.check_target(&entry.record.spec));
                match target {
                    Some(Err(error)) => {
                        ask.answer(Err(error));
                        Err(None)
                    }
                    _ => Ok(ask),
                }
            }
            Want::Record {
                overhead,
                resources,
            } => {
                // What is not told stays.
                if let Some(overhead) = overhead {
                    self.record.overhead = Some(overhead.as_ref().clone());
                }
                if let Some(resources) = resources {
                    self.record.resources = Some(resources.as_ref().clone());
                }
                self.write_pod();
                ask.answer(Ok(Given::Nothing));
                Err(None)
            }
            _ => Ok(ask),
        }
    }

    /// Starts what the queue let begin.
    pub(super) fn begin(&mut self, ask: Ask) {
        let ticket = Ticket::Request(ask.request());
        let pod = Arc::clone(&self.pod);
        let reply = ask.reply;
        match ask.want {
            Want::Use(id) => {
                let given = self
                    .link_and(&id)
                    .map(|(link, entry)| Given::Use(Arc::clone(&entry.container), link));
                let _gone = reply.send(given);
            }
            Want::Create(id, spec) => self.begin_create(ticket, reply, id, spec),
            Want::Start(id) => self.begin_start(ticket, reply, id),
            Want::Stop(id, grace) => self.begin_stop(ticket, reply, id, grace),
            Want::Remove(id) => self.begin_remove(ticket, reply, id),
            Want::Update(id, want) => self.begin_update(ticket, reply, id, *want),
            Want::StopPod => {
                let remains = Arc::new(self.remains());
                self.fly(ticket, reply, async move {
                    Finished::PodStopped(stop::stop(pod, remains).await)
                });
            }
            Want::RemovePod => {
                let remains = Arc::new(self.remains());
                self.fly(ticket, reply, async move {
                    Finished::PodRemoved(stop::remove(pod, remains).await)
                });
            }
            // Answered before the queue is asked.
            Want::Record { .. } => {}
        }
    }

    /// A runtime whose containers are sandboxes has one of them at a time.
    fn check_alone(&self) -> Result<()> {
        let env = &self.pod.env;
        let Some(runtime) = env.config.handlers.find(&self.pod.spec.runtime_handler)? else {
            return Ok(());
        };
        let mut others = self.entries.iter();
        let other = others.find(|(_, entry)| entry.state != ContainerState::Exited);
        let other = self.making.keys().next().or(other.map(|(id, _)| id));
        external::check_alone(runtime, other.map(ContainerId::as_str))
    }

    fn begin_create(
        &mut self,
        ticket: Ticket,
        reply: Reply,
        id: ContainerId,
        spec: Arc<ContainerSpec>,
    ) {
        let link = match self.link() {
            Ok(link) => link,
            Err(error) => {
                self.queue.created(&id, false);
                let _gone = reply.send(Err(error));
                return;
            }
        };
        self.making.insert(id.clone(), Arc::clone(&spec));
        let (pod, closing) = (Arc::clone(&self.pod), self.closing.subscribe());
        self.fly(ticket, reply, async move {
            let made = create::create(pod, link, id.clone(), spec, closing).await;
            Finished::Created(id, made.map(Box::new))
        });
    }

    fn begin_start(&mut self, ticket: Ticket, reply: Reply, id: ContainerId) {
        let (link, container) = match self.link_and(&id) {
            Ok((link, entry)) => (link, Arc::clone(&entry.container)),
            Err(error) => {
                self.queue.started(&id, false);
                let _gone = reply.send(Err(error));
                return;
            }
        };
        let pod = Arc::clone(&self.pod);
        self.fly(ticket, reply, async move {
            Finished::Started(id, start::start(pod, link, container).await)
        });
    }

    fn begin_stop(&mut self, ticket: Ticket, reply: Reply, id: ContainerId, grace: Duration) {
        let (link, container) = match self.link_and(&id) {
            Ok((link, entry)) => (link, Arc::clone(&entry.container)),
            Err(error) => {
                self.queue.stop_ended(&id);
                let _gone = reply.send(Err(error));
                return;
            }
        };
        let (kill_at, watched) = watch::channel(after(grace));
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.kill_at = Some(kill_at);
        }
        let pod = Arc::clone(&self.pod);
        self.fly(ticket, reply, async move {
            Finished::Stopped(id, end::stop(pod, link, container, watched).await)
        });
    }

    fn begin_remove(&mut self, ticket: Ticket, reply: Reply, id: ContainerId) {
        let Some(entry) = self.entries.get(&id) else {
            self.queue.removed(&id, true);
            let _gone = reply.send(Err(Error::no_container(id)));
            return;
        };
        let (pod, link) = (Arc::clone(&self.pod), self.link.clone());
        let container = Arc::clone(&entry.container);
        self.fly(ticket, reply, async move {
            Finished::Removed(id, end::remove(pod, link, container).await)
        });
    }

    fn begin_update(&mut self, ticket: Ticket, reply: Reply, id: ContainerId, want: Resources) {
        let Some(entry) = self.entries.get(&id) else {
            self.queue.update_ended(&id);
            let _gone = reply.send(Err(Error::no_container(id)));
            return;
        };
        let (pod, container) = (Arc::clone(&self.pod), Arc::clone(&entry.container));
        let before = entry.record.resources.clone();
        let merged = update::merge(&before, &want);
        self.fly(ticket, reply, async move {
            let result = update::update(pod, container, &before, &want).await;
            Finished::Updated(id, Box::new(merged), result)
        });
    }

    /// Joins an operation in flight.
    pub(super) fn join(&mut self, ask: Ask) {
        if let Want::Stop(id, grace) = &ask.want
            && let Some(kill_at) = self
                .entries
                .get(id)
                .and_then(|entry| entry.kill_at.as_ref())
        {
            let sooner = after(*grace);
            kill_at.send_if_modified(|until| {
                let earlier = sooner < *until;
                if earlier {
                    *until = sooner;
                }
                earlier
            });
        }
        let ticket = Ticket::Request(ask.request());
        match self.flights.get_mut(&ticket) {
            Some(flight) => flight.replies.push(ask.reply),
            None => ask.answer(Err(Error::internal(
                "join an operation",
                "it is not in flight",
            ))),
        }
    }

    /// Runs an operation as a task of its own.
    pub(super) fn fly(
        &mut self,
        ticket: Ticket,
        reply: Reply,
        operation: impl Future<Output = Finished> + Send + 'static,
    ) {
        self.flights.insert(ticket.clone(), Flight::new(reply));
        self.launch(ticket, operation);
    }

    /// The same for one that nobody waits for.
    pub(super) fn launch(
        &mut self,
        ticket: Ticket,
        operation: impl Future<Output = Finished> + Send + 'static,
    ) {
        let task = self.operations.spawn(operation);
        self.tickets.insert(task.id(), ticket);
    }

    /// A refusal in words.
    pub(super) fn explain(&self, ask: &Ask, refusal: &Refusal) -> Error {
        let pod = &self.pod.id;
        let what = match &ask.want {
            Want::Create(..) => "made",
            Want::Start(_) => "started",
            Want::Update(..) => "updated",
            Want::Remove(_) => "removed",
            _ => "used",
        };
        let id = match &ask.want {
            Want::Create(id, _)
            | Want::Start(id)
            | Want::Stop(id, _)
            | Want::Remove(id)
            | Want::Update(id, _)
            | Want::Use(id) => id.as_str(),
            _ => "",
        };
        match refusal {
            Refusal::NoContainer => Error::no_container(id),
            Refusal::PodNotReady => Error::FailedPrecondition(format!(
                "no container can be {what} in pod {pod}, which is not ready: {}",
                match (&self.record.message, self.record.progress) {
                    (message, _) if !message.is_empty() => message.as_str(),
                    (_, Progress::Stopped) => "it was stopped",
                    _ => "it is being stopped",
                }
            )),
            Refusal::Ending => Error::FailedPrecondition(format!(
                "container {id} cannot be {what}: it is being stopped or removed"
            )),
            Refusal::State(state) => {
                let state = state.as_str();
                Error::FailedPrecondition(format!("container {id} cannot be {what}: it is {state}"))
            }
        }
    }

    /// What requests wait for, in words.
    pub(super) fn what_is_waited_for(&self) -> String {
        let pod = &self.pod.id;
        match self.queue.supervisor() {
            Supervisor::Unattached => {
                format!("connect to the supervisor of pod {pod} after a restart")
            }
            Supervisor::Dying => {
                format!("the end of the containers of pod {pod}, whose supervisor died")
            }
            Supervisor::Attached | Supervisor::Dead => {
                let mut names: Vec<_> = self.flights.keys().map(Ticket::name).collect();
                names.sort_unstable();
                names.dedup();
                format!(
                    "the end of other operations on pod {pod} ({})",
                    names.join(", ")
                )
            }
        }
    }

    /// Who has a container's name, with its specification.
    fn holder(&self, name: &str, attempt: u32) -> Option<(ContainerId, Arc<ContainerSpec>)> {
        let made = self
            .entries
            .iter()
            .map(|(id, entry)| (id, &entry.record.spec));
        made.chain(&self.making)
            .find(|(_, spec)| spec.name == name && spec.attempt == attempt)
            .map(|(id, spec)| (id.clone(), Arc::clone(spec)))
    }

    /// A container is being removed, so its name will be free.
    fn is_going(&self, id: &ContainerId) -> bool {
        self.flights
            .contains_key(&Ticket::Request(Request::Remove(id.clone())))
    }

    /// A container whose PID namespace is to be joined has to run.
    fn check_target(&self, spec: &ContainerSpec) -> Result<()> {
        let namespaces = &spec.security.namespaces;
        if namespaces.pid != NamespaceMode::Target {
            return Ok(());
        }
        let target = self.entries.get(namespaces.target_id.as_str());
        let running = target.is_some_and(|entry| entry.state == ContainerState::Running);
        start::check_target(
            target.map(|entry| &entry.container),
            running,
            &namespaces.target_id,
        )
    }

    fn link(&self) -> Result<Arc<crate::link::Link>> {
        self.link.clone().ok_or_else(|| {
            Error::internal(
                "reach the pod's supervisor",
                format!("pod {} has no connection", self.pod.id),
            )
        })
    }

    fn link_and(&self, id: &ContainerId) -> Result<(Arc<crate::link::Link>, &Entry)> {
        let link = self.link()?;
        let entry = self
            .entries
            .get(id)
            .ok_or_else(|| Error::no_container(id.as_str()))?;
        Ok((link, entry))
    }

    fn remains(&self) -> Remains {
        Remains {
            containers: self
                .entries
                .values()
                .map(|entry| Arc::clone(&entry.container))
                .collect(),
            link: self.link.clone(),
            process: self.process.clone(),
            made_cgroups: self.record.made_cgroups.clone(),
        }
    }
}

fn after(grace: Duration) -> Instant {
    Instant::now() + grace.min(FOR_EVER)
}
