//! The tests, a file for each kind of promise.

mod bad_input;
mod cdi;
mod devices;
mod handlers;
mod hooks;
mod image_volumes;
mod images;
mod import;
mod labels;
mod lifecycle;
mod limits;
mod logs;
mod namespaces;
mod network;
mod observation;
mod port_forward;
mod privileged;
mod processes;
mod recovery;
mod resources;
mod sandboxes;
mod seccomp;
mod security;
mod streaming;
mod supervisor_death;
mod systemd;
mod user_namespaces;
mod volumes;

use crate::support::Case;

/// All tests. The long ones come first, so that the short ones fill the time beside them.
pub fn cases() -> Vec<Case> {
    [
        bad_input::cases(),
        recovery::cases(),
        processes::cases(),
        user_namespaces::cases(),
        lifecycle::cases(),
        handlers::cases(),
        sandboxes::cases(),
        supervisor_death::cases(),
        systemd::cases(),
        logs::cases(),
        resources::cases(),
        limits::cases(),
        observation::cases(),
        volumes::cases(),
        namespaces::cases(),
        seccomp::cases(),
        security::cases(),
        streaming::cases(),
        port_forward::cases(),
        network::cases(),
        image_volumes::cases(),
        labels::cases(),
        privileged::cases(),
        cdi::cases(),
        devices::cases(),
        hooks::cases(),
        images::cases(),
        import::cases(),
    ]
    .into_iter()
    .flatten()
    .collect()
}
