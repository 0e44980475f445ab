//! The network of this node's pods.

mod gc;
mod generated;
mod status;

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use insula_cni::Cidr;
use serde_json::value::RawValue;
use tokio::time::timeout;

pub use self::gc::GcReport;
use self::generated::Generated;
pub use self::status::NetworkStatus;
use self::status::Poll;
use crate::attachment::{
    Attachment, INTERFACE, PodIdentity, SandboxId, capability_args, cni_args, parse_cidrs,
};
use crate::chain::{Means, PluginTime, bad_answer};
use crate::conf::{Loaded, NetworkConf, load};
use crate::config::NetworkConfig;
use crate::error::{Error, Result, Verb};
use crate::plugin::is_namespace;
use crate::record::{Known, Record, Store};
use crate::result::{CniResult, Interface};
use crate::turns::{Turns, lock};

/// How long an operation on our own few files may take.
const FILE_DEADLINE: Duration = Duration::from_secs(30);

/// The CNI runtime of this node. Clones are the same one.
///
/// Every future may be dropped at any point: a running plugin's process group is killed, and what
/// it may have done is undone by the next [`Network::detach`] or [`Network::gc`], for the record
/// of the attachment stays.
#[derive(Clone, Debug)]
pub struct Network(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    config: NetworkConfig,
    store: Store,
    turns: Turns,
    pod_cidrs: Mutex<Vec<Cidr>>,
    poll: Poll,
    /// What was last said about the configuration, so that it is logged when it changes.
    said: Mutex<String>,
}

/// What an attached sandbox got.
#[derive(Clone, Debug)]
pub struct AttachResult {
    /// The network's name.
    pub network: String,
    /// Addresses of the pod's interface, the primary one first; at least one.
    pub ips: Vec<IpAddr>,
    /// Interfaces that the plugins made or took, in the host and in the pod.
    pub interfaces: Vec<Interface>,
    /// The last plugin's result as it was written.
    pub raw: Box<RawValue>,
    /// How long each plugin took, in the order in which they ran.
    pub plugin_times: Vec<PluginTime>,
}

/// An attachment on record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttachmentRecord {
    /// The sandbox's id.
    pub container_id: String,
    /// The pod's names.
    pub pod: PodIdentity,
    /// The network's name.
    pub network: String,
    /// The network namespace that was attached; it may be gone.
    pub netns: PathBuf,
    /// The addresses of the pod's interface; empty if ADD has not completed.
    pub ips: Vec<IpAddr>,
}

impl Network {
    /// Opens the records, in a directory that is made if need be.
    ///
    /// That no network is configured yet is no error here: [`Network::status`] says so.
    pub async fn open(config: NetworkConfig) -> Result<Self> {
        let dir = config.state_dir.clone();
        let (store, pod_cidrs) = blocking(move || {
            let store = Store::open(&dir)?;
            let pod_cidrs = store.read_pod_cidrs()?;
            Ok((store, pod_cidrs))
        })
        .await?;
        let pod_cidrs = parse_cidrs(&pod_cidrs).unwrap_or_else(|why| {
            tracing::warn!(
                why,
                "the recorded pod address ranges are unusable and ignored"
            );
            Vec::new()
        });
        Ok(Self(Arc::new(Inner {
            turns: Turns::new(config.max_concurrent, config.plugin_deadline),
            pod_cidrs: Mutex::new(pod_cidrs),
            poll: Poll::default(),
            said: Mutex::default(),
            store,
            config,
        })))
    }

    /// Sets the address ranges of this node's pods: the CRI's `NetworkConfig.pod_cidr`, a
    /// comma-separated list. Empty text changes nothing. They last over a restart. Where there is
    /// a template, the configuration is made from it.
    pub async fn set_pod_cidrs(&self, text: &str) -> Result<()> {
        let cidrs = parse_cidrs(text).map_err(Error::InvalidAttachment)?;
        if cidrs.is_empty() {
            return Ok(());
        }
        let (store, text) = (self.0.store.clone(), text.to_owned());
        blocking(move || store.write_pod_cidrs(&text)).await?;
        lock(&self.0.pod_cidrs).clone_from(&cidrs);
        let Some(template) = self.0.config.conf_template.clone() else {
            return Ok(());
        };
        let dir = self.0.config.conf_dir.clone();
        match blocking(move || generated::generate(&dir, &template, &cidrs)).await? {
            Generated::Written(file) => {
                tracing::info!(?file, "made the CNI configuration from its template");
            }
            Generated::Same(file) => {
                tracing::debug!(?file, "the CNI configuration is made already");
            }
            Generated::Foreign(file) => {
                tracing::info!(
                    ?file,
                    "a CNI configuration is there: none is made from the template"
                );
            }
        }
        Ok(())
    }

    /// The address ranges of this node's pods, as they were set last.
    pub fn pod_cidrs(&self) -> Vec<Cidr> {
        lock(&self.0.pod_cidrs).clone()
    }

    /// Attaches a sandbox to the configured network as `eth0`.
    ///
    /// The intent is on record before the first plugin runs, and on the disk before this returns.
    /// If it fails, DEL has been run for all plugins; if that failed too, the record stays and
    /// [`Network::detach`] or [`Network::gc`] finishes the work.
    pub async fn attach(&self, attachment: Attachment) -> Result<AttachResult> {
        let id = SandboxId::parse(&attachment.container_id)?;
        let _turn = self.0.turns.of(&id).await?;
        let live = self.0.turns.live(&id);
        let record = self.intend(&id, &attachment).await?;
        let (synced, added) = tokio::join!(
            // The disk works while the plugins do.
            self.with_store(&id, Store::sync),
            self.add(&record),
        );
        let (result, added) = match added {
            Ok((result, attached)) => (Some(result), Ok(attached)),
            Err(error) => (None, Err(error)),
        };
        let kept = match (synced, result.clone()) {
            (Ok(()), Some(result)) => {
                self.with_store(&id, move |store, id| store.write_result(id, &result))
                    .await
            }
            (synced, _) => synced,
        };
        match added.and_then(|attached| kept.map(|()| attached)) {
            Ok(attached) => {
                live.keep();
                Ok(attached)
            }
            Err(error) => {
                let known = Known { record, result };
                let netns = known.record.netns.path.clone();
                if let Err(also) = self.delete(&id, &known, netns).await {
                    tracing::warn!(sandbox = id.as_str(), error = %also, "CNI DEL after a failed ADD failed too; the record is kept");
                }
                Err(error)
            }
        }
    }

    /// Detaches a sandbox with the configuration it was attached with, whatever the directory
    /// says now. `netns` is its network namespace; `None`, or a path that is no longer one, means
    /// that it is gone. A sandbox that is not attached is no error.
    pub async fn detach(&self, container_id: &str, netns: Option<&Path>) -> Result<()> {
        let id = SandboxId::parse(container_id)?;
        let _turn = self.0.turns.of(&id).await?;
        self.0.turns.forget(&id);
        let Some(known) = self.with_store(&id, Store::read).await? else {
            return Ok(());
        };
        let netns = netns
            .filter(|path| is_namespace(path))
            .map(Path::to_owned)
            .unwrap_or_default();
        self.delete(&id, &known, netns).await
    }

    /// Asks the plugins whether the attachment is as ADD left it.
    ///
    /// Networks before 0.4.0 and those that set `disableCheck` have no CHECK: they are in order.
    pub async fn check(&self, container_id: &str) -> Result<()> {
        let id = SandboxId::parse(container_id)?;
        let _turn = self.0.turns.of(&id).await?;
        let known = self.with_store(&id, Store::read).await?;
        let Some(Known {
            record,
            result: Some(result),
        }) = known
        else {
            return Err(Error::NotAttached(container_id.to_owned()));
        };
        if !record.network.version.has_check() || record.network.disable_check {
            return Ok(());
        }
        self.means().check(&record, &result).await
    }

    /// All attachments on record, by sandbox id, those of an earlier boot among them.
    pub async fn attachments(&self) -> Result<Vec<AttachmentRecord>> {
        let store = self.0.store.clone();
        let preference = self.0.config.ip_preference;
        blocking(move || {
            let mut attachments = Vec::new();
            for id in store.ids()? {
                let Some(Known { record, result }) = store.read(&id)? else {
                    continue;
                };
                let ips = result
                    .and_then(|raw| CniResult::from_raw(raw, record.network.version).ok())
                    .map(|result| result.pod_ips(&record.interface, preference))
                    .unwrap_or_default();
                attachments.push(AttachmentRecord {
                    container_id: record.container_id,
                    pod: record.pod,
                    network: record.network.name,
                    netns: record.netns.path,
                    ips,
                });
            }
            Ok(attachments)
        })
        .await
    }

    /// Writes down what will be asked of the plugins.
    async fn intend(&self, id: &SandboxId, attachment: &Attachment) -> Result<Record> {
        if !is_namespace(&attachment.netns) {
            return Err(Error::InvalidAttachment(format!(
                "{} is not a network namespace",
                attachment.netns.display()
            )));
        }
        let Loaded { conf, .. } = self.load().await?;
        for plugin in &conf.plugins {
            self.0.config.programs().locate(&plugin.kind)?;
        }
        let record = Record::new(
            id.as_str().to_owned(),
            attachment.pod.clone(),
            INTERFACE,
            &attachment.netns,
            cni_args(id, &attachment.pod)?,
            capability_args(attachment, &self.pod_cidrs(), &conf)?,
            conf,
        );
        let (id, store) = (id.clone(), self.0.store.clone());
        blocking(move || {
            if store.has(&id) {
                return Err(Error::AlreadyAttached(id.as_str().to_owned()));
            }
            store.write_intent(&record)?;
            Ok(record)
        })
        .await
    }

    /// Runs ADD; gives the result to be kept and the one to be returned.
    async fn add(&self, record: &Record) -> Result<(Box<RawValue>, AttachResult)> {
        let network = &record.network;
        let (result, plugin_times) = self.means().add(record).await?;
        let bad = |why| {
            // The last plugin's result is the network's.
            let last = network.plugins.last().unwrap_or(&network.plugins[0]);
            bad_answer(last, Verb::Add, network, why)
        };
        let ips = result.pod_ips(&record.interface, self.0.config.ip_preference);
        if ips.is_empty() {
            return Err(bad(format!("it gives no address for {}", record.interface)));
        }
        let kept = result.for_version(network.version).map_err(bad)?;
        let attached = AttachResult {
            network: network.name.clone(),
            ips,
            interfaces: result.interfaces,
            raw: result.raw,
            plugin_times,
        };
        Ok((kept, attached))
    }

    /// Runs DEL, and forgets the attachment when it succeeded.
    async fn delete(&self, id: &SandboxId, known: &Known, netns: PathBuf) -> Result<()> {
        self.means().del(known, netns).await?;
        self.with_store(id, Store::remove).await
    }

    /// The configuration in force; what changed about it is logged.
    async fn load(&self) -> Result<Loaded> {
        let dir = self.0.config.conf_dir.clone();
        let default = self.0.config.default_network.clone();
        let pod_cidrs = self.pod_cidrs();
        let loaded = blocking(move || match (load(&dir), default) {
            (Err(Error::NoConfiguration(_)), Some(default)) => {
                Loaded::default_network(&default, &pod_cidrs)
            }
            (loaded, _) => loaded,
        })
        .await;
        let saying = match &loaded {
            Ok(Loaded {
                conf,
                file,
                skipped,
            }) => describe(conf, file.as_deref(), skipped),
            Err(error) => error.to_string(),
        };
        let mut said = lock(&self.0.said);
        if *said != saying {
            tracing::info!("CNI configuration: {saying}");
            *said = saying;
        }
        loaded
    }

    fn means(&self) -> Means<'_> {
        Means {
            programs: self.0.config.programs(),
            deadline: self.0.config.plugin_deadline,
        }
    }

    async fn with_store<T: Send + 'static>(
        &self,
        id: &SandboxId,
        operation: impl FnOnce(&Store, &SandboxId) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (store, id) = (self.0.store.clone(), id.clone());
        blocking(move || operation(&store, &id)).await
    }
}

fn describe(conf: &NetworkConf, file: Option<&Path>, skipped: &[(PathBuf, String)]) -> String {
    let plugins: Vec<_> = conf
        .plugins
        .iter()
        .map(|plugin| plugin.kind.as_str())
        .collect();
    let mut parts = vec![format!(
        "network {:?}, version {}, plugins {}, {}",
        conf.name,
        conf.version,
        plugins.join(", "),
        match file {
            Some(file) => format!("from {}", file.display()),
            None => "the default where there is no configuration".to_owned(),
        }
    )];
    parts.extend(
        skipped
            .iter()
            .map(|(file, why)| format!("ignored {}: {why}", file.display())),
    );
    parts.join("; ")
}

/// Runs file operations on a thread that may block, within a deadline.
async fn blocking<T: Send + 'static>(
    operation: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    match timeout(FILE_DEADLINE, tokio::task::spawn_blocking(operation)).await {
        Ok(Ok(result)) => result,
        Ok(Err(join)) => Err(Error::io(
            "a file operation ended early",
            "",
            std::io::Error::other(join),
        )),
        Err(_) => Err(Error::Busy {
            stage: "for a file operation of the CNI runtime",
            after: FILE_DEADLINE,
        }),
    }
}
