//! The directories where vendors leave their files.

use super::document::{self, Edits, Format, MAX_FILE, Vendor};
use super::{CdiError, DeviceName};
use rustix::fs::{Mode, OFlags};
use std::io::Read as _;
use std::path::{Path, PathBuf};

/// Most entries of a directory that are looked at.
const MAX_ENTRIES: usize = 1024;

/// Where devices are described, the most important directory last (SPEC.md,
/// "CDI Spec directories").
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directories(Vec<PathBuf>);

/// What was read.
#[derive(Debug, Default)]
struct Contents {
    files: Vec<File>,
    broken: Vec<String>,
}

#[derive(Debug)]
struct File {
    /// Number of its directory.
    priority: usize,
    path: PathBuf,
    vendor: Vendor,
}

// === impl Directories ===

impl Directories {
    /// These directories, the most important one last; usually `/etc/cdi` for
    /// static files and `/var/run/cdi` for those made while the node runs.
    pub fn new(paths: Vec<PathBuf>) -> Self {
        Self(paths)
    }

    /// What a container with these devices has to be given: for each device
    /// what its file says of all its devices, once, and what it says of the
    /// device. Reads the directories; one that does not exist is empty.
    ///
    /// A device in several directories is that of the last one. A file that
    /// cannot be read does no harm to devices that other files describe.
    ///
    /// # Errors
    /// Names the device that nobody describes, that two files of one directory
    /// describe, or that needs what cannot be given.
    pub fn find(&self, names: &[DeviceName]) -> Result<Edits, CdiError> {
        if names.is_empty() {
            return Ok(Edits::default());
        }
        let contents = self.read();
        let mut seen: Vec<&Path> = Vec::new();
        let mut all = Edits::default();
        for name in names {
            let (file, edits) = contents.device(name, &self.0)?;
            if !seen.contains(&file.path.as_path()) {
                seen.push(&file.path);
                append(&mut all, &file.vendor.common, name, file)?;
            }
            append(&mut all, edits, name, file)?;
        }
        Ok(all)
    }

    fn read(&self) -> Contents {
        let mut contents = Contents::default();
        for (priority, directory) in self.0.iter().enumerate() {
            let entries = match std::fs::read_dir(directory) {
                Ok(entries) => entries,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                Err(error) => {
                    contents.broken.push(format!("{directory:?}: {error}"));
                    continue;
                }
            };
            let mut paths: Vec<PathBuf> = entries
                .take(MAX_ENTRIES)
                .flatten()
                .map(|entry| entry.path())
                .collect();
            paths.sort();
            for path in paths {
                let format = match path.extension().and_then(|name| name.to_str()) {
                    Some("json") => Format::Json,
                    Some("yaml") => Format::Yaml,
                    _ => continue,
                };
                match read_file(&path).and_then(|text| document::parse(&text, format)) {
                    Ok(vendor) => contents.files.push(File {
                        priority,
                        path,
                        vendor,
                    }),
                    Err(why) => contents.broken.push(format!("{path:?}: {why}")),
                }
            }
        }
        contents
    }
}

// === impl Contents ===

impl Contents {
    fn device(&self, name: &DeviceName, looked: &[PathBuf]) -> Result<(&File, &Edits), CdiError> {
        let mut best: Option<(&File, &Edits)> = None;
        let mut rival: Option<&File> = None;
        for file in &self.files {
            if file.vendor.kind != name.kind() {
                continue;
            }
            let Some(edits) = file.vendor.devices.get(name.name()) else {
                continue;
            };
            // Files come in the order of their directories.
            match best {
                Some((known, _)) if known.priority == file.priority => rival = Some(file),
                _ => (best, rival) = (Some((file, edits)), None),
            }
        }
        match (best, rival) {
            (Some(found), None) => Ok(found),
            (Some((first, _)), Some(second)) => Err(CdiError::Conflict {
                device: name.clone(),
                first: first.path.clone(),
                second: second.path.clone(),
            }),
            (None, _) => Err(CdiError::Unknown {
                device: name.clone(),
                looked: looked
                    .iter()
                    .map(|path| path.display().to_string())
                    .collect::<Vec<_>>()
                    .join(", "),
                broken: self.broken.clone(),
            }),
        }
    }
}

fn append(all: &mut Edits, more: &Edits, name: &DeviceName, file: &File) -> Result<(), CdiError> {
    if let Some(what) = &more.unsupported {
        return Err(CdiError::Unsupported {
            device: name.clone(),
            file: file.path.clone(),
            what: what.clone(),
        });
    }
    all.env.extend(more.env.iter().cloned());
    all.devices.extend(more.devices.iter().cloned());
    all.mounts.extend(more.mounts.iter().cloned());
    all.additional_gids.extend(&more.additional_gids);
    all.hooks.extend(more.hooks.clone());
    Ok(())
}

/// Reads a regular file, which a pipe or a device is not: those would be waited
/// for.
fn read_file(path: &Path) -> Result<String, String> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = rustix::fs::open(path, flags, Mode::empty())
        .map(std::fs::File::from)
        .map_err(|errno| errno.to_string())?;
    let metadata = file.metadata().map_err(|error| error.to_string())?;
    if !metadata.is_file() {
        return Err("is no regular file".to_owned());
    }
    let mut bytes = Vec::new();
    file.take(MAX_FILE + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| error.to_string())?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(format!("is larger than {MAX_FILE} bytes"));
    }
    String::from_utf8(bytes).map_err(|_| "is not UTF-8".to_owned())
}

#[cfg(test)]
mod tests;
