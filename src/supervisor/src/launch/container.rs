//! The two steps to a container's main process.

use crate::launch::program::Program;
use crate::launch::report::{Go, Report, Reporter, malformed, step};
use crate::launch::root::{self, Furniture};
use crate::launch::streams::{Streams, Terminal};
use crate::launch::{clone_beside_others, execute_alone, identity, outside};
use crate::pod::PodNamespaces;
use insula_sys::cgroup::Cgroup;
use insula_sys::fork::{Fork, ForkOptions, SingleThread, exit_now, fork};
use insula_sys::mount::{self, Attributes, Propagation};
use insula_sys::namespace::{self, Kind};
use insula_sys::outcome::Outcome;
use insula_sys::path::{check_procfs, open_in_root};
use insula_sys::{Error, fd};
use insula_wire::LaunchPlan;
use insula_wire::message::Failure;
use insula_wire::plan::{MountSource, NewOrHost, PidNamespace, PodOrHost};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::OFlags;
use std::collections::BTreeMap;

/// What the child of a container's creation is born with.
#[derive(Debug)]
pub struct Birth<'a> {
    /// To the supervisor.
    pub reporter: Reporter,
    /// The plan, a sealed memfd.
    pub plan: OwnedFd,
    /// Its ends of the standard streams; `None` with a terminal.
    pub streams: Option<Streams>,
    /// Where a process that others can see leaves what became of it.
    pub outcome: &'a Outcome,
    /// The root file system and the host's mounts.
    pub root: OwnedFd,
    /// Mounts of the host, in plan order.
    pub host_mounts: Vec<OwnedFd>,
    /// The pod's namespaces.
    pub pod: &'a PodNamespaces,
    /// Main process of the container whose PID namespace is joined.
    pub target: Option<BorrowedFd<'a>>,
    /// The cgroup it enters by itself; `None` where the daemon places it.
    pub enters: Option<&'a Cgroup>,
}

// === impl Birth ===

impl Birth<'_> {
    /// Everything from the fork to the execve(2). Never returns.
    pub fn run(self, proof: SingleThread) -> ! {
        if let Err(failure) = self.launch(proof) {
            self.reporter.fail(failure);
        }
        exit_now(0)
    }

    fn launch(&self, proof: SingleThread) -> Result<(), Failure> {
        self.close_what_is_not_ours()?;
        rustix::process::umask(rustix::fs::Mode::empty());
        self.reporter.wait_for(Go::Placed);
        if let Some(cgroup) = self.enters {
            step("enter cgroup", cgroup.enter_legacy())?;
        }
        let plan = super::read_plan(&self.plan)?;
        identity::set_oom_score(&plan.process)?;
        identity::declare_labels(&plan.process)?;
        identity::make_keyring()?;
        // What only the host's root may take or make, before it is left behind.
        let furniture = self.collect_furniture(&plan)?;
        self.enter_state_directory()?;
        self.choose_pid_namespace(&plan)?;
        self.join_user_namespace(&plan)?;
        self.join_pod(&plan)?;
        make_mount_namespace()?;
        if plan.namespaces.cgroup == NewOrHost::New {
            step("make cgroup namespace", namespace::unshare(&[Kind::Cgroup]))?;
        }
        match plan.namespaces.pid {
            PidNamespace::Container => self.launch_as_init(proof, &plan, &furniture),
            _ => self.launch_beside_others(proof, &plan, &furniture),
        }
    }

    fn close_what_is_not_ours(&self) -> Result<(), Failure> {
        let mut keep = vec![self.reporter.socket(), self.plan.as_fd(), self.root.as_fd()];
        keep.extend(self.host_mounts.iter().map(AsFd::as_fd));
        keep.extend(self.pod.descriptors());
        keep.extend(self.target);
        keep.extend(self.enters.iter().flat_map(|cgroup| cgroup.descriptors()));
        if let Some(streams) = &self.streams {
            keep.extend(streams.descriptors());
        }
        super::close_inherited(&keep)
    }

    /// For the process that is cloned later; this one stays where it is. The
    /// host's root may do it whoever owns that namespace.
    fn choose_pid_namespace(&self, plan: &LaunchPlan) -> Result<(), Failure> {
        let name = "join PID namespace";
        match (&plan.namespaces.pid, &self.pod.pid, self.target) {
            (PidNamespace::Container | PidNamespace::Host, _, _) => Ok(()),
            (PidNamespace::Pod, Some(pid), _) => step(name, namespace::join(pid, Kind::Pid)),
            (PidNamespace::Target(_), _, Some(target)) => {
                step(name, namespace::join_process(target, &[Kind::Pid]))
            }
            (wanted, _, _) => Err(malformed(name, format!("{wanted:?} does not exist"))),
        }
    }

    /// First of all it is in itself, so that it owns those that are made from now on
    /// and this process may join those it owns.
    fn join_user_namespace(&self, plan: &LaunchPlan) -> Result<(), Failure> {
        let name = "join user namespace";
        match (plan.namespaces.user, &self.pod.user) {
            (PodOrHost::Host, None) => Ok(()),
            (PodOrHost::Pod, Some(user)) => {
                step(name, namespace::join(&user.namespace, Kind::User))?;
                identity::become_root_inside()
            }
            (PodOrHost::Pod, None) => Err(malformed(name, "the pod has none of its own")),
            (PodOrHost::Host, Some(_)) => Err(malformed(name, "the pod has one, the plan none")),
        }
    }

    fn join_pod(&self, plan: &LaunchPlan) -> Result<(), Failure> {
        let wanted = [
            (plan.namespaces.network, &self.pod.network, Kind::Network),
            (plan.namespaces.ipc, &self.pod.ipc, Kind::Ipc),
            (plan.namespaces.uts, &self.pod.uts, Kind::Uts),
        ];
        for (choice, namespace, kind) in wanted {
            let name = format!("join {} namespace", kind.file_name());
            match (choice, namespace) {
                (PodOrHost::Host, _) => {}
                (PodOrHost::Pod, Some(namespace)) => step(&name, namespace::join(namespace, kind))?,
                (PodOrHost::Pod, None) => {
                    return Err(malformed(&name, "the pod has none of its own"));
                }
            }
        }
        Ok(())
    }

    /// Takes clones of what other mount namespaces hold, while this process is
    /// still in the host's.
    fn collect_furniture(&self, plan: &LaunchPlan) -> Result<Furniture, Failure> {
        let nulls = plan
            .masked_paths
            .iter()
            .map(|_| mount::clone_tree_at(&self.pod.null, "".as_ref(), false))
            .collect::<insula_sys::Result<Vec<_>>>();
        let nulls = step("clone /dev/null", nulls)?;
        let wants_shm = plan
            .mounts
            .iter()
            .any(|mount| mount.source == MountSource::PodShm);
        let mut shm = None;
        let mut proc = None;
        if wants_shm || plan.namespaces.pid == PidNamespace::Pod {
            let name = "enter the pod's mounts";
            step(name, namespace::join(&self.pod.mounts, Kind::Mount))?;
            if wants_shm {
                shm = Some(step(name, mount::clone_tree("/shm".as_ref(), false))?);
            }
            if plan.namespaces.pid == PidNamespace::Pod {
                proc = Some(step(name, mount::clone_tree("/proc".as_ref(), false))?);
            }
        }
        if let Some(target) = self.target {
            proc = Some(clone_proc_of(target)?);
        }
        if shm.is_some() || proc.is_some() {
            let name = "return to the host's mounts";
            step(name, namespace::join(&self.pod.host_mounts, Kind::Mount))?;
        }
        let outside = match &self.pod.user {
            Some(user) => outside::make(plan, user.ids)?,
            None => BTreeMap::new(),
        };
        let name = "take mounts";
        Ok(Furniture {
            outside,
            root: step(name, fd::duplicate(&self.root))?,
            host: self
                .host_mounts
                .iter()
                .map(|mount| step(name, fd::duplicate(mount)))
                .collect::<Result<_, _>>()?,
            shm,
            proc,
            nulls,
        })
    }

    /// Goes where the root is going to be attached, as long as it may: the
    /// directory is the host's root's alone.
    fn enter_state_directory(&self) -> Result<(), Failure> {
        let directory = self.pod.state_directory.as_str();
        step(
            "enter the pod's directory",
            rustix::process::chdir(directory)
                .map_err(|errno| Error::new(format!("chdir({directory:?})"), errno)),
        )
    }

    /// PID 1 of a new PID namespace, alone there: it mounts procfs itself.
    fn launch_as_init(
        &self,
        proof: SingleThread,
        plan: &LaunchPlan,
        furniture: &Furniture,
    ) -> Result<(), Failure> {
        let options = ForkOptions {
            new_pid_namespace: true,
            sibling: true,
            ..ForkOptions::default()
        };
        if let Fork::Parent(child) = step("make PID namespace", fork(proof, &options))? {
            self.reporter.send(&Report::Cloned(child.pid), &[]);
            return Ok(());
        }
        let program = self.furnish(plan, furniture)?;
        let filter = identity::assume(&plan.process)?;
        self.reporter.send(&Report::Ready(program.name()), &[]);
        self.reporter.wait_for(Go::Start);
        let terminal = plan.stdio.terminal;
        Err(execute_alone(&program, terminal, &filter, self.outcome))
    }

    /// A process among others that can see it: what it still holds when it is
    /// cloned is what it will execute with.
    fn launch_beside_others(
        &self,
        proof: SingleThread,
        plan: &LaunchPlan,
        furniture: &Furniture,
    ) -> Result<(), Failure> {
        let program = self.furnish(plan, furniture)?;
        let filter = identity::assume(&plan.process)?;
        self.reporter.send(&Report::Ready(program.name()), &[]);
        self.reporter.wait_for(Go::Start);
        let terminal = plan.stdio.terminal;
        clone_beside_others(proof, &program, terminal, &filter, self.outcome)
    }

    /// Builds and enters the root and puts the streams in place.
    fn furnish(&self, plan: &LaunchPlan, furniture: &Furniture) -> Result<Program, Failure> {
        root::build(plan, furniture)?;
        let top = furniture.root.as_fd();
        let cwd = root::working_directory(top, &plan.process.cwd)?;
        let terminal = match plan.stdio.terminal {
            true => {
                let terminal = Terminal::open(top, plan.process.user.uid)?;
                terminal.show_as_console(top)?;
                Some(terminal.into_streams(&self.reporter)?)
            }
            false => None,
        };
        root::enter(plan, top)?;
        step(
            "enter working directory",
            rustix::process::fchdir(&cwd)
                .map_err(|errno| Error::new(format!("fchdir({:?})", plan.process.cwd), errno)),
        )?;
        match terminal.as_ref().or(self.streams.as_ref()) {
            Some(streams) => streams.install()?,
            None => return Err(malformed("install standard streams", "none were given")),
        }
        Program::new(&plan.process)
    }
}

/// A private copy of the host's mounts, which the working directory moves into.
fn make_mount_namespace() -> Result<(), Failure> {
    let name = "make mount namespace";
    step(name, namespace::unshare(&[Kind::Mount]))?;
    let private = Attributes {
        propagation: Some(Propagation::Private),
        recursive: true,
        ..Attributes::default()
    };
    let top = rustix::fs::open(
        "/",
        OFlags::PATH | OFlags::CLOEXEC,
        rustix::fs::Mode::empty(),
    )
    .map_err(|errno| Error::new("open(\"/\", O_PATH)", errno));
    step(name, mount::set_attributes(&step(name, top)?, private))
}

/// A clone of the procfs that another container of the pod sees. Its tenant
/// may have mounted something else there, so it is checked to be the root of a
/// procfs.
fn clone_proc_of(target: BorrowedFd<'_>) -> Result<OwnedFd, Failure> {
    const PROC_ROOT_INO: u64 = 1;
    let name = "clone the target's procfs";
    step(name, namespace::join_process(target, &[Kind::Mount]))?;
    let top = rustix::fs::open(
        "/",
        OFlags::PATH | OFlags::CLOEXEC,
        rustix::fs::Mode::empty(),
    )
    .map_err(|errno| Error::new("open(\"/\", O_PATH)", errno));
    let top = step(name, top)?;
    let proc = step(
        name,
        open_in_root(top.as_fd(), "proc", OFlags::PATH | OFlags::DIRECTORY),
    )?;
    step(name, check_procfs(&proc))?;
    let stat = rustix::fs::fstat(&proc).map_err(|errno| Error::new("fstat(/proc)", errno));
    if step(name, stat)?.st_ino != PROC_ROOT_INO {
        return Err(malformed(name, "its /proc is not the root of a procfs"));
    }
    step(name, mount::clone_tree_at(&proc, "".as_ref(), false))
}
