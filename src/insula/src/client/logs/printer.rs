//! From log records to what the container wrote.

use std::io::{self, Write};

use super::line::{Line, Stream};
use crate::client::error::ClientError;
use crate::client::time::Moment;

/// Longest record that is kept while its end is awaited: a runtime splits at 16 KiB, and a file
/// that never has a line feed is no log.
const MAX_RECORD: usize = 1 << 20;

/// Where the streams go.
pub(crate) trait Sink {
    fn write(&mut self, stream: Stream, bytes: &[u8]) -> io::Result<()>;
    fn flush(&mut self) -> io::Result<()>;
}

/// Standard output and standard error of this process.
#[derive(Debug)]
pub(crate) struct Standard;

impl Sink for Standard {
    fn write(&mut self, stream: Stream, bytes: &[u8]) -> io::Result<()> {
        match stream {
            Stream::Stdout => io::stdout().lock().write_all(bytes),
            Stream::Stderr => io::stderr().lock().write_all(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stdout().lock().flush()
    }
}

/// Prints records, joining the pieces of long lines.
#[derive(Debug)]
pub(crate) struct Printer<S> {
    sink: S,
    since: Option<Moment>,
    timestamps: bool,
    prefix: Option<String>,
    /// Begin of a record whose end is not there yet.
    rest: Vec<u8>,
    /// Whether stdout and stderr are within a line.
    within: [bool; 2],
}

impl<S: Sink> Printer<S> {
    /// Prints lines since a moment, with their times, or with a prefix that says whose they are.
    pub(crate) fn new(
        sink: S,
        since: Option<Moment>,
        timestamps: bool,
        prefix: Option<String>,
    ) -> Self {
        Self {
            sink,
            since,
            timestamps,
            prefix,
            rest: Vec::new(),
            within: [false; 2],
        }
    }

    /// Takes the next bytes of the file.
    pub(crate) fn take(&mut self, chunk: &[u8]) -> Result<(), ClientError> {
        for piece in chunk.split_inclusive(|byte| *byte == b'\n') {
            let complete = piece.ends_with(b"\n");
            if complete && self.rest.is_empty() {
                self.record(&piece[..piece.len() - 1])?;
                continue;
            }
            self.rest.extend_from_slice(piece);
            if complete || self.rest.len() > MAX_RECORD {
                let mut record = std::mem::take(&mut self.rest);
                if complete {
                    record.pop();
                }
                self.record(&record)?;
            }
        }
        self.sink.flush().map_err(ClientError::output)
    }

    /// Prints a record whose line feed never came, and ends an unfinished line.
    pub(crate) fn end(&mut self) -> Result<(), ClientError> {
        if !self.rest.is_empty() {
            let record = std::mem::take(&mut self.rest);
            self.record(&record)?;
        }
        self.sink.flush().map_err(ClientError::output)
    }

    fn record(&mut self, record: &[u8]) -> Result<(), ClientError> {
        let written = match Line::parse(record) {
            Some(line) => self.line(line),
            // Not a record: better shown as it is than lost.
            None => self
                .sink
                .write(Stream::Stdout, record)
                .and_then(|()| self.sink.write(Stream::Stdout, b"\n")),
        };
        written.map_err(ClientError::output)
    }

    fn line(&mut self, line: Line<'_>) -> io::Result<()> {
        let too_old = self
            .since
            .is_some_and(|since| Moment::parse(line.time).is_some_and(|time| time < since));
        let within = &mut self.within[usize::from(line.stream == Stream::Stderr)];
        if too_old && !*within {
            return Ok(());
        }
        if !*within {
            if let Some(prefix) = &self.prefix {
                self.sink.write(line.stream, prefix.as_bytes())?;
            }
            if self.timestamps {
                self.sink.write(line.stream, line.time.as_bytes())?;
                self.sink.write(line.stream, b" ")?;
            }
        }
        *within = line.partial;
        self.sink.write(line.stream, line.content)?;
        if !line.partial {
            self.sink.write(line.stream, b"\n")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Default)]
    struct Kept([Vec<u8>; 2]);

    impl Sink for Kept {
        fn write(&mut self, stream: Stream, bytes: &[u8]) -> io::Result<()> {
            self.0[usize::from(stream == Stream::Stderr)].extend_from_slice(bytes);
            Ok(())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    const LOG: &str = "\
2026-01-31T08:00:00Z stdout F one
2026-01-31T08:00:01Z stdout P tw
2026-01-31T08:00:01Z stderr F error
2026-01-31T08:00:02Z stdout F o
not a record
2026-01-31T08:00:03Z stdout F three
2026-01-31T08:00:04Z stdout F cut";

    fn printed(
        chunk: usize,
        since: Option<&str>,
        timestamps: bool,
        prefix: Option<&str>,
    ) -> [String; 2] {
        let since = since.and_then(Moment::parse);
        let mut printer = Printer::new(
            Kept::default(),
            since,
            timestamps,
            prefix.map(str::to_owned),
        );
        for piece in LOG.as_bytes().chunks(chunk) {
            printer.take(piece).expect("printed");
        }
        printer.end().expect("printed");
        printer
            .sink
            .0
            .map(|bytes| String::from_utf8(bytes).expect("text"))
    }

    #[test]
    fn lines_are_joined_whatever_the_chunks() {
        for chunk in [1, 7, 64, 1000] {
            let [out, err] = printed(chunk, None, false, None);
            assert_eq!(out, "one\ntwo\nnot a record\nthree\ncut\n");
            assert_eq!(err, "error\n");
        }
    }

    #[test]
    fn times_and_prefixes_begin_lines() {
        let [out, err] = printed(1000, Some("2026-01-31T08:00:01Z"), true, Some("[a] "));
        assert_eq!(
            out,
            "[a] 2026-01-31T08:00:01Z two\nnot a record\n[a] 2026-01-31T08:00:03Z three\n[a] 2026-01-31T08:00:04Z cut\n"
        );
        assert_eq!(err, "[a] 2026-01-31T08:00:01Z error\n");
    }

    #[test]
    fn a_file_without_line_feeds_is_not_kept() {
        let mut printer = Printer::new(Kept::default(), None, false, None);
        for _ in 0..300 {
            printer.take(&[b'x'; 8192]).expect("printed");
        }
        assert!(printer.rest.len() <= MAX_RECORD + 8192);
        assert!(!printer.sink.0[0].is_empty());
    }
}
