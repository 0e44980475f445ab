//! What this room needs from the image store and the network, in its own words.
//!
//! The two traits are the seam at which tests put fakes; `adapters` implements
//! them for the real image store and the real CNI runtime.

use crate::error::Result;
use crate::ids::{ContainerId, PodId};
use crate::stats::FilesystemUsage;
use crate::status::Condition;
use futures_util::future::BoxFuture;
use insula_isolators::isolator::ImageView;
use insula_isolators::spec::{ImageRequest, PodSpec};
use insula_wire::IdMappings;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The image store.
pub trait ImageStore: Send + Sync + 'static {
    /// An image that is here, by id or name. Never pulls; an image that is not
    /// here is [`Error::NotFound`](crate::Error::NotFound).
    fn image<'a>(&'a self, image: &'a ImageRequest) -> BoxFuture<'a, Result<ImageFacts>>;

    /// Makes a container's root file system from an image, shown with the ids
    /// of the pod's user namespace where it has one. `mount_label` is the
    /// SELinux label of all files in it.
    fn prepare_rootfs<'a>(
        &'a self,
        container: &'a ContainerId,
        image: &'a ImageFacts,
        mount_label: Option<&'a str>,
        user: Option<&'a UserNamespace>,
    ) -> BoxFuture<'a, Result<PreparedRootfs>>;

    /// Mounts an image, given by its id, as a volume of a container that has a
    /// root file system; gives a detached mount, which goes with that. `index`
    /// is its own among the container's volumes.
    fn mount_image<'a>(
        &'a self,
        container: &'a ContainerId,
        image: &'a str,
        index: usize,
        user: Option<&'a UserNamespace>,
    ) -> BoxFuture<'a, Result<OwnedFd>>;

    /// Removes it. Idempotent.
    fn remove_rootfs<'a>(&'a self, container: &'a ContainerId) -> BoxFuture<'a, Result<()>>;

    /// What a container wrote to its root file system.
    fn rootfs_usage<'a>(
        &'a self,
        container: &'a ContainerId,
    ) -> BoxFuture<'a, Result<Option<FilesystemUsage>>>;

    /// All containers that have a root file system, in use or left behind.
    fn rootfs_owners(&self) -> BoxFuture<'_, Result<Vec<ContainerId>>>;
}

/// An image that is here.
#[derive(Debug, Clone, PartialEq)]
pub struct ImageFacts {
    /// Its id, the digest of its configuration.
    pub id: String,
    /// Its repository digest, or its id where it has none.
    pub reference: String,
    /// The one of its names that it was asked for by, or the first, if it has any.
    pub name: Option<String>,
    /// How it wants to be run.
    pub view: ImageView,
}

/// A pod's own user namespace, with which the ids of mounts are mapped.
#[derive(Debug)]
pub struct UserNamespace {
    /// The namespace.
    pub namespace: OwnedFd,
    /// Its ids.
    pub ids: IdMappings,
}

/// A root file system that is ready.
#[derive(Debug)]
pub struct PreparedRootfs {
    /// A detached mount.
    pub mount: OwnedFd,
    /// The image's `/etc/passwd`, read in-root and bounded; empty without one.
    pub passwd: Vec<u8>,
    /// The image's `/etc/group`, likewise.
    pub group: Vec<u8>,
}

/// The network.
pub trait PodNetwork: Send + Sync + 'static {
    /// Attaches a pod; records its intent first, so that `detach` always works.
    fn attach<'a>(&'a self, pod: &'a Attachment) -> BoxFuture<'a, Result<Vec<IpAddr>>>;

    /// Detaches it. `namespace` is the file that names its network namespace.
    /// Idempotent; works when the namespace is gone.
    fn detach<'a>(&'a self, pod: &'a PodId, namespace: &'a Path) -> BoxFuture<'a, Result<()>>;

    /// Detaches all pods but these, and those that were attached since this
    /// process began; gives back how many there were.
    fn sweep<'a>(&'a self, keep: &'a BTreeSet<PodId>) -> BoxFuture<'a, Result<u64>>;

    /// Whether pods can be attached now. Answers from memory.
    fn condition(&self) -> BoxFuture<'_, Condition>;

    /// The node's pod address ranges, comma separated (CRI
    /// `UpdateRuntimeConfig`).
    fn set_pod_cidr<'a>(&'a self, cidr: &'a str) -> BoxFuture<'a, Result<()>>;
}

/// A pod that is to be attached.
#[derive(Debug, Clone)]
pub struct Attachment {
    /// Its id.
    pub pod: PodId,
    /// What was asked for: names, port mappings, dns, bandwidth annotations.
    pub spec: Arc<PodSpec>,
    /// File that names its network namespace.
    pub namespace: PathBuf,
    /// The pod's cgroup below each hierarchy's root.
    pub cgroup_path: String,
}
