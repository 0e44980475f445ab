//! A network's chain of plugins, run for one sandbox or for the network as a whole.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::value::RawValue;

use crate::attachment::CapabilityArgs;
use crate::conf::{NetworkConf, PluginConf};
use crate::error::{Error, Result, Verb};
use crate::plugin::{Answer, Programs, Question, Target, ask};
use crate::record::{Known, Record};
use crate::result::CniResult;

/// How long one plugin took for ADD.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PluginTime {
    /// The plugin's type.
    pub plugin: String,
    /// From its start to its end.
    pub took: Duration,
}

/// Where plugins are and how long each may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Means<'a> {
    pub(crate) programs: Programs<'a>,
    pub(crate) deadline: Duration,
}

impl Means<'_> {
    /// ADD by each plugin, in order; each gets the result of the one before.
    pub(crate) async fn add(self, record: &Record) -> Result<(CniResult, Vec<PluginTime>)> {
        let target = target(record, record.netns.path.clone());
        let mut times = Vec::new();
        let mut previous: Option<CniResult> = None;
        for plugin in &record.network.plugins {
            let bad = |why| bad_answer(plugin, Verb::Add, &record.network, why);
            let version = record.network.version;
            let previous_text = previous
                .as_ref()
                .map(|result| result.for_version(version))
                .transpose()
                .map_err(bad)?;
            let stdin = request(
                &record.network,
                plugin,
                &record.capability_args,
                previous_text.as_deref(),
            )?;
            let answer = self
                .ask(&record.network, plugin, Verb::Add, stdin, Some(&target))
                .await?;
            previous = Some(CniResult::parse(&answer.stdout, version).map_err(bad)?);
            times.push(PluginTime {
                plugin: plugin.kind.to_string(),
                took: answer.took,
            });
        }
        match previous {
            Some(result) => Ok((result, times)),
            None => Err(Error::InvalidAttachment(
                "the network has no plugins".into(),
            )),
        }
    }

    /// DEL by each plugin, in reverse order.
    ///
    /// All are asked even if one fails: the plugin that cannot remove a port mapping must not
    /// keep the one behind it from releasing the address. The first error is returned, and DEL
    /// can be repeated.
    pub(crate) async fn del(self, known: &Known, netns: PathBuf) -> Result<()> {
        let record = &known.record;
        let network = &record.network;
        let target = target(record, netns);
        let previous = known
            .result
            .as_deref()
            .filter(|_| network.version.has_check());
        let mut first = Ok(());
        for plugin in network.plugins.iter().rev() {
            let stdin = request(network, plugin, &record.capability_args, previous)?;
            let answer = self
                .ask(network, plugin, Verb::Del, stdin, Some(&target))
                .await;
            match answer {
                // Code 3: the plugin does not know the container, so there is nothing to undo.
                Err(Error::PluginFailed(failure)) if failure.code == Some(3) => {}
                Err(error) => {
                    tracing::warn!(sandbox = record.container_id, %error, "CNI DEL failed");
                    if first.is_ok() {
                        first = Err(error);
                    }
                }
                Ok(_) => {}
            }
        }
        first
    }

    /// CHECK by each plugin, in order, up to the first error.
    pub(crate) async fn check(self, record: &Record, result: &RawValue) -> Result<()> {
        let target = target(record, record.netns.path.clone());
        for plugin in &record.network.plugins {
            let stdin = request(
                &record.network,
                plugin,
                &record.capability_args,
                Some(result),
            )?;
            self.ask(&record.network, plugin, Verb::Check, stdin, Some(&target))
                .await?;
        }
        Ok(())
    }

    /// One question about the network as a whole (STATUS, GC, VERSION), with `extra` keys.
    pub(crate) async fn of_network(
        self,
        network: &NetworkConf,
        plugin: &PluginConf,
        verb: Verb,
        extra: &[(&str, Box<RawValue>)],
    ) -> Result<Answer> {
        let mut object = plugin.object.clone();
        identify(&mut object, network)?;
        for (key, value) in extra {
            object.set(key, value.clone());
        }
        let stdin = serde_json::to_vec(&object).map_err(|error| unserializable(&error))?;
        self.ask(network, plugin, verb, stdin, None).await
    }

    async fn ask(
        self,
        network: &NetworkConf,
        plugin: &PluginConf,
        verb: Verb,
        stdin: Vec<u8>,
        target: Option<&Target>,
    ) -> Result<Answer> {
        let question = Question {
            plugin: &plugin.kind,
            verb,
            network: &network.name,
            stdin,
            target,
            deadline: self.deadline,
        };
        ask(question, self.programs).await
    }
}

pub(crate) fn bad_answer(
    plugin: &PluginConf,
    verb: Verb,
    network: &NetworkConf,
    why: String,
) -> Error {
    Error::BadAnswer {
        plugin: plugin.kind.to_string(),
        verb,
        network: network.name.clone(),
        why,
    }
}

fn target(record: &Record, netns: PathBuf) -> Target {
    Target {
        container_id: record.container_id.clone(),
        netns,
        interface: record.interface.clone(),
        args: record.args.clone(),
    }
}

/// A plugin's configuration for one execution: as written, with the network's name and version,
/// the capability arguments it declares, and the previous result (CNI specification, section 3).
/// `capabilities` stays in it, as the reference library leaves it.
fn request(
    network: &NetworkConf,
    plugin: &PluginConf,
    args: &CapabilityArgs,
    previous: Option<&RawValue>,
) -> Result<Vec<u8>> {
    let mut object = plugin.object.clone();
    identify(&mut object, network)?;
    let declared: CapabilityArgs = args
        .iter()
        .filter(|(name, _)| plugin.capabilities.contains(name))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    if !declared.is_empty() {
        object
            .set_value("runtimeConfig", &declared)
            .map_err(|error| unserializable(&error))?;
    }
    match previous {
        Some(result) => object.set("prevResult", result.to_owned()),
        None => object.remove("prevResult"),
    }
    serde_json::to_vec(&object).map_err(|error| unserializable(&error))
}

fn identify(object: &mut crate::json::Object, network: &NetworkConf) -> Result<()> {
    object
        .set_value("name", &network.name)
        .and_then(|()| object.set_value("cniVersion", &network.version))
        .map_err(|error| unserializable(&error))
}

fn unserializable(error: &serde_json::Error) -> Error {
    Error::InvalidAttachment(format!("its configuration cannot be written: {error}"))
}
