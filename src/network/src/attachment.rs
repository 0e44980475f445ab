//! What a pod asks of its network, and how it is told to plugins.

mod bandwidth;
mod quantity;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use insula_cni::Cidr;
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};

pub use self::bandwidth::Bandwidth;
use crate::conf::{NetworkConf, is_identifier};
use crate::error::{Error, Result};

/// The name of the pod's interface; kubelet and plugins count on it.
pub const INTERFACE: &str = "eth0";

/// A sandbox to be attached to the network.
#[derive(Clone, Debug)]
pub struct Attachment {
    /// The sandbox's id: a letter or digit, then letters, digits, `_`, `.`, `-`.
    pub container_id: String,
    /// The path of its network namespace; must stay valid until [`crate::Network::detach`].
    pub netns: PathBuf,
    /// Whose sandbox it is.
    pub pod: PodIdentity,
    /// Ports of the host that lead to the pod; entries with host port 0 are ignored.
    pub port_mappings: Vec<PortMapping>,
    /// The rates of [`Bandwidth::from_annotations`].
    pub bandwidth: Option<Bandwidth>,
    /// The pod's resolver settings.
    pub dns: Option<Dns>,
    /// The pod's cgroup, as the CRI gives it.
    pub cgroup_path: Option<String>,
    /// The pod's annotations, for plugins that declare `io.kubernetes.cri.pod-annotations`.
    pub annotations: BTreeMap<String, String>,
}

/// The pod's names in Kubernetes, given to plugins in `CNI_ARGS`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodIdentity {
    /// The namespace.
    pub namespace: String,
    /// The name.
    pub name: String,
    /// The UID.
    pub uid: String,
}

/// A port of the host that leads to a port of the pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PortMapping {
    /// The host's port; 0 means none.
    pub host_port: u16,
    /// The pod's port.
    pub container_port: u16,
    /// The protocol.
    pub protocol: Protocol,
    /// The host's address; all of them if `None`.
    #[serde(rename = "hostIP", skip_serializing_if = "Option::is_none")]
    pub host_ip: Option<IpAddr>,
}

/// A transport protocol, in lower case on the wire as the `portmap` plugin wants it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

/// Resolver settings.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dns {
    /// Addresses of name servers.
    pub servers: Vec<String>,
    /// Search domains.
    pub searches: Vec<String>,
    /// Resolver options.
    pub options: Vec<String>,
}

/// A sandbox id that is fit for `CNI_CONTAINERID` and for a file name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct SandboxId(String);

impl SandboxId {
    pub(crate) fn parse(text: &str) -> Result<Self> {
        if is_identifier(text) && text.len() <= 200 {
            Ok(Self(text.to_owned()))
        } else {
            Err(Error::InvalidAttachment(format!(
                "sandbox id {text:?} must begin with a letter or digit, hold only these and _ . -, \
                 and have at most 200 characters"
            )))
        }
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// The value of `CNI_ARGS` for a sandbox.
pub(crate) fn cni_args(id: &SandboxId, pod: &PodIdentity) -> Result<String> {
    let pairs = [
        ("K8S_POD_NAMESPACE", pod.namespace.as_str()),
        ("K8S_POD_NAME", pod.name.as_str()),
        ("K8S_POD_INFRA_CONTAINER_ID", id.as_str()),
        ("K8S_POD_UID", pod.uid.as_str()),
    ];
    let mut args = vec!["IgnoreUnknown=1".to_owned()];
    for (key, value) in pairs {
        // The format has no escapes: such a value would become another argument.
        if value.contains([';', '=']) || value.chars().any(char::is_control) {
            return Err(Error::InvalidAttachment(format!(
                "{key} {value:?} must not hold ';', '=' or control characters"
            )));
        }
        args.push(format!("{key}={value}"));
    }
    Ok(args.join(";"))
}

/// Capability arguments by name, ready for `runtimeConfig`.
pub(crate) type CapabilityArgs = BTreeMap<String, Box<RawValue>>;

/// The capability arguments of `attachment` that some plugin of `conf` declares.
pub(crate) fn capability_args(
    attachment: &Attachment,
    pod_cidrs: &[Cidr],
    conf: &NetworkConf,
) -> Result<CapabilityArgs> {
    let mut args = CapabilityArgs::new();
    let mut put = |name: &str, value: &dyn Fn() -> serde_json::Result<Box<RawValue>>| {
        if conf.declares(name) {
            let value = value()
                .map_err(|error| Error::InvalidAttachment(format!("capability {name}: {error}")))?;
            args.insert(name.to_owned(), value);
        }
        Ok::<(), Error>(())
    };
    let mappings: Vec<_> = attachment
        .port_mappings
        .iter()
        .filter(|mapping| mapping.host_port != 0)
        .collect();
    if !mappings.is_empty() {
        put("portMappings", &|| to_raw_value(&mappings))?;
    }
    if let Some(bandwidth) = &attachment.bandwidth {
        put("bandwidth", &|| to_raw_value(bandwidth))?;
    }
    if let Some(dns) = &attachment.dns {
        put("dns", &|| to_raw_value(dns))?;
    }
    if let Some(path) = &attachment.cgroup_path {
        put("cgroupPath", &|| to_raw_value(path))?;
    }
    if !pod_cidrs.is_empty() {
        // One range set per address family, each of one range.
        let ranges: Vec<_> = pod_cidrs
            .iter()
            .map(|cidr| [BTreeMap::from([("subnet", cidr.to_string())])])
            .collect();
        put("ipRanges", &|| to_raw_value(&ranges))?;
    }
    put("io.kubernetes.cri.pod-annotations", &|| {
        to_raw_value(&attachment.annotations)
    })?;
    Ok(args)
}

/// The comma-separated ranges of the CRI's `NetworkConfig.pod_cidr`; empty text is no range.
pub(crate) fn parse_cidrs(text: &str) -> Result<Vec<Cidr>, String> {
    text.split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty())
        .map(str::parse)
        .collect()
}
