//! Frames as values, and how they are written (section 2.2 and 2.6).

use bytes::{BufMut, Bytes, BytesMut};

use super::error::Status;

/// Octets of the header of every frame.
pub(super) const FRAME_HEADER: usize = 8;
/// The version in every control frame: SPDY/3.1 kept the 3.
pub(super) const VERSION: u16 = 3;
/// The largest stream identifier, and the largest window.
pub(super) const MAXIMUM_31_BITS: u32 = 0x7fff_ffff;

/// FLAG_FIN: the sender is done with the stream.
pub(super) const FLAG_FIN: u8 = 0x01;
/// FLAG_UNIDIRECTIONAL of SYN_STREAM: the receiver is done with the stream from the start.
pub(super) const FLAG_UNIDIRECTIONAL: u8 = 0x02;

/// The types of control frames. CREDENTIAL (10) and all others are passed over.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u16)]
pub(super) enum Kind {
    SynStream = 1,
    SynReply = 2,
    RstStream = 3,
    Settings = 4,
    Ping = 6,
    GoAway = 7,
    Headers = 8,
    WindowUpdate = 9,
}

impl Kind {
    pub(super) const ALL: [Self; 8] = [
        Self::SynStream,
        Self::SynReply,
        Self::RstStream,
        Self::Settings,
        Self::Ping,
        Self::GoAway,
        Self::Headers,
        Self::WindowUpdate,
    ];

    /// The type with this number, if it is one that means something to us.
    pub(super) fn of(number: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u16 == number)
    }

    /// The name in the specification.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::SynStream => "SYN_STREAM",
            Self::SynReply => "SYN_REPLY",
            Self::RstStream => "RST_STREAM",
            Self::Settings => "SETTINGS",
            Self::Ping => "PING",
            Self::GoAway => "GOAWAY",
            Self::Headers => "HEADERS",
            Self::WindowUpdate => "WINDOW_UPDATE",
        }
    }
}

/// One frame, or for DATA a part of one. Header blocks are still compressed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Frame {
    /// Octets of a stream. `fin` comes with the last part of the frame that carries the flag.
    Data {
        stream: u32,
        data: Bytes,
        fin: bool,
    },
    SynStream {
        stream: u32,
        fin: bool,
        unidirectional: bool,
        block: Bytes,
    },
    SynReply {
        stream: u32,
        fin: bool,
        block: Bytes,
    },
    Headers {
        stream: u32,
        fin: bool,
        block: Bytes,
    },
    RstStream {
        stream: u32,
        status: Status,
    },
    Settings(Settings),
    Ping(u32),
    GoAway {
        last: u32,
        status: u32,
    },
    WindowUpdate {
        stream: u32,
        delta: u32,
    },
}

/// The settings that mean something to us (section 2.6.4).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Settings {
    /// SETTINGS_MAX_CONCURRENT_STREAMS.
    pub(super) streams: Option<u32>,
    /// SETTINGS_INITIAL_WINDOW_SIZE.
    pub(super) window: Option<u32>,
}

impl Settings {
    pub(super) const MAX_CONCURRENT_STREAMS: u32 = 4;
    pub(super) const INITIAL_WINDOW_SIZE: u32 = 7;
}

/// Writes the header of a DATA frame; its `length` octets follow. `length` fits in 24 bits.
pub(super) fn put_data_header(out: &mut BytesMut, stream: u32, length: u32, fin: bool) {
    out.put_u32(stream);
    out.put_u32(u32::from(if fin { FLAG_FIN } else { 0 }) << 24 | length);
}

fn put_control(out: &mut BytesMut, kind: Kind, flags: u8, length: usize) {
    out.put_u16(0x8000 | VERSION);
    out.put_u16(kind as u16);
    out.put_u8(flags);
    out.put_uint(length as u64, 3);
}

/// Writes a SYN_STREAM of the lowest number of priority, which is the highest priority.
pub(super) fn put_syn_stream(out: &mut BytesMut, stream: u32, block: &[u8]) {
    put_control(out, Kind::SynStream, 0, 10 + block.len());
    out.put_u32(stream);
    // no stream it is associated to, priority 0, slot 0
    out.put_bytes(0, 6);
    out.put_slice(block);
}

/// Writes a SYN_REPLY.
pub(super) fn put_syn_reply(out: &mut BytesMut, stream: u32, block: &[u8]) {
    put_control(out, Kind::SynReply, 0, 4 + block.len());
    out.put_u32(stream);
    out.put_slice(block);
}

/// Writes a RST_STREAM.
pub(super) fn put_rst_stream(out: &mut BytesMut, stream: u32, status: Status) {
    put_control(out, Kind::RstStream, 0, 8);
    out.put_u32(stream);
    out.put_u32(status.0);
}

/// Writes a SETTINGS frame.
pub(super) fn put_settings(out: &mut BytesMut, settings: Settings) {
    let entries = [
        (Settings::MAX_CONCURRENT_STREAMS, settings.streams),
        (Settings::INITIAL_WINDOW_SIZE, settings.window),
    ];
    let present = entries.iter().filter(|(_, value)| value.is_some()).count();
    put_control(out, Kind::Settings, 0, 4 + 8 * present);
    out.put_uint(present as u64, 4);
    for (id, value) in entries {
        if let Some(value) = value {
            out.put_u32(id);
            out.put_u32(value);
        }
    }
}

/// Writes a PING.
pub(super) fn put_ping(out: &mut BytesMut, id: u32) {
    put_control(out, Kind::Ping, 0, 4);
    out.put_u32(id);
}

/// Writes a GOAWAY: `last` is the last stream of the other end that was accepted.
pub(super) fn put_go_away(out: &mut BytesMut, last: u32, status: u32) {
    put_control(out, Kind::GoAway, 0, 8);
    out.put_u32(last);
    out.put_u32(status);
}

/// Writes a WINDOW_UPDATE; stream 0 is the whole connection (SPDY/3.1).
pub(super) fn put_window_update(out: &mut BytesMut, stream: u32, delta: u32) {
    put_control(out, Kind::WindowUpdate, 0, 8);
    out.put_u32(stream);
    out.put_u32(delta);
}
