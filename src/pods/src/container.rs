//! Containers: what one is, and the operations on it.

use crate::host::Group;
use crate::ids::ContainerId;
use crate::records::{ContainerRecord, End};
use crate::stats::{ContainerStats, Meter};
use crate::status::{ContainerState, ContainerStatus};
use insula_wire::LaunchPlan;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::watch;

pub(crate) mod create;
pub(crate) mod end;
pub(crate) mod external;
mod image_mounts;
mod phases;
pub(crate) mod seed;
pub(crate) mod start;
pub(crate) mod update;
mod volumes;

/// What does not change about a container, and how it is watched.
#[derive(Debug)]
pub(crate) struct Container {
    pub(crate) id: ContainerId,
    pub(crate) plan: Arc<LaunchPlan>,
    /// Its cgroup; `None` when that was gone before this daemon started.
    pub(crate) group: Option<Arc<dyn Group>>,
    /// How it ended, once it has.
    pub(crate) ended: watch::Receiver<Option<End>>,
    /// What it was measured to use last.
    pub(crate) meter: Meter<ContainerStats>,
}

// === impl Container ===

impl Container {
    pub(crate) fn new(
        record: &ContainerRecord,
        group: Option<Arc<dyn Group>>,
        ended: watch::Receiver<Option<End>>,
    ) -> Self {
        Self {
            id: record.id.clone(),
            plan: Arc::clone(&record.plan),
            group,
            ended,
            meter: Meter::default(),
        }
    }

    /// Comes back when it has ended.
    pub(crate) async fn wait_for_end(&self) {
        let mut ended = self.ended.clone();
        // The sender goes away with the pod, and then it has ended as well.
        let _gone = ended.wait_for(Option::is_some).await;
    }

    /// Whether it has ended.
    pub(crate) fn has_ended(&self) -> bool {
        self.ended.borrow().is_some()
    }
}

/// A container as clients see it.
pub(crate) fn status(
    record: &ContainerRecord,
    state: ContainerState,
    pid: Option<i32>,
) -> ContainerStatus {
    let end = record.end.as_ref();
    ContainerStatus {
        id: record.id.clone(),
        pod_id: record.pod_id.clone(),
        spec: Arc::clone(&record.spec),
        state,
        created_at: record.created_at,
        started_at: record.started_at,
        finished_at: end.map_or(0, |end| end.finished_at),
        exit_code: end.map_or(0, |end| end.code),
        reason: end.map(|end| end.reason),
        message: end.map_or_else(String::new, |end| end.message.clone()),
        image_id: record.image_id.clone(),
        image_ref: record.image_ref.clone(),
        image_name: record.image_name.clone(),
        log_path: record.plan.stdio.log_path.as_ref().map(PathBuf::from),
        user: record.plan.process.user.clone(),
        stop_signal: record.plan.stop_signal,
        resources: record.resources.clone(),
        pid,
    }
}
