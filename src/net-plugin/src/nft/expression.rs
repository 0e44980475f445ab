//! Rules as the kernel's little machine executes them: registers, loads and comparisons
//! (`<linux/netfilter/nf_tables.h>`).

use super::{CREATE, IN_TABLE, INET, NEW_RULE, TABLE};
use crate::netlink::Message;

/// `NLM_F_APPEND`.
const APPEND: u16 = 0x800;
const RULE_CHAIN: u16 = 2;
const RULE_EXPRESSIONS: u16 = 4;
const LIST_ELEMENT: u16 = 1;
const NAME: u16 = 1;
const DATA: u16 = 2;

/// The first of four registers of 16 bytes; the number 0 is the verdict.
const FIRST: u32 = 1;
/// Registers of 4 bytes: the first of them lies at the beginning of [`FIRST`].
const FIRST_WORD: u32 = 8;

/// `RTN_LOCAL`: an address of this host.
const LOCAL: u32 = 2;
/// `IPS_DST_NAT`: the connection's destination was changed.
const DESTINATION_CHANGED: u32 = 0x20;

/// What to do with a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Drop,
    Return,
    Jump(&'static str),
}

/// A rule in the making; each method adds what must hold next, or what is done.
#[derive(Debug)]
pub(super) struct Rule(Vec<(&'static str, Message)>);

/// Which address of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Source,
    Destination,
}

// === impl Rule ===

impl Rule {
    pub(super) fn new() -> Self {
        Self(Vec::new())
    }

    fn with(mut self, name: &'static str, fill: impl FnOnce(&mut Message)) -> Self {
        let mut data = Message::default();
        fill(&mut data);
        self.0.push((name, data));
        self
    }

    fn meta(self, key: u32, register: u32) -> Self {
        self.with("meta", |data| {
            data.be32(1, register).be32(2, key);
        })
    }

    fn payload(self, base: u32, offset: u32, length: u32, register: u32) -> Self {
        self.with("payload", |data| {
            data.be32(1, register)
                .be32(2, base)
                .be32(3, offset)
                .be32(4, length);
        })
    }

    fn compare(self, equal: bool, value: &[u8]) -> Self {
        self.with("cmp", |data| {
            data.be32(1, FIRST).be32(2, u32::from(!equal));
            data.nested(3, |bytes| {
                bytes.attribute(1, value);
            });
        })
    }

    fn mask(self, mask: &[u8]) -> Self {
        self.with("bitwise", |data| {
            let length = u32::try_from(mask.len()).unwrap_or_default();
            data.be32(1, FIRST).be32(2, FIRST).be32(3, length);
            data.nested(4, |bytes| {
                bytes.attribute(1, mask);
            });
            data.nested(5, |bytes| {
                bytes.attribute(1, &vec![0; mask.len()]);
            });
        })
    }

    /// The packet is of this address family.
    pub(super) fn family(self, ipv4: bool) -> Self {
        const NFPROTO: u32 = 15;
        self.meta(NFPROTO, FIRST)
            .compare(true, &[if ipv4 { 2 } else { 10 }])
    }

    /// An address of the packet begins with these bits.
    pub(super) fn address(self, end: End, network: insula_cni::Cidr) -> Self {
        let network = network.network();
        let bytes = insula_cni::octets(network.address);
        let rule = self.family(network.address.is_ipv4()).load_address(
            end,
            network.address.is_ipv4(),
            FIRST,
        );
        let whole = usize::from(network.prefix) == bytes.len() * 8;
        let rule = match whole {
            true => rule,
            false => rule.mask(&mask(bytes.len(), network.prefix)),
        };
        rule.compare(true, &bytes)
    }

    /// Loads an address of the packet.
    pub(super) fn load_address(self, end: End, ipv4: bool, register: u32) -> Self {
        const NETWORK: u32 = 1;
        let (offset, length) = match (ipv4, end) {
            (true, End::Source) => (12, 4),
            (true, End::Destination) => (16, 4),
            (false, End::Source) => (8, 16),
            (false, End::Destination) => (24, 16),
        };
        self.payload(NETWORK, offset, length, register)
    }

    /// The packet is for this host.
    pub(super) fn for_this_host(self) -> Self {
        self.with("fib", |data| {
            // Flag "destination", result "type of address".
            data.be32(1, FIRST).be32(2, 3).be32(3, 2);
        })
        .compare(true, &LOCAL.to_ne_bytes())
    }

    /// Its connection's destination was changed, or was not.
    pub(super) fn destination_changed(self, changed: bool) -> Self {
        const STATUS: u32 = 2;
        self.with("ct", |data| {
            data.be32(1, FIRST).be32(2, STATUS);
        })
        .mask(&DESTINATION_CHANGED.to_ne_bytes())
        .compare(!changed, &0_u32.to_ne_bytes())
    }

    /// It did not come from the host itself by loopback.
    pub(super) fn not_from_loopback(self) -> Self {
        let mut name = [0; 16];
        name[..2].copy_from_slice(b"lo");
        self.meta(IN_NAME, FIRST).compare(false, &name)
    }

    /// The name of the interface that it came by, and that it leaves by, are together in a set, or
    /// are not.
    pub(super) fn interfaces_in(self, set: &str, contained: bool) -> Self {
        self.meta(IN_NAME, FIRST)
            .meta(OUT_NAME, FIRST + 1)
            .lookup(set, FIRST, None, contained)
    }

    pub(super) fn comes_by(self, set: &str) -> Self {
        self.meta(IN_NAME, FIRST).lookup(set, FIRST, None, true)
    }

    pub(super) fn leaves_by(self, set: &str) -> Self {
        self.meta(OUT_NAME, FIRST).lookup(set, FIRST, None, true)
    }

    /// Its destination is changed to what a map has for its protocol and port; with `at` for its
    /// present address, too.
    pub(super) fn map_destination(self, map: &str, ipv4: bool, at: bool) -> Self {
        const L4PROTO: u32 = 16;
        const TRANSPORT: u32 = 2;
        let mut rule = self;
        let mut register = FIRST;
        let words = if ipv4 { 1 } else { 4 };
        if at {
            rule = rule.load_address(End::Destination, ipv4, FIRST);
            register = FIRST_WORD + words;
        }
        let port = register.max(FIRST_WORD) + 1;
        rule.meta(L4PROTO, register)
            .payload(TRANSPORT, 2, 2, port)
            .lookup(map, FIRST, Some(FIRST), true)
            .with("nat", |data| {
                // Kind "destination", family, registers of address and port.
                data.be32(1, 1)
                    .be32(2, if ipv4 { 2 } else { 10 })
                    .be32(3, FIRST)
                    .be32(5, FIRST_WORD + words);
            })
    }

    /// Its source address is in a range of a set, together with the name of the interface that it
    /// leaves by.
    pub(super) fn source_leaves_by(self, set: &str, ipv4: bool) -> Self {
        let words = if ipv4 { 1 } else { 4 };
        self.family(ipv4)
            .load_address(End::Source, ipv4, FIRST)
            .meta(OUT_NAME, FIRST_WORD + words)
            .lookup(set, FIRST, None, true)
    }

    /// What a map has for its source address is done with it.
    pub(super) fn verdict_by_source(self, map: &str, ipv4: bool) -> Self {
        self.family(ipv4)
            .load_address(End::Source, ipv4, FIRST)
            .lookup(map, FIRST, Some(0), true)
    }

    fn lookup(self, set: &str, from: u32, to: Option<u32>, contained: bool) -> Self {
        self.with("lookup", |data| {
            data.text(1, set).be32(2, from);
            if let Some(to) = to {
                data.be32(3, to);
            }
            if !contained {
                data.be32(5, 1);
            }
        })
    }

    /// The sender becomes this host.
    pub(super) fn masquerade(self) -> Self {
        self.with("masq", |_| {})
    }

    /// The end of the rule.
    pub(super) fn then(self, verdict: Verdict) -> Self {
        self.with("immediate", |data| {
            data.be32(1, 0);
            data.nested(2, |value| append_verdict(value, verdict));
        })
    }

    /// Appends the rule to a chain.
    pub(super) fn append(self, batch: &mut Message, chain: &str) {
        batch
            .begin(NEW_RULE, CREATE | APPEND, INET)
            .text(IN_TABLE, TABLE)
            .text(RULE_CHAIN, chain)
            .nested(RULE_EXPRESSIONS, |list| {
                for (name, data) in self.0 {
                    list.nested(LIST_ELEMENT, |element| {
                        element.text(NAME, name);
                        element.nested(DATA, |attributes| {
                            attributes.put(data.bytes());
                        });
                    });
                }
            });
    }
}

const IN_NAME: u32 = 6;
const OUT_NAME: u32 = 7;

fn append_verdict(value: &mut Message, verdict: Verdict) {
    match verdict {
        Verdict::Drop => verdict_data(value, 0, None),
        Verdict::Return => verdict_data(value, -5, None),
        Verdict::Jump(chain) => verdict_data(value, -3, Some(chain)),
    }
}

/// `NFTA_DATA_VERDICT` with the code of a jump.
pub(super) fn jump_data(value: &mut Message, chain: &str) {
    verdict_data(value, -3, Some(chain));
}

fn verdict_data(value: &mut Message, code: i32, chain: Option<&str>) {
    value.nested(2, |verdict| {
        verdict.attribute(1, &code.to_be_bytes());
        if let Some(chain) = chain {
            verdict.text(2, chain);
        }
    });
}

/// The first `prefix` bits of `length` bytes.
fn mask(length: usize, prefix: u8) -> Vec<u8> {
    (0..length)
        .map(|at| {
            let ones = usize::from(prefix).saturating_sub(at * 8).min(8);
            u8::try_from((0xff00_u32 >> ones) & 0xff).unwrap_or_default()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::mask;

    #[test]
    fn masks_have_as_many_ones_as_the_prefix() {
        assert_eq!(mask(4, 0), [0, 0, 0, 0]);
        assert_eq!(mask(4, 12), [0xff, 0xf0, 0, 0]);
        assert_eq!(mask(4, 31), [0xff, 0xff, 0xff, 0xfe]);
        let six = mask(16, 65);
        assert_eq!(
            six[..9],
            [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x80]
        );
        assert_eq!(six[9..], [0; 7]);
    }
}
