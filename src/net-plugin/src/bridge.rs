//! The bridge of a network: made by the first pod, left in place by the last.

use crate::config::Config;
use crate::error::{Code, Failure};
use crate::kernel::link::{self, Link, Mac};
use crate::kernel::{address, sysctl};
use crate::netlink::Socket;
use crate::result::Given;
use insula_cni::Cidr;
use rustix::io::Errno;
use std::fs::File;
use std::io::Read;

/// The bridge with all that the addresses need: their gateways, and a host that forwards.
pub(crate) fn ensure(host: &Socket, config: &Config, given: &[Given]) -> Result<Link, Failure> {
    let bridge = find_or_make(host, config)?;
    if !bridge.up {
        link::set_up(host, bridge.index)?;
    }
    if !config.is_gateway {
        return Ok(bridge);
    }
    for ip in given {
        let gateway = Cidr {
            address: ip.gateway,
            prefix: ip.address.prefix,
        };
        if gateway.address.is_ipv6() {
            let setting = format!("ipv6/conf/{}/disable_ipv6", config.bridge);
            sysctl::set_if_there(&setting, "0")?;
        }
        if address::add(host, bridge.index, gateway, config.detect_duplicates)? {
            settle(host, config, &bridge, gateway)?;
        }
    }
    let has = |ipv4: bool| given.iter().any(|ip| ip.gateway.is_ipv4() == ipv4);
    if has(true) {
        sysctl::set("ipv4/ip_forward", "1")?;
    }
    if has(false) {
        sysctl::set("ipv6/conf/all/forwarding", "1")?;
    }
    Ok(bridge)
}

fn find_or_make(host: &Socket, config: &Config) -> Result<Link, Failure> {
    let name = &config.bridge;
    if let Some(bridge) = link::by_name(host, name)? {
        return checked(bridge);
    }
    // Of its own: a bridge without one takes that of a port, and another when that port goes.
    match link::create_bridge(host, name, random_mac()?, config.mtu) {
        // Another pod of the same moment made it.
        Err(error) if error.errno != Errno::EXIST => return Err(error.into()),
        _ => {}
    }
    // Pods are at this link, and must not tell the host which routers there are (CVE-2020-10749).
    sysctl::set_if_there(&format!("ipv6/conf/{name}/accept_ra"), "0")?;
    match link::by_name(host, name)? {
        Some(bridge) => checked(bridge),
        None => Err(Failure::new(
            Code::TryAgainLater,
            format!("bridge {name:?} went away as soon as it was made"),
            "somebody removes it: find out who does",
        )),
    }
}

fn checked(link: Link) -> Result<Link, Failure> {
    match link.kind.as_deref() {
        Some("bridge") => Ok(link),
        kind => Err(Failure::configuration(format!(
            "{:?} is not a bridge but {}: name another one",
            link.name,
            kind.unwrap_or("a device of the host")
        ))),
    }
}

/// A gateway that is new to the bridge may stand against another address there.
fn settle(host: &Socket, config: &Config, bridge: &Link, gateway: Cidr) -> Result<(), Failure> {
    let clashes = |other: &Cidr| {
        let same_family = other.address.is_ipv4() == gateway.address.is_ipv4();
        let overlap = other.contains(gateway.address) || gateway.contains(other.address);
        // Several networks may share a bridge; one network has one gateway.
        *other != gateway && same_family && overlap && !is_link_local(*other)
    };
    for other in address::list(host, bridge.index)?
        .into_iter()
        .filter(clashes)
    {
        if config.force_address {
            address::remove(host, bridge.index, other)?;
            continue;
        }
        address::remove(host, bridge.index, gateway)?;
        return Err(Failure::configuration(format!(
            "bridge {:?} has the address {other}, and the gateway would be {gateway}: change one, \
             or set forceAddress",
            bridge.name
        )));
    }
    Ok(())
}

fn is_link_local(cidr: Cidr) -> bool {
    match cidr.address {
        std::net::IpAddr::V4(_) => false,
        std::net::IpAddr::V6(address) => address.is_unicast_link_local(),
    }
}

fn random_mac() -> Result<Mac, Failure> {
    let mut bytes = [0; 8];
    File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(&mut bytes))
        .map_err(|error| Failure::io("cannot read /dev/urandom", &error))?;
    Ok(Mac::local(u64::from_ne_bytes(bytes)))
}
