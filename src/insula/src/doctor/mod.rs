//! What this host can do, found out by trying.
//!
//! Each row says what was tried, whether it works, and what is lost without
//! it. `insula doctor` shows the rows, `Status` carries them, and the daemon
//! decides by the same probes. What each feature is used for is in
//! `docs/kernel-features.md`.

mod files;
mod handlers;
mod labels;
pub(crate) mod probe;
pub(crate) mod user_namespaces;

use crate::serve::Runtimes;
use insula_pods::CgroupDriver;
use serde::Serialize;
use std::net::SocketAddr;
use std::path::PathBuf;

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Row {
    /// What.
    pub(crate) name: String,
    /// Whether it is there.
    pub(crate) state: State,
    /// What was found.
    pub(crate) detail: String,
    /// What does not work without it; empty when it is there.
    pub(crate) lost: String,
}

/// Whether something is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum State {
    /// It works.
    Ok,
    /// It works in part, or something else takes its place.
    Warning,
    /// It does not, and something that people ask for fails.
    Missing,
}

/// Which files belong to the daemon that is looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Places {
    /// Directory of durable state.
    pub(crate) root: PathBuf,
    /// Who is to make cgroups.
    pub(crate) cgroup_driver: CgroupDriver,
    /// Directory of state that a reboot voids.
    pub(crate) state: PathBuf,
    /// Directory of network configurations.
    pub(crate) cni_conf_dir: PathBuf,
    /// Directories of network plugins.
    pub(crate) cni_bin_dirs: Vec<PathBuf>,
    /// Whether pods have a network where there is no configuration.
    pub(crate) default_network: bool,
    /// The daemon's own network plugin, if it is installed.
    pub(crate) own_plugin: Option<PathBuf>,
    /// Directories of `<host>/hosts.toml`.
    pub(crate) registry_config: Vec<PathBuf>,
    /// Runtime handlers.
    pub(crate) runtimes: Runtimes,
    /// The supervisor's program.
    pub(crate) supervisor: PathBuf,
    /// Where exec, attach and port-forward are served.
    pub(crate) streaming: Listener,
}

/// The streaming server of the daemon that is looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Listener {
    /// It serves there.
    Serving(String),
    /// A daemon would serve there.
    Planned(SocketAddr),
}

/// Looks at everything. Changes nothing that outlives it; may take some
/// milliseconds.
pub(crate) fn examine(places: &Places) -> Vec<Row> {
    let mut rows = vec![probe::kernel(), probe::root_rights()];
    rows.extend(probe::cgroups());
    rows.push(probe::cgroup_driver(places.cgroup_driver));
    rows.extend(user_namespaces::rows(&places.root, &places.state));
    rows.extend([
        probe::overlay(&places.root),
        probe::paths_in_root(),
        probe::mount_attributes(),
        probe::recursive_read_only(),
        probe::pidfd(),
        probe::oom_score(),
        probe::pressure(),
        probe::seccomp(),
        labels::apparmor(),
        labels::selinux(),
        files::supervisor(&places.supervisor),
        files::network_configuration(places),
        files::network_plugins(&places.cni_bin_dirs),
        files::own_network_plugin(places),
        files::packet_filter(),
        files::registries(&places.registry_config),
        files::inotify(),
        streaming(&places.streaming),
    ]);
    rows.extend(handlers::rows(&places.runtimes));
    rows
}

fn streaming(listener: &Listener) -> Row {
    let lost = "the daemon does not start: set streaming.address to one of this host's";
    let tried = match listener {
        Listener::Serving(base) => Ok(format!("served at {base}")),
        Listener::Planned(address) => std::net::TcpListener::bind(address)
            .map(|_| format!("{address} can be had"))
            .map_err(|error| format!("{address}: {error}")),
    };
    Row::tried("exec, attach and port-forward", tried, lost)
}

// === impl Row ===

impl Row {
    fn ok(name: &str, detail: impl Into<String>) -> Self {
        Self {
            name: name.to_owned(),
            state: State::Ok,
            detail: detail.into(),
            lost: String::new(),
        }
    }

    fn warning(name: &str, detail: impl Into<String>, lost: &str) -> Self {
        Self {
            state: State::Warning,
            lost: lost.to_owned(),
            ..Self::ok(name, detail)
        }
    }

    fn missing(name: &str, detail: impl Into<String>, lost: &str) -> Self {
        Self {
            state: State::Missing,
            lost: lost.to_owned(),
            ..Self::ok(name, detail)
        }
    }

    /// Works, or is missing for the reason that the system gave.
    fn tried<E: std::fmt::Display>(name: &str, tried: Result<String, E>, lost: &str) -> Self {
        match tried {
            Ok(detail) => Self::ok(name, detail),
            Err(error) => Self::missing(name, error.to_string(), lost),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{CgroupDriver, Listener, Places, Runtimes, State, examine};
    use std::net::{Ipv4Addr, TcpListener};

    #[test]
    fn every_row_that_is_not_ok_says_what_is_lost() {
        let directory = tempfile::tempdir().unwrap();
        let nowhere = directory.path().join("nowhere");
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let rows = examine(&Places {
            root: directory.path().into(),
            cgroup_driver: CgroupDriver::Auto,
            state: directory.path().into(),
            cni_conf_dir: nowhere.clone(),
            cni_bin_dirs: vec![nowhere.clone()],
            default_network: true,
            own_plugin: None,
            registry_config: vec![nowhere.clone()],
            runtimes: Runtimes::new(),
            supervisor: nowhere.join("insula-pod"),
            streaming: Listener::Planned(taken.local_addr().unwrap()),
        });
        for row in &rows {
            assert_eq!(row.state == State::Ok, row.lost.is_empty(), "{row:?}");
            assert!(!row.detail.is_empty(), "{row:?}");
        }
        let state = |name: &str| {
            rows.iter()
                .find(|row| row.name == name)
                .map(|row| row.state)
        };
        assert_eq!(state("supervisor"), Some(State::Missing));
        assert_eq!(state("network configuration"), Some(State::Missing));
        assert_eq!(state("network plugins"), Some(State::Missing));
        assert_eq!(state("exec, attach and port-forward"), Some(State::Missing));
        // Nothing is left behind.
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    }
}
