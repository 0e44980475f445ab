use super::{Config, Identity, Protocol};
use crate::error::{Code, Failure};
use proptest::prelude::*;
use serde_json::{Value, json};

/// A configuration with these keys, too.
fn with(more: &Value) -> Value {
    let mut conf = json!({
        "cniVersion": "1.0.0",
        "name": "net",
        "type": "insula-net",
        "ipam": {"ranges": [[{"subnet": "10.88.0.0/16"}]]},
    });
    for (key, value) in more.as_object().into_iter().flatten() {
        conf[key] = value.clone();
    }
    conf
}

fn parse(more: &Value) -> Result<Config, Failure> {
    Config::parse(with(more).to_string().as_bytes())
}

#[test]
fn defaults_are_those_of_the_reference_plugins() {
    let config = parse(&json!({})).unwrap();
    assert_eq!(config.bridge, "cni0");
    assert_eq!(
        config.identity.data_dir.to_str(),
        Some("/var/lib/cni/networks")
    );
    let flags = [
        config.is_gateway,
        config.masquerade,
        config.hairpin,
        config.isolation,
    ];
    assert_eq!(flags, [false; 4]);
    assert!(config.snat);
    let range = &config.ranges[0].0[0];
    let ends = [range.start, range.end, range.gateway].map(|address| address.to_string());
    assert_eq!(ends, ["10.88.0.1", "10.88.255.254", "10.88.0.1"]);
    assert!(config.refuse_unknown().is_ok());
}

#[test]
fn a_default_gateway_is_a_gateway() {
    let config = parse(&json!({"isDefaultGateway": true})).unwrap();
    assert!(config.is_gateway);
}

#[test]
fn what_cannot_be_had_is_refused_with_its_code() {
    let table = [
        (json!({"cniVersion": "0.2.0"}), Code::IncompatibleVersion),
        (json!({"cniVersion": null}), Code::InvalidConfiguration),
        (json!({"name": "../x"}), Code::InvalidConfiguration),
        (json!({"name": ""}), Code::InvalidConfiguration),
        (json!({"bridge": "a/b"}), Code::InvalidConfiguration),
        (json!({"mtu": 20}), Code::InvalidConfiguration),
        (json!({"mtu": "1500"}), Code::Decoding),
        (json!({"vlan": 5}), Code::UnsupportedField),
        (json!({"promiscMode": true}), Code::UnsupportedField),
        (
            json!({"conditionsV4": ["!", "-d", "x"]}),
            Code::UnsupportedField,
        ),
        (json!({"backend": "iptables"}), Code::UnsupportedField),
        (json!({"ipam": {"type": "dhcp"}}), Code::UnsupportedField),
        (
            json!({"ipam": {"dataDir": "relative"}}),
            Code::InvalidConfiguration,
        ),
        (
            json!({"ipam": {"subnet": "10.88.1.0/16"}}),
            Code::InvalidConfiguration,
        ),
        (
            json!({"ipam": {"subnet": "10.88.0.0/31"}}),
            Code::InvalidConfiguration,
        ),
        (
            json!({"ipam": {"subnet": "10.88.0.0/16", "rangeStart": "10.89.0.1"}}),
            Code::InvalidConfiguration,
        ),
        (
            json!({"ipam": {"ranges": [[]]}}),
            Code::InvalidConfiguration,
        ),
        (
            json!({"ipam": {"ranges": [[{"subnet": "10.0.0.0/24"}, {"subnet": "fd00::/64"}]]}}),
            Code::InvalidConfiguration,
        ),
        (
            json!({"ipam": {"ranges": [[{"subnet": "10.0.0.0/24"}], [{"subnet": "10.0.0.0/8"}]]}}),
            Code::InvalidConfiguration,
        ),
        (
            json!({"ipam": {"routes": [{"dst": "0.0.0.0/0", "gw": "fd00::1"}]}}),
            Code::InvalidConfiguration,
        ),
        (
            json!({"runtimeConfig": {"mac": "ff:ff:ff:ff:ff:ff"}}),
            Code::Decoding,
        ),
        (
            json!({"args": {"cni": {"ips": ["x"]}}}),
            Code::InvalidConfiguration,
        ),
        (json!({"ingressRate": 1000}), Code::InvalidConfiguration),
        (json!({"prevResult": []}), Code::Decoding),
    ];
    for (more, code) in table {
        let failure = parse(&more).map(drop).unwrap_err();
        assert_eq!(failure.code, code, "{more}: {failure}");
    }
    // Values that ask for nothing do no harm.
    let harmless = json!({"vlan": 0, "promiscMode": false, "backend": "nftables", "mtu": 0});
    assert!(parse(&harmless).is_ok());
}

#[test]
fn a_mistyped_key_is_told_but_not_a_comment() {
    let table = [
        (
            json!({"ipMask": true}),
            Some("ipMask (did you mean ipMasq?)"),
        ),
        (
            json!({"ipam": {"range": []}}),
            Some("ipam.range (did you mean ranges?)"),
        ),
        (json!({"zebra": 1}), Some("zebra")),
        (
            json!({"_comment": 1, "cni.dev/x": 1, "disableCheck": true}),
            None,
        ),
    ];
    for (more, told) in table {
        let config = parse(&more).unwrap();
        match (config.refuse_unknown(), told) {
            (Ok(()), None) => {}
            (Err(failure), Some(told)) => {
                assert_eq!(failure.code, Code::UnsupportedField);
                assert!(failure.message.contains(told), "{failure}");
            }
            (other, told) => panic!("{more}: {other:?}, not {told:?}"),
        }
        // What is told to the author does not keep a pod from being removed.
        let object = with(&more).as_object().unwrap().clone();
        assert!(Identity::parse(&object).is_ok());
    }
}

#[test]
fn capabilities_are_read() {
    let config = parse(&json!({"runtimeConfig": {
        "portMappings": [
            {"hostPort": 8080, "containerPort": 80},
            {"hostPort": 8080, "containerPort": 80, "protocol": "TCP", "hostIP": ""},
            {"hostPort": 53, "containerPort": 53, "protocol": "udp", "hostIP": "::1"},
        ],
        "bandwidth": {"ingressRate": 8000, "ingressBurst": 80000},
        "ips": ["10.88.0.9/16"],
        "mac": "c2:00:00:00:00:01",
        "ipRanges": [[{"subnet": "fd00::/64", "rangeStart": "fd00::10"}]],
        "dns": {"servers": ["10.0.0.1"], "searches": ["a.b"]},
        "somebodyElses": [1],
    }}))
    .unwrap();
    let ports: Vec<_> = config
        .ports
        .iter()
        .map(|port| (port.host_port, port.protocol))
        .collect();
    assert_eq!(ports, [(8080, Protocol::Tcp), (53, Protocol::Udp)]);
    let rate = config.bandwidth.ingress.unwrap();
    assert_eq!((rate.bytes, rate.burst), (1000, 10_000));
    assert_eq!(config.bandwidth.egress, None);
    assert_eq!(
        config.requested,
        ["10.88.0.9".parse::<std::net::IpAddr>().unwrap()]
    );
    assert_eq!(config.mac.unwrap().to_string(), "c2:00:00:00:00:01");
    // The runtime's ranges come first.
    assert_eq!(config.ranges[0].0[0].start.to_string(), "fd00::10");
    assert_eq!(config.ranges.len(), 2);
    assert_eq!(config.dns.nameservers, ["10.0.0.1"]);
    assert_eq!(config.dns.search, ["a.b"]);
}

#[test]
fn ports_and_rates_that_make_no_sense_are_refused() {
    let port = |port: Value| json!({"runtimeConfig": {"portMappings": [port]}});
    let rate = |rate: u64, burst: u64| json!({"runtimeConfig": {"bandwidth": {"egressRate": rate, "egressBurst": burst}}});
    for more in [
        port(json!({"hostPort": 0, "containerPort": 80})),
        port(json!({"hostPort": 70000, "containerPort": 80})),
        port(json!({"hostPort": 80, "containerPort": 80, "protocol": "icmp"})),
        port(json!({"hostPort": 80, "containerPort": 80, "hostIP": "localhost"})),
        rate(1000, 0),
        rate(0, 1000),
        rate(7, 80),
        rate(8000, u64::MAX),
    ] {
        assert!(parse(&more).is_err(), "{more}");
    }
    assert!(parse(&rate(8000, u64::from(u32::MAX))).is_ok());
}

proptest! {
    #[test]
    fn any_text_is_parsed_or_refused(text in ".*") {
        let _ = Config::parse(text.as_bytes());
    }

    #[test]
    fn any_range_that_is_accepted_holds_its_ends(
        subnet: [u8; 4], prefix in 0_u8..=32, start: [u8; 4], end: [u8; 4]
    ) {
        let dotted = |octets: [u8; 4]| std::net::Ipv4Addr::from(octets).to_string();
        let more = json!({"ipam": {
            "subnet": format!("{}/{prefix}", dotted(subnet)),
            "rangeStart": dotted(start), "rangeEnd": dotted(end),
        }});
        if let Ok(config) = parse(&more) {
            let range = &config.ranges[0].0[0];
            prop_assert!(range.start <= range.end);
            prop_assert!(range.contains(range.start) && range.contains(range.end));
        }
    }
}

#[test]
fn capabilities_are_read_as_containerd_sends_them() {
    let config = parse(&json!({"runtimeConfig": {
        "portMappings": [{"HostPort": 8080, "ContainerPort": 80, "Protocol": "udp", "HostIP": "127.0.0.1"}],
        "bandwidth": {"IngressRate": 8_000_000, "IngressBurst": 80_000, "EgressRate": 0, "EgressBurst": 0},
        "ipRanges": [[{"Subnet": "10.77.0.0/24", "RangeStart": "10.77.0.9", "RangeEnd": "", "Gateway": ""}]],
        "dns": {"Servers": ["10.0.0.1"], "Searches": ["here"], "Options": ["ndots:5"]},
    }}))
    .unwrap();
    let port = config.ports[0];
    assert_eq!((port.host_port, port.container_port), (8080, 80));
    assert_eq!(port.protocol, Protocol::Udp);
    assert_eq!(port.host_ip, Some("127.0.0.1".parse().unwrap()));
    assert!(config.bandwidth.ingress.is_some() && config.bandwidth.egress.is_none());
    let range = &config.ranges[0].0[0];
    let ends = [range.start, range.end, range.gateway].map(|address| address.to_string());
    assert_eq!(ends, ["10.77.0.9", "10.77.0.254", "10.77.0.1"]);
    assert_eq!(config.dns.nameservers, ["10.0.0.1"]);
    assert_eq!(config.dns.search, ["here"]);
    assert_eq!(config.dns.options, ["ndots:5"]);
}
