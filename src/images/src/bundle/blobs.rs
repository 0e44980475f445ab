//! Bytes by digest, wherever they lie.

use std::collections::HashMap;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use bytes::Bytes;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::digest::{Algorithm, Digest, Hasher};
use crate::error::{Error, IoContext as _, Result};

/// Where blobs are.
#[derive(Debug)]
pub(super) enum Blobs {
    /// A directory `blobs` with `<algorithm>/<hex>` in it.
    Directory(OwnedFd),
    /// Parts of one file, and documents that were made for it.
    Parts(HashMap<Digest, Blob>),
}

/// Some bytes, not verified.
#[derive(Debug, Clone)]
pub(super) enum Blob {
    /// In memory.
    Bytes(Bytes),
    /// A part of a file.
    Part {
        file: Arc<File>,
        offset: u64,
        size: u64,
    },
}

// === impl Blobs ===

impl Blobs {
    /// Finds a blob. That it is what its digest says is checked by whoever reads it.
    pub(super) fn open(&self, digest: &Digest) -> Result<Blob> {
        match self {
            Self::Directory(directory) => open_in(directory, digest),
            Self::Parts(parts) => match parts.get(digest) {
                Some(blob) => Ok(blob.clone()),
                None => Err(Error::not_found(digest.as_str())),
            },
        }
    }
}

fn open_in(directory: &OwnedFd, digest: &Digest) -> Result<Blob> {
    let what = || format!("open the blob {digest}");
    let algorithm = digest.algorithm().name();
    let directory = match open_directory(directory, algorithm) {
        Err(Errno::NOENT) => return Err(Error::not_found(digest.as_str())),
        opened => opened.context(what)?,
    };
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = match rustix::fs::openat(&directory, digest.hex(), flags, Mode::empty()) {
        Err(Errno::NOENT) => return Err(Error::not_found(digest.as_str())),
        opened => File::from(opened.context(what)?),
    };
    let facts = file.metadata().context(what)?;
    if !facts.is_file() {
        return Err(Error::corrupt(
            format!("the blob {digest}"),
            "it is no regular file",
        ));
    }
    Ok(Blob::Part {
        file: Arc::new(file),
        offset: 0,
        size: facts.len(),
    })
}

/// Opens a directory in a directory; a symbolic link is none.
pub(super) fn open_directory(directory: &OwnedFd, name: &str) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(directory, name, flags, Mode::empty())
}

// === impl Blob ===

impl Blob {
    /// A part of a file.
    pub(super) fn part(file: &Arc<File>, offset: u64, size: u64) -> Self {
        Self::Part {
            file: Arc::clone(file),
            offset,
            size,
        }
    }

    /// How many bytes it has.
    pub(super) fn size(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::Part { size, .. } => *size,
        }
    }

    /// At most `limit` bytes from `offset` on; none only at the end.
    pub(super) fn read_at(&self, offset: u64, limit: usize, what: &str) -> Result<Bytes> {
        let left = usize::try_from(self.size().saturating_sub(offset)).unwrap_or(usize::MAX);
        let wanted = left.min(limit);
        match self {
            Self::Bytes(bytes) => {
                let start = usize::try_from(offset)
                    .unwrap_or(usize::MAX)
                    .min(bytes.len());
                Ok(bytes.slice(start..start + wanted))
            }
            Self::Part {
                file,
                offset: start,
                ..
            } => {
                let mut piece = vec![0; wanted];
                file.read_exact_at(&mut piece, start + offset)
                    .context(|| format!("read {what}"))?;
                Ok(piece.into())
            }
        }
    }

    /// All of it; for what is known to be small.
    pub(super) fn read_all(&self, what: &str) -> Result<Bytes> {
        self.read_at(0, usize::MAX, what)
    }

    /// The digest of all of it.
    pub(super) fn digest(&self, algorithm: Algorithm, what: &str) -> Result<Digest> {
        let mut hasher = Hasher::new(algorithm);
        let mut offset = 0;
        while offset < self.size() {
            let piece = self.read_at(offset, super::PIECE, what)?;
            hasher.update(&piece);
            offset += piece.len() as u64;
        }
        Ok(hasher.finish())
    }
}
