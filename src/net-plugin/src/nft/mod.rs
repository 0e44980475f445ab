//! The packet filter: one table, `inet insula`, for all networks and pods.
//!
//! Its chains and rules are made once and never change ([`ruleset`]). What belongs to a pod is an
//! [`Entry`] in a map or a set, keyed by what a packet has: adding and removing it costs the same
//! with one pod or ten thousand, and is one transaction of the kernel.
//!
//! ```text
//!  prerouting ─┐                         ┌ hairpin, localhost: masquerade what comes back by
//!  output ─────┴▶ ports4_at, ports4,     │                     the way it went in
//!                 ports6_at, ports6      └ masq4, masq6 ─▶ masq_<subnet>: masquerade what
//!                 (address and port)        (postrouting)                 leaves the subnet
//! ```

mod entry;
mod expression;
mod ruleset;

pub(crate) use self::entry::Entry;

use self::entry::Place;
use crate::error::{Code, Failure};
use crate::netlink::{
    ACKNOWLEDGE, Attributes, CREATE, DUMP, EXCLUSIVE, Family, Message, NetlinkError, Socket,
};
use rustix::io::Errno;

/// `NFNL_SUBSYS_NFTABLES`, with the types of messages in it.
const SUBSYSTEM: u16 = 10 << 8;
const NEW_TABLE: u16 = SUBSYSTEM;
const GET_TABLE: u16 = SUBSYSTEM | 1;
const NEW_CHAIN: u16 = SUBSYSTEM | 3;
const NEW_RULE: u16 = SUBSYSTEM | 6;
const DELETE_RULE: u16 = SUBSYSTEM | 8;
const NEW_SET: u16 = SUBSYSTEM | 9;
const NEW_ELEMENT: u16 = SUBSYSTEM | 0xc;
const GET_ELEMENT: u16 = SUBSYSTEM | 0xd;
const DELETE_ELEMENT: u16 = SUBSYSTEM | 0xe;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
/// `struct nfgenmsg` of the family inet, and that of a batch, which names the subsystem.
const INET: &[u8] = &[1, 0, 0, 0];
const BATCH: &[u8] = &[0, 0, 0, 10];

/// The table's name.
pub(crate) const TABLE: &str = "insula";

// The first attributes of whatever is in a table.
const IN_TABLE: u16 = 1;
const ELEMENT_SET: u16 = 2;
const ELEMENT_LIST: u16 = 3;

/// The packet filter of a network namespace.
#[derive(Debug)]
pub(crate) struct Filter(Socket);

// === impl Filter ===

impl Filter {
    /// That of the calling thread's namespace.
    pub(crate) fn open() -> Result<Self, Failure> {
        Ok(Self(Socket::open(Family::Netfilter)?))
    }

    /// The socket, which also speaks of connections.
    pub(crate) fn socket(&self) -> &Socket {
        &self.0
    }

    /// Whether the kernel has nftables at all, and lets us use it.
    pub(crate) fn probe(&self) -> Result<(), Failure> {
        let mut message = Message::new(GET_TABLE, ACKNOWLEDGE, INET);
        message.text(IN_TABLE, TABLE);
        match self
            .0
            .ask(&message, || format!("NFT_MSG_GETTABLE(inet {TABLE})"))
        {
            Err(error) if error.errno != Errno::NOENT => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// Adds entries, all or none. Those that are there already stay.
    pub(crate) fn add(&self, entries: &[Entry]) -> Result<(), Failure> {
        if entries.is_empty() {
            return Ok(());
        }
        let places: Vec<Place> = entries.iter().flat_map(Entry::places).collect();
        let mut batch = begin();
        for place in &places {
            place.append(&mut batch, NEW_ELEMENT, CREATE);
        }
        let first = self.commit(batch, || added(entries));
        let result = match first {
            // The table, or the chain of a subnet, is not there: a first time, or somebody flushed.
            Err(error) if error.errno == Errno::NOENT => {
                self.make_table()?;
                let mut batch = begin();
                ruleset::subnet_chains(&mut batch, entries);
                for place in &places {
                    place.append(&mut batch, NEW_ELEMENT, CREATE);
                }
                self.commit(batch, || added(entries))
            }
            result => result,
        };
        result.map_err(|error| match error.errno {
            Errno::BUSY | Errno::EXIST => self.conflict(entries, &error),
            _ => error.into(),
        })
    }

    /// Removes entries that are there as they stand here. Those that are gone, and those whose key
    /// leads to somebody else now, are left alone.
    pub(crate) fn remove(&self, entries: &[Entry]) -> Result<(), Failure> {
        let places: Vec<Place> = entries.iter().flat_map(Entry::places).collect();
        if places.is_empty() || self.remove_places(&places).is_ok() {
            return Ok(());
        }
        for place in &places {
            match self.remove_places(std::slice::from_ref(place)) {
                // Busy: the key is somebody else's. Not there: the table or the chain is gone.
                Err(error) if !matches!(error.errno, Errno::BUSY | Errno::EXIST | Errno::NOENT) => {
                    return Err(error.into());
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// A deletion fails where there is nothing, and does not look at what the key leads to. An
    /// addition just before it, in one transaction, makes it exact: it makes what is not there,
    /// and fails where there is something else.
    fn remove_places(&self, places: &[Place]) -> Result<(), NetlinkError> {
        let mut batch = begin();
        for place in places {
            place.append(&mut batch, NEW_ELEMENT, CREATE);
            place.append(&mut batch, DELETE_ELEMENT, 0);
        }
        self.commit(batch, || format!("NFT_MSG_DELSETELEM({places:?})"))
    }

    /// Whether an entry is there as it stands here.
    pub(crate) fn has(&self, entry: &Entry) -> Result<bool, Failure> {
        for place in entry.places() {
            let mut message = Message::default();
            place.append_key(&mut message, GET_ELEMENT, ACKNOWLEDGE);
            let found = self
                .0
                .ask(&message, || format!("NFT_MSG_GETSETELEM({place:?})"));
            let replies = match found {
                Err(error) if error.errno == Errno::NOENT => return Ok(false),
                found => found?,
            };
            let same = replies.iter().any(|reply| {
                let attributes = reply.attributes(INET.len());
                let list = Attributes::of(attributes.get(ELEMENT_LIST).unwrap_or_default());
                list.iter()
                    .any(|(_, element)| place.is(Attributes::of(element)))
            });
            if !same {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Makes the table with its chains and rules, unless it is there.
    fn make_table(&self) -> Result<(), Failure> {
        let mut batch = begin();
        batch
            .begin(NEW_TABLE, CREATE | EXCLUSIVE, INET)
            .text(IN_TABLE, TABLE);
        ruleset::append(&mut batch);
        match self.commit(batch, || {
            format!("NFT_MSG_NEWTABLE(inet {TABLE}, and its rules)")
        }) {
            Err(error) if error.errno != Errno::EXIST => Err(error.into()),
            _ => Ok(()),
        }
    }

    fn commit(&self, mut batch: Message, request: impl Fn() -> String) -> Result<(), NetlinkError> {
        batch.begin(BATCH_END, 0, BATCH);
        self.0.ask(&batch, request).map(drop)
    }

    /// Names who has what could not be added.
    fn conflict(&self, entries: &[Entry], error: &NetlinkError) -> Failure {
        for entry in entries {
            if let Some((what, has)) = entry.key().and_then(|key| {
                let has = self.target_of(entry)?;
                Some((key, has))
            }) {
                return Failure::new(
                    Code::Taken,
                    format!("{what} leads to {has} already"),
                    "two pods cannot have it: remove the other one, or ask for another port",
                );
            }
        }
        error.clone().into()
    }

    /// Where a mapped port leads now, if that is not where `entry` says.
    fn target_of(&self, entry: &Entry) -> Option<String> {
        let place = entry.places().into_iter().next()?;
        let mut message = Message::new(GET_ELEMENT, DUMP, INET);
        message.text(IN_TABLE, TABLE).text(ELEMENT_SET, place.set);
        let replies = self.0.ask(&message, String::new).ok()?;
        replies.iter().find_map(|reply| {
            let list = Attributes::of(reply.attributes(INET.len()).get(ELEMENT_LIST)?);
            list.iter()
                .find_map(|(_, element)| place.other_target(Attributes::of(element)))
        })
    }
}

fn begin() -> Message {
    Message::new(BATCH_BEGIN, 0, BATCH)
}

fn added(entries: &[Entry]) -> String {
    format!("NFT_MSG_NEWSETELEM(inet {TABLE}, {entries:?})")
}
