//! Channels in WebSocket messages, without any input or output.
//!
//! A message carries one channel's data behind the channel's number: a byte in
//! the binary protocols, a digit in those with base64
//! (`k8s.io/streaming/pkg/httpstream/wsstream/conn.go`). v5 adds a message that
//! closes a channel (KEP-4006).

use crate::negotiate::{Channels, Encoding};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use tokio_tungstenite::tungstenite::Message;

/// The channel that closes others, in v5.
const CLOSE: u8 = 255;

/// What a message says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Data of a channel.
    Data {
        /// Which.
        channel: u8,
        /// May be empty.
        data: Bytes,
    },
    /// No more data will come on this channel.
    Close {
        /// Which.
        channel: u8,
    },
    /// An empty message.
    Nothing,
}

/// A message does not follow the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// The first character is no digit.
    #[error("a message begins with no channel's digit")]
    Channel,
    /// The rest is not base64.
    #[error("a message is not base64")]
    Base64,
    /// A channel was to be closed without saying which.
    #[error("a message closes a channel without naming one")]
    Close,
}

/// Reads one message's payload.
pub(crate) fn decode(protocol: Channels, payload: &Bytes) -> Result<Event, Malformed> {
    let Some((&first, rest)) = payload.split_first() else {
        return Ok(Event::Nothing);
    };
    match protocol.encoding {
        Encoding::Binary if protocol.closes && first == CLOSE => match rest {
            [channel] => Ok(Event::Close { channel: *channel }),
            _ => Err(Malformed::Close),
        },
        Encoding::Binary => Ok(Event::Data {
            channel: first,
            data: payload.slice(1..),
        }),
        Encoding::Base64 => {
            let channel = first.checked_sub(b'0').filter(|digit| *digit < 10);
            let data = STANDARD.decode(rest).map_err(|_| Malformed::Base64)?;
            Ok(Event::Data {
                channel: channel.ok_or(Malformed::Channel)?,
                data: data.into(),
            })
        }
    }
}

/// A message with a channel's data; `channel` is less than ten.
pub(crate) fn encode(encoding: Encoding, channel: u8, data: &[u8]) -> Message {
    match encoding {
        Encoding::Binary => {
            let mut payload = Vec::with_capacity(1 + data.len());
            payload.push(channel);
            payload.extend_from_slice(data);
            Message::binary(payload)
        }
        Encoding::Base64 => {
            let mut payload = String::with_capacity(1 + data.len().div_ceil(3) * 4);
            payload.push(char::from(b'0' + channel));
            STANDARD.encode_string(data, &mut payload);
            Message::text(payload)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Event, Malformed, decode, encode};
    use crate::negotiate::{Channels, Encoding, Report};
    use bytes::Bytes;
    use proptest::prelude::*;

    fn protocol(encoding: Encoding, closes: bool) -> Channels {
        Channels {
            encoding,
            report: Report::Status,
            closes,
        }
    }

    #[test]
    fn each_protocol_reads_its_messages() {
        let data = |channel, data: &'static [u8]| {
            Ok(Event::Data {
                channel,
                data: Bytes::from_static(data),
            })
        };
        let v4 = protocol(Encoding::Binary, false);
        let v5 = protocol(Encoding::Binary, true);
        let base64 = protocol(Encoding::Base64, false);
        for (protocol, payload, want) in [
            (v4, &b""[..], Ok(Event::Nothing)),
            (v4, b"\0abc", data(0, b"abc")),
            (v4, b"\x04", data(4, b"")),
            (v4, b"\xff\0", data(255, b"\0")),
            (v5, b"\xff\0", Ok(Event::Close { channel: 0 })),
            (v5, b"\xff", Err(Malformed::Close)),
            (v5, b"\xff\0\0", Err(Malformed::Close)),
            (base64, b"", Ok(Event::Nothing)),
            (base64, b"0YWJj", data(0, b"abc")),
            (base64, b"4", data(4, b"")),
            (base64, b"0!", Err(Malformed::Base64)),
            (base64, b"\0YWJj", Err(Malformed::Channel)),
        ] {
            let found = decode(protocol, &Bytes::from_static(payload));
            assert_eq!(found, want, "{protocol:?} {payload:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_can_be_read(
            channel in 0u8..10,
            data in proptest::collection::vec(any::<u8>(), 0..300),
            base64: bool,
        ) {
            let encoding = if base64 { Encoding::Base64 } else { Encoding::Binary };
            let payload = encode(encoding, channel, &data).into_data();
            let event = decode(protocol(encoding, true), &payload);
            prop_assert_eq!(event, Ok(Event::Data { channel, data: data.into() }));
        }

        #[test]
        fn nothing_panics(
            payload in proptest::collection::vec(any::<u8>(), 0..100),
            base64: bool,
            closes: bool,
        ) {
            let encoding = if base64 { Encoding::Base64 } else { Encoding::Binary };
            let _ = decode(protocol(encoding, closes), &payload.into());
        }
    }
}
