//! Routes.

use super::address::family;
use crate::netlink::{
    ACKNOWLEDGE, Attributes, CREATE, DUMP, EXCLUSIVE, Message, NetlinkError, Socket,
};
use insula_cni::{Cidr, from_octets, octets};
use rustix::io::Errno;
use std::net::IpAddr;

const NEWROUTE: u16 = 24;
const GETROUTE: u16 = 26;
const DESTINATION: u16 = 1;
const OUT_INTERFACE: u16 = 4;
const GATEWAY: u16 = 5;
const PRIORITY: u16 = 6;
const METRICS: u16 = 8;
const TABLE: u16 = 15;
const METRIC_MTU: u16 = 2;
const METRIC_ADVMSS: u16 = 8;
/// `RT_TABLE_MAIN`.
pub(crate) const MAIN: u32 = 254;
/// `RTPROT_BOOT` and `RTN_UNICAST`, what ip(8) sets.
const PROTOCOL_BOOT: u8 = 3;
const UNICAST: u8 = 1;
const SCOPE_LINK: u8 = 253;
/// Size of `struct rtmsg`.
const HEADER: usize = 12;

/// A route of the pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Route {
    pub(crate) destination: Cidr,
    /// None: the destination is on the link.
    pub(crate) gateway: Option<IpAddr>,
    pub(crate) mtu: Option<u32>,
    pub(crate) advmss: Option<u32>,
    pub(crate) priority: Option<u32>,
    pub(crate) table: Option<u32>,
    pub(crate) scope: Option<u8>,
}

/// A route as the kernel shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) destination: Option<Cidr>,
    pub(crate) gateway: Option<IpAddr>,
    /// Index of the link by which packets leave.
    pub(crate) link: Option<u32>,
    pub(crate) table: u32,
}

/// Adds a route through a link; one that is there is no error.
pub(crate) fn add(socket: &Socket, index: u32, route: &Route) -> Result<(), NetlinkError> {
    let destination = route.destination.network();
    let scope = route.scope.unwrap_or(match route.gateway {
        Some(_) => 0,
        None => SCOPE_LINK,
    });
    let header = [
        family(destination.address),
        destination.prefix,
        0,
        0,
        // Tables over 255 are told by the attribute alone.
        0,
        PROTOCOL_BOOT,
        scope,
        UNICAST,
        0,
        0,
        0,
        0,
    ];
    let mut message = Message::new(NEWROUTE, ACKNOWLEDGE | CREATE | EXCLUSIVE, &header);
    if destination.prefix != 0 {
        message.attribute(DESTINATION, &octets(destination.address));
    }
    if let Some(gateway) = route.gateway {
        message.attribute(GATEWAY, &octets(gateway));
    }
    message
        .ne32(OUT_INTERFACE, index)
        .ne32(TABLE, route.table.unwrap_or(MAIN));
    if let Some(priority) = route.priority {
        message.ne32(PRIORITY, priority);
    }
    if route.mtu.is_some() || route.advmss.is_some() {
        message.plain_nested(METRICS, |metrics| {
            for (kind, value) in [(METRIC_MTU, route.mtu), (METRIC_ADVMSS, route.advmss)] {
                if let Some(value) = value {
                    metrics.ne32(kind, value);
                }
            }
        });
    }
    let request = || match route.gateway {
        Some(gateway) => format!("RTM_NEWROUTE({destination} via {gateway}, index {index})"),
        None => format!("RTM_NEWROUTE({destination}, index {index})"),
    };
    match socket.ask(&message, request) {
        Err(error) if error.errno != Errno::EXIST => Err(error),
        _ => Ok(()),
    }
}

/// The routes of the socket's namespace.
pub(crate) fn list(socket: &Socket) -> Result<Vec<Found>, NetlinkError> {
    let message = Message::new(GETROUTE, DUMP, &[0; HEADER]);
    let replies = socket.ask(&message, || "RTM_GETROUTE(all)".to_owned())?;
    Ok(replies
        .iter()
        .filter(|reply| reply.kind == NEWROUTE)
        .map(|reply| {
            let attributes = reply.attributes(HEADER);
            Found {
                destination: destination(&reply.payload, attributes),
                gateway: attributes.get(GATEWAY).and_then(from_octets),
                link: attributes.ne32(OUT_INTERFACE),
                table: attributes.ne32(TABLE).unwrap_or(MAIN),
            }
        })
        .collect())
}

fn destination(payload: &[u8], attributes: Attributes<'_>) -> Option<Cidr> {
    let all = match payload.first()? {
        2 => IpAddr::from([0; 4]),
        _ => IpAddr::from([0; 16]),
    };
    Some(Cidr {
        address: match attributes.get(DESTINATION) {
            Some(bytes) => from_octets(bytes)?,
            None => all,
        },
        prefix: *payload.get(1)?,
    })
}

/// The link by which packets to `address` leave.
pub(crate) fn link_to(socket: &Socket, address: IpAddr) -> Result<Option<u32>, NetlinkError> {
    let mut header = [0; HEADER];
    header[0] = family(address);
    header[1] = insula_cni::bits(address);
    let mut message = Message::new(GETROUTE, ACKNOWLEDGE, &header);
    message.attribute(DESTINATION, &octets(address));
    match socket.ask(&message, || format!("RTM_GETROUTE({address})")) {
        Ok(replies) => Ok(replies
            .iter()
            .find(|reply| reply.kind == NEWROUTE)
            .and_then(|reply| reply.attributes(HEADER).ne32(OUT_INTERFACE))),
        Err(error) if error.errno == Errno::NETUNREACH => Ok(None),
        Err(error) => Err(error),
    }
}
