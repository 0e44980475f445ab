//! SIGHUP: the files are read again. What can change in a running daemon does;
//! what cannot is named, so that nobody waits for it.

use super::args::Args;
use super::config::Config;
use super::logging::LevelHandle;
use super::notify::{State, notify};

/// Keys that change in a running daemon.
const LIVE: &[&str] = &["log.level"];

/// Reads the files again. A wrong file changes nothing.
pub(crate) fn reload(args: &Args, current: &mut Config, level: &LevelHandle) {
    notify(State::Reloading);
    match args.load() {
        Ok(loaded) => apply(current, &loaded.config, level),
        Err(error) => tracing::error!(%error, "the configuration stays as it is"),
    }
    notify(State::Ready);
}

fn apply(current: &mut Config, new: &Config, level: &LevelHandle) {
    let changed = changes(current, new);
    if changed.is_empty() {
        tracing::info!("the configuration was read again: nothing has changed");
        return;
    }
    let (live, later): (Vec<_>, Vec<_>) =
        changed.iter().partition(|key| LIVE.contains(&key.as_str()));
    if current.log.level != new.log.level {
        if let Err(error) = level.set(new.log.level) {
            tracing::error!(error);
            return;
        }
        current.log.level = new.log.level;
    }
    for key in live {
        tracing::info!(key, "changed");
    }
    for key in later {
        tracing::warn!(
            key,
            "has changed in the files, but takes effect at the next start only"
        );
    }
}

/// Keys whose values differ.
fn changes(old: &Config, new: &Config) -> Vec<String> {
    let (old, new) = (leaves(old), leaves(new));
    new.into_iter()
        .zip(old)
        .filter(|(new, old)| new.1 != old.1)
        .map(|(new, _)| new.0)
        .collect()
}

/// Every key with its value, in one order.
fn leaves(config: &Config) -> Vec<(String, serde_json::Value)> {
    let Ok(serde_json::Value::Object(sections)) = serde_json::to_value(config) else {
        return Vec::new();
    };
    let mut leaves = Vec::new();
    for (name, value) in sections {
        match value {
            // Handlers come and go, and change together.
            serde_json::Value::Object(keys) if name != "runtimes" => {
                leaves.extend(
                    keys.into_iter()
                        .map(|(key, value)| (format!("{name}.{key}"), value)),
                );
            }
            value => leaves.push((name, value)),
        }
    }
    leaves
}

#[cfg(test)]
mod tests {
    use super::changes;
    use crate::serve::config::{Config, KEYS, Level, Runtime};

    #[test]
    fn changed_keys_are_named_as_in_the_file() {
        let old = Config::default();
        let mut new = old.clone();
        assert!(changes(&old, &new).is_empty());
        new.log.level = Level::Debug;
        new.cni.bin_dirs.clear();
        new.root = "/elsewhere".into();
        let changed = changes(&old, &new);
        assert_eq!(changed.len(), 3, "{changed:?}");
        assert!(changed.iter().all(|key| KEYS.contains(&key.as_str())));
        let mut more = old.clone();
        more.runtimes.insert("crun".to_owned(), Runtime::default());
        assert_eq!(changes(&old, &more), ["runtimes"]);
    }
}
