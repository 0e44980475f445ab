//! Pulls in flight, and things on their way out.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::background::Work;
use super::layers::tree_name;
use super::{Durability, Store, exists, names, read_record, write_file};
use crate::digest::Digest;
use crate::error::{Error, IoContext as _, Result};
use crate::layer::remove::{DIRECTORY, remove_tree};

const TRASH: &str = "trash-";

/// A pull's own directory. It names the layers that the pull counts on, so that nobody removes
/// them meanwhile; its lock tells other processes that it lives. Removed when dropped.
#[derive(Debug)]
pub(crate) struct Staging {
    store: Arc<Store>,
    name: String,
    directory: OwnedFd,
    _lock: OwnedFd,
    _work: Work,
}

#[derive(Serialize, Deserialize)]
struct Lease {
    version: u32,
    layers: Vec<Digest>,
}

// === impl Staging ===

impl Staging {
    /// Makes the directory of a pull that counts on these layers.
    pub(crate) fn create(store: &Arc<Store>, layers: &[Digest]) -> Result<Self> {
        let what = || "make a staging directory".to_owned();
        // Under the store's lock: nobody may see the directory before it is locked.
        let _store_lock = store.lock()?;
        let name = unique("pull-");
        rustix::fs::mkdirat(&store.staging, &name, Mode::from_raw_mode(0o700)).context(what)?;
        let directory =
            rustix::fs::openat(&store.staging, &name, DIRECTORY, Mode::empty()).context(what)?;
        let lock = open_lock(&directory).context(what)?;
        rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).context(what)?;
        let staging = Self {
            store: Arc::clone(store),
            name,
            directory,
            _lock: lock,
            _work: store.background.begin(),
        };
        let lease = Lease {
            version: 1,
            layers: layers.to_vec(),
        };
        let json = serde_json::to_vec(&lease)
            .map_err(|error| Error::corrupt("lease", error.to_string()))?;
        write_file(&staging.directory, "lease.json", &json, Durability::Atomic)?;
        Ok(staging)
    }

    /// The directory itself.
    pub(crate) fn directory(&self) -> &OwnedFd {
        &self.directory
    }

    /// An empty directory to unpack a layer into.
    pub(crate) fn layer_directory(&self, diff_id: &Digest) -> Result<OwnedFd> {
        let name = tree_name(diff_id);
        let what = || format!("make a staging directory for {diff_id}");
        remove_tree(&self.directory, name.as_bytes()).context(what)?;
        rustix::fs::mkdirat(&self.directory, &name, Mode::from_raw_mode(0o755)).context(what)?;
        let opened =
            rustix::fs::openat(&self.directory, &name, DIRECTORY, Mode::empty()).context(what)?;
        rustix::fs::fchmod(&opened, Mode::from_raw_mode(0o755)).context(what)?;
        Ok(opened)
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // Out of sight at once, so that a cancelled pull leaves nothing that looks alive.
        let staging = &self.store.staging;
        if let Err(error) = rustix::fs::renameat(staging, &self.name, staging, unique(TRASH)) {
            tracing::warn!(%error, name = self.name, "cannot remove a staging directory; the next start will");
            return;
        }
        self.store.empty_trash_later();
    }
}

// === impl Store ===

impl Store {
    /// Moves a name out of a directory; [`Store::empty_trash`] removes it. Missing is no error.
    pub(crate) fn trash(&self, directory: &OwnedFd, name: &str) -> Result<()> {
        match rustix::fs::renameat(directory, name, &self.staging, unique(TRASH)) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(Error::io(format!("move {name} to the trash"), error)),
        }
    }

    /// Removes what was moved to the trash, by this or another process. What somebody else is
    /// emptying is left to them: two in one tree would both stumble and leave it.
    pub(crate) fn empty_trash(&self) {
        let found = names(&self.staging, "the staging directory").unwrap_or_default();
        for name in found.iter().filter(|name| name.starts_with(TRASH)) {
            match self.remove_trash(name) {
                Ok(()) | Err(Errno::WOULDBLOCK) => {}
                Err(error) => {
                    tracing::warn!(%error, name, "cannot empty the trash; the next start will try again");
                }
            }
        }
    }

    /// `WOULDBLOCK` if somebody else is at it.
    fn remove_trash(&self, name: &str) -> rustix::io::Result<()> {
        let _lock = match rustix::fs::openat(&self.staging, name, DIRECTORY, Mode::empty()) {
            Ok(directory) => {
                rustix::fs::flock(&directory, FlockOperation::NonBlockingLockExclusive)?;
                Some(directory)
            }
            Err(Errno::NOTDIR | Errno::LOOP) => None,
            Err(Errno::NOENT) => return Ok(()),
            Err(error) => return Err(error),
        };
        remove_tree(&self.staging, name.as_bytes())
    }

    /// Moves the directories of dead pulls to the trash.
    pub(super) fn remove_dead_staging(&self) -> Result<()> {
        for name in names(&self.staging, "the staging directory")? {
            if !name.starts_with(TRASH) && !self.is_alive(&name)? {
                self.trash(&self.staging, &name)?;
            }
        }
        Ok(())
    }

    /// The layers that pulls in flight count on.
    pub(super) fn leased_layers(&self) -> Result<Vec<Digest>> {
        let mut leased = Vec::new();
        for name in names(&self.staging, "the staging directory")? {
            if name.starts_with(TRASH) || !self.is_alive(&name)? {
                continue;
            }
            let Ok(directory) = rustix::fs::openat(&self.staging, &name, DIRECTORY, Mode::empty())
            else {
                continue;
            };
            if let Some(lease) = read_record::<Lease>(&directory, "lease.json")? {
                leased.extend(lease.layers);
            }
        }
        Ok(leased)
    }

    /// Whether the pull of that directory lives: it holds the lock.
    fn is_alive(&self, name: &str) -> Result<bool> {
        let what = || format!("look at staging/{name}");
        let directory = match rustix::fs::openat(&self.staging, name, DIRECTORY, Mode::empty()) {
            Ok(directory) => directory,
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(false),
            Err(error) => return Err(Error::io(what(), error)),
        };
        if !exists(&directory, "lock")? {
            return Ok(false);
        }
        let lock = open_lock(&directory).context(what)?;
        match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(false),
            Err(Errno::WOULDBLOCK) => Ok(true),
            Err(error) => Err(Error::io(what(), error)),
        }
    }
}

fn open_lock(directory: &OwnedFd) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    rustix::fs::openat(directory, "lock", flags, Mode::from_raw_mode(0o600))
}

/// A name that no other process or pull uses.
fn unique(prefix: &str) -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    format!(
        "{prefix}{}-{}-{}",
        std::process::id(),
        now.as_nanos(),
        NEXT.fetch_add(1, Ordering::Relaxed)
    )
}
