//! Netlink, netlink(7): messages built and read as bytes, and the socket they travel by.
//!
//! The crates for netlink each cover one of the three families that are spoken here (rtnetlink,
//! traffic control in it, nftables), and none of them all. What the families share is the little
//! in this module.

mod message;
mod reply;
mod socket;

pub(crate) use message::{ACKNOWLEDGE, CREATE, DUMP, EXCLUSIVE, Message};
pub(crate) use reply::{Attributes, Reply, ne32};
pub(crate) use socket::{Family, NetlinkError, Socket};
