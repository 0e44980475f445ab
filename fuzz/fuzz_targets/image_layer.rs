//! Tar archives of layers: read to their end or refused.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = insula_images::fuzzing::tar(bytes);
});
