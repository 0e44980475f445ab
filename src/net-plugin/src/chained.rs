//! As a link of a chain behind a plugin that made the interface: port maps and rates only.

use crate::add::{add_entries, gone, limit};
use crate::config::Config;
use crate::del;
use crate::error::{Code, Failure};
use crate::kernel::link::{self, Link};
use crate::kernel::namespace::PodNamespace;
use crate::kernel::route;
use crate::names;
use crate::netlink::{Family, Socket};
use crate::ports;
use crate::request::Target;
use crate::result::Previous;
use crate::store::{Record, Store};
use insula_cni::Cidr;
use std::net::IpAddr;

/// Adds ports and rates, and passes the result on as it came.
pub(crate) fn add(
    config: &Config,
    previous: &Previous,
    target: &Target,
    pod: &PodNamespace,
) -> Result<String, Failure> {
    let result = previous.to_json();
    let limited = config.bandwidth.ingress.is_some() || config.bandwidth.egress.is_some();
    if config.ports.is_empty() && !limited {
        return Ok(result);
    }
    let host = Socket::open(Family::Route)?;
    let addresses = previous.pod_ips(target.id.interface());
    let leads = match config.ports.is_empty() {
        true => None,
        false => Some(leading_link(&host, &addresses)?),
    };
    let record = record(config, target, &addresses, leads.as_ref());
    let store = Store::open(&config.identity)?;
    store.lock()?.write_record(&target.id, &record)?;
    let made = || {
        if limited {
            limit(config, target, &host, &host_end(&host, target, pod)?)?;
        }
        if let Some(link) = &leads {
            let mut entries = ports::interface_entries(config, &link.name, &addresses);
            entries.extend(record.entries.iter().cloned());
            add_entries(config, &link.name, &entries)?;
        }
        Ok(())
    };
    let made: Result<(), Failure> = made();
    if made.is_err() {
        let _ = del::undo(&config.identity, &target.id, &store, &record);
    }
    made.map(|()| result)
}

fn record(config: &Config, target: &Target, addresses: &[Cidr], leads: Option<&Link>) -> Record {
    let mut record = Record::default();
    if config.bandwidth.egress.is_some() {
        record
            .links
            .push(names::ifb(&config.identity.name, &target.id));
    }
    if let Some(link) = leads {
        let ips: Vec<IpAddr> = addresses.iter().map(|cidr| cidr.address).collect();
        record.entries = ports::entries(&config.ports, &ips);
        // What is said of a bridge holds for its other pods; a link of this pod alone goes with it.
        if link.kind.as_deref() != Some("bridge") {
            record
                .entries
                .extend(ports::interface_entries(config, &link.name, addresses));
        }
    }
    record
}

/// The link by which the host reaches the pod.
fn leading_link(host: &Socket, addresses: &[Cidr]) -> Result<Link, Failure> {
    let unreachable = |why: &str| {
        Failure::new(
            Code::InvalidConfiguration,
            "ports cannot be mapped to this pod",
            why,
        )
    };
    let address = addresses
        .first()
        .ok_or_else(|| unreachable("prevResult has no address of its interface"))?;
    let index = route::link_to(host, address.address)?
        .ok_or_else(|| unreachable(&format!("the host has no route to {}", address.address)))?;
    link::by_index(host, index)?.ok_or_else(|| gone(&format!("index {index}")))
}

/// The host's end of the pod's interface, which must be one of a pair.
fn host_end(host: &Socket, target: &Target, pod: &PodNamespace) -> Result<Link, Failure> {
    let name = target.id.interface();
    let inside = link::by_name(&pod.socket()?, name)?.ok_or_else(|| gone(name))?;
    let of_pair = (inside.kind.as_deref() == Some("veth"))
        .then_some(inside.peer)
        .flatten();
    let found = match of_pair {
        Some(index) => link::by_index(host, index)?,
        None => None,
    };
    found
        .filter(|link| link.kind.as_deref() == Some("veth"))
        .ok_or_else(|| {
            Failure::configuration(format!(
                "{name} is not one end of a veth pair whose other end the host has: its bandwidth \
                 cannot be limited there"
            ))
        })
}
