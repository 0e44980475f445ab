//! Runtime handlers: who executes the containers of a pod (CRI
//! `RunPodSandboxRequest.runtime_handler`, Kubernetes RuntimeClass).

use crate::error::{Error, Result};
use insula_oci::runtime::Facts;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// The handler that every node has: this runtime itself. It is also the one
/// without a name.
pub const NATIVE: &str = "native";

/// The handlers that pods may name.
#[derive(Debug, Clone, Default)]
pub struct Handlers(BTreeMap<String, Handler>);

/// One handler.
#[derive(Debug, Clone)]
pub enum Handler {
    /// This runtime itself, by another name.
    Native,
    /// An external OCI runtime.
    Oci(OciRuntime),
}

/// An external OCI runtime as it is configured, and what was found out about
/// it when the daemon started.
#[derive(Debug, Clone)]
pub struct OciRuntime {
    /// Absolute path of its program.
    pub path: PathBuf,
    /// Arguments before every command, such as `--debug`.
    pub args: Vec<String>,
    /// How long one call of it may take.
    pub timeout: Duration,
    /// What it says of itself, or why it is of no use.
    pub facts: std::result::Result<Facts, String>,
}

// === impl OciRuntime ===

impl OciRuntime {
    /// Whether it makes a mount read-only with all below it.
    pub fn has_recursive_read_only(&self) -> bool {
        let features = self.facts.as_ref().ok().and_then(|it| it.features.as_ref());
        features.is_some_and(|features| features.recursive_read_only)
    }
}

// === impl Handlers ===

impl Handlers {
    /// These beside the native one.
    pub fn new(handlers: BTreeMap<String, Handler>) -> Self {
        Self(handlers)
    }

    /// The external runtime that a handler stands for; `None` is this runtime
    /// itself. Fails for a name that is not configured, and for a runtime that
    /// is of no use.
    pub(crate) fn find(&self, name: &str) -> Result<Option<&OciRuntime>> {
        if matches!(name, "" | NATIVE) {
            return Ok(None);
        }
        match self.0.get(name) {
            Some(Handler::Native) => Ok(None),
            Some(Handler::Oci(runtime)) => match &runtime.facts {
                Ok(_) => Ok(Some(runtime)),
                Err(why) => Err(Error::FailedPrecondition(format!(
                    "runtime handler {name:?} cannot be used: {why}; the daemon looked when it started"
                ))),
            },
            None => {
                let names: Vec<_> = std::iter::once(NATIVE)
                    .chain(self.0.keys().map(String::as_str))
                    .map(|name| format!("{name:?}"))
                    .collect();
                Err(Error::InvalidArgument(format!(
                    "there is no runtime handler {name:?}: this node has {} (default {NATIVE:?}), and more in the configuration's section [runtimes]",
                    names.join(", ")
                )))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Handler, Handlers, OciRuntime};
    use insula_oci::runtime::Facts;
    use std::collections::BTreeMap;
    use std::time::Duration;

    #[test]
    fn names_are_found_or_refused() {
        let oci = |facts| {
            Handler::Oci(OciRuntime {
                path: "/usr/bin/crun".into(),
                args: Vec::new(),
                timeout: Duration::from_secs(1),
                facts,
            })
        };
        let facts = Facts {
            version: "crun 1".to_owned(),
            features: None,
        };
        let handlers = Handlers::new(BTreeMap::from([
            ("test-handler".to_owned(), Handler::Native),
            ("crun".to_owned(), oci(Ok(facts))),
            ("gone".to_owned(), oci(Err("no such file".to_owned()))),
        ]));
        for (name, external) in [
            ("", Ok(false)),
            ("native", Ok(false)),
            ("test-handler", Ok(false)),
            ("crun", Ok(true)),
            ("gone", Err("\"gone\" cannot be used: no such file")),
            (
                "kata",
                Err("this node has \"native\", \"crun\", \"gone\", \"test-handler\""),
            ),
        ] {
            match (handlers.find(name), external) {
                (Ok(found), Ok(external)) => assert_eq!(found.is_some(), external, "{name}"),
                (Err(error), Err(words)) => {
                    assert!(error.to_string().contains(words), "{error}");
                }
                (found, _) => panic!("{name}: {found:?}"),
            }
        }
    }
}
