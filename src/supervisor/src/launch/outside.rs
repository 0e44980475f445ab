//! What the host's root mounts for a container in a user namespace.
//!
//! Root of a user namespace can mount a kernel file system only for namespaces
//! that its own owns, and can make no device nodes that work: mknod(2) needs
//! CAP_MKNOD over the host, and a file system that it mounts ignores devices.
//! So the instances for the node's namespaces and all of `/dev` are made by the
//! intermediate, before it joins the user namespace, as detached mounts.

use crate::launch::report::step;
use crate::launch::root::{label_option, make_device};
use insula_sys::mount::{self, Attributes};
use insula_sys::path::open_in_root;
use insula_sys::{Error, Result as SystemResult};
use insula_wire::message::Failure;
use insula_wire::plan::{DeviceNode, MountSource, PidNamespace, PodOrHost};
use insula_wire::{IdMappings, LaunchPlan};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{AtFlags, Gid, OFlags, Uid};
use std::collections::BTreeMap;

/// The directory whose file system holds the device nodes.
const DEVICES: &str = "/dev";

/// Makes those of the plan's mounts that have to be made here, by their index.
pub fn make(plan: &LaunchPlan, ids: IdMappings) -> Result<BTreeMap<usize, OwnedFd>, Failure> {
    let label = plan.mount_label.as_deref();
    let mut made = BTreeMap::new();
    for (index, wanted) in plan.mounts.iter().enumerate() {
        let name = format!("mount {}", wanted.target);
        let mount = match &wanted.source {
            MountSource::Proc if plan.namespaces.pid == PidNamespace::Host => {
                step(&name, instance("proc", &[], label))?
            }
            MountSource::Filesystem { kind, options } if of_node(plan, kind) => {
                step(&name, instance(kind, options, label))?
            }
            MountSource::Filesystem { kind, options }
                if kind == "tmpfs" && wanted.target == DEVICES =>
            {
                let mut options = options.clone();
                let owners = [("uid", ids.uids.first()), ("gid", ids.gids.first())];
                options.extend(owners.map(|(key, id)| (key.to_owned(), Some(id.to_string()))));
                let devices = step(&name, instance(kind, &options, label))?;
                fill(&devices, &plan.devices, ids)?;
                devices
            }
            _ => continue,
        };
        made.insert(index, mount);
    }
    Ok(made)
}

/// Whether a file system shows a namespace of the node's.
fn of_node(plan: &LaunchPlan, kind: &str) -> bool {
    match kind {
        "sysfs" => plan.namespaces.network == PodOrHost::Host,
        "mqueue" => plan.namespaces.ipc == PodOrHost::Host,
        _ => false,
    }
}

fn instance(
    kind: &str,
    options: &[(String, Option<String>)],
    label: Option<&str>,
) -> SystemResult<OwnedFd> {
    let options = options
        .iter()
        .map(|(key, value)| (key.as_str(), value.as_deref()))
        .chain(label_option(kind, label));
    mount::new_filesystem(kind, options, Attributes::default())
}

/// Makes the device nodes, owned as they will be seen, and gives the directories
/// on the way to them to root of the user namespace.
fn fill(devices: &OwnedFd, nodes: &[DeviceNode], ids: IdMappings) -> Result<(), Failure> {
    let prefix = format!("{DEVICES}/");
    for node in nodes {
        let Some(path) = node.path.strip_prefix(&prefix) else {
            let why = "in a user namespace devices can only be below /dev";
            return Err(super::report::malformed(
                &format!("make device {}", node.path),
                why,
            ));
        };
        let node = DeviceNode {
            path: format!("/{path}"),
            // An owner that does not exist inside is nobody there.
            uid: ids.uids.to_host(node.uid).unwrap_or(0),
            gid: ids.gids.to_host(node.gid).unwrap_or(0),
            ..node.clone()
        };
        make_device(devices.as_fd(), &node)?;
        for (end, _) in path.match_indices('/') {
            step(
                "give away a directory of devices",
                own(devices, &path[..end], ids),
            )?;
        }
    }
    Ok(())
}

fn own(root: &OwnedFd, path: &str, ids: IdMappings) -> SystemResult<()> {
    let directory = open_in_root(root.as_fd(), path, OFlags::PATH | OFlags::DIRECTORY)?;
    let (uid, gid) = (ids.uids.first(), ids.gids.first());
    let owner = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
    rustix::fs::chownat(&directory, "", owner.0, owner.1, AtFlags::EMPTY_PATH).map_err(|errno| {
        Error::new(
            format!("fchownat({path:?}, \"\", {uid}, {gid}, AT_EMPTY_PATH)"),
            errno,
        )
    })
}
