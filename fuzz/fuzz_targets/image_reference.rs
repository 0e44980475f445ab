//! Image references and names of tar entries: what is accepted stays inside its URL or layer.
#![no_main]

use insula_images::{EntryPath, Platform, Reference};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(path) = EntryPath::parse(bytes) {
        let mut parts = path.as_bytes().split(|byte| *byte == b'/');
        assert!(path.is_root() || parts.all(|part| !part.is_empty() && part != b"." && part != b".."));
    }
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let _ = text.parse::<Platform>();
    if let Ok(reference) = text.parse::<Reference>() {
        assert_eq!(reference.to_string().parse::<Reference>().ok(), Some(reference.clone()));
        assert!(!reference.repository().contains(".."));
    }
});
