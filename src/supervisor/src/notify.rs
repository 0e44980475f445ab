//! Handing the listener of a filter to the program that answers (OCI
//! runtime-spec, config-linux.md, "The Container Process State").

use crate::launch::report::{step, system_failure};
use insula_sys::{Error, seqpacket};
use insula_wire::hooks::{HookState, HookStatus, OCI_VERSION};
use insula_wire::message::{Failure, Notify};
use rustix::fd::{AsFd, OwnedFd};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use serde::Serialize;
use std::time::Duration;

/// How long connecting and sending may take. Whoever answers for system calls
/// accepts at once; the pod's other containers wait meanwhile.
const DEADLINE: Duration = Duration::from_secs(1);

/// What the program is told.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ProcessState<'a> {
    oci_version: &'static str,
    /// Names of the descriptors that travel along.
    fds: [&'static str; 1],
    /// The process that has loaded the filter.
    pid: i32,
    #[serde(skip_serializing_if = "str::is_empty")]
    metadata: &'a str,
    state: HookState<'a>,
}

/// Connects to the program and gives it the listener.
pub fn hand_over(
    notify: &Notify,
    container_id: &str,
    (status, pid): (HookStatus, i32),
    listener: &OwnedFd,
) -> Result<(), Failure> {
    let path = notify.listener.path.as_str();
    let name = "hand over the filter's listener";
    let state = ProcessState {
        oci_version: OCI_VERSION,
        fds: ["seccompFd"],
        pid,
        metadata: &notify.listener.metadata,
        state: HookState {
            oci_version: OCI_VERSION,
            id: container_id,
            status,
            pid,
            bundle: &notify.bundle.path,
            annotations: &notify.bundle.annotations,
        },
    };
    let json = serde_json::to_vec(&state).unwrap_or_default();
    let socket = rustix::net::socket_with(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )
    .map_err(|errno| Error::new("socket(AF_UNIX, SOCK_STREAM|SOCK_CLOEXEC)", errno));
    let socket = step(name, socket)?;
    // connect(2) waits for as long as sending may, unix(7).
    let limited = set_socket_timeout(&socket, Timeout::Send, Some(DEADLINE))
        .map_err(|errno| Error::new("setsockopt(SO_SNDTIMEO)", errno));
    step(name, limited)?;
    let connected = SocketAddrUnix::new(path)
        .and_then(|address| rustix::net::connect(&socket, &address))
        .map_err(|errno| Error::new(format!("connect({path:?})"), errno));
    connected.map_err(|error| {
        let mut failure = system_failure(name, &error);
        failure.message += "; does the program run that the seccomp profile names?";
        failure
    })?;
    step(
        name,
        seqpacket::send_all(socket.as_fd(), &json, &[listener.as_fd()]),
    )
}
