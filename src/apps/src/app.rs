//! The app: what a definition says, checked and typed.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use crate::networking::{Declared, PortRequest};

/// Longest app id, in bytes: what is made of it has to fit into a file name.
const MAX_ID: usize = 200;

/// Name of an app: an absolute path of segments such as `/prod/redis`.
///
/// A segment has lower-case letters, digits, dots and dashes, and starts and ends with a letter
/// or digit (Marathon's rule for ids). A leading slash may be left out when parsing.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AppId(String);

impl AppId {
    /// With its leading slash.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Segments joined by dashes, as for a pod's name: `prod-redis`. Two ids can share one.
    pub fn pod_name(&self) -> String {
        self.0.trim_start_matches('/').replace('/', "-")
    }
}

impl fmt::Display for AppId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A text that is not an app id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "an app id is a path such as /prod/redis: lower-case letters, digits, dashes and dots, \
     at most 200 bytes"
)]
pub struct NotAnAppId;

impl FromStr for AppId {
    type Err = NotAnAppId;

    fn from_str(text: &str) -> Result<Self, NotAnAppId> {
        let path = text.strip_prefix('/').unwrap_or(text);
        if path.len() > MAX_ID || !path.split('/').all(is_segment) {
            return Err(NotAnAppId);
        }
        Ok(Self(format!("/{path}")))
    }
}

fn is_segment(segment: &str) -> bool {
    let alphanumeric = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    segment.starts_with(alphanumeric)
        && segment.ends_with(alphanumeric)
        && segment
            .chars()
            .all(|c| alphanumeric(c) || c == '-' || c == '.')
        && !segment.contains("..")
}

/// What the app starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// The image's entrypoint and command.
    OfImage,
    /// A line for `/bin/sh -c`, instead of both.
    Shell(String),
    /// Arguments for the image's entrypoint, instead of its command.
    Arguments(Vec<String>),
}

/// Processor time the app may use.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum CpuLimit {
    /// As much as is free: `cpus` is only its share when processors are busy.
    SharesOnly,
    /// At most this many processors.
    Processors(f64),
}

/// Memory the app may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemoryLimit {
    /// No limit.
    Unlimited,
    /// At most this many bytes.
    Bytes(u64),
}

/// Who the app runs as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunAs {
    /// The image's user.
    OfImage,
    /// A numeric id, and a group if given.
    Ids {
        /// User.
        uid: u32,
        /// Group.
        gid: Option<u32>,
    },
    /// A name to be looked up in the image.
    Name(String),
}

/// A directory or file of the host in the container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// Absolute path in the container.
    pub container_path: String,
    /// Absolute path on the host.
    pub host_path: String,
    /// Whether the app may only read it.
    pub read_only: bool,
}

/// Settings of the container that definitions give as Docker options.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ContainerSettings {
    /// Everything of the host, with all capabilities.
    pub privileged: bool,
    /// Capabilities to add, without `CAP_`.
    pub add_capabilities: Vec<String>,
    /// Capabilities to drop, without `CAP_`.
    pub drop_capabilities: Vec<String>,
    /// Host devices: path on the host, path in the container, permissions of `rwm`.
    pub devices: Vec<(String, String, String)>,
    /// Host name in the pod; the pod's name if absent.
    pub hostname: Option<String>,
    /// Name servers, search domains and options, if any were given.
    pub dns: Option<(Vec<String>, Vec<String>, Vec<String>)>,
    /// Sysctls of the pod's namespaces.
    pub sysctls: BTreeMap<String, String>,
    /// The root file system is read-only.
    pub read_only_root: bool,
    /// Executing a set-user-id file gains nothing.
    pub no_new_privileges: bool,
    /// Working directory, instead of the image's.
    pub working_directory: Option<String>,
}

/// A validated app definition.
#[derive(Debug, Clone, PartialEq)]
pub struct App {
    /// Name.
    pub id: AppId,
    /// What it starts.
    pub command: Command,
    /// Image reference as written, not yet normalized.
    pub image: String,
    /// Ask the registry even if the image is there.
    pub force_pull: bool,
    /// Weight in processors, at least 0.001.
    pub cpus: f64,
    /// Limit of processor time.
    pub cpu_limit: CpuLimit,
    /// MiB asked for.
    pub memory_mib: f64,
    /// Limit of memory.
    pub memory_limit: MemoryLimit,
    /// MiB of disk asked for. Not enforced.
    pub disk_mib: f64,
    /// How many copies to run, at least one.
    pub instances: u32,
    /// Environment; may override every variable that is set for the app.
    pub environment: BTreeMap<String, String>,
    /// Labels of the app.
    pub labels: BTreeMap<String, String>,
    /// Who it runs as.
    pub run_as: RunAs,
    /// Whether it has a terminal.
    pub tty: bool,
    /// Seconds between the stop signal and SIGKILL.
    pub kill_grace_seconds: u32,
    /// Directories and files of the host.
    pub volumes: Vec<Volume>,
    /// The network it asks for.
    pub declared: Declared,
    /// Ports it asks for. `None` if the definition does not say.
    pub ports: Option<Vec<PortRequest>>,
    /// Docker options.
    pub settings: ContainerSettings,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids() {
        for (text, want) in [
            ("/redis", Some("/redis")),
            ("redis", Some("/redis")),
            ("/prod/eu-1/redis.cache", Some("/prod/eu-1/redis.cache")),
            ("", None),
            ("/", None),
            ("//redis", None),
            ("/redis/", None),
            ("/../redis", None),
            ("/a..b", None),
            ("/Redis", None),
            ("/-redis", None),
            ("/red is", None),
            ("/r\u{e9}dis", None),
        ] {
            assert_eq!(
                text.parse::<AppId>().ok().as_ref().map(AppId::as_str),
                want,
                "{text:?}"
            );
        }
        assert!("a".repeat(200).parse::<AppId>().is_ok());
        assert!("a".repeat(201).parse::<AppId>().is_err());
    }
}
