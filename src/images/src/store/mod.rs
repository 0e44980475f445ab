//! The store on disk.
//!
//! ```text
//! <root>/images/<id>.json, <id>.config   records; an image exists when its record does
//! <root>/images/lock                     taken to change records or layers
//! <root>/layers/<diffID>.tree            unpacked layers (a `.tar` beside has its place reserved)
//! <root>/layers/<diffID>.json            what a layer takes, and whether it is on the platter
//! <root>/staging/<pull>/                 a pull in flight, locked by it; `trash-*` is being removed
//! <root>/rw/<container>/                 upper, work and `rootfs.json`, which names the layers
//! ```
//!
//! Several processes may use one store. Locks are `flock`s, so they end with their process.
//!
//! A layer is renamed into place as soon as it is verified, and flushed (`syncfs`) in the
//! background; until then its `.json` says `synced: false` and names the boot. After a power cut
//! the next start finds another boot id and drops what was never flushed. So no pull waits for the
//! disk, and no torn layer is ever used.

mod background;
mod gc;
mod image;
mod layers;
mod records;
mod staging;

use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, FlockOperation, IFlags, Mode, OFlags};
use rustix::io::Errno;
use serde::de::DeserializeOwned;

pub use self::image::{Image, ImageId};
pub(crate) use self::records::Commit;
pub(crate) use self::staging::Staging;

use crate::error::{Error, IoContext as _, Result};
use crate::layer::remove::DIRECTORY;
use crate::rootfs::shadow;

/// How long to wait for another process that changes the store.
const LOCK_DEADLINE: Duration = Duration::from_secs(30);
/// Upper bound of a record, in bytes.
const MAX_RECORD: u64 = 16 * 1024 * 1024;

/// An open store.
#[derive(Debug)]
pub(crate) struct Store {
    root: PathBuf,
    boot_id: String,
    images: OwnedFd,
    layers: OwnedFd,
    staging: OwnedFd,
    rw: OwnedFd,
    image_cache: records::Cache,
    layer_cache: layers::Cache,
    pub(crate) shadow_cache: shadow::Cache,
    background: background::Background,
}

/// The right to change records and layers.
#[derive(Debug)]
pub(crate) struct StoreLock {
    _file: OwnedFd,
}

/// Tells ext4 to put each directory made here into a part of the disk of its own
/// (chattr(1) `T`). Else the files of a pull land where an image was removed a
/// moment ago, and ext4 looks at each of those inodes before it passes it over:
/// a third of a pull's processor time. Other file systems refuse, which loses
/// nothing else.
fn spread_subdirectories(directory: &OwnedFd) {
    if let Ok(flags) = rustix::fs::ioctl_getflags(directory) {
        let _refused = rustix::fs::ioctl_setflags(directory, flags | IFlags::TOPDIR);
    }
}

// === impl Store ===

impl Store {
    /// Opens a store, makes its directories, and removes what dead pulls and power cuts left.
    pub(crate) fn open(root: &Path) -> Result<Self> {
        let mkdir = |path: &Path, mode: u32| -> Result<()> {
            use std::os::unix::fs::DirBuilderExt as _;
            let mut builder = std::fs::DirBuilder::new();
            let made = builder.recursive(true).mode(mode).create(path);
            made.context(|| format!("create {}", path.display()))
        };
        mkdir(root, 0o711)?;
        let open = |name: &str| -> Result<OwnedFd> {
            let path = root.join(name);
            mkdir(&path, 0o700)?;
            let opened = rustix::fs::open(&path, DIRECTORY, Mode::empty());
            opened.context(|| format!("open {}", path.display()))
        };
        let boot_id =
            std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let store = Self {
            root: root.to_owned(),
            boot_id: boot_id.trim().to_owned(),
            images: open("images")?,
            layers: open("layers")?,
            staging: open("staging")?,
            rw: open("rw")?,
            image_cache: records::Cache::default(),
            layer_cache: layers::Cache::default(),
            shadow_cache: shadow::Cache::default(),
            background: background::Background::default(),
        };
        spread_subdirectories(&store.staging);
        let lock = store.lock()?;
        store.remove_dead_staging()?;
        store.drop_torn_layers(&lock)?;
        store.drop_incomplete_images(&lock)?;
        store.collect(&lock)?;
        drop(lock);
        store.empty_trash();
        Ok(store)
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn rw(&self) -> &OwnedFd {
        &self.rw
    }

    /// Waits for the store's lock.
    ///
    /// # Errors
    /// [`Error::DeadlineExceeded`] if another process holds it for half a minute.
    pub(crate) fn lock(&self) -> Result<StoreLock> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let file = rustix::fs::openat(&self.images, "lock", flags, Mode::from_raw_mode(0o600))
            .context(|| format!("open {}/images/lock", self.root.display()))?;
        let begin = Instant::now();
        let mut pause = Duration::from_micros(100);
        loop {
            match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(StoreLock { _file: file }),
                Err(Errno::WOULDBLOCK | Errno::INTR) if begin.elapsed() < LOCK_DEADLINE => {
                    std::thread::sleep(pause);
                    pause = (pause * 2).min(Duration::from_millis(20));
                }
                Err(Errno::WOULDBLOCK) => {
                    return Err(Error::DeadlineExceeded {
                        stage: format!(
                            "waiting for the lock {}/images/lock, held by another process,",
                            self.root.display()
                        ),
                        waited: begin.elapsed(),
                    });
                }
                Err(error) => return Err(Error::io("lock the image store", error)),
            }
        }
    }
}

/// How far a write has got when it returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Durability {
    /// Whole or not there, as long as the power stays.
    Atomic,
    /// Its bytes are on the disk, its name will be with the directory's next flush.
    Data,
    /// It is on the disk.
    Full,
}

/// Replaces a file as a whole: temporary file, fdatasync, rename, fsync of the directory.
pub(crate) fn write_file(
    directory: &OwnedFd,
    name: &str,
    bytes: &[u8],
    durability: Durability,
) -> Result<()> {
    let temporary = format!(".{name}.tmp");
    let what = || format!("write {name}");
    let flags =
        OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let file = rustix::fs::openat(directory, &temporary, flags, Mode::from_raw_mode(0o600))
        .context(what)?;
    let mut file = std::fs::File::from(file);
    let written = file.write_all(bytes).and_then(|()| {
        if durability == Durability::Atomic {
            Ok(())
        } else {
            file.sync_data()
        }
    });
    let renamed = written.and_then(|()| {
        Ok(rustix::fs::renameat(
            directory, &temporary, directory, name,
        )?)
    });
    if let Err(error) = renamed {
        let _ = rustix::fs::unlinkat(directory, &temporary, AtFlags::empty());
        return Err(Error::io(what(), error));
    }
    if durability == Durability::Full {
        rustix::fs::fsync(directory).context(what)?;
    }
    Ok(())
}

/// Reads a whole file of at most [`MAX_RECORD`] bytes. None if there is none.
pub(crate) fn read_file(directory: &OwnedFd, name: &str) -> Result<Option<Vec<u8>>> {
    use std::io::Read as _;
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file = match rustix::fs::openat(directory, name, flags, Mode::empty()) {
        Ok(file) => std::fs::File::from(file),
        Err(Errno::NOENT) => return Ok(None),
        Err(error) => return Err(Error::io(format!("open {name}"), error)),
    };
    let mut bytes = Vec::new();
    file.take(MAX_RECORD + 1)
        .read_to_end(&mut bytes)
        .context(|| format!("read {name}"))?;
    if bytes.len() as u64 > MAX_RECORD {
        return Err(Error::corrupt(name, "it is larger than 16 MiB"));
    }
    Ok(Some(bytes))
}

/// Reads a JSON record. One that does not parse is renamed to `<name>.corrupt`, reported, and
/// then is none: no record may keep the daemon from starting.
pub(crate) fn read_record<T: DeserializeOwned>(
    directory: &OwnedFd,
    name: &str,
) -> Result<Option<T>> {
    let error = match read_file(directory, name) {
        Ok(None) => return Ok(None),
        Ok(Some(bytes)) => match serde_json::from_slice(&bytes) {
            Ok(record) => return Ok(Some(record)),
            Err(error) => error.to_string(),
        },
        Err(error @ Error::Corrupt { .. }) => error.to_string(),
        Err(error) => return Err(error),
    };
    tracing::error!(
        record = name,
        error,
        "a record of the image store does not parse; it is set aside as .corrupt"
    );
    set_aside(directory, name);
    Ok(None)
}

/// Renames a record that cannot be used.
pub(crate) fn set_aside(directory: &OwnedFd, name: &str) {
    let renamed = rustix::fs::renameat(directory, name, directory, format!("{name}.corrupt"));
    if let Err(error) = renamed
        && error != Errno::NOENT
    {
        tracing::error!(record = name, %error, "cannot set the record aside");
    }
}

/// The names in a directory.
pub(crate) fn names(directory: &OwnedFd, what: &str) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for entry in rustix::fs::Dir::read_from(directory).context(|| format!("list {what}"))? {
        let entry = entry.context(|| format!("list {what}"))?;
        if let Ok(name) = entry.file_name().to_str()
            && name != "."
            && name != ".."
        {
            found.push(name.to_owned());
        }
    }
    Ok(found)
}

/// Whether a name exists in a directory.
pub(crate) fn exists(directory: &OwnedFd, name: &str) -> Result<bool> {
    match rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(_) => Ok(true),
        Err(Errno::NOENT) => Ok(false),
        Err(error) => Err(Error::io(format!("look for {name}"), error)),
    }
}

#[cfg(test)]
mod tests;
