//! A log file that may be renamed and begun anew while it is read.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use super::line::Line;

/// How much is read at once, in bytes.
const CHUNK: usize = 256 << 10;
/// How much of a record is kept to recognize it, in bytes: its content does not matter.
const HEAD: usize = 128;

/// An open log file.
#[derive(Debug)]
pub(crate) struct LogFile {
    path: PathBuf,
    file: File,
    /// How far it was read.
    position: u64,
    buffer: Vec<u8>,
}

impl LogFile {
    pub(crate) fn open(path: impl Into<PathBuf>) -> io::Result<Self> {
        let path = path.into();
        Ok(Self {
            file: File::open(&path)?,
            path,
            position: 0,
            buffer: vec![0; CHUNK],
        })
    }

    /// The next bytes, of this file or of the one that took its place. `None` if there are none
    /// yet.
    pub(crate) fn next_chunk(&mut self) -> io::Result<Option<&[u8]>> {
        let mut count = self.read()?;
        if count == 0 && self.move_on()? {
            count = self.read()?;
        }
        Ok((count > 0).then(|| &self.buffer[..count]))
    }

    fn read(&mut self) -> io::Result<usize> {
        loop {
            match self.file.read(&mut self.buffer) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
                Ok(count) => {
                    self.position += count as u64;
                    return Ok(count);
                }
            }
        }
    }

    /// At the end of the file: begins the file that has its name now, or itself if it was cut.
    fn move_on(&mut self) -> io::Result<bool> {
        let ours = self.file.metadata()?;
        if ours.len() < self.position {
            self.position = self.file.seek(SeekFrom::Start(0))?;
            return Ok(true);
        }
        let named = match std::fs::metadata(&self.path) {
            Ok(named) => named,
            // Renamed, and not begun anew yet.
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        };
        if (named.dev(), named.ino()) == (ours.dev(), ours.ino()) {
            return Ok(false);
        }
        // The last lines may have come between our read and the renaming.
        if ours.len() > self.position {
            return Ok(true);
        }
        self.file = File::open(&self.path)?;
        self.position = 0;
        Ok(true)
    }

    /// Goes to where the last lines begin, reading from the end.
    pub(crate) fn skip_to_last(&mut self, lines: u64) -> io::Result<()> {
        let length = self.file.metadata()?.len();
        let start = self.start_of_last(lines, length)?;
        self.position = self.file.seek(SeekFrom::Start(start))?;
        Ok(())
    }

    /// The end of the first record, counted from the end, that is one line too many.
    fn start_of_last(&mut self, lines: u64, length: u64) -> io::Result<u64> {
        let mut found = 0;
        let mut position = length;
        // The end of the record that is being put together, and how it begins so far.
        let mut end = length;
        let mut head: Vec<u8> = Vec::new();
        while position > 0 {
            let count = usize::try_from(position).map_or(CHUNK, |left| left.min(CHUNK));
            position -= count as u64;
            self.file.seek(SeekFrom::Start(position))?;
            self.file.read_exact(&mut self.buffer[..count])?;
            let mut piece_end = count;
            while let Some(feed) = self.buffer[..piece_end].iter().rposition(|b| *b == b'\n') {
                prepend(&mut head, &self.buffer[feed + 1..piece_end]);
                found += u64::from(is_line(&head));
                if found > lines {
                    return Ok(end);
                }
                head.clear();
                piece_end = feed;
                end = position + feed as u64 + 1;
            }
            prepend(&mut head, &self.buffer[..piece_end]);
        }
        found += u64::from(is_line(&head));
        Ok(if found > lines { end } else { 0 })
    }
}

fn prepend(head: &mut Vec<u8>, before: &[u8]) {
    let keep = &before[..before.len().min(HEAD)];
    let mut joined = keep.to_vec();
    if keep.len() == before.len() {
        joined.extend_from_slice(head);
        joined.truncate(HEAD);
    }
    *head = joined;
}

/// Whether a record ends a line: pieces of a longer one do not, and neither does what follows the
/// last line feed if it is empty.
fn is_line(head: &[u8]) -> bool {
    !head.is_empty() && Line::parse(head).is_none_or(|line| !line.partial)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory that is removed with it.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("insula-{name}-{}", std::process::id()));
            std::fs::create_dir_all(&path).expect("a directory");
            Self(path)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn all(file: &mut LogFile) -> String {
        let mut text = Vec::new();
        while let Some(chunk) = file.next_chunk().expect("read") {
            text.extend_from_slice(chunk);
        }
        String::from_utf8(text).expect("text")
    }

    #[test]
    fn the_last_lines() {
        let scratch = Scratch::new("tail");
        let path = scratch.0.join("0.log");
        let record = |tag, content: &str| format!("2026-01-31T08:00:00Z stdout {tag} {content}\n");
        let (a, b, c) = (
            record("F", "a"),
            record("F", &"b".repeat(300_000)),
            record("F", "c"),
        );
        let p = record("P", "part of b");
        std::fs::write(&path, format!("{a}{p}{b}{c}")).expect("written");
        for (lines, want) in [
            (0, String::new()),
            (1, c.clone()),
            (2, format!("{p}{b}{c}")),
            (3, format!("{a}{p}{b}{c}")),
            (9, format!("{a}{p}{b}{c}")),
        ] {
            let mut file = LogFile::open(&path).expect("opened");
            file.skip_to_last(lines).expect("skipped");
            assert!(all(&mut file) == want, "{lines} lines");
        }
        std::fs::write(&path, "").expect("written");
        let mut file = LogFile::open(&path).expect("opened");
        file.skip_to_last(3).expect("skipped");
        assert_eq!(all(&mut file), "");
    }

    #[test]
    fn rotation_loses_nothing() {
        let scratch = Scratch::new("rotation");
        let path = scratch.0.join("0.log");
        std::fs::write(&path, "1\n").expect("written");
        let mut file = LogFile::open(&path).expect("opened");
        assert_eq!(all(&mut file), "1\n");

        std::fs::rename(&path, scratch.0.join("0.log.old")).expect("renamed");
        assert_eq!(all(&mut file), "");
        std::fs::write(scratch.0.join("0.log.old"), "1\n2\n").expect("written");
        std::fs::write(&path, "3\n").expect("written");
        assert_eq!(all(&mut file), "2\n3\n");

        // Cut in place, as copytruncate does.
        std::fs::write(&path, "").expect("written");
        assert_eq!(all(&mut file), "");
        std::fs::write(&path, "4\n").expect("written");
        assert_eq!(all(&mut file), "4\n");
    }
}
