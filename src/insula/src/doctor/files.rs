//! Programs, configurations and settings of the host.

use super::{Places, Row};
use std::path::{Path, PathBuf};
use std::{env, fs};

/// Plugins that the usual configuration names.
const USUAL_PLUGINS: &[&str] = &["bridge", "host-local", "portmap"];

/// Fewest inotify instances per user that leave some for others.
const INOTIFY_INSTANCES: u64 = 128;

pub(super) fn supervisor(program: &Path) -> Row {
    let lost = "no pod can be made: install insula-pod beside insula";
    match fs::metadata(program) {
        Ok(metadata) if metadata.is_file() => Row::ok("supervisor", program.display().to_string()),
        Ok(_) => Row::missing(
            "supervisor",
            format!("{} is no file", program.display()),
            lost,
        ),
        Err(error) => Row::missing(
            "supervisor",
            format!("{}: {error}", program.display()),
            lost,
        ),
    }
}

pub(super) fn network_configuration(places: &Places) -> Row {
    let title = "network configuration";
    let directory = &places.cni_conf_dir;
    let default = match &places.own_plugin {
        Some(_) if places.default_network => Some("pods are at the default network"),
        _ => None,
    };
    let lacking = |detail: String| match default {
        Some(default) => Row::ok(title, format!("{detail}: {default}")),
        None => Row::missing(
            title,
            detail,
            "pods get no network, the node is NotReady; host network works",
        ),
    };
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) => return lacking(format!("{}: {error}", directory.display())),
    };
    let mut names: Vec<_> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| {
            path.extension().is_some_and(|ending| {
                ["conflist", "conf", "json"]
                    .iter()
                    .any(|known| ending == *known)
            })
        })
        .collect();
    names.sort();
    match names.first() {
        Some(first) => Row::ok(title, first.display().to_string()),
        None => lacking(format!(
            "{} holds no *.conflist, *.conf or *.json",
            directory.display()
        )),
    }
}

/// insula-net, and what it asks of the kernel for everything it can do.
pub(super) fn own_network_plugin(places: &Places) -> Row {
    let title = "insula-net";
    let Some(plugin) = &places.own_plugin else {
        return Row::warning(
            title,
            "not beside insula",
            "there is no default network: install insula-net beside insula",
        );
    };
    let lost = "the default network does not work, nor do configurations that name insula-net";
    match nftables() {
        Ok(()) => Row::ok(title, plugin.display().to_string()),
        Err(error) => Row::missing(title, error, lost),
    }
}

/// The kernel loads what it lacks of nftables when it is used; without this socket it cannot.
fn nftables() -> Result<(), String> {
    let flags = rustix::net::SocketFlags::CLOEXEC;
    rustix::net::socket_with(
        rustix::net::AddressFamily::NETLINK,
        rustix::net::SocketType::RAW,
        flags,
        Some(rustix::net::netlink::NETFILTER),
    )
    .map(drop)
    .map_err(|errno| format!("the kernel has no nftables (nfnetlink): {errno}"))
}

pub(super) fn network_plugins(directories: &[PathBuf]) -> Row {
    let found = |plugin: &&&str| {
        directories
            .iter()
            .any(|directory| directory.join(plugin).is_file())
    };
    let missing: Vec<&str> = USUAL_PLUGINS
        .iter()
        .filter(|plugin| !found(plugin))
        .copied()
        .collect();
    let listed = list(directories);
    if missing.is_empty() {
        Row::ok(
            "network plugins",
            format!("{} in {listed}", USUAL_PLUGINS.join(", ")),
        )
    } else if missing.len() == USUAL_PLUGINS.len() {
        Row::missing(
            "network plugins",
            format!("none of {} in {listed}", USUAL_PLUGINS.join(", ")),
            "pods get no network unless the configuration names other plugins",
        )
    } else {
        Row::warning(
            "network plugins",
            format!("no {} in {listed}", missing.join(", ")),
            "configurations that name them fail",
        )
    }
}

pub(super) fn packet_filter() -> Row {
    let found: Vec<_> = ["nft", "iptables"]
        .into_iter()
        .filter_map(in_path)
        .map(|path| path.display().to_string())
        .collect();
    if found.is_empty() {
        Row::warning(
            "packet filter",
            "neither nft nor iptables in PATH",
            "host ports and masquerading of the usual plugins fail",
        )
    } else {
        Row::ok("packet filter", found.join(", "))
    }
}

pub(super) fn registries(directories: &[PathBuf]) -> Row {
    let existing: Vec<_> = directories
        .iter()
        .filter(|path| path.is_dir())
        .cloned()
        .collect();
    if existing.is_empty() {
        // Registries are then asked directly, which is as good.
        Row::ok(
            "registry configuration",
            format!("none in {}", list(directories)),
        )
    } else {
        Row::ok("registry configuration", list(&existing))
    }
}

pub(super) fn inotify() -> Row {
    let file = "/proc/sys/fs/inotify/max_user_instances";
    let lost = "programs in pods, and tail -f, run out of watches";
    match fs::read_to_string(file).map(|text| text.trim().parse::<u64>()) {
        Ok(Ok(instances)) if instances >= INOTIFY_INSTANCES => {
            Row::ok("inotify", format!("{instances} instances per user"))
        }
        Ok(Ok(instances)) => Row::warning(
            "inotify",
            format!("only {instances} instances per user"),
            lost,
        ),
        Ok(Err(error)) => Row::warning("inotify", format!("{file}: {error}"), lost),
        Err(error) => Row::warning("inotify", format!("{file}: {error}"), lost),
    }
}

fn in_path(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path)
        .map(|directory| directory.join(program))
        .find(|candidate| candidate.is_file())
}

fn list(paths: &[PathBuf]) -> String {
    let paths: Vec<_> = paths
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    paths.join(", ")
}
