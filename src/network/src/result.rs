//! Results of ADD.

#[cfg(test)]
mod tests;

use std::net::IpAddr;

use insula_cni::{Cidr, CniVersion};
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};

use crate::config::IpPreference;
use crate::json::Object;

/// The result of a plugin's ADD (CNI 0.3.0 to 1.1.0): what we read of it, and all of it as written.
#[derive(Clone, Debug)]
pub struct CniResult {
    /// The version the plugin says it is in; that of the configuration if it says nothing.
    pub version: CniVersion,
    /// Interfaces that the plugins made or took, in the host and in the pod.
    pub interfaces: Vec<Interface>,
    /// Addresses given to them.
    pub ips: Vec<IpConfig>,
    /// The result as the plugin wrote it.
    pub raw: Box<RawValue>,
}

/// A network interface of a result.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interface {
    /// Its name.
    #[serde(default)]
    pub name: String,
    /// Its hardware address, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<String>,
    /// The network namespace it is in; none or empty for one of the host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sandbox: Option<String>,
}

impl Interface {
    fn is_in_a_sandbox(&self) -> bool {
        self.sandbox
            .as_ref()
            .is_some_and(|sandbox| !sandbox.is_empty())
    }
}

/// An address of a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IpConfig {
    /// The address and the length of its subnet's prefix.
    pub address: Cidr,
    /// Which of the result's interfaces has it, if the plugin says so; always a valid index.
    pub interface: Option<usize>,
}

#[derive(Deserialize)]
struct RawIp {
    address: String,
    interface: Option<i64>,
}

impl CniResult {
    /// Parses what a plugin wrote when it was configured in `asked`.
    ///
    /// The error says what is wrong with it.
    pub fn parse(bytes: &[u8], asked: CniVersion) -> Result<Self, String> {
        if bytes.iter().all(u8::is_ascii_whitespace) {
            return Err("it wrote no result".to_owned());
        }
        let raw: Box<RawValue> =
            serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        Self::from_raw(raw, asked)
    }

    pub(crate) fn from_raw(raw: Box<RawValue>, asked: CniVersion) -> Result<Self, String> {
        let object: Object = serde_json::from_str(raw.get()).map_err(|error| error.to_string())?;
        let version = match object.read::<String>("cniVersion")? {
            Some(text) if !text.is_empty() => {
                CniVersion::parse(&text).ok_or_else(|| CniVersion::unsupported(&text))?
            }
            _ => asked,
        };
        let interfaces: Vec<Interface> = object.read("interfaces")?.unwrap_or_default();
        let ips = object
            .read::<Vec<RawIp>>("ips")?
            .unwrap_or_default()
            .into_iter()
            .map(|ip| ip.check(interfaces.len()))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            version,
            interfaces,
            ips,
            raw,
        })
    }

    /// The addresses of the pod's interface `name`, the primary one first.
    pub fn pod_ips(&self, name: &str, preference: IpPreference) -> Vec<IpAddr> {
        // Plugins that leave the sandbox out are taken at the name's word, unless it is ambiguous.
        let sandboxed = self
            .interfaces
            .iter()
            .any(|interface| interface.name == name && interface.is_in_a_sandbox());
        let is_of_the_pod = |interface: &Interface| {
            interface.name == name && (!sandboxed || interface.is_in_a_sandbox())
        };
        let mut ips: Vec<IpAddr> = self
            .ips
            .iter()
            .filter(|ip| match ip.interface {
                // A plugin that names no interface means the only one it was asked for.
                None => true,
                Some(index) => self.interfaces.get(index).is_some_and(is_of_the_pod),
            })
            .map(|ip| ip.address.address)
            .collect();
        match preference {
            IpPreference::Ipv4 => ips.sort_by_key(IpAddr::is_ipv6),
            IpPreference::Ipv6 => ips.sort_by_key(IpAddr::is_ipv4),
            IpPreference::AsGiven => {}
        }
        ips
    }

    /// The result as `prevResult` for a plugin configured in `version`.
    ///
    /// As it was written if it is in that version already. Otherwise the version is set, and the
    /// address family, which results before 1.0.0 must name and later ones do not, added or
    /// removed; everything else passes through.
    pub(crate) fn for_version(&self, version: CniVersion) -> Result<Box<RawValue>, String> {
        let text = |error: serde_json::Error| error.to_string();
        let mut object: Object = serde_json::from_str(self.raw.get()).map_err(text)?;
        if self.version == version
            && object
                .read("cniVersion")?
                .is_some_and(|said: String| !said.is_empty())
        {
            return Ok(self.raw.clone());
        }
        object.set_value("cniVersion", &version).map_err(text)?;
        let crosses = self.version.names_address_family() != version.names_address_family();
        if crosses && let Some(mut ips) = object.read::<Vec<Object>>("ips")? {
            for (ip, known) in ips.iter_mut().zip(&self.ips) {
                if version.names_address_family() {
                    let family = if known.address.address.is_ipv4() {
                        "4"
                    } else {
                        "6"
                    };
                    ip.set_value("version", &family).map_err(text)?;
                } else {
                    ip.remove("version");
                }
            }
            object.set_value("ips", &ips).map_err(text)?;
        }
        to_raw_value(&object).map_err(text)
    }
}

impl RawIp {
    fn check(self, interfaces: usize) -> Result<IpConfig, String> {
        let address: Cidr = self.address.parse()?;
        let interface = match self.interface {
            None => None,
            Some(index) => Some(
                usize::try_from(index)
                    .ok()
                    .filter(|index| *index < interfaces)
                    .ok_or_else(|| {
                        format!("address {address} names interface {index} of {interfaces}")
                    })?,
            ),
        };
        Ok(IpConfig { address, interface })
    }
}
