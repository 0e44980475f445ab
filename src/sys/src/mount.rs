//! Mounts by descriptor: the new mount API, in the shapes a container needs.
//!
//! A mount is made or cloned *detached* and is attached later, in another
//! mount namespace, so nothing shows on the host.

use crate::fork::last_errno;
use crate::{Error, Result};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, CWD};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags,
};
use std::path::Path;

/// What `mount_setattr(2)` changes.
#[derive(Debug, Clone, Copy, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is one kernel flag")]
pub struct Attributes {
    /// `MOUNT_ATTR_RDONLY`.
    pub readonly: bool,
    /// `MOUNT_ATTR_NOSUID`.
    pub nosuid: bool,
    /// `MOUNT_ATTR_NODEV`.
    pub nodev: bool,
    /// `MOUNT_ATTR_NOEXEC`.
    pub noexec: bool,
    /// Changes propagation; `None` leaves it.
    pub propagation: Option<Propagation>,
    /// Reaches all mounts below (`AT_RECURSIVE`).
    pub recursive: bool,
}

/// Propagation types of mount_namespaces(7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Propagation {
    /// `MS_PRIVATE`.
    Private,
    /// `MS_SLAVE`.
    Slave,
    /// `MS_SHARED`.
    Shared,
}

#[repr(C)]
struct MountAttr {
    attr_set: u64,
    attr_clr: u64,
    propagation: u64,
    userns_fd: u64,
}

/// Clones the mount at a path as a detached one, `open_tree(2)`. Symbolic links
/// are followed. With `recursive`, what is mounted below comes along. A clone
/// of a shared mount stays in its peer group.
///
/// Blocks as long as the file system behind the path does: call it on a thread
/// that may hang, with a deadline around it.
pub fn clone_tree(path: &Path, recursive: bool) -> Result<OwnedFd> {
    clone_tree_at(CWD, path, recursive)
}

/// As [`clone_tree`], from a directory descriptor; an empty path clones what
/// the descriptor itself refers to.
pub fn clone_tree_at(directory: impl AsFd, path: &Path, recursive: bool) -> Result<OwnedFd> {
    let directory = directory.as_fd();
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    if path.as_os_str().is_empty() {
        flags |= OpenTreeFlags::AT_EMPTY_PATH;
    }
    rustix::mount::open_tree(directory, path, flags).map_err(|errno| {
        Error::new(
            format!("open_tree({directory:?}, {path:?}, {flags:?})"),
            errno,
        )
    })
}

/// Sets the SELinux label of a mount's root directory, fsetxattr(2).
pub fn set_label(mount: impl AsFd, label: &str) -> Result<()> {
    let mount = mount.as_fd();
    let flags = rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC;
    let root = rustix::fs::openat(mount, ".", flags, rustix::fs::Mode::empty())
        .map_err(|errno| Error::new(format!("openat({mount:?}, \".\", O_DIRECTORY)"), errno))?;
    let value = [label.as_bytes(), b"\0"].concat();
    let attribute = "security.selinux";
    rustix::fs::fsetxattr(&root, attribute, &value, rustix::fs::XattrFlags::empty()).map_err(
        |errno| {
            Error::new(
                format!("fsetxattr({root:?}, {attribute:?}, {label:?})"),
                errno,
            )
        },
    )
}

/// A new instance of a kernel file system as a detached mount. An option
/// without a value is a flag.
pub fn new_filesystem<'a>(
    kind: &str,
    options: impl IntoIterator<Item = (&'a str, Option<&'a str>)>,
    attributes: Attributes,
) -> Result<OwnedFd> {
    let context = rustix::mount::fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)
        .map_err(|errno| Error::new(format!("fsopen({kind:?}, FSOPEN_CLOEXEC)"), errno))?;
    for (key, value) in options {
        match value {
            Some(value) => rustix::mount::fsconfig_set_string(&context, key, value),
            None => rustix::mount::fsconfig_set_flag(&context, key),
        }
        .map_err(|errno| Error::new(format!("fsconfig({kind}, {key:?}, {value:?})"), errno))?;
    }
    rustix::mount::fsconfig_create(&context).map_err(|errno| {
        Error::new(
            format!("fsconfig({kind}, FSCONFIG_CMD_CREATE){}", log_of(&context)),
            errno,
        )
    })?;
    let mut flags = MountAttrFlags::empty();
    flags.set(MountAttrFlags::MOUNT_ATTR_RDONLY, attributes.readonly);
    flags.set(MountAttrFlags::MOUNT_ATTR_NOSUID, attributes.nosuid);
    flags.set(MountAttrFlags::MOUNT_ATTR_NODEV, attributes.nodev);
    flags.set(MountAttrFlags::MOUNT_ATTR_NOEXEC, attributes.noexec);
    rustix::mount::fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, flags).map_err(|errno| {
        Error::new(
            format!("fsmount({kind}, FSMOUNT_CLOEXEC, {flags:?})"),
            errno,
        )
    })
}

/// The kernel's own words about why a file system could not be made.
fn log_of(context: &OwnedFd) -> String {
    let mut words = String::new();
    let mut line = [0_u8; 512];
    while let Ok(length @ 1..) = rustix::io::read(context, &mut line) {
        words.push_str(" [");
        words.push_str(String::from_utf8_lossy(&line[..length]).trim_end());
        words.push(']');
    }
    words
}

/// Attaches a detached mount on what `target` refers to, `move_mount(2)`.
pub fn attach(mount: BorrowedFd<'_>, target: BorrowedFd<'_>) -> Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    rustix::mount::move_mount(mount, "", target, "", flags).map_err(|errno| {
        Error::new(
            format!("move_mount({mount:?}, \"\", {target:?}, \"\")"),
            errno,
        )
    })
}

/// Attaches a detached mount on the working directory. Nothing is looked up,
/// so that root of a user namespace may do it where it may not search.
pub fn attach_here(mount: BorrowedFd<'_>) -> Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    rustix::mount::move_mount(mount, "", CWD, "", flags).map_err(|errno| {
        Error::new(
            format!("move_mount({mount:?}, \"\", AT_FDCWD, \"\")"),
            errno,
        )
    })
}

/// Attaches a detached mount on a path, relative to the working directory.
pub fn attach_at(mount: BorrowedFd<'_>, target: &Path) -> Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    rustix::mount::move_mount(mount, "", CWD, target, flags).map_err(|errno| {
        Error::new(
            format!("move_mount({mount:?}, \"\", AT_FDCWD, {target:?})"),
            errno,
        )
    })
}

/// Sets attributes of the mount a descriptor refers to, `mount_setattr(2)`.
/// Attributes that are false stay as they are.
pub fn set_attributes(mount: impl AsFd, attributes: Attributes) -> Result<()> {
    let mount = mount.as_fd();
    let bit = |on: bool, value: MountAttrFlags| if on { u64::from(value.bits()) } else { 0 };
    let argument = MountAttr {
        attr_set: bit(attributes.readonly, MountAttrFlags::MOUNT_ATTR_RDONLY)
            | bit(attributes.nosuid, MountAttrFlags::MOUNT_ATTR_NOSUID)
            | bit(attributes.nodev, MountAttrFlags::MOUNT_ATTR_NODEV)
            | bit(attributes.noexec, MountAttrFlags::MOUNT_ATTR_NOEXEC),
        attr_clr: 0,
        propagation: match attributes.propagation {
            None => 0,
            Some(Propagation::Private) => libc::MS_PRIVATE,
            Some(Propagation::Slave) => libc::MS_SLAVE,
            Some(Propagation::Shared) => libc::MS_SHARED,
        },
        userns_fd: 0,
    };
    set_attr(mount, &argument, attributes.recursive).map_err(|errno| {
        Error::new(
            format!("mount_setattr({mount:?}, \"\", {attributes:?})"),
            errno,
        )
    })
}

/// Shows the files of a detached mount, and of all below it where `recursive`,
/// with the ids of a user namespace: what belongs to 0 on disk belongs to root
/// there (`MOUNT_ATTR_IDMAP`, mount_setattr(2)). `EINVAL` is a file system that
/// cannot, or a mount that was mapped before.
pub fn map_ids(mount: impl AsFd, user: BorrowedFd<'_>, recursive: bool) -> Result<()> {
    let mount = mount.as_fd();
    let argument = MountAttr {
        attr_set: MountAttrFlags::MOUNT_ATTR_IDMAP.bits().into(),
        attr_clr: 0,
        propagation: 0,
        userns_fd: user.as_raw_fd().unsigned_abs().into(),
    };
    set_attr(mount, &argument, recursive).map_err(|errno| {
        Error::new(
            format!("mount_setattr({mount:?}, \"\", {{MOUNT_ATTR_IDMAP, {user:?}}}, recursive={recursive})"),
            errno,
        )
    })
}

fn set_attr(
    mount: BorrowedFd<'_>,
    argument: &MountAttr,
    recursive: bool,
) -> std::result::Result<(), rustix::io::Errno> {
    let mut flags = AtFlags::EMPTY_PATH.bits();
    if recursive {
        flags |= libc::AT_RECURSIVE as u32;
    }
    // SAFETY: mount_setattr(2) reads an empty NUL-terminated path and `size`
    // bytes of `argument`, both valid for the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            std::ptr::from_ref(argument),
            std::mem::size_of::<MountAttr>(),
        )
    };
    match result {
        0 => Ok(()),
        _ => Err(last_errno()),
    }
}

/// Shows a namespace as a file, so that programs given a path can join it.
/// The file must exist.
pub fn bind_namespace(namespace: BorrowedFd<'_>, path: &Path) -> Result<()> {
    let source = format!("/proc/self/fd/{}", namespace.as_raw_fd());
    rustix::mount::mount_bind(&source, path)
        .map_err(|errno| Error::new(format!("mount({source:?}, {path:?}, MS_BIND)"), errno))
}

/// Takes a mount off a path, now for new look-ups and for good when the last
/// user is gone (`MNT_DETACH`). A path that is no mount, or does not exist, is
/// no error.
pub fn detach(path: &Path) -> Result<()> {
    match rustix::mount::unmount(path, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
        Ok(()) | Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOENT) => Ok(()),
        Err(errno) => Err(Error::new(
            format!("umount2({path:?}, MNT_DETACH|UMOUNT_NOFOLLOW)"),
            errno,
        )),
    }
}

/// Takes an attached mount, given by its root, off the path it is on
/// (`MNT_DETACH`). Needs a procfs at `/proc`.
pub fn take_off(mount: BorrowedFd<'_>) -> Result<()> {
    let path = format!("/proc/self/fd/{}", mount.as_raw_fd());
    rustix::mount::unmount(&path, UnmountFlags::DETACH)
        .map_err(|errno| Error::new(format!("umount2({path:?}, MNT_DETACH)"), errno))
}

/// Makes an attached mount the root of this mount namespace and takes the old
/// root off it, `pivot_root(2)`. Leaves the working directory at the new root.
pub fn enter_root(root: BorrowedFd<'_>) -> Result<()> {
    rustix::process::fchdir(root)
        .map_err(|errno| Error::new(format!("fchdir({root:?})"), errno))?;
    rustix::process::pivot_root(".", ".")
        .map_err(|errno| Error::new("pivot_root(\".\", \".\")", errno))?;
    // The old root now lies on top of the new one; once it is off, "." is new.
    rustix::mount::unmount(".", UnmountFlags::DETACH)
        .map_err(|errno| Error::new("umount2(\".\", MNT_DETACH)", errno))?;
    rustix::process::chdir("/").map_err(|errno| Error::new("chdir(\"/\")", errno))
}
