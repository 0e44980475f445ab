//! Reads a bbolt database, the format of etcd's and containerd's metadata
//! (go.etcd.io/bbolt, README.md and internal/common/page.go).
//!
//! The file is a copy-on-write B+ tree of pages. Two meta pages take turns: the valid one with the
//! higher transaction is the state. A bucket is a tree of its own, small ones stand within the
//! value that names them. All of the file is read at once, so that what a running writer does
//! afterwards changes nothing; that the state was not overwritten while it was read is checked.
//! Whatever the file says is an offset to be checked, never to be trusted.

use std::fs::File;
use std::os::unix::fs::FileExt as _;

use crate::error::{Error, IoContext as _, Result};

/// Upper bound of the file, in bytes.
const MAX_FILE: u64 = 1 << 30;
/// Upper bound of a tree's depth, and of buckets within buckets that stand within a value.
const MAX_DEPTH: usize = 64;
/// How often a file that changes is read again.
const ATTEMPTS: usize = 10;

const HEADER: usize = 16;
const MAGIC: u32 = 0xed0c_daed;
const VERSION: u32 = 2;
const BRANCH: u16 = 0x01;
const LEAF: u16 = 0x02;
/// Of a leaf's element: its value is a bucket.
const IS_BUCKET: u32 = 0x01;

/// A database, whole in memory.
#[derive(Debug)]
pub(super) struct Database {
    name: String,
    bytes: Vec<u8>,
    state: Meta,
}

/// What a meta page says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Meta {
    page_size: usize,
    root: u64,
    transaction: u64,
}

/// A bucket: values and further buckets by key.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bucket<'a> {
    database: &'a Database,
    node: Node<'a>,
}

/// Where a bucket's tree begins.
#[derive(Debug, Clone, Copy)]
enum Node<'a> {
    Page(u64),
    /// A leaf within the value that names the bucket.
    Inline(&'a [u8]),
}

enum Entry<'a> {
    Value(&'a [u8]),
    Bucket(Bucket<'a>),
}

// === impl Database ===

impl Database {
    /// Reads a file that somebody may be writing. `name` names it in errors.
    pub(super) fn read(file: &File, name: &str) -> Result<Self> {
        for _ in 0..ATTEMPTS {
            let size = file.metadata().context(|| format!("look at {name}"))?.len();
            if size > MAX_FILE {
                return Err(Error::corrupt(
                    name,
                    format!("it has {size} bytes, more than {MAX_FILE}"),
                ));
            }
            let mut bytes = vec![0; usize::try_from(size).unwrap_or(0)];
            match file.read_exact_at(&mut bytes, 0) {
                Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => continue,
                read => read.context(|| format!("read {name}"))?,
            }
            let database = Self::parse(bytes, name)?;
            // A writer frees pages in one transaction and uses them in the next at the earliest.
            let mut metas = vec![0; database.bytes.len().min(database.state.page_size * 2)];
            file.read_exact_at(&mut metas, 0)
                .context(|| format!("read {name}"))?;
            if newest(&metas) == Some(database.state) {
                return Ok(database);
            }
        }
        Err(Error::Unavailable(format!(
            "{name} changes faster than it can be read; stop its writer"
        )))
    }

    fn parse(bytes: Vec<u8>, name: &str) -> Result<Self> {
        let state = newest(&bytes).ok_or_else(|| {
            Error::corrupt(name, "it is no bbolt database: no meta page is valid")
        })?;
        Ok(Self {
            name: name.to_owned(),
            bytes,
            state,
        })
    }

    /// The bucket that holds all others.
    pub(super) fn root(&self) -> Bucket<'_> {
        Bucket {
            database: self,
            node: Node::Page(self.state.root),
        }
    }

    fn corrupt(&self, reason: &str) -> Error {
        Error::corrupt(&self.name, reason)
    }

    /// A page with those that it overflows into.
    fn page(&self, number: u64) -> Result<&[u8]> {
        let size = self.state.page_size;
        let start = usize::try_from(number)
            .ok()
            .and_then(|number| number.checked_mul(size))
            .filter(|start| {
                start
                    .checked_add(size)
                    .is_some_and(|end| end <= self.bytes.len())
            })
            .ok_or_else(|| self.corrupt("a page is outside of it"))?;
        let overflow = u32_at(&self.bytes, start + 12).unwrap_or(0);
        let end = usize::try_from(overflow)
            .ok()
            .and_then(|pages| (pages + 1).checked_mul(size))
            .and_then(|length| start.checked_add(length))
            .filter(|end| *end <= self.bytes.len())
            .ok_or_else(|| self.corrupt("a page overflows its end"))?;
        Ok(&self.bytes[start..end])
    }
}

/// The newer of the two meta pages. The first tells the size of a page; where it is torn, the
/// second lies at one of the usual sizes.
fn newest(bytes: &[u8]) -> Option<Meta> {
    let first = Meta::parse(bytes);
    let second = match first {
        Some(meta) => bytes.get(meta.page_size..).and_then(Meta::parse),
        None => (9..=16).find_map(|bits| {
            let meta = bytes.get(1 << bits..).and_then(Meta::parse)?;
            (meta.page_size == 1 << bits).then_some(meta)
        }),
    };
    [first, second]
        .into_iter()
        .flatten()
        .max_by_key(|meta| meta.transaction)
}

// === impl Meta ===

impl Meta {
    fn parse(page: &[u8]) -> Option<Self> {
        let meta = page.get(HEADER..HEADER + 64)?;
        let page_size = usize::try_from(u32_at(meta, 8)?).ok()?;
        let valid = u32_at(meta, 0)? == MAGIC
            && u32_at(meta, 4)? == VERSION
            && page_size.is_power_of_two()
            && (512..=65_536).contains(&page_size)
            && u64_at(meta, 56)? == fnv1a(&meta[..56]);
        valid.then_some(Self {
            page_size,
            root: u64_at(meta, 16)?,
            transaction: u64_at(meta, 48)?,
        })
    }
}

/// FNV-1a of 64 bits (RFC 9923).
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

// === impl Bucket ===

impl<'a> Bucket<'a> {
    /// A bucket within this one.
    pub(super) fn bucket(&self, key: &[u8]) -> Result<Option<Bucket<'a>>> {
        match self.find(key)? {
            Some(Entry::Bucket(bucket)) => Ok(Some(bucket)),
            _ => Ok(None),
        }
    }

    /// A value.
    pub(super) fn value(&self, key: &[u8]) -> Result<Option<&'a [u8]>> {
        match self.find(key)? {
            Some(Entry::Value(value)) => Ok(Some(value)),
            _ => Ok(None),
        }
    }

    /// Every bucket within this one, with its key.
    pub(super) fn each_bucket(
        &self,
        mut visit: impl FnMut(&'a [u8], Bucket<'a>) -> Result<()>,
    ) -> Result<()> {
        self.walk(&mut |key, entry| {
            if let Entry::Bucket(bucket) = entry {
                visit(key, bucket)?;
            }
            Ok(())
        })
    }

    /// The tree is sorted, but buckets are few and read once: all of it is looked at.
    fn find(&self, wanted: &[u8]) -> Result<Option<Entry<'a>>> {
        let mut found = None;
        self.walk(&mut |key, entry| {
            if key == wanted {
                found = Some(entry);
            }
            Ok(())
        })?;
        Ok(found)
    }

    fn walk(&self, visit: &mut dyn FnMut(&'a [u8], Entry<'a>) -> Result<()>) -> Result<()> {
        let database = self.database;
        // Each page is in one place of one tree: more visits than pages are a circle.
        let mut left = database.bytes.len() / database.state.page_size + 1;
        let mut pending = vec![(self.node, 0)];
        while let Some((node, depth)) = pending.pop() {
            left = left
                .checked_sub(1)
                .filter(|_| depth < MAX_DEPTH)
                .ok_or_else(|| database.corrupt("its tree has a circle"))?;
            let page = match node {
                Node::Page(number) => database.page(number)?,
                Node::Inline(page) => page,
            };
            let short = || database.corrupt("a page's element is outside of it");
            let count = usize::from(u16_at(page, 10).ok_or_else(short)?);
            match u16_at(page, 8).ok_or_else(short)? {
                LEAF => {
                    for at in 0..count {
                        let (key, entry) = self.leaf(page, at).ok_or_else(short)?;
                        visit(key, entry)?;
                    }
                }
                BRANCH => {
                    for at in (0..count).rev() {
                        let child = u64_at(page, HEADER + at * 16 + 8).ok_or_else(short)?;
                        pending.push((Node::Page(child), depth + 1));
                    }
                }
                _ => return Err(database.corrupt("a page is neither branch nor leaf")),
            }
        }
        Ok(())
    }

    fn leaf(&self, page: &'a [u8], at: usize) -> Option<(&'a [u8], Entry<'a>)> {
        let start = HEADER + at * 16;
        let number = |offset| usize::try_from(u32_at(page, start + offset)?).ok();
        let flags = u32_at(page, start)?;
        let key_start = start.checked_add(number(4)?)?;
        let value_start = key_start.checked_add(number(8)?)?;
        let value_end = value_start.checked_add(number(12)?)?;
        let key = page.get(key_start..value_start)?;
        let value = page.get(value_start..value_end)?;
        if flags & IS_BUCKET == 0 {
            return Some((key, Entry::Value(value)));
        }
        // A bucket's value: the page of its root and a counter; the root is inline if it is 0.
        let node = match u64_at(value, 0)? {
            0 => Node::Inline(value.get(16..)?),
            number => Node::Page(number),
        };
        let database = self.database;
        Some((key, Entry::Bucket(Bucket { database, node })))
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    let bytes = bytes.get(at..at.checked_add(2)?)?;
    Some(u16::from_le_bytes(bytes.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_le_bytes(bytes.try_into().ok()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    let bytes = bytes.get(at..at.checked_add(8)?)?;
    Some(u64::from_le_bytes(bytes.try_into().ok()?))
}

/// Reads all buckets of a database, however deep. True if it is well-formed.
pub(crate) fn parse(bytes: &[u8]) -> bool {
    fn all(bucket: Bucket<'_>, depth: usize, budget: &mut usize) -> Result<()> {
        if depth > MAX_DEPTH || *budget == 0 {
            return Ok(());
        }
        *budget -= 1;
        bucket.each_bucket(|_, inner| all(inner, depth + 1, budget))
    }
    let database = Database::parse(bytes.to_vec(), "database");
    let all = database.and_then(|database| all(database.root(), 0, &mut 1000));
    all.is_ok()
}

#[cfg(test)]
mod tests;
