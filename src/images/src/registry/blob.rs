//! A layer's blob as a stream of bytes that survives broken connections.
//!
//! The seam for range-parallel fetching is [`BlobSource::run`]: it alone decides which bytes come
//! from which request, and its consumer only sees them in order.

use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_RANGE, HeaderValue, RANGE};
use http::{HeaderMap, Method, Response, StatusCode, Uri};
use hyper::body::{Body as _, Incoming};
use tokio::sync::mpsc;

use super::session::Session;
use super::transport::Transport;
use super::{host_of, redacted};
use crate::error::{Error, Result};
use crate::manifest::LayerDescriptor;
use crate::progress::LayerProgress;

/// Attempts in a row that brought no byte.
const MAX_FRUITLESS: u32 = 4;
/// Attempts in all: a registry that sends one byte per connection is not waited for.
const MAX_ATTEMPTS: u32 = 32;
/// The wait before the first repetition; doubled for each further one without progress.
const BACKOFF: Duration = Duration::from_millis(200);

/// Fetches one blob.
pub(crate) struct BlobSource<'a> {
    pub(crate) session: &'a Session,
    pub(crate) layer: &'a LayerDescriptor,
    pub(crate) progress: &'a LayerProgress,
}

struct Opened<'a> {
    body: Incoming,
    url: Uri,
    transport: Source<'a>,
    /// Bytes that the server sends again, because it does not know ranges.
    skip: u64,
}

enum Source<'a> {
    Peer(&'a Transport),
    Foreign(Box<Transport>),
}

// === impl BlobSource ===

impl BlobSource<'_> {
    /// Sends the blob's bytes, in order and exactly as many as its descriptor says, into `sink`.
    /// Returns early if the receiver is gone: then it has an error of its own to tell.
    pub(crate) async fn run(&self, sink: mpsc::Sender<Bytes>) -> Result<()> {
        let size = self.layer.blob.size;
        let mut offset = 0;
        let mut fruitless = 0;
        for _ in 0..MAX_ATTEMPTS {
            let before = offset;
            match self.attempt(&mut offset, &sink).await {
                Ok(()) => return Ok(()),
                Err(error) if !worth_repeating(&error) => return Err(error),
                Err(error) => {
                    // Silence has cost a whole deadline already: it gets one more chance only.
                    let cost = if matches!(error, Error::DeadlineExceeded { .. }) {
                        2
                    } else {
                        1
                    };
                    fruitless = if offset > before { 0 } else { fruitless + cost };
                    if fruitless >= MAX_FRUITLESS {
                        return Err(error);
                    }
                    tracing::debug!(%error, offset, size, "blob transfer broke, going on");
                    tokio::time::sleep(BACKOFF * 2u32.pow(fruitless)).await;
                }
            }
        }
        Err(Error::Unavailable(format!(
            "the connection broke {MAX_ATTEMPTS} times while reading {} of {}",
            self.layer.blob.digest,
            self.session.reference()
        )))
    }

    async fn attempt(&self, offset: &mut u64, sink: &mpsc::Sender<Bytes>) -> Result<()> {
        let size = self.layer.blob.size;
        if *offset == size {
            return Ok(());
        }
        let mut opened = self.open(*offset).await?;
        // All of the blob, if the answer says how long it is.
        let whole = (*offset == 0 && opened.skip == 0)
            .then(|| opened.body.size_hint().exact())
            .flatten();
        let transport = match &opened.transport {
            Source::Peer(transport) => transport,
            Source::Foreign(transport) => &**transport,
        };
        while let Some(mut piece) = transport.next_piece(&mut opened.body, &opened.url).await? {
            let skipped = opened.skip.min(piece.len() as u64);
            opened.skip -= skipped;
            let piece = piece.split_off(
                usize::try_from(skipped)
                    .unwrap_or(usize::MAX)
                    .min(piece.len()),
            );
            if piece.is_empty() {
                continue;
            }
            *offset += piece.len() as u64;
            if *offset > size {
                return Err(Error::corrupt(
                    format!(
                        "layer {} from {}",
                        self.layer.blob.digest,
                        host_of(&opened.url)
                    ),
                    format!("it is larger than the {size} bytes of its descriptor"),
                ));
            }
            self.progress.downloaded(*offset);
            if sink.send(piece).await.is_err() {
                return Ok(());
            }
        }
        if *offset == size {
            return Ok(());
        }
        if whole == Some(*offset) {
            return Err(Error::corrupt(
                format!(
                    "layer {} from {}",
                    self.layer.blob.digest,
                    host_of(&opened.url)
                ),
                format!("it has {offset} bytes and not the {size} of its descriptor"),
            ));
        }
        Err(Error::Unavailable(format!(
            "{} ended {} after {offset} of {size} bytes",
            host_of(&opened.url),
            redacted(&opened.url)
        )))
    }

    /// Opens the blob at an offset, at the first host that has it; then at the layer's own URLs.
    async fn open(&self, offset: u64) -> Result<Opened<'_>> {
        let mut range = HeaderMap::new();
        if offset > 0 {
            let text = format!("bytes={offset}-");
            range.insert(
                RANGE,
                HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static("bytes=0-")),
            );
        }
        let mut errors = Vec::new();
        let reference = self.session.reference();
        for peer in self.session.peers.iter().filter(|peer| peer.serves(false)) {
            let object = self.layer.blob.digest.as_str();
            match peer
                .request(Method::GET, reference, "blobs", object, &range)
                .await
            {
                Ok((response, url)) => match start_of(&response, offset, &url) {
                    Ok(skip) => {
                        let transport = Source::Peer(&peer.transport);
                        return Ok(Opened {
                            body: response.into_body(),
                            url,
                            transport,
                            skip,
                        });
                    }
                    Err(error) => errors.push(error),
                },
                Err(error) => errors.push(error),
            }
        }
        for url in &self.layer.urls {
            match self.open_foreign(url, &range, offset).await {
                Ok(opened) => return Ok(opened),
                Err(error) => errors.push(error),
            }
        }
        Err(self.session.combine(errors))
    }

    /// A URL from the manifest: a stranger's, so no credential, header or certificate of ours
    /// goes there and no challenge is answered.
    async fn open_foreign(&self, url: &str, range: &HeaderMap, offset: u64) -> Result<Opened<'_>> {
        let bad = || Error::Unavailable("a foreign layer's URL is not HTTP".into());
        let url: Uri = url.parse().map_err(|_| bad())?;
        if !matches!(url.scheme_str(), Some("http" | "https")) || url.host().is_none() {
            return Err(bad());
        }
        let transport = Box::new(Transport::bare(self.session.timeouts));
        let response = transport
            .get(Method::GET, &url, range, &HeaderMap::new())
            .await?;
        if !response.status().is_success() {
            return Err(Error::Unavailable(format!(
                "{} answered {} for the foreign layer {}",
                host_of(&url),
                response.status(),
                self.layer.blob.digest
            )));
        }
        let skip = start_of(&response, offset, &url)?;
        Ok(Opened {
            body: response.into_body(),
            url,
            transport: Source::Foreign(transport),
            skip,
        })
    }
}

/// How many bytes of this answer come before `offset`.
fn start_of(response: &Response<Incoming>, offset: u64, url: &Uri) -> Result<u64> {
    if response.status() != StatusCode::PARTIAL_CONTENT {
        return Ok(offset);
    }
    let header = response
        .headers()
        .get(CONTENT_RANGE)
        .and_then(|value| value.to_str().ok());
    let start = header.and_then(content_range_start);
    match start {
        Some(start) if start <= offset => Ok(offset - start),
        _ => Err(Error::Unavailable(format!(
            "{} sent another range than asked for",
            redacted(url)
        ))),
    }
}

/// The first number of `bytes 5-9/10`.
fn content_range_start(header: &str) -> Option<u64> {
    header
        .trim()
        .strip_prefix("bytes ")?
        .split('-')
        .next()?
        .trim()
        .parse()
        .ok()
}

fn worth_repeating(error: &Error) -> bool {
    matches!(
        error,
        Error::Unavailable(_) | Error::DeadlineExceeded { .. }
    )
}

#[cfg(test)]
mod tests {
    use super::content_range_start;

    #[test]
    fn content_ranges() {
        let cases = [
            ("bytes 5-9/10", Some(5)),
            ("bytes 5-9/*", Some(5)),
            ("bytes */10", None),
            ("5-9/10", None),
            ("", None),
        ];
        for (header, start) in cases {
            assert_eq!(content_range_start(header), start, "{header}");
        }
    }
}
