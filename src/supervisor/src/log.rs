//! The CRI log of a container: `TIME STREAM TAG CONTENT` lines.
//!
//! Output is read in large pieces and written with one system call per piece.
//! A line longer than 16 KiB is split; its parts are tagged `P` and the last
//! one `F`. A last line without a newline is tagged `P`. Nothing is ever
//! synced: a log that blocks its program is worse than a log that loses the
//! tail in a power cut.

use insula_sys::{Error, Result};
use insula_wire::time::date;
use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// Longest content of one log line, in bytes (cri.md of both rivals).
pub const MAX_LINE: usize = 16 * 1024;

/// A log file, or none.
#[derive(Debug)]
pub struct Log {
    path: Option<PathBuf>,
    file: Option<OwnedFd>,
}

/// Turns one stream's bytes into log lines.
#[derive(Debug)]
pub struct Lines {
    name: &'static str,
    /// A line that has not ended yet.
    unfinished: Vec<u8>,
}

// === impl Log ===

impl Log {
    /// Opens the log at an absolute path, making its directory; `None` discards.
    pub fn open(path: Option<&str>) -> Result<Self> {
        let mut log = Self {
            path: path.map(PathBuf::from),
            file: None,
        };
        log.reopen()?;
        Ok(log)
    }

    /// Closes the file and opens its path anew, after kubelet renamed it.
    pub fn reopen(&mut self) -> Result<()> {
        if let Some(path) = &self.path {
            self.file = Some(open_file(path)?);
        }
        Ok(())
    }

    /// Appends. A full disk or a lost file system loses lines, never the
    /// container: its pipe must be kept empty.
    pub fn write(&mut self, mut bytes: &[u8]) {
        let Some(file) = &self.file else {
            return;
        };
        while !bytes.is_empty() {
            match rustix::io::write(file, bytes) {
                Ok(0) => return,
                Ok(written) => bytes = &bytes[written..],
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => return,
            }
        }
    }
}

fn open_file(path: &Path) -> Result<OwnedFd> {
    let flags =
        OFlags::WRONLY | OFlags::CREATE | OFlags::APPEND | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let open = || rustix::fs::open(path, flags, Mode::from_raw_mode(0o640));
    let result = match open() {
        Err(rustix::io::Errno::NOENT) => {
            if let Some(parent) = path.parent() {
                std::fs::create_dir_all(parent)
                    .map_err(|error| Error::from_io(format!("mkdir({parent:?})"), &error))?;
            }
            open()
        }
        result => result,
    };
    result.map_err(|errno| Error::new(format!("open({path:?}, {flags:?}, 0640)"), errno))
}

// === impl Lines ===

impl Lines {
    /// A stream of this name, `stdout` or `stderr`.
    pub fn new(name: &'static str) -> Self {
        Self {
            name,
            unfinished: Vec::new(),
        }
    }

    /// Appends the log lines of `input` to `output`. What follows the last
    /// newline is kept for the next call.
    pub fn format(&mut self, input: &[u8], time: &Timestamp, output: &mut Vec<u8>) {
        let mut rest = input;
        while let Some(newline) = memchr::memchr(b'\n', rest) {
            let (line, after) = rest.split_at(newline);
            rest = &after[1..];
            if self.unfinished.is_empty() {
                self.line(line, time, output);
            } else {
                let mut whole = std::mem::take(&mut self.unfinished);
                whole.extend_from_slice(line);
                self.line(&whole, time, output);
            }
        }
        self.unfinished.extend_from_slice(rest);
        let whole_parts = self.unfinished.len() / MAX_LINE * MAX_LINE;
        if whole_parts > 0 {
            let parts: Vec<u8> = self.unfinished.drain(..whole_parts).collect();
            for part in parts.chunks(MAX_LINE) {
                self.entry(part, b'P', time, output);
            }
        }
    }

    /// Appends what is left of a line that will not end any more.
    pub fn finish(&mut self, time: &Timestamp, output: &mut Vec<u8>) {
        let rest = std::mem::take(&mut self.unfinished);
        if !rest.is_empty() {
            self.entry(&rest, b'P', time, output);
        }
    }

    fn line(&self, mut line: &[u8], time: &Timestamp, output: &mut Vec<u8>) {
        while line.len() > MAX_LINE {
            let (part, rest) = line.split_at(MAX_LINE);
            self.entry(part, b'P', time, output);
            line = rest;
        }
        let content = line.strip_suffix(b"\r").unwrap_or(line);
        self.entry(content, b'F', time, output);
    }

    fn entry(&self, content: &[u8], tag: u8, time: &Timestamp, output: &mut Vec<u8>) {
        output.extend_from_slice(time.as_bytes());
        output.push(b' ');
        output.extend_from_slice(self.name.as_bytes());
        output.extend_from_slice(&[b' ', tag, b' ']);
        output.extend_from_slice(content);
        output.push(b'\n');
    }
}

/// A moment as RFC 3339 with nanoseconds, in UTC.
#[derive(Debug, Clone)]
pub struct Timestamp([u8; 30]);

// === impl Timestamp ===

impl Timestamp {
    /// This moment.
    pub fn now() -> Self {
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Self::new(since.as_secs(), since.subsec_nanos())
    }

    /// A moment by seconds since the epoch and nanoseconds.
    pub fn new(seconds: u64, nanoseconds: u32) -> Self {
        let (days, rest) = (seconds / 86_400, seconds % 86_400);
        let (year, month, day) = date(i64::try_from(days).unwrap_or(0));
        let mut text = *b"0000-00-00T00:00:00.000000000Z";
        put(&mut text[0..4], year.unsigned_abs());
        put(&mut text[5..7], month.unsigned_abs());
        put(&mut text[8..10], day.unsigned_abs());
        put(&mut text[11..13], rest / 3600);
        put(&mut text[14..16], rest / 60 % 60);
        put(&mut text[17..19], rest % 60);
        put(&mut text[20..29], nanoseconds.into());
        Self(text)
    }

    /// The text.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

fn put(digits: &mut [u8], mut number: u64) {
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + u8::try_from(number % 10).unwrap_or(0);
        number /= 10;
    }
}

#[cfg(test)]
mod tests {
    use super::{Lines, MAX_LINE, Timestamp};

    fn format(pieces: &[&[u8]]) -> Vec<String> {
        let time = Timestamp::new(0, 0);
        let mut lines = Lines::new("stdout");
        let mut output = Vec::new();
        for piece in pieces {
            lines.format(piece, &time, &mut output);
        }
        lines.finish(&time, &mut output);
        String::from_utf8(output)
            .unwrap()
            .lines()
            .map(|line| {
                line.strip_prefix("1970-01-01T00:00:00.000000000Z stdout ")
                    .unwrap()
                    .to_owned()
            })
            .collect()
    }

    #[test]
    fn lines_are_split_at_newlines_wherever_the_reads_end() {
        assert_eq!(format(&[b"one\ntwo\n"]), ["F one", "F two"]);
        assert_eq!(format(&[b"on", b"e\nt", b"wo\n"]), ["F one", "F two"]);
        assert_eq!(format(&[b"\n\n"]), ["F ", "F "]);
        assert_eq!(format(&[b"dos\r\n"]), ["F dos"]);
        assert_eq!(format(&[b"no end"]), ["P no end"]);
        assert_eq!(format(&[b""]), [] as [&str; 0]);
    }

    #[test]
    fn long_lines_come_in_parts_and_nothing_is_lost() {
        let long: Vec<u8> = (0..MAX_LINE * 3 + 7)
            .map(|i| b"abcdefghijklm"[i % 13])
            .collect();
        let mut with_end = long.clone();
        with_end.push(b'\n');
        for size in [1, 1000, MAX_LINE, MAX_LINE + 1, with_end.len()] {
            let pieces: Vec<&[u8]> = with_end.chunks(size).collect();
            let entries = format(&pieces);
            let tags: String = entries.iter().map(|entry| &entry[..1]).collect();
            assert_eq!(tags, "PPPF", "pieces of {size}");
            let content: String = entries.iter().map(|entry| &entry[2..]).collect();
            assert_eq!(content.as_bytes(), long, "pieces of {size}");
        }
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (seconds, expected) in [
            (0, "1970-01-01T00:00:00.000000000Z"),
            (951_782_400, "2000-02-29T00:00:00.000000000Z"),
            (1_709_251_199, "2024-02-29T23:59:59.000000000Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000000000Z"),
            (1_795_430_645, "2026-11-23T10:44:05.000000000Z"),
        ] {
            let text = Timestamp::new(seconds, 0);
            assert_eq!(std::str::from_utf8(text.as_bytes()).unwrap(), expected);
        }
        assert_eq!(&Timestamp::new(0, 12_345).as_bytes()[19..], b".000012345Z");
    }
}
