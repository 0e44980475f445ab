//! Finding the configuration in its directory.
//!
//! Directory and files are read anew whenever the configuration is needed. That costs some tens of
//! microseconds, and nothing about it can be stale: a watcher misses a directory that is made
//! later, a file behind a symlink, or a queue that overflowed; time stamps miss two writes in one
//! tick.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use insula_cni::Cidr;

use super::NetworkConf;
use crate::config::DefaultNetwork;
use crate::default;
use crate::error::{Error, Result};
use crate::json::Object;

/// The bound on one configuration file, in bytes.
const MAX_FILE: u64 = 1 << 20;

/// The configuration in force.
#[derive(Clone, Debug)]
pub(crate) struct Loaded {
    pub(crate) conf: NetworkConf,
    /// None: there is none, and this is the default network.
    pub(crate) file: Option<PathBuf>,
    /// Files before it that could not be used, and why.
    pub(crate) skipped: Vec<(PathBuf, String)>,
}

impl Loaded {
    /// The default network in the place of a file.
    pub(crate) fn default_network(default: &DefaultNetwork, pod_cidrs: &[Cidr]) -> Result<Self> {
        let conf = default::network(default, pod_cidrs).map_err(|why| {
            Error::InvalidAttachment(format!("the default network cannot be used: {why}"))
        })?;
        Ok(Self {
            conf,
            file: None,
            skipped: Vec::new(),
        })
    }
}

/// The first usable configuration of `dir`, in the lexical order of file names.
pub(crate) fn load(dir: &Path) -> Result<Loaded> {
    let files = files(dir, &["conflist", "conf", "json"])
        .map_err(|source| Error::io("cannot read the CNI configuration directory", dir, source))?;
    let mut skipped = Vec::new();
    for file in files {
        match parse_file(dir, &file) {
            Ok(conf) => {
                return Ok(Loaded {
                    conf,
                    file: Some(file),
                    skipped,
                });
            }
            Err(why) => skipped.push((file, why)),
        }
    }
    // The first bad file is the one that its author expects to be used.
    match skipped.into_iter().next() {
        Some((file, why)) => Err(Error::BadConfiguration { file, why }),
        None => Err(Error::NoConfiguration(dir.to_owned())),
    }
}

fn parse_file(dir: &Path, file: &Path) -> Result<NetworkConf, String> {
    let bytes = read(file).map_err(|error| error.to_string())?;
    if file
        .extension()
        .is_some_and(|extension| extension == "conflist")
    {
        NetworkConf::parse_list(&bytes, |name| separate_plugins(&dir.join(name)))
    } else {
        NetworkConf::parse_single(&bytes)
    }
}

/// Plugins kept in `<conf_dir>/<network>/*.conf`, added behind those of the list (CNI 1.1.0).
fn separate_plugins(dir: &Path) -> Result<Vec<Object>, String> {
    let named = |file: &Path, error: String| format!("{}: {error}", file.display());
    files(dir, &["conf"])
        .map_err(|error| named(dir, error.to_string()))?
        .into_iter()
        .map(|file| {
            let bytes = read(&file).map_err(|error| named(&file, error.to_string()))?;
            serde_json::from_slice(&bytes).map_err(|error| named(&file, error.to_string()))
        })
        .collect()
}

/// Files of `dir` with one of `extensions`, sorted; none where there is no such directory.
fn files(dir: &Path, extensions: &[&str]) -> io::Result<Vec<PathBuf>> {
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut names: Vec<OsString> = Vec::new();
    for entry in entries {
        let name = entry?.file_name();
        let wanted = Path::new(&name)
            .extension()
            .is_some_and(|found| extensions.iter().any(|extension| found == *extension));
        if wanted {
            names.push(name);
        }
    }
    names.sort();
    Ok(names
        .into_iter()
        .map(|name| dir.join(name))
        // A symlink counts as what it leads to; a dangling one is reported when it is read.
        .filter(|path| !path.is_dir())
        .collect())
}

fn read(file: &Path) -> io::Result<Vec<u8>> {
    // A FIFO among the files must not hang us: only regular files are opened.
    if !std::fs::metadata(file)?.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    let mut bytes = Vec::new();
    File::open(file)?
        .take(MAX_FILE + 1)
        .read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(io::Error::other(format!("larger than {MAX_FILE} bytes")));
    }
    Ok(bytes)
}
