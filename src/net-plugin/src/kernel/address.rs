//! Addresses of links.

use crate::netlink::{ACKNOWLEDGE, CREATE, DUMP, EXCLUSIVE, Message, NetlinkError, Socket, ne32};
use insula_cni::{Cidr, from_octets, octets};
use rustix::io::Errno;
use std::net::IpAddr;

const NEWADDR: u16 = 20;
const DELADDR: u16 = 21;
const GETADDR: u16 = 22;
const ADDRESS: u16 = 1;
const LOCAL: u16 = 2;
const BROADCAST: u16 = 4;
const FLAGS: u16 = 8;
/// `IFA_F_NODAD`: nobody else has an address that this plugin gives out.
const NO_DUPLICATE_DETECTION: u32 = 2;
/// Size of `struct ifaddrmsg`.
const HEADER: usize = 8;

fn header(address: Cidr, index: u32) -> Vec<u8> {
    let mut bytes = vec![family(address.address), address.prefix, 0, 0];
    bytes.extend(index.to_ne_bytes());
    bytes
}

/// `AF_INET` or `AF_INET6`.
pub(crate) fn family(address: IpAddr) -> u8 {
    if address.is_ipv4() { 2 } else { 10 }
}

/// Gives a link an address; says whether it is new to it.
pub(crate) fn add(
    socket: &Socket,
    index: u32,
    address: Cidr,
    detect_duplicates: bool,
) -> Result<bool, NetlinkError> {
    let flags = ACKNOWLEDGE | CREATE | EXCLUSIVE;
    let mut message = Message::new(NEWADDR, flags, &header(address, index));
    let bytes = octets(address.address);
    message.attribute(LOCAL, &bytes).attribute(ADDRESS, &bytes);
    if address.address.is_ipv4() && address.prefix < 31 {
        message.attribute(BROADCAST, &octets(address.last()));
    }
    if address.address.is_ipv6() && !detect_duplicates {
        message.ne32(FLAGS, NO_DUPLICATE_DETECTION);
    }
    match socket.ask(&message, || {
        format!("RTM_NEWADDR({address}, index {index})")
    }) {
        Ok(_) => Ok(true),
        Err(error) if error.errno == Errno::EXIST => Ok(false),
        Err(error) => Err(error),
    }
}

/// Takes an address from a link.
pub(crate) fn remove(socket: &Socket, index: u32, address: Cidr) -> Result<(), NetlinkError> {
    let mut message = Message::new(DELADDR, ACKNOWLEDGE, &header(address, index));
    message.attribute(LOCAL, &octets(address.address));
    match socket.ask(&message, || {
        format!("RTM_DELADDR({address}, index {index})")
    }) {
        Err(error) if error.errno != Errno::ADDRNOTAVAIL => Err(error),
        _ => Ok(()),
    }
}

/// The addresses of a link, of both families.
pub(crate) fn list(socket: &Socket, index: u32) -> Result<Vec<Cidr>, NetlinkError> {
    let message = Message::new(GETADDR, DUMP, &[0; HEADER]);
    let replies = socket.ask(&message, || "RTM_GETADDR(all)".to_owned())?;
    let one = |payload: &[u8], local: Option<&[u8]>| {
        let of = ne32(payload.get(4..)?)?;
        let address = from_octets(local?)?;
        (of == index).then_some(Cidr {
            address,
            prefix: *payload.get(1)?,
        })
    };
    Ok(replies
        .iter()
        .filter(|reply| reply.kind == NEWADDR)
        .filter_map(|reply| {
            let attributes = reply.attributes(HEADER);
            // IPv6 addresses without a peer have no IFA_LOCAL.
            one(
                &reply.payload,
                attributes.get(LOCAL).or(attributes.get(ADDRESS)),
            )
        })
        .collect())
}
