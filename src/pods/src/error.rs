//! What can go wrong, by what the caller can do about it.

use std::sync::Arc;
use std::time::Duration;

/// What the operations of this room give back.
pub type Result<T> = std::result::Result<T, Error>;

/// An operation on a pod or a container failed.
///
/// It can be cloned because several callers may have joined one operation.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// There is no such pod, container or image.
    #[error("{what} {id:?} does not exist")]
    NotFound {
        /// `pod`, `container` or `image`.
        what: &'static str,
        /// What was asked for.
        id: String,
    },
    /// The request itself is wrong; repeating it will not help.
    #[error("{0}")]
    InvalidArgument(String),
    /// The name belongs to another pod or container.
    #[error(
        "the name {name} is in use by {what} {holder}, {why}: remove that one first, or use another attempt number"
    )]
    AlreadyExists {
        /// `pod` or `container`.
        what: &'static str,
        /// The name that is taken.
        name: String,
        /// Id of its holder.
        holder: String,
        /// Why the holder's id is no answer.
        why: &'static str,
    },
    /// It is not in a state that allows this.
    #[error("{0}")]
    FailedPrecondition(String),
    /// Something did not happen in time.
    #[error("{stage} was not done after {:.1} s", after.as_secs_f64())]
    DeadlineExceeded {
        /// What was waited for.
        stage: String,
        /// How long.
        after: Duration,
    },
    /// This build does not do that.
    #[error("{0}")]
    Unimplemented(String),
    /// Disk, memory, processes or a queue are full.
    #[error("{0}")]
    ResourceExhausted(String),
    /// An operation that the caller had joined or started was given up because
    /// its pod is being stopped.
    #[error("{0}")]
    Aborted(String),
    /// A container's program cannot be executed.
    #[error("container {container} cannot be started: {message}")]
    CannotRun {
        /// The container.
        container: String,
        /// The step, the system call and the error.
        message: String,
    },
    /// The image store failed.
    #[error("{stage}: {source}")]
    Images {
        /// What was being done.
        stage: &'static str,
        /// Why it failed.
        source: Cause,
    },
    /// The network failed.
    #[error("{stage}: {source}")]
    Network {
        /// What was being done.
        stage: &'static str,
        /// Why it failed.
        source: Cause,
    },
    /// The system failed.
    #[error("{stage}: {message}")]
    Internal {
        /// What was being done.
        stage: String,
        /// What failed, with all its arguments.
        message: String,
    },
}

/// The error of another room, shared by all who wait for one operation.
#[derive(Debug, Clone)]
pub struct Cause(Arc<dyn std::error::Error + Send + Sync>);

// === impl Error ===

impl Error {
    /// The system failed during a stage.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "it is the last thing that is done with an error"
    )]
    pub(crate) fn internal(stage: impl Into<String>, message: impl ToString) -> Self {
        Self::Internal {
            stage: stage.into(),
            message: message.to_string(),
        }
    }

    /// No such pod.
    pub(crate) fn no_pod(id: impl Into<String>) -> Self {
        Self::NotFound {
            what: "pod",
            id: id.into(),
        }
    }

    /// No such container.
    pub(crate) fn no_container(id: impl Into<String>) -> Self {
        Self::NotFound {
            what: "container",
            id: id.into(),
        }
    }

    /// Whether the thing asked for does not exist.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound { .. })
    }
}

// === impl Cause ===

impl Cause {
    /// Wraps an error of another room.
    pub fn new(error: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self(Arc::new(error))
    }

    /// The error of the other room, if it is of that type.
    pub fn downcast_ref<T: std::error::Error + 'static>(&self) -> Option<&T> {
        self.0.downcast_ref()
    }
}

impl std::fmt::Display for Cause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for Cause {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source()
    }
}
