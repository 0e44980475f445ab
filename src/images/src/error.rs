//! What can go wrong with an image, one variant per decision a caller can make.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// The result of everything in this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why an image operation failed.
///
/// Cheap to clone: everybody who waited for the same pull gets the same error. Messages name the
/// thing, what is wrong with it and where; they never hold credentials or URL queries.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The image, layer or container is not here (or not in the registry).
    #[error("{what} not found{detail}")]
    NotFound {
        /// The thing that was asked for.
        what: String,
        /// Where it was looked for; starts with a separator, or is empty.
        detail: String,
    },
    /// The text is no image reference, or names more than one image.
    #[error("invalid image reference {reference:?}: {reason}")]
    InvalidReference {
        /// The text as it was given.
        reference: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The registry wants credentials, or refuses those it got.
    #[error("registry {host} refused access to {what}: {reason}")]
    Unauthorized {
        /// The host that refused.
        host: String,
        /// The repository or blob.
        what: String,
        /// What it answered, or what was missing.
        reason: String,
    },
    /// No registry host could be used; trying again later may help.
    #[error("registry unavailable: {0}")]
    Unavailable(String),
    /// Something did not answer or did not move in time.
    #[error("{stage} made no progress for {}", seconds(*waited))]
    DeadlineExceeded {
        /// What was being waited for, with the host.
        stage: String,
        /// How long.
        waited: Duration,
    },
    /// The bytes are not what their digest, size or format says.
    #[error("{what} is corrupt: {reason}")]
    Corrupt {
        /// The document, blob or layer.
        what: String,
        /// What does not fit.
        reason: String,
    },
    /// The file system of the store is full.
    #[error("no space left on the file system of {} while writing {what}; free space there or move the store", path.display())]
    NoSpace {
        /// The store's root.
        path: PathBuf,
        /// What was being written.
        what: String,
    },
    /// A valid request for something that this crate or kernel does not do.
    #[error("{0}")]
    Unsupported(String),
    /// A configuration file (`hosts.toml`) is wrong.
    #[error("{}: {reason}", file.display())]
    Configuration {
        /// The file, as given.
        file: PathBuf,
        /// The line and what is wrong in it.
        reason: String,
    },
    /// The pull was given up because nobody waits for it any more.
    #[error("pull of {0} was cancelled")]
    Cancelled(String),
    /// A system call on the store failed.
    #[error("{what}: {source}")]
    Io {
        /// What was being done, to which file.
        what: String,
        /// The system's answer.
        source: Arc<std::io::Error>,
    },
}

// === impl Error ===

impl Error {
    /// The message without the words that say its kind, where another error of
    /// that kind is made from it.
    pub(crate) fn cause(&self) -> String {
        match self {
            Self::Unavailable(cause) => cause.clone(),
            other => other.to_string(),
        }
    }

    /// A system error with its context. ENOSPC and EDQUOT become [`Error::NoSpace`].
    pub(crate) fn io(what: impl Into<String>, source: impl Into<std::io::Error>) -> Self {
        let (what, source) = (what.into(), source.into());
        match source.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => Self::NoSpace {
                path: PathBuf::new(),
                what,
            },
            _ => Self::Io {
                what,
                source: Arc::new(source),
            },
        }
    }

    /// Names the store in a [`Error::NoSpace`] that was made where the path was not known.
    #[must_use]
    pub(crate) fn in_store(self, root: &Path) -> Self {
        match self {
            Self::NoSpace { path, what } if path.as_os_str().is_empty() => Self::NoSpace {
                path: root.to_owned(),
                what,
            },
            other => other,
        }
    }

    pub(crate) fn corrupt(what: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Corrupt {
            what: what.into(),
            reason: reason.into(),
        }
    }

    pub(crate) fn not_found(what: impl Into<String>) -> Self {
        Self::NotFound {
            what: what.into(),
            detail: String::new(),
        }
    }
}

/// Adds context to a system error.
pub(crate) trait IoContext<T> {
    fn context(self, what: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: Into<std::io::Error>> IoContext<T> for std::result::Result<T, E> {
    fn context(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|error| Error::io(what(), error))
    }
}

fn seconds(waited: Duration) -> String {
    format!("{:.1} s", waited.as_secs_f64())
}
