//! Which keys there are.

use crate::error::{Code, Failure};
use serde_json::{Map, Value};

/// Keys of the plugin's object.
const KEYS: &[&str] = &[
    // Every plugin's.
    "args",
    "capabilities",
    "cniVersion",
    "cniVersions",
    "disableCheck",
    "disableGC",
    "dns",
    "ipam",
    "name",
    "prevResult",
    "runtimeConfig",
    "type",
    // Of bridge.
    "bridge",
    "enabledad",
    "forceAddress",
    "hairpinMode",
    "ipMasq",
    "isDefaultGateway",
    "isGateway",
    "mtu",
    "portIsolation",
    // Of portmap and bandwidth.
    "egressBurst",
    "egressRate",
    "ingressBurst",
    "ingressRate",
    "snat",
    // Our own.
    "isolation",
];

/// Keys of `ipam`.
const IPAM_KEYS: &[&str] = &[
    "dataDir",
    "exclude",
    "gateway",
    "rangeEnd",
    "rangeStart",
    "ranges",
    "resolvConf",
    "routes",
    "subnet",
    "type",
];

/// What the reference plugins have and we have not, and what to do. A value that asks for nothing
/// is no harm.
const UNSUPPORTED: &[(&str, &str)] = &[
    ("vlan", "use the bridge plugin for VLANs"),
    ("vlanTrunk", "use the bridge plugin for VLANs"),
    ("preserveDefaultVlan", "use the bridge plugin for VLANs"),
    ("promiscMode", "hairpinMode serves the same purpose"),
    ("macspoofchk", "use the bridge plugin for it"),
    ("disableContainerInterface", "use the bridge plugin for it"),
    ("conditionsV4", "use the portmap plugin for conditions"),
    ("conditionsV6", "use the portmap plugin for conditions"),
    ("masqAll", "use the portmap plugin for it"),
    ("markMasqBit", "packets are not marked: leave it out"),
    (
        "externalSetMarkChain",
        "packets are not marked: leave it out",
    ),
    ("shapedSubnets", "use the bandwidth plugin for it"),
    ("unshapedSubnets", "use the bandwidth plugin for it"),
];

/// The one choice that other plugins leave: rules are always those of nftables.
const BACKENDS: &[&str] = &["backend", "ipMasqBackend"];

/// Values of `ipam.type` for which this plugin gives addresses as that plugin would.
const IPAM_TYPES: &[&str] = &["", "insula-net", "host-local"];

/// Refuses what would be left out without a word.
pub(super) fn refuse_unsupported(object: &Map<String, Value>) -> Result<(), Failure> {
    for (key, instead) in UNSUPPORTED {
        if let Some(value) = object.get(*key).filter(|value| asks(value)) {
            return Err(unsupported(&format!("{key} = {value}"), instead));
        }
    }
    for key in BACKENDS {
        if let Some(value) = object
            .get(*key)
            .filter(|value| asks(value) && *value != "nftables")
        {
            return Err(unsupported(
                &format!("{key} = {value}"),
                "rules are made for nftables",
            ));
        }
    }
    let kind = object.get("ipam").and_then(|ipam| ipam.get("type"));
    match kind {
        None | Some(Value::Null) => Ok(()),
        Some(Value::String(kind)) if IPAM_TYPES.contains(&kind.as_str()) => Ok(()),
        Some(other) => Err(unsupported(
            &format!("ipam.type = {other}"),
            "insula-net gives addresses itself: leave it out, or use the bridge plugin",
        )),
    }
}

fn asks(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => false,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(list) => !list.is_empty(),
        Value::Bool(true) | Value::Object(_) => true,
    }
}

fn unsupported(what: &str, instead: &str) -> Failure {
    Failure::new(
        Code::UnsupportedField,
        format!("insula-net does not have {what}"),
        instead,
    )
}

/// The keys that nobody knows, each with the known one it resembles.
pub(super) fn unknown(object: &Map<String, Value>) -> Vec<String> {
    let unsupported = |key: &str| UNSUPPORTED.iter().any(|(name, _)| *name == key);
    let mut unknown: Vec<String> = object
        .keys()
        .filter(|key| !is_foreign(key) && !KEYS.contains(&key.as_str()))
        .filter(|key| !unsupported(key) && !BACKENDS.contains(&key.as_str()))
        .map(|key| suggest("", key, KEYS))
        .collect();
    let ipam = object.get("ipam").and_then(Value::as_object);
    unknown.extend(
        ipam.into_iter()
            .flat_map(Map::keys)
            .filter(|key| !is_foreign(key) && !IPAM_KEYS.contains(&key.as_str()))
            .map(|key| suggest("ipam.", key, IPAM_KEYS)),
    );
    unknown
}

/// A comment, or the key of somebody with a name of their own.
fn is_foreign(key: &str) -> bool {
    key.starts_with('_') || key.contains(['.', '/'])
}

fn suggest(within: &str, key: &str, known: &[&str]) -> String {
    let like = known
        .iter()
        .map(|name| {
            (
                strsim::jaro_winkler(&name.to_lowercase(), &key.to_lowercase()),
                name,
            )
        })
        .filter(|(likeness, _)| *likeness > 0.8)
        .max_by(|one, other| one.0.total_cmp(&other.0));
    match like {
        Some((_, name)) => format!("{within}{key} (did you mean {name}?)"),
        None => format!("{within}{key}"),
    }
}
