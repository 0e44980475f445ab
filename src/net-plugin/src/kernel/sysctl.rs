//! Settings of the network below `/proc/sys/net`, seen from the thread's network namespace.

use crate::error::Failure;
use std::io;
use std::path::PathBuf;

/// Writes a setting, unless it has that value already: some, such as IPv6 forwarding, cost a walk
/// over all interfaces.
pub(crate) fn set(name: &str, value: &str) -> Result<(), Failure> {
    let path = path(name);
    let is = std::fs::read_to_string(&path).map_err(|error| failed("read", &path, &error))?;
    if is.trim_end() == value {
        return Ok(());
    }
    std::fs::write(&path, value)
        .map_err(|error| failed(&format!("write {value:?} to"), &path, &error))
}

/// The same where a kernel may lack the setting (IPv6 may be off altogether).
pub(crate) fn set_if_there(name: &str, value: &str) -> Result<(), Failure> {
    match path(name).exists() {
        true => set(name, value),
        false => Ok(()),
    }
}

/// Whether the kernel has this setting.
pub(crate) fn exists(name: &str) -> bool {
    path(name).exists()
}

fn path(name: &str) -> PathBuf {
    PathBuf::from("/proc/sys/net").join(name)
}

fn failed(doing: &str, path: &std::path::Path, error: &io::Error) -> Failure {
    Failure::io(format!("cannot {doing} {}", path.display()), error)
}
