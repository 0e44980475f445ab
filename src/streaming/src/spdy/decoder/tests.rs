use proptest::prelude::*;

use super::*;
use crate::spdy::frame::{
    put_data_header, put_go_away, put_ping, put_rst_stream, put_settings, put_syn_reply,
    put_syn_stream, put_window_update,
};

const LIMIT: usize = 16 << 10;

/// All frames of `octets`, given in pieces of these sizes, the last of which repeats. Parts of one
/// DATA frame are put together.
fn frames(octets: &[u8], pieces: &[usize]) -> Result<Vec<Frame>, SpdyError> {
    let mut decoder = Decoder::new(LIMIT);
    let (mut input, mut frames) = (BytesMut::new(), Vec::new());
    let mut open = false;
    let (mut rest, mut index) = (octets, 0);
    loop {
        while let Some(frame) = decoder.next(&mut input)? {
            match (frames.last_mut(), frame) {
                (
                    Some(Frame::Data { data, fin, .. }),
                    Frame::Data {
                        data: more,
                        fin: end,
                        ..
                    },
                ) if open => {
                    *data = [&data[..], &more].concat().into();
                    *fin = end;
                }
                (_, frame) => frames.push(frame),
            }
            open = matches!(decoder.state, State::Data { .. });
        }
        if rest.is_empty() {
            return Ok(frames);
        }
        let size = pieces[index.min(pieces.len() - 1)].clamp(1, rest.len());
        index += 1;
        input.extend_from_slice(rest.split_off(..size).expect("clamped"));
    }
}

fn syn_stream(stream: u32, block: &'static [u8]) -> Frame {
    Frame::SynStream {
        stream,
        fin: false,
        unidirectional: false,
        block: block.into(),
    }
}

fn syn_reply(stream: u32, block: &'static [u8]) -> Frame {
    Frame::SynReply {
        stream,
        fin: false,
        block: block.into(),
    }
}

fn data(stream: u32, data: &'static [u8], fin: bool) -> Frame {
    Frame::Data {
        stream,
        data: data.into(),
        fin,
    }
}

/// What tests/fixtures/client.spdy says.
fn client() -> Vec<Frame> {
    let octets = include_bytes!("../../../tests/fixtures/client.spdy");
    vec![
        syn_stream(1, &octets[0x12..0x31]),
        syn_stream(3, &octets[0x43..0x50]),
        syn_stream(5, &octets[0x62..0x71]),
        syn_stream(7, &octets[0x83..0x91]),
        data(3, b"hello\n", false),
        Frame::Ping(1),
        data(3, b"", true),
        Frame::RstStream {
            stream: 7,
            status: Status::CANCEL,
        },
        Frame::GoAway { last: 0, status: 0 },
    ]
}

#[test]
fn octets_of_the_go_client() {
    let octets = include_bytes!("../../../tests/fixtures/client.spdy");
    assert_eq!(frames(octets, &[octets.len()]).unwrap(), client());
}

#[test]
fn octets_of_the_go_server() {
    let octets = include_bytes!("../../../tests/fixtures/server.spdy");
    let expected = [
        syn_reply(1, &octets[0x0c..0x1c]),
        syn_reply(3, &octets[0x28..0x30]),
        syn_reply(5, &octets[0x3c..0x44]),
        syn_reply(7, &octets[0x50..0x58]),
        data(3, b"hello\n", false),
        Frame::Ping(1),
        data(3, b"", true),
    ];
    assert_eq!(frames(octets, &[octets.len()]).unwrap(), expected);
}

#[test]
fn what_is_written_is_what_is_read() {
    let settings = Settings {
        streams: Some(9),
        window: Some(70_000),
    };
    let mut octets = BytesMut::new();
    put_syn_stream(&mut octets, 1, b"block");
    put_syn_reply(&mut octets, 2, b"");
    put_rst_stream(&mut octets, MAXIMUM_31_BITS, Status(77));
    put_settings(&mut octets, settings);
    put_ping(&mut octets, u32::MAX);
    put_go_away(&mut octets, 5, 1);
    put_window_update(&mut octets, 0, MAXIMUM_31_BITS);
    put_data_header(&mut octets, 3, 2, true);
    octets.extend_from_slice(b"ab");
    let expected = [
        syn_stream(1, b"block"),
        syn_reply(2, b""),
        Frame::RstStream {
            stream: MAXIMUM_31_BITS,
            status: Status(77),
        },
        Frame::Settings(settings),
        Frame::Ping(u32::MAX),
        Frame::GoAway { last: 5, status: 1 },
        Frame::WindowUpdate {
            stream: 0,
            delta: MAXIMUM_31_BITS,
        },
        data(3, b"ab", true),
    ];
    assert_eq!(frames(&octets, &[octets.len()]).unwrap(), expected);
}

#[test]
fn frames_that_are_wrong() {
    let cases: &[(&[u8], &str)] = &[
        (b"\0\0\0\0\0\0\0\x01x", "a SPDY DATA frame is for stream 0"),
        (
            b"\x80\x02\0\x06\0\0\0\x04\0\0\0\x01",
            "a SPDY frame of version 2: this end speaks version 3",
        ),
        (b"GET / HTTP/1.1\r\n", ""),
        (
            b"\x80\x03\0\x06\0\0\0\x05\0\0\0\x01\0",
            "a SPDY PING frame has 5 octets instead of 4",
        ),
        (
            b"\x80\x03\0\x01\0\0\0\x04\0\0\0\x01",
            "a SPDY SYN_STREAM frame has 4 octets instead of 10",
        ),
        (
            b"\x80\x03\0\x02\0\0\0\x04\x80\0\0\0",
            "a SPDY SYN_REPLY frame is for stream 0",
        ),
        (
            b"\x80\x03\0\x08\0\0\x40\x01",
            "a SPDY HEADERS frame of 16385 octets: at most 16384 are taken",
        ),
        (
            b"\x80\x03\0\x04\0\0\0\x0c\0\0\0\x02\0\0\0\x07\0\0\0\x01",
            "a SPDY SETTINGS frame has 8 octets for 2 settings",
        ),
        (
            b"\x80\x03\0\x04\0\0\0\x0c\0\0\0\x01\0\0\0\x07\x80\0\0\0",
            "a SPDY SETTINGS frame asks for a window of 2147483648",
        ),
    ];
    for (octets, expected) in cases {
        match frames(octets, &[octets.len()]) {
            Err(error) => assert_eq!(error.to_string(), *expected, "{octets:?}"),
            // text is a DATA frame of a high stream: nothing in the frame itself is wrong
            Ok(_) => assert_eq!("", *expected, "{octets:?}"),
        }
    }
}

#[test]
fn frames_that_say_nothing_are_passed_over() {
    let octets = b"\x80\x03\0\x0a\0\0\0\x03abc\x80\x03\xff\xff\x07\0\0\0\
        \0\0\0\x05\0\0\0\0\x80\x03\0\x06\0\0\0\x04\0\0\0\x02";
    assert_eq!(frames(octets, &[octets.len()]).unwrap(), [Frame::Ping(2)]);
}

proptest! {
    #[test]
    fn pieces_do_not_matter(pieces in prop::collection::vec(1_usize..20, 1..40)) {
        let octets = include_bytes!("../../../tests/fixtures/client.spdy");
        prop_assert_eq!(frames(octets, &pieces).unwrap(), client());
    }

    #[test]
    fn any_octets_in_any_pieces_are_the_same_frames(
        octets in prop::collection::vec(prop_oneof![Just(0), Just(3), Just(0x80), any::<u8>()], 0..200),
        pieces in prop::collection::vec(1_usize..20, 1..40),
    ) {
        let whole = frames(&octets, &[octets.len()]).map_err(|error| error.to_string());
        let parts = frames(&octets, &pieces).map_err(|error| error.to_string());
        prop_assert_eq!(whole, parts);
    }
}
