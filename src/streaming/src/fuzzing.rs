//! What fuzz targets feed: the parsers that read what a client sends.

pub use crate::remote::resize::Sizes;

use crate::negotiate::{Channels, Encoding, Report};
use crate::websocket::channel;

/// Reads a WebSocket message's payload in every protocol, and checks that what
/// was read as data is written and read again the same.
pub fn websocket_message(payload: &[u8]) {
    let payload = bytes::Bytes::copy_from_slice(payload);
    for (encoding, closes) in [
        (Encoding::Binary, false),
        (Encoding::Binary, true),
        (Encoding::Base64, false),
    ] {
        let protocol = Channels {
            encoding,
            report: Report::Status,
            closes,
        };
        let read = channel::decode(protocol, &payload);
        if let Ok(channel::Event::Data { channel, data }) = &read
            && *channel < 10
        {
            let written = channel::encode(encoding, *channel, data).into_data();
            assert_eq!(channel::decode(protocol, &written), read);
        }
    }
}
