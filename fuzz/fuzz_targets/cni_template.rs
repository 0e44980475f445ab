//! Templates of CNI configurations: whatever a node's administrator writes is rendered, or refused by
//! its line. `seeds/cni_template` holds one as containerd's users have it.
#![no_main]

use insula_network::{Cidr, render_template};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|template: &str| {
    let ranges = [("10.1.0.0", 24), ("fd00:1::", 64)].map(|(address, prefix)| Cidr {
        address: address.parse().unwrap(),
        prefix,
    });
    for ranges in [&ranges[..], &ranges[..1]] {
        match render_template(template, ranges) {
            // What has no action is as it was.
            Ok(text) => assert!(template.contains("{{") || text == template),
            Err(why) => assert!(why.starts_with("line ") || why.starts_with("it becomes more")),
        }
    }
    assert!(render_template(template, &[]).is_err());
});
