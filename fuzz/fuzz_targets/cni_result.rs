//! Results of CNI plugins: whatever a plugin writes is parsed or refused.
#![no_main]

use insula_network::{CniResult, CniVersion, INTERFACE, IpPreference};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    for asked in CniVersion::ALL {
        if let Ok(result) = CniResult::parse(bytes, asked) {
            let ips = result.pod_ips(INTERFACE, IpPreference::Ipv4);
            assert!(ips.len() <= result.ips.len());
            assert!(ips.is_sorted_by_key(std::net::IpAddr::is_ipv6));
            // What is kept is what was written, give or take the white space around it.
            assert_eq!(result.raw.get().as_bytes(), bytes.trim_ascii());
        }
    }
});
