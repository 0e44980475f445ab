//! What a runtime says that it can do: the document that `RUNTIME features`
//! prints (features.md of the OCI runtime specification, features-linux.md).

use serde::Deserialize;

/// Largest document that is read, in bytes. runc's has 11,000.
pub const MAX_BYTES: usize = 1 << 20;

/// What of the document matters here. Fields that are not known are passed
/// over: the specification lets them be added.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is one feature")]
pub struct Features {
    /// It makes a mount and all below it read-only (mount option `rro`,
    /// KEP-3857).
    pub recursive_read_only: bool,
    /// Its containers are made of Linux namespaces: at least mount and pid. A
    /// process can then join them. That of a virtual machine cannot be joined.
    pub namespaces: bool,
    /// It knows user namespaces and mounts with mapped ids (KEP-127).
    pub user_namespaces: bool,
    /// It loads filters of system calls.
    pub seccomp: bool,
}

/// The document is not understood.
#[derive(Debug, thiserror::Error)]
pub enum FeaturesError {
    /// It is too long to be one.
    #[error("it has {0} bytes, more than {MAX_BYTES}")]
    TooLarge(usize),
    /// What is wrong, and where.
    #[error("{0}")]
    Malformed(#[from] serde_json::Error),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    mount_options: Option<Vec<String>>,
    linux: Option<Linux>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Linux {
    namespaces: Option<Vec<String>>,
    seccomp: Option<Switch>,
    mount_extensions: Option<MountExtensions>,
}

#[derive(Deserialize)]
struct MountExtensions {
    idmap: Option<Switch>,
}

#[derive(Deserialize)]
struct Switch {
    enabled: Option<bool>,
}

// === impl Features ===

impl Features {
    /// Reads a document.
    pub fn parse(text: &[u8]) -> Result<Self, FeaturesError> {
        if text.len() > MAX_BYTES {
            return Err(FeaturesError::TooLarge(text.len()));
        }
        let document: Document = serde_json::from_slice(text)?;
        let linux = document.linux.unwrap_or_default();
        let namespaces = linux.namespaces.unwrap_or_default();
        let knows = |kind: &str| namespaces.iter().any(|name| name == kind);
        let on = |switch: Option<Switch>| switch.is_some_and(|it| it.enabled == Some(true));
        let idmap = linux.mount_extensions.and_then(|them| them.idmap);
        let options = document.mount_options.unwrap_or_default();
        Ok(Self {
            recursive_read_only: options.iter().any(|option| option == "rro"),
            namespaces: knows("mount") && knows("pid"),
            user_namespaces: knows("user") && on(idmap),
            seccomp: on(linux.seccomp),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{Features, MAX_BYTES};
    use proptest::prelude::*;

    #[test]
    fn documents_are_read() {
        let all = Features {
            recursive_read_only: true,
            namespaces: true,
            user_namespaces: true,
            seccomp: true,
        };
        for (text, features) in [
            ("{}", Features::default()),
            (
                r#"{"linux": null, "mountOptions": null, "new": [1]}"#,
                Features::default(),
            ),
            (
                r#"{"ociVersionMin": "1.0.0", "mountOptions": ["ro", "rro"], "linux": {
                    "namespaces": ["cgroup", "ipc", "mount", "network", "pid", "user", "uts"],
                    "seccomp": {"enabled": true, "actions": []}, "apparmor": {"enabled": false},
                    "mountExtensions": {"idmap": {"enabled": true}}}}"#,
                all.clone(),
            ),
            (
                r#"{"mountOptions": ["rro"], "linux": {"namespaces": ["mount", "pid", "user"],
                    "seccomp": {}, "mountExtensions": {}}}"#,
                Features {
                    user_namespaces: false,
                    seccomp: false,
                    ..all.clone()
                },
            ),
            (
                r#"{"mountOptions": ["ro"], "linux": {"namespaces": ["user"],
                    "seccomp": {"enabled": true}, "mountExtensions": {"idmap": {"enabled": true}}}}"#,
                Features {
                    recursive_read_only: false,
                    namespaces: false,
                    ..all
                },
            ),
        ] {
            assert_eq!(
                Features::parse(text.as_bytes()).unwrap(),
                features,
                "{text}"
            );
        }
    }

    #[test]
    fn what_is_no_document_is_refused() {
        let long = format!("{{\"x\": \"{}\"}}", "a".repeat(MAX_BYTES));
        for (text, words) in [
            ("", "EOF"),
            ("unknown command features", "expected value"),
            (r#"{"mountOptions": "rro"}"#, "invalid type"),
            (r#"{"linux": {"seccomp": {"enabled": 1}}}"#, "invalid type"),
            (&long, "more than 1048576"),
        ] {
            let error = Features::parse(text.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(text in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Features::parse(&text);
        }
    }
}
