//! The image configuration: what an image says about how it wants to be run.
//!
//! OCI image-spec config.md; Docker's image.json differs only in media type. All of it is data of
//! strangers: values are handed on as they are and mean nothing to this crate.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::platform::Platform;

/// More layers than overlayfs can stack (`OVL_MAX_STACK`).
pub(crate) const MAX_LAYERS: usize = 500;

/// A parsed image configuration.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ImageConfig {
    /// `User`: empty, a name or number, with an optional `:group`.
    pub user: String,
    /// `Env`, each `NAME=value`.
    pub env: Vec<String>,
    /// `Entrypoint`.
    pub entrypoint: Vec<String>,
    /// `Cmd`.
    pub cmd: Vec<String>,
    /// `WorkingDir`; empty means the root.
    pub working_dir: String,
    /// `Labels`: inert data.
    pub labels: BTreeMap<String, String>,
    /// `StopSignal`, such as `SIGQUIT` or `3`.
    pub stop_signal: Option<String>,
    /// `Volumes`: paths in the image that want a volume.
    pub volumes: Vec<String>,
    /// `ExposedPorts`, such as `6379/tcp`.
    pub exposed_ports: Vec<String>,
    /// `created`, an RFC 3339 time.
    pub created: Option<String>,
    /// `os`, `architecture` and `variant`; None when the image names none.
    pub platform: Option<Platform>,
    /// The digests of the uncompressed layers, the bottom one first.
    pub diff_ids: Vec<Digest>,
}

#[derive(Deserialize)]
struct RawConfig {
    os: Option<String>,
    architecture: Option<String>,
    variant: Option<String>,
    created: Option<String>,
    config: Option<RawRunConfig>,
    rootfs: Option<RawRootfs>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase")]
struct RawRunConfig {
    user: Option<String>,
    env: Option<Vec<String>>,
    entrypoint: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
    working_dir: Option<String>,
    labels: Option<BTreeMap<String, String>>,
    stop_signal: Option<String>,
    volumes: Option<BTreeMap<String, serde_json::Value>>,
    exposed_ports: Option<BTreeMap<String, serde_json::Value>>,
}

#[derive(Deserialize)]
struct RawRootfs {
    #[serde(rename = "type")]
    kind: Option<String>,
    diff_ids: Option<Vec<Digest>>,
}

// === impl ImageConfig ===

impl ImageConfig {
    /// Reads the JSON document.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if it is not a configuration, [`Error::Unsupported`] if it is one of
    /// something that is no container image.
    pub fn parse(json: &[u8]) -> Result<Self> {
        let raw: RawConfig = serde_json::from_slice(json)
            .map_err(|error| Error::corrupt("image configuration", error.to_string()))?;
        let rootfs = raw.rootfs.ok_or_else(|| {
            Error::Unsupported(
                "the image configuration has no rootfs: not a container image".into(),
            )
        })?;
        if rootfs.kind.as_deref().is_some_and(|kind| kind != "layers") {
            return Err(Error::Unsupported(
                "the image configuration's rootfs type is not \"layers\"".into(),
            ));
        }
        let diff_ids = rootfs.diff_ids.unwrap_or_default();
        if diff_ids.len() > MAX_LAYERS {
            return Err(Error::Unsupported(format!(
                "the image has {} layers, overlayfs stacks at most {MAX_LAYERS}",
                diff_ids.len()
            )));
        }
        let platform = match (raw.os.as_deref(), raw.architecture.as_deref()) {
            (Some(os), Some(architecture)) if !os.is_empty() && !architecture.is_empty() => {
                Some(Platform::new(os, architecture, raw.variant.as_deref()))
            }
            _ => None,
        };
        let run = raw.config.unwrap_or_default();
        let keys = |map: Option<BTreeMap<String, serde_json::Value>>| {
            map.unwrap_or_default().into_keys().collect()
        };
        Ok(Self {
            user: run.user.unwrap_or_default(),
            env: run.env.unwrap_or_default(),
            entrypoint: run.entrypoint.unwrap_or_default(),
            cmd: run.cmd.unwrap_or_default(),
            working_dir: run.working_dir.unwrap_or_default(),
            labels: run.labels.unwrap_or_default(),
            stop_signal: run.stop_signal.filter(|signal| !signal.is_empty()),
            volumes: keys(run.volumes),
            exposed_ports: keys(run.exposed_ports),
            created: raw.created,
            platform,
            diff_ids,
        })
    }

    /// The numeric user, as the CRI's `Image.uid`: set only if `User` is a number.
    pub fn uid(&self) -> Option<i64> {
        self.user_part().parse().ok().filter(|uid| *uid >= 0)
    }

    /// The user's name, as the CRI's `Image.username`: empty if `User` is empty or a number.
    pub fn username(&self) -> &str {
        if self.uid().is_some() {
            ""
        } else {
            self.user_part()
        }
    }

    fn user_part(&self) -> &str {
        self.user
            .split_once(':')
            .map_or(&*self.user, |(user, _)| user)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_follows_the_cri() {
        let cases = [
            ("", None, ""),
            ("0", Some(0), ""),
            ("1002", Some(1002), ""),
            ("1003:1004", Some(1003), ""),
            ("www-data", None, "www-data"),
            ("www-data:100", None, "www-data"),
            ("-1", None, "-1"),
        ];
        for (user, uid, name) in cases {
            let config = ImageConfig {
                user: user.into(),
                ..ImageConfig::default()
            };
            assert_eq!((config.uid(), config.username()), (uid, name), "{user}");
        }
    }

    #[test]
    fn reads_docker_and_oci_documents() {
        let json = br#"{"architecture":"amd64","os":"linux","config":{"User":"redis","Env":["A=1"],
            "Entrypoint":["e"],"Cmd":null,"Volumes":{"/data":{}},"ExposedPorts":{"6379/tcp":{}},
            "WorkingDir":"/data","Labels":null,"StopSignal":"SIGTERM"},
            "rootfs":{"type":"layers","diff_ids":[]},"history":[{"created":"x"}]}"#;
        let config = ImageConfig::parse(json).unwrap();
        assert_eq!(config.username(), "redis");
        assert_eq!(config.volumes, ["/data"]);
        assert_eq!(config.exposed_ports, ["6379/tcp"]);
        assert_eq!(config.stop_signal.as_deref(), Some("SIGTERM"));
        assert_eq!(config.platform, Some("linux/amd64".parse().unwrap()));
    }

    #[test]
    fn refuses_what_is_no_configuration() {
        for json in [
            "{}",
            "null",
            "[]",
            "{\"rootfs\":{\"type\":\"squashfs\"}}",
            "{\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[\"sha256:../../x\"]}}",
            "{\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[1e999]}}",
            "{\"config\":{\"Env\":\"x\"},\"rootfs\":{\"type\":\"layers\"}}",
        ] {
            assert!(ImageConfig::parse(json.as_bytes()).is_err(), "{json}");
        }
    }
}
