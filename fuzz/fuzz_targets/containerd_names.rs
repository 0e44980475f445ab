//! The database with containerd's names of images, as another runtime left it.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = insula_images::fuzzing::bolt(bytes);
});
