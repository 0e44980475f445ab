//! The daemon's configuration: whatever a file holds, reading it ends with a configuration or with
//! an error that names a line of it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::path::Path;

#[allow(dead_code, unused_imports, reason = "the daemon uses the rest")]
#[path = "../../src/insula/src/serve/config/mod.rs"]
mod config;

fuzz_target!(|text: &str| {
    let mut read = config::Config::default();
    match config::apply(&mut read, Path::new("c.toml"), text) {
        Ok(()) => {
            let printed = toml::to_string(&read).expect("a configuration can be printed");
            let mut again = config::Config::default();
            config::apply(&mut again, Path::new("c.toml"), &printed).expect(&printed);
            assert_eq!(again, read);
        }
        Err(error) => {
            let line: usize = error
                .to_string()
                .strip_prefix("c.toml:")
                .and_then(|rest| rest.split(':').next())
                .and_then(|line| line.parse().ok())
                .expect("a line");
            assert!(line >= 1 && line <= text.split('\n').count());
        }
    }
});
