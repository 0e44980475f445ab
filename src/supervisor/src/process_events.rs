//! What happens to children: reports, outputs, ends.

use crate::container::{Container, OpenOutput, State};
use crate::launch::report::{Go, Report, system_failure};
use crate::log::Timestamp;
use crate::notify::hand_over;
use crate::poll::{Output, Source};
use crate::runtime::{External, explain};
use crate::streams::nonblocking_copy;
use crate::supervisor::{Buffers, Supervisor, refuse};
use insula_sys::fork::{self, Child};
use insula_sys::outcome::{Outcome, Stage};
use insula_sys::{Error, seqpacket};
use insula_wire::hooks::HookStatus;
use insula_wire::message::{Answer, Failure, FailureKind};
use rustix::fd::{AsFd, OwnedFd};
use rustix::io::Errno;

/// How much is read at once.
pub const READ: usize = 256 * 1024;

/// How much of one stream is read before others get their turn.
pub const TURN: usize = 1 << 20;

/// The exit code of a process that SIGKILL ended.
pub const KILLED: i32 = 137;

// === impl Supervisor ===

impl Supervisor {
    /// Something of a container's or an exec's is ready.
    pub fn process_event(&mut self, source: &Source) {
        match source {
            Source::ContainerChild(id) => self.container_report(id),
            Source::ContainerIntermediate(id) => self.container_intermediate_ended(id),
            Source::ContainerMain(id) => self.container_ended(id),
            Source::ContainerMemory(id) => self.container_memory(id),
            Source::ContainerCall(id) => self.runtime_answered(id),
            Source::ContainerOutput(id, which) => self.container_output(id, *which),
            Source::ExecChild(id) => self.exec_report(*id),
            Source::ExecIntermediate(id) => self.exec_intermediate_ended(*id),
            Source::ExecMain(id) => self.exec_ended(*id),
            Source::ExecOutput(id, which) => self.exec_output(*id, *which),
            Source::Copy(number) => self.copy_abandoned(*number),
            Source::Listener | Source::Daemon => {}
        }
    }

    /// Takes one report of a container's child.
    fn container_report(&mut self, id: &str) {
        let Some(socket) = self
            .containers
            .get(id)
            .and_then(|container| container.socket.as_ref())
        else {
            return;
        };
        if !crate::poll::has_input(socket) {
            // Another event of the same turn has taken what there was.
            return;
        }
        match receive(socket) {
            Some((Report::Cloned(pid), _)) => self.container_cloned(id, pid, true),
            Some((Report::Bundle, descriptors)) => self.container_bundled(id, descriptors),
            Some((
                Report::Adopted {
                    pid,
                    own_pid_namespace,
                },
                _,
            )) => self.container_cloned(id, pid, own_pid_namespace),
            Some((Report::Terminal, descriptors)) => self.container_terminal(id, descriptors),
            Some((Report::Built(pid), _)) => {
                let Ok(container) = self.container(id) else {
                    return;
                };
                container.state = State::Built;
                let pending = container.pending.take();
                self.reply_pending(pending, Ok(Answer::RootBuilt { pid }));
            }
            Some((Report::Ready(program), _)) => {
                let Ok(container) = self.container(id) else {
                    return;
                };
                container.program = program;
                container.state = State::Created;
                let (pid, pending) = (container.pid(), container.pending.take());
                self.watch_outputs(id);
                self.reply_pending(pending, Ok(Answer::Created { pid }));
            }
            Some((Report::Listener, listeners)) => self.container_listens(id, &listeners),
            Some((Report::Failed(failure), _)) => self.container_failed(id, failure),
            // The helper of a pod alone says that it waits for ids.
            Some((Report::WithoutIds, _)) | None => self.container_hung_up(id),
        }
    }

    /// The child that will be the main process exists.
    fn container_cloned(&mut self, id: &str, pid: i32, own_pid_namespace: bool) {
        let opened = adopt_child(pid);
        let Ok(container) = self.container(id) else {
            return;
        };
        match opened {
            Ok(child) if container.main.is_none() => {
                container.own_pid_namespace = own_pid_namespace;
                container.main = Some(child);
                self.watch_container_main(id);
            }
            Ok(_) => {}
            Err(error) => self.container_failed(id, system_failure("clone", &error)),
        }
    }

    /// The mount namespace of a runtime's bundle arrived.
    fn container_bundled(&mut self, id: &str, descriptors: Vec<OwnedFd>) {
        if let Ok(container) = self.container(id)
            && let Some(external) = &mut container.external
        {
            external.mounts = descriptors.into_iter().next();
        }
    }

    /// Reads the outputs of a runtime's container from now on: before, they may
    /// hold what the runtime has to say.
    fn watch_outputs(&mut self, id: &str) {
        let Some(container) = self.containers.get(id) else {
            return;
        };
        for output in &container.outputs {
            let source = Source::ContainerOutput(id.to_owned(), output.which);
            if !self.poll.watches(&source)
                && let Err(error) = self.poll.add(source, &output.fd)
            {
                eprintln!("the output of container {id} cannot be watched: {error}");
            }
        }
    }

    fn container_terminal(&mut self, id: &str, descriptors: Vec<OwnedFd>) {
        let Ok(container) = self.container(id) else {
            return;
        };
        let building = matches!(container.state, State::Building);
        let (true, Some(master)) = (building, descriptors.into_iter().next()) else {
            return;
        };
        match nonblocking_copy(&master) {
            Ok(copy) => {
                container.stdin = Some(copy);
                container.outputs = vec![OpenOutput::new(Output::Stdout, master)];
                let source = Source::ContainerOutput(id.to_owned(), Output::Stdout);
                let fd = self
                    .containers
                    .get(id)
                    .and_then(|c| c.outputs.first())
                    .map(|o| o.fd.as_fd());
                if let Some(fd) = fd
                    && let Err(error) = self.poll.add(source, fd)
                {
                    eprintln!("a terminal cannot be watched: {error}");
                }
            }
            Err(error) => self.container_failed(id, system_failure("make terminal", &error)),
        }
    }

    /// Its filter has a listener, for whoever answers.
    fn container_listens(&mut self, id: &str, listeners: &[OwnedFd]) {
        let Ok(container) = self.container(id) else {
            return;
        };
        let (Some(notify), [listener]) = (&container.notify, listeners) else {
            return;
        };
        let process = (HookStatus::Created, container.pid());
        match hand_over(notify, id, process, listener) {
            // A child that is gone is told about by its own descriptor.
            Ok(()) => drop(container.tell(Go::Listened)),
            Err(failure) => self.container_failed(id, failure),
        }
    }

    /// A step of the child failed. A container that was being created is
    /// forgotten; one that was being started has ended.
    pub fn container_failed(&mut self, id: &str, failure: Failure) {
        let Ok(container) = self.container(id) else {
            return;
        };
        let failure = explain(container, failure);
        let pending = container.pending.take();
        let starting = matches!(container.state, State::Starting);
        self.unwatch_container(id);
        if let Ok(container) = self.container(id) {
            container.abandon();
            if starting {
                // 128 is what both rivals report for a program that cannot be
                // executed.
                container.end(128);
            }
        }
        if starting {
            self.settle(id);
        } else {
            self.containers.remove(id);
        }
        self.reply_pending(pending, Err(failure));
    }

    /// The child closed its end: it executed, or it is gone.
    fn container_hung_up(&mut self, id: &str) {
        let Some(container) = self.containers.get_mut(id) else {
            return;
        };
        if let Some(socket) = container.socket.take() {
            self.poll
                .remove(&Source::ContainerChild(id.to_owned()), &socket);
        }
        match container.state {
            // The child that has had a container made by an external runtime is
            // not the one that is executed; its end may be late.
            State::Starting if container.own_pid_namespace && container.external.is_none() => {
                self.container_executed(id);
            }
            State::Forked | State::Building | State::Built => {
                let message = "the child ended before the container was complete; was it killed for want of memory?";
                self.container_failed(id, refuse(FailureKind::System, "build root", message));
            }
            _ => {}
        }
    }

    /// The child let go of its end without a word: it executed, unless its
    /// filter kept it from saying that it could not.
    fn container_executed(&mut self, id: &str) -> bool {
        let Ok(container) = self.container(id) else {
            return false;
        };
        if let Some((stage, errno)) = container.outcome.failure() {
            let failure = launch_failure(stage, errno, &container.program);
            self.container_failed(id, failure);
            return false;
        }
        self.container_runs(id);
        true
    }

    /// A container's program runs.
    pub fn container_runs(&mut self, id: &str) {
        let Ok(container) = self.container(id) else {
            return;
        };
        let started_at = container.run();
        let (pid, pending) = (container.pid(), container.pending.take());
        self.watch_memory(id);
        self.reply_pending(pending, Ok(Answer::Started { pid, started_at }));
    }

    /// Ids of all children that are not reaped yet.
    pub fn known_children(&self) -> Vec<i32> {
        let containers = self
            .containers
            .values()
            .flat_map(|container| [&container.main, &container.intermediate]);
        let execs = self
            .execs
            .values()
            .flat_map(|exec| [&exec.main, &exec.intermediate]);
        let reaper = self.pod.iter().map(|pod| &pod.reaper);
        let externals = self
            .containers
            .values()
            .filter_map(|it| it.external.as_ref());
        let callers = externals.filter_map(External::caller);
        containers
            .chain(execs)
            .chain(reaper)
            .flatten()
            .chain(callers)
            .map(|child| child.pid)
            .collect()
    }

    fn watch_memory(&mut self, id: &str) {
        let Some(container) = self.containers.get_mut(id) else {
            return;
        };
        if let Some(events) = &container.oom.events {
            let source = Source::ContainerMemory(id.to_owned());
            if let Err(error) = self.poll.add_file(source, events) {
                eprintln!("the memory of container {id} cannot be watched: {error}");
            }
        }
        // What happened while it was not watched, and so that more is told.
        container.oom.note(&container.cgroup);
    }

    fn unwatch_memory(&mut self, id: &str) {
        if let Some(container) = self.containers.get_mut(id)
            && let Some(events) = container.oom.events.take()
        {
            self.poll
                .remove(&Source::ContainerMemory(id.to_owned()), &events);
        }
    }

    fn container_memory(&mut self, id: &str) {
        if let Ok(container) = self.container(id) {
            container.oom.note(&container.cgroup);
        }
    }

    fn container_intermediate_ended(&mut self, id: &str) {
        self.drain_reports(id);
        let known = self.known_children();
        let Some(container) = self.containers.get_mut(id) else {
            return;
        };
        let Some(child) = container.intermediate.take() else {
            return;
        };
        self.poll
            .remove(&Source::ContainerIntermediate(id.to_owned()), &child.pidfd);
        let code = reap(&child);
        if container.own_pid_namespace || container.external.is_some() {
            return;
        }
        match (&container.state, take_outcome(&container.outcome, &known)) {
            (State::Starting, Ok(main)) => {
                container.main = Some(main);
                self.container_runs(id);
                self.watch_container_main(id);
            }
            (State::Starting, Err(None)) | (State::Created, _) => {
                // Killed before it could clone.
                container.pending.take();
                container.end(code);
                self.settle(id);
            }
            (State::Starting, Err(Some((stage, errno)))) => {
                let failure = launch_failure(stage, errno, &container.program);
                self.container_failed(id, failure);
            }
            _ => {}
        }
    }

    fn watch_container_main(&mut self, id: &str) {
        let main = self
            .containers
            .get(id)
            .and_then(|container| container.main.as_ref());
        if let Some(main) = main
            && let Err(error) = self
                .poll
                .add_process(Source::ContainerMain(id.to_owned()), &main.pidfd)
        {
            eprintln!("container {id} cannot be watched: {error}");
        }
    }

    /// Takes what the child still has to say before its end is believed.
    fn drain_reports(&mut self, id: &str) {
        while let Some(socket) = self
            .containers
            .get(id)
            .and_then(|container| container.socket.as_ref())
        {
            if !crate::poll::has_input(socket) {
                return;
            }
            self.container_report(id);
        }
    }

    fn container_ended(&mut self, id: &str) {
        self.drain_reports(id);
        let Some(container) = self.containers.get_mut(id) else {
            return;
        };
        let Some(child) = container.main.take() else {
            return;
        };
        let Some(code) = reap_traced(&child) else {
            container.main = Some(child);
            return;
        };
        self.poll
            .remove(&Source::ContainerMain(id.to_owned()), &child.pidfd);
        if matches!(container.state, State::Starting) {
            // It executed and ended before its socket was seen to be closed.
            container.main = Some(child);
            if !self.container_executed(id) {
                return;
            }
        }
        let Ok(container) = self.container(id) else {
            return;
        };
        container.main = None;
        let pending = container.pending.take();
        let creating = matches!(
            container.state,
            State::Forked | State::Building | State::Built
        );
        container.end(code);
        self.unwatch_memory(id);
        if creating {
            self.unwatch_container(id);
            self.containers.remove(id);
            let message =
                format!("the container's process ended with {code} before it was complete");
            self.reply_pending(
                pending,
                Err(refuse(FailureKind::System, "build root", message)),
            );
        } else if self
            .containers
            .get(id)
            .is_some_and(|container| container.outputs.is_empty())
        {
            self.settle(id);
        }
    }

    fn unwatch_container(&mut self, id: &str) {
        self.unwatch_memory(id);
        let Some(container) = self.containers.get_mut(id) else {
            return;
        };
        if let Some(socket) = container.socket.take() {
            self.poll
                .remove(&Source::ContainerChild(id.to_owned()), &socket);
        }
        if let Some(child) = &container.intermediate {
            self.poll
                .remove(&Source::ContainerIntermediate(id.to_owned()), &child.pidfd);
        }
        if let Some(child) = &container.main {
            self.poll
                .remove(&Source::ContainerMain(id.to_owned()), &child.pidfd);
        }
        for output in &container.outputs {
            self.poll.remove(
                &Source::ContainerOutput(id.to_owned(), output.which),
                &output.fd,
            );
        }
    }

    /// Moves output to the log, at most one turn's worth, and then tells those
    /// who got copies and have lost them.
    fn container_output(&mut self, id: &str, which: Output) {
        let ended = self.read_output(id, which);
        self.drop_lost_copies(id);
        if let Some(index) = ended {
            self.output_ended(id, index);
        }
    }

    /// Gives the index of an output that has ended.
    fn read_output(&mut self, id: &str, which: Output) -> Option<usize> {
        let container = self.containers.get_mut(id)?;
        let index = container
            .outputs
            .iter()
            .position(|output| output.which == which)?;
        let buffers = &mut self.buffers;
        buffers.input.resize(READ, 0);
        let mut turn = 0;
        while turn < TURN {
            let output = &mut container.outputs[index];
            match rustix::io::read(&output.fd, &mut buffers.input[..]) {
                Ok(length @ 1..) => {
                    let input = &buffers.input[..length];
                    buffers.output.clear();
                    output
                        .lines
                        .format(input, &Timestamp::now(), &mut buffers.output);
                    container.log.write(&buffers.output);
                    container.copies.write(which, input);
                    turn += length;
                }
                Err(Errno::AGAIN | Errno::INTR) => return None,
                // A terminal whose other end is closed gives EIO.
                Ok(0) | Err(_) => return Some(index),
            }
        }
        None
    }

    fn output_ended(&mut self, id: &str, index: usize) {
        let Some(container) = self.containers.get_mut(id) else {
            return;
        };
        let mut output = container.outputs.remove(index);
        self.poll.remove(
            &Source::ContainerOutput(id.to_owned(), output.which),
            &output.fd,
        );
        finish_output(container, &mut output, &mut self.buffers);
        container.copies.end(output.which);
        self.drop_lost_copies(id);
        let Some(container) = self.containers.get(id) else {
            return;
        };
        if container.outputs.is_empty() && container.drain_deadline().is_some() {
            self.settle(id);
        }
    }
}

/// Writes the line an output ended in the middle of.
pub fn finish_output(container: &mut Container, output: &mut OpenOutput, buffers: &mut Buffers) {
    buffers.output.clear();
    output.lines.finish(&Timestamp::now(), &mut buffers.output);
    container.log.write(&buffers.output);
}

/// Receives one report of a child; `None` when it has closed its end.
pub fn receive(socket: &OwnedFd) -> Option<(Report, Vec<OwnedFd>)> {
    let received = seqpacket::receive(socket.as_fd()).ok()?;
    let report = serde_json::from_slice(&received.bytes).ok()?;
    Some((report, received.descriptors))
}

/// A child of ours by the id it was told by. What is not our child is not
/// believed.
fn adopt_child(pid: i32) -> insula_sys::Result<Child> {
    let pidfd = fork::open_pid(pid)?;
    match fork::is_child(pidfd.as_fd()) {
        true => Ok(Child { pid, pidfd }),
        false => Err(Error::new(format!("waitid({pid}, WNOWAIT)"), Errno::CHILD)),
    }
}

/// The process that was cloned beside others, or how that failed. A tenant that
/// traced it could have written there: a child that we have already is not
/// believed to be it.
pub fn take_outcome(outcome: &Outcome, known: &[i32]) -> Result<Child, Option<(Stage, Errno)>> {
    let child = outcome
        .pid()
        .filter(|pid| !known.contains(pid))
        .and_then(|pid| adopt_child(pid).ok());
    match (child, outcome.failure()) {
        (Some(child), None) => Ok(child),
        (child, failure) => {
            if let Some(child) = child {
                let _ = fork::wait(child.pidfd.as_fd(), fork::PATIENCE);
            }
            Err(failure)
        }
    }
}

/// Why a process that was cloned beside others does not run its program.
pub fn launch_failure(
    stage: Stage,
    errno: Errno,
    program: &crate::launch::report::ProgramName,
) -> Failure {
    match stage {
        Stage::Executed | Stage::Execute => program.failure(errno),
        Stage::Filter => system_failure(
            "load system call filter",
            &Error::new("seccomp(SECCOMP_SET_MODE_FILTER), capset()", errno),
        ),
        Stage::Clone => system_failure(
            "clone",
            &Error::new("clone(CLONE_PARENT|CLONE_VFORK)", errno),
        ),
        Stage::Session => system_failure(
            "lead session",
            &Error::new("setsid(), ioctl(TIOCSCTTY)", errno),
        ),
    }
}

/// Reaps a process that has ended. One that cannot be reaped is reported as
/// killed: its true end is not to be had any more.
pub fn reap(child: &Child) -> i32 {
    reap_traced(child).unwrap_or(KILLED)
}

/// The same for one that a tenant may trace: until the tracer has seen its end
/// nobody else can, ptrace(2). Left unreaped it would hold its PID namespace,
/// and with it the end of its container.
pub fn reap_traced(child: &Child) -> Option<i32> {
    match fork::reap(child.pidfd.as_fd()) {
        Ok(ended) => ended.map(insula_sys::fork::Ended::code),
        Err(_) => Some(KILLED),
    }
}
