//! The configuration of `insula-net`: whatever a runtime sends is read or refused with an error that
//! is an error object of CNI.
#![no_main]

use insula_net::{Command, Config};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (&[u8], &str)| {
    let (configuration, arguments) = input;
    if let Err(failure) = Config::parse(configuration) {
        assert!(failure.code.number() > 0 && !failure.message.is_empty());
        assert!(failure.to_json("1.1.0").starts_with('{'), "{failure}");
    }
    let _ = Command::parse(|name| match name {
        "CNI_COMMAND" => Some("DEL".to_owned()),
        "CNI_CONTAINERID" => Some("c1".to_owned()),
        "CNI_IFNAME" => Some("eth0".to_owned()),
        "CNI_ARGS" => Some(arguments.to_owned()),
        _ => None,
    });
});
