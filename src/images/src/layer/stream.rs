//! A blob's pieces as a reader, and the whole way of one layer.

use std::io::{self, BufRead, Read};
use std::os::fd::OwnedFd;

use bytes::Bytes;
use tokio::sync::mpsc;

use super::extract::{Accounting, Extractor};
use super::untar::{self, TarStream};
use crate::digest::{Digest, Hasher};
use crate::error::{Error, Result};
use crate::manifest::{Compression, LayerDescriptor};
use crate::progress::LayerProgress;

/// The compressed bytes of a blob as they come from the network, hashed on the way.
pub(crate) struct PieceReader {
    pieces: mpsc::Receiver<Bytes>,
    current: Bytes,
    hasher: Hasher,
    missing: u64,
}

/// The uncompressed bytes, hashed, counted and bounded.
pub(super) struct DiffReader<'a> {
    decoder: Decoder,
    hasher: Hasher,
    total: u64,
    limit: u64,
    progress: &'a LayerProgress,
}

enum Decoder {
    Plain(Box<PieceReader>),
    Gzip(Box<flate2::bufread::MultiGzDecoder<PieceReader>>),
    Zstd(Box<zstd::stream::read::Decoder<'static, PieceReader>>),
}

/// Reads a layer's pieces to their end, unpacks them into `root` and checks both digests.
///
/// Blocks; returns early when the other end of the channel is gone. `limit` bounds the
/// uncompressed bytes.
pub(crate) fn unpack_layer(
    pieces: PieceReader,
    layer: &LayerDescriptor,
    diff_id: &Digest,
    limit: u64,
    root: OwnedFd,
    progress: &LayerProgress,
) -> Result<Accounting> {
    let what = format!("layer {}", layer.blob.digest);
    let mut pieces = pieces;
    let magic = pieces.magic().map_err(|error| read_error(&error, &what))?;
    if magic != layer.compression {
        let reason = format!(
            "its media type says {:?}, its first bytes {magic:?}",
            layer.compression
        );
        return Err(pieces.explain(layer, Error::corrupt(what, reason)));
    }
    let mut diff = DiffReader {
        decoder: Decoder::new(pieces, magic)?,
        hasher: Hasher::new(diff_id.algorithm()),
        total: 0,
        limit,
        progress,
    };
    let mut extractor = Extractor::new(root);
    let unpacked = untar::run(&mut TarStream::new(&mut diff), &mut extractor, &what)
        // What follows the archive's end counts for the digests too.
        .and_then(|()| {
            io::copy(&mut diff, &mut io::sink()).map_err(|error| read_error(&error, &what))
        });
    let mut pieces = diff.decoder.into_inner();
    if let Err(error) = unpacked {
        return Err(pieces.explain(layer, error));
    }
    pieces.verify(layer)?;
    let actual = diff.hasher.finish();
    if actual != *diff_id {
        let reason = format!(
            "its uncompressed digest is {actual}, the image's configuration says {diff_id}"
        );
        return Err(Error::corrupt(what, reason));
    }
    extractor.finish()
}

/// An error of a reader in this file: the stream's own ones are about the data.
pub(super) fn read_error(error: &io::Error, what: &str) -> Error {
    match error.kind() {
        io::ErrorKind::ConnectionAborted => Error::Cancelled(what.to_owned()),
        _ => Error::corrupt(what, error.to_string()),
    }
}

// === impl PieceReader ===

impl PieceReader {
    /// A reader of exactly `layer`'s size.
    pub(crate) fn new(layer: &LayerDescriptor, pieces: mpsc::Receiver<Bytes>) -> Self {
        Self {
            pieces,
            current: Bytes::new(),
            hasher: Hasher::new(layer.blob.digest.algorithm()),
            missing: layer.blob.size,
        }
    }

    fn receive(&mut self) -> io::Result<Option<Bytes>> {
        if self.missing == 0 {
            return Ok(None);
        }
        let Some(piece) = self.pieces.blocking_recv() else {
            return Err(io::Error::new(
                io::ErrorKind::ConnectionAborted,
                "the transfer was given up",
            ));
        };
        self.missing = self.missing.saturating_sub(piece.len() as u64);
        self.hasher.update(&piece);
        Ok(Some(piece))
    }

    /// What the first bytes say about the format.
    fn magic(&mut self) -> io::Result<Compression> {
        while self.current.len() < 4 {
            let Some(piece) = self.receive()? else { break };
            self.current = if self.current.is_empty() {
                piece
            } else {
                [&*self.current, &*piece].concat().into()
            };
        }
        Ok(Compression::of_magic(&self.current))
    }

    /// Reads what the decoder left and checks the blob's digest.
    fn verify(&mut self, layer: &LayerDescriptor) -> Result<()> {
        let what = format!("layer {}", layer.blob.digest);
        self.current = Bytes::new();
        loop {
            match self.receive() {
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(error) => return Err(read_error(&error, &what)),
            }
        }
        let blob = self.hasher.clone().finish();
        if blob == layer.blob.digest {
            return Ok(());
        }
        Err(Error::corrupt(
            what,
            format!("the digest of its bytes is {blob}"),
        ))
    }

    /// The better of two errors: that the registry sent other bytes explains every other one.
    fn explain(&mut self, layer: &LayerDescriptor, error: Error) -> Error {
        match (&error, self.verify(layer)) {
            (Error::Corrupt { .. }, Err(better @ Error::Corrupt { .. })) => better,
            _ => error,
        }
    }
}

impl BufRead for PieceReader {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.current.is_empty() {
            match self.receive()? {
                Some(piece) => self.current = piece,
                None => break,
            }
        }
        Ok(&self.current)
    }

    fn consume(&mut self, amount: usize) {
        let amount = amount.min(self.current.len());
        let _ = self.current.split_to(amount);
    }
}

impl Read for PieceReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let available = self.fill_buf()?;
        let amount = available.len().min(buffer.len());
        buffer[..amount].copy_from_slice(&available[..amount]);
        self.consume(amount);
        Ok(amount)
    }
}

// === impl Decoder ===

impl Decoder {
    fn new(pieces: PieceReader, compression: Compression) -> Result<Self> {
        Ok(match compression {
            Compression::None => Self::Plain(Box::new(pieces)),
            Compression::Gzip => Self::Gzip(Box::new(flate2::bufread::MultiGzDecoder::new(pieces))),
            Compression::Zstd => {
                let decoder = zstd::stream::read::Decoder::with_buffer(pieces);
                Self::Zstd(Box::new(
                    decoder.map_err(|error| Error::io("start a zstd decoder", error))?,
                ))
            }
        })
    }

    fn into_inner(self) -> PieceReader {
        match self {
            Self::Plain(pieces) => *pieces,
            Self::Gzip(decoder) => decoder.into_inner(),
            Self::Zstd(decoder) => decoder.into_inner(),
        }
    }
}

// === impl DiffReader ===

impl Read for DiffReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let amount = match &mut self.decoder {
            Decoder::Plain(pieces) => pieces.read(buffer)?,
            Decoder::Gzip(decoder) => decoder.read(buffer)?,
            Decoder::Zstd(decoder) => decoder.read(buffer)?,
        };
        self.hasher.update(&buffer[..amount]);
        self.total += amount as u64;
        if self.total > self.limit {
            return Err(io::Error::other(format!(
                "it unpacks to more than {} bytes",
                self.limit
            )));
        }
        self.progress.extracted(self.total);
        Ok(amount)
    }
}
