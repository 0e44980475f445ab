//! Rates: a token bucket where packets leave, tc-tbf(8), and for the other direction an ifb that
//! stands in for a queue where packets come in.

use crate::netlink::{ACKNOWLEDGE, CREATE, DUMP, EXCLUSIVE, Message, NetlinkError, Socket, ne32};
use rustix::io::Errno;

const NEWQDISC: u16 = 36;
const GETQDISC: u16 = 38;
const NEWTFILTER: u16 = 44;
const KIND: u16 = 1;
const OPTIONS: u16 = 2;
const ROOT: u32 = 0xffff_ffff;
const INGRESS: u32 = 0xffff_fff1;
/// Handle of an ingress queue, `ffff:`.
const INGRESS_HANDLE: u32 = 0xffff_0000;
const ETH_P_ALL: u16 = 0x0003;

// tbf, <linux/pkt_sched.h>.
const TBF_PARAMETERS: u16 = 1;
const TBF_RATE64: u16 = 4;
const TBF_BURST: u16 = 6;
/// `TC_LINKLAYER_ETHERNET`: no table of transmission times is needed.
const LINKLAYER_ETHERNET: u8 = 1;
/// How long a packet may wait; as the reference plugin has it.
const LATENCY_MILLISECONDS: u64 = 25;

// u32 with the action mirred, <linux/pkt_cls.h> and <linux/tc_act/tc_mirred.h>.
const U32_SELECTOR: u16 = 5;
const U32_ACTIONS: u16 = 7;
const ACTION_KIND: u16 = 1;
const ACTION_OPTIONS: u16 = 2;
const MIRRED_PARAMETERS: u16 = 2;
/// `TC_ACT_STOLEN` and `TCA_EGRESS_REDIR`.
const STOLEN: u32 = 4;
const REDIRECT: u32 = 1;

/// A rate with its burst.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Bytes per second, at least 1.
    pub bytes: u64,
    /// Bytes that may go at once, at least 1.
    pub burst: u32,
}

fn header(index: u32, handle: u32, parent: u32, info: u32) -> Vec<u8> {
    let mut bytes = vec![0; 4];
    for field in [index, handle, parent, info] {
        bytes.extend(field.to_ne_bytes());
    }
    bytes
}

/// Limits what leaves by a link.
pub(crate) fn limit(socket: &Socket, index: u32, rate: Rate) -> Result<(), NetlinkError> {
    let flags = ACKNOWLEDGE | CREATE | EXCLUSIVE;
    let mut message = Message::new(NEWQDISC, flags, &header(index, 0x1_0000, ROOT, 0));
    message.text(KIND, "tbf").plain_nested(OPTIONS, |options| {
        options
            .attribute(TBF_PARAMETERS, &parameters(rate))
            .ne32(TBF_BURST, rate.burst);
        if rate.bytes > u64::from(u32::MAX) {
            options.attribute(TBF_RATE64, &rate.bytes.to_ne_bytes());
        }
    });
    let request = || format!("RTM_NEWQDISC(tbf {} B/s, index {index})", rate.bytes);
    socket.ask(&message, request).map(drop)
}

/// `struct tc_tbf_qopt`: rate, peak rate, limit in bytes, buffer in ticks, mtu.
fn parameters(rate: Rate) -> Vec<u8> {
    let low = u32::try_from(rate.bytes).unwrap_or(u32::MAX);
    let queue = rate.bytes.saturating_mul(LATENCY_MILLISECONDS) / 1000 + u64::from(rate.burst);
    let limit = u32::try_from(queue).unwrap_or(u32::MAX);
    // Ticks are of 64 ns, as /proc/net/psched has said since Linux 2.6.
    let ticks = u128::from(rate.burst) * 1_000_000_000 / 64 / u128::from(rate.bytes.max(1));
    let buffer = u32::try_from(ticks).unwrap_or(u32::MAX);
    // struct tc_ratespec: cell_log, linklayer, overhead, cell_align, mpu, rate.
    let mut bytes = vec![0, LINKLAYER_ETHERNET, 0, 0, 0, 0, 0, 0];
    bytes.extend(low.to_ne_bytes());
    bytes.extend([0; 12]);
    for field in [limit, buffer, 0] {
        bytes.extend(field.to_ne_bytes());
    }
    bytes
}

/// Sends all that comes in by a link out by another one.
pub(crate) fn redirect_incoming(socket: &Socket, from: u32, to: u32) -> Result<(), NetlinkError> {
    let flags = ACKNOWLEDGE | CREATE | EXCLUSIVE;
    let mut message = Message::new(NEWQDISC, flags, &header(from, INGRESS_HANDLE, INGRESS, 0));
    message.text(KIND, "ingress");
    let request = || format!("RTM_NEWQDISC(ingress, index {from})");
    socket.ask(&message, request)?;
    // Priority and protocol; the latter in network order.
    let info = 1 << 16 | u32::from(ETH_P_ALL.to_be());
    let mut message = Message::new(NEWTFILTER, flags, &header(from, 0, INGRESS_HANDLE, info));
    message.text(KIND, "u32").plain_nested(OPTIONS, |options| {
        options.plain_nested(U32_ACTIONS, |actions| {
            actions.plain_nested(1, |action| {
                action.text(ACTION_KIND, "mirred");
                action.nested(ACTION_OPTIONS, |mirred| {
                    // struct tc_mirred: index, capab, action, refcnt, bindcnt, eaction, ifindex.
                    let fields = [0, 0, STOLEN, 0, 0, REDIRECT, to];
                    let bytes: Vec<u8> = fields
                        .iter()
                        .flat_map(|field| field.to_ne_bytes())
                        .collect();
                    mirred.attribute(MIRRED_PARAMETERS, &bytes);
                });
            });
        });
        // struct tc_u32_sel: terminal, with one key that matches everything.
        let mut selector = [0; 32];
        selector[0] = 1;
        selector[2] = 1;
        options.attribute(U32_SELECTOR, &selector);
    });
    let request = || format!("RTM_NEWTFILTER(u32 all, mirred to index {to}, index {from})");
    socket.ask(&message, request).map(drop)
}

/// Whether a link has a token bucket as its root.
pub(crate) fn is_limited(socket: &Socket, index: u32) -> Result<bool, NetlinkError> {
    let message = Message::new(GETQDISC, DUMP, &header(index, 0, 0, 0));
    let request = || format!("RTM_GETQDISC(index {index})");
    let replies = match socket.ask(&message, request) {
        Err(error) if error.errno == Errno::NODEV => return Ok(false),
        replies => replies?,
    };
    Ok(replies.iter().any(|reply| {
        reply.payload.get(4..).and_then(ne32) == Some(index)
            && reply.attributes(20).text(KIND).as_deref() == Some("tbf")
    }))
}

#[cfg(test)]
mod tests {
    use super::{Rate, parameters};

    #[test]
    fn a_bucket_holds_its_burst_and_25_milliseconds() {
        // 8 Mbit/s and 100,000 bytes, as tc(8) encodes it.
        let bytes = parameters(Rate {
            bytes: 1_000_000,
            burst: 100_000,
        });
        let field = |at: usize| u32::from_ne_bytes(bytes[at..at + 4].try_into().unwrap());
        assert_eq!((bytes.len(), bytes[1]), (36, 1));
        assert_eq!(field(8), 1_000_000);
        assert_eq!(field(24), 125_000);
        assert_eq!(field(28), 1_562_500);
        let most = parameters(Rate {
            bytes: u64::MAX,
            burst: u32::MAX,
        });
        assert_eq!(&most[24..28], &[0xff; 4]);
    }
}
