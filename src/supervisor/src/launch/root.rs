//! The container's root file system: attached, furnished, entered.
//!
//! Runs in the container's new mount namespace. Every path below the root is
//! resolved inside it by descriptor; nothing is looked up by a string once the
//! tenant's files are in reach.

use crate::launch::report::{malformed, step};
use insula_sys::mount::{self, Attributes};
use insula_sys::path::{Shape, ensure_in_root, open_in_root};
use insula_sys::{Error, fd};
use insula_wire::LaunchPlan;
use insula_wire::message::Failure;
use insula_wire::plan::{
    DeviceKind, DeviceNode, Mount, MountSource, PodOrHost, Propagation, Symlink,
};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;
use std::collections::BTreeMap;

/// Detached mounts a root is furnished with.
#[derive(Debug)]
pub struct Furniture {
    /// The root file system.
    pub root: OwnedFd,
    /// Mounts that the daemon has opened, in plan order.
    pub host: Vec<OwnedFd>,
    /// What was mounted by the host's root, by index in the plan's mounts; with
    /// a user namespace only.
    pub outside: BTreeMap<usize, OwnedFd>,
    /// The pod's `/dev/shm`, where it has one.
    pub shm: Option<OwnedFd>,
    /// procfs of a PID namespace that exists already; `None` where this
    /// process is in the namespace and mounts it itself.
    pub proc: Option<OwnedFd>,
    /// One clone of the host's `/dev/null` for each masked path.
    pub nulls: Vec<OwnedFd>,
}

/// Builds the root and leaves it attached on the working directory.
pub fn build(plan: &LaunchPlan, furniture: &Furniture) -> Result<(), Failure> {
    let root = furniture.root.as_fd();
    step("attach root", mount::attach_here(root))?;
    let mut host = furniture.host.iter();
    let label = plan.mount_label.as_deref();
    let mut furnished = Vec::new();
    for (index, wanted) in plan.mounts.iter().enumerate() {
        let mount = mount_one(root, (index, wanted), label, furniture, &mut host)?;
        if is_furnished(wanted) {
            furnished.push((&wanted.target, mount));
        }
    }
    // Root of a user namespace may make none: they came with `/dev`.
    if plan.namespaces.user == PodOrHost::Host {
        for device in &plan.devices {
            make_device(root, device)?;
        }
    }
    for link in &plan.links {
        make_link(root, link)?;
    }
    for (target, mount) in furnished {
        let attributes = Attributes {
            readonly: true,
            ..Attributes::default()
        };
        step(
            &format!("make {target} read-only"),
            mount::set_attributes(&mount, attributes),
        )?;
    }
    for path in &plan.readonly_paths {
        make_readonly(root, path)?;
    }
    for (path, null) in plan.masked_paths.iter().zip(&furniture.nulls) {
        mask(root, path, null.as_fd(), label)?;
    }
    Ok(())
}

/// Makes the working directory if it is missing and gives it back.
pub fn working_directory(root: BorrowedFd<'_>, cwd: &str) -> Result<OwnedFd, Failure> {
    step(
        &format!("make working directory {cwd}"),
        ensure_in_root(root, cwd, Shape::Directory),
    )
}

/// Makes the root read-only if asked to, and enters it.
pub fn enter(plan: &LaunchPlan, root: BorrowedFd<'_>) -> Result<(), Failure> {
    if plan.rootfs.readonly {
        let attributes = Attributes {
            readonly: true,
            ..Attributes::default()
        };
        step(
            "make root read-only",
            mount::set_attributes(root, attributes),
        )?;
    }
    step("enter root", mount::enter_root(root))
}

fn mount_one<'a>(
    root: BorrowedFd<'_>,
    (index, wanted): (usize, &Mount),
    label: Option<&str>,
    furniture: &Furniture,
    host: &mut impl Iterator<Item = &'a OwnedFd>,
) -> Result<OwnedFd, Failure> {
    let name = format!("mount {}", wanted.target);
    let made_outside = furniture.outside.get(&index);
    let source = match &wanted.source {
        _ if let Some(made) = made_outside => step(&name, fd::duplicate(made))?,
        MountSource::Host { .. } | MountSource::Image { .. } => {
            let mount = host
                .next()
                .ok_or_else(|| malformed(&name, "no descriptor came with the plan"))?;
            step(&name, fd::duplicate(mount))?
        }
        MountSource::PodShm => match &furniture.shm {
            Some(shm) => step(&name, fd::duplicate(shm))?,
            None => return Err(malformed(&name, "the pod has no /dev/shm of its own")),
        },
        MountSource::Proc => match &furniture.proc {
            Some(proc) => step(&name, fd::duplicate(proc))?,
            None => step(
                &name,
                mount::new_filesystem("proc", [], Attributes::default()),
            )?,
        },
        MountSource::Filesystem { kind, options } => {
            let options = options
                .iter()
                .map(|(key, value)| (key.as_str(), value.as_deref()))
                .chain(label_option(kind, label));
            step(
                &name,
                mount::new_filesystem(kind, options, Attributes::default()),
            )?
        }
    };
    let place = |source: &OwnedFd| {
        let target = step(
            &name,
            ensure_in_root(root, &wanted.target, shape_of(source)?),
        )?;
        step(&name, mount::attach(source.as_fd(), target.as_fd()))
    };
    match &wanted.source {
        MountSource::Image { sub_path, .. } if !sub_path.is_empty() => {
            place(&source)?;
            let part = step(&name, take_directory(&source, sub_path))?;
            step(&name, set_attributes(&part, wanted))?;
            place(&part)?;
        }
        _ => {
            step(&name, set_attributes(&source, wanted))?;
            place(&source)?;
        }
    }
    // The kernel made the message queues' file system with the namespace, and
    // takes no label for it any more.
    if let (MountSource::Filesystem { kind, .. }, Some(label)) = (&wanted.source, label)
        && kind == "mqueue"
    {
        step(&name, mount::set_label(&source, label))?;
    }
    Ok(source)
}

/// A mount of one directory of an attached mount, which is taken off again:
/// before Linux 6.15 a detached mount cannot be cloned.
pub fn take_directory(whole: &OwnedFd, path: &str) -> insula_sys::Result<OwnedFd> {
    let directory = open_in_root(whole.as_fd(), path, OFlags::PATH | OFlags::DIRECTORY)?;
    let part = mount::clone_tree_at(&directory, "".as_ref(), false)?;
    mount::take_off(whole.as_fd())?;
    Ok(part)
}

/// An empty file system in which things are made before it becomes read-only.
fn is_furnished(wanted: &Mount) -> bool {
    wanted.attributes.readonly
        && matches!(&wanted.source, MountSource::Filesystem { kind, .. } if kind == "tmpfs")
}

/// SELinux: the label of everything in a new file system (`context=`, mount(8))
/// whose files the policy would take for the host's.
pub fn label_option<'l>(kind: &str, label: Option<&'l str>) -> Option<(&'l str, Option<&'l str>)> {
    label
        .filter(|_| matches!(kind, "tmpfs" | "devpts"))
        .map(|label| ("context", Some(label)))
}

/// Gives a mount the attributes and the propagation that it shall have.
pub fn set_attributes(source: &OwnedFd, wanted: &Mount) -> insula_sys::Result<()> {
    let asked = &wanted.attributes;
    let propagation = match wanted.propagation {
        Propagation::Private => Some(mount::Propagation::Private),
        Propagation::HostToContainer => Some(mount::Propagation::Slave),
        // A clone of a shared mount is in its peer group already.
        Propagation::Bidirectional => None,
    };
    if let (MountSource::Host { .. }, Some(_)) = (&wanted.source, propagation) {
        let attributes = Attributes {
            propagation,
            recursive: true,
            ..Attributes::default()
        };
        mount::set_attributes(source, attributes)?;
    }
    let attributes = Attributes {
        readonly: (asked.readonly || asked.recursive_readonly) && !is_furnished(wanted),
        nosuid: asked.nosuid,
        nodev: asked.nodev,
        noexec: asked.noexec,
        propagation: None,
        recursive: asked.recursive_readonly,
    };
    if attributes.readonly || attributes.nosuid || attributes.nodev || attributes.noexec {
        mount::set_attributes(source, attributes)?;
    }
    Ok(())
}

fn shape_of(source: &OwnedFd) -> Result<Shape, Failure> {
    let stat = rustix::fs::fstat(source).map_err(|errno| Error::new("fstat(mount)", errno));
    let stat = step("look at mount", stat)?;
    Ok(match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => Shape::Directory,
        _ => Shape::File,
    })
}

/// Splits a path into the directory's descriptor, made if missing, and a name.
fn parent<'p>(
    name: &str,
    root: BorrowedFd<'_>,
    path: &'p str,
) -> Result<(OwnedFd, &'p str), Failure> {
    let (directory, last) = path.rsplit_once('/').unwrap_or(("/", path));
    if matches!(last, "" | "." | "..") {
        return Err(malformed(name, format!("{path:?} names no file")));
    }
    let directory = step(name, ensure_in_root(root, directory, Shape::Directory))?;
    Ok((directory, last))
}

/// Makes a device node.
pub fn make_device(root: BorrowedFd<'_>, device: &DeviceNode) -> Result<(), Failure> {
    let name = format!("make device {}", device.path);
    let (directory, last) = parent(&name, root, &device.path)?;
    let kind = match device.kind {
        DeviceKind::Character => FileType::CharacterDevice,
        DeviceKind::Block => FileType::BlockDevice,
    };
    let number = rustix::fs::makedev(device.major, device.minor);
    let mode = Mode::from_raw_mode(device.mode & 0o7777);
    match rustix::fs::mknodat(&directory, last, kind, mode, number) {
        Ok(()) => {}
        Err(Errno::EXIST) => {
            let stat = rustix::fs::statat(&directory, last, AtFlags::SYMLINK_NOFOLLOW)
                .map_err(|errno| Error::new(format!("fstatat({last:?})"), errno));
            let stat = step(&name, stat)?;
            if FileType::from_raw_mode(stat.st_mode) != kind || stat.st_rdev != number {
                let error = Error::new(format!("mknodat({last:?})"), Errno::EXIST);
                return step(&name, Err(error));
            }
        }
        Err(errno) => {
            let call = format!(
                "mknodat({last:?}, {kind:?}, {}:{})",
                device.major, device.minor
            );
            return step(&name, Err(Error::new(call, errno)));
        }
    }
    let owner = (
        Some(Uid::from_raw(device.uid)),
        Some(Gid::from_raw(device.gid)),
    );
    let owned = rustix::fs::chownat(
        &directory,
        last,
        owner.0,
        owner.1,
        AtFlags::SYMLINK_NOFOLLOW,
    )
    .map_err(|errno| Error::new(format!("fchownat({last:?}, {owner:?})"), errno));
    step(&name, owned)
}

fn make_link(root: BorrowedFd<'_>, link: &Symlink) -> Result<(), Failure> {
    let name = format!("make link {}", link.path);
    let (directory, last) = parent(&name, root, &link.path)?;
    match rustix::fs::symlinkat(&link.target, &directory, last) {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(errno) => {
            let call = format!("symlinkat({:?}, {directory:?}, {last:?})", link.target);
            step(&name, Err(Error::new(call, errno)))
        }
    }
}

/// Opens a path that may be missing.
fn open_existing(name: &str, root: BorrowedFd<'_>, path: &str) -> Result<Option<OwnedFd>, Failure> {
    match open_in_root(root, path, OFlags::PATH) {
        Ok(found) => Ok(Some(found)),
        Err(error) if matches!(error.errno(), Errno::NOENT | Errno::NOTDIR) => Ok(None),
        Err(error) => step(name, Err(error)),
    }
}

fn make_readonly(root: BorrowedFd<'_>, path: &str) -> Result<(), Failure> {
    let name = format!("make {path} read-only");
    let Some(target) = open_existing(&name, root, path)? else {
        return Ok(());
    };
    let clone = step(&name, mount::clone_tree_at(&target, "".as_ref(), true))?;
    let attributes = Attributes {
        readonly: true,
        recursive: true,
        ..Attributes::default()
    };
    step(&name, mount::set_attributes(&clone, attributes))?;
    step(&name, mount::attach(clone.as_fd(), target.as_fd()))
}

fn mask(
    root: BorrowedFd<'_>,
    path: &str,
    null: BorrowedFd<'_>,
    label: Option<&str>,
) -> Result<(), Failure> {
    let name = format!("mask {path}");
    let Some(target) = open_existing(&name, root, path)? else {
        return Ok(());
    };
    match shape_of(&target)? {
        Shape::File => step(&name, mount::attach(null, target.as_fd())),
        Shape::Directory => {
            let attributes = Attributes {
                readonly: true,
                ..Attributes::default()
            };
            let options = [
                ("size", Some("0")),
                ("nr_inodes", Some("1")),
                ("mode", Some("0755")),
            ]
            .into_iter()
            .chain(label_option("tmpfs", label));
            let empty = step(&name, mount::new_filesystem("tmpfs", options, attributes))?;
            step(&name, mount::attach(empty.as_fd(), target.as_fd()))
        }
    }
}
