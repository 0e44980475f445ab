//! An image as the store has it.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::config::ImageConfig;
use crate::digest::Digest;
use crate::error::{Error, Result};

/// The CRI's image id: the digest of the image's configuration. The same everywhere: in
/// `Image.id`, `PullImageResponse.image_ref` and `Container.image_id`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ImageId(Digest);

/// An image in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Its id.
    pub id: ImageId,
    /// Its names by tag, such as `docker.io/library/redis:latest`, sorted.
    pub repo_tags: Vec<String>,
    /// Its names by digest, such as `docker.io/library/redis@sha256:…`, sorted.
    pub repo_digests: Vec<String>,
    /// Bytes that its unpacked layers take on disk, layers shared with other images included.
    /// Never zero.
    pub size: u64,
    /// What it says about how it wants to be run.
    pub config: Arc<ImageConfig>,
}

// === impl ImageId ===

impl ImageId {
    pub(crate) fn new(digest: Digest) -> Self {
        Self(digest)
    }

    /// The digest.
    pub fn digest(&self) -> &Digest {
        &self.0
    }

    /// `sha256:<hex>`.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl FromStr for ImageId {
    type Err = Error;

    /// Reads `sha256:<hex>`, or the 64 hexadecimal digits alone.
    fn from_str(text: &str) -> Result<Self> {
        let digest = if text.contains(':') {
            text.parse()
        } else {
            format!("sha256:{text}").parse()
        };
        digest.map(Self).map_err(|_| Error::InvalidReference {
            reference: text.chars().take(200).collect(),
            reason: "it is no image id (sha256: and 64 hexadecimal digits)".into(),
        })
    }
}

impl fmt::Display for ImageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
