//! A supervisor on a thread, with programs that do as their names say.
//!
//! `true` ends at once, `sleep` at a signal, `stubborn` only when it is killed.
//! As an exec, `echo` writes and ends, `hang` only at its deadline, and `flood`
//! writes more than is kept.

use super::fakes::{Fault, Machine, same};
use insula_sys::seqpacket;
use insula_wire::channel::{Packet, RequestReader};
use insula_wire::message::{
    Answer, AttachRequest, ContainerState, Event, ExecRequest, ExecStreams, Exit, Failure,
    FailureKind, FromSupervisor, Input, Reply, Request, StdinOf,
};
use insula_wire::plan::Process;
use insula_wire::{LaunchPlan, WIRE_VERSION};
use std::collections::BTreeMap;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

#[derive(Debug)]
pub(crate) struct Supervisor {
    pub(crate) pid: i32,
    machine: Machine,
    listener: OwnedFd,
    /// Its end is readable when it has ended, as a pidfd is.
    life: OwnedFd,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    alive: Option<OwnedFd>,
    daemon: Option<OwnedFd>,
    pod_made: bool,
    containers: BTreeMap<String, Program>,
    /// Write ends of standard inputs, by the id of their exec or container.
    stdins: BTreeMap<String, OwnedFd>,
    /// Copies of standard outputs, by the id of the attachment.
    copies: BTreeMap<u64, OwnedFd>,
    abandoned: Vec<u64>,
    killed: Vec<u64>,
}

#[derive(Debug)]
struct Program {
    name: String,
    exit_record: PathBuf,
    started: bool,
    exit: Option<Exit>,
}

impl Supervisor {
    pub(crate) fn start(pid: i32, directory: &Path, machine: Machine) -> Arc<Self> {
        let (life, alive) = rustix::pipe::pipe().unwrap();
        let listener = seqpacket::listen(&directory.join("sock")).unwrap();
        seqpacket::set_nonblocking(&listener, false).unwrap();
        let supervisor = Arc::new(Self {
            pid,
            machine,
            listener,
            life,
            state: Mutex::new(State {
                alive: Some(alive),
                ..State::default()
            }),
        });
        let serving = Arc::clone(&supervisor);
        std::thread::spawn(move || {
            while let Ok(Some(daemon)) = seqpacket::accept(serving.listener.as_fd()) {
                if !serving.is_alive() {
                    return;
                }
                seqpacket::set_nonblocking(&daemon, false).unwrap();
                serving.state.lock().unwrap().daemon = Some(daemon.try_clone().unwrap());
                let mut reader = RequestReader::default();
                loop {
                    match reader.receive(daemon.as_fd()) {
                        Ok(Some((envelope, descriptors))) => {
                            serving.handle(
                                daemon.as_fd(),
                                envelope.id,
                                envelope.request,
                                descriptors,
                            );
                        }
                        Ok(None) => {}
                        Err(_) => break,
                    }
                }
                serving.state.lock().unwrap().daemon = None;
            }
        });
        supervisor
    }

    pub(crate) fn pidfd(&self) -> OwnedFd {
        self.life.try_clone().unwrap()
    }

    pub(crate) fn is(&self, pidfd: BorrowedFd<'_>) -> bool {
        same(pidfd, &self.life)
    }

    pub(crate) fn is_alive(&self) -> bool {
        self.state.lock().unwrap().alive.is_some()
    }

    /// Ends as if killed.
    pub(crate) fn die(&self) {
        let mut state = self.state.lock().unwrap();
        state.alive = None;
        if let Some(daemon) = state.daemon.take() {
            let _closed = rustix::net::shutdown(&daemon, rustix::net::Shutdown::Both);
        }
        let _closed = rustix::net::shutdown(&self.listener, rustix::net::Shutdown::Both);
    }

    /// Drops the connection, as no supervisor should.
    pub(crate) fn hang_up(&self) {
        if let Some(daemon) = &self.state.lock().unwrap().daemon {
            let _closed = rustix::net::shutdown(daemon, rustix::net::Shutdown::Both);
        }
    }

    /// A container's program ends.
    pub(crate) fn end(&self, container: &str, code: i32) {
        let mut state = self.state.lock().unwrap();
        let Some(program) = state.containers.get_mut(container) else {
            return;
        };
        if program.exit.is_some() {
            return;
        }
        let exit = Exit {
            code,
            finished_at: 7,
            started_at: i64::from(program.started) * 5,
            oom_killed: false,
            output_cut: false,
        };
        std::fs::write(&program.exit_record, serde_json::to_vec(&exit).unwrap()).unwrap();
        program.exit = Some(exit.clone());
        let event = Event::Exited {
            container_id: container.to_owned(),
            exit,
        };
        if let Some(daemon) = &state.daemon {
            send(daemon.as_fd(), &FromSupervisor::Event(event), &[]);
        }
    }

    fn fault(&self, fault: Fault) -> Result<(), Failure> {
        self.machine.check(fault).map_err(|error| Failure {
            kind: FailureKind::System,
            step: "test".to_owned(),
            message: error.to_string(),
        })
    }

    fn handle(&self, daemon: BorrowedFd<'_>, id: u64, request: Request, descriptors: Vec<OwnedFd>) {
        let mut given = Vec::new();
        let mut then: Box<dyn FnOnce()> = Box::new(|| {});
        let reply = self.answer(daemon, request, descriptors, &mut given, &mut then);
        let given: Vec<_> = given.iter().map(|fd: &OwnedFd| fd.as_fd()).collect();
        send(daemon, &FromSupervisor::Reply { id, reply }, &given);
        then();
    }

    fn answer<'a>(
        &'a self,
        daemon: BorrowedFd<'a>,
        request: Request,
        descriptors: Vec<OwnedFd>,
        given: &mut Vec<OwnedFd>,
        then: &mut Box<dyn FnOnce() + 'a>,
    ) -> Reply {
        match request {
            Request::Hello { .. } => Ok(self.hello()),
            Request::MakePod(_) => {
                self.fault(Fault::MakePod)?;
                self.state.lock().unwrap().pod_made = true;
                given.push(std::fs::File::open("/dev/null").unwrap().into());
                Ok(Answer::PodReady)
            }
            Request::UserNamespace => {
                given.push(std::fs::File::open("/proc/self/ns/user").unwrap().into());
                Ok(Answer::UserNamespace)
            }
            Request::Create(create) => {
                self.fault(Fault::Create)?;
                let plan = descriptors.into_iter().next().unwrap();
                let plan = insula_sys::fd::read_sealed(plan, 1 << 20).unwrap();
                let plan: LaunchPlan = serde_json::from_slice(&plan).unwrap();
                let name = plan.process.args.first().map_or_else(
                    || "sleep".to_owned(),
                    |arg| arg.to_string_lossy().into_owned(),
                );
                let program = Program {
                    name,
                    exit_record: create.exit_record.into(),
                    started: false,
                    exit: None,
                };
                self.state
                    .lock()
                    .unwrap()
                    .containers
                    .insert(create.container_id, program);
                Ok(Answer::Forked { pid: 1 })
            }
            Request::Placed { .. } => {
                self.fault(Fault::Placed)?;
                Ok(Answer::Created { pid: 1 })
            }
            Request::EnterRoot { .. } => Ok(Answer::Created { pid: 1 }),
            Request::Start { container_id } => self.start_program(container_id, then),
            Request::Signal {
                container_id,
                signal,
            } => {
                if self.name(&container_id)? == "sleep" {
                    *then = Box::new(move || self.end(&container_id, 128 + signal));
                }
                Ok(Answer::Done)
            }
            Request::KillAll { container_id } => {
                self.name(&container_id)?;
                *then = Box::new(move || self.end(&container_id, 137));
                Ok(Answer::Done)
            }
            Request::Forget { container_id } => self.forget(&container_id),
            Request::Exec(exec) => Ok(self.run_exec(daemon, &exec, descriptors, given)),
            Request::Attach(attach) => self.attach(&attach, given),
            Request::CloseStdin(stdin) => {
                self.state.lock().unwrap().stdins.remove(&stdin_key(&stdin));
                Ok(Answer::Done)
            }
            Request::AbandonExec { exec_id } => {
                let mut state = self.state.lock().unwrap();
                state.stdins.remove(&exec_id.to_string());
                state.abandoned.push(exec_id);
                Ok(Answer::Done)
            }
            Request::KillExec { exec_id } => {
                self.state.lock().unwrap().killed.push(exec_id);
                Ok(Answer::Done)
            }
            Request::Shutdown => {
                *then = Box::new(|| self.die());
                Ok(Answer::Done)
            }
            Request::Descriptors | Request::ReopenLog { .. } => Ok(Answer::Done),
        }
    }

    fn forget(&self, container_id: &str) -> Reply {
        let mut state = self.state.lock().unwrap();
        match state.containers.get(container_id) {
            None => Err(failure(FailureKind::NotFound)),
            Some(program) if program.exit.is_none() => Err(failure(FailureKind::WrongState)),
            Some(_) => {
                state.containers.remove(container_id);
                Ok(Answer::Done)
            }
        }
    }

    fn start_program<'a>(
        &'a self,
        container_id: String,
        then: &mut Box<dyn FnOnce() + 'a>,
    ) -> Reply {
        self.fault(Fault::Start)?;
        let mut state = self.state.lock().unwrap();
        let program = state
            .containers
            .get_mut(&container_id)
            .ok_or_else(|| failure(FailureKind::NotFound))?;
        program.started = true;
        if program.name == "true" {
            *then = Box::new(move || self.end(&container_id, 0));
        }
        Ok(Answer::Started {
            pid: 1,
            started_at: 5,
        })
    }

    /// `cat` gives back its standard input or shows its terminal until that
    /// ends; the others do as for [`run_exec`].
    fn run_exec(
        &self,
        daemon: BorrowedFd<'_>,
        exec: &ExecRequest,
        descriptors: Vec<OwnedFd>,
        given: &mut Vec<OwnedFd>,
    ) -> Answer {
        let process =
            insula_sys::fd::read_sealed(descriptors.into_iter().next().unwrap(), 1 << 20).unwrap();
        let process: Process = serde_json::from_slice(&process).unwrap();
        if process.args[0].as_bytes() != b"cat" {
            return run_exec(daemon, exec, &process, given);
        }
        let key = exec.exec_id.to_string();
        if exec.streams == ExecStreams::Terminal {
            let flags = rustix::pty::OpenptFlags::RDWR | rustix::pty::OpenptFlags::NOCTTY;
            let master = rustix::pty::openpt(flags).unwrap();
            rustix::io::ioctl_fionbio(&master, true).unwrap();
            given.push(master.try_clone().unwrap());
            self.state.lock().unwrap().stdins.insert(key, master);
            return Answer::ExecStarted { pid: 2 };
        }
        let (input, stdin) = rustix::pipe::pipe().unwrap();
        let (stdout, output) = rustix::pipe::pipe().unwrap();
        given.extend([stdin.try_clone().unwrap(), stdout]);
        self.state.lock().unwrap().stdins.insert(key, stdin);
        let (exec_id, daemon) = (exec.exec_id, daemon.try_clone_to_owned().unwrap());
        std::thread::spawn(move || {
            let (mut input, mut output) = (std::fs::File::from(input), std::fs::File::from(output));
            let _ = std::io::copy(&mut input, &mut output);
            drop(output);
            let event = Event::ExecExited {
                exec_id,
                code: 4,
                timed_out: false,
            };
            send(daemon.as_fd(), &FromSupervisor::Event(event), &[]);
        });
        Answer::ExecStarted { pid: 2 }
    }

    fn attach(&self, attach: &AttachRequest, given: &mut Vec<OwnedFd>) -> Reply {
        self.name(&attach.container_id)?;
        let mut input = Input::None;
        let mut state = self.state.lock().unwrap();
        if attach.stdin {
            let (_, stdin) = pipe();
            given.push(stdin.try_clone().unwrap());
            state.stdins.insert(attach.container_id.clone(), stdin);
            input = Input::Pipe;
        }
        if attach.stdout {
            let (reader, copy) = pipe();
            given.push(reader);
            state.copies.insert(attach.attach_id, copy);
        }
        Ok(Answer::Attached { input })
    }

    /// All that are attached see this.
    pub(crate) fn show(&self, text: &str) {
        for copy in self.state.lock().unwrap().copies.values() {
            rustix::io::write(copy, text.as_bytes()).unwrap();
        }
    }

    /// All that are attached are too slow.
    pub(crate) fn lose_all(&self) {
        let mut state = self.state.lock().unwrap();
        for attach_id in std::mem::take(&mut state.copies).into_keys() {
            let event = Event::AttachLagged { attach_id };
            let daemon = state.daemon.as_ref().unwrap();
            send(daemon.as_fd(), &FromSupervisor::Event(event), &[]);
        }
    }

    /// How many standard inputs are open, execs abandoned, and execs killed.
    pub(crate) fn streams(&self) -> (usize, usize, usize) {
        let state = self.state.lock().unwrap();
        (
            state.stdins.len(),
            state.abandoned.len(),
            state.killed.len(),
        )
    }

    fn hello(&self) -> Answer {
        let state = self.state.lock().unwrap();
        Answer::Hello {
            version: WIRE_VERSION,
            pid: self.pid,
            pod_made: state.pod_made,
            containers: state
                .containers
                .iter()
                .map(|(id, program)| ContainerState {
                    container_id: id.clone(),
                    pid: i32::from(program.exit.is_none()),
                    started_at: i64::from(program.started) * 5,
                    exit: program.exit.clone(),
                })
                .collect(),
        }
    }

    fn name(&self, container: &str) -> Result<String, Failure> {
        let state = self.state.lock().unwrap();
        let program = state.containers.get(container);
        program
            .map(|program| program.name.clone())
            .ok_or_else(|| failure(FailureKind::NotFound))
    }
}

fn run_exec(
    daemon: BorrowedFd<'_>,
    exec: &ExecRequest,
    process: &Process,
    given: &mut Vec<OwnedFd>,
) -> Answer {
    let name = process.args[0].to_string_lossy().into_owned();
    for stream in ["out", "err"] {
        let (read, write) = rustix::pipe::pipe().unwrap();
        given.push(read);
        let flood = name == "flood";
        std::thread::spawn(move || {
            use std::io::Write as _;
            let mut write = std::fs::File::from(write);
            let _ = write.write_all(stream.as_bytes());
            if flood {
                let _ = write.write_all(&vec![b'x'; crate::exec::OUTPUT_LIMIT + 1000]);
            }
        });
    }
    let (exec_id, timeout_ms) = (exec.exec_id, exec.timeout_ms);
    let daemon = daemon.try_clone_to_owned().unwrap();
    std::thread::spawn(move || {
        let timed_out = name == "hang";
        std::thread::sleep(Duration::from_millis(if timed_out {
            timeout_ms
        } else {
            20
        }));
        let event = Event::ExecExited {
            exec_id,
            code: 3,
            timed_out,
        };
        send(daemon.as_fd(), &FromSupervisor::Event(event), &[]);
    });
    Answer::ExecStarted { pid: 2 }
}

fn stdin_key(stdin: &StdinOf) -> String {
    match stdin {
        StdinOf::Container { container_id } => container_id.clone(),
        StdinOf::Exec { exec_id } => exec_id.to_string(),
    }
}

/// A pipe whose both ends are non-blocking, as a supervisor gives them.
fn pipe() -> (OwnedFd, OwnedFd) {
    rustix::pipe::pipe_with(rustix::pipe::PipeFlags::NONBLOCK).unwrap()
}

fn failure(kind: FailureKind) -> Failure {
    Failure {
        kind,
        step: "test".to_owned(),
        message: "no".to_owned(),
    }
}

fn send(daemon: BorrowedFd<'_>, message: &FromSupervisor, descriptors: &[BorrowedFd<'_>]) {
    let _gone = Packet::from_supervisor(message, descriptors)
        .unwrap()
        .send(daemon);
}
