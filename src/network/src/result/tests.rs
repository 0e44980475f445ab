use insula_cni::CniVersion::{self, V0_3_1, V0_4_0, V1_0_0, V1_1_0};
use proptest::prelude::*;

use super::CniResult;
use crate::config::IpPreference;

fn parse(text: &str, asked: CniVersion) -> Result<CniResult, String> {
    CniResult::parse(text.as_bytes(), asked)
}

const DUAL: &str = r#"{"cniVersion":"1.0.0","interfaces":[{"name":"br"},{"name":"eth0","mac":"0a:00","sandbox":"/n"}],
 "ips":[{"address":"fd00::2/64","interface":1},{"address":"10.1.0.2/16","gateway":"10.1.0.1","interface":1},
        {"address":"10.1.0.1/16","interface":0}],
 "routes":[{"dst":"0.0.0.0/0","mtu":1.50}],"dns":{},"x-own":{"n":12345678901234567890123}}"#;

#[test]
fn the_pods_addresses_are_those_of_its_interface() {
    let result = parse(DUAL, V1_0_0).unwrap();
    for (preference, expected) in [
        (IpPreference::Ipv4, ["10.1.0.2", "fd00::2"]),
        (IpPreference::Ipv6, ["fd00::2", "10.1.0.2"]),
        (IpPreference::AsGiven, ["fd00::2", "10.1.0.2"]),
    ] {
        let ips: Vec<_> = result
            .pod_ips("eth0", preference)
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(ips, expected, "{preference:?}");
    }
    assert!(result.pod_ips("eth1", IpPreference::Ipv4).is_empty());
    for (interfaces, expected) in [
        (r#"[{"name":"eth0"},{"name":"x"}]"#, 1),
        (r#"[{"name":"eth0"},{"name":"eth0","sandbox":"/n"}]"#, 0),
        (r#"[{"name":"cni0"},{"name":"eth0","sandbox":"/n"}]"#, 0),
    ] {
        let text = format!(
            r#"{{"interfaces":{interfaces},"ips":[{{"address":"10.0.0.2/8","interface":0}}]}}"#
        );
        let ips = parse(&text, V1_0_0)
            .unwrap()
            .pod_ips("eth0", IpPreference::Ipv4);
        assert_eq!(ips.len(), expected, "{interfaces}");
    }
    let plain = parse(r#"{"ips":[{"address":"10.0.0.2/8"}]}"#, V0_4_0).unwrap();
    assert_eq!(plain.pod_ips("eth0", IpPreference::Ipv4).len(), 1);
}

#[test]
fn unusable_results_say_why() {
    for (text, why) in [
        ("", "no result"),
        (" \n", "no result"),
        ("null", "a JSON object"),
        ("[]", "a JSON object"),
        ("{", "EOF"),
        ("{} {}", "trailing"),
        (
            r#"{"cniVersion":"0.2.0","ip4":{"ip":"10.0.0.2/8"}}"#,
            "\"0.2.0\" is not supported",
        ),
        (r#"{"cniVersion":"9.0.0"}"#, "\"9.0.0\" is not supported"),
        (r#"{"ips":[{}]}"#, "missing field `address`"),
        (
            r#"{"ips":[{"address":"10.0.0.2"}]}"#,
            "not an address range",
        ),
        (
            r#"{"ips":[{"address":"10.0.0.2/33"}]}"#,
            "not an address range",
        ),
        (
            r#"{"ips":[{"address":"10.0.0.2/8","interface":0}]}"#,
            "names interface 0 of 0",
        ),
        (
            r#"{"interfaces":[{"name":"a"}],"ips":[{"address":"10.0.0.2/8","interface":-1}]}"#,
            "names interface -1 of 1",
        ),
        (r#"{"ips":7}"#, "key \"ips\""),
    ] {
        let error = parse(text, V1_0_0).unwrap_err();
        assert!(error.contains(why), "{text}: {error}");
    }
    for good in [
        "{}",
        r#"{"ips":null,"interfaces":null}"#,
        r#"{"cniVersion":""}"#,
    ] {
        assert_eq!(parse(good, V0_3_1).unwrap().version, V0_3_1, "{good}");
    }
}

#[test]
fn a_result_in_the_right_version_passes_byte_for_byte() {
    let previous = parse(DUAL, V1_0_0).unwrap().for_version(V1_0_0).unwrap();
    assert_eq!(previous.get(), DUAL);
}

#[test]
fn results_are_converted_between_versions() {
    for (from, asked, to, expected) in [
        // The version that a plugin left out is added.
        (
            r#"{"ips":[]}"#,
            V0_4_0,
            V0_4_0,
            r#"{"ips":[],"cniVersion":"0.4.0"}"#,
        ),
        (
            r#"{"cniVersion":"1.0.0","k":1.0}"#,
            V1_1_0,
            V1_1_0,
            r#"{"cniVersion":"1.1.0","k":1.0}"#,
        ),
        (
            r#"{"cniVersion":"1.0.0","ips":[{"address":"10.0.0.2/8","x":1.0},{"address":"fd00::2/64"}]}"#,
            V0_3_1,
            V0_3_1,
            r#"{"cniVersion":"0.3.1","ips":[{"address":"10.0.0.2/8","x":1.0,"version":"4"},{"address":"fd00::2/64","version":"6"}]}"#,
        ),
        (
            r#"{"cniVersion":"0.4.0","ips":[{"version":"4","address":"10.0.0.2/8"}]}"#,
            V1_0_0,
            V1_0_0,
            r#"{"cniVersion":"1.0.0","ips":[{"address":"10.0.0.2/8"}]}"#,
        ),
    ] {
        let result = parse(from, asked).unwrap();
        assert_eq!(result.for_version(to).unwrap().get(), expected);
    }
}

proptest! {
    #[test]
    fn any_bytes_are_parsed_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = CniResult::parse(&bytes, V1_0_0);
    }

    #[test]
    fn every_accepted_result_converts_and_keeps_its_addresses(
        from in 0..CniVersion::ALL.len(),
        to in 0..CniVersion::ALL.len(),
        ips in proptest::collection::vec((any::<std::net::IpAddr>(), 0_u8..=32, proptest::option::of(0_usize..3)), 0..5),
    ) {
        let ips: Vec<_> = ips
            .iter()
            .map(|(address, prefix, interface)| match interface {
                Some(index) => format!(r#"{{"address":"{address}/{prefix}","interface":{index}}}"#),
                None => format!(r#"{{"address":"{address}/{prefix}"}}"#),
            })
            .collect();
        let (from, to) = (CniVersion::ALL[from], CniVersion::ALL[to]);
        let text = format!(
            r#"{{"cniVersion":"{from}","interfaces":[{{"name":"a"}},{{"name":"eth0","sandbox":"/n"}}],"ips":[{}]}}"#,
            ips.join(",")
        );
        match parse(&text, from) {
            Err(why) => prop_assert!(why.contains("names interface 2 of 2"), "{}", why),
            Ok(result) => {
                let converted = result.for_version(to).unwrap();
                let again = parse(converted.get(), V0_3_1).unwrap();
                prop_assert_eq!(again.version, to);
                prop_assert_eq!(&again.ips, &result.ips);
                prop_assert_eq!(again.pod_ips("eth0", IpPreference::Ipv4), result.pod_ips("eth0", IpPreference::Ipv4));
            }
        }
    }
}
