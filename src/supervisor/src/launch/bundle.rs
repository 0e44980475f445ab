//! The bundle of a container that an external OCI runtime executes: a tmpfs in
//! a mount namespace of its own, with everything that `config.json` names.
//!
//! The namespace gets the host's unmounts (it is a slave of the host's), so it
//! keeps nothing busy there, and the host gets nothing of it.

use crate::launch::report::{malformed, step};
use crate::launch::root;
use crate::pod::PodNamespaces;
use insula_sys::mount::{self, Attributes, Propagation};
use insula_sys::namespace::{self, Kind};
use insula_sys::{Error, fd};
use insula_wire::LaunchPlan;
use insula_wire::message::Failure;
use insula_wire::plan::{Mount, MountSource, PidNamespace, PodOrHost};
use insula_wire::runtime_bundle as parts;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{FileType, Mode, OFlags};
use std::path::Path;

/// What a bundle is made of.
#[derive(Debug)]
pub struct Parts<'a> {
    /// The plan that is executed.
    pub plan: &'a LaunchPlan,
    /// The text of `config.json`.
    pub config: &'a [u8],
    /// The root file system.
    pub root: BorrowedFd<'a>,
    /// Mounts that came with the plan, in its order.
    pub mounts: &'a [OwnedFd],
    /// The pod's namespaces.
    pub pod: &'a PodNamespaces,
    /// The PID namespace of the container that is the target.
    pub target: Option<BorrowedFd<'a>>,
}

/// Room for the runtime's state and messages; programs that copy themselves
/// into their state (runc before 1.2) fit in as well.
const SIZE: &str = "64m";

/// Where a host with cgroups of version 1 has those of version 2, for what
/// needs no controllers.
const HYBRID: &str = "/sys/fs/cgroup/unified";

/// Makes it on the pod's state directory, which becomes the working directory,
/// and gives the mount namespace.
pub fn make(wanted: &Parts<'_>) -> Result<OwnedFd, Failure> {
    let shm = clone_shm(wanted)?;
    let directory = wanted.pod.state_directory.as_str();
    let name = "make bundle";
    enter(directory)?;
    step(name, namespace::unshare(&[Kind::Mount]))?;
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let top = rustix::fs::open("/", flags, Mode::empty())
        .map_err(|errno| Error::new("open(\"/\", O_PATH)", errno));
    let slave = Attributes {
        propagation: Some(Propagation::Slave),
        recursive: true,
        ..Attributes::default()
    };
    step(name, mount::set_attributes(&step(name, top)?, slave))?;
    // crun takes no version 2 hierarchy with controllers beside those of version
    // 1. The container is in its group there already.
    step(name, mount::detach(Path::new(HYBRID)))?;
    let options = [("size", Some(SIZE)), ("mode", Some("0700"))];
    let files = mount::new_filesystem("tmpfs", options, Attributes::default());
    step(name, mount::attach_here(step(name, files)?.as_fd()))?;
    enter(directory)?;
    for part in [
        parts::ROOT,
        parts::MOUNTS,
        parts::NAMESPACES,
        parts::STATE,
        parts::EXECS,
    ] {
        make_directory(part)?;
    }
    step(name, mount::attach_at(wanted.root, Path::new(parts::ROOT)))?;
    if let Some(shm) = shm {
        make_directory(parts::SHM)?;
        step(name, mount::attach_at(shm.as_fd(), Path::new(parts::SHM)))?;
    }
    let brought = wanted.plan.opened_mounts().zip(wanted.mounts);
    for (index, (planned, source)) in brought.enumerate() {
        place(index, planned, source)?;
    }
    name_namespaces(wanted)?;
    write(parts::CONFIG, wanted.config)?;
    step(name, namespace::open_own(Kind::Mount))
}

fn enter(directory: &str) -> Result<(), Failure> {
    step(
        "enter the pod's directory",
        rustix::process::chdir(directory)
            .map_err(|errno| Error::new(format!("chdir({directory:?})"), errno)),
    )
}

/// The pod's `/dev/shm`, from where it is kept.
fn clone_shm(wanted: &Parts<'_>) -> Result<Option<OwnedFd>, Failure> {
    let mut mounts = wanted.plan.mounts.iter();
    if !mounts.any(|mount| mount.source == MountSource::PodShm) {
        return Ok(None);
    }
    let name = "enter the pod's mounts";
    step(name, namespace::join(&wanted.pod.mounts, Kind::Mount))?;
    let shm = step(name, mount::clone_tree("/shm".as_ref(), false))?;
    let name = "return to the host's mounts";
    step(name, namespace::join(&wanted.pod.host_mounts, Kind::Mount))?;
    Ok(Some(shm))
}

/// Attaches a mount that came with the plan, as the container shall see it.
fn place(index: usize, planned: &Mount, source: &OwnedFd) -> Result<(), Failure> {
    let name = format!("mount {}", planned.target);
    let path = parts::mount(index);
    let stat = rustix::fs::fstat(source).map_err(|errno| Error::new("fstat(mount)", errno));
    match FileType::from_raw_mode(step(&name, stat)?.st_mode) {
        FileType::Directory => make_directory(&path)?,
        _ => write(&path, b"")?,
    }
    let source = match &planned.source {
        MountSource::Image { sub_path, .. } if !sub_path.is_empty() => {
            step(&name, mount::attach_at(source.as_fd(), Path::new(&path)))?;
            step(&name, root::take_directory(source, sub_path))?
        }
        _ => step(&name, fd::duplicate(source))?,
    };
    step(&name, root::set_attributes(&source, planned))?;
    step(&name, mount::attach_at(source.as_fd(), Path::new(&path)))
}

/// Names the namespaces that are joined.
fn name_namespaces(wanted: &Parts<'_>) -> Result<(), Failure> {
    let (planned, pod) = (&wanted.plan.namespaces, wanted.pod);
    let of_pod = [
        (planned.network, &pod.network, Kind::Network),
        (planned.ipc, &pod.ipc, Kind::Ipc),
        (planned.uts, &pod.uts, Kind::Uts),
    ];
    for (choice, namespace, kind) in of_pod {
        if choice == PodOrHost::Pod {
            name_namespace(kind, namespace.as_ref().map(AsFd::as_fd))?;
        }
    }
    match &planned.pid {
        PidNamespace::Container | PidNamespace::Host => Ok(()),
        PidNamespace::Pod => name_namespace(Kind::Pid, pod.pid.as_ref().map(AsFd::as_fd)),
        PidNamespace::Target(_) => name_namespace(Kind::Pid, wanted.target),
    }
}

fn name_namespace(kind: Kind, namespace: Option<BorrowedFd<'_>>) -> Result<(), Failure> {
    let name = format!("name {} namespace", kind.file_name());
    let Some(namespace) = namespace else {
        return Err(malformed(&name, "it does not exist"));
    };
    let path = parts::namespace(kind.file_name());
    write(&path, b"")?;
    step(&name, mount::bind_namespace(namespace, Path::new(&path)))
}

fn make_directory(path: &str) -> Result<(), Failure> {
    let made = rustix::fs::mkdir(path, Mode::from_raw_mode(0o700))
        .map_err(|errno| Error::new(format!("mkdir({path:?}, 0700)"), errno));
    step("make bundle", made)
}

fn write(path: &str, content: &[u8]) -> Result<(), Failure> {
    let written = std::fs::write(path, content)
        .map_err(|error| Error::from_io(format!("write({path:?})"), &error));
    step("make bundle", written)
}
