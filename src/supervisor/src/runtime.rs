//! Calls of an external OCI runtime, as the supervisor sees them.
//!
//! A container of such a runtime goes through the same states as any other. Its
//! process is adopted: the supervisor is the subreaper of what a runtime leaves
//! behind. `RUNTIME start` and `RUNTIME delete` are children that are waited for
//! in the loop, each with a deadline.

use crate::container::{Container, State};
use crate::exec::Cause;
use crate::launch::external::{self, MAX_WORDS};
use crate::launch::report::{step, system_failure};
use crate::launch::sandbox::Place;
use crate::poll::Source;
use crate::streams::set_nonblocking;
use crate::supervisor::{Supervisor, refuse};
use insula_sys::Error;
use insula_sys::fork::{self, Child, Ended, Fork, ForkOptions};
use insula_sys::namespace::{self, Kind};
use insula_wire::message::{CreateRequest, Failure, FailureKind};
use insula_wire::plan::RuntimeProgram;
use rustix::fd::{AsFd, OwnedFd};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, Signal, WaitOptions, kill_process_group};
use std::time::{Duration, Instant};

/// The runtime of a container, and what is going on there.
#[derive(Debug)]
pub struct External {
    /// Its program.
    pub program: RuntimeProgram,
    /// The mount namespace with the bundle, once that was made.
    pub mounts: Option<OwnedFd>,
    /// Where the bundle is there.
    directory: String,
    call: Option<RunningCall>,
    /// Calls that kill execs in a sandbox, with the numbers of those. They are
    /// reaped like others that nobody waits for.
    killers: Vec<(u32, Child)>,
}

/// A call that was not seen to end yet.
#[derive(Debug)]
struct RunningCall {
    verb: Verb,
    child: Child,
    /// Read end of its standard error.
    words: OwnedFd,
    deadline: Instant,
    /// It was killed at its deadline.
    late: bool,
}

/// What a runtime is asked for when a container exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// To execute its program.
    Start,
    /// To take away what it keeps of one that has ended.
    Delete,
}

/// How often it is looked for what was left behind by a call that was killed,
/// while there is such a thing: nothing tells of its end.
const ORPHANS: Duration = Duration::from_secs(1);

// === impl External ===

impl External {
    /// A container that is going to be made.
    pub fn new(program: RuntimeProgram, directory: String) -> Self {
        Self {
            program,
            mounts: None,
            directory,
            call: None,
            killers: Vec::new(),
        }
    }

    /// A number for a process in a sandbox, beside those that are `taken`.
    pub fn number(&mut self, taken: &[u32]) -> u32 {
        self.killers
            .retain(|(_, child)| !crate::poll::has_input(&child.pidfd));
        let mut number = 0;
        while taken.contains(&number) || self.killers.iter().any(|(of, _)| *of == number) {
            number += 1;
        }
        number
    }

    /// Where the process of a number is in a sandbox; `None` where processes
    /// join the container.
    pub fn place<'a>(&'a self, container_id: &'a str, number: u32) -> Option<Place<'a>> {
        let mounts = self.mounts.as_ref().filter(|_| !self.program.namespaced)?;
        Some(Place {
            program: &self.program,
            mounts: mounts.as_fd(),
            directory: &self.directory,
            container_id,
            number,
        })
    }

    /// When the call that is under way is killed.
    pub fn due(&self) -> Option<Instant> {
        let call = self.call.as_ref().filter(|call| !call.late)?;
        Some(call.deadline)
    }

    /// The child that makes a call.
    pub fn caller(&self) -> Option<&Child> {
        self.call.as_ref().map(|call| &call.child)
    }

    /// Kills the call that is under way, because its deadline has come.
    pub fn expire(&mut self) {
        if let Some(call) = &mut self.call {
            call.late = true;
            kill_group(&call.child);
        }
    }
}

// === impl Verb ===

impl Verb {
    fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Delete => "delete",
        }
    }

    fn command(self, id: &str) -> Vec<&str> {
        match self {
            Self::Start => vec!["start", id],
            Self::Delete => vec!["delete", "--force", id],
        }
    }
}

/// Kills a child that leads a process group, with all of that. It has not been
/// reaped, so its id is nobody else's.
pub fn kill_group(child: &Child) {
    if let Some(leader) = Pid::from_raw(child.pid) {
        // One that does not lead yet has nobody with it.
        let _ = kill_process_group(leader, Signal::KILL);
    }
    let _ = fork::send_signal(child.pidfd.as_fd(), 9);
}

/// From now on descendants whose parents have ended become children of this
/// process, where they are in its PID namespace.
pub fn become_subreaper() -> insula_sys::Result<()> {
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
        .map_err(|errno| Error::new("prctl(PR_SET_CHILD_SUBREAPER, 1)", errno))
}

// === impl Supervisor ===

impl Supervisor {
    /// Reaps adopted children that are nothing that is known. Says when to look
    /// again, while there are some that have not ended.
    pub fn reap_orphans(&self) -> Option<Duration> {
        if !self.subreaper {
            return None;
        }
        // What is being made has a child already that is not known yet.
        let making = self.execs.values().any(|exec| exec.intermediate.is_some())
            || self.containers.values().any(|it| it.intermediate.is_some());
        if making {
            return Some(ORPHANS);
        }
        let own = rustix::process::getpid().as_raw_nonzero();
        let list = std::fs::read_to_string(format!("/proc/{own}/task/{own}/children"));
        let known = self.known_children();
        let list = list.unwrap_or_default();
        let strange = list
            .split_whitespace()
            .filter_map(|pid| pid.parse().ok())
            .filter(|pid| !known.contains(pid))
            .filter_map(Pid::from_raw);
        let mut alive = false;
        for pid in strange {
            alive |= matches!(
                rustix::process::waitpid(Some(pid), WaitOptions::NOHANG),
                Ok(None)
            );
        }
        alive.then_some(ORPHANS)
    }

    /// Kills an exec. In a sandbox that takes a call of the runtime, too.
    pub fn kill_exec(&mut self, id: u64, cause: Cause) {
        let Some(exec) = self.execs.get_mut(&id) else {
            return;
        };
        let first = exec.killed.is_none();
        exec.kill(cause);
        let (Some(number), true) = (exec.number, first) else {
            return;
        };
        let container = self.containers.get_mut(&exec.container_id);
        let Some(external) = container.and_then(|it| it.external.as_mut()) else {
            return;
        };
        let Some(place) = external.place(&exec.container_id, number) else {
            return;
        };
        match fork::fork(self.proof, &ForkOptions::default()) {
            Ok(Fork::Child) => place.kill(),
            Ok(Fork::Parent(child)) => external.killers.push((number, child)),
            Err(error) => eprintln!("exec {id} goes on in its sandbox: {error}"),
        }
    }

    /// The PID namespace of the container that is the target.
    pub fn target_namespace(&self, request: &CreateRequest) -> Result<Option<OwnedFd>, Failure> {
        let Some(id) = &request.target else {
            return Ok(None);
        };
        let main = self.containers.get(id).and_then(|it| it.main.as_ref());
        let Some(main) = main else {
            let message = format!("target container {id} does not run");
            return Err(refuse(FailureKind::WrongState, "create container", message));
        };
        // Not reaped yet, so the id is still its own.
        step("join PID namespace", namespace::open(main.pid, Kind::Pid)).map(Some)
    }

    /// Starts a call; [`runtime_answered`](Self::runtime_answered) hears of its
    /// end.
    pub fn call_runtime(&mut self, id: &str, verb: Verb) -> Result<(), Failure> {
        let name = "call the runtime";
        let proof = self.proof;
        let container = self.container(id)?;
        let Some(external) = &mut container.external else {
            return Err(refuse(FailureKind::WrongState, name, "there is none"));
        };
        let Some(mounts) = external.mounts.as_ref().filter(|_| external.call.is_none()) else {
            let message = "it is busy, or the bundle was not made";
            return Err(refuse(FailureKind::WrongState, name, message));
        };
        let pipe =
            pipe_with(PipeFlags::CLOEXEC).map_err(|errno| Error::new("pipe2(O_CLOEXEC)", errno));
        let (words, stderr) = step(name, pipe)?;
        step(name, set_nonblocking(&words))?;
        let child = match step(name, fork::fork(proof, &ForkOptions::default()))? {
            Fork::Child => external::Call {
                program: &external.program,
                mounts: mounts.as_fd(),
                directory: &external.directory,
                command: &verb.command(id),
                stderr,
            }
            .run(),
            Fork::Parent(child) => child,
        };
        let timeout = Duration::from_millis(external.program.timeout_ms);
        external.call = Some(RunningCall {
            verb,
            child,
            words,
            deadline: Instant::now() + timeout,
            late: false,
        });
        let child = self
            .containers
            .get(id)
            .and_then(|it| it.external.as_ref())
            .and_then(External::caller);
        if let Some(child) = child {
            let source = Source::ContainerCall(id.to_owned());
            let watched = self.poll.add_process(source, &child.pidfd);
            if watched.is_err() {
                kill_group(child);
            }
            step(name, watched)?;
        }
        Ok(())
    }

    /// A call has ended, or may have.
    pub fn runtime_answered(&mut self, id: &str) {
        let Some(container) = self.containers.get_mut(id) else {
            return;
        };
        let Some(external) = &mut container.external else {
            return;
        };
        let Some(call) = external.call.take() else {
            return;
        };
        let ended = match fork::reap(call.child.pidfd.as_fd()) {
            Ok(None) => {
                external.call = Some(call);
                return;
            }
            Ok(ended) => ended,
            Err(_) => None,
        };
        let source = Source::ContainerCall(id.to_owned());
        self.poll.remove(&source, &call.child.pidfd);
        let result = call.result(&external.program, ended);
        match call.verb {
            Verb::Start => self.runtime_started(id, result),
            Verb::Delete => self.runtime_deleted(id, result),
        }
    }

    fn runtime_started(&mut self, id: &str, result: Result<(), Failure>) {
        let Some(container) = self.containers.get(id) else {
            return;
        };
        match (&container.state, result) {
            (State::Starting, Ok(())) => self.container_runs(id),
            (State::Starting, Err(failure)) => self.container_failed(id, failure),
            // It has ended by itself meanwhile, and that was told; by now it may be to go.
            _ if container.pending.is_some() => {
                if let Err(failure) = self.call_runtime(id, Verb::Delete) {
                    self.runtime_deleted(id, Err(failure));
                }
            }
            _ => {}
        }
    }

    fn runtime_deleted(&mut self, id: &str, result: Result<(), Failure>) {
        if let Err(failure) = result {
            // What it keeps of the container is in the bundle, which goes now.
            eprintln!("container {id}: {failure}");
        }
        let Some(container) = self.containers.remove(id) else {
            return;
        };
        for (_, killer) in container.external.iter().flat_map(|it| &it.killers) {
            // The id of one that has ended may be another's.
            if !crate::poll::has_input(&killer.pidfd) {
                kill_group(killer);
            }
        }
        if let Some(request) = container.pending {
            self.done(request);
        }
    }
}

// === impl RunningCall ===

impl RunningCall {
    fn result(&self, program: &RuntimeProgram, ended: Option<Ended>) -> Result<(), Failure> {
        let name = format!("{} {}", program.path, self.verb.name());
        match ended {
            _ if self.late => Err(external::late(&name, program)),
            Some(ended) if ended.code() == 0 => Ok(()),
            Some(_) => Err(external::failed(&name, &read_words(&self.words))),
            None => {
                let error = Error::new("waitid(P_PIDFD)", rustix::io::Errno::CHILD);
                Err(system_failure(&name, &error))
            }
        }
    }
}

/// What was written to a pipe, as far as it is there, in its first part.
pub fn read_words(pipe: &OwnedFd) -> String {
    let mut words = vec![0; usize::try_from(MAX_WORDS).unwrap_or_default()];
    let length = rustix::io::read(pipe, &mut words[..]).unwrap_or_default();
    words.truncate(length);
    String::from_utf8_lossy(&words).trim().to_owned()
}

/// What the runtime has said about a creation that failed: its log, which the
/// failure brings, or else what it has written to the container's standard
/// error, from which nobody has read yet.
pub fn explain(container: &Container, failure: Failure) -> Failure {
    if container.external.is_none() || !failure.message.is_empty() {
        return failure;
    }
    let words = container
        .outputs
        .last()
        .map(|output| read_words(&output.fd));
    Failure {
        message: words
            .filter(|words| !words.is_empty())
            .unwrap_or_else(|| "it failed and said nothing".to_owned()),
        ..failure
    }
}
