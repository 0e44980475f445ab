//! `PodSandboxConfig` to [`PodSpec`], and its parts back.

use super::security::{self, For};
use super::{NAME_MAX, Rejected, absolute_path, name, required, resources, text, without_parent};
use insula_cri_api::v1::{
    DnsConfig, LinuxPodSandboxConfig, PodSandboxConfig, PodSandboxMetadata, PortMapping as Port,
    Protocol,
};
use insula_isolators::spec::{
    Dns, NamespaceOptions, PodMetadata, PodSpec, PortMapping, PortProtocol, Resources,
    SelinuxOptions,
};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// Longest host name the kernel keeps (`__NEW_UTS_LEN`, uname(2)).
const HOSTNAME_MAX: usize = 64;
/// Longest line of resolv.conf that is taken.
const DNS_MAX: usize = 1024;

/// A pod as `RunPodSandbox` asks for it. Handler `runtime_handler` is judged
/// by the caller, who knows which there are.
pub fn from_cri(message: PodSandboxConfig, runtime_handler: String) -> Result<PodSpec, Rejected> {
    let metadata = metadata(required(message.metadata, "metadata")?)
        .map_err(|rejected| rejected.within("metadata"))?;
    let linux =
        linux(message.linux.unwrap_or_default()).map_err(|rejected| rejected.within("linux"))?;
    Ok(PodSpec {
        metadata,
        hostname: hostname(message.hostname)?,
        log_directory: if message.log_directory.is_empty() {
            String::new()
        } else {
            absolute_path(message.log_directory, "log_directory")?
        },
        dns: message
            .dns_config
            .map(dns)
            .transpose()
            .map_err(|rejected| rejected.within("dns_config"))?,
        port_mappings: message
            .port_mappings
            .into_iter()
            .enumerate()
            .map(|(index, port)| {
                port_mapping(port)
                    .map_err(|rejected| rejected.within(&format!("port_mappings[{index}]")))
            })
            .collect::<Result<_, _>>()?,
        labels: message.labels,
        annotations: message.annotations,
        cgroup_parent: linux.cgroup_parent,
        sysctls: linux.sysctls,
        overhead: linux.overhead,
        resources: linux.resources,
        namespaces: linux.namespaces,
        privileged: linux.privileged,
        selinux: linux.selinux,
        runtime_handler,
    })
}

/// A pod's identity as lists and statuses give it back.
pub fn metadata_to_cri(metadata: &PodMetadata) -> PodSandboxMetadata {
    PodSandboxMetadata {
        name: metadata.name.clone(),
        uid: metadata.uid.clone(),
        namespace: metadata.namespace.clone(),
        attempt: metadata.attempt,
    }
}

struct Linux {
    cgroup_parent: String,
    sysctls: BTreeMap<String, String>,
    overhead: Option<Resources>,
    resources: Option<Resources>,
    namespaces: NamespaceOptions,
    privileged: bool,
    selinux: Option<SelinuxOptions>,
}

fn metadata(message: PodSandboxMetadata) -> Result<PodMetadata, Rejected> {
    Ok(PodMetadata {
        name: name(message.name, "name")?,
        namespace: name(message.namespace, "namespace")?,
        uid: name(message.uid, "uid")?,
        attempt: message.attempt,
    })
}

/// The pod's own process runs nothing of a client's, so the user and the
/// profiles that are asked for it have nothing to apply to; only what decides
/// about the pod's namespaces and containers is kept.
fn linux(message: LinuxPodSandboxConfig) -> Result<Linux, Rejected> {
    let security = message.security_context.unwrap_or_default();
    let in_context = |rejected: Rejected| rejected.within("security_context");
    security::profile(security.seccomp, "seccomp").map_err(in_context)?;
    security::profile(security.apparmor, "apparmor").map_err(in_context)?;
    security::groups_policy(security.supplemental_groups_policy).map_err(in_context)?;
    let namespaces = security::namespaces(security.namespace_options.unwrap_or_default(), For::Pod)
        .map_err(|rejected| rejected.within("namespace_options"))
        .map_err(in_context)?;
    let selinux = security::selinux(security.selinux_options)
        .map_err(|rejected| in_context(rejected.within("selinux_options")))?;
    let limits = |message: Option<_>, field: &str| {
        message
            .map(resources::from_cri)
            .transpose()
            .map_err(|rejected| rejected.within(field))
    };
    Ok(Linux {
        cgroup_parent: without_parent(message.cgroup_parent, "cgroup_parent")?,
        sysctls: sysctls(message.sysctls)?,
        overhead: limits(message.overhead, "overhead")?,
        resources: limits(message.resources, "resources")?,
        namespaces,
        privileged: security.privileged,
        selinux,
    })
}

fn hostname(value: String) -> Result<String, Rejected> {
    let value = text(value, "hostname", HOSTNAME_MAX)?;
    if value.contains(|c: char| c == '/' || c.is_whitespace() || c.is_control()) {
        return Err(Rejected::invalid(
            "hostname",
            format!("{value:?} is not a host name"),
        ));
    }
    Ok(value)
}

/// Each entry is one word of one line of resolv.conf(5), so it cannot end it.
fn dns(message: DnsConfig) -> Result<Dns, Rejected> {
    let lines = |values: Vec<String>, field: &str| -> Result<Vec<String>, Rejected> {
        for (index, value) in values.iter().enumerate() {
            let field = format!("{field}[{index}]");
            text(value.clone(), &field, DNS_MAX)?;
            if value.contains(char::is_control) {
                return Err(Rejected::invalid(
                    field,
                    format!("{value:?} holds a line break or a control character"),
                ));
            }
        }
        Ok(values)
    };
    Ok(Dns {
        servers: lines(message.servers, "servers")?,
        searches: lines(message.searches, "searches")?,
        options: lines(message.options, "options")?,
    })
}

fn port_mapping(message: Port) -> Result<PortMapping, Rejected> {
    let protocol = match Protocol::try_from(message.protocol) {
        Ok(Protocol::Tcp) => PortProtocol::Tcp,
        Ok(Protocol::Udp) => PortProtocol::Udp,
        Ok(Protocol::Sctp) => PortProtocol::Sctp,
        Err(_) => {
            return Err(Rejected::invalid(
                "protocol",
                format!("{} is not a value of enum Protocol", message.protocol),
            ));
        }
    };
    let port = |value: i32, field: &str| {
        u16::try_from(value).map_err(|_| {
            Rejected::invalid(field, format!("{value} is not a port between 0 and 65535"))
        })
    };
    let host_port = port(message.host_port, "host_port")?;
    let container_port = port(message.container_port, "container_port")?;
    if host_port != 0 && container_port == 0 {
        return Err(Rejected::invalid(
            "container_port",
            "is 0, but `host_port` leads to it",
        ));
    }
    if !message.host_ip.is_empty() && message.host_ip.parse::<IpAddr>().is_err() {
        return Err(Rejected::invalid(
            "host_ip",
            format!("{:?} is not an IP address", message.host_ip),
        ));
    }
    Ok(PortMapping {
        protocol,
        container_port,
        host_port,
        host_ip: message.host_ip,
    })
}

/// Which of them a pod may set is the isolators' to say; a name is never a
/// path out of /proc/sys.
fn sysctls(values: BTreeMap<String, String>) -> Result<BTreeMap<String, String>, Rejected> {
    for (key, value) in &values {
        let plain = !key.is_empty()
            && key.len() <= NAME_MAX
            && !key.split(['.', '/']).any(str::is_empty)
            && key
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"._-/@:".contains(&byte));
        if !plain {
            return Err(Rejected::invalid(
                "sysctls",
                format!("{key:?} is not a name such as \"kernel.shm_rmid_forced\""),
            ));
        }
        text(value.clone(), &format!("sysctls[{key}]"), 4096)?;
    }
    Ok(values)
}

#[cfg(test)]
#[path = "pod/tests.rs"]
mod tests;
