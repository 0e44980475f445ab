//! Results of ADD, ours and those of the plugin before.

use crate::error::{Code, Failure};
use crate::kernel::link::Mac;
use crate::kernel::route::Route;
use insula_cni::Cidr;
use insula_cni::CniVersion;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::net::IpAddr;

/// Resolver settings; they are passed on, nobody here uses them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Dns {
    #[serde(
        skip_serializing_if = "Vec::is_empty",
        alias = "servers",
        alias = "Servers"
    )]
    pub(crate) nameservers: Vec<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) domain: String,
    #[serde(
        skip_serializing_if = "Vec::is_empty",
        alias = "searches",
        alias = "Searches"
    )]
    pub(crate) search: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty", alias = "Options")]
    pub(crate) options: Vec<String>,
}

/// An interface of a result.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Interface {
    pub(crate) name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) mac: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) mtu: Option<u32>,
    /// The network namespace it is in; none for the host's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) sandbox: Option<String>,
}

/// An address that was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Given {
    pub(crate) address: Cidr,
    pub(crate) gateway: IpAddr,
}

/// The result of our own ADD.
#[derive(Debug, Clone)]
pub(crate) struct AddResult {
    pub(crate) interfaces: Vec<Interface>,
    /// Addresses of the last interface, the pod's.
    pub(crate) ips: Vec<Given>,
    pub(crate) routes: Vec<Route>,
    pub(crate) dns: Dns,
}

/// The result of the plugin before us: what we need of it, and all of it to pass on.
#[derive(Debug, Clone)]
pub(crate) struct Previous {
    pub(crate) interfaces: Vec<Interface>,
    pub(crate) ips: Vec<PreviousIp>,
    whole: Map<String, Value>,
}

/// An address of a previous result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub(crate) struct PreviousIp {
    pub(crate) address: Cidr,
    /// Index of its interface.
    #[serde(default)]
    pub(crate) interface: Option<usize>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Written<'a> {
    cni_version: &'a str,
    interfaces: &'a [Interface],
    ips: Vec<WrittenIp>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    routes: Vec<WrittenRoute>,
    dns: &'a Dns,
}

#[derive(Serialize)]
struct WrittenIp {
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<&'static str>,
    interface: usize,
    address: Cidr,
    gateway: IpAddr,
}

#[derive(Serialize)]
struct WrittenRoute {
    dst: Cidr,
    #[serde(skip_serializing_if = "Option::is_none")]
    gw: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mtu: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    advmss: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    priority: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    table: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<u8>,
}

// === impl Interface ===

impl Interface {
    pub(crate) fn of_host(name: &str, mac: Option<Mac>) -> Self {
        Self {
            name: name.to_owned(),
            mac: mac.map(|mac| mac.to_string()),
            ..Self::default()
        }
    }

    /// Whether it is in a pod.
    pub(crate) fn is_sandboxed(&self) -> bool {
        self.sandbox.as_ref().is_some_and(|path| !path.is_empty())
    }
}

// === impl AddResult ===

impl AddResult {
    /// In the words of `version`: before 1.0.0 an address has a family, since 1.1.0 an interface
    /// an MTU and a route its metrics.
    pub(crate) fn to_json(&self, version: CniVersion) -> String {
        let newest = version >= CniVersion::V1_1_0;
        let mut interfaces = self.interfaces.clone();
        if !newest {
            for interface in &mut interfaces {
                interface.mtu = None;
            }
        }
        let written = Written {
            cni_version: version.as_str(),
            ips: self
                .ips
                .iter()
                .map(|ip| WrittenIp {
                    version: (version < CniVersion::V1_0_0).then(|| {
                        if ip.address.address.is_ipv4() {
                            "4"
                        } else {
                            "6"
                        }
                    }),
                    interface: interfaces.len().saturating_sub(1),
                    address: ip.address,
                    gateway: ip.gateway,
                })
                .collect(),
            interfaces: &interfaces,
            routes: self
                .routes
                .iter()
                .map(|route| WrittenRoute {
                    dst: route.destination,
                    gw: route.gateway,
                    mtu: route.mtu.filter(|_| newest),
                    advmss: route.advmss.filter(|_| newest),
                    priority: route.priority.filter(|_| newest),
                    table: route.table.filter(|_| newest),
                    scope: route.scope.filter(|_| newest),
                })
                .collect(),
            dns: &self.dns,
        };
        serde_json::to_string(&written).unwrap_or_default()
    }
}

// === impl Previous ===

impl Previous {
    pub(crate) fn parse(value: Value) -> Result<Self, Failure> {
        #[derive(Deserialize, Default)]
        #[serde(default)]
        struct Read {
            interfaces: Vec<Interface>,
            ips: Vec<PreviousIp>,
        }
        let wrong = |why: String| Failure::new(Code::Decoding, "prevResult cannot be read", why);
        let Value::Object(whole) = value else {
            return Err(wrong("it is not an object".to_owned()));
        };
        let read: Read = serde_json::from_value(Value::Object(whole.clone()))
            .map_err(|error| wrong(error.to_string()))?;
        Ok(Self {
            interfaces: read.interfaces,
            ips: read.ips,
            whole,
        })
    }

    /// The addresses of the pod's interface: those that are said to be another's are not.
    pub(crate) fn pod_ips(&self, interface: &str) -> Vec<Cidr> {
        let of_pod = |index: usize| {
            let found = self.interfaces.get(index);
            found.is_some_and(|found| found.name == interface && found.is_sandboxed())
        };
        self.ips
            .iter()
            .filter(|ip| ip.interface.is_none_or(of_pod))
            .map(|ip| ip.address)
            .collect()
    }

    /// All of it, as it came.
    pub(crate) fn to_json(&self) -> String {
        serde_json::to_string(&self.whole).unwrap_or_default()
    }
}
