//! A daemon in miniature: starts `insula-pod` and speaks its protocol.

use insula_sys::supervisor::SealedProgram;
use insula_sys::{fd, fork, mount, seqpacket};
use insula_wire::channel::{Packet, receive_from_supervisor};
use insula_wire::message::{
    Answer, AttachRequest, CreateRequest, Envelope, Event, ExecRequest, ExecStreams, Exit, Failure,
    FromSupervisor, Input, PodPlan, Request,
};
use insula_wire::plan::{
    Capabilities, Cgroup, LaunchPlan, Mount, MountAttributes, MountSource, Namespaces, NewOrHost,
    PidNamespace, PodOrHost, Process, Propagation, Rootfs, Stdio, User,
};
use insula_wire::{CapabilitySet, Hooks, OsText};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use std::collections::VecDeque;
use std::io::Read;
use std::path::PathBuf;
use std::time::{Duration, Instant};

pub struct Pod {
    pub directory: tempfile::TempDir,
    pub supervisor: fork::Spawned,
    /// The pod's network, ipc and uts namespaces.
    pub namespaces: Vec<OwnedFd>,
    socket: OwnedFd,
    next: u64,
    events: VecDeque<Event>,
}

pub type Outcome = Result<(Answer, Vec<OwnedFd>), Failure>;

/// Longest wait for an answer or event before a test is taken for hung.
const PATIENCE: Duration = Duration::from_secs(20);

impl Pod {
    /// Starts a supervisor and makes a pod with its own namespaces.
    pub fn start(shared_pid: bool) -> Self {
        let mut pod = Self::start_empty();
        let plan = PodPlan {
            user: None,
            network: PodOrHost::Pod,
            ipc: PodOrHost::Pod,
            uts: PodOrHost::Pod,
            shared_pid,
            hostname: "island".to_owned(),
            shm_size: 1 << 20,
            sysctls: [(
                "net.ipv4.ip_unprivileged_port_start".to_owned(),
                "0".to_owned(),
            )]
            .into(),
            state_directory: pod.path("").to_str().unwrap().to_owned(),
            mount_label: None,
        };
        let (answer, descriptors) = pod.ask(Request::MakePod(plan), &[]).unwrap();
        assert_eq!((answer, descriptors.len()), (Answer::PodReady, 3));
        pod.namespaces = descriptors;
        pod
    }

    pub fn start_empty() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let lock = std::fs::File::create(directory.path().join("lock")).unwrap();
        let messages = std::fs::File::create(directory.path().join("messages")).unwrap();
        let listener = seqpacket::listen(&directory.path().join("sock")).unwrap();
        // INSULA_POD names another build of it, such as the static one.
        let built = std::env::var("INSULA_POD");
        let built = built.as_deref().unwrap_or(env!("CARGO_BIN_EXE_insula-pod"));
        let program = SealedProgram::load(built.as_ref()).unwrap();
        let supervisor = program
            .start("test", messages.as_fd(), listener.as_fd(), lock.as_fd())
            .unwrap();
        let socket = seqpacket::connect(&directory.path().join("sock")).unwrap();
        Self {
            directory,
            supervisor,
            namespaces: Vec::new(),
            socket,
            next: 1,
            events: VecDeque::new(),
        }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Connects anew, as a daemon that was restarted does.
    pub fn reconnect(&mut self) -> Answer {
        self.socket = seqpacket::connect(&self.path("sock")).unwrap();
        self.ask(Request::Hello { version: 1 }, &[]).unwrap().0
    }

    pub fn ask(&mut self, request: Request, descriptors: &[BorrowedFd<'_>]) -> Outcome {
        let id = self.next;
        self.next += 1;
        let envelope = Envelope { id, request };
        for packet in Packet::request(&envelope, descriptors).unwrap() {
            packet.send(self.socket.as_fd()).unwrap();
        }
        loop {
            match self.receive() {
                (FromSupervisor::Reply { id: replied, reply }, descriptors) => {
                    assert_eq!(replied, id);
                    return reply.map(|answer| (answer, descriptors));
                }
                (FromSupervisor::Event(event), _) => self.events.push_back(event),
            }
        }
    }

    fn receive(&mut self) -> (FromSupervisor, Vec<OwnedFd>) {
        rustix::net::sockopt::set_socket_timeout(
            &self.socket,
            rustix::net::sockopt::Timeout::Recv,
            Some(PATIENCE),
        )
        .unwrap();
        receive_from_supervisor(self.socket.as_fd()).unwrap_or_else(|error| {
            let messages = std::fs::read_to_string(self.path("messages")).unwrap_or_default();
            panic!("{error}; the supervisor said: {messages}")
        })
    }

    pub fn event(&mut self) -> Event {
        if let Some(event) = self.events.pop_front() {
            return event;
        }
        match self.receive() {
            (FromSupervisor::Event(event), _) => event,
            (other, _) => panic!("{other:?} was not asked for"),
        }
    }

    pub fn exit_of(&mut self, id: &str) -> Exit {
        loop {
            if let Event::Exited { container_id, exit } = self.event()
                && container_id == id
            {
                return exit;
            }
        }
    }

    /// Creates a container up to the execve(2).
    pub fn create(&mut self, plan: &LaunchPlan) -> Outcome {
        let json = serde_json::to_vec(plan).unwrap();
        let memfd = fd::sealed_memfd("plan", &json).unwrap();
        let root = mount::clone_tree(&self.rootfs(), false).unwrap();
        let host: Vec<OwnedFd> = plan
            .opened_mounts()
            .map(|mount| match &mount.source {
                MountSource::Host { path } => mount::clone_tree(path.as_ref(), true).unwrap(),
                other => panic!("the harness has no {other:?}"),
            })
            .collect();
        let mut descriptors = vec![memfd.as_fd(), root.as_fd()];
        descriptors.extend(host.iter().map(AsFd::as_fd));
        let id = plan.container_id.clone();
        let create = CreateRequest {
            notify: None,
            container_id: id.clone(),
            stdio: plan.stdio.clone(),
            owner: plan.process.user.uid,
            target: match &plan.namespaces.pid {
                PidNamespace::Target(target) => Some(target.clone()),
                _ => None,
            },
            cgroup_descriptors: 0,
            born_in_cgroup: false,
            runtime: None,
            exit_record: self
                .path(&format!("{id}.exit"))
                .to_str()
                .unwrap()
                .to_owned(),
        };
        self.ask(Request::Create(create), &descriptors)?;
        self.ask(Request::Placed { container_id: id }, &[])
    }

    /// Creates and starts a container.
    pub fn run(&mut self, plan: &LaunchPlan) -> Outcome {
        self.create(plan)?;
        let container_id = plan.container_id.clone();
        self.ask(Request::Start { container_id }, &[])
    }

    /// Runs a container to its end and gives its log without times.
    pub fn output_of(&mut self, plan: &LaunchPlan) -> (i32, Vec<String>) {
        self.run(plan).unwrap();
        let exit = self.exit_of(&plan.container_id);
        (exit.code, Self::log(plan))
    }

    pub fn log(plan: &LaunchPlan) -> Vec<String> {
        let path = plan.stdio.log_path.as_deref().unwrap();
        std::fs::read_to_string(path)
            .unwrap()
            .lines()
            .map(|line| line.split_once(' ').unwrap().1.to_owned())
            .collect()
    }

    /// Runs an exec to its end: exit code, whether it timed out, output.
    pub fn exec(
        &mut self,
        id: &str,
        args: &[&str],
        timeout_ms: u64,
    ) -> Result<(i32, bool, String, String), Failure> {
        let streams = ExecStreams::Pipes {
            stdin: false,
            stdout: true,
            stderr: true,
        };
        let (exec_id, descriptors) = self.start_exec(id, &process(args), streams, timeout_ms)?;
        let (code, timed_out) = self.end_of_exec(exec_id);
        let mut output = descriptors.into_iter().map(read_all);
        let (stdout, stderr) = (output.next().unwrap(), output.next().unwrap());
        Ok((code, timed_out, stdout, stderr))
    }

    /// Starts an exec: its id and the descriptors of the answer.
    pub fn start_exec(
        &mut self,
        id: &str,
        process: &Process,
        streams: ExecStreams,
        timeout_ms: u64,
    ) -> Result<(u64, Vec<OwnedFd>), Failure> {
        let exec_id = self.next;
        let process = serde_json::to_vec(process).unwrap();
        let memfd = fd::sealed_memfd("process", &process).unwrap();
        let exec = ExecRequest {
            notify: None,
            exec_id,
            container_id: id.to_owned(),
            owner: 0,
            timeout_ms,
            streams,
        };
        let (_, descriptors) = self.ask(Request::Exec(exec), &[memfd.as_fd()])?;
        Ok((exec_id, descriptors))
    }

    /// Waits for the end of an exec: exit code, and whether it timed out.
    pub fn end_of_exec(&mut self, wanted: u64) -> (i32, bool) {
        loop {
            if let Event::ExecExited {
                exec_id,
                code,
                timed_out,
            } = self.event()
                && exec_id == wanted
            {
                return (code, timed_out);
            }
        }
    }

    /// Attaches to a container's standard streams.
    pub fn attach(
        &mut self,
        id: &str,
        [stdin, stdout, stderr]: [bool; 3],
    ) -> Result<(Input, Vec<OwnedFd>), Failure> {
        let request = Request::Attach(AttachRequest {
            attach_id: self.next,
            container_id: id.to_owned(),
            stdin,
            stdout,
            stderr,
        });
        match self.ask(request, &[])? {
            (Answer::Attached { input }, descriptors) => Ok((input, descriptors)),
            (other, _) => panic!("{other:?} is no answer to it"),
        }
    }

    /// How many descriptors the supervisor has open.
    pub fn descriptors(&self) -> usize {
        let path = format!("/proc/{}/fd", self.supervisor.pid);
        std::fs::read_dir(path).unwrap().count()
    }

    /// The supervisor's children, zombies too.
    pub fn children(&self) -> Vec<String> {
        let pid = self.supervisor.pid;
        std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))
            .unwrap()
            .split_whitespace()
            .map(str::to_owned)
            .collect()
    }

    /// A root with a busybox and its usual links.
    fn rootfs(&self) -> PathBuf {
        let root = self.path("rootfs");
        if !root.exists() {
            std::fs::create_dir_all(root.join("bin")).unwrap();
            std::fs::copy("/bin/busybox", root.join("bin/busybox"))
                .expect("the tests of insula-pod need the package busybox-static");
            for applet in [
                "sh", "ls", "cat", "ps", "sleep", "hostname", "id", "grep", "yes", "head", "tty",
                "stty", "wc", "true", "kill", "seq", "readlink", "touch",
            ] {
                std::fs::hard_link(root.join("bin/busybox"), root.join("bin").join(applet))
                    .unwrap();
            }
        }
        root
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        // There are no cgroups here, so the containers are ended one by one.
        self.socket = seqpacket::connect(&self.path("sock")).unwrap();
        if let Ok((Answer::Hello { containers, .. }, _)) =
            self.ask(Request::Hello { version: 1 }, &[])
        {
            for container in containers.iter().filter(|container| container.pid > 0) {
                if let Ok(pidfd) = fork::open_pid(container.pid) {
                    let _ = fork::send_signal(pidfd.as_fd(), 9);
                }
            }
        }
        let _ = fork::send_signal(self.supervisor.pidfd.as_fd(), 9);
        let _ = fork::wait(self.supervisor.pidfd.as_fd(), fork::PATIENCE);
    }
}

/// Reads to the end, waiting for it.
pub fn read_all(fd: OwnedFd) -> String {
    rustix::io::ioctl_fionbio(&fd, false).unwrap();
    let deadline = Instant::now() + PATIENCE;
    let mut text = String::new();
    std::fs::File::from(fd).read_to_string(&mut text).unwrap();
    assert!(Instant::now() < deadline);
    text
}

pub fn process(args: &[&str]) -> Process {
    let all = CapabilitySet::all();
    Process {
        args: args
            .iter()
            .map(|arg| OsText::try_from(*arg).unwrap())
            .collect(),
        env: vec![OsText::try_from("PATH=/bin").unwrap()],
        cwd: "/".to_owned(),
        user: User {
            uid: 0,
            gid: 0,
            supplementary_groups: vec![0],
        },
        umask: 0o022,
        capabilities: Capabilities {
            bounding: all,
            effective: CapabilitySet::EMPTY,
            permitted: CapabilitySet::EMPTY,
            inheritable: CapabilitySet::EMPTY,
            ambient: CapabilitySet::EMPTY,
        },
        no_new_privileges: true,
        rlimits: Vec::new(),
        oom_score_adj: Some(100),
        apparmor_profile: None,
        selinux_label: None,
        seccomp: None,
    }
}

pub fn plan(pod: &Pod, id: &str, args: &[&str]) -> LaunchPlan {
    let mount = |target: &str, source| Mount {
        target: target.to_owned(),
        source,
        attributes: MountAttributes::default(),
        propagation: Propagation::Private,
    };
    let filesystem = |kind: &str, options: &[(&str, &str)]| MountSource::Filesystem {
        kind: kind.to_owned(),
        options: options
            .iter()
            .map(|(key, value)| ((*key).to_owned(), Some((*value).to_owned())))
            .collect(),
    };
    LaunchPlan {
        container_id: id.to_owned(),
        namespaces: Namespaces {
            user: PodOrHost::Host,
            network: PodOrHost::Pod,
            ipc: PodOrHost::Pod,
            uts: PodOrHost::Pod,
            pid: PidNamespace::Container,
            cgroup: NewOrHost::New,
        },
        rootfs: Rootfs { readonly: false },
        mounts: vec![
            mount("/proc", MountSource::Proc),
            mount("/sys", filesystem("sysfs", &[])),
            mount("/dev", filesystem("tmpfs", &[("mode", "0755")])),
            mount(
                "/dev/pts",
                filesystem("devpts", &[("mode", "0620"), ("ptmxmode", "0666")]),
            ),
            mount("/dev/shm", MountSource::PodShm),
            mount("/dev/mqueue", filesystem("mqueue", &[])),
        ],
        devices: Vec::new(),
        links: Vec::new(),
        masked_paths: vec![
            "/proc/kcore".to_owned(),
            "/proc/acpi".to_owned(),
            "/nowhere".to_owned(),
        ],
        readonly_paths: vec!["/proc/sys".to_owned()],
        process: process(args),
        stdio: Stdio {
            terminal: false,
            stdin: false,
            stdin_once: false,
            log_path: Some(
                pod.path(&format!("logs/{id}.log"))
                    .to_str()
                    .unwrap()
                    .to_owned(),
            ),
        },
        cgroup: Cgroup::default(),
        stop_signal: 15,
        mount_label: None,
        hooks: Hooks::default(),
        bundle: None,
        runtime: None,
    }
}
