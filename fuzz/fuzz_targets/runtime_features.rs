//! What external runtimes say that they can do.
#![no_main]

use insula_oci::runtime::Features;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &[u8]| {
    if let Ok(features) = Features::parse(text) {
        let words = String::from_utf8_lossy(text);
        // Nothing is claimed that was not said, in plain words or escaped.
        assert!(!features.recursive_read_only || words.contains("rro") || words.contains("\\u"));
    }
});
