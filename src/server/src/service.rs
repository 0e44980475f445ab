//! What both services share.

use crate::observe::CallMetrics;
use insula_images::{Images, Pull, Reference};
use insula_pods::Pods;
use insula_streaming::Sessions;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

/// Name of the runtime, the scheme of a container's id in a node's status.
pub const RUNTIME_NAME: &str = "insula";

/// Version of this build.
pub const RUNTIME_VERSION: &str = env!("CARGO_PKG_VERSION");

/// Answers the calls of `RuntimeService` and `ImageService`. A clone is a
/// handle on the same service.
#[derive(Debug, Clone)]
pub struct Service {
    pub(crate) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) pods: Pods,
    pub(crate) images: Images,
    pub(crate) sessions: Sessions,
    pub(crate) node: Node,
    pub(crate) calls: CallMetrics,
}

/// What `Status` tells about this node beside the state of pods and network.
pub struct Node {
    /// Where durable state is; `ImageFsInfo` names it.
    pub root: PathBuf,
    /// Where state is that a reboot voids.
    pub state: PathBuf,
    /// Handlers that a pod may name; the first is the one without a name.
    pub handlers: Vec<Handler>,
    /// A pod with a user namespace of its own may have the host's network.
    pub user_namespaces_host_network: bool,
    /// The effective configuration as JSON, without secrets.
    pub config: serde_json::Value,
    /// Looks at what this host can do and gives back the rows of
    /// `insula doctor` as JSON. May block for a moment.
    pub doctor: Box<dyn Fn() -> serde_json::Value + Send + Sync>,
    /// Told about every pull that a call waits for.
    pub pulls: Box<dyn WatchPulls>,
}

/// A runtime handler, and what its pods can have here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Handler {
    /// Its name; empty is the default.
    pub name: String,
    /// Recursive read-only mounts (KEP-3857).
    pub recursive_read_only_mounts: bool,
    /// User namespaces of their own (KEP-127).
    pub user_namespaces: bool,
}

/// Shows to others how far pulls are.
pub trait WatchPulls: Send + Sync {
    /// A call waits for this pull until what is given back is dropped.
    fn watch(&self, reference: &Reference, pull: &Pull) -> Box<dyn Send>;
}

// === impl Service ===

impl Service {
    /// A service over these pods and images; clients are sent to `sessions` for
    /// their streams.
    pub fn new(
        pods: Pods,
        images: Images,
        sessions: Sessions,
        node: Node,
        calls: CallMetrics,
    ) -> Self {
        Self {
            inner: Arc::new(Inner {
                pods,
                images,
                sessions,
                node,
                calls,
            }),
        }
    }

    pub(crate) fn pods(&self) -> &Pods {
        &self.inner.pods
    }

    pub(crate) fn images(&self) -> &Images {
        &self.inner.images
    }

    pub(crate) fn sessions(&self) -> &Sessions {
        &self.inner.sessions
    }

    pub(crate) fn node(&self) -> &Node {
        &self.inner.node
    }
}

// === impl Node ===

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node")
            .field("root", &self.root)
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}
