//! What happens to execs: reports, ends, outputs that nobody reads any more.

use crate::container::Container;
use crate::exec::Cause;
use crate::launch::report::{Go, Report, system_failure};
use crate::notify::hand_over;
use crate::poll::{Output, Source};
use crate::process_events::{
    KILLED, READ, TURN, launch_failure, reap, reap_traced, receive, take_outcome,
};
use crate::streams::set_nonblocking;
use crate::supervisor::{Supervisor, refuse};
use insula_sys::fork;
use insula_sys::outcome::Stage;
use insula_sys::seqpacket;
use insula_wire::hooks::HookStatus;
use insula_wire::message::{Answer, Event, Failure, FailureKind};
use rustix::fd::{AsFd, OwnedFd};
use rustix::io::Errno;

// === impl Supervisor ===

impl Supervisor {
    /// Takes one report of an exec's child.
    pub fn exec_report(&mut self, id: u64) {
        let Some(exec) = self.execs.get_mut(&id) else {
            return;
        };
        if !crate::poll::has_input(&exec.socket) {
            return;
        }
        match receive(&exec.socket) {
            Some((Report::Ready(program), _)) => exec.program = program,
            Some((Report::Terminal, descriptors)) => self.exec_terminal(id, descriptors),
            Some((Report::Listener, listeners)) => self.exec_listens(id, &listeners),
            Some((Report::Failed(failure), _)) => self.exec_failed(id, failure),
            // Closed before it clones; its end tells the rest.
            _ => self.poll.remove(&Source::ExecChild(id), &exec.socket),
        }
    }

    /// The first process of an exec ended: its second one runs, or nothing does.
    pub fn exec_intermediate_ended(&mut self, id: u64) {
        while let Some(exec) = self.execs.get(&id)
            && crate::poll::has_input(&exec.socket)
            && self.poll.watches(&Source::ExecChild(id))
        {
            self.exec_report(id);
        }
        let known = self.known_children();
        let Some(exec) = self.execs.get_mut(&id) else {
            return;
        };
        let Some(child) = exec.intermediate.take() else {
            return;
        };
        self.poll
            .remove(&Source::ExecIntermediate(id), &child.pidfd);
        reap(&child);
        match take_outcome(&exec.outcome, &known) {
            Ok(main) => {
                let pid = main.pid;
                if let Err(error) = self.poll.add_process(Source::ExecMain(id), &main.pidfd) {
                    eprintln!("exec {id} cannot be watched: {error}");
                }
                exec.main = Some(main);
                if let Some(cause) = exec.killed {
                    // Its first process was killed alone, on a host without
                    // groups, after it had cloned.
                    exec.kill(cause);
                }
                self.exec_started(id, pid);
            }
            // What clone(2) says of a PID namespace whose first process has
            // ended, pid_namespaces(7), before its end can be seen from here.
            Err(Some((Stage::Clone, Errno::NOMEM))) => {
                let message =
                    "the container is ending, or the host is short of memory: clone() = ENOMEM";
                self.exec_failed(id, refuse(FailureKind::WrongState, "exec", message));
            }
            Err(Some((stage, errno))) => {
                let failure = launch_failure(stage, errno, &exec.program);
                self.exec_failed(id, failure);
            }
            Err(None) => {
                let kind = match exec.timed_out() {
                    true => FailureKind::TimedOut,
                    false => FailureKind::WrongState,
                };
                let failure = refuse(kind, "exec", "it was killed before its program ran");
                let refused = self.execs.get_mut(&id).and_then(|exec| exec.refused.take());
                self.exec_failed(id, refused.unwrap_or(failure));
            }
        }
    }

    /// The master of an exec's terminal arrived.
    fn exec_terminal(&mut self, id: u64, descriptors: Vec<OwnedFd>) {
        let Some(exec) = self.execs.get_mut(&id) else {
            return;
        };
        let (true, Some(master)) = (
            exec.terminal && exec.outputs.is_empty(),
            descriptors.into_iter().next(),
        ) else {
            return;
        };
        match set_nonblocking(&master) {
            Ok(()) => exec.outputs.push((Output::Stdout, master)),
            Err(error) => self.exec_failed(id, system_failure("make terminal", &error)),
        }
    }

    /// Its filter has a listener, for whoever answers. Without that its first
    /// process does not go on.
    fn exec_listens(&mut self, id: u64, listeners: &[OwnedFd]) {
        let Some(exec) = self.execs.get_mut(&id) else {
            return;
        };
        let (Some(notify), [listener]) = (&exec.notify, listeners) else {
            return;
        };
        let pid = exec.intermediate.as_ref().map_or(0, |child| child.pid);
        let process = (HookStatus::Running, pid);
        match hand_over(notify, &exec.container_id, process, listener) {
            // A child that is gone is told about by its own descriptor.
            Ok(()) => drop(seqpacket::send(
                exec.socket.as_fd(),
                &[Go::Listened.byte()],
                &[],
            )),
            Err(failure) => {
                exec.refused = Some(failure);
                exec.kill(Cause::Request);
            }
        }
    }

    /// An exec did not come to run its program.
    fn exec_failed(&mut self, id: u64, failure: Failure) {
        let Some(exec) = self.execs.get_mut(&id) else {
            return;
        };
        let pending = exec.pending.take();
        let container = self.containers.get(&exec.container_id);
        let failure = match container.is_some_and(Container::is_ending) {
            // What a system call says about a namespace that is no more helps
            // nobody.
            true if failure.kind == FailureKind::System => refuse(
                FailureKind::WrongState,
                "exec",
                format!("the container ended meanwhile ({failure})"),
            ),
            _ => failure,
        };
        self.forget_exec(id);
        self.reply_pending(pending, Err(failure));
    }

    fn exec_started(&mut self, id: u64, pid: i32) {
        let Some(exec) = self.execs.get_mut(&id) else {
            return;
        };
        let Some(request) = exec.pending.take() else {
            return;
        };
        let copies = exec
            .stdin
            .iter()
            .chain(exec.outputs.iter().map(|(_, output)| output))
            .map(insula_sys::fd::duplicate)
            .collect::<insula_sys::Result<Vec<_>>>();
        match copies {
            Ok(copies) => {
                let descriptors: Vec<_> = copies.iter().map(AsFd::as_fd).collect();
                self.reply(request, Ok(Answer::ExecStarted { pid }), &descriptors);
            }
            Err(error) => {
                // Nobody can use it.
                exec.kill(Cause::Request);
                self.reply(request, Err(system_failure("exec", &error)), &[]);
            }
        }
    }

    /// An exec's process may have become possible to reap.
    pub fn exec_ended(&mut self, id: u64) {
        let Some(exec) = self.execs.get_mut(&id) else {
            return;
        };
        let Some(main) = exec.main.take() else {
            return;
        };
        let Some(code) = reap_traced(&main) else {
            exec.main = Some(main);
            return;
        };
        self.poll.remove(&Source::ExecMain(id), &main.pidfd);
        let timed_out = exec.timed_out();
        if code == KILLED
            && exec.killed.is_none()
            && let Some(container) = self.containers.get_mut(&exec.container_id)
        {
            // It may be the one that the kernel has killed.
            container.outlive_kills();
        }
        self.forget_exec(id);
        self.tell(Event::ExecExited {
            exec_id: id,
            code,
            timed_out,
        });
    }

    fn forget_exec(&mut self, id: u64) {
        let Some(exec) = self.execs.remove(&id) else {
            return;
        };
        self.poll.remove(&Source::ExecChild(id), &exec.socket);
        if let Some(child) = &exec.intermediate {
            self.poll
                .remove(&Source::ExecIntermediate(id), &child.pidfd);
            let _ = fork::wait(child.pidfd.as_fd(), fork::PATIENCE);
        }
        if let Some(child) = &exec.main {
            self.poll.remove(&Source::ExecMain(id), &child.pidfd);
        }
        for (which, output) in &exec.outputs {
            self.poll.remove(&Source::ExecOutput(id, *which), output);
        }
        if let (true, Some(group)) = (exec.killed.is_some(), exec.group)
            && !group.remove()
            && let Some(container) = self.containers.get_mut(&exec.container_id)
        {
            container.spent_groups.push(group);
        }
    }

    /// Reads an exec's outputs from now on, and drops what comes: nobody else
    /// will, and a full pipe would hold its process for ever.
    pub fn abandon_outputs(&mut self, id: u64) {
        let Some(exec) = self.execs.get_mut(&id) else {
            return;
        };
        if std::mem::replace(&mut exec.abandoned, true) {
            return;
        }
        for (which, output) in &exec.outputs {
            if let Err(error) = self.poll.add(Source::ExecOutput(id, *which), output) {
                eprintln!("the output of exec {id} cannot be watched: {error}");
            }
        }
    }

    /// The connection on which execs were started is gone, and with it whoever
    /// read their outputs. Their standard inputs stay open.
    pub fn abandon_all_outputs(&mut self) {
        let all: Vec<u64> = self.execs.keys().copied().collect();
        for id in all {
            self.abandon_outputs(id);
        }
    }

    /// Drops what an abandoned exec wrote, at most one turn's worth.
    pub fn exec_output(&mut self, id: u64, which: Output) {
        let Some(exec) = self.execs.get_mut(&id) else {
            return;
        };
        let Some(index) = exec.outputs.iter().position(|(name, _)| *name == which) else {
            return;
        };
        let input = &mut self.buffers.input;
        input.resize(READ, 0);
        let mut turn = 0;
        while turn < TURN {
            match rustix::io::read(&exec.outputs[index].1, &mut input[..]) {
                Ok(length @ 1..) => turn += length,
                Err(Errno::AGAIN | Errno::INTR) => return,
                // A terminal whose other end is closed gives EIO.
                Ok(0) | Err(_) => {
                    let (_, output) = exec.outputs.swap_remove(index);
                    self.poll.remove(&Source::ExecOutput(id, which), &output);
                    return;
                }
            }
        }
    }
}
