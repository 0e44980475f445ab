//! The rooms of the daemon, opened in order.

use super::config::{Config, SeccompDefault};
use super::metrics::Gatherer;
use super::pulls::PullFiles;
use super::{Error, handlers, streaming, system};
use crate::doctor::{self, Listener, Places};
use insula_images::{Images, StoreConfig, Timeouts};
use insula_isolators::isolator::HostFacts;
use insula_network::{Cidr, DefaultNetwork, Network, NetworkConfig};
use insula_pods::{CgroupDriver, Pods, PodsConfig};
use insula_server::{CallMetrics, Node, PodStreams, Service};
use insula_streaming::Server;
use prometheus::Registry;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What is served.
#[derive(Debug)]
pub(crate) struct Rooms {
    /// Answers calls.
    pub(crate) service: Service,
    /// Serves the streams that calls give URLs for.
    pub(crate) streaming: Server,
    /// What it serves streams of.
    pub(crate) streams: PodStreams,
    /// For the end: what is being flushed must be waited for.
    pub(crate) images: Images,
    /// Metrics of all rooms.
    pub(crate) gatherer: Gatherer,
}

// === impl Rooms ===

impl Rooms {
    /// Opens everything; afterwards every record of images, attachments and
    /// pods has been read.
    pub(crate) async fn open(config: &Config, supervisor: &Path) -> Result<Self, Error> {
        // A process has one provider; only a second installation is an error.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let images = open_images(config).await?;
        let own_plugin = own_plugin();
        let network = Network::open(NetworkConfig {
            conf_dir: config.cni.conf_dir.clone(),
            conf_template: Some(config.cni.conf_template.clone())
                .filter(|path| !path.as_os_str().is_empty()),
            bin_dirs: config.cni.bin_dirs.clone(),
            plugin_deadline: seconds(config.cni.plugin_timeout),
            default_network: own_plugin
                .as_ref()
                .filter(|_| config.cni.default_network)
                .map(|_| default_network(config)),
            own_plugin,
            ..NetworkConfig::new(config.root.join("network"))
        })
        .await?;
        let host = blocking("looking at this host", || {
            HostFacts::detect(doctor::probe::try_recursive_read_only().is_ok())
        })
        .await?
        .map_err(|error| system("this host")(error.to_string()))?;
        let runtimes = config.runtimes.clone();
        let handlers = blocking("asking the runtime handlers", move || {
            handlers::open(&runtimes)
        })
        .await?;
        let user_namespaces = user_namespaces(config).await?;
        let shown = handlers::shown(&handlers, host.recursive_readonly, user_namespaces);
        let pods_config = PodsConfig {
            cgroup_driver: cgroup_driver(config),
            cgroup_parent: config.cgroup.parent.clone(),
            device_ownership: config.security.device_ownership_from_security_context,
            seccomp_default: config.security.seccomp_default == SeccompDefault::RuntimeDefault,
            cdi_spec_dirs: config.cdi.spec_dirs.clone(),
            handlers: handlers::for_pods(&handlers),
            ..PodsConfig::new(&config.root, &config.state, supervisor)
        };
        let pods = Pods::open(pods_config, images.clone(), network, host).await?;
        let own = Registry::new();
        let calls = CallMetrics::new(&own)
            .map_err(|error| system("the daemon's metrics")(error.to_string()))?;
        let streaming = streaming::listen(&config.streaming, &own).await?;
        let sessions = streaming.sessions();
        let gatherer = Gatherer::new(vec![own, pods.metrics().registry().clone()])
            .with_sessions(sessions.clone());
        let listener = Listener::Serving(sessions.base().to_owned());
        let places = places(config, supervisor, listener);
        let node = node(config, places, shown, user_namespaces)?;
        Ok(Self {
            streams: PodStreams::new(pods.clone()),
            service: Service::new(pods, images.clone(), sessions, node, calls),
            streaming,
            images,
            gatherer,
        })
    }
}

fn seconds(number: u32) -> Duration {
    Duration::from_secs(number.into())
}

async fn open_images(config: &Config) -> Result<Images, Error> {
    let store = StoreConfig {
        registry_config_paths: config.registry.config_path.clone(),
        timeouts: Timeouts {
            connect: seconds(config.registry.connect_timeout),
            progress: seconds(config.registry.progress_timeout),
        },
        ..StoreConfig::new(&config.root)
    };
    Ok(blocking("opening the image store", move || Images::open(store)).await??)
}

/// Tries them where containers would have theirs.
async fn user_namespaces(config: &Config) -> Result<bool, Error> {
    let root = config.root.clone();
    let tried = blocking("trying user namespaces", move || {
        doctor::user_namespaces::try_root_file_system(&root)
    })
    .await?;
    if let Err(reason) = &tried {
        tracing::info!(reason, "pods cannot have user namespaces of their own");
    }
    Ok(tried.is_ok())
}

fn node(
    config: &Config,
    places: Places,
    handlers: Vec<insula_server::Handler>,
    user_namespaces: bool,
) -> Result<Node, Error> {
    let pulls = PullFiles::open(&config.state)
        .map_err(|error| system("the directory of pulls in flight")(error.to_string()))?;
    let shown = serde_json::to_value(config)
        .map_err(|error| system("the configuration")(error.to_string()))?;
    Ok(Node {
        root: config.root.clone(),
        state: config.state.clone(),
        handlers,
        // /sys is then mounted by the host's root, so nothing more is needed.
        user_namespaces_host_network: user_namespaces,
        config: shown,
        doctor: Box::new(move || {
            serde_json::to_value(doctor::examine(&places)).unwrap_or_default()
        }),
        pulls: Box::new(pulls),
    })
}

/// What the doctor looks at.
pub(crate) fn places(config: &Config, supervisor: &Path, streaming: Listener) -> Places {
    Places {
        root: config.root.clone(),
        cgroup_driver: cgroup_driver(config),
        state: config.state.clone(),
        cni_conf_dir: config.cni.conf_dir.clone(),
        cni_bin_dirs: config.cni.bin_dirs.clone(),
        default_network: config.cni.default_network,
        own_plugin: own_plugin(),
        registry_config: config.registry.config_path.clone(),
        runtimes: config.runtimes.clone(),
        supervisor: supervisor.to_owned(),
        streaming,
    }
}

/// `insula-net` beside this program, if it is installed.
pub(crate) fn own_plugin() -> Option<PathBuf> {
    let own = std::env::current_exe().ok()?;
    Some(own.with_file_name("insula-net")).filter(|plugin| plugin.is_file())
}

fn default_network(config: &Config) -> DefaultNetwork {
    let subnets = config.cni.default_subnets.iter();
    DefaultNetwork {
        bridge: config.cni.default_bridge.clone(),
        data_dir: config.root.join("addresses"),
        subnets: subnets
            .map(|subnet| Cidr {
                address: subnet.address,
                prefix: subnet.prefix,
            })
            .collect(),
    }
}

fn cgroup_driver(config: &Config) -> CgroupDriver {
    match config.cgroup.driver {
        super::config::CgroupDriver::Auto => CgroupDriver::Auto,
        super::config::CgroupDriver::Cgroupfs => CgroupDriver::Cgroupfs,
        super::config::CgroupDriver::Systemd => CgroupDriver::Systemd,
    }
}

async fn blocking<T: Send + 'static>(
    what: &'static str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Error> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| system(what)(error.to_string()))
}
