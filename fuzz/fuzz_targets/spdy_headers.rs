//! No header block makes a SPDY session panic: neither one that is compressed wrongly nor one that
//! says something wrong, and what is taken has names that can be looked up.
#![no_main]

use bytes::{BufMut as _, BytesMut};
use insula_streaming::spdy::{Event, Limits, Role, Session};
use libfuzzer_sys::fuzz_target;

/// The start of a zlib stream with the SPDY dictionary.
const ZLIB: [u8; 6] = [0x78, 0x20, 0xe3, 0xc6, 0xa7, 0xc2];

fuzz_target!(|octets: &[u8]| {
    let Some((how, block)) = octets.split_first() else {
        return;
    };
    let mut session = Session::new(Role::Server, Limits::default());
    let mut start = ZLIB.to_vec();
    for (index, part) in block.split(|octet| *octet == b'|').enumerate() {
        let mut compressed = std::mem::take(&mut start);
        if how % 2 == 0 {
            // a stored block, so that the parser is reached
            let Ok(length) = u16::try_from(part.len()) else {
                return;
            };
            compressed.put_u8(0);
            compressed.put_u16_le(length);
            compressed.put_u16_le(!length);
        }
        compressed.extend_from_slice(part);
        if !opens(&mut session, 2 * index as u32 + 1, &compressed) {
            return;
        }
    }
});

/// Whether the session goes on after a stream with this block.
fn opens(session: &mut Session, id: u32, block: &[u8]) -> bool {
    let mut frame = BytesMut::new();
    frame.put_slice(&[0x80, 3, 0, 1, 0]);
    frame.put_uint(10 + block.len() as u64, 3);
    frame.put_u32(id);
    frame.put_bytes(0, 6);
    frame.put_slice(block);
    if session.receive(&mut frame).is_err() {
        return false;
    }
    while let Some(event) = session.event() {
        let Event::Opened(opened, headers) = event else {
            continue;
        };
        assert_eq!(opened, id);
        for (name, value) in headers.iter() {
            assert_eq!(headers.get(&name.to_uppercase()).is_some(), name.is_ascii());
            assert!(value.starts_with(headers.get(name).expect("it is there")));
        }
        session.release(id);
    }
    true
}
