//! Records of attachments, kept so that every ADD can be undone.
//!
//! A sandbox has up to two files in the state directory. `<id>.json` is written before the first
//! plugin runs, holds all that DEL needs, and is never written again. `<id>.result` holds the
//! result of a completed ADD; to lose it costs `prevResult`, never an address.

mod store;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

pub(crate) use self::store::Store;
use crate::attachment::{CapabilityArgs, PodIdentity};
use crate::conf::NetworkConf;
use crate::plugin::is_namespace;

/// The version of the record's format.
const FORMAT: u32 = 1;

/// What was asked of the plugins.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Record {
    format: u32,
    pub(crate) container_id: String,
    pub(crate) pod: PodIdentity,
    pub(crate) interface: String,
    pub(crate) netns: Netns,
    pub(crate) args: String,
    pub(crate) capability_args: CapabilityArgs,
    pub(crate) network: NetworkConf,
}

/// A network namespace and what tells it from a later one of the same path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Netns {
    pub(crate) path: PathBuf,
    device: u64,
    inode: u64,
    boot_id: String,
}

impl Netns {
    /// The namespace that is at `path` now.
    pub(crate) fn at(path: &Path) -> Self {
        let (device, inode) =
            rustix::fs::stat(path).map_or((0, 0), |found| (found.st_dev, found.st_ino));
        Self {
            path: path.to_owned(),
            device,
            inode,
            boot_id: std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
                .map(|id| id.trim().to_owned())
                .unwrap_or_default(),
        }
    }

    /// The path if the same namespace is still there, else the empty path.
    pub(crate) fn still_there(&self) -> PathBuf {
        if is_namespace(&self.path) && Self::at(&self.path) == *self {
            self.path.clone()
        } else {
            PathBuf::new()
        }
    }
}

impl Record {
    pub(crate) fn new(
        container_id: String,
        pod: PodIdentity,
        interface: &str,
        netns: &Path,
        args: String,
        capability_args: CapabilityArgs,
        network: NetworkConf,
    ) -> Self {
        Self {
            format: FORMAT,
            container_id,
            pod,
            interface: interface.to_owned(),
            netns: Netns::at(netns),
            args,
            capability_args,
            network,
        }
    }
}

/// A record and the result of its ADD, if that completed.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    pub(crate) record: Record,
    pub(crate) result: Option<Box<RawValue>>,
}
