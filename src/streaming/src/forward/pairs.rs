//! Which two streams of a SPDY client belong together, without any input or
//! output.
//!
//! For each connection a client opens an error stream and a data stream, with
//! headers `port`, `requestID` and `streamType`. Clients older than
//! Kubernetes 1.3 leave out `requestID`: their data stream comes right after
//! its error stream, so its id is that one's plus two
//! (`k8s.io/cri-streaming`, `portforward/httpstream.go`).

use std::collections::HashMap;
use std::num::NonZeroU16;
use std::time::{Duration, Instant};

/// Streams that may wait for their partners at the same time.
const WAITING_MAX: usize = 1000;
/// Longest request id, in bytes.
const REQUEST_MAX: usize = 128;

/// Two streams that are one connection to a port.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Pair<S> {
    pub(crate) port: u16,
    pub(crate) data: S,
    pub(crate) error: S,
}

/// What the headers of a stream say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Named<'a> {
    /// The stream's id.
    pub(crate) id: u32,
    /// `port`
    pub(crate) port: Option<&'a str>,
    /// `requestID`
    pub(crate) request: Option<&'a str>,
    /// `streamType`
    pub(crate) kind: Option<&'a str>,
}

/// A stream cannot be part of a pair; it is to be reset.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unfit {
    #[error("the header port is not a number from 1 to 65535")]
    Port,
    #[error("the header streamType is neither \"data\" nor \"error\"")]
    Kind,
    #[error("the header requestID is longer than {REQUEST_MAX} bytes")]
    Request,
    #[error("the request has such a stream already, or one for another port")]
    Twice,
    #[error("{WAITING_MAX} streams wait for their partners already")]
    TooMany,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Data,
    Error,
}

/// Streams that wait for their partners.
#[derive(Debug)]
pub(crate) struct Pairs<S> {
    waiting: HashMap<String, Half<S>>,
}

#[derive(Debug)]
struct Half<S> {
    kind: Kind,
    port: u16,
    since: Instant,
    stream: S,
}

// === impl Pairs ===

impl<S> Pairs<S> {
    pub(crate) fn new() -> Self {
        Self {
            waiting: HashMap::new(),
        }
    }

    /// Takes a stream, and gives back the pair if it is whole now.
    pub(crate) fn add(
        &mut self,
        named: Named<'_>,
        stream: S,
        now: Instant,
    ) -> Result<Option<Pair<S>>, Unfit> {
        let kind = match named.kind {
            Some("data") => Kind::Data,
            Some("error") => Kind::Error,
            _ => return Err(Unfit::Kind),
        };
        let port = named.port.and_then(|port| port.parse::<NonZeroU16>().ok());
        let port = port.ok_or(Unfit::Port)?.get();
        let request = match (named.request, kind) {
            (Some(request), _) if request.len() > REQUEST_MAX => return Err(Unfit::Request),
            (Some(request), _) if !request.is_empty() => request.to_owned(),
            (_, Kind::Error) => named.id.to_string(),
            (_, Kind::Data) => named.id.saturating_sub(2).to_string(),
        };
        match self.waiting.get(&request) {
            None if self.waiting.len() >= WAITING_MAX => Err(Unfit::TooMany),
            Some(half) if half.kind == kind || half.port != port => Err(Unfit::Twice),
            Some(_) => Ok(self.waiting.remove(&request).map(|half| match half.kind {
                Kind::Data => Pair {
                    port,
                    data: half.stream,
                    error: stream,
                },
                Kind::Error => Pair {
                    port,
                    data: stream,
                    error: half.stream,
                },
            })),
            None => {
                let half = Half {
                    kind,
                    port,
                    since: now,
                    stream,
                };
                self.waiting.insert(request, half);
                Ok(None)
            }
        }
    }

    /// Takes out the streams whose partners did not come in time. Those that are
    /// error streams can be told so.
    pub(crate) fn expire(&mut self, limit: Duration, now: Instant) -> Vec<S> {
        self.waiting
            .extract_if(|_, half| now.duration_since(half.since) >= limit)
            .filter_map(|(_, half)| (half.kind == Kind::Error).then_some(half.stream))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::{Named, Pair, Pairs, Unfit, WAITING_MAX};
    use proptest::prelude::*;
    use std::time::{Duration, Instant};

    fn named<'a>(id: u32, kind: &'a str, port: &'a str, request: Option<&'a str>) -> Named<'a> {
        Named {
            id,
            port: Some(port),
            request,
            kind: Some(kind),
        }
    }

    #[test]
    fn streams_of_one_request_are_a_pair() {
        let now = Instant::now();
        for (first, second, whole) in [
            (
                named(1, "error", "80", Some("0")),
                named(3, "data", "80", Some("0")),
                true,
            ),
            (
                named(1, "data", "80", Some("0")),
                named(3, "error", "80", Some("0")),
                true,
            ),
            (
                named(1, "error", "80", None),
                named(3, "data", "80", None),
                true,
            ),
            (
                named(3, "data", "80", None),
                named(1, "error", "80", None),
                true,
            ),
            (
                named(1, "error", "80", Some("")),
                named(3, "data", "80", Some("")),
                true,
            ),
            (
                named(1, "error", "80", Some("0")),
                named(3, "data", "80", Some("1")),
                false,
            ),
            (
                named(1, "error", "80", None),
                named(5, "data", "80", None),
                false,
            ),
        ] {
            let mut pairs = Pairs::new();
            assert_eq!(pairs.add(first, first.id, now), Ok(None));
            let (data, error) = match first.kind {
                Some("data") => (first.id, second.id),
                _ => (second.id, first.id),
            };
            let want = whole.then_some(Pair {
                port: 80,
                data,
                error,
            });
            assert_eq!(
                pairs.add(second, second.id, now),
                Ok(want),
                "{first:?} {second:?}"
            );
        }
    }

    #[test]
    fn a_stream_without_a_place_is_refused() {
        let now = Instant::now();
        let long = "x".repeat(129);
        for (stream, want) in [
            (named(1, "stdin", "80", None), Unfit::Kind),
            (named(1, "data", "0", None), Unfit::Port),
            (named(1, "data", "65536", None), Unfit::Port),
            (named(1, "data", "http", None), Unfit::Port),
            (
                Named {
                    port: None,
                    ..named(1, "data", "", None)
                },
                Unfit::Port,
            ),
            (
                Named {
                    kind: None,
                    ..named(1, "", "80", None)
                },
                Unfit::Kind,
            ),
            (named(1, "data", "80", Some(&long)), Unfit::Request),
            (named(1, "error", "80", Some("taken")), Unfit::Twice),
            (named(1, "data", "81", Some("taken")), Unfit::Twice),
        ] {
            let mut pairs = Pairs::new();
            pairs
                .add(named(7, "error", "80", Some("taken")), 7, now)
                .unwrap();
            assert_eq!(pairs.add(stream, 1, now), Err(want), "{stream:?}");
        }
    }

    #[test]
    fn who_waits_too_long_is_given_back() {
        let mut pairs = Pairs::new();
        let begin = Instant::now();
        let limit = Duration::from_secs(30);
        pairs
            .add(named(1, "error", "80", Some("a")), 1, begin)
            .unwrap();
        pairs
            .add(named(3, "data", "80", Some("b")), 3, begin)
            .unwrap();
        let later = begin + Duration::from_secs(10);
        pairs
            .add(named(5, "error", "80", Some("c")), 5, later)
            .unwrap();
        assert!(pairs.expire(limit, later).is_empty());
        assert_eq!(pairs.expire(limit, begin + limit), [1]);
        assert_eq!(pairs.waiting.len(), 1);
    }

    #[test]
    fn the_number_that_waits_is_bounded() {
        let mut pairs = Pairs::new();
        let now = Instant::now();
        for at in 0..WAITING_MAX {
            pairs
                .add(named(1, "data", "80", Some(&at.to_string())), at, now)
                .unwrap();
        }
        let more = named(1, "data", "80", Some("more"));
        assert_eq!(pairs.add(more, 0, now), Err(Unfit::TooMany));
        let partner = named(1, "error", "80", Some("0"));
        assert!(pairs.add(partner, 0, now).unwrap().is_some());
    }

    proptest! {
        #[test]
        fn no_stream_is_lost(
            streams in proptest::collection::vec((any::<bool>(), 0u32..20, 1u16..3), 0..100),
        ) {
            let now = Instant::now();
            let mut pairs = Pairs::new();
            let (mut paired, mut refused) = (0, 0);
            for (id, (data, request, port)) in streams.iter().enumerate() {
                let kind = if *data { "data" } else { "error" };
                let (request, port) = (request.to_string(), port.to_string());
                match pairs.add(named(1, kind, &port, Some(&request)), id, now) {
                    Ok(Some(_)) => paired += 2,
                    Ok(None) => {}
                    Err(_) => refused += 1,
                }
            }
            prop_assert_eq!(paired + refused + pairs.waiting.len(), streams.len());
        }
    }
}
