//! Messages between the daemon and a pod's supervisor.
//!
//! Each message is one `SOCK_SEQPACKET` packet of JSON with the descriptors it
//! names. The daemon numbers its requests; each gets exactly one [`Reply`].
//! The supervisor also sends [`Event`]s that nobody asked for. A daemon that
//! connects sends [`Request::Hello`] first and gets the whole state back, so
//! nothing that happened while it was away is lost.
//!
//! Descriptors of a message follow the order of its fields' documentation.
//! More than 250 of them do not fit one packet (`SCM_MAX_FD` is 253): the
//! surplus goes ahead in [`Request::Descriptors`] packets.

use crate::id_mapping::IdMappings;
use crate::plan::{PodOrHost, RuntimeProgram, Stdio};
use crate::{Bundle, SeccompListener};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A packet from the daemon.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Envelope {
    /// Chosen by the daemon, unique per connection; echoed in the reply.
    pub id: u64,
    /// What is asked.
    pub request: Request,
}

/// What the daemon asks of a supervisor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// First message of a connection; answered by [`Answer::Hello`].
    Hello {
        /// The daemon's wire version.
        version: u16,
    },
    /// Makes the pod's namespaces. Answered by [`Answer::PodReady`] with the
    /// descriptors of the network, ipc and uts namespaces that were made, in
    /// that order.
    MakePod(PodPlan),
    /// Asks for the pod's user namespace, with which the daemon maps the ids of
    /// mounts. Answered by [`Answer::UserNamespace`] with its descriptor.
    UserNamespace,
    /// Descriptors of the next request with the same packet id, which did not
    /// fit there. Has no reply.
    Descriptors,
    /// Forks a blocked child for a container. Descriptors: the plan (a sealed
    /// memfd with the JSON of a [`LaunchPlan`](crate::LaunchPlan)), for an
    /// external runtime the `config.json` of its bundle likewise, then
    /// `cgroup_descriptors` directories of the container's cgroup (one per
    /// hierarchy), the root file system, the host mounts.
    /// Answered by [`Answer::Forked`] as soon as the child exists. It goes on
    /// only after [`Request::Placed`].
    ///
    /// The child alone reads the plan: the environment of one container is
    /// then never in the memory of a process that enters another. What the
    /// supervisor itself has to know of it is repeated here.
    Create(CreateRequest),
    /// The blocked child is in its cgroups and may build its root. Descriptors:
    /// the directories of the container's cgroup (one per hierarchy) where
    /// they did not travel with [`Request::Create`], since a service manager
    /// makes the cgroup for a process that exists. Answered by
    /// [`Answer::Created`] when it is ready to execute, or where its plan has
    /// hooks that are run on the node ([`Hooks::wait_on_node`]) by
    /// [`Answer::RootBuilt`] when it is time for them.
    ///
    /// [`Hooks::wait_on_node`]: crate::Hooks::wait_on_node
    Placed {
        /// The container's id.
        container_id: String,
    },
    /// The hooks on the node have run: the child may enter its root. Answered
    /// by [`Answer::Created`].
    EnterRoot {
        /// The container's id.
        container_id: String,
    },
    /// Lets a created container execute. Answered by [`Answer::Started`].
    Start {
        /// The container's id.
        container_id: String,
    },
    /// Sends a signal to a container's main process.
    Signal {
        /// The container's id.
        container_id: String,
        /// signal(7) number.
        signal: i32,
    },
    /// Kills everything in a container's cgroup.
    KillAll {
        /// The container's id.
        container_id: String,
    },
    /// Forgets a container that has ended and closes what belongs to it.
    Forget {
        /// The container's id.
        container_id: String,
    },
    /// Closes the log and opens its path anew.
    ReopenLog {
        /// The container's id.
        container_id: String,
    },
    /// Runs a process in a running container. Descriptors: a sealed memfd with
    /// the JSON of a [`Process`](crate::plan::Process); where the runtime's
    /// containers are not [`namespaced`](crate::plan::RuntimeProgram), another
    /// with what the runtime is told of it (`process` of config.md). Answered by
    /// [`Answer::ExecStarted`]; its end is [`Event::ExecExited`].
    Exec(ExecRequest),
    /// Connects to the streams of a running container. Answered by
    /// [`Answer::Attached`]. Closing the descriptors is all it takes to end it.
    Attach(AttachRequest),
    /// Closes the supervisor's write end of a standard input. The process reads
    /// its end when every copy that was given out is closed as well. A terminal
    /// has no such end: nothing happens there. Idempotent.
    CloseStdin(StdinOf),
    /// Nobody uses the streams of an exec any more: its standard input is
    /// closed, and what it still writes is read and dropped, so that it goes on
    /// as if somebody listened. An exec that has ended is no error.
    AbandonExec {
        /// The exec's id.
        exec_id: u64,
    },
    /// Kills an exec and its descendants.
    KillExec {
        /// The exec's id.
        exec_id: u64,
    },
    /// Ends the supervisor. Refused while a container runs.
    Shutdown,
}

/// A container to create, see [`Request::Create`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CreateRequest {
    /// The container's id.
    pub container_id: String,
    /// The plan's `stdio`.
    pub stdio: Stdio,
    /// The plan's `process.user.uid`, who owns the standard streams.
    pub owner: u32,
    /// The container whose PID namespace is joined, where the plan says
    /// [`PidNamespace::Target`](crate::plan::PidNamespace::Target).
    pub target: Option<String>,
    /// How many cgroup directories travel along; 0 where they come with
    /// [`Request::Placed`].
    pub cgroup_descriptors: usize,
    /// The child gets into the cgroup by itself: it is born in the version 2
    /// directory (`CLONE_INTO_CGROUP`) and enters the version 1 ones. Else the
    /// daemon places it before it says [`Request::Placed`].
    pub born_in_cgroup: bool,
    /// Who executes the plan, if not the supervisor. The second descriptor is then a
    /// sealed memfd with the bundle's `config.json`.
    pub runtime: Option<RuntimeProgram>,
    /// Where the exit record is written: absolute path of `exit.json`.
    pub exit_record: String,
    /// Who is told of its system call filter.
    pub notify: Option<Notify>,
}

/// Who is handed the descriptor of a process's system call filter, and what it
/// is told with that.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Notify {
    /// The plan's `process.seccomp.listener`.
    pub listener: SeccompListener,
    /// The plan's `bundle`.
    pub bundle: Bundle,
}

/// A process to run in a container, see [`Request::Exec`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecRequest {
    /// Chosen by the daemon, unique per supervisor.
    pub exec_id: u64,
    /// The container's id.
    pub container_id: String,
    /// The process's `user.uid`, who owns the standard streams.
    pub owner: u32,
    /// After this many milliseconds the whole exec is killed; 0 is never.
    pub timeout_ms: u64,
    /// What it reads from and writes to.
    pub streams: ExecStreams,
    /// Who is told of its system call filter.
    pub notify: Option<Notify>,
}

/// The standard streams of an exec.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExecStreams {
    /// All three are a terminal of the exec's own, on the container's devpts.
    Terminal,
    /// Each is a pipe, or else `/dev/null`.
    Pipes {
        /// Standard input is a pipe.
        stdin: bool,
        /// Standard output is a pipe.
        stdout: bool,
        /// Standard error is a pipe.
        stderr: bool,
    },
}

/// Which streams of a container to connect to, see [`Request::Attach`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AttachRequest {
    /// Chosen by the daemon, unique per supervisor, and different from every
    /// exec's.
    pub attach_id: u64,
    /// The container's id.
    pub container_id: String,
    /// The way to its standard input, if it has one.
    pub stdin: bool,
    /// A copy of what it writes to standard output, or to its terminal.
    pub stdout: bool,
    /// A copy of what it writes to standard error; nothing with a terminal.
    pub stderr: bool,
}

/// Whose standard input is meant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StdinOf {
    /// A container's.
    Container {
        /// The container's id.
        container_id: String,
    },
    /// An exec's.
    Exec {
        /// The exec's id.
        exec_id: u64,
    },
}

/// What a pod's namespaces shall be.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PodPlan {
    /// A user namespace of the pod's own with these ids, which owns the other
    /// namespaces that are made for the pod; `None` is the host's.
    pub user: Option<IdMappings>,
    /// A network namespace of the pod's own, with `lo` up, or the host's.
    pub network: PodOrHost,
    /// An ipc namespace and a `/dev/shm` of the pod's own, or the host's.
    pub ipc: PodOrHost,
    /// A uts namespace of the pod's own, or the host's.
    pub uts: PodOrHost,
    /// A PID namespace that the pod's containers share, with a reaper.
    pub shared_pid: bool,
    /// Host name set in the uts namespace; at most 64 bytes.
    pub hostname: String,
    /// Size of `/dev/shm` in bytes.
    pub shm_size: u64,
    /// sysctl(8) names with dots and their values, written in the pod's
    /// namespaces.
    pub sysctls: BTreeMap<String, String>,
    /// Where the supervisor works: absolute path of the pod's state directory.
    pub state_directory: String,
    /// SELinux label of the pod's `/dev/shm`; `None` leaves it the policy's.
    pub mount_label: Option<String>,
}

/// A packet from the supervisor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FromSupervisor {
    /// The answer to the request of that id.
    Reply {
        /// The request's id.
        id: u64,
        /// What came of it.
        reply: Reply,
    },
    /// Something happened.
    Event(Event),
}

/// What came of a request.
pub type Reply = Result<Answer, Failure>;

/// A request that succeeded.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// Done, with nothing to tell.
    Done,
    /// The supervisor's state.
    Hello {
        /// The supervisor's wire version.
        version: u16,
        /// Its process id.
        pid: i32,
        /// Whether [`Request::MakePod`] succeeded.
        pod_made: bool,
        /// All containers it knows.
        containers: Vec<ContainerState>,
    },
    /// The pod's namespaces exist.
    PodReady,
    /// The pod's user namespace travels along.
    UserNamespace,
    /// The child exists and is blocked.
    Forked {
        /// Its process id as the host sees it.
        pid: i32,
    },
    /// The container's root is built, and attached in its mount namespace where
    /// its hooks expect it.
    RootBuilt {
        /// Process id, as the host sees it, of a process in the container's
        /// namespaces.
        pid: i32,
    },
    /// The container is complete but for its execve(2).
    Created {
        /// Process id of the container's main process as the host sees it.
        pid: i32,
    },
    /// The container's program runs.
    Started {
        /// Process id of the container's main process as the host sees it.
        pid: i32,
        /// Nanoseconds since the epoch.
        started_at: i64,
    },
    /// The exec's program runs. Descriptors, all non-blocking: with a terminal
    /// its master; else the write end of standard input and the read ends of
    /// standard output and standard error, as far as they were wanted.
    ExecStarted {
        /// Its process id as the host sees it.
        pid: i32,
    },
    /// The streams are connected. Descriptors, all non-blocking: the one that
    /// `input` tells of, then the read ends of copies of standard output and
    /// standard error, as far as they were wanted; with a terminal there is no
    /// copy of standard error. A copy begins with what is written from now on,
    /// and ends with the stream. Who does not read for so long that a copy is
    /// full loses it, and is told so by [`Event::AttachLagged`].
    Attached {
        /// What the first descriptor is.
        input: Input,
    },
}

/// What leads to a container's standard input, see [`Answer::Attached`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Input {
    /// Nothing; there is no such descriptor.
    None,
    /// The write end of a pipe.
    Pipe,
    /// The master of its terminal, whether standard input was wanted or not: it
    /// is what a window's size is set on.
    Terminal,
}

/// One container as its supervisor knows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ContainerState {
    /// The container's id.
    pub container_id: String,
    /// Process id of its main process; 0 when it has ended.
    pub pid: i32,
    /// Nanoseconds since the epoch; 0 when it never ran.
    pub started_at: i64,
    /// How it ended, if it has.
    pub exit: Option<Exit>,
}

/// How a container's main process ended. Also the content of `exit.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// Exit status, or 128 + signal number.
    pub code: i32,
    /// Nanoseconds since the epoch.
    pub finished_at: i64,
    /// Nanoseconds since the epoch; 0 when its program never ran.
    pub started_at: i64,
    /// The kernel killed a process of this container for want of memory since
    /// it was started, and the main process ended with 137.
    pub oom_killed: bool,
    /// Output was still open or unread one second after the end, so the log may
    /// lack some of it.
    pub output_cut: bool,
}

/// A request that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{step}: {message}")]
pub struct Failure {
    /// What kind of failure, for the caller's decision.
    pub kind: FailureKind,
    /// The named step that failed, such as `mount /proc` or `execve`.
    pub step: String,
    /// The system call with its arguments, and the error.
    pub message: String,
}

/// What a caller can do about a [`Failure`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// No such container or exec.
    NotFound,
    /// It is in a state that does not allow the request.
    WrongState,
    /// The request or plan is not understood.
    Malformed,
    /// The program does not exist in the container (ENOENT, ENOTDIR).
    ProgramNotFound,
    /// The program cannot be executed (EACCES, ENOEXEC and the like).
    ProgramNotExecutable,
    /// The working directory cannot be entered.
    WorkingDirectory,
    /// It was killed at its deadline before its program ran.
    TimedOut,
    /// A system call failed.
    System,
}

/// Something that happened in the pod.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// A container's main process ended; its log is complete.
    Exited {
        /// The container's id.
        container_id: String,
        /// How.
        exit: Exit,
    },
    /// An exec's process ended.
    ExecExited {
        /// The exec's id.
        exec_id: u64,
        /// Exit status, or 128 + signal number.
        code: i32,
        /// It was killed at its deadline.
        timed_out: bool,
    },
    /// Somebody who was attached did not read fast enough: the copies of the
    /// streams that they got were closed.
    AttachLagged {
        /// The id of [`AttachRequest`].
        attach_id: u64,
    },
}
