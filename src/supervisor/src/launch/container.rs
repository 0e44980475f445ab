//! The two steps to a container's main process.

use crate::launch::filter::Filter;
use crate::launch::keeper::Keeper;
use crate::launch::program::Program;
use crate::launch::report::{Go, Report, Reporter, malformed, step};
use crate::launch::root::{self, Furniture};
use crate::launch::streams::{Streams, Terminal};
use crate::launch::{clone_beside_others, execute_alone, hooks, identity, outside};
use crate::pod::PodNamespaces;
use insula_sys::cgroup::Cgroup;
use insula_sys::fork::{Fork, ForkOptions, SingleThread, fork};
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
        self.reporter.end(self.launch(proof))
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
        self.enter_place_of_root(&plan)?;
        let keeper = self.keeper(proof, &plan)?;
        if !runs_hooks_inside(&plan) {
            self.choose_pid_namespace(&plan)?;
        }
        self.join_user_namespace(&plan)?;
        self.join_pod(&plan)?;
        make_mount_namespace()?;
        if plan.namespaces.cgroup == NewOrHost::New {
            step("make cgroup namespace", namespace::unshare(&[Kind::Cgroup]))?;
        }
        match plan.namespaces.pid {
            PidNamespace::Container => {
                self.launch_as_init(proof, &plan, &furniture, keeper.as_ref())
            }
            _ => self.launch_beside_others(proof, &plan, &furniture, keeper.as_ref()),
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
    /// directory is the host's root's alone. Hooks find the root in the bundle.
    fn enter_place_of_root(&self, plan: &LaunchPlan) -> Result<(), Failure> {
        let hooked = plan.bundle.as_ref().filter(|_| !plan.hooks.is_empty());
        let directory = match hooked {
            Some(bundle) => bundle.root(),
            None => self.pod.state_directory.clone(),
        };
        step(
            "enter the place of the root",
            rustix::process::chdir(&directory)
                .map_err(|errno| Error::new(format!("chdir({directory:?})"), errno)),
        )
    }

    /// Whoever passes the listener of its filter on, if that has one.
    fn keeper(&self, proof: SingleThread, plan: &LaunchPlan) -> Result<Option<Keeper>, Failure> {
        match (plan.process.listens(), &plan.namespaces.pid) {
            (false, _) => Ok(None),
            (true, PidNamespace::Container) => Keeper::of_child().map(Some),
            (true, _) => Keeper::of_this_process(proof, self.outcome, &self.reporter).map(Some),
        }
    }

    /// PID 1 of a new PID namespace, alone there: it mounts procfs itself.
    fn launch_as_init(
        &self,
        proof: SingleThread,
        plan: &LaunchPlan,
        furniture: &Furniture,
        keeper: Option<&Keeper>,
    ) -> Result<(), Failure> {
        let options = ForkOptions {
            new_pid_namespace: true,
            sibling: true,
            share_files: keeper.is_some(),
            ..ForkOptions::default()
        };
        if let Fork::Parent(child) = step("make PID namespace", fork(proof, &options))? {
            self.reporter.send(&Report::Cloned(child.pid), &[]);
            if let Some(keeper) = keeper {
                keeper.keep(child.pidfd.as_fd(), self.outcome, &self.reporter);
            }
            return Ok(());
        }
        let program = self.furnish(proof, plan, furniture)?;
        let filter = self.get_ready(proof, plan, &program)?;
        let terminal = plan.stdio.terminal;
        let filter = (&filter, keeper);
        Err(execute_alone(&program, terminal, filter, self.outcome))
    }

    /// A process among others that can see it: what it still holds when it is
    /// cloned is what it will execute with.
    fn launch_beside_others(
        &self,
        proof: SingleThread,
        plan: &LaunchPlan,
        furniture: &Furniture,
        keeper: Option<&Keeper>,
    ) -> Result<(), Failure> {
        let program = self.furnish(proof, plan, furniture)?;
        let filter = self.get_ready(proof, plan, &program)?;
        let terminal = plan.stdio.terminal;
        let keeper = keeper.map(|keeper| (keeper, &self.reporter));
        clone_beside_others(proof, &program, terminal, &filter, keeper, self.outcome)
    }

    /// Takes the process's rights and waits until it may execute. Hooks that
    /// run just before it are forked while it can still choose what they get.
    fn get_ready(
        &self,
        proof: SingleThread,
        plan: &LaunchPlan,
        program: &Program,
    ) -> Result<Filter, Failure> {
        let ready = || {
            self.reporter.send(&Report::Ready(program.name()), &[]);
            self.reporter.wait_for(Go::Start);
        };
        if plan.hooks.start_container.is_empty() {
            if runs_hooks_inside(plan) {
                self.choose_pid_namespace(plan)?;
            }
            let filter = identity::assume(&plan.process)?;
            ready();
            return Ok(filter);
        }
        ready();
        hooks::start_container(proof, plan, || self.choose_pid_namespace(plan))?;
        self.choose_pid_namespace(plan)?;
        identity::assume(&plan.process)
    }

    /// Lets hooks have the root before it is entered.
    fn run_hooks(&self, proof: SingleThread, plan: &LaunchPlan) -> Result<(), Failure> {
        if plan.hooks.wait_on_node() {
            self.reporter.send(&Report::Built(own_id_on_node()?), &[]);
            self.reporter.wait_for(Go::Enter);
        }
        hooks::create_container(proof, plan)
    }

    /// Builds and enters the root and puts the streams in place.
    fn furnish(
        &self,
        proof: SingleThread,
        plan: &LaunchPlan,
        furniture: &Furniture,
    ) -> Result<Program, Failure> {
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
        self.run_hooks(proof, plan)?;
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

/// The id that this process has in the PID namespace of the node's procfs,
/// which still is at `/proc`.
fn own_id_on_node() -> Result<i32, Failure> {
    let name = "find own id";
    let link = rustix::fs::readlink("/proc/self", Vec::new())
        .map_err(|errno| Error::new("readlink(\"/proc/self\")", errno));
    let link = step(name, link)?;
    link.to_str()
        .ok()
        .and_then(|id| id.parse().ok())
        .ok_or_else(|| malformed(name, format!("/proc/self is {link:?}")))
}

/// Whether hooks are run in the container's namespaces. The PID namespace is
/// then chosen after them: until it is, what is forked here is out of the sight
/// of those in it.
fn runs_hooks_inside(plan: &LaunchPlan) -> bool {
    !plan.hooks.create_container.is_empty() || !plan.hooks.start_container.is_empty()
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
