//! The loop over a tar stream's entries. The parser is tar-core; nothing here touches a disk.

use std::io::Read;

use tar_core::parse::{Limits, ParseEvent, Parser};

use super::extract::Extractor;
use super::read::{Entry, Sparse};
use super::stream::read_error;
use crate::error::{Error, Result};

/// The buffer's usual size: fits the second-level cache, and most files whole.
const BUFFER: usize = 256 * 1024;
/// The buffer's largest size: an entry's headers, long names and sparse map must fit.
const MAX_BUFFER: usize = 4 * 1024 * 1024;
/// Regions of one sparse file (CVE-2025-58183).
const MAX_REGIONS: usize = 65_536;

/// A tar stream with its buffer.
pub(super) struct TarStream<'a> {
    reader: &'a mut dyn Read,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// Bytes that were read before `end`.
    read: u64,
}

/// The content of the entry at hand.
pub(super) struct Content<'s, 'a> {
    stream: &'s mut TarStream<'a>,
    left: u64,
    what: &'s str,
}

enum Step {
    Entry(Entry, u64),
    Skip,
    More(usize),
    End,
}

/// Reads entries until the archive's end and hands each to the extractor. `what` names the layer.
pub(super) fn run(stream: &mut TarStream<'_>, extractor: &mut Extractor, what: &str) -> Result<()> {
    each(stream, what, |entry, content| {
        extractor.entry(entry, content)
    })
}

/// Reads an archive without writing anything. True if it is well-formed.
pub(crate) fn parse_only(mut archive: &[u8]) -> bool {
    each(&mut TarStream::new(&mut archive), "archive", |_, _| Ok(())).is_ok()
}

/// Reads entries until the archive's end and hands each to `visit`.
pub(super) fn each(
    stream: &mut TarStream<'_>,
    what: &str,
    mut visit: impl FnMut(&Entry, &mut Content<'_, '_>) -> Result<()>,
) -> Result<()> {
    let mut parser = Parser::new(Limits {
        max_metadata_size: 1024 * 1024,
        max_path_len: Some(4096),
        max_pending_entries: 16,
        max_sparse_entries: MAX_REGIONS,
    });
    parser.set_ignore_pax_errors(true);
    loop {
        match stream.step(&mut parser, what)? {
            Step::Entry(entry, size) => {
                let mut content = Content {
                    stream,
                    left: size,
                    what,
                };
                visit(&entry, &mut content)?;
                content.skip_rest()?;
                stream.skip(size.next_multiple_of(512) - size, what)?;
            }
            Step::Skip => {}
            Step::More(wanted) => {
                if !stream.fill(wanted, what)? {
                    // Some tools leave the end marker out, or write half of it.
                    if stream.rest().iter().all(|byte| *byte == 0) {
                        return Ok(());
                    }
                    return Err(Error::corrupt(what, "the tar archive ends within an entry"));
                }
            }
            Step::End => return Ok(()),
        }
    }
}

// === impl TarStream ===

impl<'a> TarStream<'a> {
    pub(super) fn new(reader: &'a mut dyn Read) -> Self {
        Self {
            reader,
            buffer: vec![0; BUFFER],
            start: 0,
            end: 0,
            read: 0,
        }
    }

    fn step(&mut self, parser: &mut Parser, what: &str) -> Result<Step> {
        let event = parser.parse(&self.buffer[self.start..self.end]);
        let event = event.map_err(|error| Error::corrupt(what, error.to_string()))?;
        let (consumed, step) = match event {
            ParseEvent::NeedData { min_bytes } => (0, Step::More(min_bytes)),
            ParseEvent::Entry { consumed, entry } => match Entry::new(&entry, None, what)? {
                Some(entry) => {
                    let size = entry.content_size();
                    (consumed, Step::Entry(entry, size))
                }
                None => (consumed, Step::Skip),
            },
            ParseEvent::SparseEntry {
                consumed,
                entry,
                sparse_map,
                real_size,
            } => {
                let sparse = Sparse::new(sparse_map, real_size, entry.size).map_err(|reason| {
                    Error::corrupt(
                        what,
                        format!("entry \"{}\": {reason}", entry.path_lossy().escape_debug()),
                    )
                })?;
                match Entry::new(&entry, Some(sparse), what)? {
                    Some(entry) => {
                        let size = entry.content_size();
                        (consumed, Step::Entry(entry, size))
                    }
                    None => (consumed, Step::Skip),
                }
            }
            // Comments of `git archive` and the like. Docker and containerd ignore them too.
            ParseEvent::GlobalExtensions { consumed, .. } => (consumed, Step::Skip),
            ParseEvent::End { consumed } => (consumed, Step::End),
        };
        self.start += consumed;
        Ok(step)
    }

    fn rest(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    /// Makes at least `wanted` bytes available. False if the stream ends before.
    fn fill(&mut self, wanted: usize, what: &str) -> Result<bool> {
        if wanted > MAX_BUFFER {
            return Err(Error::corrupt(
                what,
                "an entry's headers are larger than 4 MiB",
            ));
        }
        if self.start + wanted > self.buffer.len() || self.start == self.end {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        if wanted > self.buffer.len() {
            self.buffer
                .resize(wanted.next_power_of_two().min(MAX_BUFFER), 0);
        }
        while self.end - self.start < wanted {
            if self.read_more(what)? == 0 {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn read_more(&mut self, what: &str) -> Result<usize> {
        let amount = loop {
            match self.reader.read(&mut self.buffer[self.end..]) {
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                other => break other.map_err(|error| read_error(&error, what))?,
            }
        };
        self.end += amount;
        self.read += amount as u64;
        Ok(amount)
    }

    fn skip(&mut self, mut amount: u64, what: &str) -> Result<()> {
        while amount > 0 {
            if self.start == self.end && !self.fill(1, what)? {
                return Err(Error::corrupt(what, "the tar archive ends within an entry"));
            }
            let here = usize::try_from(amount)
                .unwrap_or(usize::MAX)
                .min(self.end - self.start);
            self.start += here;
            amount -= here as u64;
        }
        Ok(())
    }
}

// === impl Content ===

impl Content<'_, '_> {
    /// The next piece of at most `limit` bytes. Empty only if nothing is left or `limit` is 0.
    pub(super) fn next(&mut self, limit: u64) -> Result<&[u8]> {
        let wanted = self.left.min(limit);
        if wanted == 0 {
            return Ok(&[]);
        }
        if self.stream.start == self.stream.end && !self.stream.fill(1, self.what)? {
            return Err(Error::corrupt(
                self.what,
                "the tar archive ends within a file",
            ));
        }
        let start = self.stream.start;
        let amount = usize::try_from(wanted)
            .unwrap_or(usize::MAX)
            .min(self.stream.end - start);
        self.stream.start += amount;
        self.left -= amount as u64;
        Ok(&self.stream.buffer[start..start + amount])
    }

    fn skip_rest(&mut self) -> Result<()> {
        let left = std::mem::take(&mut self.left);
        self.stream.skip(left, self.what)
    }

    /// Where in the archive the content goes on.
    pub(super) fn position(&self) -> u64 {
        self.stream.read - (self.stream.end - self.stream.start) as u64
    }

    /// What the content belongs to, for errors.
    pub(super) fn what(&self) -> &str {
        self.what
    }
}
