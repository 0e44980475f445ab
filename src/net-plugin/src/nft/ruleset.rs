//! The chains, sets and rules of the table, as `nft list table inet insula` shows them.

use super::expression::{End, Rule, Verdict};
use super::{CREATE, DELETE_RULE, Entry, IN_TABLE, INET, NEW_CHAIN, NEW_SET, TABLE};
use crate::netlink::Message;
use insula_cni::Cidr;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

pub(super) const PORTS4: &str = "ports4";
pub(super) const PORTS4_AT: &str = "ports4_at";
pub(super) const PORTS6: &str = "ports6";
pub(super) const PORTS6_AT: &str = "ports6_at";
pub(super) const MASQUERADE4: &str = "masq4";
pub(super) const MASQUERADE6: &str = "masq6";
pub(super) const HAIRPIN4: &str = "hairpin4";
pub(super) const HAIRPIN6: &str = "hairpin6";
pub(super) const LOCALHOST: &str = "localhost";
pub(super) const ISOLATED: &str = "isolated";
pub(super) const SAME: &str = "same";

// Types of keys as nft(8) numbers them: it prints by them, the kernel takes no notice.
const IPV4: u32 = 7;
const IPV6: u32 = 8;
const PROTOCOL: u32 = 12;
const SERVICE: u32 = 13;
const INTERFACE: u32 = 41;
/// `NFT_DATA_VERDICT`.
const VERDICT: u32 = 0xffff_ff00;

/// Hooks, `NF_INET_*`.
const PREROUTING: u32 = 0;
const FORWARD: u32 = 2;
const OUTPUT: u32 = 3;
const POSTROUTING: u32 = 4;

/// A map or a set: its name, the types of its key with their sizes, and the same of what the key
/// leads to.
struct Set {
    name: &'static str,
    key: &'static [(u32, u32)],
    data: &'static [(u32, u32)],
}

const SETS: &[Set] = &[
    Set {
        name: PORTS4,
        key: &[(PROTOCOL, 4), (SERVICE, 4)],
        data: &[(IPV4, 4), (SERVICE, 4)],
    },
    Set {
        name: PORTS4_AT,
        key: &[(IPV4, 4), (PROTOCOL, 4), (SERVICE, 4)],
        data: &[(IPV4, 4), (SERVICE, 4)],
    },
    Set {
        name: PORTS6,
        key: &[(PROTOCOL, 4), (SERVICE, 4)],
        data: &[(IPV6, 16), (SERVICE, 4)],
    },
    Set {
        name: PORTS6_AT,
        key: &[(IPV6, 16), (PROTOCOL, 4), (SERVICE, 4)],
        data: &[(IPV6, 16), (SERVICE, 4)],
    },
    Set {
        name: MASQUERADE4,
        key: &[(IPV4, 4)],
        data: &[(VERDICT, 0)],
    },
    Set {
        name: MASQUERADE6,
        key: &[(IPV6, 16)],
        data: &[(VERDICT, 0)],
    },
    Set {
        name: HAIRPIN4,
        key: &[(IPV4, 4), (INTERFACE, 16)],
        data: &[],
    },
    Set {
        name: HAIRPIN6,
        key: &[(IPV6, 16), (INTERFACE, 16)],
        data: &[],
    },
    Set {
        name: LOCALHOST,
        key: &[(INTERFACE, 16)],
        data: &[],
    },
    Set {
        name: ISOLATED,
        key: &[(INTERFACE, 16)],
        data: &[],
    },
    Set {
        name: SAME,
        key: &[(INTERFACE, 16), (INTERFACE, 16)],
        data: &[],
    },
];

/// Appends everything that is in the table before the first pod.
pub(super) fn append(batch: &mut Message) {
    for (number, set) in (1..).zip(SETS) {
        set.append(batch, number);
    }
    for (name, kind, hook, priority) in [
        ("prerouting", "nat", PREROUTING, -100),
        ("output", "nat", OUTPUT, -100),
        ("postrouting", "nat", POSTROUTING, 100),
        ("guard", "filter", PREROUTING, -300),
        ("forward", "filter", FORWARD, 0),
    ] {
        base_chain(batch, name, kind, hook, priority);
    }
    chain(batch, "ports");
    ports(batch);
    guard(batch);
    postrouting(batch);
    isolation(batch);
}

fn ports(batch: &mut Message) {
    // A port of one address of the host counts before that port of all of them.
    let rule = |ipv4| Rule::new().family(ipv4);
    rule(true)
        .map_destination(PORTS4_AT, true, true)
        .append(batch, "ports");
    rule(true)
        .for_this_host()
        .map_destination(PORTS4, true, false)
        .append(batch, "ports");
    rule(false)
        .map_destination(PORTS6_AT, false, true)
        .append(batch, "ports");
    rule(false)
        .for_this_host()
        .map_destination(PORTS6, false, false)
        .append(batch, "ports");
    Rule::new()
        .then(Verdict::Jump("ports"))
        .append(batch, "prerouting");
    // IPv6 has no route_localnet: what the host sends to ::1 cannot leave it.
    Rule::new()
        .address(End::Destination, whole(IpAddr::V6(Ipv6Addr::LOCALHOST)))
        .then(Verdict::Return)
        .append(batch, "output");
    Rule::new()
        .then(Verdict::Jump("ports"))
        .append(batch, "output");
}

/// With route_localnet, which ports of 127.0.0.1 need, whoever is at the same bridge could speak
/// to the host's own loopback services (CVE-2020-8558).
fn guard(batch: &mut Message) {
    let loopback = Cidr {
        address: IpAddr::V4(Ipv4Addr::LOCALHOST),
        prefix: 8,
    };
    for end in [End::Destination, End::Source] {
        Rule::new()
            .not_from_loopback()
            .address(end, loopback)
            .then(Verdict::Drop)
            .append(batch, "guard");
    }
}

fn postrouting(batch: &mut Message) {
    // Whoever speaks to a mapped port from the pod's own network would get the answer straight
    // from the pod, whose address it does not know.
    // By its address, not by the interface it came by: where bridges pass frames to the packet
    // filter (br_netfilter), nobody knows that any more.
    for (set, ipv4) in [(HAIRPIN4, true), (HAIRPIN6, false)] {
        Rule::new()
            .destination_changed(true)
            .source_leaves_by(set, ipv4)
            .masquerade()
            .append(batch, "postrouting");
    }
    Rule::new()
        .destination_changed(true)
        .address(
            End::Source,
            Cidr {
                address: IpAddr::V4(Ipv4Addr::LOCALHOST),
                prefix: 8,
            },
        )
        .leaves_by(LOCALHOST)
        .masquerade()
        .append(batch, "postrouting");
    Rule::new()
        .verdict_by_source(MASQUERADE4, true)
        .append(batch, "postrouting");
    Rule::new()
        .verdict_by_source(MASQUERADE6, false)
        .append(batch, "postrouting");
}

/// A pod's mapped port is meant to be reached, also from another bridge.
fn isolation(batch: &mut Message) {
    Rule::new()
        .comes_by(ISOLATED)
        .leaves_by(ISOLATED)
        .interfaces_in(SAME, false)
        .destination_changed(false)
        .then(Verdict::Drop)
        .append(batch, "forward");
}

/// The chains of the subnets of entries, with their rules anew.
pub(super) fn subnet_chains(batch: &mut Message, entries: &[Entry]) {
    for entry in entries {
        let Entry::Masquerade { subnet, .. } = entry else {
            continue;
        };
        let name = subnet_chain(*subnet);
        chain(batch, &name);
        batch
            .begin(DELETE_RULE, 0, INET)
            .text(IN_TABLE, TABLE)
            .text(2, &name);
        let many = match subnet.address {
            IpAddr::V4(_) => Cidr {
                address: IpAddr::from([224, 0, 0, 0]),
                prefix: 4,
            },
            IpAddr::V6(_) => Cidr {
                address: IpAddr::from([0xff00, 0, 0, 0, 0, 0, 0, 0]),
                prefix: 8,
            },
        };
        for network in [*subnet, many] {
            Rule::new()
                .address(End::Destination, network)
                .then(Verdict::Return)
                .append(batch, &name);
        }
        Rule::new().masquerade().append(batch, &name);
    }
}

/// The name of a subnet's chain, in letters that nft(8) reads back.
pub(super) fn subnet_chain(subnet: Cidr) -> String {
    let network = subnet.network().to_string();
    format!("masq_{}", network.replace([':', '/'], "_"))
}

fn whole(address: IpAddr) -> Cidr {
    Cidr {
        address,
        prefix: insula_cni::bits(address),
    }
}

fn chain(batch: &mut Message, name: &str) {
    batch
        .begin(NEW_CHAIN, CREATE, INET)
        .text(IN_TABLE, TABLE)
        .text(3, name);
}

fn base_chain(batch: &mut Message, name: &str, kind: &str, hook: u32, priority: i32) {
    chain(batch, name);
    batch
        .nested(4, |attributes| {
            attributes
                .be32(1, hook)
                .attribute(2, &priority.to_be_bytes());
        })
        .text(7, kind);
}

// === impl Set ===

impl Set {
    fn append(&self, batch: &mut Message, number: u32) {
        /// `NFT_SET_MAP`, and `NFT_SET_INTERVAL | NFT_SET_CONCAT`.
        const MAP: u32 = 0x8;
        const RANGES: u32 = 0x84;
        let combined =
            |types: &[(u32, u32)]| types.iter().fold(0, |all, (kind, _)| all << 6 | kind);
        let length = |types: &[(u32, u32)]| types.iter().map(|(_, length)| length).sum::<u32>();
        let ranges = matches!(self.name, HAIRPIN4 | HAIRPIN6);
        let flags = match (ranges, self.data.is_empty()) {
            (true, _) => RANGES,
            (false, true) => 0,
            (false, false) => MAP,
        };
        batch
            .begin(NEW_SET, CREATE, INET)
            .text(IN_TABLE, TABLE)
            .text(2, self.name)
            .be32(3, flags)
            .be32(4, combined(self.key))
            .be32(5, length(self.key));
        if !self.data.is_empty() {
            batch
                .be32(6, combined(self.data))
                .be32(7, length(self.data));
        }
        if ranges {
            // NFTA_SET_DESC with NFTA_SET_DESC_CONCAT: the length of each part of the key.
            batch.nested(9, |description| {
                description.nested(2, |parts| {
                    for (_, length) in self.key {
                        parts.nested(1, |part| {
                            part.be32(1, *length);
                        });
                    }
                });
            });
        }
        batch.be32(10, number);
        // For nft(8), which prints a name on its own right only if it knows the order of its bytes:
        // attribute 0 of 4 bytes, the machine's order.
        if let [(INTERFACE, _)] = self.key {
            batch.attribute(13, &[0, 4, 1, 0, 0, 0]);
        }
    }
}
