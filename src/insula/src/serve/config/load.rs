//! Finding the files.

use super::{Config, ConfigError, DEFAULT_FILE, apply, runtimes};
use std::io::{ErrorKind, Read as _};
use std::path::{Path, PathBuf};

/// Largest file that is read, in bytes.
const FILE_MAX: u64 = 1 << 20;

/// Where the configuration comes from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Sources {
    /// The file named on the command line; it must exist.
    pub(crate) named: Option<PathBuf>,
}

/// A configuration and the files that it was made from, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Loaded {
    pub(crate) config: Config,
    pub(crate) files: Vec<PathBuf>,
}

/// Reads the file, then `conf.d/*.toml` beside it in the order of their names.
pub(crate) fn load(sources: &Sources) -> Result<Loaded, ConfigError> {
    let main = sources.named.clone().unwrap_or_else(|| DEFAULT_FILE.into());
    let mut loaded = Loaded {
        config: Config::default(),
        files: Vec::new(),
    };
    match read(&main) {
        Ok(text) => loaded.add(main.clone(), &text)?,
        Err(error) if error.kind() == ErrorKind::NotFound && sources.named.is_none() => {}
        Err(error) => return Err(unreadable(&main, &error)),
    }
    let beside = main.parent().unwrap_or(Path::new("/")).join("conf.d");
    for file in drop_ins(&beside)? {
        let text = read(&file).map_err(|error| unreadable(&file, &error))?;
        loaded.add(file, &text)?;
    }
    // Only when all files are read: one may complete the other.
    if let Some(conflict) = loaded.config.streaming.conflict() {
        return Err(ConfigError::Conflict(conflict.to_owned()));
    }
    if let Some(conflict) = runtimes::conflict(&loaded.config.runtimes) {
        return Err(ConfigError::Conflict(conflict));
    }
    Ok(loaded)
}

// === impl Loaded ===

impl Loaded {
    fn add(&mut self, file: PathBuf, text: &str) -> Result<(), ConfigError> {
        apply(&mut self.config, &file, text)?;
        self.files.push(file);
        Ok(())
    }
}

/// Files of the directory that end in `.toml`, hidden ones apart, by name.
fn drop_ins(directory: &Path) -> Result<Vec<PathBuf>, ConfigError> {
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(Vec::new());
        }
        Err(error) => return Err(unreadable(directory, &error)),
    };
    let mut files = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|error| unreadable(directory, &error))?;
        let name = entry.file_name();
        let hidden = name.as_encoded_bytes().starts_with(b".");
        if !hidden
            && Path::new(&name)
                .extension()
                .is_some_and(|ending| ending == "toml")
        {
            files.push(entry.path());
        }
    }
    files.sort();
    Ok(files)
}

fn read(file: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    let mut handle = std::fs::File::open(file)?.take(FILE_MAX + 1);
    handle.read_to_string(&mut text)?;
    if text.len() as u64 > FILE_MAX {
        return Err(std::io::Error::new(
            ErrorKind::FileTooLarge,
            format!("is larger than {FILE_MAX} bytes"),
        ));
    }
    Ok(text)
}

fn unreadable(file: &Path, error: &std::io::Error) -> ConfigError {
    ConfigError::Unreadable {
        file: file.to_owned(),
        problem: error.to_string(),
    }
}
