//! One tar entry as a value.

use rustix::fs::Timespec;
use tar_core::parse::ParsedEntry;
use tar_core::{EntryType, PaxExtensions, SparseEntry};

use super::path::EntryPath;
use crate::error::{Error, Result};

/// Upper bound of a sparse file's apparent size, in bytes.
const MAX_SPARSE_SIZE: u64 = 1 << 44;

/// A tar entry with everything checked that can be without the tree.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) path: EntryPath,
    pub(super) kind: Kind,
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) mtime: Timespec,
    pub(super) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// What an entry makes.
#[derive(Debug)]
pub(super) enum Kind {
    Directory,
    File { size: u64, sparse: Option<Sparse> },
    Symlink(Vec<u8>),
    HardLink(EntryPath),
    CharacterDevice(u32, u32),
    BlockDevice(u32, u32),
    Fifo,
}

/// The regions of a sparse file that have data: in order, apart, within its size.
#[derive(Debug)]
pub(super) struct Sparse {
    pub(super) regions: Vec<SparseEntry>,
    pub(super) size: u64,
}

// === impl Entry ===

impl Entry {
    /// Checks a parsed entry. `what` names the layer. None for kinds that mean nothing here.
    pub(super) fn new(
        parsed: &ParsedEntry<'_>,
        sparse: Option<Sparse>,
        what: &str,
    ) -> Result<Option<Self>> {
        let shown = || {
            String::from_utf8_lossy(&parsed.path)
                .escape_debug()
                .take(300)
                .collect::<String>()
        };
        let bad = |reason: String| Error::corrupt(what, format!("entry \"{}\": {reason}", shown()));
        let path = EntryPath::parse(&parsed.path).map_err(|error| bad(error.to_string()))?;
        let link = || {
            parsed
                .link_target
                .as_deref()
                .ok_or_else(|| bad("a link without a target".into()))
        };
        let device = || (parsed.dev_major.unwrap_or(0), parsed.dev_minor.unwrap_or(0));
        let kind = match parsed.entry_type {
            EntryType::Directory => Kind::Directory,
            EntryType::Regular | EntryType::Continuous | EntryType::GnuSparse => {
                // Before POSIX, a directory was a file whose name ends in a slash.
                if parsed.path.ends_with(b"/") && parsed.size == 0 {
                    Kind::Directory
                } else {
                    Kind::File {
                        size: parsed.size,
                        sparse,
                    }
                }
            }
            EntryType::Symlink => Kind::Symlink(link()?.to_vec()),
            EntryType::Link => {
                let target = EntryPath::parse(link()?);
                Kind::HardLink(
                    target.map_err(|error| bad(format!("its hard link's target: {error}")))?,
                )
            }
            EntryType::Char => Kind::CharacterDevice(device().0, device().1),
            EntryType::Block => Kind::BlockDevice(device().0, device().1),
            EntryType::Fifo => Kind::Fifo,
            other => {
                return Err(bad(format!(
                    "unknown entry type {:?}",
                    char::from(other.to_byte())
                )));
            }
        };
        if path.is_root() && !matches!(kind, Kind::Directory) {
            return Err(bad("the layer's root can only be a directory".into()));
        }
        let id = |value: u64, name: &str| {
            u32::try_from(value)
                .ok()
                .filter(|id| *id != u32::MAX)
                .ok_or_else(|| bad(format!("{name} {value} is out of range")))
        };
        let mut mtime = Timespec {
            tv_sec: i64::try_from(parsed.mtime).unwrap_or(0),
            tv_nsec: 0,
        };
        if let Some(pax) = parsed.pax {
            check_pax(pax, &mut mtime).map_err(bad)?;
        }
        let xattrs = parsed
            .xattrs
            .iter()
            .map(|(name, value)| (name.to_vec(), value.to_vec()));
        Ok(Some(Self {
            path,
            kind,
            mode: parsed.mode & 0o7777,
            uid: id(parsed.uid, "owner")?,
            gid: id(parsed.gid, "group")?,
            mtime,
            xattrs: xattrs.collect(),
        }))
    }

    /// How many bytes of content follow in the archive. Kinds other than files have none, whatever
    /// their size field says, as in Go's archive/tar: what containerd and Docker see.
    pub(super) fn content_size(&self) -> u64 {
        match self.kind {
            Kind::File { size, .. } => size,
            _ => 0,
        }
    }
}

// === impl Sparse ===

impl Sparse {
    pub(super) fn new(regions: Vec<SparseEntry>, size: u64, stored: u64) -> Result<Self, String> {
        if size > MAX_SPARSE_SIZE {
            return Err(format!(
                "its apparent size {size} is larger than {MAX_SPARSE_SIZE}"
            ));
        }
        let (mut end, mut sum) = (0, 0u64);
        for region in &regions {
            let region_end = region.offset.checked_add(region.length);
            let valid = region.offset >= end && region_end.is_some_and(|end| end <= size);
            if !valid {
                return Err("its sparse map is out of order or out of range".into());
            }
            end = region.offset + region.length;
            sum += region.length;
        }
        if sum != stored {
            return Err(format!(
                "its sparse map has {sum} bytes but {stored} are stored"
            ));
        }
        Ok(Self { regions, size })
    }
}

/// The parser forgives PAX numbers that are none. Forgiving the size would lose the place in the
/// archive, so those that matter are checked here; a strange time is no reason to refuse an image.
fn check_pax(pax: &[u8], mtime: &mut Timespec) -> Result<(), String> {
    for record in PaxExtensions::new(pax) {
        let Ok(record) = record else {
            return Err("its PAX header is malformed".into());
        };
        let Ok(key) = record.key() else { continue };
        match key {
            "size"
            | "uid"
            | "gid"
            | "GNU.sparse.realsize"
            | "GNU.sparse.size"
            | "GNU.sparse.offset"
            | "GNU.sparse.numbytes"
            | "GNU.sparse.major"
            | "GNU.sparse.minor"
                if record
                    .value()
                    .ok()
                    .and_then(|text| text.parse::<u64>().ok())
                    .is_none() =>
            {
                return Err(format!("its PAX header's {key} is no number"));
            }
            "mtime" => {
                if let Some(time) = record.value().ok().and_then(pax_time) {
                    *mtime = time;
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// Decimal seconds with an optional fraction and sign (POSIX pax, "mtime").
fn pax_time(text: &str) -> Option<Timespec> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let mut tv_sec: i64 = whole.parse().ok()?;
    let digits: String = fraction
        .chars()
        .chain(std::iter::repeat('0'))
        .take(9)
        .collect();
    let mut tv_nsec: i64 = digits.parse().ok().filter(|nanos| *nanos >= 0)?;
    if whole.starts_with('-') && tv_nsec > 0 {
        tv_sec = tv_sec.checked_sub(1)?;
        tv_nsec = 1_000_000_000 - tv_nsec;
    }
    Some(Timespec { tv_sec, tv_nsec })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pax_times() {
        let cases = [
            ("1.5", Some((1, 500_000_000))),
            ("12", Some((12, 0))),
            ("-1.25", Some((-2, 750_000_000))),
            ("1.1234567891", Some((1, 123_456_789))),
            ("x", None),
            ("1.-5", None),
            ("", None),
        ];
        for (text, expected) in cases {
            assert_eq!(
                pax_time(text).map(|t| (t.tv_sec, t.tv_nsec)),
                expected,
                "{text}"
            );
        }
    }

    #[test]
    fn sparse_maps() {
        let region = |offset, length| SparseEntry { offset, length };
        let cases = [
            (vec![region(0, 4), region(8, 4)], 16, 8, true),
            (vec![], 16, 0, true),
            (vec![region(8, 4), region(0, 4)], 16, 8, false),
            (vec![region(0, 8), region(4, 8)], 16, 16, false),
            (vec![region(12, 8)], 16, 8, false),
            (vec![region(u64::MAX, 8)], 16, 8, false),
            (vec![region(0, 4)], 16, 8, false),
            (vec![], u64::MAX, 0, false),
        ];
        for (regions, size, stored, valid) in cases {
            assert_eq!(
                Sparse::new(regions.clone(), size, stored).is_ok(),
                valid,
                "{regions:?}"
            );
        }
    }
}
