//! No octets of a peer make a SPDY session panic or keep more than its limits allow, whatever is
//! done with its streams meanwhile.
#![no_main]

use bytes::{BufMut as _, Bytes, BytesMut};
use insula_streaming::spdy::{Batch, Event, Limits, Received, Role, Session};
use libfuzzer_sys::arbitrary::{Result, Unstructured};
use libfuzzer_sys::fuzz_target;

const LIMITS: fn() -> Limits = || Limits {
    streams: 8,
    headers: 1024,
    window: 2000,
    buffer: 5000,
    ..Limits::default()
};

/// What one read gives to a session at most.
const PIECE: usize = 500;

/// A chunk of one octet costs this much more; a piece may hold one in nine octets.
const BOUND: usize = 5000 + PIECE * 65;

fuzz_target!(|script: &[u8]| {
    let _ = play(&mut Unstructured::new(script));
});

fn play(script: &mut Unstructured<'_>) -> Result<()> {
    let role = *script.choose(&[Role::Server, Role::Client])?;
    let mut session = Session::new(role, LIMITS());
    let (mut input, mut streams) = (BytesMut::new(), Vec::new());
    let mut peer = Peer::default();
    while !script.is_empty() {
        let id = match streams.is_empty() {
            true => 1,
            false => *script.choose(&streams)?,
        };
        match script.int_in_range(0..=12)? {
            0 => {
                let _ = session.write(id, Bytes::from(vec![0; script.int_in_range(0..=3000)?]));
            }
            1 => session.finish(id),
            2 => {
                session.release(id);
                streams.retain(|known| *known != id);
            }
            3 => {
                while let Ok(Received::Data(chunk)) = session.read(id) {
                    assert!(!chunk.is_empty());
                }
            }
            4 => streams.extend(session.open(&[("streamtype", "data")])),
            5 => session.close(),
            6 | 7 => {
                let mut batch = Batch::default();
                session.transmit(&mut batch, script.int_in_range(0..=4000)?);
                assert!(batch.segments.iter().all(|segment| !segment.is_empty()));
            }
            kind if session.wants_input() => {
                match kind {
                    8 => peer.opens(&mut input),
                    9 => {
                        let fin = script.arbitrary()?;
                        let length = script.int_in_range(0..=PIECE - 8)?;
                        Peer::sends(id, length, fin, &mut input);
                    }
                    10 => {
                        let delta = script.arbitrary()?;
                        let stream = script.int_in_range(0..=1)? * id;
                        Peer::allows(stream, delta, &mut input);
                    }
                    _ => {
                        let length = script.int_in_range(1..=PIECE)?.min(script.len());
                        input.extend_from_slice(script.bytes(length)?);
                    }
                }
                if session.receive(&mut input).is_err() {
                    break;
                }
            }
            _ => {}
        }
        while let Some(event) = session.event() {
            if let Event::Opened(id, _) = event {
                streams.push(id);
            }
        }
        assert!(session.buffered() <= BOUND, "{} octets", session.buffered());
    }
    // whatever happened, the session comes to its end and forgets everything
    for id in streams {
        session.release(id);
    }
    session.lose();
    assert!(session.is_closed() && session.buffered() == 0);
    Ok(())
}

/// Frames that are right, which a fuzzer does not find by itself.
#[derive(Default)]
struct Peer {
    streams: u32,
}

impl Peer {
    /// SYN_STREAM with an empty header block, in the zlib stream that the first one begins.
    fn opens(&mut self, out: &mut BytesMut) {
        const BLOCK: [u8; 20] = [
            0x78, 0x20, 0xe3, 0xc6, 0xa7, 0xc2, 0, 4, 0, 0xfb, 0xff, 0, 0, 0, 0, 0, 0, 0, 0xff,
            0xff,
        ];
        let block = if self.streams == 0 {
            &BLOCK
        } else {
            &BLOCK[6..]
        };
        out.put_slice(&[0x80, 3, 0, 1, 0]);
        out.put_uint(10 + block.len() as u64, 3);
        out.put_u32(2 * self.streams + 1);
        out.put_bytes(0, 6);
        out.put_slice(block);
        self.streams += 1;
    }

    fn sends(stream: u32, length: usize, fin: bool, out: &mut BytesMut) {
        out.put_u32(stream);
        out.put_u8(fin.into());
        out.put_uint(length as u64, 3);
        out.put_bytes(1, length);
    }

    fn allows(stream: u32, delta: u32, out: &mut BytesMut) {
        out.put_slice(&[0x80, 3, 0, 9, 0, 0, 0, 8]);
        out.put_u32(stream);
        out.put_u32(delta);
    }
}
