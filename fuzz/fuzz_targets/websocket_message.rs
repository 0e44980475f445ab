//! What a WebSocket client of an exec or attach sends: messages of channels, and terminal sizes.
#![no_main]

use insula_streaming::fuzzing::{Sizes, websocket_message};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|pieces: Vec<Vec<u8>>| {
    let mut sizes = Some(Sizes::default());
    for piece in &pieces {
        websocket_message(piece);
        // The stream ends with the first thing in it that is no size.
        let read = sizes.as_mut().map(|sizes| sizes.push(piece));
        match read {
            Some(Ok(Some(size))) => assert!(size.columns > 0 && size.rows > 0),
            Some(Err(_)) => sizes = None,
            Some(Ok(None)) | None => {}
        }
    }
});
