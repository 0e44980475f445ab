//! What the daemon asks, and what is done about it.

use crate::container::State;
use crate::exec::Cause;
use crate::launch::report::{Go, step};
use crate::pod;
use crate::poll::Source;
use crate::runtime::{Verb, kill_group};
use crate::supervisor::{Supervisor, refuse};
use insula_sys::cgroup::Cgroup;
use insula_sys::fork;
use insula_wire::WIRE_VERSION;
use insula_wire::message::{Answer, Failure, FailureKind, PodPlan, Request};
use rustix::fd::{AsFd, OwnedFd};

// === impl Supervisor ===

impl Supervisor {
    /// Handles one request. Each gets one reply, now or when its step is done.
    pub fn request(&mut self, id: u64, request: Request, descriptors: Vec<OwnedFd>) {
        let result = match request {
            Request::Hello { .. } => {
                let answer = self.hello();
                self.reply(id, Ok(answer), &[]);
                Ok(())
            }
            Request::MakePod(plan) => self.make_pod(id, &plan),
            Request::UserNamespace => self.user_namespace(id),
            Request::Descriptors => Ok(()),
            Request::Create(create) => self.create(id, create, descriptors),
            Request::Placed { container_id } => self.placed(id, &container_id, descriptors),
            Request::EnterRoot { container_id } => self.enter_root(id, &container_id),
            Request::Start { container_id } => self.start(id, &container_id),
            Request::Signal {
                container_id,
                signal,
            } => self.signal(id, &container_id, signal),
            Request::KillAll { container_id } => self.kill_all(id, &container_id),
            Request::Forget { container_id } => self.forget(id, &container_id),
            Request::ReopenLog { container_id } => self.reopen_log(id, &container_id),
            Request::Exec(exec) => self.exec(id, &exec, descriptors),
            Request::KillExec { exec_id } => self.asked_to_kill_exec(id, exec_id),
            Request::Attach(attach) => self.attach(id, &attach),
            Request::CloseStdin(stdin) => self.close_stdin(id, &stdin),
            Request::AbandonExec { exec_id } => {
                self.abandon_exec(id, exec_id);
                Ok(())
            }
            Request::Shutdown => self.shutdown(id),
        };
        if let Err(failure) = result {
            self.reply(id, Err(failure), &[]);
        }
    }

    fn hello(&self) -> Answer {
        Answer::Hello {
            version: WIRE_VERSION,
            pid: rustix::process::getpid().as_raw_nonzero().get(),
            pod_made: self.pod.is_some(),
            containers: self
                .containers
                .values()
                .map(crate::container::Container::describe)
                .collect(),
        }
    }

    fn make_pod(&mut self, id: u64, plan: &PodPlan) -> Result<(), Failure> {
        if self.pod.is_some() {
            return Err(refuse(
                FailureKind::WrongState,
                "make pod",
                "it was made already",
            ));
        }
        let pod = pod::make(self.proof, plan)?;
        let made = pod
            .namespaces
            .made()
            .into_iter()
            .map(insula_sys::fd::duplicate)
            .collect::<insula_sys::Result<Vec<_>>>();
        let made = step("make pod", made)?;
        self.pod = Some(pod);
        let descriptors: Vec<_> = made.iter().map(AsFd::as_fd).collect();
        self.reply(id, Ok(Answer::PodReady), &descriptors);
        Ok(())
    }

    /// Gives the pod's user namespace, with which the daemon maps mounts.
    fn user_namespace(&mut self, id: u64) -> Result<(), Failure> {
        let name = "give user namespace";
        let namespace = self
            .pod
            .as_ref()
            .and_then(|pod| pod.namespaces.user.as_ref());
        let Some(namespace) = namespace else {
            let message = "the pod has none of its own";
            return Err(refuse(FailureKind::WrongState, name, message));
        };
        let copy = step(name, insula_sys::fd::duplicate(&namespace.namespace))?;
        self.reply(id, Ok(Answer::UserNamespace), &[copy.as_fd()]);
        Ok(())
    }

    fn placed(
        &mut self,
        id: u64,
        container_id: &str,
        descriptors: Vec<OwnedFd>,
    ) -> Result<(), Failure> {
        let container = self.container(container_id)?;
        if !matches!(container.state, State::Forked) {
            return Err(refuse(
                FailureKind::WrongState,
                "build root",
                "it was placed already",
            ));
        }
        if !descriptors.is_empty() {
            container.cgroup = step("build root", Cgroup::from_descriptors(descriptors))?;
            step("build root", container.clear_for_runtime())?;
        }
        container.state = State::Building;
        container.pending = Some(id);
        // A child that is gone is told about by its own descriptor.
        let _ = container.tell(Go::Placed);
        Ok(())
    }

    /// The hooks that are run on the node are done.
    fn enter_root(&mut self, id: u64, container_id: &str) -> Result<(), Failure> {
        let container = self.container(container_id)?;
        if !matches!(container.state, State::Built) {
            let message = format!(
                "the container is {}, and does not wait for hooks",
                container.state.name()
            );
            return Err(refuse(FailureKind::WrongState, "enter root", message));
        }
        container.state = State::Building;
        container.pending = Some(id);
        let _ = container.tell(Go::Enter);
        Ok(())
    }

    fn start(&mut self, id: u64, container_id: &str) -> Result<(), Failure> {
        let container = self.container(container_id)?;
        if !matches!(container.state, State::Created) {
            let message = format!("the container is {}, not created", container.state.name());
            return Err(refuse(FailureKind::WrongState, "start", message));
        }
        container.state = State::Starting;
        container.pending = Some(id);
        if container.external.is_none() {
            let _ = container.tell(Go::Start);
            return Ok(());
        }
        if let Err(failure) = self.call_runtime(container_id, Verb::Start) {
            self.container_failed(container_id, failure);
        }
        Ok(())
    }

    fn signal(&mut self, id: u64, container_id: &str, signal: i32) -> Result<(), Failure> {
        let container = self.container(container_id)?;
        if let Some(child) = container.process() {
            step(
                "send signal",
                fork::send_signal(child.pidfd.as_fd(), signal),
            )?;
        }
        self.done(id);
        Ok(())
    }

    fn kill_all(&mut self, id: u64, container_id: &str) -> Result<(), Failure> {
        let container = self.container(container_id)?;
        // What it dies of from now on is our doing.
        container.outlive_kills();
        let by_cgroup = container.cgroup.kill_now();
        if let (Some(_), Some(maker)) = (&container.external, &container.intermediate) {
            // A runtime that has not answered yet, with its children.
            kill_group(maker);
        }
        for child in [&container.main, &container.intermediate]
            .into_iter()
            .flatten()
        {
            step("kill", fork::send_signal(child.pidfd.as_fd(), 9))?;
        }
        step("kill", by_cgroup)?;
        self.done(id);
        Ok(())
    }

    fn forget(&mut self, id: u64, container_id: &str) -> Result<(), Failure> {
        let container = self.container(container_id)?;
        if !matches!(container.state, State::Exited(_)) {
            let message = format!("the container is {}, not exited", container.state.name());
            return Err(refuse(FailureKind::WrongState, "forget", message));
        }
        if let Some(external) = &container.external {
            // A start that is under way runs hooks, and is followed by this.
            if external.caller().is_none() {
                self.call_runtime(container_id, Verb::Delete)?;
            }
            self.container(container_id)?.pending = Some(id);
            return Ok(());
        }
        self.containers.remove(container_id);
        self.done(id);
        Ok(())
    }

    fn reopen_log(&mut self, id: u64, container_id: &str) -> Result<(), Failure> {
        let container = self.container(container_id)?;
        if !matches!(container.state, State::Running) {
            let message = format!("the container is {}, not running", container.state.name());
            return Err(refuse(FailureKind::WrongState, "reopen log", message));
        }
        step("reopen log", container.log.reopen())?;
        self.done(id);
        Ok(())
    }

    fn asked_to_kill_exec(&mut self, id: u64, exec_id: u64) -> Result<(), Failure> {
        if !self.execs.contains_key(&exec_id) {
            let name = "kill exec";
            return Err(refuse(FailureKind::NotFound, name, format!("{exec_id}")));
        }
        self.kill_exec(exec_id, Cause::Request);
        self.done(id);
        Ok(())
    }

    fn shutdown(&mut self, id: u64) -> Result<(), Failure> {
        let alive = self
            .containers
            .values()
            .find(|container| !matches!(container.state, State::Exited(_)));
        if let Some(container) = alive {
            let message = format!("container {} is {}", container.id, container.state.name());
            return Err(refuse(FailureKind::WrongState, "end supervisor", message));
        }
        self.done(id);
        self.end();
        Ok(())
    }

    /// Ends a container's draining, whatever is still open.
    pub fn settle(&mut self, container_id: &str) {
        let Some(container) = self.containers.get_mut(container_id) else {
            return;
        };
        let exit = container.settle();
        for mut output in std::mem::take(&mut container.outputs) {
            let source = Source::ContainerOutput(container_id.to_owned(), output.which);
            self.poll.remove(&source, &output.fd);
            crate::process_events::finish_output(container, &mut output, &mut self.buffers);
            container.copies.end(output.which);
        }
        self.drop_lost_copies(container_id);
        if let Some(exit) = exit {
            let container_id = container_id.to_owned();
            self.tell(insula_wire::message::Event::Exited { container_id, exit });
        }
    }

    /// The container of this id.
    pub fn container(&mut self, id: &str) -> Result<&mut crate::container::Container, Failure> {
        self.containers
            .get_mut(id)
            .ok_or_else(|| refuse(FailureKind::NotFound, "find container", id))
    }
}
