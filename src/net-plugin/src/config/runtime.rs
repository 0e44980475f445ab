//! What the runtime adds: the arguments of capabilities (CNI conventions).
//!
//! containerd sends them with the names of its Go fields, such as `HostPort`
//! (`containerd/go-cni`, `types.go`), which the reference plugins take: Go reads keys in any case.

use super::ranges::RawRange;
use crate::error::Failure;
use crate::kernel::link::Mac;
use crate::kernel::traffic::Rate;
use crate::result::Dns;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// `runtimeConfig`. What is not read here belongs to a capability of somebody else.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct RuntimeConfig {
    pub(super) port_mappings: Vec<RawPort>,
    pub(super) bandwidth: Option<RawBandwidth>,
    pub(super) ip_ranges: Vec<Vec<RawRange>>,
    pub(super) ips: Vec<String>,
    pub(super) mac: Option<Mac>,
    pub(super) dns: Option<Dns>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RawPort {
    #[serde(alias = "HostPort")]
    host_port: u16,
    #[serde(alias = "ContainerPort")]
    container_port: u16,
    #[serde(alias = "Protocol", default)]
    protocol: String,
    #[serde(rename = "hostIP", alias = "HostIP", default)]
    host_ip: String,
}

/// Bits per second and bits; 0 is no limit.
#[derive(Debug, Default, Clone, Copy, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct RawBandwidth {
    #[serde(alias = "IngressRate")]
    ingress_rate: u64,
    #[serde(alias = "IngressBurst")]
    ingress_burst: u64,
    #[serde(alias = "EgressRate")]
    egress_rate: u64,
    #[serde(alias = "EgressBurst")]
    egress_burst: u64,
}

/// A transport protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Protocol {
    Tcp,
    Udp,
    Sctp,
}

/// A port of the host that leads to one of the pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PortMapping {
    pub(crate) host_port: u16,
    pub(crate) container_port: u16,
    pub(crate) protocol: Protocol,
    /// The host's address; `0.0.0.0` and `::` are all of their family, none is all of both.
    #[serde(rename = "hostIP", default, skip_serializing_if = "Option::is_none")]
    pub(crate) host_ip: Option<IpAddr>,
}

/// The limits of a pod.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Bandwidth {
    /// Towards the pod.
    pub(crate) ingress: Option<Rate>,
    /// From the pod.
    pub(crate) egress: Option<Rate>,
}

pub(super) fn port_mappings(raw: Vec<RawPort>) -> Result<Vec<PortMapping>, Failure> {
    let mut mappings: Vec<PortMapping> = Vec::new();
    for raw in raw {
        let mapping = raw
            .check()
            .map_err(|why| Failure::configuration(format!("portMappings: {why}")))?;
        // The same one twice is one.
        if !mappings.contains(&mapping) {
            mappings.push(mapping);
        }
    }
    Ok(mappings)
}

// === impl RawPort ===

impl RawPort {
    fn check(self) -> Result<PortMapping, String> {
        if self.host_port == 0 || self.container_port == 0 {
            return Err(format!(
                "host port {} to container port {}: ports are 1 to 65535",
                self.host_port, self.container_port
            ));
        }
        let protocol = match self.protocol.to_ascii_lowercase().as_str() {
            "" | "tcp" => Protocol::Tcp,
            "udp" => Protocol::Udp,
            "sctp" => Protocol::Sctp,
            other => return Err(format!("protocol {other:?} is not tcp, udp or sctp")),
        };
        let host_ip = match self.host_ip.as_str() {
            "" => None,
            text => Some(
                text.parse()
                    .map_err(|_| format!("hostIP {text:?} is not an address"))?,
            ),
        };
        Ok(PortMapping {
            host_port: self.host_port,
            container_port: self.container_port,
            protocol,
            host_ip,
        })
    }
}

// === impl RawBandwidth ===

impl RawBandwidth {
    /// The configuration's own limits count before the runtime's.
    pub(super) fn or(self, other: Option<Self>) -> Self {
        let rates = [self.ingress_rate, self.egress_rate];
        let bursts = [self.ingress_burst, self.egress_burst];
        match other {
            Some(other) if rates == [0, 0] && bursts == [0, 0] => other,
            _ => self,
        }
    }

    pub(super) fn check(self) -> Result<Bandwidth, Failure> {
        Ok(Bandwidth {
            ingress: rate("ingress", self.ingress_rate, self.ingress_burst)?,
            egress: rate("egress", self.egress_rate, self.egress_burst)?,
        })
    }
}

fn rate(name: &str, rate: u64, burst: u64) -> Result<Option<Rate>, Failure> {
    let wrong = |why: &str| {
        Err(Failure::configuration(format!(
            "bandwidth: {name}Rate {rate} with {name}Burst {burst}: {why}"
        )))
    };
    match (rate, burst) {
        (0, 0) => Ok(None),
        (0, _) | (_, 0) => wrong("both or none must be set"),
        (1..8, _) | (_, 1..8) => wrong("they are in bits, and less than a byte is nothing"),
        _ => match u32::try_from(burst / 8) {
            Ok(burst) if burst < u32::MAX => Ok(Some(Rate {
                bytes: rate / 8,
                burst,
            })),
            _ => wrong("a burst is less than 4 GiB"),
        },
    }
}

// === impl Protocol ===

impl Protocol {
    /// `IPPROTO_TCP` and so on.
    pub(crate) fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Sctp => 132,
        }
    }

    /// As it is written.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        }
    }
}
