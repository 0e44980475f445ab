//! Why a measurement could not be made.

use std::path::PathBuf;

/// A failed measurement. None of them is a figure: the run ends and says which step failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No connection to the runtime.
    #[error("cannot connect to {endpoint}: {source}: is the runtime running?")]
    Connect {
        /// The socket as given.
        endpoint: String,
        /// What the transport said.
        source: tonic::transport::Error,
    },
    /// A call that the runtime refused or did not answer in time.
    #[error("{call}: {status}")]
    Call {
        /// Name of the method.
        call: &'static str,
        /// The runtime's answer.
        status: Box<tonic::Status>,
    },
    /// A file, directory or process that could not be used.
    #[error("{what} {}: {source}", path.display())]
    File {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// How it failed.
        source: std::io::Error,
    },
    /// The runtime answered, but not with what a measurement can be made of.
    #[error("{0}")]
    Unexpected(String),
}

/// What a step of the benchmark gives.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An error of a file operation.
    pub fn file(what: &'static str, path: impl Into<PathBuf>, source: std::io::Error) -> Self {
        Self::File {
            what,
            path: path.into(),
            source,
        }
    }
}
