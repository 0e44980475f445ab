//! The runtime with the reference plugins (Debian's containernetworking-plugins), in a network
//! namespace that stands for the host, so that no bridge or rule of ours is ever on the real one.

mod support;

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use insula_network::{Attachment, Network, PortMapping, Protocol};
use support::{Node, sandbox};

const PLUGINS: &str = "/usr/lib/cni";
const BRIDGE: &str = "insula-t0";
/// Where the killed process finds its node.
const NODE: &str = "INSULA_TEST_NODE";

/// A network namespace by name; removed at the end.
struct Host(String);

impl Host {
    fn new() -> Self {
        let name = format!("insula-network-{}", std::process::id());
        output(Command::new("ip").args(["netns", "add", &name]));
        Self(name)
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        output(Command::new("ip").args(["netns", "del", &self.0]));
    }
}

/// A process with a network namespace of its own, which ends with it.
struct Pod(Child);

impl Pod {
    fn new() -> Self {
        let child = Command::new("unshare")
            .args(["--net", "sleep", "1000"])
            .spawn()
            .unwrap();
        let pod = Self(child);
        let own = fs::read_link("/proc/self/ns/net").unwrap();
        for _ in 0..1_000 {
            if fs::read_link(pod.netns()).is_ok_and(|netns| netns != own) {
                return pod;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("unshare made no namespace");
    }

    fn netns(&self) -> PathBuf {
        format!("/proc/{}/ns/net", self.0.id()).into()
    }

    fn has_interface(&self) -> bool {
        let netns = format!("--net={}", self.netns().display());
        output(Command::new("nsenter").args([&netns, "ip", "-o", "link"])).contains("eth0")
    }

    fn attachment(&self, id: &str) -> Attachment {
        Attachment {
            netns: self.netns(),
            port_mappings: vec![PortMapping {
                host_port: 18_080,
                container_port: 80,
                protocol: Protocol::Tcp,
                host_ip: None,
            }],
            ..sandbox(id)
        }
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

fn output(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {stderr}");
    String::from_utf8(output.stdout).unwrap()
}

fn nat_rules() -> String {
    output(Command::new("iptables").args(["-t", "nat", "-S"]))
}

/// A node whose network is a bridge with leases in the node's own directory, and `extra` plugins
/// before and after it.
fn node(before: &str, after: &str) -> Node {
    let mut node = Node::new();
    node.config.bin_dirs.push(PLUGINS.into());
    let leases = node.dir.path().join("leases");
    let bridge = format!(
        r#"{{"type":"bridge","bridge":"{BRIDGE}","isGateway":true,"ipMasq":true,
            "ipam":{{"type":"host-local","dataDir":"{}","ranges":[[{{"subnet":"10.231.77.0/24"}}]],
            "routes":[{{"dst":"0.0.0.0/0"}}]}}}}"#,
        leases.display()
    );
    node.configure("1.0.0", &format!("{before}{bridge}{after}"));
    node
}

fn leases(node: &Node) -> Vec<String> {
    let Ok(entries) = fs::read_dir(node.dir.path().join("leases/net")) else {
        return Vec::new();
    };
    entries
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .filter(|name| name.starts_with("10."))
        .collect()
}

#[test]
fn reference_plugins() {
    if !rustix::process::geteuid().is_root() || !Path::new(PLUGINS).join("bridge").exists() {
        println!("skipped: needs root, and Debian's containernetworking-plugins in {PLUGINS}");
        return;
    }
    let host = Host::new();
    let output = Command::new("ip")
        .args(["netns", "exec", &host.0])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "on_the_host", "--ignored", "--nocapture"])
        .output()
        .unwrap();
    let name = host.0.clone();
    drop(host);
    let stdout = String::from_utf8_lossy(&output.stdout);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stdout}{stderr}");
    assert!(stdout.contains("1 passed"), "{stdout}");
    assert!(!self::output(Command::new("ip").arg("netns")).contains(&name));
    assert!(!self::output(Command::new("ip").args(["-o", "link"])).contains(BRIDGE));
    assert!(!nat_rules().contains("10.231.77."));
}

#[tokio::test]
#[ignore = "run by reference_plugins, in a network namespace of its own"]
async fn on_the_host() {
    let node = node(
        "",
        r#",{"type":"portmap","capabilities":{"portMappings":true}}"#,
    );
    let network = node.open().await;
    assert!(network.status().await.is_ready());
    add_gives_an_address_and_del_takes_it(&node, &network).await;
    check_sees_a_lost_interface(&network).await;
    del_without_the_namespace_frees_the_address(&node, &network).await;
    drop(node);
    for (before, after) in [("", r#",{"type":"hang"}"#), (r#"{"type":"hang"},"#, "")] {
        a_killed_runtime_leaks_nothing(before, after).await;
    }
    // Ours is the namespace, but the plugins should have left nothing in it but the bridge.
    output(Command::new("ip").args(["link", "del", BRIDGE]));
    let links = output(Command::new("ip").args(["-o", "link"]));
    assert_eq!(links.lines().count(), 1, "{links}");
}

async fn add_gives_an_address_and_del_takes_it(node: &Node, network: &Network) {
    let pod = Pod::new();
    let attached = network.attach(pod.attachment("s1")).await.unwrap();
    println!("ADD: {:?}", attached.plugin_times);
    let ip = attached.ips[0].to_string();
    assert!(ip.starts_with("10.231.77."), "{ip}");
    assert_eq!(leases(node), [ip.as_str()]);
    assert!(pod.has_interface());
    assert!(nat_rules().contains(&format!("--to-destination {ip}:80")));
    network.detach("s1", Some(&pod.netns())).await.unwrap();
    assert!(!pod.has_interface());
    assert_eq!(leases(node), Vec::<String>::new());
    assert!(!nat_rules().contains(&ip), "{}", nat_rules());
    assert_eq!(node.records(), Vec::<String>::new());
}

/// Without port mappings: CHECK of portmap 1.1.1 also wants IPv6 rules that its ADD never makes.
async fn check_sees_a_lost_interface(network: &Network) {
    let pod = Pod::new();
    let attachment = Attachment {
        port_mappings: Vec::new(),
        ..pod.attachment("s4")
    };
    network.attach(attachment).await.unwrap();
    network.check("s4").await.unwrap();
    let netns = format!("--net={}", pod.netns().display());
    output(Command::new("nsenter").args([&netns, "ip", "link", "del", "eth0"]));
    assert!(network.check("s4").await.is_err());
    network.detach("s4", Some(&pod.netns())).await.unwrap();
}

async fn del_without_the_namespace_frees_the_address(node: &Node, network: &Network) {
    let pod = Pod::new();
    network.attach(pod.attachment("s2")).await.unwrap();
    let netns = pod.netns();
    drop(pod);
    assert_eq!(leases(node).len(), 1);
    network.detach("s2", Some(&netns)).await.unwrap();
    assert_eq!(leases(node), Vec::<String>::new());
    assert!(!nat_rules().contains("--to-destination"), "{}", nat_rules());
    assert_eq!(node.records(), Vec::<String>::new());
}

/// SIGKILL while a plugin hangs: before the bridge has given an address, or after.
async fn a_killed_runtime_leaks_nothing(before: &str, after: &str) {
    let node = node(before, after);
    node.plugin(
        "hang",
        "ADD) echo $$ > $LOG/pid.new; mv $LOG/pid.new $LOG/pid; exec sleep 1000;;",
    );
    let pod = Pod::new();
    let mut runtime = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "attach_and_hang", "--ignored"])
        .env(NODE, node.dir.path())
        .env("INSULA_TEST_NETNS", pod.netns())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let pid = node.log("pid");
    while !pid.exists() {
        assert!(runtime.try_wait().unwrap().is_none(), "it ended by itself");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    runtime.kill().unwrap();
    runtime.wait().unwrap();
    // The plugin has outlived its runtime, as plugins of a killed daemon do.
    let pid = fs::read_to_string(pid).unwrap().trim().parse().unwrap();
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    assert_eq!(leases(&node).len(), usize::from(before.is_empty()));
    assert_eq!(node.records(), ["s3.json"]);

    let network = node.open().await;
    let report = network.gc(&HashSet::new()).await.unwrap();
    assert_eq!(report.removed, ["s3"], "{report:?}");
    assert_eq!(leases(&node), Vec::<String>::new());
    assert!(!pod.has_interface());
    assert_eq!(node.records(), Vec::<String>::new());
}

#[tokio::test]
#[ignore = "run by on_the_host, to be killed"]
async fn attach_and_hang() {
    let dir = PathBuf::from(std::env::var_os(NODE).unwrap());
    let mut config = insula_network::NetworkConfig::new(dir.join("state"));
    config.conf_dir = dir.join("net.d");
    config.bin_dirs = vec![dir.join("bin"), PLUGINS.into()];
    let network = Network::open(config).await.unwrap();
    let netns = std::env::var_os("INSULA_TEST_NETNS").unwrap();
    let attachment = Attachment {
        netns: netns.into(),
        ..sandbox("s3")
    };
    panic!("it ended: {:?}", network.attach(attachment).await);
}
