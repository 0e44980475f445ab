//! Header blocks: names and values, compressed with zlib (section 2.6.10).

use std::borrow::Cow;

use bytes::{Buf, BufMut};
use flate2::{Decompress, FlushDecompress, Status as Progress};

use super::dictionary::{DICTIONARY, DICTIONARY_ID};
use super::error::SpdyError;

/// Pairs one block may have. Kubernetes uses three.
const MAXIMUM_PAIRS: usize = 128;

/// The names and values that a stream was opened with.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Headers(Vec<(String, String)>);

impl Headers {
    /// The first value of a header, whose name is compared without regard to case.
    pub fn get(&self, name: &str) -> Option<&str> {
        let (_, values) = self
            .0
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name))?;
        values.split('\0').next()
    }

    /// Names and values, in the order of the block. Values of one name are separated by NUL.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Reads an inflated block. The error is what is wrong with it; it is the stream's, as the
    /// compression context is not touched by it.
    pub(super) fn parse(mut block: &[u8]) -> Result<Self, Cow<'static, str>> {
        let pairs = block.try_get_u32().map_err(|_| "header block is cut off")?;
        let pairs = usize::try_from(pairs).unwrap_or(usize::MAX);
        if pairs > MAXIMUM_PAIRS {
            return Err(format!("has {pairs} headers, more than {MAXIMUM_PAIRS}").into());
        }
        let mut headers = Vec::with_capacity(pairs);
        for _ in 0..pairs {
            let name = text(&mut block)?;
            let value = text(&mut block)?;
            if name.is_empty() {
                return Err("has a header without a name".into());
            }
            // RFC 7540 took this rule over; a proxy that folds case must not see two of a name.
            if name.bytes().any(|octet| octet.is_ascii_uppercase()) {
                return Err(format!("has a header name in upper case, {name:?}").into());
            }
            if headers.iter().any(|(known, _)| *known == name) {
                return Err(format!("has the header {name:?} twice").into());
            }
            headers.push((name, value));
        }
        if !block.is_empty() {
            return Err("header block goes on after its last header".into());
        }
        Ok(Self(headers))
    }

    /// The block of these names and values, not compressed. Names are written in lower case.
    pub(super) fn block(pairs: &[(&str, &str)]) -> Vec<u8> {
        let mut block = Vec::new();
        block.put_uint(pairs.len() as u64, 4);
        for (name, value) in pairs {
            for text in [name.to_ascii_lowercase().as_str(), value] {
                block.put_uint(text.len() as u64, 4);
                block.put_slice(text.as_bytes());
            }
        }
        block
    }
}

fn text(block: &mut &[u8]) -> Result<String, Cow<'static, str>> {
    let length = block.try_get_u32().map_err(|_| "header block is cut off")?;
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    let octets = block.split_off(..length).ok_or("header block is cut off")?;
    String::from_utf8(octets.to_vec()).map_err(|_| "has a header that is not UTF-8".into())
}

/// Inflates the header blocks of the other end: one zlib stream for the whole connection.
#[derive(Debug)]
pub(super) struct Inflater {
    zlib: Decompress,
    /// Octets one block may have when inflated.
    limit: usize,
}

impl Inflater {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            zlib: Decompress::new(true),
            limit,
        }
    }

    /// Inflates one block. After an error no other block can be inflated.
    pub(super) fn inflate(&mut self, block: &[u8]) -> Result<Vec<u8>, SpdyError> {
        let start = self.zlib.total_in();
        let mut inflated = Vec::with_capacity(self.limit.min(512));
        let mut position = (0, 0);
        loop {
            let rest = block.get(position.0..).unwrap_or_default();
            match self
                .zlib
                .decompress_vec(rest, &mut inflated, FlushDecompress::Sync)
            {
                Ok(Progress::StreamEnd) => {
                    return Err(SpdyError::Compression("the zlib stream ends".into()));
                }
                Ok(Progress::Ok | Progress::BufError) => {}
                Err(error) => {
                    self.prime(&error)?;
                    position.0 = self.taken(start);
                    continue;
                }
            }
            if inflated.len() > self.limit {
                return Err(SpdyError::HeadersTooLarge { limit: self.limit });
            }
            let reached = (self.taken(start), inflated.len());
            let full = inflated.len() == inflated.capacity();
            if full {
                let more = inflated.len().min(self.limit + 1 - inflated.len());
                inflated.reserve_exact(more);
            } else if reached == position {
                // zlib takes all it is given unless the octets are wrong
                return match reached.0 == block.len() {
                    true => Ok(inflated),
                    false => Err(SpdyError::Compression("zlib makes no progress".into())),
                };
            }
            position = reached;
        }
    }

    /// Octets taken of the block that began at `start`.
    fn taken(&self, start: u64) -> usize {
        usize::try_from(self.zlib.total_in() - start).unwrap_or(usize::MAX)
    }

    /// Gives zlib the dictionary, if that is what it asked for.
    fn prime(&mut self, error: &flate2::DecompressError) -> Result<(), SpdyError> {
        match error.needs_dictionary() {
            Some(DICTIONARY_ID) => self
                .zlib
                .set_dictionary(DICTIONARY)
                .map(drop)
                .map_err(|error| SpdyError::Compression(error.to_string())),
            Some(other) => Err(SpdyError::Compression(format!(
                "it asks for the dictionary {other:#010x}"
            ))),
            None => Err(SpdyError::Compression(error.to_string())),
        }
    }
}

/// Writes header blocks as one zlib stream of stored blocks (RFC 1951 section 3.2.4).
///
/// What this end sends are empty blocks and names of 30 octets. A compressor would cost 300 KiB for
/// each connection and save nothing; stored blocks are as valid, and give nothing away by their
/// length either.
#[derive(Debug, Default)]
pub(super) struct Deflater {
    started: bool,
}

/// Deflate with a window of 32 KiB, FDICT; a multiple of 31 as it stands (RFC 1950 section 2.2).
const ZLIB_HEADER: u16 = 0x7820;
/// An empty stored block: what Z_SYNC_FLUSH ends with, at which readers give what they have.
const FLUSH: [u8; 5] = [0x00, 0x00, 0x00, 0xff, 0xff];

impl Deflater {
    /// The octets of a header block in a frame.
    pub(super) fn deflate(&mut self, block: &[u8]) -> Vec<u8> {
        let mut deflated = Vec::with_capacity(block.len() + 16);
        if !self.started {
            self.started = true;
            deflated.put_u16(ZLIB_HEADER);
            deflated.put_u32(DICTIONARY_ID);
        }
        for part in block.chunks(usize::from(u16::MAX)) {
            let length = u16::try_from(part.len()).unwrap_or(u16::MAX);
            deflated.put_u8(0);
            deflated.put_u16_le(length);
            deflated.put_u16_le(!length);
            deflated.put_slice(part);
        }
        deflated.put_slice(&FLUSH);
        deflated
    }
}

#[cfg(test)]
mod tests;
