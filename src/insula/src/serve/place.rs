//! The daemon's place on this node: its directories, the lock that keeps a
//! second one out, and its socket.

use rustix::fs::{FlockOperation, flock};
use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{ErrorKind, Read as _, Seek as _, Write as _};
use std::os::unix::fs::{
    DirBuilderExt as _, FileTypeExt as _, OpenOptionsExt as _, PermissionsExt as _,
};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

/// Longest path of a socket, in bytes, without its NUL (unix(7)).
const SOCKET_PATH_MAX: usize = 107;

/// The daemon cannot have its place.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PlaceError {
    /// A second daemon on the same state would undo the first one's work.
    #[error(
        "another daemon{} holds {}: stop it, or give this one a --state of its own",
        of_process(*.pid), lock.display()
    )]
    Held {
        /// The lock.
        lock: PathBuf,
        /// Who holds it, as far as the file tells.
        pid: Option<u32>,
    },
    /// Something listens on the socket already.
    #[error("{} answers already: another daemon listens there", .0.display())]
    Answered(PathBuf),
    /// There is something else where the socket should be.
    #[error("{} is not a socket: move it away, or listen elsewhere", .0.display())]
    NotASocket(PathBuf),
    /// unix(7) leaves room for no more.
    #[error(
        "the socket's path {} is {} bytes long, at most {SOCKET_PATH_MAX} are possible",
        .0.display(), .0.as_os_str().len()
    )]
    TooLong(PathBuf),
    /// The system refused.
    #[error("cannot {what} {}: {source}", path.display())]
    System {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// The answer.
        source: std::io::Error,
    },
}

/// Held as long as the daemon lives; the kernel drops it at its death.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

/// Makes a directory and those above it. The daemon's own are 0711: others may
/// pass to what they know, and list nothing.
pub(crate) fn directory(path: &Path, mode: u32) -> Result<(), PlaceError> {
    DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(path)
        .map_err(|source| system("make the directory", path, source))?;
    std::fs::set_permissions(path, Permissions::from_mode(mode))
        .map_err(|source| system("set the mode of", path, source))
}

/// Takes `<state>/lock`, or says who has it.
pub(crate) fn lock(state: &Path) -> Result<Lock, PlaceError> {
    let path = state.join("lock");
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(|source| system("open", &path, source))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let mut text = String::new();
            // Only tells a person whom to look for.
            let _ = (&file).take(32).read_to_string(&mut text);
            return Err(PlaceError::Held {
                lock: path,
                pid: text.trim().parse().ok(),
            });
        }
        Err(errno) => return Err(system("lock", &path, errno.into())),
    }
    let written = file
        .set_len(0)
        .and_then(|()| file.rewind())
        .and_then(|()| writeln!(file, "{}", std::process::id()));
    written.map_err(|source| system("write", &path, source))?;
    Ok(Lock { _file: file })
}

/// Binds the socket, mode 0600, in place of one that nobody answers at.
pub(crate) fn listen(path: &Path) -> Result<UnixListener, PlaceError> {
    if path.as_os_str().len() > SOCKET_PATH_MAX {
        return Err(PlaceError::TooLong(path.to_owned()));
    }
    if let Some(parent) = path.parent().filter(|parent| !parent.exists()) {
        directory(parent, 0o711)?;
    }
    remove_stale(path)?;
    let listener = UnixListener::bind(path).map_err(|source| system("listen on", path, source))?;
    std::fs::set_permissions(path, Permissions::from_mode(0o600))
        .map_err(|source| system("set the mode of", path, source))?;
    listener
        .set_nonblocking(true)
        .map_err(|source| system("listen on", path, source))?;
    Ok(listener)
}

fn remove_stale(path: &Path) -> Result<(), PlaceError> {
    let kind = match std::fs::symlink_metadata(path) {
        Ok(metadata) => metadata.file_type(),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(system("look at", path, source)),
    };
    if !kind.is_socket() {
        return Err(PlaceError::NotASocket(path.to_owned()));
    }
    match UnixStream::connect(path) {
        Ok(_) => Err(PlaceError::Answered(path.to_owned())),
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => std::fs::remove_file(path)
            .map_err(|source| system("remove the stale socket", path, source)),
        // A full backlog is somebody, too.
        Err(error) if error.kind() == ErrorKind::WouldBlock => {
            Err(PlaceError::Answered(path.to_owned()))
        }
        Err(source) => Err(system("ask who listens on", path, source)),
    }
}

fn of_process(pid: Option<u32>) -> String {
    pid.map(|pid| format!(" (process {pid})"))
        .unwrap_or_default()
}

fn system(what: &'static str, path: &Path, source: std::io::Error) -> PlaceError {
    PlaceError::System {
        what,
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::{PlaceError, directory, listen, lock};
    use std::os::unix::fs::PermissionsExt as _;
    use std::os::unix::net::{UnixListener, UnixStream};

    #[test]
    fn a_second_daemon_is_kept_out_and_told_by_whom() {
        let state = tempfile::tempdir().unwrap();
        let held = lock(state.path()).unwrap();
        let error = lock(state.path()).unwrap_err().to_string();
        assert_eq!(
            error,
            format!(
                "another daemon (process {}) holds {}/lock: stop it, or give this one a --state \
                 of its own",
                std::process::id(),
                state.path().display()
            )
        );
        drop(held);
        lock(state.path()).unwrap();
    }

    #[test]
    fn the_socket_is_ours_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("deep/er/insula.sock");
        let listener = listen(&path).unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        UnixStream::connect(&path).unwrap();
        assert!(matches!(listen(&path), Err(PlaceError::Answered(_))));
        drop(listener);
    }

    #[test]
    fn a_stale_socket_makes_way_and_a_file_does_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("insula.sock");
        drop(UnixListener::bind(&path).unwrap());
        listen(&path).unwrap();

        let file = directory.path().join("file");
        std::fs::write(&file, "mine").unwrap();
        assert!(matches!(listen(&file), Err(PlaceError::NotASocket(_))));
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "mine");

        let long = directory.path().join("x".repeat(120));
        assert!(matches!(listen(&long), Err(PlaceError::TooLong(_))));
    }

    #[test]
    fn a_directory_gets_its_mode_whatever_the_umask() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("a/b");
        directory(&path, 0o711).unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o711);
    }
}
