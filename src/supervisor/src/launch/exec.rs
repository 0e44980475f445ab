//! The two steps to a further process in a running container.

use crate::launch::keeper::Keeper;
use crate::launch::program::Program;
use crate::launch::report::{Report, Reporter, malformed, step, system_failure};
use crate::launch::streams::{Streams, Terminal};
use crate::launch::{clone_beside_others, enter_cgroups, identity, open_root, read_process};
use insula_sys::Error;
use insula_sys::cgroup::Cgroup;
use insula_sys::fork::SingleThread;
use insula_sys::namespace::{self, Kind};
use insula_sys::outcome::Outcome;
use insula_sys::path::open_in_root;
use insula_wire::message::{Failure, FailureKind};
use insula_wire::plan::Process;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::OFlags;
use rustix::io::Errno;

/// What the child of an exec is born with.
#[derive(Debug)]
pub struct Birth<'a> {
    /// To the supervisor.
    pub reporter: Reporter,
    /// The process, a sealed memfd.
    pub process: OwnedFd,
    /// Its ends of the standard streams; `None` with a terminal.
    pub streams: Option<Streams>,
    /// Owner of the streams.
    pub owner: u32,
    /// Where what became of it is left.
    pub outcome: &'a Outcome,
    /// The container's main process.
    pub main: BorrowedFd<'a>,
    /// Whether the pod has a user namespace of its own.
    pub user_namespace: bool,
    /// The cgroups to be in; it was born in the version 2 one.
    pub cgroups: Vec<&'a Cgroup>,
}

// === impl Birth ===

impl Birth<'_> {
    /// Everything from the fork to the execve(2). Never returns.
    pub fn run(self, proof: SingleThread) -> ! {
        self.reporter.end(self.launch(proof))
    }

    fn launch(&self, proof: SingleThread) -> Result<(), Failure> {
        self.close_what_is_not_ours()?;
        enter_cgroups(&self.cgroups)?;
        let process = self.read_process()?;
        let keeper = match process.listens() {
            true => Some(Keeper::of_this_process(
                proof,
                self.outcome,
                &self.reporter,
            )?),
            false => None,
        };
        identity::set_oom_score(&process)?;
        identity::declare_labels(&process)?;
        identity::make_keyring()?;
        // The PID namespace counts for children only; the other namespaces
        // bring the container's root with them.
        let mut kinds = vec![
            Kind::Mount,
            Kind::Network,
            Kind::Ipc,
            Kind::Uts,
            Kind::Cgroup,
            Kind::Pid,
        ];
        if self.user_namespace {
            kinds.push(Kind::User);
        }
        join_container(self.main, &kinds)?;
        if self.user_namespace {
            identity::become_root_inside()?;
        }
        let top = open_root()?;
        enter_directory(top.as_fd(), &process.cwd)?;
        match &self.streams {
            Some(streams) => streams.install()?,
            None => Terminal::open(top.as_fd(), self.owner)?
                .into_streams(&self.reporter)?
                .install()?,
        }
        let program = Program::new(&process)?;
        let filter = identity::assume(&process)?;
        self.reporter.send(&Report::Ready(program.name()), &[]);
        let terminal = self.streams.is_none();
        let keeper = keeper.as_ref().map(|keeper| (keeper, &self.reporter));
        clone_beside_others(proof, &program, terminal, &filter, keeper, self.outcome)
    }

    fn close_what_is_not_ours(&self) -> Result<(), Failure> {
        let mut keep = vec![self.reporter.socket(), self.process.as_fd(), self.main];
        keep.extend(self.streams.iter().flat_map(Streams::descriptors));
        keep.extend(self.cgroups.iter().flat_map(|cgroup| cgroup.descriptors()));
        super::close_inherited(&keep)
    }

    fn read_process(&self) -> Result<Process, Failure> {
        serde_json::from_slice(&read_process(&self.process)?)
            .map_err(|error| malformed("read process", error.to_string()))
    }
}

/// Joins a container. One that is ending has no namespaces any more, setns(2).
fn join_container(main: BorrowedFd<'_>, kinds: &[Kind]) -> Result<(), Failure> {
    let name = "join container";
    match namespace::join_process(main, kinds) {
        Err(error) if error.errno() == Errno::SRCH => Err(Failure {
            kind: FailureKind::WrongState,
            step: name.to_owned(),
            message: format!("the container is ending: {error}"),
        }),
        joined => step(name, joined),
    }
}

/// Changes to a directory inside the root; magic links of its procfs lead
/// nowhere (CVE-2024-21626). What is wrong with it is the container's own doing.
fn enter_directory(top: BorrowedFd<'_>, path: &str) -> Result<(), Failure> {
    let directory = open_in_root(top, path, OFlags::PATH | OFlags::DIRECTORY);
    let entered = directory.and_then(|directory| {
        rustix::process::fchdir(&directory)
            .map_err(|errno| Error::new(format!("fchdir({path:?})"), errno))
    });
    entered.map_err(|error| Failure {
        kind: FailureKind::WorkingDirectory,
        ..system_failure(&format!("enter working directory {path}"), &error)
    })
}
