//! Mapped ports, from what was asked to entries of the packet filter.

use crate::config::{Config, PortMapping, Protocol};
use crate::nft::Entry;
use insula_cni::Cidr;
use std::net::IpAddr;

/// The entries of a pod with these addresses. A port of one of the host's addresses leads to the
/// pod's address of the same family, one of all of them to both.
pub(crate) fn entries(mappings: &[PortMapping], addresses: &[IpAddr]) -> Vec<Entry> {
    let mut entries = Vec::new();
    for ipv4 in [true, false] {
        let Some(to) = addresses.iter().find(|address| address.is_ipv4() == ipv4) else {
            continue;
        };
        for mapping in mappings {
            if mapping
                .host_ip
                .is_some_and(|host_ip| host_ip.is_ipv4() != ipv4)
            {
                continue;
            }
            entries.push(Entry::Port {
                at: mapping.host_ip.filter(|host_ip| !host_ip.is_unspecified()),
                protocol: mapping.protocol,
                port: mapping.host_port,
                to: *to,
                to_port: mapping.container_port,
            });
        }
    }
    entries
}

/// What must be said of the interface that leads to the pod, so that its ports are reached from
/// its own network and from the host's loopback address.
pub(crate) fn interface_entries(
    config: &Config,
    interface: &str,
    addresses: &[Cidr],
) -> Vec<Entry> {
    if !config.snat || config.ports.is_empty() {
        return Vec::new();
    }
    let interface = interface.to_owned();
    let mut entries: Vec<Entry> = addresses
        .iter()
        .map(|address| Entry::Hairpin {
            subnet: address.network(),
            interface: interface.clone(),
        })
        .collect();
    entries.push(Entry::Localhost { interface });
    entries
}

/// Host ports whose old connections have to be forgotten.
pub(crate) fn udp_ports(mappings: &[PortMapping]) -> Vec<u16> {
    mappings
        .iter()
        .filter(|mapping| mapping.protocol == Protocol::Udp)
        .map(|mapping| mapping.host_port)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::entries;
    use crate::config::{PortMapping, Protocol};
    use crate::nft::Entry;
    use std::net::IpAddr;

    type Row = (
        Option<&'static str>,
        &'static [&'static str],
        &'static [(&'static str, Option<&'static str>)],
    );

    #[test]
    fn a_port_leads_to_addresses_of_its_family() {
        let mapping = |host_ip: Option<&str>| PortMapping {
            host_port: 8080,
            container_port: 80,
            protocol: Protocol::Tcp,
            host_ip: host_ip.map(|text| text.parse().unwrap()),
        };
        // Host address; the pod's addresses; where it leads, from which address of the host.
        let table: &[Row] = &[
            (None, &["10.0.0.2"], &[("10.0.0.2", None)]),
            (
                None,
                &["fd00::2", "10.0.0.2"],
                &[("10.0.0.2", None), ("fd00::2", None)],
            ),
            (
                Some("0.0.0.0"),
                &["10.0.0.2", "fd00::2"],
                &[("10.0.0.2", None)],
            ),
            (Some("::"), &["10.0.0.2", "fd00::2"], &[("fd00::2", None)]),
            (
                Some("192.0.2.1"),
                &["10.0.0.2", "fd00::2"],
                &[("10.0.0.2", Some("192.0.2.1"))],
            ),
            (Some("192.0.2.1"), &["fd00::2"], &[]),
        ];
        for (host_ip, addresses, expected) in table {
            let addresses: Vec<IpAddr> =
                addresses.iter().map(|text| text.parse().unwrap()).collect();
            let found: Vec<_> = entries(&[mapping(*host_ip)], &addresses)
                .into_iter()
                .map(|entry| match entry {
                    Entry::Port { at, to, .. } => (to.to_string(), at.map(|at| at.to_string())),
                    other => panic!("{other:?}"),
                })
                .collect();
            let expected: Vec<_> = expected
                .iter()
                .map(|(to, at)| ((*to).to_owned(), at.map(str::to_owned)))
                .collect();
            assert_eq!(found, expected, "{host_ip:?} {addresses:?}");
        }
    }
}
