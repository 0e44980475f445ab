//! Which pods and containers a list shows.

use crate::ids::is_prefix;
use crate::status::{ContainerState, ContainerStatus, PodState, PodStatus};
use std::collections::BTreeMap;

/// Which pods; all conditions hold together, none means all (CRI
/// `PodSandboxFilter`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PodFilter {
    /// An id or the beginning of one.
    pub id: Option<String>,
    /// A state.
    pub state: Option<PodState>,
    /// Labels with exactly these values.
    pub labels: BTreeMap<String, String>,
}

/// Which containers; all conditions hold together, none means all (CRI
/// `ContainerFilter`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ContainerFilter {
    /// An id or the beginning of one.
    pub id: Option<String>,
    /// The id of a pod, or the beginning of one.
    pub pod_id: Option<String>,
    /// A state.
    pub state: Option<ContainerState>,
    /// Labels with exactly these values.
    pub labels: BTreeMap<String, String>,
}

// === impl PodFilter ===

impl PodFilter {
    /// Whether a pod is shown.
    pub fn matches(&self, pod: &PodStatus) -> bool {
        self.id
            .as_deref()
            .is_none_or(|id| begins(pod.id.as_str(), id))
            && self.state.is_none_or(|state| state == pod.state)
            && has_labels(&pod.spec.labels, &self.labels)
    }
}

// === impl ContainerFilter ===

impl ContainerFilter {
    /// Whether a container is shown.
    pub fn matches(&self, container: &ContainerStatus) -> bool {
        self.id
            .as_deref()
            .is_none_or(|id| begins(container.id.as_str(), id))
            && self
                .pod_id
                .as_deref()
                .is_none_or(|id| begins(container.pod_id.as_str(), id))
            && self.state.is_none_or(|state| state == container.state)
            && has_labels(&container.spec.labels, &self.labels)
    }
}

fn begins(id: &str, prefix: &str) -> bool {
    is_prefix(prefix) && id.starts_with(prefix)
}

fn has_labels(labels: &BTreeMap<String, String>, wanted: &BTreeMap<String, String>) -> bool {
    wanted
        .iter()
        .all(|(name, value)| labels.get(name) == Some(value))
}
