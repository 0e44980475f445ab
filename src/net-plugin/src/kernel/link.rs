//! Links: bridges, pairs of virtual Ethernet interfaces, and what is set at them.

use crate::netlink::{
    ACKNOWLEDGE, Attributes, CREATE, EXCLUSIVE, Message, NetlinkError, Reply, Socket, ne32,
};
use rustix::fd::{AsRawFd, BorrowedFd};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

const NEWLINK: u16 = 16;
const DELLINK: u16 = 17;
const GETLINK: u16 = 18;

// Attributes of a link, <linux/if_link.h>.
const ADDRESS: u16 = 1;
const NAME: u16 = 3;
const MTU: u16 = 4;
const LINK: u16 = 5;
const MASTER: u16 = 10;
const OPERSTATE: u16 = 16;
const LINKINFO: u16 = 18;
const AF_SPEC: u16 = 26;
const NET_NS_FD: u16 = 28;
const INFO_KIND: u16 = 1;
const INFO_DATA: u16 = 2;
const INFO_SLAVE_KIND: u16 = 4;
const INFO_SLAVE_DATA: u16 = 5;
const VETH_INFO_PEER: u16 = 1;
/// `IFLA_BRPORT_MODE`, called hairpin everywhere else.
const PORT_HAIRPIN: u16 = 4;
const PORT_ISOLATED: u16 = 33;
/// `IFLA_INET6_ADDR_GEN_MODE` and its value "none".
const ADDR_GEN_MODE: u16 = 8;
const GENERATE_NONE: u8 = 1;
const AF_INET6: u16 = 10;

const IFF_UP: u32 = 1;
/// `IF_OPER_UP` of RFC 2863.
const OPERATIONAL: u8 = 6;
/// Size of `struct ifinfomsg`.
const HEADER: usize = 16;

/// A hardware address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mac(pub [u8; 6]);

/// A link as the kernel shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) index: u32,
    pub(crate) name: String,
    /// `bridge`, `veth` and the like; none for what is no virtual link.
    pub(crate) kind: Option<String>,
    pub(crate) mac: Option<Mac>,
    pub(crate) mtu: u32,
    pub(crate) up: bool,
    /// Traffic can flow: the other end is there and up.
    pub(crate) operational: bool,
    /// The bridge it is attached to.
    pub(crate) master: Option<u32>,
    /// The other end of a pair, by its index in the namespace where that is.
    pub(crate) peer: Option<u32>,
}

/// A pair of virtual Ethernet interfaces to be made.
#[derive(Debug, Clone)]
pub(crate) struct Pair<'a> {
    /// The host's end.
    pub(crate) host: &'a str,
    pub(crate) host_mac: Mac,
    /// The pod's end, in its namespace from the start.
    pub(crate) pod: &'a str,
    pub(crate) pod_mac: Mac,
    pub(crate) namespace: BorrowedFd<'a>,
    /// None for the kernel's choice.
    pub(crate) mtu: Option<u32>,
    /// The bridge that gets the host's end.
    pub(crate) bridge: u32,
}

/// How a port of a bridge behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PortMode {
    /// Frames may leave by the port they came in.
    pub(crate) hairpin: bool,
    /// The port does not reach other isolated ports.
    pub(crate) isolated: bool,
}

fn header(index: u32, flags: u32, change: u32) -> Vec<u8> {
    // Family, padding and type are zero.
    let mut bytes = vec![0; 4];
    bytes.extend(index.to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    bytes.extend(change.to_ne_bytes());
    bytes
}

/// The link of this name.
pub(crate) fn by_name(socket: &Socket, name: &str) -> Result<Option<Link>, NetlinkError> {
    let mut message = Message::new(GETLINK, ACKNOWLEDGE, &header(0, 0, 0));
    message.text(NAME, name);
    find(socket, &message, || format!("RTM_GETLINK({name:?})"))
}

/// The link of this index.
pub(crate) fn by_index(socket: &Socket, index: u32) -> Result<Option<Link>, NetlinkError> {
    let message = Message::new(GETLINK, ACKNOWLEDGE, &header(index, 0, 0));
    find(socket, &message, || format!("RTM_GETLINK(index {index})"))
}

fn find(
    socket: &Socket,
    message: &Message,
    request: impl Fn() -> String,
) -> Result<Option<Link>, NetlinkError> {
    match socket.ask(message, request) {
        Ok(replies) => Ok(replies.iter().find_map(parse)),
        Err(error) if error.errno == Errno::NODEV => Ok(None),
        Err(error) => Err(error),
    }
}

fn parse(reply: &Reply) -> Option<Link> {
    if reply.kind != NEWLINK {
        return None;
    }
    let attributes = reply.attributes(HEADER);
    let info = Attributes::of(attributes.get(LINKINFO).unwrap_or_default());
    Some(Link {
        index: ne32(reply.payload.get(4..)?)?,
        name: attributes.text(NAME)?,
        kind: info.text(INFO_KIND),
        mac: attributes
            .get(ADDRESS)
            .and_then(|bytes| bytes.try_into().ok())
            .map(Mac),
        mtu: attributes.ne32(MTU).unwrap_or_default(),
        up: ne32(reply.payload.get(8..)?)? & IFF_UP != 0,
        operational: attributes.get(OPERSTATE) == Some(&[OPERATIONAL]),
        master: attributes.ne32(MASTER),
        peer: attributes.ne32(LINK),
    })
}

/// Makes a bridge and switches it on.
pub(crate) fn create_bridge(
    socket: &Socket,
    name: &str,
    mac: Mac,
    mtu: Option<u32>,
) -> Result<(), NetlinkError> {
    let flags = ACKNOWLEDGE | CREATE | EXCLUSIVE;
    let mut message = Message::new(NEWLINK, flags, &header(0, IFF_UP, IFF_UP));
    message.text(NAME, name).attribute(ADDRESS, &mac.0);
    if let Some(mtu) = mtu {
        message.ne32(MTU, mtu);
    }
    message.plain_nested(LINKINFO, |info| {
        info.text(INFO_KIND, "bridge");
    });
    let request = || format!("RTM_NEWLINK(bridge {name:?}, mac {mac})");
    socket.ask(&message, request).map(drop)
}

/// Makes an ifb, which stands in for a queue where traffic comes in, and switches it on.
pub(crate) fn create_ifb(socket: &Socket, name: &str, mtu: u32) -> Result<(), NetlinkError> {
    let flags = ACKNOWLEDGE | CREATE | EXCLUSIVE;
    let mut message = Message::new(NEWLINK, flags, &header(0, IFF_UP, IFF_UP));
    message.text(NAME, name).ne32(MTU, mtu);
    message.plain_nested(LINKINFO, |info| {
        info.text(INFO_KIND, "ifb");
    });
    let request = || format!("RTM_NEWLINK(ifb {name:?}, mtu {mtu})");
    socket.ask(&message, request).map(drop)
}

/// Makes a pair, its host's end switched on and at the bridge.
pub(crate) fn create_pair(socket: &Socket, pair: &Pair<'_>) -> Result<(), NetlinkError> {
    let flags = ACKNOWLEDGE | CREATE | EXCLUSIVE;
    let mut message = Message::new(NEWLINK, flags, &header(0, IFF_UP, IFF_UP));
    message
        .text(NAME, pair.host)
        .attribute(ADDRESS, &pair.host_mac.0)
        .ne32(MASTER, pair.bridge);
    if let Some(mtu) = pair.mtu {
        message.ne32(MTU, mtu);
    }
    message.plain_nested(LINKINFO, |info| {
        info.text(INFO_KIND, "veth");
        info.plain_nested(INFO_DATA, |data| {
            data.plain_nested(VETH_INFO_PEER, |peer| {
                peer.put(&header(0, 0, 0))
                    .text(NAME, pair.pod)
                    .attribute(ADDRESS, &pair.pod_mac.0)
                    .attribute(NET_NS_FD, &pair.namespace.as_raw_fd().to_ne_bytes());
                if let Some(mtu) = pair.mtu {
                    peer.ne32(MTU, mtu);
                }
            });
        });
    });
    let request = || {
        format!(
            "RTM_NEWLINK(veth {:?}, master {}, peer {:?} in the pod's network namespace)",
            pair.host, pair.bridge, pair.pod
        )
    };
    socket.ask(&message, request).map(drop)
}

/// Sets how a bridge's port behaves. It has no addresses of its own: without `ipv6`, the kernel
/// lacks the protocol, and there is nothing to be told not to make one.
pub(crate) fn set_port_mode(
    socket: &Socket,
    name: &str,
    mode: PortMode,
    ipv6: bool,
) -> Result<(), NetlinkError> {
    let mut message = Message::new(NEWLINK, ACKNOWLEDGE, &header(0, 0, 0));
    message.text(NAME, name).plain_nested(LINKINFO, |info| {
        info.text(INFO_SLAVE_KIND, "bridge");
        info.nested(INFO_SLAVE_DATA, |data| {
            data.attribute(PORT_HAIRPIN, &[u8::from(mode.hairpin)]);
            data.attribute(PORT_ISOLATED, &[u8::from(mode.isolated)]);
        });
    });
    if ipv6 {
        message.plain_nested(AF_SPEC, |families| {
            families.plain_nested(AF_INET6, |settings| {
                settings.attribute(ADDR_GEN_MODE, &[GENERATE_NONE]);
            });
        });
    }
    let request = || format!("RTM_NEWLINK({name:?}, {mode:?}, IN6_ADDR_GEN_MODE_NONE)");
    socket.ask(&message, request).map(drop)
}

/// Switches a link on.
pub(crate) fn set_up(socket: &Socket, index: u32) -> Result<(), NetlinkError> {
    let message = Message::new(NEWLINK, ACKNOWLEDGE, &header(index, IFF_UP, IFF_UP));
    let request = || format!("RTM_NEWLINK(index {index}, IFF_UP)");
    socket.ask(&message, request).map(drop)
}

/// Removes a link; one that is gone is no error. A pair goes as a whole.
pub(crate) fn delete(socket: &Socket, name: &str) -> Result<(), NetlinkError> {
    let mut message = Message::new(DELLINK, ACKNOWLEDGE, &header(0, 0, 0));
    message.text(NAME, name);
    match socket.ask(&message, || format!("RTM_DELLINK({name:?})")) {
        Err(error) if error.errno != Errno::NODEV => Err(error),
        _ => Ok(()),
    }
}

// === impl Mac ===

impl Mac {
    /// A locally administered unicast address with these 46 bits.
    pub(crate) fn local(seed: u64) -> Self {
        let [_, _, rest @ ..] = seed.to_be_bytes();
        let mut bytes = rest;
        bytes[0] = bytes[0] & 0xfc | 0x02;
        Self(bytes)
    }
}

impl FromStr for Mac {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not a hardware address such as 02:00:5e:10:00:01");
        let mut bytes = [0; 6];
        let mut parts = text.split([':', '-']);
        for byte in &mut bytes {
            let part = parts
                .next()
                .filter(|part| part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_hexdigit()))
                .ok_or_else(wrong)?;
            *byte = u8::from_str_radix(part, 16).map_err(|_| wrong())?;
        }
        // A group address cannot be an interface's, and zeros mean none.
        if parts.next().is_some() || bytes[0] & 1 == 1 || bytes == [0; 6] {
            return Err(wrong());
        }
        Ok(Self(bytes))
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, byte) in self.0.iter().enumerate() {
            let colon = if at == 0 { "" } else { ":" };
            write!(f, "{colon}{byte:02x}")?;
        }
        Ok(())
    }
}

impl Serialize for Mac {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Mac {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::Mac;

    #[test]
    fn hardware_addresses_are_read_and_refused() {
        let mac: Mac = "C2:00:5e-10:00:0f".parse().unwrap();
        assert_eq!(mac.to_string(), "c2:00:5e:10:00:0f");
        for text in [
            "",
            "c2:00:5e:10:00",
            "c2:00:5e:10:00:0f:00",
            "01:00:5e:00:00:01",
            "00:00:00:00:00:00",
            "c2:00:5e:10:00:+f",
            "c200:5e:10:00:0f",
        ] {
            assert!(text.parse::<Mac>().is_err(), "{text}");
        }
        assert_eq!(Mac::local(u64::MAX).to_string(), "fe:ff:ff:ff:ff:ff");
        assert_eq!(Mac::local(1).to_string(), "02:00:00:00:00:01");
    }
}
