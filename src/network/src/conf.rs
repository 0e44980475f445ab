//! Network configurations: one network, and the chain of plugins that makes it.

mod load;
mod template;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;

use insula_cni::CniVersion;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

pub(crate) use self::load::{Loaded, load};
pub use self::template::render;
use crate::json::Object;

/// Enough for every chain seen in the field, and a bound on what one file can make us run.
const MAX_PLUGINS: usize = 64;

/// A plugin's `type`: a bare file name, so that no configuration reaches a program outside the
/// plugin directories (CVE-2021-20206).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct PluginType(String);

impl PluginType {
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let bare = !text.is_empty()
            && text.len() <= 255
            && text != "."
            && text != ".."
            && !text.contains(['/', '\\'])
            && !text.chars().any(char::is_control);
        if bare {
            Ok(Self(text.to_owned()))
        } else {
            Err(format!(
                "plugin type {text:?} is not a bare file name in the plugin directories"
            ))
        }
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PluginType {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// One plugin of a chain.
#[derive(Clone, Debug)]
pub(crate) struct PluginConf {
    pub(crate) kind: PluginType,
    /// The plugin that this one runs for addresses, if it says so.
    pub(crate) ipam: Option<PluginType>,
    /// Names of the capabilities it declares.
    pub(crate) capabilities: Vec<String>,
    /// The configuration as written.
    pub(crate) object: Object,
}

impl PluginConf {
    pub(crate) fn parse(object: Object) -> Result<Self, String> {
        let kind: String = object.read("type")?.ok_or("a plugin has no \"type\"")?;
        let kind = PluginType::parse(&kind)?;
        let within = |error: String| format!("plugin {kind}: {error}");
        let capabilities = object
            .read::<BTreeMap<String, bool>>("capabilities")
            .map_err(within)?
            .unwrap_or_default();
        // Only an object has a type for us to see; anything else is between the plugin and its author.
        let ipam = object
            .get("ipam")
            .and_then(|raw| serde_json::from_str::<Object>(raw.get()).ok())
            .and_then(|ipam| ipam.read::<String>("type").ok().flatten())
            .filter(|kind| !kind.is_empty())
            .map(|kind| PluginType::parse(&kind))
            .transpose()
            .map_err(within)?;
        Ok(Self {
            ipam,
            capabilities: capabilities
                .into_iter()
                .filter_map(|(name, declared)| declared.then_some(name))
                .collect(),
            kind,
            object,
        })
    }
}

/// A network: a name, a version, and a chain of at least one plugin.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(into = "Stored", try_from = "Stored")]
pub(crate) struct NetworkConf {
    pub(crate) name: String,
    pub(crate) version: CniVersion,
    pub(crate) disable_check: bool,
    pub(crate) disable_gc: bool,
    pub(crate) plugins: Vec<PluginConf>,
}

/// How a network is kept in a record: plugins exactly as they were written.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Stored {
    name: String,
    cni_version: CniVersion,
    #[serde(default)]
    disable_check: bool,
    #[serde(default, rename = "disableGC")]
    disable_gc: bool,
    plugins: Vec<Object>,
}

impl From<NetworkConf> for Stored {
    fn from(conf: NetworkConf) -> Self {
        Self {
            name: conf.name,
            cni_version: conf.version,
            disable_check: conf.disable_check,
            disable_gc: conf.disable_gc,
            plugins: conf
                .plugins
                .into_iter()
                .map(|plugin| plugin.object)
                .collect(),
        }
    }
}

impl TryFrom<Stored> for NetworkConf {
    type Error = String;
    fn try_from(stored: Stored) -> Result<Self, String> {
        let conf = Self {
            name: network_name(Some(stored.name))?,
            version: stored.cni_version,
            disable_check: stored.disable_check,
            disable_gc: stored.disable_gc,
            plugins: plugins(stored.plugins)?,
        };
        conf.at_least_one_plugin()
    }
}

impl NetworkConf {
    /// Parses a list (`*.conflist`). `more` gives the plugins that are kept in files of their own,
    /// unless the list says `loadOnlyInlinedPlugins`.
    pub(crate) fn parse_list(
        bytes: &[u8],
        more: impl FnOnce(&str) -> Result<Vec<Object>, String>,
    ) -> Result<Self, String> {
        let list = object(bytes)?;
        let name = network_name(list.read("name")?)?;
        let mut objects: Vec<Object> = list.read("plugins")?.unwrap_or_default();
        if !flag(&list, "loadOnlyInlinedPlugins")? {
            objects.extend(more(&name)?);
        }
        let conf = Self {
            version: version(&list)?,
            disable_check: flag(&list, "disableCheck")?,
            disable_gc: flag(&list, "disableGC")?,
            plugins: plugins(objects)?,
            name,
        };
        conf.at_least_one_plugin()
    }

    /// Parses the configuration of a single plugin (`*.conf`, `*.json`) as a list of one.
    pub(crate) fn parse_single(bytes: &[u8]) -> Result<Self, String> {
        let single = object(bytes)?;
        if single.get("type").is_none() && single.get("plugins").is_some() {
            return Err("it holds a list of plugins: name it *.conflist".to_owned());
        }
        let name = network_name(single.read("name")?)?;
        let version = version(&single)?;
        Ok(Self {
            name,
            version,
            disable_check: false,
            disable_gc: false,
            plugins: plugins(vec![single])?,
        })
    }

    fn at_least_one_plugin(self) -> Result<Self, String> {
        if self.plugins.is_empty() {
            return Err("it has no plugins".to_owned());
        }
        Ok(self)
    }

    /// Whether any plugin of the chain declares `capability`.
    pub(crate) fn declares(&self, capability: &str) -> bool {
        self.plugins
            .iter()
            .any(|plugin| plugin.capabilities.iter().any(|name| name == capability))
    }
}

fn object(bytes: &[u8]) -> Result<Object, String> {
    serde_json::from_slice(bytes).map_err(|error| format!("not a JSON object: {error}"))
}

fn plugins(objects: Vec<Object>) -> Result<Vec<PluginConf>, String> {
    if objects.len() > MAX_PLUGINS {
        return Err(format!("it has more than {MAX_PLUGINS} plugins"));
    }
    objects.into_iter().map(PluginConf::parse).collect()
}

/// A name: a letter or digit, then letters, digits, `_`, `.` and `-` (CNI specification, section 1).
fn network_name(name: Option<String>) -> Result<String, String> {
    let name = name.ok_or("it has no \"name\"")?;
    if is_identifier(&name) && name.len() <= 255 {
        Ok(name)
    } else {
        Err(format!(
            "name {name:?} must begin with a letter or digit and hold only these and _ . -"
        ))
    }
}

/// The form of network names and container ids.
pub(crate) fn is_identifier(text: &str) -> bool {
    let mut bytes = text.bytes();
    bytes
        .next()
        .is_some_and(|first| first.is_ascii_alphanumeric())
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
}

/// The newest version that the configuration names in `cniVersion` or `cniVersions` and we speak.
fn version(object: &Object) -> Result<CniVersion, String> {
    let one: Option<String> = object.read("cniVersion")?;
    let many: Vec<String> = object.read("cniVersions")?.unwrap_or_default();
    if one.is_none() && many.is_empty() {
        return Err("it has no \"cniVersion\"; write, for example, \"1.0.0\"".to_owned());
    }
    let named = || one.iter().chain(&many);
    named()
        .filter_map(|text| CniVersion::parse(text))
        .max()
        .ok_or_else(|| CniVersion::unsupported(&named().cloned().collect::<Vec<_>>().join(", ")))
}

/// A boolean that the specification once wrote as a string.
fn flag(object: &Object, key: &str) -> Result<bool, String> {
    let Some(raw) = object.get(key) else {
        return Ok(false);
    };
    match lower(raw).as_str() {
        "true" | "\"true\"" => Ok(true),
        "false" | "\"false\"" | "null" => Ok(false),
        other => Err(format!("key {key:?} is {other}, not true or false")),
    }
}

fn lower(raw: &RawValue) -> String {
    raw.get().trim().to_ascii_lowercase()
}
