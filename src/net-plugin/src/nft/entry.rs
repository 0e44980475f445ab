//! What a pod, or a bridge, has in the table.

use super::expression::jump_data;
use super::ruleset::{
    HAIRPIN4, HAIRPIN6, ISOLATED, LOCALHOST, MASQUERADE4, MASQUERADE6, PORTS4, PORTS4_AT, PORTS6,
    PORTS6_AT, SAME, subnet_chain,
};
use super::{ELEMENT_LIST, ELEMENT_SET, IN_TABLE, INET, TABLE};
use crate::config::Protocol;
use crate::netlink::{Attributes, Message};
use insula_cni::{Cidr, from_octets, octets};
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// Something that is said of a pod's address or of an interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "kind")]
pub(crate) enum Entry {
    /// What the address sends beyond its subnet has the host's address.
    Masquerade { address: IpAddr, subnet: Cidr },
    /// A port of the host leads to the pod.
    Port {
        /// One address of the host; none for all of them.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        at: Option<IpAddr>,
        protocol: Protocol,
        port: u16,
        to: IpAddr,
        to_port: u16,
    },
    /// What comes from the subnet and leaves by the interface to a mapped port is masqueraded.
    Hairpin { subnet: Cidr, interface: String },
    /// What the host sends from its loopback address to a mapped port is masqueraded.
    Localhost { interface: String },
    /// Nothing passes to or from other isolated interfaces.
    Isolated { interface: String },
}

/// An element of a map or a set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) set: &'static str,
    key: Vec<u8>,
    /// The last key of a range.
    end: Option<Vec<u8>>,
    leads_to: LeadsTo,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum LeadsTo {
    Nothing,
    Bytes(Vec<u8>),
    Chain(String),
}

// === impl Entry ===

impl Entry {
    /// The elements that make it up.
    pub(super) fn places(&self) -> Vec<Place> {
        let set = |set, key| Place {
            set,
            key,
            end: None,
            leads_to: LeadsTo::Nothing,
        };
        match self {
            Self::Masquerade { address, subnet } => vec![Place {
                set: if address.is_ipv4() {
                    MASQUERADE4
                } else {
                    MASQUERADE6
                },
                key: octets(*address),
                end: None,
                leads_to: LeadsTo::Chain(subnet_chain(*subnet)),
            }],
            Self::Port {
                at,
                protocol,
                port,
                to,
                to_port,
            } => {
                let service = |port: &u16| [port.to_be_bytes(), [0, 0]].concat();
                let mut key = at.map(octets).unwrap_or_default();
                key.extend([protocol.number(), 0, 0, 0]);
                key.extend(service(port));
                vec![Place {
                    set: match (to.is_ipv4(), at) {
                        (true, None) => PORTS4,
                        (true, Some(_)) => PORTS4_AT,
                        (false, None) => PORTS6,
                        (false, Some(_)) => PORTS6_AT,
                    },
                    key,
                    end: None,
                    leads_to: LeadsTo::Bytes([octets(*to), service(to_port)].concat()),
                }]
            }
            Self::Hairpin { subnet, interface } => {
                let key = |address| [octets(address), name(interface)].concat();
                let ipv4 = subnet.address.is_ipv4();
                vec![Place {
                    set: if ipv4 { HAIRPIN4 } else { HAIRPIN6 },
                    key: key(subnet.first()),
                    end: Some(key(subnet.last())),
                    leads_to: LeadsTo::Nothing,
                }]
            }
            Self::Localhost { interface } => vec![set(LOCALHOST, name(interface))],
            Self::Isolated { interface } => vec![
                set(ISOLATED, name(interface)),
                set(SAME, name(interface).repeat(2)),
            ],
        }
    }

    /// What only one pod can have, in words.
    pub(super) fn key(&self) -> Option<String> {
        match self {
            Self::Port {
                at, protocol, port, ..
            } => {
                let host = at.map_or_else(String::new, |at| format!(" of {at}"));
                Some(format!("host port {port}/{}{host}", protocol.as_str()))
            }
            _ => None,
        }
    }
}

/// An interface's name as the kernel compares it: 16 bytes.
fn name(interface: &str) -> Vec<u8> {
    let mut bytes = interface.as_bytes().to_vec();
    bytes.resize(16, 0);
    bytes
}

// === impl Place ===

/// `NFTA_LIST_ELEM`, `NFTA_SET_ELEM_KEY`, `NFTA_SET_ELEM_DATA` and `NFTA_DATA_VALUE`.
const LIST_ELEMENT: u16 = 1;
const KEY: u16 = 1;
const DATA: u16 = 2;
const VALUE: u16 = 1;
/// `NFTA_SET_ELEM_KEY_END`.
const KEY_END: u16 = 10;

impl Place {
    /// Appends a message about this element with what it leads to.
    pub(super) fn append(&self, batch: &mut Message, kind: u16, flags: u16) {
        self.append_with(batch, kind, flags, true);
    }

    /// The same with nothing but the key.
    pub(super) fn append_key(&self, batch: &mut Message, kind: u16, flags: u16) {
        self.append_with(batch, kind, flags, false);
    }

    fn append_with(&self, batch: &mut Message, kind: u16, flags: u16, data: bool) {
        batch
            .begin(kind, flags, INET)
            .text(IN_TABLE, TABLE)
            .text(ELEMENT_SET, self.set)
            .nested(ELEMENT_LIST, |list| {
                list.nested(LIST_ELEMENT, |element| {
                    element.nested(KEY, |key| {
                        key.attribute(VALUE, &self.key);
                    });
                    if let Some(end) = &self.end {
                        element.nested(KEY_END, |key| {
                            key.attribute(VALUE, end);
                        });
                    }
                    match &self.leads_to {
                        LeadsTo::Bytes(bytes) if data => {
                            element.nested(DATA, |value| {
                                value.attribute(VALUE, bytes);
                            });
                        }
                        LeadsTo::Chain(chain) if data => {
                            element.nested(DATA, |value| jump_data(value, chain));
                        }
                        _ => {}
                    }
                });
            });
    }

    fn has_key(&self, element: Attributes<'_>) -> bool {
        let key = element.get(KEY).map(Attributes::of);
        key.and_then(|key| key.get(VALUE)) == Some(&self.key)
    }

    /// Whether an element of the kernel's is this one.
    pub(super) fn is(&self, element: Attributes<'_>) -> bool {
        let data = Attributes::of(element.get(DATA).unwrap_or_default());
        self.has_key(element)
            && match &self.leads_to {
                LeadsTo::Nothing => true,
                LeadsTo::Bytes(bytes) => data.get(VALUE) == Some(bytes),
                LeadsTo::Chain(chain) => {
                    let verdict = Attributes::of(data.get(2).unwrap_or_default());
                    verdict.text(2).as_deref() == Some(chain)
                }
            }
    }

    /// Where an element with this key leads, if that is an address other than ours.
    pub(super) fn other_target(&self, element: Attributes<'_>) -> Option<String> {
        if !self.has_key(element) || self.is(element) {
            return None;
        }
        let value = Attributes::of(element.get(DATA)?).get(VALUE)?;
        let (address, port) = value.split_at_checked(value.len().checked_sub(4)?)?;
        let port = u16::from_be_bytes(*port.first_chunk()?);
        let address = from_octets(address)?;
        Some(std::net::SocketAddr::new(address, port).to_string())
    }
}
