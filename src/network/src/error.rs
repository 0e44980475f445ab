//! What can go wrong, one variant per decision the caller can make.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// A verb of the CNI protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verb {
    /// Attach a pod to the network.
    Add,
    /// Undo ADD; may be repeated.
    Del,
    /// Is the attachment as ADD left it?
    Check,
    /// Can the plugin serve ADD now?
    Status,
    /// Release what belongs to no valid attachment.
    Gc,
    /// Which versions of the specification does the plugin speak?
    Version,
}

impl Verb {
    /// The value of `CNI_COMMAND`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Add => "ADD",
            Self::Del => "DEL",
            Self::Check => "CHECK",
            Self::Status => "STATUS",
            Self::Gc => "GC",
            Self::Version => "VERSION",
        }
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// How a plugin failed: the error object of the CNI specification and what else is known.
#[derive(Debug, Clone)]
pub struct PluginFailure {
    /// The plugin's type, which is its file name.
    pub plugin: String,
    /// What it was asked to do.
    pub verb: Verb,
    /// The network's name.
    pub network: String,
    /// The error code; `None` if the plugin wrote no error object.
    pub code: Option<u32>,
    /// The plugin's short message, or how it ended.
    pub message: String,
    /// The plugin's long message, empty if none.
    pub details: String,
    /// The first lines of its standard error, printable, empty if none.
    pub stderr: String,
    /// How long it ran.
    pub after: Duration,
}

impl fmt::Display for PluginFailure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "CNI plugin {:?} failed {} for network {:?} after {:.2} s",
            self.plugin,
            self.verb,
            self.network,
            self.after.as_secs_f64()
        )?;
        if let Some(code) = self.code {
            write!(formatter, " (code {code}{})", meaning(code))?;
        }
        write!(formatter, ": {}", self.message)?;
        if !self.details.is_empty() {
            write!(formatter, "; {}", self.details)?;
        }
        if !self.stderr.is_empty() {
            write!(formatter, "; it wrote: {}", self.stderr)?;
        }
        Ok(())
    }
}

/// The well-known error codes (CNI specification 1.1.0, section "Error").
fn meaning(code: u32) -> &'static str {
    match code {
        1 => ", incompatible CNI version",
        2 => ", unsupported field in the configuration",
        3 => ", unknown container",
        4 => ", invalid environment",
        5 => ", input or output failed",
        6 => ", failed to decode",
        7 => ", invalid network configuration",
        11 => ", try again later",
        50 => ", plugin not available",
        51 => ", plugin not available and pods have limited connectivity",
        _ => "",
    }
}

/// An error of this room.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No network is configured yet.
    #[error(
        "no CNI configuration in {}: put a *.conflist there (a network add-on usually does)", .0.display()
    )]
    NoConfiguration(PathBuf),

    /// A configuration file that cannot be used.
    #[error("bad CNI configuration {}: {why}", file.display())]
    BadConfiguration {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        why: String,
    },

    /// A plugin is not in any of the directories, or cannot be executed.
    #[error(
        "CNI plugin {plugin:?} is not an executable file in {}: install it there",
        list(bin_dirs)
    )]
    PluginMissing {
        /// The plugin's type, which is its file name.
        plugin: String,
        /// Where it was looked for.
        bin_dirs: Vec<PathBuf>,
    },

    /// The plugin is there, but could not be started.
    #[error("cannot start CNI plugin {} for {verb}: {source}", program.display())]
    PluginStart {
        /// The plugin's file.
        program: PathBuf,
        /// What it was to do.
        verb: Verb,
        /// The system's answer.
        source: io::Error,
    },

    /// The plugin ended with an error.
    #[error("{0}")]
    PluginFailed(Box<PluginFailure>),

    /// The plugin did not end in time; its process group was killed.
    #[error(
        "CNI plugin {plugin:?} did not finish {verb} for network {network:?} in {:.1} s and was killed{}",
        after.as_secs_f64(), wrote(stderr)
    )]
    PluginTimeout {
        /// The plugin's type.
        plugin: String,
        /// What it was asked to do.
        verb: Verb,
        /// The network's name.
        network: String,
        /// The time it was given.
        after: Duration,
        /// The first lines of its standard error, printable, empty if none.
        stderr: String,
    },

    /// The plugin said it succeeded, but what it wrote is not an answer.
    #[error(
        "CNI plugin {plugin:?} answered {verb} for network {network:?} with something unusable: {why}"
    )]
    BadAnswer {
        /// The plugin's type.
        plugin: String,
        /// What it was asked to do.
        verb: Verb,
        /// The network's name.
        network: String,
        /// What is wrong with the answer.
        why: String,
    },

    /// The caller's request cannot be put to a plugin.
    #[error("invalid network attachment: {0}")]
    InvalidAttachment(String),

    /// ADD was done, or begun, for this sandbox before; detach it first.
    #[error("sandbox {0} is attached to the network already: detach it first")]
    AlreadyAttached(String),

    /// CHECK of a sandbox that is not attached.
    #[error("sandbox {0} is not attached to any network")]
    NotAttached(String),

    /// Waited too long for other operations to finish.
    #[error("waited {:.1} s {stage}: too many CNI operations are running or hang", after.as_secs_f64())]
    Busy {
        /// What was waited for.
        stage: &'static str,
        /// For how long.
        after: Duration,
    },

    /// No configuration can be made from the template.
    #[error("the CNI configuration template {}: {why}", template.display())]
    Template {
        /// The template's file.
        template: PathBuf,
        /// What is wrong with it.
        why: String,
    },

    /// Our own records or directories failed.
    #[error("{doing} {}: {source}", path.display())]
    Io {
        /// What was being done.
        doing: &'static str,
        /// With which file or directory.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
}

impl Error {
    /// The same request may succeed in a moment (the plugin's code 11, a timeout, a queue).
    pub fn is_transient(&self) -> bool {
        match self {
            Self::PluginFailed(failure) => matches!(failure.code, Some(11 | 50 | 51)),
            Self::PluginTimeout { .. } | Self::Busy { .. } => true,
            _ => false,
        }
    }

    pub(crate) fn io(doing: &'static str, path: impl Into<PathBuf>, source: io::Error) -> Self {
        Self::Io {
            doing,
            path: path.into(),
            source,
        }
    }
}

fn wrote(stderr: &str) -> String {
    if stderr.is_empty() {
        String::new()
    } else {
        format!("; it wrote: {stderr}")
    }
}

fn list(dirs: &[PathBuf]) -> String {
    if dirs.is_empty() {
        return "any directory (bin_dirs is empty)".to_owned();
    }
    let dirs: Vec<_> = dirs.iter().map(|dir| dir.display().to_string()).collect();
    dirs.join(" or ")
}

/// The result of this room's operations.
pub type Result<T, E = Error> = std::result::Result<T, E>;
