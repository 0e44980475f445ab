//! What every operation needs: the seams, the directories, the records.

use crate::config::PodsConfig;
use crate::events::Hub;
use crate::host::Host;
use crate::ids::PodId;
use crate::levels::{Levels, Reserved};
use crate::metrics::Metrics;
use crate::paths::{Paths, PodDirectory};
use crate::ports::{ImageStore, PodNetwork};
use crate::records::Records;
use crate::registry::Registry;
use insula_isolators::spec::{NamespaceMode, PodSpec};
use std::sync::Arc;

/// Shared by all pods.
pub(crate) struct Env {
    pub(crate) config: PodsConfig,
    pub(crate) paths: Paths,
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
    pub(crate) fn new(env: &Arc<Env>, id: PodId, spec: Arc<PodSpec>) -> Self {
        let (cgroup_path, owns_cgroup) =
            cgroup(&env.config.cgroup_parent, &spec.cgroup_parent, &id);
        Self {
            hostname: hostname(&spec),
            cgroup_path,
            owns_cgroup,
            directory: env.paths.pod(&id),
            level: None,
            env: Arc::clone(env),
            id,
            spec,
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

    /// The cgroup of one of its containers, below each hierarchy's root.
    pub(crate) fn container_cgroup(&self, container: &crate::ids::ContainerId) -> String {
        if self.owns_cgroup {
            format!("{}/{container}", self.cgroup_path)
        } else {
            format!("{}/insula-{container}", self.cgroup_path)
        }
    }
}

/// Where a pod's containers have their groups: in the parent that was asked
/// for, or else in a group of the pod's own.
fn cgroup(ours: &str, asked: &str, id: &PodId) -> (String, bool) {
    let asked = asked.trim_matches('/');
    if asked.is_empty() {
        (format!("{}/{id}", ours.trim_matches('/')), true)
    } else {
        (asked.to_owned(), false)
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
