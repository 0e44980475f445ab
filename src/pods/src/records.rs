//! Records of pods and containers: what a daemon that starts must know.
//!
//! JSON that a person can read, on a tmpfs: a reboot voids it, as it does the
//! pods. Each record carries its format's version and the boot it belongs to.
//! A record that cannot be used is moved aside and reported; it never stops
//! anything.

use crate::error::Result;
use crate::files;
use crate::ids::{ContainerId, PodId};
use crate::paths::Paths;
use crate::status::{ExitReason, PodState};
use insula_isolators::spec::{ContainerSpec, PodSpec, Resources};
use insula_wire::LaunchPlan;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fs::TryLockError;
use std::io::ErrorKind;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

#[cfg(test)]
mod tests;

/// Version of the records that are written here.
const VERSION: u32 = 1;

/// Most bytes that are read of one record: a plan with thousands of mounts and
/// a large environment fits many times.
const LIMIT: u64 = 16 << 20;

/// A pod on record.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct PodRecord {
    pub(crate) id: PodId,
    pub(crate) spec: Arc<PodSpec>,
    /// How far it got.
    pub(crate) progress: Progress,
    pub(crate) created_at: i64,
    pub(crate) ips: Vec<IpAddr>,
    pub(crate) hostname: String,
    /// Below each hierarchy's root.
    pub(crate) cgroup_path: String,
    /// Groups around the containers' that were made for this pod, outermost
    /// first; removed with it when they are empty.
    pub(crate) made_cgroups: Vec<String>,
    pub(crate) reason: String,
    pub(crate) message: String,
    pub(crate) resources: Option<Resources>,
    pub(crate) overhead: Option<Resources>,
    /// Reserved for as long as the pod is on record.
    pub(crate) selinux_level: Option<String>,
}

/// How far a pod got.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Progress {
    /// It is being made; nobody was told of it. Undone at a restart.
    Making,
    /// It exists.
    Ready,
    /// Its end was asked for, and may have begun: nothing new is made in it.
    Closed,
    /// Its supervisor died; the network is still attached.
    Broken,
    /// It was stopped: containers ended, network detached, supervisor gone.
    Stopped,
}

/// A container on record.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct ContainerRecord {
    pub(crate) id: ContainerId,
    pub(crate) pod_id: PodId,
    pub(crate) spec: Arc<ContainerSpec>,
    pub(crate) plan: Arc<LaunchPlan>,
    pub(crate) image_id: String,
    pub(crate) image_ref: String,
    pub(crate) image_name: String,
    pub(crate) created_at: i64,
    /// 0 until it ran.
    pub(crate) started_at: i64,
    pub(crate) resources: Resources,
    /// How it ended, as it was told last.
    pub(crate) end: Option<End>,
}

/// How a container ended, in a client's words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct End {
    pub(crate) code: i32,
    pub(crate) finished_at: i64,
    pub(crate) reason: ExitReason,
    pub(crate) message: String,
}

/// What was found when the daemon started.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) pods: Vec<(PodRecord, Vec<ContainerRecord>)>,
    /// Records that were moved aside, and why.
    pub(crate) set_aside: Vec<(PathBuf, String)>,
    /// Pods whose records were moved aside, now or earlier.
    pub(crate) aside_pods: BTreeSet<PodId>,
    /// Containers of which the same is true.
    pub(crate) aside_containers: BTreeSet<ContainerId>,
}

/// Reads and writes records.
#[derive(Debug, Clone)]
pub(crate) struct Records {
    paths: Paths,
    boot_id: Arc<str>,
}

#[derive(Serialize)]
struct Written<'a, T> {
    version: u32,
    boot_id: &'a str,
    #[serde(flatten)]
    content: &'a T,
}

/// Why a record cannot be used.
#[derive(Debug, thiserror::Error)]
enum Unusable {
    #[error("it is of another boot of this machine")]
    OtherBoot,
    #[error("it is not there, and the pod's supervisor runs")]
    Missing,
    #[error("{0}")]
    Because(String),
}

#[derive(Deserialize)]
struct Heading {
    version: u32,
    boot_id: String,
}

// === impl Progress ===

impl Progress {
    pub(crate) fn state(self) -> PodState {
        match self {
            Self::Ready => PodState::Ready,
            Self::Making | Self::Closed | Self::Broken | Self::Stopped => PodState::NotReady,
        }
    }

    /// Whether its containers have no supervisor any more.
    pub(crate) fn has_ended(self) -> bool {
        matches!(self, Self::Broken | Self::Stopped)
    }
}

// === impl End ===

impl End {
    /// From the supervisor's words.
    pub(crate) fn from_exit(exit: &insula_wire::message::Exit) -> Self {
        let (reason, mut message) = match exit.code {
            _ if exit.oom_killed => (
                ExitReason::OomKilled,
                "a process of the container was killed because its memory limit was reached"
                    .to_owned(),
            ),
            0 => (ExitReason::Completed, String::new()),
            _ => (ExitReason::Error, String::new()),
        };
        if exit.output_cut {
            if !message.is_empty() {
                message.push_str("; ");
            }
            message.push_str("the end of its output is not in the log: other processes held the pipe for more than a second");
        }
        Self {
            code: exit.code,
            finished_at: exit.finished_at,
            reason,
            message,
        }
    }

    /// Of a container whose supervisor died.
    pub(crate) fn orphaned() -> Self {
        Self {
            code: 137,
            finished_at: files::now(),
            reason: ExitReason::Error,
            message: "the pod's supervisor died, so the container was killed".to_owned(),
        }
    }
}

// === impl Records ===

impl Records {
    pub(crate) fn new(paths: Paths, boot_id: &str) -> Self {
        Self {
            paths,
            boot_id: boot_id.into(),
        }
    }

    /// Writes a pod's record.
    pub(crate) fn write_pod(&self, pod: &PodRecord) -> Result<()> {
        self.write(&self.paths.pod(&pod.id).record(), pod)
    }

    /// Writes a container's record.
    pub(crate) fn write_container(&self, container: &ContainerRecord) -> Result<()> {
        let directory = self.paths.pod(&container.pod_id);
        self.write(&directory.container_record(&container.id), container)
    }

    /// How a container ended, if its supervisor wrote that down. A record that
    /// cannot be read is none.
    pub(crate) fn exit(
        &self,
        pod: &PodId,
        container: &ContainerId,
    ) -> Option<insula_wire::message::Exit> {
        let path = self.paths.pod(pod).exit_record(container);
        let content = files::read_bounded(&path, LIMIT).ok()?;
        serde_json::from_slice(&content).ok()
    }

    /// Reads all records. What cannot be used is moved aside.
    pub(crate) fn read_all(&self) -> Result<Found> {
        let mut found = Found::default();
        for name in files::names_in(&self.paths.pods())? {
            let Ok(id) = PodId::parse(&name) else {
                self.set_aside(
                    &mut found,
                    &self.paths.pods().join(&name),
                    "it is not named by an id",
                );
                continue;
            };
            let directory = self.paths.pod(&id);
            match self.read::<PodRecord>(&directory.record()) {
                Ok(pod) if pod.id == id => {
                    let containers = self.read_containers(&mut found, &id)?;
                    found.pods.push((pod, containers));
                }
                Ok(pod) => {
                    let why = format!("its record is that of pod {}", pod.id);
                    self.set_aside(&mut found, directory.path(), &why);
                }
                Err(Unusable::OtherBoot) => {
                    // All that it tells of ended with that boot.
                    files::remove_tree(directory.path())?;
                }
                Err(Unusable::Missing) if !is_locked(&directory.lock()) => {
                    // It is written before anything else is made, and a pod's
                    // directory goes last: there is nothing to tell of.
                    files::remove_tree(directory.path())?;
                }
                Err(unusable) => {
                    self.set_aside(&mut found, directory.path(), &unusable.to_string());
                }
            }
        }
        self.read_aside(&mut found)?;
        Ok(found)
    }

    fn read_containers(&self, found: &mut Found, pod: &PodId) -> Result<Vec<ContainerRecord>> {
        let directory = self.paths.pod(pod);
        let mut containers = Vec::new();
        for name in files::names_in(&directory.containers())? {
            let path = directory.containers().join(&name);
            let Ok(id) = ContainerId::parse(&name) else {
                self.set_aside(found, &path, "it is not named by an id");
                continue;
            };
            let record = directory.container_record(&id);
            if !record.exists() {
                // It was being made; reconciling removes what there is of it.
                continue;
            }
            match self.read::<ContainerRecord>(&record) {
                Ok(container) if container.id == id && container.pod_id == *pod => {
                    containers.push(container);
                }
                Ok(_) => self.set_aside(found, &path, "its record is that of another container"),
                Err(unusable) => self.set_aside(found, &path, &unusable.to_string()),
            }
        }
        Ok(containers)
    }

    fn read<T: DeserializeOwned>(&self, path: &Path) -> std::result::Result<T, Unusable> {
        let because = |why: &dyn std::fmt::Display| Unusable::Because(why.to_string());
        let content = files::read_bounded(path, LIMIT).map_err(|error| match error.kind() {
            ErrorKind::NotFound => Unusable::Missing,
            _ => because(&error),
        })?;
        let heading: Heading = serde_json::from_slice(&content).map_err(|error| because(&error))?;
        if *heading.boot_id != *self.boot_id {
            return Err(Unusable::OtherBoot);
        }
        if heading.version != VERSION {
            return Err(because(&format_args!(
                "it is of version {}, this daemon reads {VERSION}",
                heading.version
            )));
        }
        serde_json::from_slice(&content).map_err(|error| because(&error))
    }

    /// What was moved aside may still run: nothing of it is to be swept away.
    fn read_aside(&self, found: &mut Found) -> Result<()> {
        for name in files::names_in(&self.paths.set_aside())? {
            let id = name.split('.').next().unwrap_or_default();
            found.aside_pods.extend(PodId::parse(id));
            found.aside_containers.extend(ContainerId::parse(id));
            let containers = self.paths.set_aside().join(&name).join("containers");
            for container in files::names_in(&containers)? {
                found
                    .aside_containers
                    .extend(ContainerId::parse(&container));
            }
        }
        Ok(())
    }

    fn write<T: Serialize>(&self, path: &Path, content: &T) -> Result<()> {
        let written = Written {
            version: VERSION,
            boot_id: &self.boot_id,
            content,
        };
        let json = serde_json::to_vec_pretty(&written)
            .map_err(|error| crate::Error::internal("write a record", error))?;
        files::write_atomically(path, &json, 0o600)
    }

    fn set_aside(&self, found: &mut Found, path: &Path, why: &str) {
        let parent = self.paths.set_aside();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let target = parent.join(format!("{name}.{}", files::now()));
        let moved = files::make_directory(&parent).and_then(|()| {
            std::fs::rename(path, &target)
                .map_err(|error| files::failed("move aside", path, &error))
        });
        match moved {
            Ok(()) => {
                tracing::warn!(path = %path.display(), aside = %target.display(), why, "record cannot be used and was moved aside");
            }
            Err(error) => {
                tracing::warn!(path = %path.display(), why, %error, "record cannot be used and could not be moved aside");
            }
        }
        found.set_aside.push((path.to_owned(), why.to_owned()));
    }
}

/// Whether a supervisor holds the lock of its pod's directory.
fn is_locked(path: &Path) -> bool {
    std::fs::File::open(path)
        .is_ok_and(|lock| matches!(lock.try_lock_shared(), Err(TryLockError::WouldBlock)))
}

/// Identifies this boot of the machine (`/proc/sys/kernel/random/boot_id`).
pub(crate) fn boot_id() -> Result<String> {
    let path = Path::new("/proc/sys/kernel/random/boot_id");
    let text =
        files::read_bounded(path, 64).map_err(|error| files::failed("read", path, &error))?;
    Ok(String::from_utf8_lossy(&text).trim().to_owned())
}
