//! CHECK and STATUS: looks, and changes nothing.

use crate::add::open_pod;
use crate::config::Config;
use crate::error::{Code, Failure};
use crate::kernel::link::{self, Link};
use crate::kernel::namespace::PodNamespace;
use crate::kernel::{address, route, sysctl, traffic};
use crate::names;
use crate::netlink::{Family, Socket};
use crate::nft::Filter;
use crate::request::Target;
use crate::resolver;
use crate::result::Previous;
use crate::store::{Record, Store};

/// Is the attachment as ADD left it, and as `prevResult` says?
pub(crate) fn check(config: &Config, target: &Target) -> Result<(), Failure> {
    let previous = config
        .previous
        .as_ref()
        .ok_or_else(|| Failure::configuration("CHECK needs prevResult, what ADD answered"))?;
    let pod = open_pod(target)?;
    let host = Socket::open(Family::Route)?;
    let inside = interface(config, previous, target, &pod)?;
    let Some(store) = Store::open_existing(&config.identity) else {
        return match config.ports.is_empty() {
            true => Ok(()),
            false => Err(Failure::changed("its record is gone")),
        };
    };
    let record = store.record(&target.id)?.unwrap_or_default();
    if previous
        .interfaces
        .iter()
        .any(|found| found.name == config.bridge)
        && record.links.is_empty()
    {
        return Err(Failure::changed("its record is gone"));
    }
    host_side(config, target, &host, &inside, &record)?;
    for cidr in &record.addresses {
        let owner = store.owner_text(cidr.address)?.unwrap_or_default();
        if owner.split_whitespace().next() != Some(target.id.container()) {
            return Err(Failure::changed(format!(
                "the address {cidr} is not its own any more"
            )));
        }
    }
    if record.entries.is_empty() {
        return Ok(());
    }
    let filter = Filter::open()?;
    for entry in &record.entries {
        if !filter.has(entry)? {
            return Err(Failure::changed(format!(
                "table inet insula lacks {entry:?}"
            )));
        }
    }
    Ok(())
}

/// The pod's interface with its addresses and routes.
fn interface(
    config: &Config,
    previous: &Previous,
    target: &Target,
    pod: &PodNamespace,
) -> Result<Link, Failure> {
    let name = target.id.interface();
    let socket = pod.socket()?;
    let link = link::by_name(&socket, name)?
        .ok_or_else(|| Failure::changed(format!("interface {name} is gone")))?;
    if !link.up {
        return Err(Failure::changed(format!("interface {name} is down")));
    }
    let told = previous
        .interfaces
        .iter()
        .find(|found| found.name == name && found.is_sandboxed());
    let (told, is) = (told.and_then(|told| told.mac.clone()), link.mac);
    if let (Some(told), Some(is)) = (told, is)
        && !told.eq_ignore_ascii_case(&is.to_string())
    {
        return Err(Failure::changed(format!(
            "{name} has hardware address {is}, not {told}"
        )));
    }
    let has = address::list(&socket, link.index)?;
    for cidr in previous.pod_ips(name) {
        if !has.contains(&cidr) {
            return Err(Failure::changed(format!(
                "{name} has lost the address {cidr}"
            )));
        }
    }
    let routes = route::list(&socket)?;
    for wanted in &config.routes {
        let there = routes.iter().any(|found| {
            found.destination == Some(wanted.destination.network())
                && found.table == wanted.table.unwrap_or(route::MAIN)
                && found.link == Some(link.index)
                && (wanted.gateway.is_none() || found.gateway == wanted.gateway)
        });
        if !there {
            return Err(Failure::changed(format!(
                "the route to {} is gone",
                wanted.destination
            )));
        }
    }
    Ok(link)
}

/// The host's end: at its bridge, and limited as it was.
fn host_side(
    config: &Config,
    target: &Target,
    host: &Socket,
    inside: &Link,
    record: &Record,
) -> Result<(), Failure> {
    let name = names::host_interface(&config.identity.name, &target.id);
    if record.links.contains(&name) {
        let end = link::by_name(host, &name)?
            .ok_or_else(|| Failure::changed(format!("{name} is gone from the host")))?;
        let bridge = link::by_name(host, &config.bridge)?
            .ok_or_else(|| Failure::changed(format!("bridge {} is gone", config.bridge)))?;
        if end.master != Some(bridge.index) {
            return Err(Failure::changed(format!(
                "{name} is not at bridge {}",
                bridge.name
            )));
        }
    }
    let limited = |link: Option<u32>, what: &str| match link {
        Some(index) if traffic::is_limited(host, index)? => Ok(()),
        _ => Err(Failure::changed(format!(
            "the limit of its {what} bandwidth is gone"
        ))),
    };
    if config.bandwidth.ingress.is_some() {
        limited(inside.peer, "ingress")?;
    }
    if config.bandwidth.egress.is_some() {
        let ifb = link::by_name(host, &names::ifb(&config.identity.name, &target.id))?;
        limited(ifb.map(|ifb| ifb.index), "egress")?;
    }
    Ok(())
}

/// Would ADD succeed now? A full range is no reason to say no: a node that is not ready loses the
/// pods it has.
pub(crate) fn status(config: &Config, ranges_come_later: bool) -> Result<(), Failure> {
    config.refuse_unknown()?;
    let unavailable = |failure: Failure| Failure {
        code: Code::NotAvailable,
        ..failure
    };
    if config.ranges.is_empty() && !ranges_come_later {
        return Err(unavailable(Failure::configuration(
            "ipam names no range of addresses, and the capability ipRanges is not declared",
        )));
    }
    if let Some(path) = &config.resolv_conf {
        resolver::read(path).map_err(unavailable)?;
    }
    let store = Store::open(&config.identity).map_err(unavailable)?;
    drop(store.lock().map_err(unavailable)?);
    let needs_ipv6 = config
        .ranges
        .iter()
        .flat_map(|set| &set.0)
        .any(|range| range.start.is_ipv6());
    if needs_ipv6 && !sysctl::exists("ipv6") {
        return Err(unavailable(Failure::new(
            Code::NotAvailable,
            "the kernel has no IPv6",
            "remove the IPv6 range, or switch IPv6 on",
        )));
    }
    Filter::open()
        .and_then(|filter| filter.probe())
        .map_err(unavailable)
}
