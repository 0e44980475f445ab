//! DEL and GC: undo. Everything here may be done again, and for what was never there.

use crate::config::Identity;
use crate::error::{Code, Failure};
use crate::kernel::remove::remove;
use crate::names;
use crate::netlink::{Family, Socket};
use crate::nft::Filter;
use crate::request::AttachmentId;
use crate::store::{Record, Store};
use insula_cni::Cidr;

/// Detaches a pod, whether its namespace is still there or not.
pub(crate) fn del(identity: &Identity, id: &AttachmentId) -> Result<(), Failure> {
    let Some(store) = Store::open_existing(identity) else {
        return Ok(());
    };
    let record = match store.record(id) {
        // What is in it is lost, and what can be found without it is undone.
        Err(failure) if failure.code == Code::Decoding => None,
        record => record?,
    };
    undo(identity, id, &store, &record.unwrap_or_default())
}

/// Detaches every pod that has something in this network and is not among those in use.
pub(crate) fn gc(identity: &Identity) -> Result<(), Failure> {
    let Some(store) = Store::open_existing(identity) else {
        return Ok(());
    };
    let known = store.lock()?.attachments()?;
    let mut first = Ok(());
    for id in known.iter().filter(|id| !identity.valid.contains(id)) {
        // One that fails must not keep the others.
        let undone = del(identity, id);
        first = first.and(undone);
    }
    first
}

/// Undoes what a record says: first what the kernel has, then the addresses, so that none is given
/// to the next pod while anything still leads to this one; the record last of all.
pub(crate) fn undo(
    identity: &Identity,
    id: &AttachmentId,
    store: &Store,
    record: &Record,
) -> Result<(), Failure> {
    let filter = match record.entries.is_empty() {
        true => None,
        false => Some(Filter::open()?),
    };
    if let Some(filter) = &filter {
        filter.remove(&record.entries)?;
    }
    // Names follow from the id, so a lost record costs nothing.
    let mut links = record.links.clone();
    if record == &Record::default() {
        links.push(names::host_interface(&identity.name, id));
        links.push(names::ifb(&identity.name, id));
    }
    let host = Socket::open(Family::Route)?;
    remove(&host, &links, filter.as_ref())?;
    let locked = store.lock()?;
    let mut addresses: Vec<_> = record
        .addresses
        .iter()
        .map(|Cidr { address, .. }| *address)
        .collect();
    if addresses.is_empty() && record.links.is_empty() && record.entries.is_empty() {
        addresses = locked.addresses_of(id)?;
    }
    locked.give_back(&addresses, id)?;
    locked.remove_record(id)
}
