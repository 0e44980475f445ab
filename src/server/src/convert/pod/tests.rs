use super::{from_cri, metadata_to_cri};
use insula_cri_api::v1::{
    DnsConfig, LinuxContainerResources, LinuxPodSandboxConfig, LinuxSandboxSecurityContext,
    NamespaceOption, PodSandboxConfig, PodSandboxMetadata, PortMapping, SecurityProfile,
};
use insula_isolators::spec::{NamespaceMode, PortProtocol};

fn config() -> PodSandboxConfig {
    PodSandboxConfig {
        metadata: Some(PodSandboxMetadata {
            name: "web".into(),
            uid: "u-1".into(),
            namespace: "default".into(),
            attempt: 2,
        }),
        ..PodSandboxConfig::default()
    }
}

fn linux(config: &mut PodSandboxConfig) -> &mut LinuxPodSandboxConfig {
    config.linux.get_or_insert_default()
}

#[test]
fn the_least_a_client_may_send_is_enough() {
    let spec = from_cri(config(), String::new()).unwrap();
    assert_eq!(Some(metadata_to_cri(&spec.metadata)), config().metadata);
    assert_eq!(spec.dns, None);
    assert_eq!(spec.log_directory, "");
    assert_eq!(spec.namespaces.network, NamespaceMode::Pod);
    assert!(!spec.privileged);
}

#[test]
fn what_kubelet_sends_for_every_pod_is_taken() {
    let message = PodSandboxConfig {
        hostname: "web".into(),
        log_directory: "/var/log/pods/default_web_u-1".into(),
        dns_config: Some(DnsConfig::default()),
        port_mappings: vec![PortMapping {
            protocol: 1,
            container_port: 53,
            host_port: 5353,
            host_ip: "::1".into(),
        }],
        labels: [("a\0b".to_owned(), "ünïcode".to_owned())].into(),
        annotations: [("k".to_owned(), String::new())].into(),
        linux: Some(LinuxPodSandboxConfig {
            cgroup_parent: "/kubepods/pod1".into(),
            security_context: Some(LinuxSandboxSecurityContext {
                namespace_options: Some(NamespaceOption {
                    network: 2,
                    pid: 1,
                    ..NamespaceOption::default()
                }),
                privileged: true,
                seccomp: Some(SecurityProfile::default()),
                ..LinuxSandboxSecurityContext::default()
            }),
            sysctls: [("net.ipv4.conf.eth0/1.rp_filter".to_owned(), "1".to_owned())].into(),
            overhead: Some(LinuxContainerResources {
                cpu_shares: 10,
                ..LinuxContainerResources::default()
            }),
            resources: None,
        }),
        ..config()
    };
    let spec = from_cri(message.clone(), "native".into()).unwrap();
    assert_eq!(spec.labels, message.labels);
    assert_eq!(spec.annotations, message.annotations);
    assert_eq!(spec.dns, Some(insula_isolators::spec::Dns::default()));
    assert_eq!(spec.port_mappings[0].protocol, PortProtocol::Udp);
    assert_eq!(spec.namespaces.network, NamespaceMode::Node);
    assert_eq!(spec.namespaces.pid, NamespaceMode::Container);
    assert_eq!(spec.overhead.unwrap().cpu_shares, 10);
    assert!(spec.privileged);
    assert_eq!(spec.runtime_handler, "native");
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn each_bad_field_is_named() {
    type Change = fn(&mut PodSandboxConfig);
    let cases: &[(Change, &str)] = &[
        (|c| c.metadata = None, "metadata: is missing"),
        (
            |c| c.metadata.as_mut().unwrap().name.clear(),
            "metadata.name: is empty",
        ),
        (
            |c| c.metadata.as_mut().unwrap().namespace = "a/b".into(),
            "metadata.namespace: \"a/b\" is a path, not a name",
        ),
        (
            |c| c.metadata.as_mut().unwrap().uid = "x".repeat(254),
            "metadata.uid: is 254 bytes long, at most 253 are allowed",
        ),
        (
            |c| c.hostname = "a".repeat(65),
            "hostname: is 65 bytes long, at most 64 are allowed",
        ),
        (
            |c| c.hostname = "a\nb".into(),
            "hostname: \"a\\nb\" is not a host name",
        ),
        (
            |c| c.log_directory = "logs".into(),
            "log_directory: \"logs\" is relative, an absolute path is expected",
        ),
        (
            |c| {
                c.dns_config = Some(DnsConfig {
                    servers: vec!["1.1.1.1".into(), "1\nsearch evil".into()],
                    ..DnsConfig::default()
                });
            },
            "dns_config.servers[1]: \"1\\nsearch evil\" holds a line break or a control character",
        ),
        (
            |c| {
                c.port_mappings = vec![PortMapping {
                    host_port: 65_536,
                    container_port: 80,
                    ..PortMapping::default()
                }];
            },
            "port_mappings[0].host_port: 65536 is not a port between 0 and 65535",
        ),
        (
            |c| {
                c.port_mappings = vec![PortMapping {
                    host_port: 80,
                    ..PortMapping::default()
                }];
            },
            "port_mappings[0].container_port: is 0, but `host_port` leads to it",
        ),
        (
            |c| {
                c.port_mappings = vec![PortMapping {
                    host_ip: "localhost".into(),
                    container_port: 80,
                    ..PortMapping::default()
                }];
            },
            "port_mappings[0].host_ip: \"localhost\" is not an IP address",
        ),
        (
            |c| linux(c).cgroup_parent = "/a/../..".into(),
            "linux.cgroup_parent: \"/a/../..\" holds `..`, write the path that is meant",
        ),
        (
            |c| {
                linux(c).sysctls.insert("kernel/../x".into(), "1".into());
            },
            "linux.sysctls: \"kernel/../x\" is not a name such as \"kernel.shm_rmid_forced\"",
        ),
        (
            |c| {
                linux(c).security_context = Some(LinuxSandboxSecurityContext {
                    namespace_options: Some(NamespaceOption {
                        ipc: 1,
                        ..NamespaceOption::default()
                    }),
                    ..LinuxSandboxSecurityContext::default()
                });
            },
            "linux.security_context.namespace_options.ipc: CONTAINER is not possible, only POD \
             and NODE are",
        ),
        (
            |c| {
                linux(c).security_context = Some(LinuxSandboxSecurityContext {
                    supplemental_groups_policy: 9,
                    ..LinuxSandboxSecurityContext::default()
                });
            },
            "linux.security_context.supplemental_groups_policy: 9 is not a value of enum \
             SupplementalGroupsPolicy",
        ),
    ];
    for (change, want) in cases {
        let mut message = config();
        change(&mut message);
        assert_eq!(
            from_cri(message, String::new()).unwrap_err().to_string(),
            *want
        );
    }
}
