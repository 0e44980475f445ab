//! The pod's namespaces: made once by a helper, held as descriptors.
//!
//! ```text
//!  supervisor ── fork ──► helper: unshares user (and waits for its ids), net,
//!      │                   ipc, uts and mount, furnishes them, hands their
//!      │                   descriptors over, ends
//!      └── with a shared PID namespace ──► reaper: PID 1 there, no rights,
//!                                          nothing open, an empty root
//! ```
//!
//! With a user namespace of the pod's own, the helper is its root when it makes
//! the others, so that it owns them (user_namespaces(7)). Its ids are written
//! by the supervisor, which alone may map more than one.

use crate::launch::report::{Go, ProgramName, Report, Reporter, malformed, step, system_failure};
use insula_sys::fork::{self, Child, Fork, ForkOptions, SingleThread};
use insula_sys::identity::{self, CapabilityMasks};
use insula_sys::mount::{self, Attributes, Propagation};
use insula_sys::namespace::{self, Kind};
use insula_sys::{Error, fd, seqpacket};
use insula_wire::IdMappings;
use insula_wire::message::{Failure, PodPlan};
use insula_wire::plan::PodOrHost;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;

mod user;

/// What a pod's containers share.
#[derive(Debug)]
pub struct PodNamespaces {
    /// The user namespace, which owns the others; `None` is the host's.
    pub user: Option<UserNamespace>,
    /// The network namespace; `None` is the host's.
    pub network: Option<OwnedFd>,
    /// The ipc namespace; `None` is the host's.
    pub ipc: Option<OwnedFd>,
    /// The uts namespace; `None` is the host's.
    pub uts: Option<OwnedFd>,
    /// The shared PID namespace, if there is one.
    pub pid: Option<OwnedFd>,
    /// A mount namespace with `/shm` and, with a shared PID namespace,
    /// `/proc`. They are attached there because Linux before 6.15 cannot clone
    /// a mount that is attached nowhere.
    pub mounts: OwnedFd,
    /// The host's mount namespace.
    pub host_mounts: OwnedFd,
    /// The host's `/dev/null`.
    pub null: OwnedFd,
    /// Where new roots are attached for a moment, out of sight.
    pub state_directory: String,
}

/// A user namespace of a pod's own.
#[derive(Debug)]
pub struct UserNamespace {
    /// The namespace.
    pub namespace: OwnedFd,
    /// Its ids.
    pub ids: IdMappings,
}

/// A pod that was made.
#[derive(Debug)]
pub struct Pod {
    /// Its namespaces.
    pub namespaces: PodNamespaces,
    /// PID 1 of the shared PID namespace.
    pub reaper: Option<Child>,
}

/// Where the helper furnishes the pod's mount namespace, before it becomes
/// that namespace's root.
const SHM: &str = "shm";
const PROC: &str = "proc";
const EMPTY: &str = "empty";

// === impl PodNamespaces ===

impl PodNamespaces {
    /// All descriptors, to be kept open across the clean-up in a child.
    pub fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        let optional = [&self.network, &self.ipc, &self.uts, &self.pid];
        let mut all: Vec<_> = optional.into_iter().flatten().map(AsFd::as_fd).collect();
        all.extend(self.user.as_ref().map(|user| user.namespace.as_fd()));
        all.extend([
            self.mounts.as_fd(),
            self.host_mounts.as_fd(),
            self.null.as_fd(),
        ]);
        all
    }

    /// The host's id for a user of the pod's containers.
    pub fn host_uid(&self, uid: u32) -> Result<u32, Failure> {
        match &self.user {
            None => Ok(uid),
            Some(user) => user.ids.uids.to_host(uid).ok_or_else(|| {
                malformed(
                    "find the user's id on the host",
                    format!("user {uid} is not in the pod's user namespace"),
                )
            }),
        }
    }

    /// The namespaces that were made, in the order in which they are told.
    pub fn made(&self) -> Vec<BorrowedFd<'_>> {
        let optional = [&self.network, &self.ipc, &self.uts];
        optional.into_iter().flatten().map(AsFd::as_fd).collect()
    }
}

/// Makes a pod's namespaces. Waits for the helper, which only makes system
/// calls that do not block; no container runs yet that could want attention.
pub fn make(proof: SingleThread, plan: &PodPlan) -> Result<Pod, Failure> {
    let name = "make pod";
    let (ours, theirs) = step(name, seqpacket::pair())?;
    let reporter = Reporter::new(theirs);
    let helper = match step(name, fork::fork(proof, &ForkOptions::default()))? {
        Fork::Child => match help(proof, plan, &reporter) {
            Ok(()) => fork::exit_now(0),
            Err(failure) => reporter.fail(failure),
        },
        Fork::Parent(helper) => helper,
    };
    drop(reporter);
    let outcome = collect(plan, &helper, &ours);
    // Unblocks a helper that waits for us to have opened its namespaces.
    drop(ours);
    step(name, fork::wait(helper.pidfd.as_fd(), fork::PATIENCE))?;
    outcome
}

/// The supervisor's side: takes the namespaces as the helper tells of them.
fn collect(plan: &PodPlan, helper: &Child, ours: &OwnedFd) -> Result<Pod, Failure> {
    let name = "make pod";
    let mut reaper = None;
    loop {
        let received = step(name, seqpacket::receive(ours.as_fd()))?;
        match serde_json::from_slice(&received.bytes) {
            Ok(Report::Failed(failure)) => return Err(failure),
            Ok(Report::Cloned(pid)) => {
                let pidfd = step(name, fork::open_pid(pid))?;
                reaper = Some(Child { pid, pidfd });
            }
            Ok(Report::WithoutIds) => {
                if let Some(ids) = plan.user {
                    user::write_ids(helper, ids)?;
                }
                step(
                    name,
                    seqpacket::send(ours.as_fd(), &[Go::Mapped.byte()], &[]),
                )?;
            }
            Ok(Report::Ready(_)) => {
                let namespaces = namespaces(plan, received.descriptors, reaper.as_ref())?;
                return Ok(Pod { namespaces, reaper });
            }
            _ => {
                let error = Error::new("recvmsg(helper)", Errno::PIPE);
                return Err(system_failure(name, &error));
            }
        }
    }
}

fn namespaces(
    plan: &PodPlan,
    descriptors: Vec<OwnedFd>,
    reaper: Option<&Child>,
) -> Result<PodNamespaces, Failure> {
    let name = "take namespaces";
    let mut told = descriptors.into_iter();
    let mut next = |wanted: bool| match wanted {
        true => told
            .next()
            .map(Some)
            .ok_or_else(|| system_failure(name, &Error::new("recvmsg(helper)", Errno::BADMSG))),
        false => Ok(None),
    };
    let user = match (plan.user, next(plan.user.is_some())?) {
        (Some(ids), Some(namespace)) => Some(UserNamespace { namespace, ids }),
        _ => None,
    };
    let network = next(plan.network == PodOrHost::Pod)?;
    let ipc = next(plan.ipc == PodOrHost::Pod)?;
    let uts = next(plan.uts == PodOrHost::Pod)?;
    let mounts = next(true)?;
    let pid = match reaper {
        Some(reaper) => Some(step(name, namespace::open(reaper.pid, Kind::Pid))?),
        None => None,
    };
    Ok(PodNamespaces {
        user,
        network,
        ipc,
        uts,
        pid,
        mounts: mounts
            .ok_or_else(|| system_failure(name, &Error::new("recvmsg(helper)", Errno::BADMSG)))?,
        host_mounts: step(name, namespace::open_own(Kind::Mount))?,
        null: open_null()?,
        state_directory: plan.state_directory.clone(),
    })
}

fn open_null() -> Result<OwnedFd, Failure> {
    let name = "open /dev/null";
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let null = rustix::fs::open("/dev/null", flags, Mode::empty())
        .map_err(|errno| Error::new("open(\"/dev/null\", O_PATH|O_NOFOLLOW)", errno));
    let null = step(name, null)?;
    let stat = rustix::fs::fstat(&null).map_err(|errno| Error::new("fstat(/dev/null)", errno));
    let stat = step(name, stat)?;
    let is_null = FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice
        && stat.st_rdev == rustix::fs::makedev(1, 3);
    match is_null {
        true => Ok(null),
        false => Err(system_failure(
            name,
            &Error::new("fstat(/dev/null) is not 1:3", Errno::NODEV),
        )),
    }
}

/// The helper: makes and furnishes the namespaces, in a process of its own so
/// that the supervisor stays where it is.
fn help(proof: SingleThread, plan: &PodPlan, reporter: &Reporter) -> Result<(), Failure> {
    step(
        "close inherited descriptors",
        fd::close_all_except(&[reporter.socket()]),
    )?;
    let chosen = [
        (plan.network, Kind::Network),
        (plan.ipc, Kind::Ipc),
        (plan.uts, Kind::Uts),
    ];
    // As long as this is the host's root, which may look into it.
    enter_directory(&plan.state_directory)?;
    let user = user::make(plan, reporter)?;
    let mut kinds: Vec<Kind> = chosen
        .into_iter()
        .filter(|(choice, _)| *choice == PodOrHost::Pod)
        .map(|(_, kind)| kind)
        .collect();
    kinds.push(Kind::Mount);
    step("make pod namespaces", namespace::unshare(&kinds))?;
    let made = kinds
        .iter()
        .map(|kind| namespace::open_own(*kind))
        .collect::<insula_sys::Result<Vec<_>>>();
    let made = step("open pod namespaces", made)?;
    if plan.uts == PodOrHost::Pod {
        let hostname = plan.hostname.as_bytes();
        step(
            "set host name",
            rustix::system::sethostname(hostname)
                .map_err(|errno| Error::new(format!("sethostname({:?})", plan.hostname), errno)),
        )?;
    }
    if plan.network == PodOrHost::Pod {
        step("switch loopback on", namespace::loopback_up())?;
    }
    for (key, value) in &plan.sysctls {
        write_sysctl(key, value)?;
    }
    let root = furnish(plan)?;
    if plan.shared_pid {
        start_reaper(proof, reporter, &root)?;
    }
    step("enter pod mounts", mount::enter_root(root.as_fd()))?;
    let descriptors: Vec<_> = user.iter().chain(&made).map(AsFd::as_fd).collect();
    reporter.send(&Report::Ready(ProgramName::default()), &descriptors);
    Ok(())
}

/// Writes a kernel setting in the namespaces of the calling process. `/proc` is
/// still the host's; which namespace a setting belongs to is the writer's.
fn write_sysctl(key: &str, value: &str) -> Result<(), Failure> {
    let path = format!("/proc/sys/{}", key.replace('.', "/"));
    step(
        &format!("set sysctl {key}"),
        std::fs::write(&path, value)
            .map_err(|error| Error::from_io(format!("write({path:?}, {value:?})"), &error)),
    )
}

/// Makes a small tree that shall replace the copy of the host's mounts, which
/// would keep them from being unmounted. It is attached on the working
/// directory. The host's stay until there is a reaper: in a user namespace
/// procfs can only be mounted where one is seen already (`mount_too_revealing`).
fn furnish(plan: &PodPlan) -> Result<OwnedFd, Failure> {
    let name = "furnish pod mounts";
    let top = rustix::fs::open("/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
        .map_err(|errno| Error::new("open(\"/\", O_PATH)", errno));
    let private = Attributes {
        propagation: Some(Propagation::Private),
        recursive: true,
        ..Attributes::default()
    };
    step(name, mount::set_attributes(&step(name, top)?, private))?;
    let options = [
        ("size", Some("64k")),
        ("nr_inodes", Some("8")),
        ("mode", Some("0711")),
    ];
    let root = step(
        name,
        mount::new_filesystem("tmpfs", options, Attributes::default()),
    )?;
    step(name, mount::attach_here(root.as_fd()))?;
    for entry in [SHM, PROC, EMPTY] {
        let made = rustix::fs::mkdirat(&root, entry, Mode::from_raw_mode(0o755))
            .map_err(|errno| Error::new(format!("mkdirat({entry:?}, 0755)"), errno));
        step(name, made)?;
    }
    if plan.ipc == PodOrHost::Pod {
        let size = plan.shm_size.to_string();
        let label = plan.mount_label.as_deref();
        let options = [("size", Some(size.as_str())), ("mode", Some("1777"))]
            .into_iter()
            .chain(label.map(|label| ("context", Some(label))));
        let attributes = Attributes {
            nosuid: true,
            nodev: true,
            noexec: true,
            ..Attributes::default()
        };
        let shm = step(name, mount::new_filesystem("tmpfs", options, attributes))?;
        let target = open_directory(root.as_fd(), SHM);
        step(
            name,
            mount::attach(shm.as_fd(), step(name, target)?.as_fd()),
        )?;
    }
    if let Some(label) = plan.mount_label.as_deref() {
        // The root of PID 1 of a shared PID namespace, which tenants can see:
        // the policy shall not take it for the host's. Nothing can be made in it.
        let options = [
            ("size", Some("4k")),
            ("nr_inodes", Some("1")),
            ("mode", Some("0755")),
            ("context", Some(label)),
        ];
        let empty = step(
            name,
            mount::new_filesystem("tmpfs", options, Attributes::default()),
        )?;
        let target = open_directory(root.as_fd(), EMPTY);
        step(
            name,
            mount::attach(empty.as_fd(), step(name, target)?.as_fd()),
        )?;
    }
    Ok(root)
}

fn enter_directory(directory: &str) -> Result<(), Failure> {
    step(
        "enter the pod's directory",
        rustix::process::chdir(directory)
            .map_err(|errno| Error::new(format!("chdir({directory:?})"), errno)),
    )
}

fn open_directory(parent: BorrowedFd<'_>, path: &str) -> insula_sys::Result<OwnedFd> {
    rustix::fs::openat(
        parent,
        path,
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .map_err(|errno| Error::new(format!("openat({path:?}, O_PATH|O_DIRECTORY)"), errno))
}

/// Makes the shared PID namespace with its first process.
fn start_reaper(proof: SingleThread, reporter: &Reporter, root: &OwnedFd) -> Result<(), Failure> {
    let options = ForkOptions {
        new_pid_namespace: true,
        sibling: true,
        ..ForkOptions::default()
    };
    let (ready, told) = step("start reaper", seqpacket::pair())?;
    match step("start reaper", fork::fork(proof, &options))? {
        Fork::Parent(child) => {
            drop(told);
            // Closed when the reaper has let go of everything it had.
            let word = step("start reaper", seqpacket::receive(ready.as_fd()))?;
            if !word.bytes.is_empty() {
                let words = String::from_utf8_lossy(&word.bytes).into_owned();
                return Err(malformed("start reaper", words));
            }
            reporter.send(&Report::Cloned(child.pid), &[]);
            Ok(())
        }
        Fork::Child => {
            let given_up = become_reaper(root);
            if let Err(failure) = given_up {
                let _ = seqpacket::send(told.as_fd(), failure.to_string().as_bytes(), &[]);
                fork::exit_now(1);
            }
            // Closes `told` too, which is the word that all is given up.
            if fd::close_all_except(&[]).is_err() {
                fork::exit_now(1);
            }
            fork::sleep_for_ever()
        }
    }
}

/// PID 1 of a pod: reaps by ignoring SIGCHLD, holds nothing, dies with the
/// supervisor. Tenants see it, so everything worth taking goes first.
fn become_reaper(root: &OwnedFd) -> Result<(), Failure> {
    let name = "become reaper";
    let death =
        rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))
            .map_err(|errno| Error::new("prctl(PR_SET_PDEATHSIG, SIGKILL)", errno));
    step(name, death)?;
    fork::reset_signals();
    fork::ignore_children();
    let proc = step(
        name,
        mount::new_filesystem("proc", [], Attributes::default()),
    )?;
    let target = step(name, open_directory(root.as_fd(), PROC))?;
    step(name, mount::attach(proc.as_fd(), target.as_fd()))?;
    let empty = step(name, open_directory(root.as_fd(), EMPTY))?;
    let entered = rustix::process::fchdir(&empty)
        .and_then(|()| rustix::process::chroot("."))
        .map_err(|errno| Error::new("chroot(\"/empty\")", errno));
    step(name, entered)?;
    step(name, identity::limit_bounding_set(0))?;
    step(name, identity::set_capabilities(CapabilityMasks::default()))?;
    step(name, identity::set_no_new_privileges())
}
