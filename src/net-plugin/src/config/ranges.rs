//! Ranges of addresses and routes: the `ipam` part of the configuration.

use crate::error::Failure;
use crate::kernel::route::Route;
use insula_cni::{Cidr, bits, from_number, number};
use serde::de::Error;
use serde::{Deserialize, Deserializer};
use std::net::IpAddr;
use std::path::PathBuf;

/// A part of a subnet out of which addresses are given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Range {
    pub(crate) subnet: Cidr,
    /// First and last address that may be given.
    pub(crate) start: IpAddr,
    pub(crate) end: IpAddr,
    /// Never given; the first address of the subnet unless it is said.
    pub(crate) gateway: IpAddr,
}

/// Ranges of one family of which an attachment gets one address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RangeSet(pub(crate) Vec<Range>);

#[derive(Debug, Default, Clone, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct RawIpam {
    ranges: Vec<Vec<RawRange>>,
    /// A single range, as configurations had it before there were sets.
    subnet: Option<Cidr>,
    #[serde(deserialize_with = "maybe_address")]
    range_start: Option<IpAddr>,
    #[serde(deserialize_with = "maybe_address")]
    range_end: Option<IpAddr>,
    #[serde(deserialize_with = "maybe_address")]
    gateway: Option<IpAddr>,
    pub(super) exclude: Vec<Cidr>,
    pub(super) routes: Vec<RawRoute>,
    pub(super) resolv_conf: Option<PathBuf>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RawRange {
    #[serde(alias = "Subnet")]
    subnet: Cidr,
    #[serde(alias = "RangeStart", default, deserialize_with = "maybe_address")]
    range_start: Option<IpAddr>,
    #[serde(alias = "RangeEnd", default, deserialize_with = "maybe_address")]
    range_end: Option<IpAddr>,
    #[serde(alias = "Gateway", default, deserialize_with = "maybe_address")]
    gateway: Option<IpAddr>,
}

/// An empty string is no address, as it is to the reference plugins (Go's `net.IP`).
fn maybe_address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<IpAddr>, D::Error> {
    match Option::<String>::deserialize(deserializer)?.as_deref() {
        None | Some("") => Ok(None),
        Some(text) => text.parse().map(Some).map_err(D::Error::custom),
    }
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct RawRoute {
    dst: Cidr,
    gw: Option<IpAddr>,
    mtu: Option<u32>,
    advmss: Option<u32>,
    priority: Option<u32>,
    table: Option<u32>,
    scope: Option<u8>,
}

// === impl RawIpam ===

impl RawIpam {
    /// The sets in the order in which addresses are given: those of the runtime, a single range,
    /// then the listed ones.
    pub(super) fn range_sets(&self, runtime: Vec<Vec<RawRange>>) -> Result<Vec<RangeSet>, Failure> {
        let single = self.subnet.map(|subnet| {
            vec![RawRange {
                subnet,
                range_start: self.range_start,
                range_end: self.range_end,
                gateway: self.gateway,
            }]
        });
        let sets = runtime
            .into_iter()
            .chain(single)
            .chain(self.ranges.iter().cloned())
            .map(|set| RangeSet::check(&set))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|why| Failure::configuration(format!("ipam: {why}")))?;
        for (at, set) in sets.iter().enumerate() {
            if let Some(other) = sets[..at].iter().find(|other| other.overlaps(set)) {
                return Err(Failure::configuration(format!(
                    "ipam: two sets share addresses: {} and {}",
                    other.describe(),
                    set.describe()
                )));
            }
        }
        Ok(sets)
    }
}

pub(super) fn routes(raw: Vec<RawRoute>) -> Result<Vec<Route>, Failure> {
    raw.into_iter()
        .map(|raw| {
            let other_family = |gw: &IpAddr| gw.is_ipv4() != raw.dst.address.is_ipv4();
            if let Some(gw) = raw.gw.filter(other_family) {
                return Err(Failure::configuration(format!(
                    "ipam: the route to {} goes by {gw}, an address of the other family",
                    raw.dst
                )));
            }
            Ok(Route {
                destination: raw.dst,
                gateway: raw.gw,
                mtu: raw.mtu,
                advmss: raw.advmss,
                priority: raw.priority,
                table: raw.table,
                scope: raw.scope,
            })
        })
        .collect()
}

// === impl RangeSet ===

impl RangeSet {
    fn check(raw: &[RawRange]) -> Result<Self, String> {
        let ranges = raw
            .iter()
            .map(Range::check)
            .collect::<Result<Vec<_>, _>>()?;
        let Some(first) = ranges.first() else {
            return Err("a set has no ranges".to_owned());
        };
        let family = first.start.is_ipv4();
        if ranges.iter().any(|range| range.start.is_ipv4() != family) {
            return Err("a set has ranges of both families: make it two sets".to_owned());
        }
        for (at, range) in ranges.iter().enumerate() {
            if let Some(other) = ranges[..at].iter().find(|other| other.overlaps(range)) {
                return Err(format!(
                    "two ranges share addresses: {} and {}",
                    other.describe(),
                    range.describe()
                ));
            }
        }
        Ok(Self(ranges))
    }

    fn overlaps(&self, other: &Self) -> bool {
        self.0
            .iter()
            .any(|one| other.0.iter().any(|two| one.overlaps(two)))
    }

    /// The range that may give `address`.
    pub(crate) fn range_of(&self, address: IpAddr) -> Option<&Range> {
        self.0.iter().find(|range| range.contains(address))
    }

    pub(crate) fn describe(&self) -> String {
        let ranges: Vec<_> = self.0.iter().map(Range::describe).collect();
        ranges.join(", ")
    }
}

// === impl Range ===

impl Range {
    fn check(raw: &RawRange) -> Result<Self, String> {
        let subnet = raw.subnet;
        let of = format!("range of {subnet}");
        if subnet.address != subnet.first() {
            let network = subnet.network();
            return Err(format!("{of}: it has host bits; {network} is the subnet"));
        }
        if bits(subnet.address) - subnet.prefix < 2 {
            return Err(format!("{of}: it is too small to give addresses from"));
        }
        let nth = |n: u128| from_number(subnet.address, number(subnet.first()) + n);
        // IPv4's last address is for all of them at once.
        let last = match subnet.address {
            IpAddr::V4(_) => from_number(subnet.address, number(subnet.last()) - 1),
            IpAddr::V6(_) => subnet.last(),
        };
        let within = |name: &str, address: Option<IpAddr>, default: IpAddr| match address {
            None => Ok(default),
            Some(address) if subnet.contains(address) => Ok(address),
            Some(address) => Err(format!("{of}: {name} {address} is not in it")),
        };
        let range = Self {
            subnet,
            start: within("rangeStart", raw.range_start, nth(1))?,
            end: within("rangeEnd", raw.range_end, last)?,
            gateway: within("gateway", raw.gateway, nth(1))?,
        };
        if range.end < range.start {
            return Err(format!(
                "{of}: rangeEnd {} is before rangeStart {}",
                range.end, range.start
            ));
        }
        Ok(range)
    }

    /// Whether `address` may be given.
    pub(crate) fn contains(&self, address: IpAddr) -> bool {
        self.subnet.contains(address) && self.start <= address && address <= self.end
    }

    fn overlaps(&self, other: &Self) -> bool {
        self.contains(other.start) || other.contains(self.start)
    }

    fn describe(&self) -> String {
        format!("{}-{}", self.start, self.end)
    }
}
