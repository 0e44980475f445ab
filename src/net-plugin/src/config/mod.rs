//! The configuration, from JSON to values that hold.
//!
//! Its keys are those of the reference plugins `bridge`, `host-local`, `portmap` and `bandwidth`,
//! with the same meanings and the same defaults, so that a configuration of theirs works here with
//! another `type`; `docs/network.md` lists them. What those have and this plugin has not is refused.

mod keys;
mod ranges;
mod runtime;
#[cfg(test)]
mod tests;

use crate::error::{Code, Failure};
use crate::kernel::link::Mac;
use crate::kernel::route::Route;
use crate::request::{AttachmentId, interface_name, requested};
use crate::result::{Dns, Previous};
use crate::version;
use insula_cni::Cidr;
use insula_cni::CniVersion;
use serde::Deserialize;
use serde_json::{Map, Value};
use std::net::IpAddr;
use std::path::PathBuf;

pub(crate) use self::ranges::{Range, RangeSet};
use self::runtime::RuntimeConfig;
pub(crate) use self::runtime::{Bandwidth, PortMapping, Protocol};

/// Where addresses are kept unless `ipam.dataDir` says otherwise: host-local's own directory.
const DATA_DIR: &str = "/var/lib/cni/networks";
/// The bridge's name unless `bridge` says otherwise, as in the reference plugin.
const BRIDGE: &str = "cni0";

/// What every verb needs to know, and DEL and GC no more: they must do their work also with a
/// configuration that ADD would refuse.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    pub(crate) version: CniVersion,
    pub(crate) name: String,
    /// Where the addresses of all networks are kept.
    pub(crate) data_dir: PathBuf,
    /// GC: attachments that are still in use.
    pub(crate) valid: Vec<AttachmentId>,
}

/// The configuration of one attachment.
#[derive(Debug, Clone)]
#[expect(clippy::struct_excessive_bools, reason = "so it is configured")]
pub struct Config {
    pub(crate) identity: Identity,
    /// Name of the bridge.
    pub(crate) bridge: String,
    /// The bridge has the gateway's addresses, and the host forwards.
    pub(crate) is_gateway: bool,
    /// The pod's default route leads to the gateway.
    pub(crate) is_default_gateway: bool,
    /// Another address of the bridge is replaced, not an error.
    pub(crate) force_address: bool,
    /// What leaves the pods' network has the host's address.
    pub(crate) masquerade: bool,
    pub(crate) mtu: Option<u32>,
    /// A pod reaches itself by the address of a service.
    pub(crate) hairpin: bool,
    /// Pods of the bridge do not reach each other.
    pub(crate) port_isolation: bool,
    /// Pods do not reach those of other bridges of which this is said too.
    pub(crate) isolation: bool,
    /// IPv6 addresses are used only when nobody else was found to have them.
    pub(crate) detect_duplicates: bool,
    /// What comes to a mapped port from the host itself or from its own network is masqueraded.
    pub(crate) snat: bool,
    /// The hardware address asked for.
    pub(crate) mac: Option<Mac>,
    /// The addresses asked for.
    pub(crate) requested: Vec<IpAddr>,
    /// One address is given out of each set.
    pub(crate) ranges: Vec<RangeSet>,
    /// Addresses that are never given out.
    pub(crate) exclude: Vec<Cidr>,
    pub(crate) routes: Vec<Route>,
    pub(crate) dns: Dns,
    /// A file in the format of resolv.conf(5) whose settings are told to the runtime.
    pub(crate) resolv_conf: Option<PathBuf>,
    pub(crate) ports: Vec<PortMapping>,
    pub(crate) bandwidth: Bandwidth,
    /// The result of the plugin before this one; it has made the interface, then.
    pub(crate) previous: Option<Previous>,
    /// Keys that nobody knows, with what may have been meant.
    unknown: Vec<String>,
}

/// The keys of the plugin's own object.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "so the reference plugin has them"
)]
struct Raw {
    cni_version: String,
    name: String,
    bridge: String,
    is_gateway: bool,
    is_default_gateway: bool,
    force_address: bool,
    ip_masq: bool,
    mtu: u32,
    hairpin_mode: bool,
    port_isolation: bool,
    isolation: bool,
    enabledad: bool,
    snat: bool,
    dns: Option<Dns>,
    ipam: Option<ranges::RawIpam>,
    args: Option<RawArgs>,
    runtime_config: RuntimeConfig,
    prev_result: Option<Value>,
    #[serde(flatten)]
    bandwidth: runtime::RawBandwidth,
}

#[derive(Debug, Default, Deserialize)]
struct RawArgs {
    cni: Option<CniArgs>,
}

/// `args.cni`, CNI conventions.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct CniArgs {
    ips: Vec<String>,
    mac: Option<Mac>,
}

impl Default for Raw {
    fn default() -> Self {
        Self {
            cni_version: String::new(),
            name: String::new(),
            bridge: BRIDGE.to_owned(),
            is_gateway: false,
            is_default_gateway: false,
            force_address: false,
            ip_masq: false,
            mtu: 0,
            hairpin_mode: false,
            port_isolation: false,
            isolation: false,
            enabledad: false,
            snat: true,
            dns: None,
            ipam: None,
            args: None,
            runtime_config: RuntimeConfig::default(),
            prev_result: None,
            bandwidth: runtime::RawBandwidth::default(),
        }
    }
}

#[derive(Deserialize)]
struct RawValid {
    #[serde(rename = "containerID")]
    container: String,
    #[serde(rename = "ifname")]
    interface: String,
}

/// The object that was sent; a bound on its size is the reader's business.
pub(crate) fn object(bytes: &[u8]) -> Result<Map<String, Value>, Failure> {
    serde_json::from_slice(bytes).map_err(|error| {
        Failure::new(
            Code::Decoding,
            "the network configuration is not a JSON object",
            error.to_string(),
        )
    })
}

/// The version that the configuration is in, for what is answered to it.
pub(crate) fn version_of(object: &Map<String, Value>) -> Result<CniVersion, Failure> {
    match object.get("cniVersion") {
        Some(Value::String(text)) => version::parse(text),
        Some(other) => Err(Failure::configuration(format!(
            "cniVersion is {other}, not a string"
        ))),
        None => Err(Failure::configuration("cniVersion is missing")),
    }
}

// === impl Identity ===

impl Identity {
    /// Reads no more than is needed.
    pub(crate) fn parse(object: &Map<String, Value>) -> Result<Self, Failure> {
        let ipam = object.get("ipam").and_then(Value::as_object);
        let data_dir = match ipam.and_then(|ipam| ipam.get("dataDir")) {
            None | Some(Value::Null) => DATA_DIR,
            Some(Value::String(path)) if path.is_empty() => DATA_DIR,
            Some(Value::String(path)) if path.starts_with('/') => path,
            Some(other) => {
                return Err(Failure::configuration(format!(
                    "ipam.dataDir is {other}, not an absolute path"
                )));
            }
        };
        // The reference library leaves an empty list out.
        let valid = match object.get("cni.dev/valid-attachments") {
            None | Some(Value::Null) => Vec::new(),
            Some(list) => attachments(list)?,
        };
        Ok(Self {
            version: version_of(object)?,
            name: network_name(object.get("name"))?,
            data_dir: data_dir.into(),
            valid,
        })
    }
}

fn attachments(list: &Value) -> Result<Vec<AttachmentId>, Failure> {
    let wrong = |why: String| Failure::configuration(format!("cni.dev/valid-attachments: {why}"));
    let list: Vec<RawValid> =
        serde_json::from_value(list.clone()).map_err(|error| wrong(error.to_string()))?;
    list.iter()
        .map(|raw| AttachmentId::parse(&raw.container, &raw.interface).map_err(wrong))
        .collect()
}

/// CNI specification, section 1. It is also the name of a directory, which the form allows.
fn network_name(name: Option<&Value>) -> Result<String, Failure> {
    let text = name.and_then(Value::as_str).unwrap_or_default();
    let mut bytes = text.bytes();
    let good = bytes
        .next()
        .is_some_and(|first| first.is_ascii_alphanumeric())
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
        && text.len() <= 200;
    if good {
        Ok(text.to_owned())
    } else {
        Err(Failure::configuration(format!(
            "name {text:?} must begin with a letter or digit, hold only these and _ . -, and have \
             at most 200 characters"
        )))
    }
}

// === impl Config ===

impl Config {
    /// Reads all of it, and checks what can be checked without the kernel.
    pub fn parse(bytes: &[u8]) -> Result<Self, Failure> {
        Self::from_object(object(bytes)?)
    }

    pub(crate) fn from_object(object: Map<String, Value>) -> Result<Self, Failure> {
        let identity = Identity::parse(&object)?;
        keys::refuse_unsupported(&object)?;
        let unknown = keys::unknown(&object);
        let raw: Raw = serde_json::from_value(Value::Object(object)).map_err(|error| {
            Failure::new(
                Code::Decoding,
                "a key of the network configuration has a value of the wrong type",
                error.to_string(),
            )
        })?;
        Self::check(raw, identity, unknown)
    }

    fn check(raw: Raw, identity: Identity, unknown: Vec<String>) -> Result<Self, Failure> {
        interface_name(&raw.bridge)
            .map_err(|why| Failure::configuration(format!("bridge {why}")))?;
        let mtu = match raw.mtu {
            0 => None,
            68..=65535 => Some(raw.mtu),
            mtu => {
                return Err(Failure::configuration(format!(
                    "mtu is {mtu}, not between 68 and 65535"
                )));
            }
        };
        let cni = raw.args.and_then(|args| args.cni).unwrap_or_default();
        let mut requested_ips = Vec::new();
        for text in cni.ips.iter().chain(&raw.runtime_config.ips) {
            let address = requested(text).map_err(|why| {
                Failure::configuration(format!("an address that is asked for: {why}"))
            })?;
            requested_ips.push(address);
        }
        let ipam = raw.ipam.unwrap_or_default();
        let previous = raw.prev_result.map(Previous::parse).transpose()?;
        let ports = runtime::port_mappings(raw.runtime_config.port_mappings)?;
        let bandwidth = raw.bandwidth.or(raw.runtime_config.bandwidth).check()?;
        Ok(Self {
            bridge: raw.bridge,
            is_gateway: raw.is_gateway || raw.is_default_gateway,
            is_default_gateway: raw.is_default_gateway,
            force_address: raw.force_address,
            masquerade: raw.ip_masq,
            mtu,
            hairpin: raw.hairpin_mode,
            port_isolation: raw.port_isolation,
            isolation: raw.isolation,
            detect_duplicates: raw.enabledad,
            snat: raw.snat,
            mac: raw.runtime_config.mac.or(cni.mac),
            requested: requested_ips,
            ranges: ipam.range_sets(raw.runtime_config.ip_ranges)?,
            exclude: ipam.exclude,
            routes: ranges::routes(ipam.routes)?,
            dns: raw.runtime_config.dns.or(raw.dns).unwrap_or_default(),
            resolv_conf: ipam.resolv_conf.filter(|path| !path.as_os_str().is_empty()),
            ports,
            bandwidth,
            previous,
            unknown,
            identity,
        })
    }

    /// For ADD and STATUS: a key that nobody knows is a mistake that would otherwise be found by
    /// the pod that lacks what was meant. The specification allows plugins to refuse it.
    pub(crate) fn refuse_unknown(&self) -> Result<(), Failure> {
        if self.unknown.is_empty() {
            return Ok(());
        }
        Err(Failure::new(
            Code::UnsupportedField,
            format!(
                "unknown key in the configuration: {}",
                self.unknown.join("; ")
            ),
            "keys that begin with _ or hold a . or / are left alone",
        ))
    }
}
