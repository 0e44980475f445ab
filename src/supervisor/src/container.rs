//! One container as its supervisor sees it.
//!
//! ```text
//!                  Built (hooks are run on the node)
//!                   ▲ │
//!                   │ ▼
//!  Forked ─placed─► Building ─ready─► Created ─start─► Starting ─► Running
//!    │                 │                 │                │           │ ended
//!    └────────┬────────┘                 └───────┬────────┘           ▼
//!        create failed:                          └─────────────► Draining
//!        forgotten                                                    │ EOF or
//!                                                  Exited ◄───────────┘ 1 s
//! ```

use crate::attach::Copies;
use crate::cgroup::ExecGroup;
use crate::launch::report::{Go, ProgramName};
use crate::log::{Lines, Log};
use crate::oom::OomKills;
use crate::poll::Output;
use crate::runtime::{External, kill_group};
use insula_sys::cgroup::{Cgroup, Version};
use insula_sys::fork::{self, Child};
use insula_sys::outcome::Outcome;
use insula_sys::{Error, Result, seqpacket};
use insula_wire::message::{ContainerState, Exit, Notify};
use insula_wire::time::now_nanoseconds;
use rustix::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// A container and everything that belongs to it.
#[derive(Debug)]
pub struct Container {
    /// Its id.
    pub id: String,
    /// Where it stands.
    pub state: State,
    /// Its cgroup; in no hierarchy until the child was placed in one that a
    /// service manager makes.
    pub cgroup: Cgroup,
    /// Its log.
    pub log: Log,
    /// What it writes, while that is open.
    pub outputs: Vec<OpenOutput>,
    /// Its streams are one terminal.
    pub terminal: bool,
    /// The write end of its standard input or the master of its terminal, kept
    /// so that it stays open.
    pub stdin: Option<OwnedFd>,
    /// Who gets copies of what it writes.
    pub copies: Copies,
    /// To its child, until that executes.
    pub socket: Option<OwnedFd>,
    /// The first process of its creation, until reaped.
    pub intermediate: Option<Child>,
    /// Its main process, until reaped.
    pub main: Option<Child>,
    /// Whether the main process is PID 1 of a namespace of its own, whose end
    /// is the end of all in it.
    pub own_pid_namespace: bool,
    /// What became of a main process that others can see.
    pub outcome: Outcome,
    /// The program, for explaining why it cannot be executed.
    pub program: ProgramName,
    /// The runtime that executes it, if that is not the supervisor.
    pub external: Option<External>,
    /// Who is told of its system call filter.
    pub notify: Option<Notify>,
    /// The request that waits for the next step.
    pub pending: Option<u64>,
    /// What the kernel killed in it.
    pub oom: OomKills,
    /// Groups of execs that were killed and could not be removed yet.
    pub spent_groups: Vec<ExecGroup>,
    started_at: i64,
    exit_record: PathBuf,
}

/// Where a container stands.
#[derive(Debug)]
pub enum State {
    /// Its child waits for its cgroups.
    Forked,
    /// Its child builds the root.
    Building,
    /// Its root is built, and hooks are run on the node.
    Built,
    /// Complete but for the execve(2).
    Created,
    /// About to execute.
    Starting,
    /// Its program runs.
    Running,
    /// Its main process ended; what it wrote is still being read.
    Draining {
        /// Exit status, or 128 + signal.
        code: i32,
        /// Nanoseconds since the epoch.
        finished_at: i64,
        /// The kernel ended it for want of memory.
        oom_killed: bool,
        /// When reading stops at the latest.
        deadline: Instant,
    },
    /// It is over.
    Exited(Exit),
}

/// One open output of a container.
#[derive(Debug)]
pub struct OpenOutput {
    /// Which one.
    pub which: Output,
    /// The read end of its pipe, or the master of its terminal.
    pub fd: OwnedFd,
    /// Its unfinished line.
    pub lines: Lines,
}

/// How long output is read after the main process ended: children that outlive
/// it may hold the pipe for ever.
const DRAIN: Duration = Duration::from_secs(1);

// === impl State ===

impl State {
    /// The state in a word, for messages.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Forked | Self::Building | Self::Built => "being created",
            Self::Created => "created",
            Self::Starting => "being started",
            Self::Running => "running",
            Self::Draining { .. } => "ending",
            Self::Exited(_) => "exited",
        }
    }
}

// === impl Container ===

impl Container {
    /// A container whose child was just forked.
    pub fn new(
        id: String,
        cgroup: Cgroup,
        log: Log,
        outcome: Outcome,
        exit_record: PathBuf,
    ) -> Self {
        Self {
            id,
            state: State::Forked,
            cgroup,
            log,
            outputs: Vec::new(),
            terminal: false,
            stdin: None,
            copies: Copies::default(),
            socket: None,
            intermediate: None,
            main: None,
            own_pid_namespace: false,
            outcome,
            program: ProgramName::default(),
            external: None,
            notify: None,
            pending: None,
            oom: OomKills::default(),
            spent_groups: Vec::new(),
            started_at: 0,
            exit_record,
        }
    }

    /// Claims a group for an exec. One that was ever killed is not used again:
    /// the kernel kills whatever is born in it (its count of kills differs from
    /// that of the cgroup the process was forked in).
    pub fn claim_group(&mut self, busy: &[usize]) -> Result<Option<ExecGroup>> {
        self.spent_groups.retain(|group| !group.remove());
        let spent: Vec<usize> = self.spent_groups.iter().map(|group| group.slot).collect();
        ExecGroup::claim(&self.cgroup, |slot| {
            busy.contains(&slot) || spent.contains(&slot)
        })
    }

    /// Moves the child that has a container made by an external runtime out of the
    /// group which the daemon has placed it in, to one beside that which the
    /// runtime makes: next to a process of its parent that could only be a threaded
    /// one (cgroup-v2.rst, "Threads"), where nothing can be added later.
    pub fn clear_for_runtime(&mut self) -> Result<()> {
        let makes_group = self
            .external
            .as_ref()
            .is_some_and(|it| it.program.namespaced);
        let maker = self.intermediate.as_ref().map(|maker| maker.pid);
        let Some(maker) = maker.filter(|_| makes_group && self.cgroup.version() == Version::V2)
        else {
            return Ok(());
        };
        match self.claim_group(&[])? {
            Some(group) => group.cgroup.place(maker),
            None => Ok(()),
        }
    }

    /// The process that stands for the container: the main one, or before that
    /// is cloned the intermediate.
    pub fn process(&self) -> Option<&Child> {
        self.main.as_ref().or(self.intermediate.as_ref())
    }

    /// Process id of [`process`](Self::process), 0 without one.
    pub fn pid(&self) -> i32 {
        self.process().map_or(0, |child| child.pid)
    }

    /// Tells the child to go on.
    pub fn tell(&self, go: Go) -> Result<()> {
        match &self.socket {
            Some(socket) => seqpacket::send(socket.as_fd(), &[go.byte()], &[]),
            None => Err(Error::new("sendmsg(child)", rustix::io::Errno::PIPE)),
        }
    }

    /// Its program runs from now on.
    pub fn run(&mut self) -> i64 {
        self.started_at = now_nanoseconds();
        self.oom = OomKills::watch(&self.cgroup);
        self.state = State::Running;
        self.started_at
    }

    /// Its main process lives on after whatever the kernel killed.
    pub fn outlive_kills(&mut self) {
        if let Some(main) = &self.main {
            self.oom.lives_on(&self.cgroup, main.pid);
        }
    }

    /// Its main process ended. What is left in its cgroup is killed, unless its
    /// own PID namespace has seen to that.
    pub fn end(&mut self, code: i32) {
        let oom_killed = code == 137 && self.oom.ended_it(&self.cgroup);
        if !self.own_pid_namespace {
            // Whatever survives this is found by the daemon's clean-up.
            let _ = self.cgroup.kill_now();
        }
        self.state = State::Draining {
            code,
            finished_at: now_nanoseconds(),
            oom_killed,
            deadline: Instant::now() + DRAIN,
        };
    }

    /// Whether its main process has ended, noticed or not.
    pub fn is_ending(&self) -> bool {
        match (&self.state, &self.main) {
            (State::Running, Some(main)) => crate::poll::has_input(&main.pidfd),
            _ => true,
        }
    }

    /// When draining has to stop, while it goes on.
    pub fn drain_deadline(&self) -> Option<Instant> {
        match self.state {
            State::Draining { deadline, .. } => Some(deadline),
            _ => None,
        }
    }

    /// Ends the draining: the log is complete, the record is written.
    pub fn settle(&mut self) -> Option<Exit> {
        let State::Draining {
            code,
            finished_at,
            oom_killed,
            ..
        } = self.state
        else {
            return None;
        };
        let exit = Exit {
            code,
            finished_at,
            started_at: self.started_at,
            oom_killed,
            output_cut: !self.outputs.is_empty(),
        };
        self.stdin = None;
        self.socket = None;
        // Without the record the daemon still learns the exit from us; only a
        // supervisor that dies as well would lose it.
        let _ = self.write_record(&exit);
        self.state = State::Exited(exit.clone());
        Some(exit)
    }

    fn write_record(&self, exit: &Exit) -> std::io::Result<()> {
        let temporary = self.exit_record.with_extension("json.new");
        std::fs::write(&temporary, serde_json::to_vec(exit)?)?;
        std::fs::rename(&temporary, &self.exit_record)
    }

    /// What is told about it.
    pub fn describe(&self) -> ContainerState {
        ContainerState {
            container_id: self.id.clone(),
            pid: self.pid(),
            started_at: self.started_at,
            exit: match &self.state {
                State::Exited(exit) => Some(exit.clone()),
                _ => None,
            },
        }
    }

    /// Kills and reaps the processes of a creation that failed.
    pub fn abandon(&mut self) {
        for child in [self.main.take(), self.intermediate.take()]
            .into_iter()
            .flatten()
        {
            let killed = match self.external {
                // Those of a runtime have children of their own.
                Some(_) => {
                    kill_group(&child);
                    Ok(())
                }
                None => fork::send_signal(child.pidfd.as_fd(), 9),
            };
            if killed.is_ok() {
                let _ = fork::wait(child.pidfd.as_fd(), fork::PATIENCE);
            }
        }
        let _ = self.cgroup.kill_now();
    }
}
