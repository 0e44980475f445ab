//! The socket, and conversations over it.

use super::{Message, Reply};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::netlink::{NETFILTER, SocketAddrNetlink};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

/// Which part of the kernel is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    /// Links, addresses, routes, traffic control: rtnetlink(7).
    Route,
    /// nftables and connection tracking.
    Netfilter,
}

/// A request that the kernel refused, or that could not be put to it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{request}: {errno}")]
pub(crate) struct NetlinkError {
    /// The request, as far as it matters for understanding.
    pub(crate) request: String,
    pub(crate) errno: Errno,
    /// Which message of a batch was refused.
    pub(crate) number: u32,
}

/// A netlink socket of the network namespace it was opened in.
#[derive(Debug)]
pub(crate) struct Socket(OwnedFd);

/// `NLMSG_ERROR`, also the acknowledgement.
const ERROR: u16 = 2;
/// `NLMSG_DONE`, the end of a dump.
const DONE: u16 = 3;
/// What the kernel writes at once to one who reads with this much room.
const ROOM: usize = 32 << 10;

// === impl Socket ===

impl Socket {
    /// Opens one in the network namespace of the calling thread.
    pub(crate) fn open(family: Family) -> Result<Self, NetlinkError> {
        let (protocol, name) = match family {
            // Protocol 0.
            Family::Route => (None, "NETLINK_ROUTE"),
            Family::Netfilter => (Some(NETFILTER), "NETLINK_NETFILTER"),
        };
        let flags = SocketFlags::CLOEXEC;
        rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, protocol)
            .map(Self)
            .map_err(|errno| NetlinkError {
                request: format!("socket(AF_NETLINK, SOCK_RAW|SOCK_CLOEXEC, {name})"),
                errno,
                number: 0,
            })
    }

    /// Sends, and reads all that the kernel answers: the first refusal, or the replies. `request`
    /// says in an error what was asked.
    ///
    /// The kernel works on a request within sendto(2), so what it has to say is there when that
    /// returns; nothing is ever waited for but the continuation of a dump.
    pub(crate) fn ask(
        &self,
        message: &Message,
        request: impl Fn() -> String,
    ) -> Result<Vec<Reply>, NetlinkError> {
        let failed = |call: &str, errno, number| NetlinkError {
            request: match call {
                "" => request(),
                call => format!("{}: {call}", request()),
            },
            errno,
            number,
        };
        let kernel = SocketAddrNetlink::new(0, 0);
        let length = message.bytes().len();
        rustix::net::sendto(&self.0, message.bytes(), SendFlags::empty(), &kernel).map_err(
            |errno| {
                let call = format!("sendto(netlink, {length} bytes)");
                failed(&call, errno, 0)
            },
        )?;
        let flags = match message.is_dump() {
            true => RecvFlags::empty(),
            false => RecvFlags::DONTWAIT,
        };
        let mut buffer = vec![0; ROOM];
        let mut replies = Vec::new();
        let mut first = None;
        loop {
            let received = match rustix::net::recv(&self.0, &mut *buffer, flags) {
                Ok((received, _)) => received,
                // A batch that is refused is told so message by message: all of it is read here,
                // or it would be taken for the answer to the next one.
                Err(Errno::AGAIN) => return first.map_or(Ok(replies), Err),
                Err(Errno::INTR) => continue,
                Err(errno) => return Err(failed("recv(netlink)", errno, 0)),
            };
            for reply in Reply::parse_all(&buffer[..received.min(ROOM)]) {
                match reply.kind {
                    ERROR | DONE => match refusal(&reply) {
                        Some(errno) if message.is_dump() => {
                            return Err(failed("", errno, reply.number));
                        }
                        Some(errno) => {
                            first.get_or_insert(failed("", errno, reply.number));
                        }
                        None if reply.kind == DONE => return Ok(replies),
                        None => {}
                    },
                    _ => replies.push(reply),
                }
            }
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// The error number in an acknowledgement, if it is one.
fn refusal(reply: &Reply) -> Option<Errno> {
    let code = reply
        .payload
        .first_chunk()
        .copied()
        .map(i32::from_ne_bytes)?;
    (code < 0).then(|| Errno::from_raw_os_error(code.saturating_neg().clamp(1, 4095)))
}
