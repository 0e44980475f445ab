//! `[runtimes.NAME]`: runtime handlers beside the native one.

use serde::Serialize;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Keys of one handler.
pub(crate) const KEYS: &[&str] = &["type", "path", "args", "timeout"];

/// How long one call of a runtime may take unless the configuration says
/// otherwise, in seconds.
const TIMEOUT: u32 = 30;

/// All handlers by name.
pub(crate) type Runtimes = BTreeMap<String, Runtime>;

/// One handler.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub(crate) struct Runtime {
    /// Who executes its containers; every handler has to say.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub(crate) kind: Option<Kind>,
    /// Absolute path of an external runtime's program.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) path: Option<PathBuf>,
    /// Its arguments before every command.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) args: Vec<String>,
    /// How long one call of it may take, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) timeout: Option<u32>,
}

/// `type` of a handler.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    /// The daemon itself, by another name.
    Native,
    /// An external OCI runtime.
    Oci,
}

// === impl Runtime ===

impl Runtime {
    /// [`Self::timeout`] or its default.
    pub(crate) fn seconds(&self) -> u32 {
        self.timeout.unwrap_or(TIMEOUT)
    }

    /// What is wrong with the keys taken together.
    fn conflict(&self) -> Option<&'static str> {
        match (self.kind, &self.path) {
            (None, _) => Some("has no `type`: set it to \"oci\" or \"native\""),
            (Some(Kind::Oci), None) => Some(
                "has no `path`: an external runtime needs the path of its program, such as \"/usr/bin/crun\"",
            ),
            (Some(Kind::Oci), Some(_)) => None,
            (Some(Kind::Native), None) if self.args.is_empty() && self.timeout.is_none() => None,
            (Some(Kind::Native), _) => Some(
                "is native and has no program of its own: leave `path`, `args` and `timeout` out, or set `type` to \"oci\"",
            ),
        }
    }
}

/// What is wrong with the handlers.
pub(crate) fn conflict(runtimes: &Runtimes) -> Option<String> {
    runtimes.iter().find_map(|(name, runtime)| {
        runtime
            .conflict()
            .map(|problem| format!("[runtimes.{name}] {problem}"))
    })
}

/// Checks a handler's name: Kubernetes takes DNS labels (RFC 1123).
pub(super) fn check_name(name: &str) -> Result<(), String> {
    let shown: String = name.chars().take(100).collect();
    let letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let ends = |byte: Option<&u8>| byte.is_some_and(|byte| letter(*byte));
    let bytes = name.as_bytes();
    if name == insula_pods::handlers::NATIVE {
        return Err(format!(
            "{shown:?} is the handler that every node has: choose another name"
        ));
    }
    if bytes.len() > 63
        || !bytes.iter().all(|byte| letter(*byte) || *byte == b'-')
        || !ends(bytes.first())
        || !ends(bytes.last())
    {
        return Err(format!(
            "{shown:?} is no name of a handler: Kubernetes takes up to 63 of a-z, 0-9 and, between them, \"-\""
        ));
    }
    Ok(())
}
