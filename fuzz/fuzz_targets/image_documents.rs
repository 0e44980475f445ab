//! What a registry sends: manifests, configurations, challenges; and `hosts.toml`.
#![no_main]

use insula_images::{Document, ImageConfig, fuzzing};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = Document::parse(bytes, None, "document");
    let _ = ImageConfig::parse(bytes);
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = fuzzing::challenge(text);
        let _ = fuzzing::hosts_toml(text);
    }
});
