//! Flags of `insula serve`; each one overrides the configuration's files.

use super::config::{Address, Config, ConfigError, Format, Level, Loaded, Sources, load};
use std::path::{Path, PathBuf};

/// Run the daemon until SIGTERM, which leaves pods running.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct Args {
    /// Configuration file; without it /etc/insula/config.toml, which need not exist.
    ///
    /// Files in conf.d beside it are read after it, by name.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Socket to listen on, as unix:///path.
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) listen: Option<String>,
    /// Directory for images and what has to survive a reboot.
    #[arg(long, value_name = "DIR")]
    pub(crate) root: Option<PathBuf>,
    /// Directory for what a reboot ends.
    #[arg(long, value_name = "DIR")]
    pub(crate) state: Option<PathBuf>,
    /// The quietest level of log lines that are shown.
    #[arg(long, value_name = "LEVEL")]
    pub(crate) log_level: Option<Level>,
    /// How log lines look.
    #[arg(long, value_name = "FORMAT")]
    pub(crate) log_format: Option<Format>,
    /// Print the configuration that would be in force, and end.
    #[arg(long)]
    pub(crate) print_config: bool,
    /// The supervisor's program; without it insula-pod beside this program.
    #[arg(long, value_name = "FILE", hide = true)]
    pub(crate) supervisor: Option<PathBuf>,
}

/// The configuration cannot be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ArgsError {
    /// A file is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A flag is wrong.
    #[error("{flag}: {problem}")]
    Flag {
        /// Such as `--listen`.
        flag: &'static str,
        /// What is wrong.
        problem: String,
    },
}

// === impl Args ===

impl Args {
    /// Reads the files and puts the flags on top.
    pub(crate) fn load(&self) -> Result<Loaded, ArgsError> {
        let mut loaded = load(&Sources {
            named: self.config.clone(),
        })?;
        self.apply(&mut loaded.config)?;
        Ok(loaded)
    }

    fn apply(&self, config: &mut Config) -> Result<(), ArgsError> {
        if let Some(listen) = &self.listen {
            config.listen = Address::parse(listen, false).map_err(|problem| ArgsError::Flag {
                flag: "--listen",
                problem,
            })?;
        }
        if let Some(root) = &self.root {
            config.root = absolute("--root", root)?;
        }
        if let Some(state) = &self.state {
            config.state = absolute("--state", state)?;
        }
        if let Some(level) = self.log_level {
            config.log.level = level;
        }
        if let Some(format) = self.log_format {
            config.log.format = format;
        }
        Ok(())
    }
}

/// A person may write a path from where they are.
fn absolute(flag: &'static str, path: &Path) -> Result<PathBuf, ArgsError> {
    std::path::absolute(path).map_err(|error| ArgsError::Flag {
        flag,
        problem: format!("{path:?}: {error}"),
    })
}

#[cfg(test)]
mod tests {
    use super::Args;
    use crate::serve::config::{Address, Level};

    #[test]
    fn flags_come_after_files() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("config.toml");
        std::fs::write(
            &file,
            "root = \"/one\"\nstate = \"/two\"\n[log]\nlevel = \"warn\"\n",
        )
        .unwrap();
        let loaded = Args {
            config: Some(file),
            listen: Some("unix:///x.sock".into()),
            state: Some("/three".into()),
            log_level: Some(Level::Trace),
            ..Args::default()
        }
        .load()
        .unwrap();
        assert_eq!(loaded.config.root.to_str(), Some("/one"));
        assert_eq!(loaded.config.state.to_str(), Some("/three"));
        assert_eq!(loaded.config.listen, Address::Unix("/x.sock".into()));
        assert_eq!(loaded.config.log.level, Level::Trace);
    }

    #[test]
    fn a_wrong_flag_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("config.toml");
        std::fs::write(&file, "").unwrap();
        let error = Args {
            config: Some(file),
            listen: Some("tcp://0.0.0.0:1".into()),
            ..Args::default()
        }
        .load()
        .unwrap_err();
        assert_eq!(
            error.to_string(),
            "--listen: \"tcp://0.0.0.0:1\" is not \"unix:///path\""
        );
    }
}
