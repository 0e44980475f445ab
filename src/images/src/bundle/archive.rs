//! A tar archive as a set of named parts of one file.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufReader, Read, Write as _};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use rustix::fs::{Mode, OFlags};

use super::blobs::Blob;
use crate::error::{Error, IoContext as _, Result};
use crate::layer::{EntryPath, Member, MemberKind, each_member};
use crate::manifest::MAX_DOCUMENT;

/// Upper bound of the members of an archive. One of an image has some hundreds.
const MAX_MEMBERS: usize = 1_000_000;
/// Links to links that are followed.
const MAX_LINKS: usize = 8;

/// Where the members of an archive are.
#[derive(Debug)]
pub(super) struct Archive {
    name: String,
    file: Arc<File>,
    members: HashMap<Vec<u8>, Place>,
}

#[derive(Debug)]
enum Place {
    Part {
        offset: u64,
        size: u64,
    },
    /// Another member: `docker save` wrote a layer of two images once and a link.
    Link(EntryPath),
}

/// A reader that keeps what passes through.
struct Spool<'a> {
    reader: &'a mut dyn Read,
    file: File,
}

// === impl Archive ===

impl Archive {
    /// Reads an archive's headers.
    pub(super) fn read(file: File, name: &str) -> Result<Self> {
        let reading = file
            .try_clone()
            .context(|| format!("open {name} once more"))?;
        let members = index(&mut BufReader::new(reading), name)?;
        Ok(Self {
            name: name.to_owned(),
            file: Arc::new(file),
            members,
        })
    }

    /// Keeps an archive in an unnamed file in `directory`, which goes when this does.
    pub(super) fn spool(reader: &mut dyn Read, directory: &Path, name: &str) -> Result<Self> {
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        let file = rustix::fs::open(directory, flags, Mode::from_raw_mode(0o600));
        let file = file.context(|| format!("make a file in {}", directory.display()))?;
        let mut spool = Spool {
            reader,
            file: file.into(),
        };
        let members = index(&mut spool, name)?;
        Ok(Self {
            name: name.to_owned(),
            file: Arc::new(spool.file),
            members,
        })
    }

    /// Whether it has such a member.
    pub(super) fn has(&self, path: &str) -> bool {
        self.members.contains_key(path.as_bytes())
    }

    /// The files below `blobs/`, as `<algorithm>/<hex>`.
    pub(super) fn blobs(&self) -> impl Iterator<Item = (&str, Blob)> {
        self.members.iter().filter_map(|(path, place)| {
            let name = std::str::from_utf8(path).ok()?.strip_prefix("blobs/")?;
            match place {
                Place::Part { offset, size } => {
                    Some((name, Blob::part(&self.file, *offset, *size)))
                }
                Place::Link(_) => None,
            }
        })
    }

    /// A member's bytes.
    pub(super) fn part(&self, path: &str) -> Result<Blob> {
        let missing = || Error::NotFound {
            what: format!("{path:?}"),
            detail: format!(" in {}", self.name),
        };
        let mut at = path.as_bytes();
        for _ in 0..MAX_LINKS {
            match self.members.get(at).ok_or_else(missing)? {
                Place::Part { offset, size } => return Ok(Blob::part(&self.file, *offset, *size)),
                Place::Link(target) => at = target.as_bytes(),
            }
        }
        Err(Error::corrupt(
            format!("{path:?} in {}", self.name),
            "it is a link to itself",
        ))
    }

    /// A small member, whole.
    pub(super) fn document(&self, path: &str) -> Result<Bytes> {
        let part = self.part(path)?;
        let what = format!("{path:?} in {}", self.name);
        if part.size() > MAX_DOCUMENT {
            return Err(Error::corrupt(
                what,
                format!("it has {} bytes, more than {MAX_DOCUMENT}", part.size()),
            ));
        }
        part.read_all(&what)
    }
}

fn index(reader: &mut dyn Read, name: &str) -> Result<HashMap<Vec<u8>, Place>> {
    let mut members = HashMap::new();
    let mut magic = [0; 2];
    let start = read_start(reader, &mut magic).context(|| format!("read {name}"))?;
    if start == [0x1f, 0x8b] {
        return Err(Error::Unsupported(format!(
            "{name} is compressed; unpack it first: gunzip --stdout FILE | insula import -"
        )));
    }
    each_member(&mut start.chain(reader), name, |member| {
        if members.len() == MAX_MEMBERS {
            return Err(Error::corrupt(
                name,
                format!("it has more than {MAX_MEMBERS} members"),
            ));
        }
        let Member { path, kind } = member;
        let place = match kind {
            MemberKind::File { offset, size } => Place::Part { offset, size },
            MemberKind::Link(target) => Place::Link(target),
        };
        members.insert(path.as_bytes().to_vec(), place);
        Ok(())
    })?;
    Ok(members)
}

/// The first bytes; fewer if there are no more.
fn read_start<'a>(reader: &mut dyn Read, buffer: &'a mut [u8]) -> std::io::Result<&'a [u8]> {
    let mut filled = 0;
    while filled < buffer.len() {
        match reader.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(amount) => filled += amount,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(&buffer[..filled])
}

// === impl Spool ===

impl Read for Spool<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let amount = self.reader.read(buffer)?;
        self.file.write_all(&buffer[..amount])?;
        Ok(amount)
    }
}
