//! Forking the children of containers and execs.

use crate::container::{Container, OpenOutput, State};
use crate::exec::Exec;
use crate::launch::report::{ProgramName, Reporter, malformed, step};
use crate::launch::sandbox::Place;
use crate::launch::streams::Streams;
use crate::launch::{container as container_birth, exec as exec_birth, external, sandbox};
use crate::log::{Lines, Log};
use crate::poll::{Output, Source};
use crate::runtime::{External, become_subreaper};
use crate::streams::{self, Ends, Wanted};
use crate::supervisor::{Supervisor, refuse};
use insula_sys::cgroup::{Cgroup, Version};
use insula_sys::fork::{Child, Fork, ForkOptions, fork};
use insula_sys::outcome::Outcome;
use insula_sys::seqpacket;
use insula_wire::message::{Answer, CreateRequest, ExecRequest, ExecStreams, Failure, FailureKind};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

/// The descriptors of a creation, sorted out.
struct Brought {
    plan: OwnedFd,
    /// `config.json`, for an external runtime.
    config: Option<OwnedFd>,
    cgroup: Vec<OwnedFd>,
    root: OwnedFd,
    host_mounts: Vec<OwnedFd>,
}

// === impl Supervisor ===

impl Supervisor {
    /// Forks the blocked child of a new container.
    pub fn create(
        &mut self,
        id: u64,
        request: CreateRequest,
        descriptors: Vec<OwnedFd>,
    ) -> Result<(), Failure> {
        let name = "create container";
        if self.containers.contains_key(&request.container_id) {
            return Err(refuse(FailureKind::WrongState, name, "it exists already"));
        }
        let Some(pod) = &self.pod else {
            return Err(refuse(
                FailureKind::WrongState,
                name,
                "the pod was not made",
            ));
        };
        let brought = Brought::sort(&request, descriptors)?;
        let target_namespace = match &request.runtime {
            Some(_) => self.target_namespace(&request)?,
            None => None,
        };
        let target = self.target(&request)?;
        let owner = pod.namespaces.host_uid(request.owner)?;
        let (mut container, theirs) = prepare(&request, owner, brought.cgroup)?;
        if let Some(program) = &request.runtime {
            let directory = pod.namespaces.state_directory.clone();
            container.external = Some(External::new(program.clone(), directory));
            step(name, become_subreaper())?;
        }
        let (ours, socket) = step(name, seqpacket::pair())?;
        let options = ForkOptions {
            into_cgroup: match request.born_in_cgroup && may_be_born(&request, &container) {
                true => container.cgroup.unified(),
                false => None,
            },
            ..ForkOptions::default()
        };
        match step(name, fork(self.proof, &options))? {
            Fork::Child => match (&request.runtime, brought.config) {
                (Some(program), Some(config)) => external::Birth {
                    reporter: Reporter::new(socket),
                    container_id: &request.container_id,
                    program,
                    plan: brought.plan,
                    config,
                    streams: theirs,
                    root: brought.root,
                    host_mounts: brought.host_mounts,
                    pod: &pod.namespaces,
                    target: target_namespace,
                    enters: (request.born_in_cgroup && !program.namespaced)
                        .then_some(&container.cgroup),
                }
                .run(self.proof),
                _ => container_birth::Birth {
                    reporter: Reporter::new(socket),
                    plan: brought.plan,
                    streams: theirs,
                    outcome: &container.outcome,
                    root: brought.root,
                    host_mounts: brought.host_mounts,
                    pod: &pod.namespaces,
                    target,
                    enters: request.born_in_cgroup.then_some(&container.cgroup),
                }
                .run(self.proof),
            },
            Fork::Parent(child) => {
                let pid = child.pid;
                self.subreaper |= container.external.is_some();
                container.socket = Some(ours);
                container.intermediate = Some(child);
                let watched = self.watch_new(&container);
                if watched.is_err() {
                    container.abandon();
                }
                step(name, watched)?;
                self.containers.insert(request.container_id, container);
                self.reply(id, Ok(Answer::Forked { pid }), &[]);
                Ok(())
            }
        }
    }

    /// The main process of the container whose PID namespace is joined.
    fn target(&self, request: &CreateRequest) -> Result<Option<BorrowedFd<'_>>, Failure> {
        let Some(id) = &request.target else {
            return Ok(None);
        };
        self.containers
            .get(id)
            .filter(|container| matches!(container.state, State::Running))
            .and_then(|container| container.main.as_ref())
            .map(|main| Some(main.pidfd.as_fd()))
            .ok_or_else(|| {
                let message = format!("target container {id} does not run");
                refuse(FailureKind::WrongState, "create container", message)
            })
    }

    fn watch_new(&mut self, container: &Container) -> insula_sys::Result<()> {
        let id = &container.id;
        if let Some(socket) = &container.socket {
            self.poll.add(Source::ContainerChild(id.clone()), socket)?;
        }
        if let Some(child) = &container.intermediate {
            self.poll
                .add(Source::ContainerIntermediate(id.clone()), &child.pidfd)?;
        }
        // What a runtime says about a failure is read when it has failed.
        let outputs = match container.external {
            Some(_) => &[],
            None => &container.outputs[..],
        };
        for output in outputs {
            self.poll.add(
                Source::ContainerOutput(id.clone(), output.which),
                &output.fd,
            )?;
        }
        Ok(())
    }

    /// Forks the child of an exec.
    pub fn exec(
        &mut self,
        id: u64,
        request: &ExecRequest,
        descriptors: Vec<OwnedFd>,
    ) -> Result<(), Failure> {
        let name = "exec";
        let (process, told) = exec_descriptors(descriptors)?;
        let busy = self.busy_groups(&request.container_id);
        let proof = self.proof;
        let namespaces = self.pod.as_ref().map(|pod| &pod.namespaces);
        let user_namespace = namespaces.is_some_and(|all| all.user.is_some());
        let owner = match namespaces {
            Some(namespaces) => namespaces.host_uid(request.owner)?,
            None => request.owner,
        };
        let number = self.exec_number(&request.container_id, told.is_some())?;
        let container = self.container(&request.container_id)?;
        let group = match container.state {
            State::Running => step(name, container.claim_group(&busy))?,
            _ => None,
        };
        let (State::Running, Some(main)) = (&container.state, &container.main) else {
            let message = format!("the container is {}, not running", container.state.name());
            return Err(refuse(FailureKind::WrongState, name, message));
        };

        let (ends, theirs) = step(name, exec_streams(request, owner))?;
        let (ours, socket) = step(name, seqpacket::pair())?;
        let outcome = step(name, Outcome::new())?;
        let place = place(container, number)?;
        let container = &container.cgroup;
        let unified = group.as_ref().and_then(|group| group.cgroup.unified());
        let options = ForkOptions {
            into_cgroup: unified.or(container.unified()),
            ..ForkOptions::default()
        };
        // The group comes last, so that of the two in one hierarchy it counts.
        let group_of_its_own = group.as_ref().map(|group| &group.cgroup);
        let cgroups = [container].into_iter().chain(group_of_its_own).collect();
        let main = main.pidfd.as_fd();
        let child = match step(name, fork(proof, &options))? {
            Fork::Child if let (Some(place), Some(process)) = (place, told) => sandbox::Birth {
                reporter: Reporter::new(socket),
                place,
                process,
                streams: theirs,
                owner: request.owner,
                outcome: &outcome,
                cgroups,
            }
            .run(proof),
            Fork::Child => exec_birth::Birth {
                reporter: Reporter::new(socket),
                process,
                streams: theirs,
                owner: request.owner,
                outcome: &outcome,
                main,
                user_namespace,
                cgroups,
            }
            .run(proof),
            Fork::Parent(child) => child,
        };
        let exec_id = request.exec_id;
        step(name, self.watch_exec(exec_id, &ours, &child))?;
        let exec = Exec {
            container_id: request.container_id.clone(),
            pending: Some(id),
            socket: ours,
            intermediate: Some(child),
            main: None,
            outcome,
            program: ProgramName::default(),
            notify: request.notify.clone(),
            refused: None,
            group,
            deadline: deadline(request),
            killed: None,
            terminal: request.streams == ExecStreams::Terminal,
            stdin: ends.stdin,
            outputs: ends.outputs,
            number,
            abandoned: false,
        };
        self.execs.insert(exec_id, exec);
        Ok(())
    }
}

// === impl Supervisor ===

impl Supervisor {
    fn execs_in(&self, container_id: &str) -> impl Iterator<Item = &Exec> {
        let all = self.execs.values();
        all.filter(move |exec| exec.container_id == container_id)
    }

    fn busy_groups(&self, container_id: &str) -> Vec<usize> {
        self.execs_in(container_id)
            .filter_map(|exec| exec.group.as_ref().map(|group| group.slot))
            .collect()
    }

    /// The number of a further process in a sandbox; `None` where it joins the
    /// container.
    fn exec_number(&mut self, container_id: &str, told: bool) -> Result<Option<u32>, Failure> {
        let taken: Vec<u32> = self
            .execs_in(container_id)
            .filter_map(|exec| exec.number)
            .collect();
        let container = self.container(container_id)?;
        let number = match &mut container.external {
            Some(external) if !external.program.namespaced => Some(external.number(&taken)),
            _ => None,
        };
        if number.is_some() == told {
            return Ok(number);
        }
        let message = "a runtime is told of the process where it has to be asked, and only there";
        Err(malformed("exec", message))
    }

    fn watch_exec(&mut self, id: u64, socket: &OwnedFd, child: &Child) -> insula_sys::Result<()> {
        self.poll.add(Source::ExecChild(id), socket)?;
        self.poll.add(Source::ExecIntermediate(id), &child.pidfd)
    }
}

/// A runtime takes only a cgroup with nothing in it, and puts the container there
/// itself. That of version 2 beside hierarchies of version 1 it does not know. One
/// that makes sandboxes leaves them where it was called.
fn may_be_born(request: &CreateRequest, container: &Container) -> bool {
    let places = request.runtime.as_ref().is_some_and(|it| it.namespaced);
    !places || container.cgroup.version() == Version::V1
}

/// Where a process of this number is added to a sandbox; without a number it joins
/// the container.
fn place(container: &Container, number: Option<u32>) -> Result<Option<Place<'_>>, Failure> {
    let Some(number) = number else {
        return Ok(None);
    };
    let external = container.external.as_ref();
    let place = external.and_then(|external| external.place(&container.id, number));
    place.map(Some).ok_or_else(|| {
        let message = "the container has no bundle";
        refuse(FailureKind::WrongState, "exec", message)
    })
}

fn deadline(request: &ExecRequest) -> Option<Instant> {
    let timeout = (request.timeout_ms > 0).then(|| Duration::from_millis(request.timeout_ms));
    Instant::now().checked_add(timeout?)
}

/// The process of an exec, and what a runtime is told of it where there is one
/// that has to be asked.
fn exec_descriptors(descriptors: Vec<OwnedFd>) -> Result<(OwnedFd, Option<OwnedFd>), Failure> {
    let count = descriptors.len();
    let mut brought = descriptors.into_iter();
    match (brought.next(), brought.next(), brought.next()) {
        (Some(process), told, None) => Ok((process, told)),
        _ => Err(malformed("exec", format!("{count} descriptors came"))),
    }
}

/// Both ends of an exec's pipes; with a terminal there are none, and its child
/// makes that itself.
fn exec_streams(request: &ExecRequest, owner: u32) -> insula_sys::Result<(Ends, Option<Streams>)> {
    let ExecStreams::Pipes {
        stdin,
        stdout,
        stderr,
    } = request.streams
    else {
        return Ok((Ends::default(), None));
    };
    let wanted = Wanted {
        stdin,
        stdout,
        stderr,
    };
    let (ends, theirs) = streams::make(owner, wanted)?;
    Ok((ends, Some(theirs)))
}

/// A container before its child is forked, and the child's ends of its streams
/// unless it makes a terminal itself.
fn prepare(
    request: &CreateRequest,
    owner: u32,
    cgroup: Vec<OwnedFd>,
) -> Result<(Container, Option<Streams>), Failure> {
    let name = "create container";
    let log = step("open log", Log::open(request.stdio.log_path.as_deref()))?;
    let mut container = Container::new(
        request.container_id.clone(),
        step(name, Cgroup::from_descriptors(cgroup))?,
        log,
        step(name, Outcome::new())?,
        request.exit_record.clone().into(),
    );
    container.notify.clone_from(&request.notify);
    container.terminal = request.stdio.terminal;
    if request.stdio.terminal {
        return Ok((container, None));
    }
    let wanted = Wanted {
        stdin: request.stdio.stdin,
        stdout: true,
        stderr: true,
    };
    let (ends, theirs) = step(name, streams::make(owner, wanted))?;
    container.outputs = ends
        .outputs
        .into_iter()
        .map(|(which, fd)| OpenOutput::new(which, fd))
        .collect();
    container.stdin = ends.stdin;
    Ok((container, Some(theirs)))
}

// === impl Brought ===

impl Brought {
    fn sort(request: &CreateRequest, descriptors: Vec<OwnedFd>) -> Result<Self, Failure> {
        let count = descriptors.len();
        let mut all = descriptors.into_iter();
        let mut next = |what: &str| {
            all.next().ok_or_else(|| {
                malformed(
                    "create container",
                    format!("no {what} among {count} descriptors"),
                )
            })
        };
        Ok(Self {
            plan: next("plan")?,
            config: match request.runtime {
                Some(_) => Some(next("config.json")?),
                None => None,
            },
            cgroup: (0..request.cgroup_descriptors)
                .map(|_| next("cgroup"))
                .collect::<Result<_, _>>()?,
            root: next("root")?,
            host_mounts: all.collect(),
        })
    }
}

// === impl OpenOutput ===

impl OpenOutput {
    /// An output that was just opened.
    pub fn new(which: Output, fd: OwnedFd) -> Self {
        let name = match which {
            Output::Stdout => "stdout",
            Output::Stderr => "stderr",
        };
        Self {
            which,
            fd,
            lines: Lines::new(name),
        }
    }
}
