//! How far a pull is.
//!
//! The CRI does not say. The daemon keeps a file for each pull in flight, `pulls/*.json` in its
//! state directory, which is read here now and then: `{"reference", "layers": [{"digest",
//! "total", "downloaded", "state"}]}`, `total` and `downloaded` in bytes.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{IsTerminal, Read};
use std::path::Path;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use insula_images::{LayerState, PullProgress};
use serde::Deserialize;

use super::output::say;
use super::table::{bytes, short_id};

/// Longest progress file that is read, in bytes; an image has at most some hundred layers.
const MAX_FILE: u64 = 1 << 20;
/// Most files that are looked at.
const MAX_FILES: usize = 1000;

/// Progress of one pull.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub(crate) struct Snapshot {
    reference: String,
    #[serde(default)]
    layers: Vec<Layer>,
}

/// Progress of one layer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
struct Layer {
    digest: String,
    #[serde(default)]
    total: u64,
    #[serde(default)]
    downloaded: u64,
    #[serde(default)]
    state: String,
}

impl Snapshot {
    /// How far this process itself is.
    pub(crate) fn of(reference: &str, progress: &PullProgress) -> Self {
        let layers = progress.layers.iter().map(|layer| Layer {
            digest: layer.digest.to_string(),
            total: layer.total,
            downloaded: layer.downloaded,
            state: match layer.state {
                LayerState::Waiting => "waiting",
                LayerState::Fetching => "unpacking",
                LayerState::Done => "done",
                LayerState::Present => "present",
            }
            .into(),
        });
        Self {
            reference: reference.to_owned(),
            layers: layers.collect(),
        }
    }
}

/// Reads the progress of a pull; `None` if there is none, or it is being written.
pub(crate) fn read(state: &Path, image: &str) -> Option<Snapshot> {
    let entries = state.join("pulls").read_dir().ok()?;
    entries
        .flatten()
        .take(MAX_FILES)
        .filter(|entry| entry.path().extension().is_some_and(|name| name == "json"))
        .find_map(|entry| {
            let mut text = Vec::new();
            let file = File::open(entry.path()).ok()?;
            file.take(MAX_FILE).read_to_end(&mut text).ok()?;
            let snapshot: Snapshot = serde_json::from_slice(&text).ok()?;
            (familiar(&snapshot.reference) == familiar(image)).then_some(snapshot)
        })
}

/// A reference as people write it: without the default registry, organization and tag.
fn familiar(reference: &str) -> &str {
    let name = reference.strip_prefix("docker.io/").unwrap_or(reference);
    let name = name.strip_prefix("library/").unwrap_or(name);
    name.strip_suffix(":latest").unwrap_or(name)
}

/// Shows progress: bars on a terminal, lines elsewhere.
#[derive(Debug)]
pub(crate) enum Display {
    /// One bar for each layer.
    Bars {
        all: MultiProgress,
        layers: BTreeMap<String, ProgressBar>,
    },
    /// One line for each layer and state.
    Lines(Lines),
}

impl Display {
    pub(crate) fn new() -> Self {
        if std::io::stderr().is_terminal() {
            Display::Bars {
                all: MultiProgress::new(),
                layers: BTreeMap::new(),
            }
        } else {
            Display::Lines(Lines::default())
        }
    }

    pub(crate) fn update(&mut self, snapshot: &Snapshot) {
        match self {
            Display::Lines(lines) => {
                for line in lines.update(snapshot) {
                    say(&line);
                }
            }
            Display::Bars { all, layers } => {
                for layer in &snapshot.layers {
                    let bar = layers
                        .entry(layer.digest.clone())
                        .or_insert_with(|| all.add(bar(layer)));
                    bar.set_length(layer.total.max(layer.downloaded));
                    bar.set_position(layer.downloaded);
                    bar.set_message(layer.state.escape_debug().to_string());
                }
            }
        }
    }

    /// Takes the bars away, so that what follows begins on a clean line.
    pub(crate) fn finish(self) {
        if let Display::Bars { all, layers } = self {
            for bar in layers.values() {
                bar.finish_and_clear();
            }
            // Only a closed terminal makes this fail.
            let _ = all.clear();
        }
    }
}

fn bar(layer: &Layer) -> ProgressBar {
    let style = ProgressStyle::with_template(
        "{prefix} {wide_bar:.cyan/blue} {binary_bytes:>10}/{binary_total_bytes:<10} {msg:12}",
    )
    .unwrap_or_else(|_| ProgressStyle::default_bar())
    .progress_chars("=> ");
    ProgressBar::new(layer.total)
        .with_style(style)
        .with_prefix(short_id(&layer.digest))
}

/// What was said already.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    states: BTreeMap<String, String>,
}

impl Lines {
    /// Lines for what has changed.
    fn update(&mut self, snapshot: &Snapshot) -> Vec<String> {
        let mut lines = Vec::new();
        for layer in &snapshot.layers {
            if self.states.get(&layer.digest) == Some(&layer.state) {
                continue;
            }
            self.states
                .insert(layer.digest.clone(), layer.state.clone());
            let size = if layer.total > 0 {
                format!(" ({})", bytes(layer.total))
            } else {
                String::new()
            };
            lines.push(format!(
                "layer {}: {}{size}",
                short_id(&layer.digest).escape_debug(),
                layer.state.escape_debug()
            ));
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(digest: &str, downloaded: u64, state: &str) -> Layer {
        Layer {
            digest: format!("sha256:{digest}"),
            total: 2048,
            downloaded,
            state: state.into(),
        }
    }

    #[test]
    fn lines_for_changes_only() {
        let mut lines = Lines::default();
        let mut snapshot = Snapshot {
            reference: "redis".into(),
            layers: vec![layer("aa", 0, "waiting"), layer("bb", 0, "downloading")],
        };
        assert_eq!(
            lines.update(&snapshot),
            [
                "layer aa: waiting (2.0 KiB)",
                "layer bb: downloading (2.0 KiB)"
            ]
        );
        snapshot.layers[1].downloaded = 100;
        assert!(lines.update(&snapshot).is_empty());
        snapshot.layers[1].state = "done".into();
        assert_eq!(lines.update(&snapshot), ["layer bb: done (2.0 KiB)"]);
    }

    #[test]
    fn references_in_short() {
        for (text, want) in [
            ("docker.io/library/redis:latest", "redis"),
            ("redis", "redis"),
            ("redis:8", "redis:8"),
            ("docker.io/org/app:1", "org/app:1"),
            ("localhost:5000/redis:latest", "localhost:5000/redis"),
        ] {
            assert_eq!(familiar(text), want);
        }
    }

    #[test]
    fn files_of_the_daemon() {
        let state = std::env::temp_dir().join(format!("insula-progress-{}", std::process::id()));
        let pulls = state.join("pulls");
        std::fs::create_dir_all(&pulls).expect("a directory");
        std::fs::write(pulls.join("a.json"), "{").expect("a file");
        std::fs::write(
            pulls.join("b.json"),
            r#"{"reference":"docker.io/library/redis:latest","layers":[{"digest":"sha256:aa","total":2048,"downloaded":1,"state":"waiting"}]}"#,
        )
        .expect("a file");
        let found = read(&state, "redis");
        let other = read(&state, "nginx");
        std::fs::remove_dir_all(&state).expect("removed");
        assert_eq!(
            found.map(|s| s.layers),
            Some(vec![layer("aa", 1, "waiting")])
        );
        assert_eq!(other, None);
        assert_eq!(read(&state, "redis"), None);
    }
}
