//! Children that call the program of an external OCI runtime.
//!
//! ```text
//!  supervisor ── fork ──► maker: makes the bundle in a mount namespace of its own
//!      ▲                    └─ fork ─► RUNTIME create ──► the container's process
//!      └──────────── adopts it (subreaper) when RUNTIME has ended ◄──┘
//! ```
//!
//! Each child leads a process group, by which all that a runtime has started
//! and left can be killed, and dies with its supervisor. What is executed has
//! the three standard streams, a short environment and nothing else.

use crate::launch::bundle::{self, Parts};
use crate::launch::report::{Go, ProgramName, Report, Reporter, malformed, step, system_failure};
use crate::launch::streams::{Streams, set_size};
use crate::pod::PodNamespaces;
use insula_sys::cgroup::Cgroup;
use insula_sys::fork::{self, Child, Fork, ForkOptions, SingleThread, Strings, exit_now};
use insula_sys::namespace::{self, Kind};
use insula_sys::{Error, fd, seqpacket};
use insula_wire::LaunchPlan;
use insula_wire::message::{Failure, FailureKind};
use insula_wire::plan::{PidNamespace, RuntimeProgram};
use insula_wire::runtime_bundle as parts;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use rustix::process::Signal;
use serde::Deserialize;
use std::ffi::CString;
use std::io::Read as _;
use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};

/// The whole environment of a runtime's program.
const ENVIRONMENT: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Largest `config.json` that is read.
const MAX_CONFIG: u64 = 16 << 20;

/// Most that is read of what a runtime says about a failure.
pub const MAX_WORDS: u64 = 16 << 10;

/// What the child is born with that has a container made.
#[derive(Debug)]
pub struct Birth<'a> {
    /// To the supervisor.
    pub reporter: Reporter,
    /// The container's id.
    pub container_id: &'a str,
    /// The runtime.
    pub program: &'a RuntimeProgram,
    /// The plan, a sealed memfd.
    pub plan: OwnedFd,
    /// `config.json`, a sealed memfd.
    pub config: OwnedFd,
    /// Its ends of the standard streams; `None` with a terminal.
    pub streams: Option<Streams>,
    /// The root file system.
    pub root: OwnedFd,
    /// Mounts of the host, in plan order.
    pub host_mounts: Vec<OwnedFd>,
    /// The pod's namespaces.
    pub pod: &'a PodNamespaces,
    /// PID namespace of the container that is the target.
    pub target: Option<OwnedFd>,
    /// The cgroup that it enters by itself, and the container with it; `None`
    /// where the runtime or the daemon sees to that.
    pub enters: Option<&'a Cgroup>,
}

/// What the child is born with that calls a runtime for a container that
/// exists.
#[derive(Debug)]
pub struct Call<'a> {
    /// The runtime.
    pub program: &'a RuntimeProgram,
    /// The mount namespace with the bundle.
    pub mounts: BorrowedFd<'a>,
    /// The bundle's directory there.
    pub directory: &'a str,
    /// The command with its arguments.
    pub command: &'a [&'a str],
    /// Where it says what went wrong.
    pub stderr: OwnedFd,
}

/// A line of a runtime's log (`--log-format json`).
#[derive(Deserialize)]
#[serde(untagged)]
enum LogLine {
    /// As runc, crun and runsc write it. The last line tells why it failed.
    Summary { msg: String },
    /// As youki writes it: one for each layer of its code that passes an error
    /// on, of which the first knows most.
    Layer {
        message: String,
        #[serde(default)]
        err: String,
    },
}

// === impl Birth ===

impl Birth<'_> {
    /// Everything until the container's process waits for its start. Never
    /// returns.
    pub fn run(self, proof: SingleThread) -> ! {
        if let Err(failure) = self.launch(proof) {
            let late = failure.kind == FailureKind::TimedOut;
            self.reporter.send(&Report::Failed(failure), &[]);
            if late {
                // The runtime with all it has started, and this process.
                let _ = rustix::process::kill_current_process_group(Signal::KILL);
            }
            exit_now(1);
        }
        exit_now(0)
    }

    fn launch(&self, proof: SingleThread) -> Result<(), Failure> {
        lead_group()?;
        self.close_what_is_not_ours()?;
        rustix::process::umask(Mode::from_raw_mode(0o022));
        self.reporter.wait_for(Go::Placed);
        if let Some(cgroup) = self.enters {
            step("enter cgroup", cgroup.enter_legacy())?;
        }
        let plan = super::read_plan(&self.plan)?;
        let config = step("read config", fd::duplicate(&self.config))?;
        let config = step("read config", fd::read_sealed(config, MAX_CONFIG))?;
        let mounts = bundle::make(&Parts {
            plan: &plan,
            config: &config,
            root: self.root.as_fd(),
            mounts: &self.host_mounts,
            pod: self.pod,
            target: self.target.as_ref().map(AsFd::as_fd),
        })?;
        self.reporter.send(&Report::Bundle, &[mounts.as_fd()]);
        self.create(proof, &plan)?;
        let pid = read_pid(self.program)?;
        // Of a sandbox some processes are outside of that namespace.
        let own_pid_namespace =
            plan.namespaces.pid == PidNamespace::Container && self.program.namespaced;
        let adopted = Report::Adopted {
            pid,
            own_pid_namespace,
        };
        self.reporter.send(&adopted, &[]);
        let ready = Report::Ready(ProgramName::default());
        self.reporter.send(&ready, &[]);
        Ok(())
    }

    fn close_what_is_not_ours(&self) -> Result<(), Failure> {
        let mut keep = vec![
            self.reporter.socket(),
            self.plan.as_fd(),
            self.config.as_fd(),
            self.root.as_fd(),
        ];
        keep.extend(self.host_mounts.iter().map(AsFd::as_fd));
        keep.extend(self.pod.descriptors());
        keep.extend(self.target.as_ref().map(AsFd::as_fd));
        keep.extend(self.enters.iter().flat_map(|cgroup| cgroup.descriptors()));
        if let Some(streams) = &self.streams {
            keep.extend(streams.descriptors());
        }
        super::close_inherited(&keep)
    }

    /// Runs `RUNTIME create` to its end.
    fn create(&self, proof: SingleThread, plan: &LaunchPlan) -> Result<(), Failure> {
        let name = format!("{} create", self.program.path);
        let directory = self.pod.state_directory.as_str();
        let at = |part: &str| format!("{directory}/{part}");
        let (log, pid) = (at(parts::LOG), at(parts::PID));
        let mut arguments = vec!["--log", log.as_str(), "--log-format", "json", "create"];
        arguments.extend(["--bundle", directory, "--pid-file", pid.as_str()]);
        // By way of the working directory, which is the bundle: an address has room
        // for 107 bytes. That of this process, since runtimes change their own.
        let own = rustix::process::getpid().as_raw_nonzero();
        let console_path = format!("/proc/{own}/cwd/{}", parts::CONSOLE);
        let console = match plan.stdio.terminal {
            true => {
                arguments.extend(["--console-socket", console_path.as_str()]);
                let listener = UnixListener::bind(parts::CONSOLE)
                    .map_err(|error| Error::from_io("bind(\"console\")", &error));
                Some(OwnedFd::from(step(&name, listener)?))
            }
            false => None,
        };
        arguments.push(self.container_id);
        let errors = open_errors()?;
        let child = match step(&name, fork::fork(proof, &ForkOptions::default()))? {
            Fork::Child => self.execute(directory, &arguments, errors),
            Fork::Parent(child) => child,
        };
        let deadline = Instant::now() + Duration::from_millis(self.program.timeout_ms);
        self.attend(&name, &child, console.as_ref(), deadline)?;
        match fork::reap(child.pidfd.as_fd()) {
            Ok(Some(ended)) if ended.code() == 0 => Ok(()),
            Ok(Some(_)) => Err(failed(&name, &words_of_failure())),
            Ok(None) => Err(malformed(&name, "it ended and was not reaped")),
            Err(error) => Err(system_failure(&name, &error)),
        }
    }

    /// Waits for its end, and takes the terminal that it makes meanwhile.
    fn attend(
        &self,
        name: &str,
        child: &Child,
        console: Option<&OwnedFd>,
        deadline: Instant,
    ) -> Result<(), Failure> {
        let mut console = console;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let timeout = Timespec {
                tv_sec: left.as_secs().cast_signed(),
                tv_nsec: left.subsec_nanos().into(),
            };
            let mut watched = vec![PollFd::new(&child.pidfd, PollFlags::IN)];
            watched.extend(console.map(|listener| PollFd::new(listener, PollFlags::IN)));
            match poll(&mut watched, Some(&timeout)) {
                Err(rustix::io::Errno::INTR) => continue,
                Ok(0) | Err(_) => return Err(late(name, self.program)),
                Ok(_) => {}
            }
            let has_ended = !watched[0].revents().is_empty();
            let calls = watched.get(1).is_some_and(|it| !it.revents().is_empty());
            if calls {
                if let Some(listener) = console.take() {
                    self.take_terminal(name, listener)?;
                }
            } else if has_ended {
                return Ok(());
            }
        }
    }

    /// The master of the terminal, as runc hands it over: in one message on a
    /// connection of its own (runc's docs/terminals.md).
    fn take_terminal(&self, name: &str, listener: &OwnedFd) -> Result<(), Failure> {
        let Some(connection) = step(name, seqpacket::accept(listener.as_fd()))? else {
            return Err(malformed(name, "its connection with the terminal is gone"));
        };
        step(name, seqpacket::set_nonblocking(&connection, false))?;
        rustix::net::sockopt::set_socket_timeout(
            &connection,
            rustix::net::sockopt::Timeout::Recv,
            Some(Duration::from_millis(self.program.timeout_ms)),
        )
        .map_err(|errno| system_failure(name, &Error::new("setsockopt(SO_RCVTIMEO)", errno)))?;
        let received = step(name, seqpacket::receive(connection.as_fd()))?;
        let Some(master) = received.descriptors.first() else {
            return Err(malformed(name, "it sent no terminal"));
        };
        set_size(master)?;
        self.reporter.send(&Report::Terminal, &[master.as_fd()]);
        Ok(())
    }

    /// Becomes the runtime, with the container's streams.
    fn execute(&self, directory: &str, arguments: &[&str], errors: OwnedFd) -> ! {
        let installed = match &self.streams {
            Some(streams) => streams.install(),
            None => null_streams(errors).and_then(|streams| streams.install()),
        };
        let failure = match installed {
            Ok(()) => become_runtime(self.program, directory, arguments),
            Err(failure) => failure,
        };
        say(&failure);
        exit_now(127)
    }
}

// === impl Call ===

impl Call<'_> {
    /// Becomes the runtime. Never returns.
    pub fn run(self) -> ! {
        let failure = match self.launch() {
            Err(failure) | Ok(failure) => failure,
        };
        say(&failure);
        exit_now(127)
    }

    fn launch(self) -> Result<Failure, Failure> {
        lead_group()?;
        super::close_inherited(&[self.mounts, self.stderr.as_fd()])?;
        rustix::process::umask(Mode::from_raw_mode(0o022));
        let streams = null_streams(self.stderr)?;
        let name = "enter bundle";
        step(name, namespace::join(self.mounts, Kind::Mount))?;
        let entered = rustix::process::chdir(self.directory)
            .map_err(|errno| Error::new(format!("chdir({:?})", self.directory), errno));
        step(name, entered)?;
        streams.install()?;
        Ok(become_runtime(self.program, self.directory, self.command))
    }
}

/// Leads a process group of its own, and dies with the process that forked it.
pub fn lead_group() -> Result<(), Failure> {
    let name = "lead process group";
    die_with_parent()?;
    let led = rustix::process::setsid().map_err(|errno| Error::new("setsid()", errno));
    step(name, led).map(drop)
}

fn die_with_parent() -> Result<(), Failure> {
    let death = rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(|errno| Error::new("prctl(PR_SET_PDEATHSIG, SIGKILL)", errno));
    step("die with the supervisor", death)
}

/// A call of the runtime, as execve(2) wants it.
#[derive(Debug)]
pub struct CommandLine {
    /// The program.
    pub path: CString,
    /// Its name and its arguments.
    pub args: Strings,
    /// Its whole environment.
    pub environment: Strings,
}

/// Executes the runtime's program. Returns only on failure.
pub fn become_runtime(program: &RuntimeProgram, directory: &str, arguments: &[&str]) -> Failure {
    let name = format!("execute {}", program.path);
    if let Err(failure) = die_with_parent() {
        return failure;
    }
    let streams = (std::io::stdin(), std::io::stdout(), std::io::stderr());
    let keep = [streams.0.as_fd(), streams.1.as_fd(), streams.2.as_fd()];
    if let Err(error) = fd::close_all_except(&keep) {
        return system_failure(&name, &error);
    }
    fork::reset_signals();
    let call = match CommandLine::new(program, directory, arguments) {
        Ok(call) => call,
        Err(failure) => return failure,
    };
    let errno = fork::execve(&call.path, &call.args, &call.environment);
    system_failure(
        &name,
        &Error::new(format!("execve({:?})", call.path), errno),
    )
}

// === impl CommandLine ===

impl CommandLine {
    /// The command `arguments`, with what every call of the runtime has.
    pub fn new(
        program: &RuntimeProgram,
        directory: &str,
        arguments: &[&str],
    ) -> Result<Self, Failure> {
        let name = format!("execute {}", program.path);
        let state = format!("{directory}/{}", parts::STATE);
        let own = program.args.iter().map(String::as_str);
        let words = [program.path.as_str()]
            .into_iter()
            .chain(own)
            .chain(["--root", state.as_str()])
            .chain(arguments.iter().copied());
        let c_strings = |words: &mut dyn Iterator<Item = &str>| {
            words
                .map(CString::new)
                .collect::<Result<Vec<_>, _>>()
                .map(Strings::new)
        };
        let (Ok(args), Ok(environment), Ok(path)) = (
            c_strings(&mut words.into_iter()),
            c_strings(&mut [ENVIRONMENT].into_iter()),
            CString::new(program.path.as_str()),
        ) else {
            return Err(malformed(&name, "an argument holds a NUL byte"));
        };
        Ok(Self {
            path,
            args,
            environment,
        })
    }
}

/// Standard streams of a call of which only errors are of interest.
fn null_streams(stderr: OwnedFd) -> Result<Streams, Failure> {
    let name = "open /dev/null";
    let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
        .map_err(|errno| Error::new("open(\"/dev/null\", O_RDWR|O_CLOEXEC)", errno));
    let null = step(name, null)?;
    Ok(Streams {
        stdin: step(name, fd::duplicate(&null))?,
        stdout: null,
        stderr,
    })
}

/// Standard error has become the place where errors are read from.
fn say(failure: &Failure) {
    let _ = rustix::io::write(std::io::stderr(), failure.to_string().as_bytes());
}

/// Where a runtime says what went wrong when its container has a terminal.
const ERRORS: &str = "errors";

fn open_errors() -> Result<OwnedFd, Failure> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC;
    let opened = rustix::fs::open(ERRORS, flags, Mode::from_raw_mode(0o600))
        .map_err(|errno| Error::new(format!("open({ERRORS:?}, O_RDWR|O_CREAT)"), errno));
    step("open errors", opened)
}

/// What a runtime has said about its failure: in its log, or else on standard
/// error, unless that is the container's, which the supervisor reads.
fn words_of_failure() -> String {
    let words = words_of_log(&read_bounded(parts::LOG));
    words.unwrap_or_else(|| read_bounded(ERRORS).trim().to_owned())
}

fn words_of_log(log: &str) -> Option<String> {
    let mut words = None;
    for line in log.lines() {
        match serde_json::from_str(line) {
            Ok(LogLine::Summary { msg }) => words = Some(msg),
            Ok(LogLine::Layer { message, err }) if words.is_none() => {
                words = Some(match err.is_empty() {
                    true => message,
                    false => format!("{message}: {err}"),
                });
            }
            Ok(LogLine::Layer { .. }) | Err(_) => {}
        }
    }
    words
}

fn read_bounded(path: &str) -> String {
    let mut bytes = Vec::new();
    if let Ok(file) = std::fs::File::open(path) {
        // What could not be read says nothing.
        let _ = file.take(MAX_WORDS).read_to_end(&mut bytes);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The container's process, by the file in which the runtime has left its id.
fn read_pid(program: &RuntimeProgram) -> Result<i32, Failure> {
    let text = read_bounded(parts::PID);
    text.trim()
        .parse()
        .ok()
        .filter(|pid| *pid > 1)
        .ok_or_else(|| {
            let name = format!("{} create", program.path);
            malformed(&name, format!("it left no process id: {text:?}"))
        })
}

/// A call that failed, with what the runtime said.
pub fn failed(name: &str, words: &str) -> Failure {
    Failure {
        kind: FailureKind::System,
        step: name.to_owned(),
        message: words.trim().to_owned(),
    }
}

/// A call that took too long.
pub fn late(name: &str, program: &RuntimeProgram) -> Failure {
    Failure {
        kind: FailureKind::TimedOut,
        step: name.to_owned(),
        message: format!(
            "it did not end within {} ms and was killed",
            program.timeout_ms
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::words_of_log;

    #[test]
    fn the_line_that_knows_most_is_quoted() {
        for (log, words) in [
            ("", None),
            ("not json\n{\"level\":\"error\"}", None),
            (
                "{\"msg\":\"a warning\",\"level\":\"warning\"}\n{\"level\":\"error\",\"msg\":\"why\"}\n",
                Some("why"),
            ),
            (
                "{\"level\":\"ERROR\",\"message\":\"cannot mount\",\"err\":\"EPERM\"}\n\
                 {\"level\":\"ERROR\",\"message\":\"cannot create\"}\n",
                Some("cannot mount: EPERM"),
            ),
            ("{\"message\":\"alone\"}", Some("alone")),
        ] {
            assert_eq!(words_of_log(log).as_deref(), words, "{log}");
        }
    }
}
