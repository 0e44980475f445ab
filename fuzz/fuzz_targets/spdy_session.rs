//! No octets of a peer make a SPDY session panic or keep more than its limits allow, whatever is
//! done with its streams meanwhile.
#![no_main]

use bytes::{Bytes, BytesMut};
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
            _ if session.wants_input() => {
                let length = script.int_in_range(1..=PIECE)?.min(script.len());
                input.extend_from_slice(script.bytes(length)?);
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
