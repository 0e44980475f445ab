//! Connections that the kernel keeps track of.
//!
//! UDP has no beginning: a client that sends on finds the entry of its first packet, made when the
//! port led to nobody or to a pod that is gone, and its packets would go there for ever.

use crate::netlink::{ACKNOWLEDGE, Attributes, DUMP, Message, NetlinkError, Reply, Socket};

/// `NFNL_SUBSYS_CTNETLINK`, with the types of messages in it.
const SUBSYSTEM: u16 = 1 << 8;
const GET: u16 = SUBSYSTEM | 1;
const DELETE: u16 = SUBSYSTEM | 2;
const ORIGINAL: u16 = 1;
const TUPLE_PROTOCOL: u16 = 2;
const PROTOCOL_NUMBER: u16 = 1;
const DESTINATION_PORT: u16 = 3;
/// Size of `struct nfgenmsg`.
const HEADER: usize = 4;
const FAMILIES: [u8; 2] = [2, 10];

/// Forgets the UDP connections to these ports of the host.
pub(crate) fn forget_udp(netfilter: &Socket, ports: &[u16]) -> Result<(), NetlinkError> {
    if ports.is_empty() {
        return Ok(());
    }
    for family in FAMILIES {
        let all = Message::new(GET, DUMP, &[family, 0, 0, 0]);
        let replies = netfilter.ask(&all, || "IPCTNL_MSG_CT_GET(all)".to_owned())?;
        for reply in &replies {
            let Some(tuple) = original(reply, ports) else {
                continue;
            };
            let mut message = Message::new(DELETE, ACKNOWLEDGE, &[family, 0, 0, 0]);
            message.nested(ORIGINAL, |attribute| {
                attribute.put(tuple);
            });
            match netfilter.ask(&message, || "IPCTNL_MSG_CT_DELETE(udp)".to_owned()) {
                // It ended by itself.
                Err(error) if error.errno != rustix::io::Errno::NOENT => return Err(error),
                _ => {}
            }
        }
    }
    Ok(())
}

/// The original direction of a UDP connection to one of these ports.
fn original<'a>(reply: &'a Reply, ports: &[u16]) -> Option<&'a [u8]> {
    const UDP: u8 = 17;
    let tuple = reply.attributes(HEADER).get(ORIGINAL)?;
    let protocol = Attributes::of(Attributes::of(tuple).get(TUPLE_PROTOCOL)?);
    let port = u16::from_be_bytes(protocol.get(DESTINATION_PORT)?.try_into().ok()?);
    let is_udp = protocol.get(PROTOCOL_NUMBER)? == [UDP];
    (is_udp && ports.contains(&port)).then_some(tuple)
}
