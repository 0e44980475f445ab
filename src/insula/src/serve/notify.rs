//! Telling the service manager how the daemon is, `sd_notify(3)`: datagrams of
//! `NAME=value` lines to the socket that `NOTIFY_SOCKET` names.

use std::ffi::OsStr;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// What the service manager is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// The socket listens and every record has been read.
    Ready,
    /// The configuration is being read again; `Ready` follows.
    Reloading,
    /// No more calls are taken.
    Stopping,
}

/// Tells the service manager, if there is one. Without one, or when it cannot
/// be reached, the daemon works all the same.
pub(crate) fn notify(state: State) {
    let Some(socket) = std::env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty()) else {
        return;
    };
    if let Err(error) = send(&socket, &state.message()) {
        tracing::warn!(%error, ?socket, "cannot tell the service manager");
    }
}

fn send(socket: &OsStr, message: &str) -> std::io::Result<()> {
    let address = match socket.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(socket)?,
    };
    let sender = UnixDatagram::unbound()?;
    sender.set_nonblocking(true)?;
    sender.send_to_addr(message.as_bytes(), &address)?;
    Ok(())
}

// === impl State ===

impl State {
    fn message(self) -> String {
        match self {
            Self::Ready => "READY=1\n".to_owned(),
            Self::Stopping => "STOPPING=1\n".to_owned(),
            // The time tells reloads apart, sd_notify(3) MONOTONIC_USEC.
            Self::Reloading => {
                let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
                let microseconds = now.tv_sec * 1_000_000 + now.tv_nsec / 1000;
                format!("RELOADING=1\nMONOTONIC_USEC={microseconds}\n")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{State, send};
    use std::ffi::OsStr;
    use std::os::linux::net::SocketAddrExt as _;
    use std::os::unix::net::{SocketAddr, UnixDatagram};

    fn received(socket: &UnixDatagram) -> String {
        let mut buffer = [0; 128];
        let length = socket.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }

    #[test]
    fn reaches_a_socket_by_path_and_by_abstract_name() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let by_path = UnixDatagram::bind(&path).unwrap();
        send(path.as_os_str(), &State::Ready.message()).unwrap();
        assert_eq!(received(&by_path), "READY=1\n");

        let name = format!("insula-notify-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let abstract_one = UnixDatagram::bind_addr(&address).unwrap();
        send(OsStr::new(&format!("@{name}")), &State::Reloading.message()).unwrap();
        assert!(received(&abstract_one).starts_with("RELOADING=1\nMONOTONIC_USEC="));
    }

    #[test]
    fn nobody_there_is_an_error_not_a_wait() {
        assert!(send(OsStr::new("/nonexistent/notify"), "READY=1\n").is_err());
    }
}
