use std::collections::BTreeMap;

use proptest::prelude::*;

use super::{
    Attachment, Bandwidth, Dns, PodIdentity, PortMapping, Protocol, SandboxId, capability_args,
    cni_args, parse_cidrs, quantity,
};
use crate::conf::NetworkConf;

#[test]
fn quantities() {
    for (text, expected) in [
        ("0", Some(0)),
        ("10M", Some(10_000_000)),
        ("10Mi", Some(10_485_760)),
        ("1.5Gi", Some(1_610_612_736)),
        ("+2e3", Some(2_000)),
        ("2E3", Some(2_000)),
        ("1E", Some(1_000_000_000_000_000_000)),
        ("1500m", Some(2)),
        ("1n", Some(1)),
        (".5k", Some(500)),
        ("5.", Some(5)),
        ("1.10", Some(2)),
        ("000000000000000000000007", Some(7)),
        ("20E", None),
        ("16Ei", None),
        ("", None),
        (".", None),
        ("1.2.3", None),
        ("-1", None),
        ("k", None),
        ("1K", None),
        ("1e99", None),
        ("1 M", None),
        ("9999999999999999999", None),
    ] {
        assert_eq!(quantity::parse(text), expected, "{text:?}");
    }
}

#[test]
fn bandwidth_comes_from_annotations() {
    let of = |pairs: &[(&str, &str)]| {
        let annotations: BTreeMap<_, _> = pairs
            .iter()
            .map(|(key, value)| {
                (
                    format!("kubernetes.io/{key}-bandwidth"),
                    (*value).to_owned(),
                )
            })
            .collect();
        Bandwidth::from_annotations(&annotations)
    };
    assert_eq!(of(&[]).unwrap(), None);
    let one = of(&[("ingress", "1M")]).unwrap().unwrap();
    assert_eq!(
        serde_json::to_string(&one).unwrap(),
        r#"{"ingressRate":1000000,"ingressBurst":4294967295}"#
    );
    let both = of(&[("ingress", "1M"), ("egress", "2Gi")])
        .unwrap()
        .unwrap();
    assert_eq!(both.egress_rate, Some(2 << 30));
    for bad in ["999", "2P", "fast", ""] {
        let error = of(&[("egress", bad)]).unwrap_err().to_string();
        assert!(error.contains("kubernetes.io/egress-bandwidth"), "{error}");
    }
}

#[test]
fn address_ranges() {
    assert_eq!(parse_cidrs("").unwrap().len(), 0);
    assert_eq!(parse_cidrs("10.1.0.0/24, fd00::/64").unwrap().len(), 2);
    assert!(parse_cidrs("10.1.0.0/24,x").is_err());
}

#[test]
fn sandbox_ids_are_file_names() {
    for good in ["0123abcdef", "a", "A_b.c-d"] {
        assert!(SandboxId::parse(good).is_ok(), "{good:?}");
    }
    for bad in [
        "",
        ".hidden",
        "../x",
        "a/b",
        "-a",
        "a b",
        "a\0",
        "é",
        &"a".repeat(201),
    ] {
        assert!(SandboxId::parse(bad).is_err(), "{bad:?}");
    }
}

#[test]
fn arguments_cannot_be_smuggled_in() {
    let id = SandboxId::parse("abc").unwrap();
    let pod = PodIdentity {
        namespace: "default".into(),
        name: "web".into(),
        uid: "u-1".into(),
    };
    assert_eq!(
        cni_args(&id, &pod).unwrap(),
        "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web;\
         K8S_POD_INFRA_CONTAINER_ID=abc;K8S_POD_UID=u-1"
    );
    for bad in ["a;K8S_POD_NAME=root", "a=b", "a\nb"] {
        let pod = PodIdentity {
            name: bad.into(),
            ..pod.clone()
        };
        assert!(cni_args(&id, &pod).is_err(), "{bad:?}");
    }
}

#[test]
fn capabilities_are_given_where_declared() {
    let attachment = Attachment {
        container_id: "abc".into(),
        netns: "/proc/self/ns/net".into(),
        pod: PodIdentity::default(),
        port_mappings: vec![
            PortMapping {
                host_port: 0,
                container_port: 1,
                protocol: Protocol::Tcp,
                host_ip: None,
            },
            PortMapping {
                host_port: 8080,
                container_port: 80,
                protocol: Protocol::Tcp,
                host_ip: None,
            },
            PortMapping {
                host_port: 53,
                container_port: 53,
                protocol: Protocol::Udp,
                host_ip: Some("127.0.0.1".parse().unwrap()),
            },
            PortMapping {
                host_port: 9,
                container_port: 9,
                protocol: Protocol::Sctp,
                host_ip: None,
            },
        ],
        bandwidth: None,
        dns: Some(Dns {
            servers: vec!["10.0.0.10".into()],
            ..Dns::default()
        }),
        cgroup_path: Some("/kubepods/pod1".into()),
        annotations: BTreeMap::from([("a".to_owned(), "b".to_owned())]),
    };
    let cidrs = parse_cidrs("10.1.0.0/24,fd00::/64").unwrap();
    let args = |capabilities: &str| {
        let text = format!(
            r#"{{"cniVersion":"1.0.0","name":"n","plugins":[{{"type":"a","capabilities":{capabilities}}}]}}"#
        );
        let conf = NetworkConf::parse_list(text.as_bytes(), |_| Ok(Vec::new())).unwrap();
        serde_json::to_string(&capability_args(&attachment, &cidrs, &conf).unwrap()).unwrap()
    };
    for (capability, expected) in [
        (
            "portMappings",
            r#"[{"hostPort":8080,"containerPort":80,"protocol":"tcp"},{"hostPort":53,"containerPort":53,"protocol":"udp","hostIP":"127.0.0.1"},{"hostPort":9,"containerPort":9,"protocol":"sctp"}]"#,
        ),
        (
            "dns",
            r#"{"servers":["10.0.0.10"],"searches":[],"options":[]}"#,
        ),
        ("cgroupPath", r#""/kubepods/pod1""#),
        (
            "ipRanges",
            r#"[[{"subnet":"10.1.0.0/24"}],[{"subnet":"fd00::/64"}]]"#,
        ),
        ("io.kubernetes.cri.pod-annotations", r#"{"a":"b"}"#),
    ] {
        assert_eq!(
            args(&format!(r#"{{"{capability}":true}}"#)),
            format!(r#"{{"{capability}":{expected}}}"#)
        );
    }
    assert_eq!(
        args(r#"{"bandwidth":true,"unknown":true,"dns":false}"#),
        "{}"
    );
}

proptest! {
    #[test]
    fn any_text_is_a_quantity_or_not(text in "\\PC{0,40}") {
        let _ = quantity::parse(&text);
    }

    #[test]
    fn whole_numbers_are_themselves(number in 0_u64..1_000_000_000_000_000) {
        prop_assert_eq!(quantity::parse(&number.to_string()), Some(number));
        prop_assert_eq!(quantity::parse(&format!("{number}000m")), Some(number));
    }

    #[test]
    fn arguments_keep_their_number(namespace in "\\PC{0,20}", name in "\\PC{0,20}", uid in "\\PC{0,20}") {
        let id = SandboxId::parse("abc").unwrap();
        if let Ok(args) = cni_args(&id, &PodIdentity { namespace, name, uid }) {
            prop_assert_eq!(args.split(';').count(), 5);
            prop_assert!(args.split(';').all(|pair| pair.matches('=').count() == 1));
        }
    }
}
