//! Networks of the nodes: a bridge and a subnet that nobody else uses.

use super::outcome::Outcome;
use std::collections::BTreeSet;
use std::process::Command;

/// The programs that show and change the packet filter of each address family.
const FAMILIES: &[&str] = &["iptables", "ip6tables"];
/// Chains that portmap makes once for all pods of a host and never removes.
const SHARED_CHAINS: &[&str] = &[
    "CNI-HOSTPORT-DNAT",
    "CNI-HOSTPORT-MASQ",
    "CNI-HOSTPORT-SETMARK",
];

/// A node's network.
#[derive(Debug, Clone)]
pub struct Network {
    /// Name of the network and of its bridge.
    pub name: String,
    /// First three bytes of the subnet.
    prefix: [u8; 3],
}

/// What all pods of a host share in its packet filter and was there before the suite: chains of
/// portmap, and whether there was the table of insula-net.
#[derive(Debug)]
pub struct Chains(BTreeSet<(&'static str, String)>, bool);

// === impl Network ===

impl Network {
    /// Finds a subnet of 10.64.0.0/10 that no route leads to.
    pub fn free(name: &str, number: u32) -> Outcome<Self> {
        let routes = std::fs::read_to_string("/proc/net/route")?;
        let bytes = |number: u32| {
            let [_, _, high, low] = number.to_be_bytes();
            [10, 64 + (high & 63), low]
        };
        let prefix = (0..4096)
            .map(|offset| bytes(number + offset * 17))
            .find(|[first, second, third]| {
                // Little-endian hexadecimal, as the kernel prints it.
                !routes.contains(&format!("\t00{third:02X}{second:02X}{first:02X}\t"))
            })
            .ok_or("no free subnet in 10.64.0.0/10")?;
        Ok(Self {
            name: name.to_owned(),
            prefix,
        })
    }

    /// What all addresses of the network begin with.
    pub fn prefix(&self) -> String {
        let [first, second, third] = self.prefix;
        format!("{first}.{second}.{third}.")
    }

    /// The CNI configuration: the reference plugins, addresses kept in a directory of the node.
    pub fn configuration(&self, addresses: &std::path::Path) -> serde_json::Value {
        serde_json::json!({
            "cniVersion": "1.0.0",
            "name": self.name,
            "plugins": [
                {
                    "type": "bridge", "bridge": self.name, "isGateway": true, "hairpinMode": true,
                    "ipam": {
                        "type": "host-local", "dataDir": addresses,
                        "ranges": [[{"subnet": format!("{}0/24", self.prefix())}]],
                        "routes": [{"dst": "0.0.0.0/0"}],
                    },
                },
                {"type": "portmap", "capabilities": {"portMappings": true}, "snat": true},
            ],
        })
    }

    /// Interfaces that are still attached to the bridge, and rules that lead to its pods.
    pub fn left(&self) -> Vec<String> {
        let ports = format!("/sys/class/net/{}/brif", self.name);
        let mut left: Vec<_> = std::fs::read_dir(ports)
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| {
                format!(
                    "link {} at bridge {}",
                    entry.file_name().display(),
                    self.name
                )
            })
            .collect();
        for family in FAMILIES {
            let rules = rules(family);
            let ours = |rule: &&str| {
                rule.contains(&self.prefix()) || rule.contains(&format!("\"{}\"", self.name))
            };
            left.extend(
                rules
                    .lines()
                    .filter(ours)
                    .map(|rule| format!("{family} rule {rule}")),
            );
        }
        left
    }

    /// Takes the bridge away, which belongs to the network and not to a pod.
    pub fn remove(&self) {
        run("ip", &["link", "delete", &self.name]);
    }
}

// === impl Chains ===

impl Chains {
    /// Those that there are.
    pub fn now() -> Self {
        let mut chains = BTreeSet::new();
        for family in FAMILIES {
            let rules = rules(family);
            let declared = rules.lines().filter_map(|line| line.strip_prefix("-N "));
            chains.extend(declared.map(|chain| (*family, chain.to_owned())));
        }
        Self(chains, has_table())
    }

    /// Removes the shared ones that came since, unless they lead to somebody's pods.
    pub fn remove_new(&self) {
        if !self.1 && has_table() {
            run("nft", &["delete", "table", "inet", "insula"]);
        }
        for family in FAMILIES {
            let rules = rules(family);
            for chain in SHARED_CHAINS {
                let in_use = rules.lines().any(|rule| {
                    rule.starts_with(&format!("-A {chain} "))
                        && (rule.contains("-j CNI-DN-") || rule.contains("-j CNI-SN-"))
                });
                if in_use || self.0.contains(&(*family, (*chain).to_owned())) {
                    continue;
                }
                for rule in rules
                    .lines()
                    .filter(|rule| rule.ends_with(&format!("-j {chain}")))
                {
                    // Comments are quoted as a shell does it.
                    let deletion = format!("{family} -t nat {}", rule.replacen("-A", "-D", 1));
                    run("sh", &["-c", &deletion]);
                }
                run(family, &["-t", "nat", "-F", chain]);
                run(family, &["-t", "nat", "-X", chain]);
            }
        }
    }
}

/// Whether insula-net was used in this network namespace.
fn has_table() -> bool {
    let listed = Command::new("nft")
        .args(["list", "tables", "inet"])
        .output();
    listed.is_ok_and(|output| {
        String::from_utf8_lossy(&output.stdout)
            .lines()
            .any(|line| line.trim() == "table inet insula")
    })
}

/// The rules of the table of address translation.
fn rules(family: &str) -> String {
    let output = Command::new(family).args(["-t", "nat", "-S"]).output();
    output.map_or_else(
        |_| String::new(),
        |output| String::from_utf8_lossy(&output.stdout).into_owned(),
    )
}

/// For what may fail because it is gone already.
fn run(program: &str, arguments: &[&str]) {
    if let Err(error) = Command::new(program).args(arguments).output() {
        println!("{program} {arguments:?}: {error}");
    }
}
