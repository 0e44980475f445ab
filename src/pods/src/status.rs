//! What is known about pods and containers, as clients see it.

use crate::ids::{ContainerId, PodId};
use insula_isolators::spec::{ContainerSpec, PodSpec, Resources};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

/// Everything known about a pod at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct PodStatus {
    /// Its id.
    pub id: PodId,
    /// What was asked for.
    pub spec: Arc<PodSpec>,
    /// Whether it works.
    pub state: PodState,
    /// Nanoseconds since the epoch.
    pub created_at: i64,
    /// Its addresses, the primary one first; empty on the host's network.
    pub ips: Vec<IpAddr>,
    /// File that names its network namespace; `None` on the host's network.
    pub network_namespace: Option<PathBuf>,
    /// Process id of its supervisor; `None` when that has ended.
    pub supervisor: Option<i32>,
    /// Why it is not ready, in one word; empty when it is.
    pub reason: String,
    /// Why it is not ready, for people; empty when it is.
    pub message: String,
    /// cgroup around those of its containers, below each hierarchy's root.
    pub cgroup_path: String,
    /// Resources and overhead as last told by `update_sandbox_resources`, else
    /// those of the spec.
    pub resources: Option<Resources>,
    /// See [`resources`](Self::resources).
    pub overhead: Option<Resources>,
}

/// Whether a pod works (CRI `PodSandboxState`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PodState {
    /// Its namespaces and its supervisor exist.
    Ready,
    /// It was stopped, or its supervisor died.
    NotReady,
}

/// Everything known about a container at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct ContainerStatus {
    /// Its id.
    pub id: ContainerId,
    /// Its pod.
    pub pod_id: PodId,
    /// What was asked for.
    pub spec: Arc<ContainerSpec>,
    /// Where it is in its life.
    pub state: ContainerState,
    /// Nanoseconds since the epoch.
    pub created_at: i64,
    /// Nanoseconds since the epoch; 0 when it never ran.
    pub started_at: i64,
    /// Nanoseconds since the epoch; 0 until it has ended.
    pub finished_at: i64,
    /// Exit status, or 128 + signal number; 0 until it has ended.
    pub exit_code: i32,
    /// Why it ended.
    pub reason: Option<ExitReason>,
    /// More about why, for people.
    pub message: String,
    /// The image's id, the digest of its configuration.
    pub image_id: String,
    /// The image's repository digest, or its id where it has none; never empty.
    pub image_ref: String,
    /// A name of the image for people; the client's own where it has none.
    pub image_name: String,
    /// Absolute path of the log; `None` when it is discarded.
    pub log_path: Option<PathBuf>,
    /// Numeric rights of its first process.
    pub user: insula_wire::plan::User,
    /// signal(7) number that asks it to end.
    pub stop_signal: i32,
    /// Resources in force: those of the spec with every update on top.
    pub resources: Resources,
    /// Process id of its main process as the host sees it; `None` when it has
    /// none.
    pub pid: Option<i32>,
}

/// Where a container is in its life (CRI `ContainerState`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ContainerState {
    /// Complete but for its execve(2).
    Created,
    /// Its program runs.
    Running,
    /// It has ended.
    Exited,
    /// Its supervisor does not say.
    Unknown,
}

/// Why a container ended: the words kubelet and people look for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExitReason {
    /// Exit status 0.
    Completed,
    /// Any other.
    Error,
    /// The kernel killed a process of it for want of memory.
    #[serde(rename = "OOMKilled")]
    OomKilled,
    /// Its program could not be started (exit status 128).
    StartError,
    /// Its program does not exist or cannot be executed (exit status 127 or
    /// 126 in a shell; 128 here).
    ContainerCannotRun,
}

/// Whether the runtime and its network can serve (CRI `RuntimeStatus`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuntimeStatus {
    /// Pods can be made.
    pub runtime: Condition,
    /// Pods can be attached to a network.
    pub network: Condition,
}

/// One condition of [`RuntimeStatus`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// Whether it holds.
    pub ready: bool,
    /// One word; empty when it holds.
    pub reason: String,
    /// For people; empty when it holds.
    pub message: String,
}

// === impl ContainerState ===

impl ContainerState {
    /// In words, as they follow "it is".
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created but not started",
            Self::Running => "running",
            Self::Exited => "exited",
            Self::Unknown => "in an unknown state",
        }
    }
}

// === impl ExitReason ===

impl ExitReason {
    /// The text in a container's status.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Completed => "Completed",
            Self::Error => "Error",
            Self::OomKilled => "OOMKilled",
            Self::StartError => "StartError",
            Self::ContainerCannotRun => "ContainerCannotRun",
        }
    }
}

impl fmt::Display for ExitReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

// === impl Condition ===

impl Condition {
    /// It holds.
    pub fn holds() -> Self {
        Self {
            ready: true,
            reason: String::new(),
            message: String::new(),
        }
    }

    /// It does not.
    pub fn fails(reason: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            ready: false,
            reason: reason.into(),
            message: message.into(),
        }
    }
}
