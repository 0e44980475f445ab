//! The daemon's configuration.
//!
//! Files are TOML. Each one is read key by key against the table of known keys
//! below, so that an error names the file, the line and, for a typing mistake,
//! the key that was probably meant. A later file replaces single values of an
//! earlier one; flags of the command line come last. How the files are found is
//! in [`load`].

mod load;
mod read;
pub(crate) mod runtimes;

pub(crate) use load::{Loaded, Sources, load};
pub(crate) use read::{ConfigError, apply};
pub(crate) use runtimes::{Runtime, Runtimes};

use serde::Serialize;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

/// Where the configuration is looked for when no file is named.
pub(crate) const DEFAULT_FILE: &str = "/etc/insula/config.toml";

/// Everything that can be configured; the fields are the keys of the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Config {
    /// Socket that serves the CRI, `unix://` and an absolute path.
    pub(crate) listen: Address,
    /// Directory of durable state.
    pub(crate) root: PathBuf,
    /// Directory of state that a reboot voids.
    pub(crate) state: PathBuf,
    /// The pods' network.
    pub(crate) cni: Cni,
    /// Where images come from.
    pub(crate) registry: Registry,
    /// Control groups.
    pub(crate) cgroup: Cgroup,
    /// Rights of containers.
    pub(crate) security: Security,
    /// Devices that vendors describe.
    pub(crate) cdi: Cdi,
    /// Runtime handlers by name.
    pub(crate) runtimes: Runtimes,
    /// Exec, attach and port-forward.
    pub(crate) streaming: Streaming,
    /// The daemon's own metrics.
    pub(crate) metrics: Metrics,
    /// What is logged.
    pub(crate) log: Log,
}

/// `[cni]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Cni {
    /// Directory of network configurations.
    pub(crate) conf_dir: PathBuf,
    /// Template of a configuration for the node's pod address ranges; empty is
    /// none.
    pub(crate) conf_template: PathBuf,
    /// Directories of plugins, the first that has one wins.
    pub(crate) bin_dirs: Vec<PathBuf>,
    /// How long one plugin may take for one verb, in seconds.
    pub(crate) plugin_timeout: u32,
    /// Pods get a network of `insula-net` where `conf_dir` holds no configuration.
    pub(crate) default_network: bool,
    /// Name of that network's bridge.
    pub(crate) default_bridge: String,
    /// Its subnets, one for each address family.
    pub(crate) default_subnets: Vec<Subnet>,
}

/// A subnet of the default network, written as `10.90.0.0/16`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Subnet {
    /// Its first address.
    pub(crate) address: IpAddr,
    /// The length of its prefix, with room for at least three addresses behind it.
    pub(crate) prefix: u8,
}

/// `[registry]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Registry {
    /// Directories that hold `<host>/hosts.toml`.
    pub(crate) config_path: Vec<PathBuf>,
    /// How long a connection may take to be established, in seconds;
    /// `dial_timeout` of a `hosts.toml` overrides it.
    pub(crate) connect_timeout: u32,
    /// How long a registry may be silent, in seconds.
    pub(crate) progress_timeout: u32,
}

/// `[cgroup]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Cgroup {
    /// Who makes cgroups.
    pub(crate) driver: CgroupDriver,
    /// cgroup of pods that name no parent, below each hierarchy's root.
    pub(crate) parent: String,
}

/// `cgroup.driver`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum CgroupDriver {
    /// systemd where that has booted the machine, else cgroupfs.
    Auto,
    /// The daemon makes directories.
    Cgroupfs,
    /// systemd makes scopes and slices.
    Systemd,
}

/// `[security]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Security {
    /// Device nodes that a container asks for belong to `runAsUser` and
    /// `runAsGroup`, not to whom they belong on the node.
    pub(crate) device_ownership_from_security_context: bool,
    /// The system call filter of containers of which nothing is said.
    pub(crate) seccomp_default: SeccompDefault,
}

/// `[cdi]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Cdi {
    /// Directories of the vendors' files, the most important one last.
    pub(crate) spec_dirs: Vec<PathBuf>,
}

/// `[streaming]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Streaming {
    /// Address and port of the streaming server, on loopback unless it speaks
    /// TLS; port 0 is any.
    pub(crate) address: SocketAddr,
    /// It speaks TLS.
    pub(crate) tls: bool,
    /// PEM with its certificate and those that signed it; with `key`. Empty is
    /// one that it makes for itself.
    pub(crate) certificate: PathBuf,
    /// PEM with the key of the certificate.
    pub(crate) key: PathBuf,
    /// PEM with the authorities of clients' certificates. Empty is none: clients
    /// need no certificate.
    pub(crate) client_ca: PathBuf,
    /// How long a session may be silent, in seconds.
    pub(crate) idle_timeout: u32,
    /// How long a client may take to open its streams, in seconds.
    pub(crate) creation_timeout: u32,
}

/// `[metrics]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Metrics {
    /// Where `/metrics` is served; `None` is nowhere.
    #[serde(serialize_with = "or_empty")]
    pub(crate) address: Option<Address>,
}

/// `[log]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Log {
    /// The quietest level that is shown.
    pub(crate) level: Level,
    /// How a line looks.
    pub(crate) format: Format,
}

/// `security.seccomp_default`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum SeccompDefault {
    /// None.
    Unconfined,
    /// The runtime's own default profile.
    RuntimeDefault,
}

/// `log.level`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Level {
    /// What failed and needs a person.
    Error,
    /// What failed.
    Warn,
    /// What was done.
    Info,
    /// What was asked.
    Debug,
    /// Every step.
    Trace,
}

/// `log.format`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Format {
    /// A line for people.
    Text,
    /// One JSON object per line.
    Json,
}

/// Where something listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Address {
    /// A unix socket at an absolute path.
    Unix(PathBuf),
    /// A loopback address: everything that is served there is for this node.
    Loopback(SocketAddr),
}

/// Every key, in the order of the documentation, but those of the handlers,
/// which are in [`runtimes::KEYS`].
pub(crate) const KEYS: &[&str] = &[
    "listen",
    "root",
    "state",
    "cni.conf_dir",
    "cni.conf_template",
    "cni.bin_dirs",
    "cni.plugin_timeout",
    "cni.default_network",
    "cni.default_bridge",
    "cni.default_subnets",
    "registry.config_path",
    "registry.connect_timeout",
    "registry.progress_timeout",
    "cgroup.driver",
    "cgroup.parent",
    "security.device_ownership_from_security_context",
    "security.seccomp_default",
    "cdi.spec_dirs",
    "streaming.address",
    "streaming.tls",
    "streaming.certificate",
    "streaming.key",
    "streaming.client_ca",
    "streaming.idle_timeout",
    "streaming.creation_timeout",
    "metrics.address",
    "log.level",
    "log.format",
];

// === impl Subnet ===

impl Subnet {
    /// Private and unique local addresses that no well-known program takes (RFC 1918, RFC 4193).
    const DEFAULT: [Self; 2] = [
        Self {
            address: IpAddr::V4(Ipv4Addr::new(10, 90, 0, 0)),
            prefix: 16,
        },
        Self {
            address: IpAddr::V6(Ipv6Addr::new(0xfd69, 0x6e73, 0x756c, 0, 0, 0, 0, 0)),
            prefix: 64,
        },
    ];

    /// Parses what is written; the error says what is wrong with it.
    fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no subnet such as 10.90.0.0/16");
        let (address, prefix) = text.split_once('/').ok_or_else(wrong)?;
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let prefix: u8 = prefix.parse().map_err(|_| wrong())?;
        let (bits, number) = match address {
            IpAddr::V4(address) => (32, u128::from(u32::from(address))),
            IpAddr::V6(address) => (128, u128::from(address)),
        };
        let host = bits - u32::from(prefix).min(bits);
        if prefix == 0 || host < 2 {
            return Err(format!("{text:?} is no subnet that pods fit in"));
        }
        if number.trailing_zeros() < host {
            return Err(format!("{text:?} has bits of a host behind the prefix"));
        }
        Ok(Self { address, prefix })
    }
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl Serialize for Subnet {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

// === impl Config ===

impl Default for Config {
    fn default() -> Self {
        let paths = |paths: &[&str]| paths.iter().map(PathBuf::from).collect();
        Self {
            listen: Address::Unix("/run/insula/insula.sock".into()),
            root: "/var/lib/insula".into(),
            state: "/run/insula".into(),
            cni: Cni {
                conf_dir: "/etc/cni/net.d".into(),
                conf_template: PathBuf::new(),
                bin_dirs: paths(&["/opt/cni/bin", "/usr/lib/cni"]),
                plugin_timeout: 60,
                default_network: true,
                default_bridge: "insula0".into(),
                default_subnets: Subnet::DEFAULT.to_vec(),
            },
            registry: Registry {
                config_path: paths(&[
                    "/etc/insula/certs.d",
                    "/etc/containerd/certs.d",
                    "/etc/docker/certs.d",
                ]),
                connect_timeout: 30,
                progress_timeout: 30,
            },
            cgroup: Cgroup {
                driver: CgroupDriver::Auto,
                parent: "insula".into(),
            },
            security: Security {
                device_ownership_from_security_context: false,
                seccomp_default: SeccompDefault::Unconfined,
            },
            cdi: Cdi {
                spec_dirs: paths(&["/etc/cdi", "/var/run/cdi"]),
            },
            runtimes: Runtimes::new(),
            streaming: Streaming {
                address: SocketAddr::from(([127, 0, 0, 1], 0)),
                tls: false,
                certificate: PathBuf::new(),
                key: PathBuf::new(),
                client_ca: PathBuf::new(),
                // Those of the Go servers.
                idle_timeout: 4 * 60 * 60,
                creation_timeout: 30,
            },
            metrics: Metrics { address: None },
            log: Log {
                level: Level::Info,
                format: Format::Text,
            },
        }
    }
}

// === impl Streaming ===

impl Streaming {
    /// What is wrong with the keys taken together.
    pub(crate) fn conflict(&self) -> Option<&'static str> {
        let has = |path: &PathBuf| !path.as_os_str().is_empty();
        let files = [&self.certificate, &self.key, &self.client_ca];
        if !self.tls && files.into_iter().any(has) {
            return Some(
                "`streaming.certificate`, `streaming.key` and `streaming.client_ca` are for TLS: \
                 set `streaming.tls` to true, or leave them out",
            );
        }
        if has(&self.certificate) != has(&self.key) {
            return Some(
                "`streaming.certificate` and `streaming.key` go together: set both or none",
            );
        }
        if !self.tls && !self.address.ip().is_loopback() {
            return Some(
                "`streaming.address` is reachable from other nodes: set `streaming.tls` to true, \
                 or use a loopback address such as \"127.0.0.1:0\"",
            );
        }
        None
    }
}

// === impl Address ===

impl Address {
    /// `unix:///path` or, where allowed, a loopback `address:port`.
    pub(crate) fn parse(text: &str, loopback: bool) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix://") {
            return if path.starts_with('/') && !path.contains('\0') && path.len() > 1 {
                Ok(Self::Unix(path.into()))
            } else {
                Err(format!("{text:?} has no absolute path after \"unix://\""))
            };
        }
        let expected = if loopback {
            "\"unix:///path\" or a loopback address such as \"127.0.0.1:9090\""
        } else {
            "\"unix:///path\""
        };
        match text.parse::<SocketAddr>() {
            Ok(address) if loopback && address.ip().is_loopback() => Ok(Self::Loopback(address)),
            _ => Err(format!("{text:?} is not {expected}")),
        }
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Loopback(address) => address.fmt(f),
        }
    }
}

impl Serialize for Address {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[expect(
    clippy::ref_option,
    reason = "serde hands over a reference to the field"
)]
fn or_empty<S: serde::Serializer>(
    address: &Option<Address>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match address {
        Some(address) => address.serialize(serializer),
        None => serializer.serialize_str(""),
    }
}

#[cfg(test)]
mod tests;
