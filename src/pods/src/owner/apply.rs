//! What becomes of the pod when an operation has ended or something happened.

use super::types::{Finished, Ticket, broken_off};
use super::{Entry, Given, Owner};
use crate::container::create::Made;
use crate::container::start::{NotStarted, Started};
use crate::error::Result;
use crate::events::EventKind;
use crate::ids::ContainerId;
use crate::link::Exited;
use crate::queue::{Request, Supervisor};
use crate::records::{End, Progress};
use crate::status::ContainerState;
use insula_isolators::spec::Resources;
use tokio::task::{Id, JoinError};

impl Owner {
    /// An operation's task ended.
    pub(super) fn finished(&mut self, result: std::result::Result<(Id, Finished), JoinError>) {
        match result {
            Ok((task, finished)) => {
                self.tickets.remove(&task);
                self.apply(finished);
            }
            Err(error) => {
                if let Some(ticket) = self.tickets.remove(&error.id()) {
                    tracing::error!(pod = %self.pod.id, operation = ticket.name(), %error, "an operation broke off");
                    self.break_off(ticket, &error);
                }
            }
        }
    }

    fn apply(&mut self, finished: Finished) {
        match finished {
            Finished::Created(id, result) => self.created(id, result),
            Finished::Started(id, result) => self.started(id, result),
            Finished::Stopped(id, result) => self.stopped(id, result),
            Finished::Removed(id, result) => self.container_removed(id, result),
            Finished::Updated(id, resources, result) => self.updated(id, *resources, result),
            Finished::PodStopped(result) => self.pod_stopped(result),
            Finished::PodRemoved(result) => self.pod_removed(result),
            Finished::Adopted(adoption) => self.adopted(adoption),
            Finished::Buried => self.buried(),
            Finished::Died => self.supervisor_died(),
        }
    }

    /// An operation whose task panicked has failed like any other.
    fn break_off(&mut self, ticket: Ticket, why: &JoinError) {
        let error = broken_off(&ticket, why);
        match ticket {
            Ticket::Request(Request::Create(id)) => self.created(id, Err(error)),
            Ticket::Request(Request::Start(id)) => {
                self.queue.started(&id, false);
                self.land(Request::Start(id), Err(error));
            }
            Ticket::Request(Request::Stop(id)) => self.stopped(id, Err(error)),
            Ticket::Request(Request::Remove(id)) => self.container_removed(id, Err(error)),
            Ticket::Request(Request::Update(id)) => {
                self.queue.update_ended(&id);
                self.land(Request::Update(id), Err(error));
            }
            Ticket::Request(Request::StopPod) => self.pod_stopped(Err(error)),
            Ticket::Request(Request::RemovePod) => self.pod_removed(Err(error)),
            Ticket::Request(Request::Use(_)) | Ticket::Watch => {}
            Ticket::Adopt => self.begin_adoption(),
            Ticket::Bury => self.buried(),
        }
    }

    fn created(&mut self, id: ContainerId, result: Result<Box<Made>>) {
        self.making.remove(&id);
        self.queue.created(&id, result.is_ok());
        let answer = result.map(|made| {
            self.pod.env.registry.add_container(&id, &self.pod.id);
            self.entries.insert(id.clone(), Entry::made(*made));
            Given::Container(id.clone())
        });
        self.land(Request::Create(id), answer);
    }

    fn started(&mut self, id: ContainerId, result: std::result::Result<Started, Box<NotStarted>>) {
        self.queue.started(&id, result.is_ok());
        let answer = match result {
            Ok(started) => {
                if let Some(entry) = self.entries.get_mut(&id) {
                    entry.record.started_at = started.at;
                    // A short one may have ended before the answer came.
                    if entry.state == ContainerState::Created {
                        entry.state = ContainerState::Running;
                        entry.pid = Some(started.pid);
                    }
                }
                self.write_container(&id);
                Ok(Given::Nothing)
            }
            Err(failed) => {
                let NotStarted { error, end } = *failed;
                self.end(&id, end);
                Err(error)
            }
        };
        self.land(Request::Start(id), answer);
    }

    fn stopped(&mut self, id: ContainerId, result: Result<()>) {
        self.queue.stop_ended(&id);
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.kill_at = None;
        }
        self.land(Request::Stop(id), result.map(|()| Given::Nothing));
    }

    fn container_removed(&mut self, id: ContainerId, result: Result<()>) {
        self.queue.removed(&id, result.is_ok());
        if result.is_ok() {
            self.entries.remove(&id);
            self.pod.env.registry.remove_container(&id);
        }
        self.land(Request::Remove(id), result.map(|()| Given::Nothing));
    }

    fn updated(&mut self, id: ContainerId, resources: Resources, result: Result<()>) {
        self.queue.update_ended(&id);
        if result.is_ok()
            && let Some(entry) = self.entries.get_mut(&id)
        {
            entry.record.resources = resources;
            self.write_container(&id);
        }
        self.land(Request::Update(id), result.map(|()| Given::Nothing));
    }

    fn pod_stopped(&mut self, result: Result<()>) {
        if result.is_ok() {
            self.drain_events();
            self.forget_supervisor();
            // Whatever has not been told how it ended was killed by us.
            for id in self.entries.keys().cloned().collect::<Vec<_>>() {
                self.end(&id, super::lost_end());
            }
            self.record.progress = Progress::Stopped;
            self.write_pod();
        }
        self.queue.pod_stopped(result.is_ok());
        self.look_again_after(&result);
        self.land(Request::StopPod, result.map(|()| Given::Nothing));
    }

    fn pod_removed(&mut self, result: Result<()>) {
        match &result {
            Ok(()) => {
                self.forget_supervisor();
                self.pod.env.registry.remove_pod(&self.pod.id);
                self.tell_removal();
                self.removed = true;
            }
            Err(_) => self.queue.pod_removal_failed(),
        }
        self.look_again_after(&result);
        self.land(Request::RemovePod, result.map(|()| Given::Nothing));
    }

    /// Tells the end of all that was there. Nothing is written any more: the
    /// records are gone.
    fn tell_removal(&mut self) {
        for entry in self.entries.values_mut() {
            if entry.state != ContainerState::Exited {
                entry.state = ContainerState::Exited;
                entry.pid = None;
                entry.record.end = Some(super::lost_end());
            }
        }
        self.record.progress = Progress::Stopped;
        self.publish();
        self.entries.clear();
        self.publish();
        let last = self.publish.borrow().clone();
        let id = self.pod.id.as_str();
        self.pod.env.events.tell(id, EventKind::Deleted, &last);
    }

    /// While a pod is being ended, its supervisor's is expected. When that
    /// failed and the supervisor is out of reach, it is looked for again.
    fn look_again_after(&mut self, result: &Result<()>) {
        let attached = self.queue.supervisor() == Supervisor::Attached;
        if result.is_err() && attached && self.link.is_none() {
            self.begin_adoption();
        }
    }

    /// A container's main process ended.
    pub(super) fn container_exited(&mut self, exited: &Exited) {
        let Ok(id) = ContainerId::parse(&exited.container_id) else {
            tracing::warn!(pod = %self.pod.id, container = exited.container_id, "the supervisor told of the end of an unknown container");
            return;
        };
        let starting = self
            .flights
            .contains_key(&Ticket::Request(Request::Start(id.clone())));
        if starting && exited.exit.started_at == 0 {
            // The start failed; its answer says why, and ends the container.
            return;
        }
        if exited.exit.started_at != 0 {
            self.has_run(&id, exited.exit.started_at);
        }
        self.end(&id, End::from_exit(&exited.exit));
    }

    /// A container runs or ran. One that ended before its start was answered
    /// is seen running first, by those who are told what happens.
    pub(super) fn has_run(&mut self, id: &ContainerId, started_at: i64) {
        let Some(entry) = self.entries.get_mut(id) else {
            return;
        };
        entry.record.started_at = started_at;
        if entry.state == ContainerState::Created {
            entry.state = ContainerState::Running;
            self.publish();
        }
    }

    /// A container has ended, if it had not before.
    pub(super) fn end(&mut self, id: &ContainerId, end: End) {
        let Some(entry) = self.entries.get_mut(id) else {
            return;
        };
        if entry.state == ContainerState::Exited {
            return;
        }
        tracing::info!(pod = %self.pod.id, container = %id, code = end.code, reason = %end.reason, "container ended");
        entry.state = ContainerState::Exited;
        entry.pid = None;
        entry.record.end = Some(end.clone());
        // Clients may look as soon as they are told.
        self.write_container(id);
        self.queue.exited(id);
        self.publish();
        if let Some(entry) = self.entries.get(id) {
            entry.ended.send_replace(Some(end));
        }
    }

    /// Answers all who wait for an operation.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "its callers are done with the answer"
    )]
    fn land(&mut self, request: Request, answer: Result<Given>) {
        let ticket = Ticket::Request(request);
        if let Some(flight) = self.flights.remove(&ticket) {
            let took = flight.since.elapsed();
            self.pod
                .env
                .metrics
                .operation(ticket.name(), answer.is_ok(), took);
            let milliseconds = took.as_secs_f64() * 1e3;
            match &answer {
                Ok(_) => {
                    tracing::info!(pod = %self.pod.id, operation = ticket.name(), ms = milliseconds, "done");
                }
                Err(error) => {
                    tracing::warn!(pod = %self.pod.id, operation = ticket.name(), ms = milliseconds, %error, "failed");
                }
            }
            // First the state, then the answer: who has the answer sees it.
            self.publish();
            flight.answer(&answer);
        }
    }

    /// Takes the exits that are already here.
    pub(super) fn drain_events(&mut self) {
        while let Some(Ok(exited)) = self
            .events
            .as_mut()
            .map(tokio::sync::mpsc::Receiver::try_recv)
        {
            self.container_exited(&exited);
        }
    }

    /// An error that says a supervisor's death is why.
    pub(super) fn death_note(&self) -> String {
        format!(
            "its supervisor (process {}) died; its containers were killed",
            self.supervisor_pid
                .map_or_else(|| "unknown".to_owned(), |pid| pid.to_string())
        )
    }
}
