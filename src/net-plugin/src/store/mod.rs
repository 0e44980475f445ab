//! The addresses of a network and the records of its attachments, on disk.
//!
//! ```text
//! <dataDir>/<network>/
//!     lock                      flock(2), held while any of this changes
//!     10.88.0.5                 who has the address: container id, CR LF, interface
//!     last_reserved_ip.0        where the search in the first set of ranges goes on
//!     attachments/<id>@<if>     everything that DEL needs, written before the kernel is asked
//! ```
//!
//! All but the last directory is the layout of the reference plugin `host-local`, lock
//! included: a network can go over from one to the other with pods running, and no address is
//! given out twice.
//!
//! Nothing is synced to the disk. After a power cut the pods are gone too, so an address whose file
//! was lost is free indeed. A file that came out empty, as one does whose maker was killed before it
//! wrote its name, is nobody's: names are written under the lock, so whoever holds that knows.

mod allocate;
mod record;
#[cfg(test)]
mod tests;

pub(crate) use self::record::Record;

use crate::config::Identity;
use crate::error::{Code, Failure};
use crate::request::AttachmentId;
use rustix::fs::{FlockOperation, flock};
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long the lock is waited for. It is held for a fraction of a millisecond.
const PATIENCE: Duration = Duration::from_secs(20);
/// Between two tries; it becomes longer.
const FIRST_PAUSE: Duration = Duration::from_micros(100);
const LONGEST_PAUSE: Duration = Duration::from_millis(2);
/// The bound on what is read of one file.
const MAX_FILE: u64 = 64 << 10;

const LOCK: &str = "lock";
const ATTACHMENTS: &str = "attachments";
const LAST_RESERVED: &str = "last_reserved_ip.";

/// A network's directory.
#[derive(Debug, Clone)]
pub(crate) struct Store {
    dir: PathBuf,
}

/// The same, nobody else changing it.
#[derive(Debug)]
pub(crate) struct Locked<'a> {
    store: &'a Store,
    /// Released when it is closed, also by the kernel.
    _lock: File,
}

// === impl Store ===

impl Store {
    /// The directory of a network; made if need be.
    pub(crate) fn open(identity: &Identity) -> Result<Self, Failure> {
        let dir = identity.data_dir.join(&identity.name);
        let attachments = dir.join(ATTACHMENTS);
        if !attachments.is_dir() {
            make_directory(&dir, 0o755)?;
            make_directory(&attachments, 0o700)?;
        }
        Ok(Self { dir })
    }

    /// The directory of a network that may not have been used yet.
    pub(crate) fn open_existing(identity: &Identity) -> Option<Self> {
        let dir = identity.data_dir.join(&identity.name);
        dir.is_dir().then_some(Self { dir })
    }

    /// Waits until nobody else changes anything.
    pub(crate) fn lock(&self) -> Result<Locked<'_>, Failure> {
        let path = self.dir.join(LOCK);
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .mode(0o600)
            .open(&path)
            .map_err(|error| failed("open", &path, &error))?;
        let begun = Instant::now();
        let mut pause = FIRST_PAUSE;
        while let Err(errno) = flock(&file, FlockOperation::NonBlockingLockExclusive) {
            if errno != rustix::io::Errno::WOULDBLOCK && errno != rustix::io::Errno::INTR {
                return Err(failed("lock", &path, &errno.into()));
            }
            if begun.elapsed() > PATIENCE {
                return Err(Failure::new(
                    Code::TryAgainLater,
                    format!(
                        "waited {:.1} s for the lock {}",
                        begun.elapsed().as_secs_f64(),
                        path.display()
                    ),
                    "another CNI plugin holds it: try again, and look for one that hangs",
                ));
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
        Ok(Locked {
            store: self,
            _lock: file,
        })
    }

    fn address_file(&self, address: IpAddr) -> PathBuf {
        self.dir.join(address.to_string())
    }

    /// Who has an address; `None` if it is free, an empty text if nobody can be made out.
    pub(crate) fn owner_text(&self, address: IpAddr) -> Result<Option<String>, Failure> {
        read(&self.address_file(address))
    }

    /// All addresses that are taken.
    pub(crate) fn addresses(&self) -> Result<Vec<IpAddr>, Failure> {
        let entries = fs::read_dir(&self.dir).map_err(|error| failed("read", &self.dir, &error))?;
        let mut addresses = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|error| failed("read", &self.dir, &error))?;
            if let Some(address) = entry
                .file_name()
                .to_str()
                .and_then(|name| name.parse().ok())
            {
                addresses.push(address);
            }
        }
        Ok(addresses)
    }
}

// === impl Locked ===

impl Locked<'_> {
    /// Takes an address; says whether it was free.
    fn take(&self, address: IpAddr, owner: &AttachmentId) -> Result<bool, Failure> {
        let path = self.store.address_file(address);
        let opened = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path);
        let mut file = match opened {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                match self.store.owner_text(address)? {
                    Some(text) if !is_nobody(&text) => return Ok(false),
                    _ => File::create(&path).map_err(|error| failed("open", &path, &error))?,
                }
            }
            opened => opened.map_err(|error| failed("create", &path, &error))?,
        };
        match file.write_all(owner_text(owner).as_bytes()) {
            Ok(()) => Ok(true),
            Err(error) => {
                // Nobody would know whose it is.
                let _ = fs::remove_file(&path);
                Err(failed("write", &path, &error))
            }
        }
    }

    /// Gives addresses back, but only those that `owner` has.
    pub(crate) fn give_back(
        &self,
        addresses: &[IpAddr],
        owner: &AttachmentId,
    ) -> Result<(), Failure> {
        for address in addresses {
            let has = self.store.owner_text(*address)?;
            if has.is_some_and(|has| is_owner(&has, owner)) {
                remove(&self.store.address_file(*address))?;
            }
        }
        Ok(())
    }

    /// All addresses that `owner` has. That is a look at every address, for those who died before
    /// they could leave a record.
    pub(crate) fn addresses_of(&self, owner: &AttachmentId) -> Result<Vec<IpAddr>, Failure> {
        let taken = self.taken()?.into_iter();
        let own = taken.filter(|(_, text)| is_owner(text, owner));
        Ok(own.map(|(address, _)| address).collect())
    }

    /// All addresses that somebody has, with that name; the files of nobody are removed.
    fn taken(&self) -> Result<Vec<(IpAddr, String)>, Failure> {
        let mut taken = Vec::new();
        for address in self.store.addresses()? {
            let text = self.store.owner_text(address)?.unwrap_or_default();
            if is_nobody(&text) {
                remove(&self.store.address_file(address))?;
            } else {
                taken.push((address, text));
            }
        }
        Ok(taken)
    }

    /// The attachments that have an address or a record.
    pub(crate) fn attachments(&self) -> Result<BTreeSet<AttachmentId>, Failure> {
        let mut known: BTreeSet<_> = self.store.recorded()?.into_iter().collect();
        known.extend(self.taken()?.iter().filter_map(|(_, text)| owner(text)));
        Ok(known)
    }
}

/// As host-local writes it.
fn owner_text(owner: &AttachmentId) -> String {
    format!("{}\r\n{}", owner.container(), owner.interface())
}

/// Whether an address with this text is `owner`'s. Old files of host-local hold no interface.
fn is_owner(text: &str, owner: &AttachmentId) -> bool {
    let text = text.trim();
    text == owner_text(owner) || text == owner.container()
}

/// Whether a power cut or a kill came before the name.
fn is_nobody(text: &str) -> bool {
    text.bytes()
        .all(|byte| byte == 0 || byte.is_ascii_whitespace())
}

/// Whose name the text is.
fn owner(text: &str) -> Option<AttachmentId> {
    let mut lines = text.trim().lines();
    let container = lines.next()?;
    AttachmentId::parse(container, lines.next().unwrap_or("eth0")).ok()
}

fn make_directory(dir: &Path, mode: u32) -> Result<(), Failure> {
    DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(dir)
        .map_err(|error| failed("make", dir, &error))
}

/// The text of a small file; `None` if there is none.
fn read(path: &Path) -> Result<Option<String>, Failure> {
    let mut bytes = Vec::new();
    let result = File::open(path).and_then(|file| file.take(MAX_FILE).read_to_end(&mut bytes));
    match result {
        Ok(_) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed("read", path, &error)),
    }
}

/// Removes a file; one that is gone is no error.
fn remove(path: &Path) -> Result<(), Failure> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(failed("remove", path, &error)),
        _ => Ok(()),
    }
}

/// Writes a file as a whole or not at all.
fn replace(path: &Path, content: &[u8]) -> Result<(), Failure> {
    let scratch = scratch_file(path);
    let written = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&scratch)
        .and_then(|mut file| file.write_all(content))
        .and_then(|()| fs::rename(&scratch, path));
    written.map_err(|error| failed("write", path, &error))
}

/// What `path` is called until it is whole.
fn scratch_file(path: &Path) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    path.with_file_name(name)
}

fn failed(doing: &str, path: &Path, error: &io::Error) -> Failure {
    Failure::io(format!("cannot {doing} {}", path.display()), error)
}
