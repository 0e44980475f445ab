//! Addresses with the length of their network's prefix, and arithmetic with them.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// An address and a prefix length, as in `10.88.0.5/16`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cidr {
    /// The address.
    pub address: IpAddr,
    /// The length of the prefix in bits, at most 32 or 128.
    pub prefix: u8,
}

/// The number of bits of an address of this family.
pub fn bits(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// The address as a number.
pub fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(u32::from(address)),
        IpAddr::V6(address) => u128::from(address),
    }
}

/// The address of `family`'s family with this number; what is beyond the family's bits is lost.
pub fn from_number(family: IpAddr, number: u128) -> IpAddr {
    match family {
        IpAddr::V4(_) => {
            let low = number & u128::from(u32::MAX);
            IpAddr::V4(Ipv4Addr::from(u32::try_from(low).unwrap_or_default()))
        }
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::from(number)),
    }
}

/// The bytes of an address in network order.
pub fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// The address with these bytes; `None` if they are not 4 or 16.
pub fn from_octets(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(bytes) = <[u8; 4]>::try_from(bytes) {
        return Some(IpAddr::from(bytes));
    }
    <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from)
}

// === impl Cidr ===

impl Cidr {
    fn host_mask(self) -> u128 {
        let host = u32::from(bits(self.address).saturating_sub(self.prefix));
        match host {
            128 => u128::MAX,
            host => (1 << host) - 1,
        }
    }

    /// The network's own address: all host bits are zero.
    pub fn first(self) -> IpAddr {
        from_number(self.address, number(self.address) & !self.host_mask())
    }

    /// The last address: all host bits are one.
    pub fn last(self) -> IpAddr {
        from_number(self.address, number(self.address) | self.host_mask())
    }

    /// The network that the address is in.
    #[must_use]
    pub fn network(self) -> Self {
        Self {
            address: self.first(),
            prefix: self.prefix,
        }
    }

    /// Whether `address` is in the same network.
    pub fn contains(self, address: IpAddr) -> bool {
        self.address.is_ipv4() == address.is_ipv4()
            && (number(self.address) ^ number(address)) & !self.host_mask() == 0
    }
}

impl FromStr for Cidr {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not an address range such as 10.88.0.0/16");
        let (address, prefix) = text.split_once('/').ok_or_else(wrong)?;
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        if prefix.is_empty() || !prefix.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(wrong());
        }
        let prefix: u8 = prefix.parse().map_err(|_| wrong())?;
        if prefix > bits(address) {
            return Err(wrong());
        }
        Ok(Self { address, prefix })
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.address, self.prefix)
    }
}

impl<'de> Deserialize<'de> for Cidr {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl Serialize for Cidr {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::Cidr;
    use proptest::prelude::*;
    use std::net::IpAddr;

    fn cidr(text: &str) -> Cidr {
        text.parse().unwrap()
    }

    #[test]
    fn networks_begin_and_end_where_they_should() {
        // Text, first address, last address.
        let table = [
            ("10.88.3.5/16", "10.88.0.0", "10.88.255.255"),
            ("10.88.3.5/32", "10.88.3.5", "10.88.3.5"),
            ("0.0.0.0/0", "0.0.0.0", "255.255.255.255"),
            ("fd00::5/64", "fd00::", "fd00::ffff:ffff:ffff:ffff"),
            ("::/0", "::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
        ];
        for (text, first, last) in table {
            assert_eq!(cidr(text).first(), first.parse::<IpAddr>().unwrap());
            assert_eq!(cidr(text).last(), last.parse::<IpAddr>().unwrap());
        }
    }

    #[test]
    fn what_is_no_network_is_refused() {
        for text in [
            "",
            "10.0.0.0",
            "10.0.0.0/33",
            "10.0.0.0/+8",
            "::/129",
            "x/8",
            "10.0.0.0/",
            "10.0.0.0/8/8",
        ] {
            assert!(text.parse::<Cidr>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_network_holds_its_ends_and_reads_as_it_prints(bytes: [u8; 16], prefix in 0_u8..=128) {
            let network = Cidr { address: IpAddr::from(bytes), prefix };
            prop_assert!(network.contains(network.first()) && network.contains(network.last()));
            prop_assert_eq!(cidr(&network.to_string()), network);
            prop_assert_eq!(network.network().first(), network.first());
        }
    }
}
