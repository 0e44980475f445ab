//! Building messages.

/// `NLM_F_ACK`: answer also when all went well.
pub(crate) const ACKNOWLEDGE: u16 = 0x4;
/// `NLM_F_EXCL`: it must not be there yet.
pub(crate) const EXCLUSIVE: u16 = 0x200;
/// `NLM_F_CREATE`: make it if it is not there.
pub(crate) const CREATE: u16 = 0x400;
/// `NLM_F_ROOT | NLM_F_MATCH`: all there are.
pub(crate) const DUMP: u16 = 0x300;
/// `NLM_F_REQUEST`, in every message to the kernel.
const REQUEST: u16 = 0x1;
/// `NLA_F_NESTED`: the attribute holds attributes.
const NESTED: u16 = 0x8000;
const HEADER: usize = 16;

/// One or more messages in the order in which the kernel shall read them.
#[derive(Debug, Default)]
pub(crate) struct Message {
    bytes: Vec<u8>,
    /// Where the last message begins.
    last: usize,
    count: u32,
}

// === impl Message ===

impl Message {
    /// A single message: its type, its flags and its family's fixed header.
    pub(crate) fn new(kind: u16, flags: u16, header: &[u8]) -> Self {
        let mut message = Self::default();
        message.begin(kind, flags, header);
        message
    }

    /// Appends a message; attributes that follow are its own.
    pub(crate) fn begin(&mut self, kind: u16, flags: u16, header: &[u8]) -> &mut Self {
        self.last = self.bytes.len();
        self.bytes.extend(0_u32.to_ne_bytes());
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend((flags | REQUEST).to_ne_bytes());
        self.bytes.extend(self.count.to_ne_bytes());
        self.bytes.extend(0_u32.to_ne_bytes());
        self.count += 1;
        self.put(header)
    }

    /// An attribute.
    pub(crate) fn attribute(&mut self, kind: u16, value: &[u8]) -> &mut Self {
        let length = u16::try_from(value.len() + 4).unwrap_or(u16::MAX);
        self.bytes.extend(length.to_ne_bytes());
        self.bytes.extend(kind.to_ne_bytes());
        self.put(value)
    }

    /// A string, with the NUL at its end that the kernel wants.
    pub(crate) fn text(&mut self, kind: u16, value: &str) -> &mut Self {
        let mut bytes = value.as_bytes().to_vec();
        bytes.push(0);
        self.attribute(kind, &bytes)
    }

    /// An integer in the machine's order, as rtnetlink has them.
    pub(crate) fn ne32(&mut self, kind: u16, value: u32) -> &mut Self {
        self.attribute(kind, &value.to_ne_bytes())
    }

    /// An integer in network order, as nftables has them.
    pub(crate) fn be32(&mut self, kind: u16, value: u32) -> &mut Self {
        self.attribute(kind, &value.to_be_bytes())
    }

    /// An attribute that holds the attributes that `fill` appends.
    pub(crate) fn nested(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) -> &mut Self {
        self.plain_nested(kind | NESTED, fill)
    }

    /// The same without the flag, for families that are older than it.
    pub(crate) fn plain_nested(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) -> &mut Self {
        let at = self.bytes.len();
        self.attribute(kind, &[]);
        fill(self);
        let length = u16::try_from(self.bytes.len() - at).unwrap_or(u16::MAX);
        self.bytes[at..at + 2].copy_from_slice(&length.to_ne_bytes());
        self.close()
    }

    /// Bytes as they are, padded, for fixed headers within attributes.
    pub(crate) fn put(&mut self, bytes: &[u8]) -> &mut Self {
        self.bytes.extend(bytes);
        let padded = self.bytes.len().next_multiple_of(4);
        self.bytes.resize(padded, 0);
        self.close()
    }

    /// Writes the length of the last message; attributes alone have none.
    fn close(&mut self) -> &mut Self {
        if self.count == 0 {
            return self;
        }
        let length = u32::try_from(self.bytes.len() - self.last).unwrap_or(u32::MAX);
        self.bytes[self.last..self.last + 4].copy_from_slice(&length.to_ne_bytes());
        self
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Whether all that there is are replies to be awaited by the end of a dump.
    pub(crate) fn is_dump(&self) -> bool {
        self.bytes.len() >= HEADER
            && u16::from_ne_bytes([self.bytes[6], self.bytes[7]]) & DUMP == DUMP
            && self.count == 1
    }
}

#[cfg(test)]
mod tests {
    use super::{CREATE, Message};

    #[test]
    fn lengths_and_padding_are_those_of_the_kernel() {
        let mut message = Message::new(16, CREATE, &[1, 2, 3, 4]);
        message.text(3, "ab").nested(18, |info| {
            info.ne32(1, 7);
        });
        #[rustfmt::skip]
        let expected = [
            40_u8, 0, 0, 0, 16, 0, 1, 4, 0, 0, 0, 0, 0, 0, 0, 0,
            1, 2, 3, 4,
            7, 0, 3, 0, b'a', b'b', 0, 0,
            12, 0, 18, 0x80, 8, 0, 1, 0, 7, 0, 0, 0,
        ];
        if cfg!(target_endian = "little") {
            assert_eq!(message.bytes(), expected);
        }
    }

    #[test]
    fn each_message_of_a_batch_has_a_length_and_a_number_of_its_own() {
        let mut batch = Message::new(16, 0, &[0; 4]);
        batch.begin(17, 0, &[0; 4]).text(1, "x");
        let bytes = batch.bytes();
        assert_eq!(bytes.len(), 20 + 28);
        assert_eq!(bytes[20..24], 28_u32.to_ne_bytes());
        assert_eq!(bytes[28..32], 1_u32.to_ne_bytes());
    }
}
