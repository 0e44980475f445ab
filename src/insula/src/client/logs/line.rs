//! A line of a container's log: `TIME STREAM TAGS CONTENT`, the CRI's log format (its constants
//! are in k8s.io/cri-api, pkg/apis/runtime/v1/constants.go).

/// Which stream a line came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stream {
    Stdout,
    Stderr,
}

/// A line, or a piece of one that was too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Line<'a> {
    /// RFC 3339 with nanoseconds.
    pub(crate) time: &'a str,
    pub(crate) stream: Stream,
    /// More of this line follows.
    pub(crate) partial: bool,
    pub(crate) content: &'a [u8],
}

impl<'a> Line<'a> {
    /// Parses a record without its line feed. `None` if it is not one.
    pub(crate) fn parse(record: &'a [u8]) -> Option<Self> {
        let (time, rest) = word(record)?;
        let (stream, rest) = word(rest)?;
        // A record without content may end after its tags.
        let (tags, content) = word(rest).unwrap_or((rest, &[]));
        let time = std::str::from_utf8(time).ok()?;
        if !time.contains('T') {
            return None;
        }
        let stream = match stream {
            b"stdout" => Stream::Stdout,
            b"stderr" => Stream::Stderr,
            _ => return None,
        };
        // More tags may come after a colon; the first one is this.
        let partial = match tags.split(|byte| *byte == b':').next()? {
            b"P" => true,
            b"F" => false,
            _ => return None,
        };
        Some(Self {
            time,
            stream,
            partial,
            content,
        })
    }
}

fn word(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = text.iter().position(|byte| *byte == b' ')?;
    Some((&text[..end], &text[end + 1..]))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn records() {
        let time = "2026-01-31T08:00:00.123456789Z";
        let line = |stream, partial, content: &'static [u8]| {
            Some(Line {
                time,
                stream,
                partial,
                content,
            })
        };
        for (rest, want) in [
            (
                "stdout F hello world",
                line(Stream::Stdout, false, b"hello world"),
            ),
            ("stderr P  x", line(Stream::Stderr, true, b" x")),
            ("stdout F ", line(Stream::Stdout, false, b"")),
            ("stdout F", line(Stream::Stdout, false, b"")),
            ("stdout F:x:y z", line(Stream::Stdout, false, b"z")),
            ("stdin F x", None),
            ("stdout X x", None),
            ("stdout", None),
        ] {
            let record = format!("{time} {rest}");
            assert_eq!(Line::parse(record.as_bytes()), want, "{rest:?}");
        }
        assert_eq!(Line::parse(b""), None);
        assert_eq!(Line::parse(b"{\"log\":\"x\"} stdout F x"), None);
    }

    proptest! {
        #[test]
        fn any_bytes(record in prop::collection::vec(any::<u8>(), 0..80)) {
            if let Some(line) = Line::parse(&record) {
                prop_assert!(record.ends_with(line.content));
            }
        }
    }
}
