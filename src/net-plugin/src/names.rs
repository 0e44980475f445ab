//! Names and hardware addresses that follow from what they are for, so that whoever comes later
//! (DEL after a crash) finds the thing without a note of it.

use crate::kernel::link::Mac;
use crate::request::AttachmentId;
use std::net::IpAddr;

/// FNV-1a, 64 bits, over parts that are kept apart.
fn hash(parts: &[&[u8]]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in parts.iter().flat_map(|part| part.iter().chain(&[0])) {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    }
    hash
}

fn of(network: &str, id: &AttachmentId, what: &str) -> u64 {
    hash(&[
        what.as_bytes(),
        network.as_bytes(),
        id.container().as_bytes(),
        id.interface().as_bytes(),
    ])
}

/// The host's end of an attachment's pair.
pub(crate) fn host_interface(network: &str, id: &AttachmentId) -> String {
    format!("veth{:011x}", of(network, id, "veth") >> 20)
}

/// The ifb that limits what comes from an attachment.
pub(crate) fn ifb(network: &str, id: &AttachmentId) -> String {
    format!("ifb{:012x}", of(network, id, "ifb") >> 16)
}

/// The hardware address of the host's end.
pub(crate) fn host_mac(network: &str, id: &AttachmentId) -> Mac {
    Mac::local(of(network, id, "mac"))
}

/// The hardware address of the pod that has this address. Neighbours may remember the address's
/// last pod for a minute: they are right about the next one, too.
pub(crate) fn pod_mac(network: &str, address: IpAddr) -> Mac {
    Mac::local(hash(&[network.as_bytes(), &insula_cni::octets(address)]))
}

#[cfg(test)]
mod tests {
    use super::{host_interface, ifb, pod_mac};
    use crate::request::{AttachmentId, interface_name};

    #[test]
    fn names_fit_and_differ_by_every_part() {
        let id = |container, interface| AttachmentId::parse(container, interface).unwrap();
        let names = [
            host_interface("n", &id("c1", "eth0")),
            host_interface("n", &id("c1", "eth1")),
            host_interface("n", &id("c2", "eth0")),
            host_interface("m", &id("c1", "eth0")),
            ifb("n", &id("c1", "eth0")),
        ];
        for (at, name) in names.iter().enumerate() {
            assert_eq!(interface_name(name), Ok(()));
            assert!(!names[..at].contains(name), "{names:?}");
        }
        let mac = |address: &str| pod_mac("n", address.parse().unwrap());
        assert_ne!(mac("10.88.0.2"), mac("10.88.0.3"));
        assert_eq!(mac("10.88.0.2").0[0] & 3, 2);
    }
}
