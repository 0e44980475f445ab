//! Files of the kernel that measurements are read from.
#![no_main]

use insula_isolators::details::{parse_v1, parse_v2};
use insula_isolators::pressure;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (String, String)| {
    let (one, other) = input;
    if let Some(found) = pressure::parse(&one) {
        assert!(found.some.avg10.is_finite() && found.full.avg300.is_finite());
    }
    for devices in [parse_v1(&one, &other), parse_v2(&one)] {
        // Each device once, in order.
        assert!(devices.windows(2).all(|two| two[0].device < two[1].device));
    }
});
