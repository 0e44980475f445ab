//! What every operation needs: the seams, the directories, the records.

use crate::cgroups::{Naming, PodGroup};
use crate::config::PodsConfig;
use crate::error::Result;
use crate::events::Hub;
use crate::host::Host;
use crate::ids::PodId;
use crate::levels::{Levels, Reserved};
use crate::metrics::Metrics;
use crate::paths::{Paths, PodDirectory};
use crate::ports::{ImageStore, PodNetwork};
use crate::records::{PodRecord, Records};
use crate::registry::Registry;
use insula_isolators::spec::{NamespaceMode, PodSpec};
use std::sync::Arc;

/// Shared by all pods.
pub(crate) struct Env {
    pub(crate) config: PodsConfig,
    pub(crate) paths: Paths,
    pub(crate) naming: Naming,
    pub(crate) records: Records,
    pub(crate) host: Arc<dyn Host>,
    pub(crate) images: Arc<dyn ImageStore>,
    pub(crate) network: Arc<dyn PodNetwork>,
    pub(crate) registry: Registry,
    pub(crate) metrics: Metrics,
    pub(crate) levels: Levels,
    pub(crate) events: Hub,
}

/// What does not change about one pod.
#[derive(Debug)]
pub(crate) struct Pod {
    pub(crate) id: PodId,
    pub(crate) spec: Arc<PodSpec>,
    /// Never empty.
    pub(crate) hostname: String,
    /// Below each hierarchy's root: the parent of the containers' groups.
    pub(crate) cgroup_path: String,
    /// Whether that group is ours alone, or kubelet's.
    pub(crate) owns_cgroup: bool,
    pub(crate) directory: PodDirectory,
    /// SELinux level; `None` where there are none.
    pub(crate) level: Option<Reserved>,
    pub(crate) env: Arc<Env>,
}

// === impl Env ===

impl std::fmt::Debug for Env {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Env")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

// === impl Pod ===

impl Pod {
    /// A pod that is to be made. Its parent must fit the cgroup driver.
    pub(crate) fn new(env: &Arc<Env>, id: PodId, spec: Arc<PodSpec>) -> Result<Self> {
        let group = env.naming.pod(&spec.cgroup_parent, &id)?;
        Ok(Self {
            hostname: hostname(&spec),
            cgroup_path: group.path,
            owns_cgroup: group.is_ours,
            directory: env.paths.pod(&id),
            level: None,
            env: Arc::clone(env),
            id,
            spec,
        })
    }

    /// A pod on record, which is where it was made, whatever the driver is now.
    pub(crate) fn recorded(env: &Arc<Env>, record: &PodRecord) -> Self {
        Self {
            hostname: record.hostname.clone(),
            cgroup_path: record.cgroup_path.clone(),
            owns_cgroup: record.spec.cgroup_parent.trim_matches('/').is_empty(),
            directory: env.paths.pod(&record.id),
            level: record
                .selinux_level
                .as_deref()
                .map(|level| env.levels.keep(level)),
            env: Arc::clone(env),
            id: record.id.clone(),
            spec: Arc::clone(&record.spec),
        }
    }

    /// Whether the pod has a network of its own.
    pub(crate) fn has_network(&self) -> bool {
        self.spec.namespaces.network != NamespaceMode::Node
    }

    /// The pod's SELinux level.
    pub(crate) fn selinux_level(&self) -> Option<&str> {
        self.level.as_ref().map(Reserved::as_str)
    }

    /// The host's user and group for root of its containers.
    pub(crate) fn root_ids(&self) -> (u32, u32) {
        self.spec
            .namespaces
            .user
            .map_or((0, 0), |ids| (ids.uids.first(), ids.gids.first()))
    }

    /// The cgroup of one of its containers, below each hierarchy's root.
    pub(crate) fn container_cgroup(&self, container: &crate::ids::ContainerId) -> String {
        let group = PodGroup {
            path: self.cgroup_path.clone(),
            is_ours: self.owns_cgroup,
        };
        self.env.naming.container(&group, container)
    }
}

/// The pod's host name: as asked for, else the node's.
fn hostname(spec: &PodSpec) -> String {
    if spec.hostname.is_empty() || spec.namespaces.network == NamespaceMode::Node {
        let node = rustix::system::uname();
        let node = node.nodename().to_string_lossy();
        if node.is_empty() {
            "localhost".to_owned()
        } else {
            node.into_owned()
        }
    } else {
        spec.hostname.clone()
    }
}
