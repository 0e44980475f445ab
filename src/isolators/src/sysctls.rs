//! Kernel settings of a pod.

use crate::isolator::Refusal;
use crate::spec::{NamespaceMode, PodSpec};
use std::collections::BTreeMap;

/// Longest value in bytes; procfs takes no more than a page.
const MAX_VALUE: usize = 4095;

/// Settings of an ipc namespace, beside `fs.mqueue.*`, sysctl/kernel.rst.
const OF_IPC: &[&str] = &[
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
    "kernel.sem",
    "kernel.shm_rmid_forced",
    "kernel.shmall",
    "kernel.shmmax",
    "kernel.shmmni",
];

/// Which of the pod's namespaces a setting belongs to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Owner {
    Network,
    Ipc,
}

/// The settings to write in a pod's namespaces, by names with dots: those
/// asked for, and with a network of the pod's own two that let any user listen
/// on low ports and send pings there, as other runtimes do.
///
/// Refused are settings that no namespace of the pod owns, since they are the
/// host's (CVE-2022-0811), and values that are not one printable line.
pub fn of_pod(spec: &PodSpec) -> Result<BTreeMap<String, String>, Refusal> {
    let mut settings = BTreeMap::new();
    for (given, value) in &spec.sysctls {
        let name = normalised(given)?;
        let owner = owner(&name).ok_or_else(|| {
            Refusal::new(format!(
                "sysctl {given:?} is not of a namespace that pods have: only net.*, fs.mqueue.*, kernel.msg*, kernel.sem and kernel.shm* can be set"
            ))
        })?;
        let (what, mode) = match owner {
            Owner::Network => ("network", spec.namespaces.network),
            Owner::Ipc => ("ipc", spec.namespaces.ipc),
        };
        if mode == NamespaceMode::Node {
            return Err(Refusal::new(format!(
                "sysctl {given:?} would change the node, since the pod has the node's {what} namespace"
            )));
        }
        let printable = |byte: u8| byte == b'\t' || (b' '..=b'~').contains(&byte);
        if value.len() > MAX_VALUE || !value.bytes().all(printable) {
            return Err(Refusal::new(format!(
                "the value of sysctl {given:?} is not one line of at most {MAX_VALUE} printable characters"
            )));
        }
        if settings.insert(name, value.clone()).is_some() {
            return Err(Refusal::new(format!("sysctl {given:?} is given twice")));
        }
    }
    if spec.namespaces.network != NamespaceMode::Node {
        // Of a user namespace's groups only those that it has can be given.
        let groups = spec
            .namespaces
            .user
            .map_or(1 << 31, |user| user.gids.length());
        for (name, value) in [
            ("net.ipv4.ip_unprivileged_port_start", "0".to_owned()),
            (
                "net.ipv4.ping_group_range",
                format!("0 {}", groups.min(1 << 31) - 1),
            ),
        ] {
            settings.entry(name.to_owned()).or_insert(value);
        }
    }
    Ok(settings)
}

/// The name with dots. Both `net.ipv4.x` and `net/ipv4/x` are usual; a name
/// with both could mean a dot within a part, and is refused.
fn normalised(name: &str) -> Result<String, Refusal> {
    let refused = |why: &str| Err(Refusal::new(format!("sysctl name {name:?} {why}")));
    if name.contains('/') && name.contains('.') {
        return refused("mixes dots and slashes");
    }
    let name = name.replace('/', ".");
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    if name.len() > 255
        || name
            .split('.')
            .any(|part| part.is_empty() || !part.bytes().all(plain))
    {
        return refused("is not made of parts of letters, digits, `_` and `-`");
    }
    Ok(name)
}

fn owner(name: &str) -> Option<Owner> {
    if name.starts_with("net.") {
        Some(Owner::Network)
    } else if name.starts_with("fs.mqueue.") || OF_IPC.contains(&name) {
        Some(Owner::Ipc)
    } else {
        None
    }
}
