//! Where things are, below the daemon's two directories.
//!
//! ```text
//! <state>/pods/<pod>/pod.json  lock  sock  messages
//!                    files/{hosts,hostname,resolv.conf}
//!                    containers/<container>/{container.json,exit.json}
//!                    containers/<container>/bundle/{config.json,rootfs}
//! <state>/netns/<pod>
//! <root>/volumes/<container>/<n>
//! ```

use crate::ids::{ContainerId, PodId};
use std::path::{Path, PathBuf};

/// The daemon's two directories.
#[derive(Debug, Clone)]
pub(crate) struct Paths {
    state: PathBuf,
    root: PathBuf,
}

/// One pod's directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PodDirectory(PathBuf);

// === impl Paths ===

impl Paths {
    pub(crate) fn new(state: &Path, root: &Path) -> Self {
        Self {
            state: state.to_owned(),
            root: root.to_owned(),
        }
    }

    pub(crate) fn pods(&self) -> PathBuf {
        self.state.join("pods")
    }

    /// Records that could not be read are moved here.
    pub(crate) fn set_aside(&self) -> PathBuf {
        self.state.join("unreadable")
    }

    pub(crate) fn pod(&self, id: &PodId) -> PodDirectory {
        PodDirectory(self.pods().join(id.as_str()))
    }

    pub(crate) fn network_namespaces(&self) -> PathBuf {
        self.state.join("netns")
    }

    pub(crate) fn network_namespace(&self, id: &PodId) -> PathBuf {
        self.network_namespaces().join(id.as_str())
    }

    pub(crate) fn volumes(&self) -> PathBuf {
        self.root.join("volumes")
    }

    pub(crate) fn container_volumes(&self, id: &ContainerId) -> PathBuf {
        self.volumes().join(id.as_str())
    }
}

// === impl PodDirectory ===

impl PodDirectory {
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn record(&self) -> PathBuf {
        self.0.join("pod.json")
    }

    pub(crate) fn lock(&self) -> PathBuf {
        self.0.join("lock")
    }

    /// What the supervisor says when it cannot say it to the daemon.
    pub(crate) fn messages(&self) -> PathBuf {
        self.0.join("messages")
    }

    pub(crate) fn files(&self) -> PathBuf {
        self.0.join("files")
    }

    pub(crate) fn containers(&self) -> PathBuf {
        self.0.join("containers")
    }

    pub(crate) fn container(&self, id: &ContainerId) -> PathBuf {
        self.containers().join(id.as_str())
    }

    pub(crate) fn container_record(&self, id: &ContainerId) -> PathBuf {
        self.container(id).join("container.json")
    }

    /// What hooks are shown, where a container has some.
    pub(crate) fn bundle(&self, id: &ContainerId) -> PathBuf {
        self.container(id).join("bundle")
    }

    pub(crate) fn exit_record(&self, id: &ContainerId) -> PathBuf {
        self.container(id).join("exit.json")
    }
}
