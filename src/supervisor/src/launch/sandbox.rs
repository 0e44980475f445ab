//! Children that ask an external runtime for a further process in a container
//! that is a sandbox: its namespaces are around a kernel in user space, and joining
//! them would lead beside the container's processes.
//!
//! ```text
//!  supervisor ── fork ──► intermediate: enters the bundle, writes the process
//!      ▲                         │
//!      └─────────────────────────┴─ clone3(CLONE_PARENT) ─► RUNTIME exec
//! ```
//!
//! That call lasts as long as the process, carries its streams and ends with its
//! code. Killing it does not end the process: the runtime has to be asked for
//! that, too.

use crate::launch::external::{CommandLine, become_runtime, lead_group};
use crate::launch::filter::Filter;
use crate::launch::program::Program;
use crate::launch::report::{Report, Reporter, malformed, step};
use crate::launch::streams::{Streams, Terminal};
use crate::launch::{clone_beside_others, close_inherited, enter_cgroups, open_root, read_process};
use insula_sys::Error;
use insula_sys::cgroup::Cgroup;
use insula_sys::fork::{self, SingleThread, exit_now};
use insula_sys::namespace::{self, Kind};
use insula_sys::outcome::Outcome;
use insula_wire::message::Failure;
use insula_wire::plan::RuntimeProgram;
use insula_wire::runtime_bundle as parts;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::Mode;

/// Where a process is added.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// The runtime.
    pub program: &'a RuntimeProgram,
    /// The mount namespace with the bundle.
    pub mounts: BorrowedFd<'a>,
    /// The bundle's directory there.
    pub directory: &'a str,
    /// The container's id.
    pub container_id: &'a str,
    /// Names the files of the process.
    pub number: u32,
}

/// What the child of an exec is born with.
#[derive(Debug)]
pub struct Birth<'a> {
    /// To the supervisor.
    pub reporter: Reporter,
    /// Where.
    pub place: Place<'a>,
    /// The process in the words of the specification, a sealed memfd.
    pub process: OwnedFd,
    /// Its ends of the standard streams; `None` with a terminal.
    pub streams: Option<Streams>,
    /// Owner of the streams.
    pub owner: u32,
    /// Where what became of it is left.
    pub outcome: &'a Outcome,
    /// The cgroups to be in; it was born in the version 2 one.
    pub cgroups: Vec<&'a Cgroup>,
}

// === impl Birth ===

impl Birth<'_> {
    /// Everything until the runtime is executed. Never returns.
    pub fn run(self, proof: SingleThread) -> ! {
        self.reporter.end(self.launch(proof))
    }

    fn launch(&self, proof: SingleThread) -> Result<(), Failure> {
        self.close_what_is_not_ours()?;
        enter_cgroups(&self.cgroups)?;
        rustix::process::umask(Mode::from_raw_mode(0o022));
        let process = read_process(&self.process)?;
        self.place.enter()?;
        self.place.write(&process)?;
        match &self.streams {
            Some(streams) => streams.install()?,
            None => Terminal::open(open_root()?.as_fd(), self.owner)?
                .into_streams(&self.reporter)?
                .install()?,
        }
        let (json, pid) = self.place.files();
        let place = &self.place;
        let mut arguments = vec!["exec", "--process", json.as_str()];
        arguments.extend(["--internal-pid-file", pid.as_str(), place.container_id]);
        let call = CommandLine::new(place.program, place.directory, &arguments)?;
        let program = Program::runtime(call);
        fork::reset_signals();
        self.reporter.send(&Report::Ready(program.name()), &[]);
        let terminal = self.streams.is_none();
        let filter = Filter::none();
        clone_beside_others(proof, &program, terminal, &filter, None, self.outcome)
    }

    fn close_what_is_not_ours(&self) -> Result<(), Failure> {
        let mut keep = vec![
            self.reporter.socket(),
            self.process.as_fd(),
            self.place.mounts,
        ];
        keep.extend(self.streams.iter().flat_map(Streams::descriptors));
        keep.extend(self.cgroups.iter().flat_map(|cgroup| cgroup.descriptors()));
        close_inherited(&keep)
    }
}

// === impl Place ===

impl Place<'_> {
    /// Kills the process that was added, if it came to be. Never returns.
    pub fn kill(self) -> ! {
        // Nobody hears of a failure: the sandbox is gone, or is going to be killed.
        let _ = self.call_kill();
        exit_now(1)
    }

    fn call_kill(self) -> Result<Failure, Failure> {
        lead_group()?;
        close_inherited(&[self.mounts])?;
        self.enter()?;
        let (_, pid) = self.files();
        let pid = std::fs::read_to_string(pid)
            .map_err(|error| malformed("kill exec", error.to_string()))?;
        let arguments = ["kill", "--pid", pid.trim(), self.container_id, "KILL"];
        Ok(become_runtime(self.program, self.directory, &arguments))
    }

    fn enter(&self) -> Result<(), Failure> {
        let name = "enter bundle";
        step(name, namespace::join(self.mounts, Kind::Mount))?;
        let entered = rustix::process::chdir(self.directory)
            .map_err(|errno| Error::new(format!("chdir({:?})", self.directory), errno));
        step(name, entered)
    }

    /// Writes the process, and takes away the id of who had its number before.
    fn write(&self, process: &[u8]) -> Result<(), Failure> {
        let name = "write process.json";
        let (json, pid) = self.files();
        match rustix::fs::unlink(&pid) {
            Ok(()) | Err(rustix::io::Errno::NOENT) => {}
            Err(errno) => {
                return step(name, Err(Error::new(format!("unlink({pid:?})"), errno)));
            }
        }
        let written = std::fs::write(&json, process)
            .map_err(|error| Error::from_io(format!("write({json:?})"), &error));
        step(name, written)
    }

    /// The description of the process and the file of its id, below the bundle.
    fn files(&self) -> (String, String) {
        (
            parts::exec_process(self.number),
            parts::exec_pid(self.number),
        )
    }
}
