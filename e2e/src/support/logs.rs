//! Container logs in the form of the CRI: `TIME STREAM TAGS CONTENT`.

use super::node::Node;
use super::outcome::Outcome;
use std::path::Path;

/// One line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// When it was read.
    pub time: String,
    /// `stdout` or `stderr`.
    pub stream: String,
    /// Whether the next line of the stream goes on where this one ends.
    pub partial: bool,
    /// What was written, without the line's end.
    pub text: String,
}

/// Reads a log, of which every line must be well formed.
pub fn read(path: &Path) -> Outcome<Vec<Line>> {
    let log = std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let log = String::from_utf8_lossy(&log);
    if !log.is_empty() && !log.ends_with('\n') {
        return Err(format!("{} does not end with a line's end", path.display()).into());
    }
    log.lines().map(parse).collect()
}

fn parse(line: &str) -> Outcome<Line> {
    let wrong = || format!("not a line of a CRI log: {line:?}");
    let mut words = line.splitn(4, ' ');
    let mut word = || words.next().ok_or_else(wrong);
    let (time, stream, tags, text) = (word()?, word()?, word()?, word()?);
    let well_formed =
        time.len() >= 20 && time.contains('T') && matches!(stream, "stdout" | "stderr");
    match (well_formed, tags) {
        (true, "P" | "F") => Ok(Line {
            time: time.to_owned(),
            stream: stream.to_owned(),
            partial: tags == "P",
            text: text.to_owned(),
        }),
        _ => Err(wrong().into()),
    }
}

/// What was written to a stream: partial lines joined.
pub fn join(lines: &[Line], stream: &str) -> String {
    let mut text = String::new();
    for line in lines.iter().filter(|line| line.stream == stream) {
        text.push_str(&line.text);
        if !line.partial {
            text.push('\n');
        }
    }
    text
}

// === impl Node ===

impl Node {
    /// A container's log so far.
    pub async fn lines(&self, container: &str) -> Outcome<Vec<Line>> {
        read(&self.log_path(container).await?)
    }

    /// What a container wrote to its standard output.
    pub async fn stdout(&self, container: &str) -> Outcome<String> {
        Ok(join(&self.lines(container).await?, "stdout"))
    }

    /// Waits until a container's standard output contains the words.
    pub async fn wait_for_output(&self, container: &str, words: &str) -> Outcome<String> {
        let path = self.log_path(container).await?;
        for _ in 0..1000 {
            // It may be in the middle of a line.
            if let Ok(lines) = read(&path) {
                let output = join(&lines, "stdout");
                if output.contains(words) {
                    return Ok(output);
                }
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        let log = std::fs::read_to_string(&path).unwrap_or_default();
        Err(format!("{words:?} is not in the log after 10 s: {log}").into())
    }
}
