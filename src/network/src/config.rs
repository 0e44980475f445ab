//! What the daemon's configuration says about the network.

use std::path::PathBuf;
use std::time::Duration;

use insula_cni::Cidr;

use crate::plugin::Programs;

/// Where things are, and how long to wait for them.
#[derive(Clone, Debug)]
pub struct NetworkConfig {
    /// The directory of `*.conflist`, `*.conf` and `*.json`; it may appear later.
    pub conf_dir: PathBuf,
    /// What a configuration is made from when the node's pod address ranges become known, if
    /// nobody else has left one; `None` makes none.
    pub conf_template: Option<PathBuf>,
    /// Directories of plugin binaries, searched in order.
    pub bin_dirs: Vec<PathBuf>,
    /// Our records of attachments, on a disk that survives a reboot; made with mode 0700.
    pub state_dir: PathBuf,
    /// How long one plugin may take for one verb.
    pub plugin_deadline: Duration,
    /// How many plugin chains may run at the same time, at least 1.
    pub max_concurrent: usize,
    /// Which of a pod's addresses is its primary one.
    pub ip_preference: IpPreference,
    /// For how long an answer of the plugins' STATUS is believed.
    pub status_interval: Duration,
    /// For how long STATUS must fail, after it succeeded, before the network is not ready.
    pub status_grace: Duration,
    /// The program `insula-net` that belongs to this daemon; it counts before one of that name in
    /// `bin_dirs`. `None` where it is not installed.
    pub own_plugin: Option<PathBuf>,
    /// The network of a node whose `conf_dir` holds no configuration; needs `own_plugin`.
    pub default_network: Option<DefaultNetwork>,
}

/// A network that needs no configuration: a bridge, addresses, masquerading, mapped ports and
/// rates, by `insula-net`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DefaultNetwork {
    /// Name of the bridge.
    pub bridge: String,
    /// A range of addresses for each address family. Ranges that the client sets
    /// ([`crate::Network::set_pod_cidrs`]) take their place.
    pub subnets: Vec<Cidr>,
    /// Where the plugin keeps which addresses are taken; made if need be.
    pub data_dir: PathBuf,
}

/// Which address of a dual-stack pod comes first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IpPreference {
    /// IPv4 before IPv6, as kubelet expects where it is told nothing.
    #[default]
    Ipv4,
    /// IPv6 before IPv4.
    Ipv6,
    /// The order of the plugins' result.
    AsGiven,
}

impl NetworkConfig {
    /// Where plugins are.
    pub(crate) fn programs(&self) -> Programs<'_> {
        Programs {
            bin_dirs: &self.bin_dirs,
            own: self.own_plugin.as_deref(),
        }
    }

    /// The usual directories and deadlines, with records in `state_dir`.
    pub fn new(state_dir: impl Into<PathBuf>) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self {
            conf_dir: "/etc/cni/net.d".into(),
            conf_template: None,
            bin_dirs: vec!["/opt/cni/bin".into(), "/usr/lib/cni".into()],
            state_dir: state_dir.into(),
            plugin_deadline: Duration::from_mins(1),
            max_concurrent: 2 * cores,
            ip_preference: IpPreference::default(),
            status_interval: Duration::from_secs(5),
            status_grace: Duration::from_secs(10),
            own_plugin: None,
            default_network: None,
        }
    }
}
