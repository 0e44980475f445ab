//! Hooks: programs that are run at certain moments of a container's life (OCI
//! runtime-spec, config.md, "POSIX-platform Hooks").

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

/// The hooks of a container, each list in the order in which it is run. They
/// come from the node's own files, never from an image, an annotation or a
/// client.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Hooks {
    /// Run on the node before those of `create_runtime`; deprecated there.
    pub prestart: Vec<Hook>,
    /// Run on the node when the container's root is built and not entered.
    pub create_runtime: Vec<Hook>,
    /// Run then as well, in the container's namespaces; the program is the
    /// node's.
    pub create_container: Vec<Hook>,
    /// Run in the container just before its program; theirs is the container's.
    pub start_container: Vec<Hook>,
    /// Run on the node after the container's program was executed.
    pub poststart: Vec<Hook>,
    /// Run on the node after the container was removed.
    pub poststop: Vec<Hook>,
}

/// One program to run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hook {
    /// Absolute path.
    pub path: String,
    /// Arguments, with the program's name first; empty stands for the path
    /// alone.
    pub args: Vec<String>,
    /// `NAME=value`; nothing else is in its environment.
    pub env: Vec<String>,
    /// Seconds until it is killed; `None` is [`Hook::DEADLINE`].
    pub timeout: Option<u32>,
}

/// What a container's hooks, and who listens to its system call filter, are
/// told of it, beside its id and process.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bundle {
    /// Absolute path of the directory with `config.json`. The container's root
    /// is attached at [`root`](Self::root), in its own mount namespace alone.
    pub path: String,
    /// Annotations of the container.
    pub annotations: BTreeMap<String, String>,
}

/// A container's state as its hooks read it from standard input (OCI
/// runtime-spec, runtime.md, "State").
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HookState<'a> {
    /// Version of the specification.
    pub oci_version: &'static str,
    /// The container's id.
    pub id: &'a str,
    /// Where it stands.
    pub status: HookStatus,
    /// Its process, as seen by whom it is told; 0 says nothing.
    #[serde(skip_serializing_if = "is_zero")]
    pub pid: i32,
    /// Directory of `config.json`.
    pub bundle: &'a str,
    /// Annotations of the container.
    pub annotations: &'a BTreeMap<String, String>,
}

/// Where a container stands in the words of runtime.md.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the words of runtime.md")]
pub enum HookStatus {
    Creating,
    Created,
    Running,
    Stopped,
}

/// Version of the OCI runtime specification that is spoken.
pub const OCI_VERSION: &str = "1.2.0";

// === impl Hooks ===

impl Hooks {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether the container's creation waits for some on the node.
    pub fn wait_on_node(&self) -> bool {
        !self.prestart.is_empty() || !self.create_runtime.is_empty()
    }

    /// Appends those of another.
    pub fn extend(&mut self, other: Self) {
        // Taken apart by name, so that a new list cannot be forgotten here.
        let Self {
            prestart,
            create_runtime,
            create_container,
            start_container,
            poststart,
            poststop,
        } = other;
        self.prestart.extend(prestart);
        self.create_runtime.extend(create_runtime);
        self.create_container.extend(create_container);
        self.start_container.extend(start_container);
        self.poststart.extend(poststart);
        self.poststop.extend(poststop);
    }
}

// === impl Hook ===

impl Hook {
    /// Seconds that a hook has where it does not say.
    pub const DEADLINE: u32 = 30;

    /// Seconds until it is killed.
    pub fn seconds(&self) -> u32 {
        self.timeout.unwrap_or(Self::DEADLINE)
    }

    /// How long all of these may take together.
    pub fn total(hooks: &[Self]) -> Duration {
        let seconds = hooks.iter().map(|hook| u64::from(hook.seconds()));
        Duration::from_secs(seconds.sum())
    }

    /// Its arguments as they are handed over.
    pub fn arguments(&self) -> Vec<&str> {
        match self.args.is_empty() {
            true => vec![&self.path],
            false => self.args.iter().map(String::as_str).collect(),
        }
    }
}

// === impl Bundle ===

impl Bundle {
    /// Where the root file system is attached.
    pub fn root(&self) -> String {
        format!("{}/rootfs", self.path)
    }

    /// The container's configuration.
    pub fn config(&self) -> String {
        format!("{}/config.json", self.path)
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_zero(pid: &i32) -> bool {
    *pid == 0
}

#[cfg(test)]
mod tests {
    use super::{Bundle, Hook, HookState, HookStatus, Hooks, OCI_VERSION};

    fn hook(path: &str, timeout: Option<u32>) -> Hook {
        Hook {
            path: path.to_owned(),
            args: Vec::new(),
            env: Vec::new(),
            timeout,
        }
    }

    #[test]
    fn hooks_are_appended_each_in_its_list() {
        let one = |path: &str| Hooks {
            prestart: vec![hook(path, None)],
            create_runtime: vec![hook(path, None)],
            create_container: vec![hook(path, None)],
            start_container: vec![hook(path, None)],
            poststart: vec![hook(path, None)],
            poststop: vec![hook(path, None)],
        };
        let mut all = one("/a");
        assert!(all.wait_on_node() && !all.is_empty());
        assert!(Hooks::default().is_empty() && !Hooks::default().wait_on_node());
        all.extend(one("/b"));
        for list in [
            &all.prestart,
            &all.create_runtime,
            &all.create_container,
            &all.start_container,
            &all.poststart,
            &all.poststop,
        ] {
            let paths: Vec<_> = list.iter().map(|hook| hook.path.as_str()).collect();
            assert_eq!(paths, ["/a", "/b"]);
        }
    }

    #[test]
    fn what_a_hook_does_not_say_has_a_default() {
        let mut named = hook("/bin/hook", Some(5));
        assert_eq!(named.arguments(), ["/bin/hook"]);
        named.args = vec!["hook".to_owned(), "-v".to_owned()];
        assert_eq!(named.arguments(), ["hook", "-v"]);
        assert_eq!(Hook::total(&[named, hook("/b", None)]).as_secs(), 35);
    }

    #[test]
    fn a_state_is_told_in_the_words_of_the_specification() {
        let bundle = Bundle {
            path: "/run/b".to_owned(),
            annotations: [("a".to_owned(), "b".to_owned())].into(),
        };
        let state = HookState {
            oci_version: OCI_VERSION,
            id: "c1",
            status: HookStatus::Creating,
            pid: 7,
            bundle: &bundle.path,
            annotations: &bundle.annotations,
        };
        let told = serde_json::to_value(&state).unwrap();
        let want = serde_json::json!({
            "ociVersion": OCI_VERSION, "id": "c1", "status": "creating", "pid": 7,
            "bundle": "/run/b", "annotations": {"a": "b"}
        });
        assert_eq!(told, want);
        let stopped = HookState {
            status: HookStatus::Stopped,
            pid: 0,
            ..state
        };
        let told = serde_json::to_value(&stopped).unwrap();
        assert_eq!(told["status"], "stopped");
        assert_eq!(told.get("pid"), None);
        assert_eq!(bundle.root(), "/run/b/rootfs");
        assert_eq!(bundle.config(), "/run/b/config.json");
    }
}
