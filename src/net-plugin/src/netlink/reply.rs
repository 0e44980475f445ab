//! Reading messages. They come from the kernel, and still nothing here trusts a length.

/// A message of an answer: its type and what follows the header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reply {
    pub(crate) kind: u16,
    /// Which message of the request it answers.
    pub(crate) number: u32,
    pub(crate) payload: Vec<u8>,
}

/// The attributes in a message, in their order.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Attributes<'a>(&'a [u8]);

/// The bits of an attribute's type that name it.
const TYPE: u16 = 0x3fff;
const HEADER: usize = 16;

// === impl Reply ===

impl Reply {
    /// The messages in what was received at once; a damaged one ends the list.
    pub(crate) fn parse_all(mut bytes: &[u8]) -> Vec<Self> {
        let mut replies = Vec::new();
        while bytes.len() >= HEADER {
            let length = ne32(bytes).unwrap_or(0) as usize;
            if length < HEADER || length > bytes.len() {
                break;
            }
            replies.push(Self {
                kind: ne16(&bytes[4..]).unwrap_or(0),
                number: ne32(&bytes[8..]).unwrap_or(0),
                payload: bytes[HEADER..length].to_vec(),
            });
            bytes = &bytes[length.next_multiple_of(4).min(bytes.len())..];
        }
        replies
    }

    /// The attributes behind a fixed header of `header` bytes.
    pub(crate) fn attributes(&self, header: usize) -> Attributes<'_> {
        Attributes(self.payload.get(header..).unwrap_or_default())
    }
}

// === impl Attributes ===

impl<'a> Attributes<'a> {
    /// The attributes in an attribute's value.
    pub(crate) fn of(value: &'a [u8]) -> Self {
        Self(value)
    }

    /// Types and values, up to the first attribute that is damaged.
    pub(crate) fn iter(self) -> impl Iterator<Item = (u16, &'a [u8])> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            let length = usize::from(ne16(rest)?);
            let kind = ne16(rest.get(2..)?)? & TYPE;
            let value = rest.get(4..length)?;
            rest = &rest[length.next_multiple_of(4).min(rest.len())..];
            Some((kind, value))
        })
    }

    /// The first attribute of this type.
    pub(crate) fn get(self, kind: u16) -> Option<&'a [u8]> {
        self.iter()
            .find_map(|(found, value)| (found == kind).then_some(value))
    }

    /// The first of this type as a string without its NUL.
    pub(crate) fn text(self, kind: u16) -> Option<String> {
        let value = self.get(kind)?;
        let end = value.iter().position(|byte| *byte == 0);
        String::from_utf8(value[..end.unwrap_or(value.len())].to_vec()).ok()
    }

    /// The first of this type as an integer in the machine's order.
    pub(crate) fn ne32(self, kind: u16) -> Option<u32> {
        self.get(kind).and_then(ne32)
    }
}

/// The first two bytes in the machine's order.
fn ne16(bytes: &[u8]) -> Option<u16> {
    bytes.first_chunk().copied().map(u16::from_ne_bytes)
}

/// The first four bytes in the machine's order.
pub(crate) fn ne32(bytes: &[u8]) -> Option<u32> {
    bytes.first_chunk().copied().map(u32::from_ne_bytes)
}

#[cfg(test)]
mod tests {
    use super::{Attributes, Reply};
    use crate::netlink::Message;
    use proptest::prelude::*;

    #[test]
    fn what_was_built_is_read_again() {
        let mut message = Message::new(16, 0, &[9; 4]);
        message.text(3, "eth0").ne32(4, 1500).nested(18, |info| {
            info.text(1, "veth");
        });
        let replies = Reply::parse_all(message.bytes());
        assert_eq!(replies.len(), 1);
        let attributes = replies[0].attributes(4);
        assert_eq!(attributes.text(3).as_deref(), Some("eth0"));
        assert_eq!(attributes.ne32(4), Some(1500));
        let info = Attributes::of(attributes.get(18).unwrap());
        assert_eq!(info.text(1).as_deref(), Some("veth"));
        assert_eq!(attributes.get(99), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_harm(bytes: Vec<u8>) {
            for reply in Reply::parse_all(&bytes) {
                prop_assert!(reply.attributes(4).iter().count() <= bytes.len());
            }
        }
    }
}
