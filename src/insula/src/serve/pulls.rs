//! Files that show how far the pulls in flight are: the CRI does not tell, and
//! a person at a terminal wants to see bars.
//!
//! `<state>/pulls/<sha256 of the reference>.json`, written whole and renamed at
//! most ten times a second, removed with the last call that waits.

use insula_images::{LayerState, Pull, PullProgress, Reference};
use insula_server::WatchPulls;
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use std::collections::HashMap;
use std::fs::DirBuilder;
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::task::AbortHandle;

/// Time between two looks at a pull.
const INTERVAL: Duration = Duration::from_millis(100);

/// The directory of progress files.
#[derive(Debug, Clone)]
pub(crate) struct PullFiles(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    directory: PathBuf,
    watched: Mutex<HashMap<String, Watched>>,
}

/// One file and its writer. Two calls for one image share it.
#[derive(Debug)]
struct Watched {
    calls: usize,
    writer: AbortHandle,
}

/// One call that waits for a pull.
#[derive(Debug)]
struct Waiting {
    files: PullFiles,
    name: String,
}

/// Content of a file.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Snapshot {
    reference: String,
    layers: Vec<Layer>,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
struct Layer {
    digest: String,
    total: u64,
    downloaded: u64,
    extracted: u64,
    state: &'static str,
}

// === impl PullFiles ===

impl PullFiles {
    /// Files in `<state>/pulls`, without those of a daemon that was killed.
    pub(crate) fn open(state: &Path) -> std::io::Result<Self> {
        let directory = state.join("pulls");
        match std::fs::remove_dir_all(&directory) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => DirBuilder::new().mode(0o700).create(&directory)?,
        }
        Ok(Self(Arc::new(Inner {
            directory,
            watched: Mutex::default(),
        })))
    }

    fn watched(&self) -> MutexGuard<'_, HashMap<String, Watched>> {
        self.0
            .watched
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.directory.join(format!("{name}.json"))
    }

    /// Writes a file as long as somebody waits. Under the lock, so that none
    /// appears after its removal.
    fn write(&self, name: &str, snapshot: &Snapshot) -> std::io::Result<()> {
        let bytes = serde_json::to_vec(snapshot)?;
        let watched = self.watched();
        if watched.contains_key(name) {
            let temporary = self.0.directory.join(format!(".{name}.new"));
            std::fs::write(&temporary, bytes)?;
            std::fs::rename(&temporary, self.path(name))?;
        }
        Ok(())
    }

    async fn follow(self, name: String, reference: String, pull: Pull) {
        let mut shown = None;
        loop {
            let snapshot = Snapshot::new(&reference, pull.progress());
            if shown.as_ref() != Some(&snapshot) {
                if let Err(error) = self.write(&name, &snapshot) {
                    tracing::warn!(%error, reference, "cannot show the progress of a pull");
                    return;
                }
                shown = Some(snapshot);
            }
            tokio::time::sleep(INTERVAL).await;
        }
    }
}

impl WatchPulls for PullFiles {
    fn watch(&self, reference: &Reference, pull: &Pull) -> Box<dyn Send> {
        let reference = reference.to_string();
        let name = hex::encode(Sha256::digest(&reference));
        let follow = self.clone().follow(name.clone(), reference, pull.clone());
        self.watched()
            .entry(name.clone())
            .and_modify(|watched| watched.calls += 1)
            .or_insert_with(|| Watched {
                calls: 1,
                writer: tokio::spawn(follow).abort_handle(),
            });
        Box::new(Waiting {
            files: self.clone(),
            name,
        })
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut watched = self.files.watched();
        let Some(file) = watched.get_mut(&self.name) else {
            return;
        };
        file.calls -= 1;
        if file.calls == 0 {
            file.writer.abort();
            watched.remove(&self.name);
            // It is not there when the pull was over at once.
            let _ = std::fs::remove_file(self.files.path(&self.name));
        }
    }
}

// === impl Snapshot ===

impl Snapshot {
    fn new(reference: &str, progress: PullProgress) -> Self {
        let layers = progress.layers.into_iter().map(|layer| Layer {
            digest: layer.digest.to_string(),
            total: layer.total,
            downloaded: layer.downloaded,
            extracted: layer.extracted,
            state: match layer.state {
                LayerState::Waiting => "waiting",
                LayerState::Fetching => "fetching",
                LayerState::Done => "done",
                LayerState::Present => "present",
            },
        });
        Self {
            reference: reference.to_owned(),
            layers: layers.collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::PullFiles;
    use insula_images::{Images, Platform, Reference, StoreConfig};
    use insula_server::WatchPulls as _;
    use std::time::Duration;

    fn files(directory: &std::path::Path) -> Vec<std::path::PathBuf> {
        std::fs::read_dir(directory)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect()
    }

    #[tokio::test]
    async fn a_file_lives_as_long_as_calls_wait() {
        let state = tempfile::tempdir().unwrap();
        std::fs::create_dir(state.path().join("pulls")).unwrap();
        std::fs::write(state.path().join("pulls/stale.json"), "{}").unwrap();
        let watcher = PullFiles::open(state.path()).unwrap();
        assert!(files(&state.path().join("pulls")).is_empty());

        let root = tempfile::tempdir().unwrap();
        let images = Images::open(StoreConfig::new(root.path())).unwrap();
        // Nobody answers here; how the pull ends does not matter.
        let name = "127.0.0.1:1/library/none:latest";
        let reference: Reference = name.parse().unwrap();
        let pull = images.start_pull(name, None, Platform::host()).unwrap();
        let first = watcher.watch(&reference, &pull);
        let second = watcher.watch(&reference, &pull);
        let file = loop {
            if let [file] = &files(&state.path().join("pulls"))[..]
                && file.extension().is_some_and(|ending| ending == "json")
            {
                break file.clone();
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        };
        let content: serde_json::Value =
            serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
        assert_eq!(content["reference"], name);
        assert_eq!(file.file_stem().unwrap().len(), 64);
        drop(first);
        assert!(file.exists());
        drop(second);
        assert!(files(&state.path().join("pulls")).is_empty());
    }
}
