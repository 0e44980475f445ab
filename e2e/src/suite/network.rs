//! Pods in their network: reachable, named, resolved; the node's readiness is the truth.

use crate::support::calls::Pod;
use crate::support::case::cases;
use crate::support::outcome::{check, check_contains, check_eq};
use crate::support::requests::{self, host_pod, pod, script, sleeper};
use crate::support::{Case, Node, Outcome};
use insula_cri_api::v1::{
    Capability, ContainerConfig, DnsConfig, Int64Value, NamespaceMode, NetworkConfig,
    PodSandboxConfig, PortMapping, Protocol, RuntimeCondition, RuntimeConfig, StatusRequest,
    UpdateRuntimeConfigRequest,
};
use std::io::Read as _;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

pub fn cases() -> Vec<Case> {
    cases![
        pods_reach_each_other_and_the_host_reaches_them,
        a_host_port_leads_to_its_pod_until_the_pod_goes,
        names_are_resolved_as_the_pod_says,
        hosts_and_host_names_are_in_their_files,
        network_ready_follows_the_truth,
        a_changed_configuration_holds_for_new_pods_only,
        the_ranges_of_the_node_fill_a_template,
        a_pod_whose_namespace_is_gone_gives_its_address_back,
        containers_of_a_pod_share_its_network,
        a_node_without_a_configuration_has_a_network_all_the_same,
        a_low_port_needs_its_capability_in_force,
    ]
}

async fn address(node: &Node, pod: &Pod) -> Outcome<String> {
    let network = node.pod_status(&pod.id).await?.network;
    Ok(network
        .map(|network| network.ip)
        .filter(|ip| !ip.is_empty())
        .ok_or("the pod has no address")?)
}

/// What a server says to whoever connects; it may need a moment to listen.
async fn ask(address: &str) -> Outcome<String> {
    let address: SocketAddr = address.parse()?;
    let begun = Instant::now();
    loop {
        let answer = tokio::task::spawn_blocking(move || -> std::io::Result<String> {
            let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(2))?;
            stream.set_read_timeout(Some(Duration::from_secs(2)))?;
            let mut text = String::new();
            stream.read_to_string(&mut text)?;
            Ok(text)
        });
        match answer.await? {
            Ok(text) if !text.is_empty() => return Ok(text),
            other if begun.elapsed() > Duration::from_secs(15) => {
                return Err(format!("{address}: {other:?}").into());
            }
            _ => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

const SERVER: &str = "while :; do echo \"hello from $(hostname)\" | nc -l -p 8080; done";

async fn pods_reach_each_other_and_the_host_reaches_them(node: &mut Node) -> Outcome {
    let (server, client) = (
        node.run_pod(pod("server")).await?,
        node.run_pod(pod("client")).await?,
    );
    node.run(&server, script("main", SERVER)).await?;
    let id = node.run(&client, sleeper("main")).await?;
    let at = address(node, &server).await?;
    check_eq!(
        ask(&format!("{at}:8080")).await?,
        "hello from server\n",
        "what the host hears"
    );
    let heard = node
        .shell(
            &id,
            &format!(
                "for i in $(seq 50); do nc -w 2 {at} 8080 </dev/null && break; sleep 0.1; done"
            ),
        )
        .await?;
    check_eq!(heard, "hello from server\n", "what another pod hears");
    // Its own loopback is up, and it has one address on one interface.
    node.shell(&id, "ping -c 1 -W 2 127.0.0.1").await?;
    let interfaces = node.shell(&id, "ls /sys/class/net | sort").await?;
    check_eq!(interfaces, "eth0\nlo\n", "interfaces");
    Ok(())
}

/// A TCP port that nobody has now.
fn free_port() -> Outcome<u16> {
    Ok(TcpListener::bind("0.0.0.0:0")?.local_addr()?.port())
}

/// A pod whose port 8080 is `port` of the host.
fn published(name: &str, port: u16) -> PodSandboxConfig {
    let mut config = pod(name);
    config.port_mappings.push(PortMapping {
        protocol: Protocol::Tcp.into(),
        container_port: 8080,
        host_port: port.into(),
        host_ip: String::new(),
    });
    config
}

async fn a_host_port_leads_to_its_pod_until_the_pod_goes(node: &mut Node) -> Outcome {
    let port = free_port()?;
    let pod = node.run_pod(published("server", port)).await?;
    node.run(&pod, script("main", SERVER)).await?;
    check_eq!(
        ask(&format!("127.0.0.1:{port}")).await?,
        "hello from server\n",
        "what is heard at the host's port"
    );
    node.restart().await?;
    check_eq!(
        ask(&format!("127.0.0.1:{port}")).await?,
        "hello from server\n",
        "after a restart"
    );
    node.stop_pod(&pod.id).await?;
    check!(
        node.network.left().is_empty(),
        "left of a stopped pod: {:?}",
        node.network.left()
    );
    check!(
        TcpStream::connect(("127.0.0.1", port)).is_err(),
        "the host's port is still served"
    );
    Ok(())
}

async fn names_are_resolved_as_the_pod_says(node: &mut Node) -> Outcome {
    let words = |list: &[&str]| list.iter().map(|word| (*word).to_owned()).collect();
    let configured = Some(DnsConfig {
        servers: words(&["192.0.2.1", "192.0.2.2"]),
        searches: words(&["a.example", "b.example"]),
        options: words(&["ndots:5"]),
    });
    let host = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    let cases = [
        ("given", configured, "nameserver 192.0.2.1\nnameserver 192.0.2.2\nsearch a.example b.example\noptions ndots:5\n".to_owned()),
        ("empty", Some(DnsConfig::default()), String::new()),
        ("hosts", None, host),
    ];
    for (name, dns, wanted) in cases {
        let mut config = pod(name);
        config.dns_config = dns;
        let pod = node.run_pod(config).await?;
        let mut container = script(
            "main",
            "cat /etc/resolv.conf; echo '# mine' >> /etc/resolv.conf",
        );
        requests::security(&mut container).readonly_rootfs = name == "given";
        let id = node.run(&pod, container).await?;
        let status = node.wait_for_end(&id).await?;
        let found = std::fs::read_to_string(node.log_path(&id).await?)?;
        check_eq!(
            node.stdout(&id).await?,
            wanted,
            "resolv.conf of {name}: {found}"
        );
        check_eq!(
            status.exit_code == 0,
            name != "given",
            "{name}: whether it can be written"
        );
    }
    Ok(())
}

async fn hosts_and_host_names_are_in_their_files(node: &mut Node) -> Outcome {
    let pod = node.run_pod(pod("named")).await?;
    let at = address(node, &pod).await?;
    let (_, output) = node
        .finish(&pod, script("main", "cat /etc/hosts /etc/hostname"))
        .await?;
    check_contains!(output, "127.0.0.1");
    check_contains!(output, "localhost");
    check!(
        output
            .lines()
            .any(|line| line.starts_with(&at) && line.contains("named")),
        "{output}"
    );
    check!(output.ends_with("\nnamed\n"), "{output}");
    Ok(())
}

async fn network_ready(node: &Node) -> Outcome<RuntimeCondition> {
    let status = node
        .runtime()?
        .status(StatusRequest::default())
        .await?
        .into_inner()
        .status;
    let conditions = status.map(|status| status.conditions).unwrap_or_default();
    let found = conditions
        .into_iter()
        .find(|condition| condition.r#type == "NetworkReady");
    Ok(found.ok_or("no condition NetworkReady")?)
}

async fn wait_for_network(node: &Node, ready: bool) -> Outcome<RuntimeCondition> {
    let begun = Instant::now();
    loop {
        let condition = network_ready(node).await?;
        if condition.status == ready {
            return Ok(condition);
        }
        check!(
            begun.elapsed() < Duration::from_secs(20),
            "20 s later: {condition:?}"
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn network_ready_follows_the_truth(node: &mut Node) -> Outcome {
    wait_for_network(node, true).await?;
    std::fs::remove_file(node.path("cni/10-insula.conflist"))?;
    let gone = wait_for_network(node, false).await?;
    check_eq!(gone.reason, "NetworkPluginNotReady", "reason");
    check_contains!(
        gone.message,
        format!("no CNI configuration in {}", node.path("cni").display())
    );
    // RuntimeReady stays: pods in the node's network can run.
    node.run_pod(host_pod("host")).await?;
    node.write_network()?;
    wait_for_network(node, true).await?;
    node.write_network_file(&serde_json::json!({
        "cniVersion": "1.0.0", "name": node.name, "plugins": [{"type": "not-installed"}],
    }))?;
    let missing = wait_for_network(node, false).await?;
    check_contains!(missing.message, "not-installed");
    std::fs::write(node.path("cni/10-insula.conflist"), "{")?;
    tokio::time::sleep(Duration::from_millis(500)).await;
    check!(
        !network_ready(node).await?.status,
        "a configuration that is no JSON makes the network ready"
    );
    node.write_network()?;
    wait_for_network(node, true).await?;
    Ok(())
}

/// DEL must be done with the configuration of the ADD, even when that is no longer there.
async fn a_changed_configuration_holds_for_new_pods_only(node: &mut Node) -> Outcome {
    let old = node.run_pod(pod("old")).await?;
    std::fs::remove_file(node.path("cni/10-insula.conflist"))?;
    wait_for_network(node, false).await?;
    node.restart().await?;
    node.stop_pod(&old.id).await?;
    node.remove_pod(&old.id).await?;
    check!(
        node.network.left().is_empty(),
        "left: {:?}",
        node.network.left()
    );
    node.write_network()?;
    wait_for_network(node, true).await?;
    node.run_pod(pod("new")).await?;
    Ok(())
}

async fn a_pod_whose_namespace_is_gone_gives_its_address_back(node: &mut Node) -> Outcome {
    let pod = node.run_pod(pod("lost")).await?;
    let at = address(node, &pod).await?;
    let file = node.path("state/netns").join(&pod.id);
    rustix::mount::unmount(&file, rustix::mount::UnmountFlags::DETACH)?;
    std::fs::remove_file(&file)?;
    node.stop_pod(&pod.id).await?;
    let kept = node.path("addresses").join(&node.name).join(&at);
    check!(!kept.exists(), "{} is still taken", kept.display());
    Ok(())
}

async fn containers_of_a_pod_share_its_network(node: &mut Node) -> Outcome {
    let pod = node.run_pod(pod("shared")).await?;
    node.run(&pod, script("server", SERVER)).await?;
    let id = node.run(&pod, sleeper("client")).await?;
    let heard = node
        .shell(
            &id,
            "for i in $(seq 50); do nc -w 2 127.0.0.1 8080 </dev/null && break; sleep 0.1; done",
        )
        .await?;
    check_eq!(
        heard,
        "hello from shared\n",
        "what a container of the same pod hears"
    );
    let mut config = sleeper("host");
    requests::container_namespaces(&mut config).network = NamespaceMode::Node.into();
    check_contains!(
        node.refused_container(&pod, config).await?,
        "make the pod with network mode NODE"
    );
    Ok(())
}

/// A capability that a user who is not root keeps is an ambient one (capabilities(7)).
async fn a_low_port_needs_its_capability_in_force(node: &mut Node) -> Outcome {
    let mut config = pod("low");
    // As on a host; a pod has 0 here unless it says otherwise.
    config
        .linux
        .get_or_insert_default()
        .sysctls
        .insert("net.ipv4.ip_unprivileged_port_start".into(), "1024".into());
    let pod = node.run_pod(config).await?;
    let server = |name: &str, capabilities: Capability| -> ContainerConfig {
        let mut config = script(name, "echo low | nc -l -p 80");
        let security = requests::security(&mut config);
        security.run_as_user = Some(Int64Value { value: 1000 });
        security.capabilities = Some(capabilities);
        config
    };
    let bind = || vec!["NET_BIND_SERVICE".to_owned()];
    let held = Capability {
        add_capabilities: bind(),
        ..Capability::default()
    };
    let (status, _) = node.finish(&pod, server("held", held)).await?;
    check_eq!(status.exit_code, 1, "a server without its capability");
    let ambient = Capability {
        add_ambient_capabilities: bind(),
        drop_capabilities: vec!["ALL".into()],
        ..Capability::default()
    };
    let id = node.run(&pod, server("ambient", ambient)).await?;
    let at = address(node, &pod).await?;
    check_eq!(ask(&format!("{at}:80")).await?, "low\n", "what it says");
    check_eq!(node.wait_for_end(&id).await?.exit_code, 0, "its end");
    Ok(())
}

async fn a_node_without_a_configuration_has_a_network_all_the_same(node: &mut Node) -> Outcome {
    let subnet = format!("{}0/24", node.network.prefix());
    let default = format!(
        "default_network = true\ndefault_bridge = {:?}\ndefault_subnets = [{subnet:?}]",
        node.name
    );
    let configuration = node
        .configuration()
        .replace("default_network = false", &default);
    std::fs::write(node.path("config.toml"), configuration)?;
    std::fs::remove_file(node.path("cni/10-insula.conflist"))?;
    node.restart().await?;
    wait_for_network(node, true).await?;
    let port = free_port()?;
    let server = node.run_pod(published("server", port)).await?;
    node.run(&server, script("main", SERVER)).await?;
    let at = address(node, &server).await?;
    check!(
        at.starts_with(&node.network.prefix()),
        "the pod has {at}, of {subnet}"
    );
    for address in [format!("{at}:8080"), format!("127.0.0.1:{port}")] {
        check_eq!(ask(&address).await?, "hello from server\n", "what is heard");
    }
    // A configuration that comes holds for new pods, and the old one is removed as it was added.
    node.write_network()?;
    wait_for_network(node, true).await?;
    node.stop_pod(&server.id).await?;
    let store = node.path("root/addresses/insula");
    let left: Vec<_> = std::fs::read_dir(&store)?
        .chain(std::fs::read_dir(store.join("attachments"))?)
        .flatten()
        .map(|entry| entry.file_name())
        .filter(|name| {
            name.to_string_lossy()
                .starts_with(|first: char| first.is_ascii_digit())
        })
        .collect();
    check!(left.is_empty(), "left of a stopped pod: {left:?}");
    check!(
        node.network.left().is_empty(),
        "left of a stopped pod: {:?}",
        node.network.left()
    );
    Ok(())
}

/// The template of a network for these ranges; the words are those of containerd's.
fn template(node: &Node) -> String {
    let one = |field: &str, entry: &str| {
        format!("{{{{range $i, $v := {field}}}}}{{{{if $i}}}}, {{{{end}}}}{entry}{{{{end}}}}")
    };
    format!(
        r#"{{"cniVersion": "1.0.0", "name": "{name}", "plugins": [{{
            "type": "bridge", "bridge": "{name}", "isGateway": true,
            "ipam": {{"type": "host-local", "dataDir": {addresses:?},
                "ranges": [{ranges}], "routes": [{routes}]}}
        }}]}}"#,
        name = node.network.name,
        addresses = node.path("addresses"),
        ranges = one(".PodCIDRRanges", r#"[{"subnet": "{{$v}}"}]"#),
        routes = one(".Routes", r#"{"dst": "{{$v}}"}"#),
    )
}

async fn tell_ranges(node: &Node, ranges: &str) -> Outcome {
    let request = UpdateRuntimeConfigRequest {
        runtime_config: Some(RuntimeConfig {
            network_config: Some(NetworkConfig {
                pod_cidr: ranges.to_owned(),
            }),
        }),
    };
    node.runtime()?.update_runtime_config(request).await?;
    Ok(())
}

async fn the_ranges_of_the_node_fill_a_template(node: &mut Node) -> Outcome {
    let (made, other) = (
        node.path("cni/10-insula-net.conflist"),
        node.path("cni/10-insula.conflist"),
    );
    let text = template(node);
    std::fs::write(node.path("template"), &text)?;
    let keys = format!("[cni]\nconf_template = {:?}\n", node.path("template"));
    let configuration = node.configuration().replace("[cni]\n", &keys);
    std::fs::write(node.path("config.toml"), configuration)?;
    node.restart().await?;
    let prefix = node.network.prefix();
    let ranges = format!(
        "{prefix}128/25,fd00:e2e:{:x}::/64",
        std::process::id() & 0xffff
    );
    tell_ranges(node, &ranges).await?;
    check!(
        !made.exists(),
        "somebody else's configuration does not count"
    );

    std::fs::remove_file(other)?;
    std::fs::write(node.path("template"), "{{.Nothing}}")?;
    let refusal = tell_ranges(node, &ranges).await.unwrap_err();
    check_contains!(refusal.text(), "line 1: `{{.Nothing}}`");
    check!(!made.exists(), "a bad template was used");

    std::fs::write(node.path("template"), &text)?;
    tell_ranges(node, &ranges).await?;
    let pod = node.run_pod(pod("templated")).await?;
    let ip = address(node, &pod).await?;
    let last = ip
        .strip_prefix(&prefix)
        .and_then(|last| last.parse::<u8>().ok());
    check!(last >= Some(128), "{ip} is not of {ranges}");
    let network = node.pod_status(&pod.id).await?.network.unwrap_or_default();
    let second = network.additional_ips.first().map(|ip| ip.ip.clone());
    check_contains!(second.unwrap_or_default(), "fd00:e2e:");
    node.remove_pod(&pod.id).await?;
    // The ranges are the node's, and outlive all pods.
    Ok(std::fs::remove_file(node.path("root/network/.pod-cidrs"))?)
}
