//! The two sets of plugins, and one case's world.

use crate::Answer;
use crate::host::{self, Namespace};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Which plugins are asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// bridge, host-local, portmap and bandwidth.
    Reference,
    /// insula-net.
    Insula,
}

/// Where the programs are.
#[derive(Debug)]
pub struct Peers {
    pub directory: PathBuf,
}

/// A host, somebody outside, and a network of one kind.
#[derive(Debug)]
pub struct World<'a> {
    pub kind: Kind,
    pub peers: &'a Peers,
    pub host: Namespace,
    pub outside: Namespace,
    /// Network configurations, and `addresses` for the store.
    pub directory: tempfile::TempDir,
}

/// What a network of a case is.
#[derive(Debug, Clone)]
pub struct Conf {
    pub version: &'static str,
    pub ranges: Value,
    pub routes: Value,
    /// Keys for the main plugin.
    pub bridge: Value,
    /// Keys for `ipam`.
    pub ipam: Value,
}

/// The program under test.
pub const PLUGIN: &str = env!("CARGO_BIN_EXE_insula-net");

// === impl Peers ===

impl Peers {
    pub fn find() -> Option<Self> {
        let directory = PathBuf::from(std::env::var_os("INSULA_CNI_PEERS")?);
        Some(Self { directory })
    }
}

// === impl Conf ===

impl Default for Conf {
    fn default() -> Self {
        Self {
            version: "1.0.0",
            ranges: json!([[{"subnet": "10.77.0.0/24"}]]),
            routes: json!([{"dst": "0.0.0.0/0"}]),
            bridge: json!({}),
            ipam: json!({}),
        }
    }
}

impl Conf {
    /// Both address families.
    pub fn dual() -> Self {
        Self {
            ranges: json!([[{"subnet": "10.77.0.0/24"}], [{"subnet": "fd77::/64"}]]),
            routes: json!([{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]),
            ..Self::default()
        }
    }

    pub fn with(mut self, key: &str, value: Value) -> Self {
        self.bridge[key] = value;
        self
    }

    fn list(&self, kind: Kind, store: &Path) -> Value {
        let mut main = json!({
            "type": "bridge", "bridge": "br77", "isGateway": true, "ipMasq": true,
            "hairpinMode": true,
            "capabilities": {"mac": true, "ips": true, "ipRanges": true},
            "ipam": {
                "type": "host-local", "dataDir": store, "ranges": self.ranges,
                "routes": self.routes,
            },
        });
        merge(&mut main, &self.bridge);
        merge(&mut main["ipam"], &self.ipam);
        let capabilities = ["portMappings", "bandwidth"];
        let plugins = match kind {
            Kind::Reference => {
                let mut plugins = vec![main];
                for (kind, capability) in ["portmap", "bandwidth"].iter().zip(capabilities) {
                    plugins.push(json!({"type": kind, "capabilities": {capability: true}}));
                }
                plugins
            }
            Kind::Insula => {
                main["type"] = json!("insula-net");
                for capability in capabilities {
                    main["capabilities"][capability] = json!(true);
                }
                vec![main]
            }
        };
        json!({"cniVersion": self.version, "name": "suite", "plugins": plugins})
    }
}

fn merge(into: &mut Value, from: &Value) {
    for (key, value) in from.as_object().into_iter().flatten() {
        into[key] = value.clone();
    }
}

/// Runs a case in a world of its own, and proves that it left nothing.
pub fn run(peers: &Peers, kind: Kind, case: fn(&World<'_>) -> Answer) -> Answer {
    let (host, outside) = host::pair()?;
    let directory = tempfile::tempdir().map_err(|error| error.to_string())?;
    let world = World {
        kind,
        peers,
        host,
        outside,
        directory,
    };
    let answer = case(&world)?;
    let left = world.left()?;
    if left.is_empty() {
        Ok(answer)
    } else {
        Err(format!("left behind: {left:?}"))
    }
}

// === impl World ===

impl World<'_> {
    pub fn configure(&self, conf: &Conf) -> Result<(), String> {
        let store = self.directory.path().join("addresses");
        self.configure_as(&conf.list(self.kind, &store))
    }

    /// Another list altogether.
    pub fn configure_as(&self, list: &Value) -> Result<(), String> {
        let file = self.directory.path().join("10-suite.conflist");
        std::fs::write(file, list.to_string()).map_err(|error| error.to_string())
    }

    /// Asks by cnitool; `more` are variables of its environment.
    pub fn ask(&self, verb: &str, pod: &Namespace, more: &[(&str, &str)]) -> Answer {
        let plugin_dir = Path::new(PLUGIN).parent().unwrap_or(Path::new("/"));
        let path = format!(
            "{}:{}",
            self.peers.directory.display(),
            plugin_dir.display()
        );
        let output = self.host.within(|| {
            Command::new(self.peers.directory.join("cnitool"))
                .args([verb, "suite", &pod.path()])
                .env("CNI_PATH", path)
                .env("NETCONFPATH", self.directory.path())
                .env("CNI_IFNAME", "eth0")
                .env("XDG_CACHE_HOME", self.directory.path())
                .envs(more.iter().copied())
                .stdin(Stdio::null())
                .output()
                .map_err(|error| error.to_string())
        })?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        match output.status.success() {
            true => Ok(text(&output.stdout)),
            false => Err(format!("{}{}", text(&output.stdout), text(&output.stderr))),
        }
    }

    /// ADD with the arguments of capabilities; gives the result.
    pub fn add_with(&self, pod: &Namespace, capabilities: &Value) -> Result<Value, String> {
        let text = capabilities.to_string();
        let result = self.ask("add", pod, &[("CAP_ARGS", &text)])?;
        serde_json::from_str(&result).map_err(|error| format!("{error}: {result}"))
    }

    pub fn add(&self, pod: &Namespace) -> Result<Value, String> {
        self.add_with(pod, &json!({}))
    }

    pub fn del_with(&self, pod: &Namespace, capabilities: &Value) -> Result<(), String> {
        let text = capabilities.to_string();
        self.ask("del", pod, &[("CAP_ARGS", &text)]).map(drop)
    }

    pub fn del(&self, pod: &Namespace) -> Result<(), String> {
        self.del_with(pod, &json!({}))
    }

    /// The first address in a result, without its prefix.
    pub fn address(result: &Value, at: usize) -> String {
        let text = result["ips"][at]["address"].as_str().unwrap_or_default();
        text.split('/').next().unwrap_or_default().to_owned()
    }

    /// What no pod has any more and still is there.
    pub fn left(&self) -> Result<Vec<String>, String> {
        let mut left = Vec::new();
        let links = self.host.command("ip", &["-o", "link"])?;
        let names = links.lines().filter_map(|line| line.split(": ").nth(1));
        left.extend(
            names
                .filter(|name| {
                    !["lo", "up0", "br77"].contains(&name.split('@').next().unwrap_or(""))
                })
                .map(|name| format!("link {name}")),
        );
        let store = self.directory.path().join("addresses/suite");
        for directory in [store.clone(), store.join("attachments")] {
            for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
                let name = entry.file_name().to_string_lossy().into_owned();
                let kept = name == "lock" || name == "attachments";
                // The network's, with what a killed plugin leaves of writing it.
                let place = name.trim_start_matches('.').starts_with("last_reserved_ip");
                if !kept && !place {
                    left.push(format!("file {name}"));
                }
            }
        }
        let rules = self.host.command("nft", &["list", "ruleset"])?;
        let of_a_pod = |line: &&str| {
            let declared = line.trim_start().starts_with("type ");
            let parts = [" : ", "CNI-DN-", "dnat to 10."];
            !declared && parts.iter().any(|part| line.contains(part))
        };
        let found = rules.lines().filter(of_a_pod);
        left.extend(found.map(|line| format!("rule {}", line.trim())));
        Ok(left)
    }
}
