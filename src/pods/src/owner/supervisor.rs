//! The supervisor's side of a pod's life: adoption, loss, death, burial.

use super::types::{Adoption, Finished, Ticket};
use super::{Owner, lost_end};
use crate::adopt;
use crate::container::end;
use crate::files;
use crate::ids::ContainerId;
use crate::link::Hello;
use crate::queue::Supervisor;
use crate::records::{End, Progress};
use crate::sandbox::phases::wait_for_end;
use crate::status::ContainerState;
use futures_util::future::join_all;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

/// Why a pod is not ready, in one word.
const REASON: &str = "SupervisorDied";

/// Longer than any supervisor lives.
const ALWAYS: Duration = Duration::from_hours(100 * 365 * 24);

impl Owner {
    /// Waits for the supervisor's end, beside all else.
    pub(super) fn watch_supervisor(&mut self, pidfd: OwnedFd) {
        self.pod.env.metrics.supervisor_runs();
        let (pod, pidfd) = (Arc::clone(&self.pod), Arc::new(pidfd));
        self.process = Some(Arc::clone(&pidfd));
        self.launch(Ticket::Watch, async move {
            while let Err(error) = wait_for_end(&pod, &pidfd, ALWAYS).await {
                tracing::error!(pod = %pod.id, %error, "cannot watch the supervisor");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            Finished::Died
        });
    }

    /// Looks for the supervisor of a pod on record, or one that was lost.
    pub(super) fn begin_adoption(&mut self) {
        self.queue.set_supervisor(Supervisor::Unattached);
        let pod = Arc::clone(&self.pod);
        self.launch(Ticket::Adopt, async move {
            Finished::Adopted(adopt::adopt(&pod).await)
        });
    }

    /// The connection ended. That is no proof of death: look for it again.
    pub(super) fn link_lost(&mut self) {
        self.events = None;
        self.link = None;
        if self.queue.is_ending() || self.queue.supervisor() != Supervisor::Attached {
            return;
        }
        tracing::warn!(pod = %self.pod.id, "the connection to the supervisor was lost");
        self.begin_adoption();
    }

    pub(super) fn adopted(&mut self, adoption: Adoption) {
        match adoption {
            Adoption::Dead => self.supervisor_died(),
            Adoption::Found { .. } if self.queue.supervisor() != Supervisor::Unattached => {}
            Adoption::Found {
                link,
                events,
                hello,
                pidfd,
            } => {
                tracing::debug!(pod = %self.pod.id, pid = hello.pid, "supervisor adopted");
                self.link = Some(link);
                self.events = Some(events);
                self.supervisor_pid = Some(hello.pid);
                if self.process.is_none() {
                    self.watch_supervisor(pidfd);
                }
                self.queue.set_supervisor(Supervisor::Attached);
                self.learn(&hello);
            }
        }
    }

    /// Takes over what happened while nobody listened.
    fn learn(&mut self, hello: &Hello) {
        let mut known: std::collections::BTreeSet<ContainerId> =
            self.entries.keys().cloned().collect();
        for state in &hello.containers {
            let Ok(id) = ContainerId::parse(&state.container_id) else {
                continue;
            };
            known.remove(&id);
            let Some(entry) = self.entries.get_mut(&id) else {
                // It was being made when the daemon died; its client was told
                // nothing, so there is nobody to miss it.
                self.discard(id);
                continue;
            };
            if state.started_at != 0 && entry.state == ContainerState::Created {
                self.has_run(&id, state.started_at);
                self.queue.found_running(&id);
                self.write_container(&id);
            }
            match &state.exit {
                Some(exit) => self.end(&id, End::from_exit(exit)),
                None => {
                    if let Some(entry) = self.entries.get_mut(&id) {
                        entry.pid = (state.pid > 0).then_some(state.pid);
                    }
                }
            }
        }
        for id in known {
            let end = self.recorded_end(&id).unwrap_or_else(lost_end);
            self.end(&id, end);
        }
    }

    /// Makes the supervisor forget a container that has no record.
    fn discard(&self, id: ContainerId) {
        use insula_wire::message::Request;
        let Some(link) = self.link.clone() else {
            return;
        };
        tracing::warn!(pod = %self.pod.id, container = %id, "a container that was never recorded is removed");
        self.pod.env.metrics.leaked("container", 1);
        let pod = Arc::clone(&self.pod);
        tokio::spawn(async move {
            let deadline = pod.env.config.deadlines.supervisor;
            for request in [
                Request::KillAll {
                    container_id: id.to_string(),
                },
                Request::Forget {
                    container_id: id.to_string(),
                },
            ] {
                let answer = link
                    .try_ask("discard a container", request, &[], deadline)
                    .await;
                tracing::debug!(container = %id, ?answer, "discarded");
            }
        });
    }

    /// The supervisor's process has ended.
    pub(super) fn supervisor_died(&mut self) {
        let expected = self.queue.is_ending();
        self.drain_events();
        if expected
            || !matches!(
                self.queue.supervisor(),
                Supervisor::Attached | Supervisor::Unattached
            )
        {
            return;
        }
        // A stop that was cut short may have told it to end: it may even have been adopted in between.
        if self.record.progress == Progress::Closed {
            tracing::info!(pod = %self.pod.id, "the supervisor of a pod whose stop was cut short has ended");
        } else {
            self.pod.env.metrics.supervisor_died();
            self.record.progress = Progress::Broken;
            REASON.clone_into(&mut self.record.reason);
            self.record.message = self.death_note();
            tracing::error!(pod = %self.pod.id, message = self.record.message, "the pod is not ready");
        }
        self.forget_supervisor();
        self.write_pod();
        self.begin_burial();
    }

    /// Kills what the supervisor has left behind, container by container.
    pub(super) fn begin_burial(&mut self) {
        self.queue.set_supervisor(Supervisor::Dying);
        self.publish();
        let pod = Arc::clone(&self.pod);
        let containers: Vec<_> = self
            .entries
            .values()
            .filter(|entry| entry.state != ContainerState::Exited)
            .map(|entry| Arc::clone(&entry.container))
            .collect();
        self.launch(Ticket::Bury, async move {
            let kills = containers.iter().map(|container| end::kill_group(&pod, container));
            for (container, result) in containers.iter().zip(join_all(kills).await) {
                if let Err(error) = result {
                    tracing::error!(pod = %pod.id, container = %container.id, %error, "cannot kill a container whose supervisor died");
                }
            }
            Finished::Buried
        });
    }

    pub(super) fn buried(&mut self) {
        let running: Vec<_> = self
            .entries
            .iter()
            .filter(|(_, entry)| entry.state != ContainerState::Exited)
            .map(|(id, _)| id.clone())
            .collect();
        for id in running {
            let end = self.recorded_end(&id).unwrap_or_else(End::orphaned);
            self.end(&id, end);
        }
        self.queue.set_supervisor(Supervisor::Dead);
    }

    /// Lets go of a supervisor that has ended.
    pub(super) fn forget_supervisor(&mut self) {
        self.link = None;
        self.events = None;
        self.supervisor_pid = None;
        if let Some(process) = self.process.take() {
            self.pod.env.metrics.supervisor_ended();
            self.pod.env.host.reap(process.as_fd());
        }
    }

    /// What the supervisor wrote down of a container's end before it died.
    fn recorded_end(&mut self, id: &ContainerId) -> Option<End> {
        let exit = self.pod.env.records.exit(&self.pod.id, id)?;
        if exit.started_at != 0 {
            self.has_run(id, exit.started_at);
        }
        let mut end = End::from_exit(&exit);
        if end.finished_at == 0 {
            end.finished_at = files::now();
        }
        Some(end)
    }
}
