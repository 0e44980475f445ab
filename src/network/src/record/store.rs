//! The directory of records. All of it blocks; callers are on a thread for that.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::value::RawValue;

use super::{FORMAT, Known, Record};
use crate::attachment::SandboxId;
use crate::error::{Error, Result};

/// The bound on one record, in bytes: a configuration and a result of 1 MiB each, and annotations.
const MAX_RECORD: u64 = 8 << 20;

/// Names of files in use by nobody else.
static TEMPORARY: AtomicU64 = AtomicU64::new(0);

/// The state directory.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    dir: PathBuf,
}

impl Store {
    /// Opens the directory, makes it if need be, and removes what a process that died left: temporary
    /// files, and results without a record.
    pub(crate) fn open(dir: &Path) -> Result<Self> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)
            .map_err(|source| Error::io("cannot make the directory of CNI records", dir, source))?;
        let store = Self {
            dir: dir.to_owned(),
        };
        let names = store.names()?;
        for name in &names {
            let orphan = name
                .strip_suffix(".result")
                .is_some_and(|id| !names.contains(&format!("{id}.json")));
            if orphan || name.starts_with(".new-") {
                let path = dir.join(name);
                fs::remove_file(&path)
                    .map_err(|source| Error::io("cannot remove", path, source))?;
            }
        }
        Ok(store)
    }

    /// Writes the intent. It is in place when this returns; [`Store::sync`] makes it last.
    pub(crate) fn write_intent(&self, record: &Record) -> Result<()> {
        let path = self.path(&record.container_id, "json");
        let text = serde_json::to_vec_pretty(record)
            .map_err(|error| Error::io("cannot serialize the CNI record", &path, error.into()))?;
        self.replace(&path, &text)
    }

    /// Brings the intent to the disk.
    pub(crate) fn sync(&self, id: &SandboxId) -> Result<()> {
        let path = self.path(id.as_str(), "json");
        let sync = || {
            File::open(&path)?.sync_data()?;
            File::open(&self.dir)?.sync_all()
        };
        sync().map_err(|source| Error::io("cannot sync the CNI record", &path, source))
    }

    /// Writes the result of ADD, as the plugin wrote it.
    pub(crate) fn write_result(&self, id: &SandboxId, result: &RawValue) -> Result<()> {
        self.replace(&self.path(id.as_str(), "result"), result.get().as_bytes())
    }

    /// What is known about a sandbox; `None` if nothing is.
    ///
    /// A record that does not parse is set aside as `<id>.json.bad`, reported, and is no record.
    pub(crate) fn read(&self, id: &SandboxId) -> Result<Option<Known>> {
        let path = self.path(id.as_str(), "json");
        let Some(bytes) = read(&path)? else {
            return Ok(None);
        };
        let record = serde_json::from_slice::<Record>(&bytes)
            .map_err(|error| error.to_string())
            .and_then(|record| match record {
                record if record.format != FORMAT => Err(format!("format {}", record.format)),
                record if record.container_id != id.as_str() => {
                    Err(format!("it is about {}", record.container_id))
                }
                record => Ok(record),
            });
        let record = match record {
            Ok(record) => record,
            Err(why) => {
                let aside = self.path(id.as_str(), "json.bad");
                tracing::error!(path = %path.display(), aside = %aside.display(), why, "a CNI record is unusable and was set aside; its address may leak");
                fs::rename(&path, &aside)
                    .map_err(|source| Error::io("cannot set aside", &path, source))?;
                return Ok(None);
            }
        };
        let result = read(&self.path(id.as_str(), "result"))?
            .and_then(|bytes| serde_json::from_slice::<Box<RawValue>>(&bytes).ok());
        Ok(Some(Known { record, result }))
    }

    /// Whether a sandbox has a record.
    pub(crate) fn has(&self, id: &SandboxId) -> bool {
        self.path(id.as_str(), "json").exists()
    }

    /// Forgets a sandbox; one that is not known is no error.
    pub(crate) fn remove(&self, id: &SandboxId) -> Result<()> {
        // The intent goes last: as long as it is there, DEL will be done.
        for extension in ["result", "json"] {
            let path = self.path(id.as_str(), extension);
            match fs::remove_file(&path) {
                Err(source) if source.kind() != io::ErrorKind::NotFound => {
                    return Err(Error::io("cannot remove the CNI record", path, source));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// The sandboxes that have a record, sorted.
    pub(crate) fn ids(&self) -> Result<Vec<SandboxId>> {
        let mut ids: Vec<_> = self
            .names()?
            .iter()
            .filter_map(|name| SandboxId::parse(name.strip_suffix(".json")?).ok())
            .collect();
        ids.sort();
        Ok(ids)
    }

    /// The pod address ranges that were written last, empty text if none were.
    pub(crate) fn read_pod_cidrs(&self) -> Result<String> {
        let bytes = read(&self.pod_cidrs())?.unwrap_or_default();
        Ok(String::from_utf8_lossy(&bytes).trim().to_owned())
    }

    /// Keeps the pod address ranges: kubelet tells them once, not again when we restart.
    pub(crate) fn write_pod_cidrs(&self, text: &str) -> Result<()> {
        self.replace(&self.pod_cidrs(), text.as_bytes())
    }

    /// No sandbox id begins with a dot.
    fn pod_cidrs(&self) -> PathBuf {
        self.dir.join(".pod-cidrs")
    }

    fn path(&self, id: &str, extension: &str) -> PathBuf {
        self.dir.join(format!("{id}.{extension}"))
    }

    fn names(&self) -> Result<Vec<String>> {
        let names = || -> io::Result<Vec<String>> {
            fs::read_dir(&self.dir)?
                .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
                .collect()
        };
        names().map_err(|source| Error::io("cannot list CNI records in", &self.dir, source))
    }

    /// Writes a temporary file and renames it: a reader sees all of it or nothing.
    fn replace(&self, path: &Path, bytes: &[u8]) -> Result<()> {
        let number = TEMPORARY.fetch_add(1, Ordering::Relaxed);
        let temporary = self
            .dir
            .join(format!(".new-{}-{number}", std::process::id()));
        let write = || {
            OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&temporary)?
                .write_all(bytes)?;
            fs::rename(&temporary, path)
        };
        write().map_err(|source| {
            // Best effort: what stays is removed at the next start.
            let _ = fs::remove_file(&temporary);
            Error::io("cannot write the CNI record", path, source)
        })
    }
}

fn read(path: &Path) -> Result<Option<Vec<u8>>> {
    let read = || {
        let mut bytes = Vec::new();
        File::open(path)?.take(MAX_RECORD).read_to_end(&mut bytes)?;
        Ok::<_, io::Error>(bytes)
    };
    match read() {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Error::io("cannot read the CNI record", path, source)),
    }
}
