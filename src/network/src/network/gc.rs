//! Garbage collection of attachments.

use std::collections::{BTreeMap, HashSet};

use serde_json::value::to_raw_value;

use super::{Network, blocking};
use crate::attachment::{INTERFACE, SandboxId};
use crate::conf::Loaded;
use crate::error::{Error, Result, Verb};
use crate::record::Store;

/// The key under which GC gets the attachments to be spared (CNI 1.1.0).
const VALID: &str = "cni.dev/valid-attachments";

/// What a garbage collection did.
#[derive(Debug, Default)]
pub struct GcReport {
    /// Sandboxes whose attachment was undone.
    pub removed: Vec<String>,
    /// What failed: the sandbox, or the plugin that was asked for GC, and why. It is tried again next time.
    pub failed: Vec<(String, Error)>,
}

impl Network {
    /// Undoes attachments of sandboxes that do not exist (any more), such as those of before a
    /// reboot, and asks the plugins of a 1.1.0 network for GC.
    ///
    /// `valid` are the ids of all sandboxes that exist, whatever their state. Sandboxes that were
    /// attached by this process and not detached since count as valid as well. A network
    /// namespace is only handed to DEL if it is provably the one that was attached.
    pub async fn gc(&self, valid: &HashSet<String>) -> Result<GcReport> {
        let mut report = GcReport::default();
        let store = self.0.store.clone();
        for id in blocking(move || store.ids()).await? {
            if valid.contains(id.as_str()) || self.0.turns.is_live(&id) {
                continue;
            }
            match self.collect(&id).await {
                Ok(true) => report.removed.push(id.as_str().to_owned()),
                Ok(false) => {}
                Err(error) => report.failed.push((id.as_str().to_owned(), error)),
            }
        }
        match self.load().await {
            Ok(loaded) if loaded.conf.version.has_status_and_gc() && !loaded.conf.disable_gc => {
                self.ask_for_gc(&loaded, valid, &mut report).await?;
            }
            // Without a network there is nobody to ask.
            Ok(_) | Err(Error::NoConfiguration(_) | Error::BadConfiguration { .. }) => {}
            Err(error) => return Err(error),
        }
        Ok(report)
    }

    async fn collect(&self, id: &SandboxId) -> Result<bool> {
        let _turn = self.0.turns.of(id).await?;
        if self.0.turns.is_live(id) {
            return Ok(false);
        }
        let Some(known) = self.with_store(id, Store::read).await? else {
            return Ok(false);
        };
        let netns = known.record.netns.still_there();
        self.delete(id, &known, netns).await?;
        Ok(true)
    }

    async fn ask_for_gc(
        &self,
        loaded: &Loaded,
        valid: &HashSet<String>,
        report: &mut GcReport,
    ) -> Result<()> {
        let network = &loaded.conf;
        let _alone = self.0.turns.alone().await?;
        // Made under the lock, so that it holds every attachment there is.
        let attachments: Vec<_> = self
            .attachments()
            .await?
            .into_iter()
            .filter(|known| known.network == network.name)
            .filter(|known| {
                valid.contains(&known.container_id)
                    || SandboxId::parse(&known.container_id)
                        .is_ok_and(|id| self.0.turns.is_live(&id))
            })
            .map(|known| {
                BTreeMap::from([
                    ("containerID", known.container_id),
                    ("ifname", INTERFACE.to_owned()),
                ])
            })
            .collect();
        let attachments = to_raw_value(&attachments)
            .map_err(|error| Error::InvalidAttachment(error.to_string()))?;
        for plugin in &network.plugins {
            let extra = [(VALID, attachments.clone())];
            let answer = self
                .means()
                .of_network(network, plugin, Verb::Gc, &extra)
                .await;
            if let Err(error) = answer {
                report.failed.push((plugin.kind.to_string(), error));
            }
        }
        Ok(())
    }
}
