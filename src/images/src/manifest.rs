//! Manifests and indexes: Docker schema 2 and OCI image-spec.
//!
//! A document is either a manifest or an index. One that could be read as both is refused
//! (CVE-2021-41190), as is one whose content type says something else than its fields.

use serde::Deserialize;

use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::platform::Platform;

/// Upper bound of a manifest, an index or a configuration, in bytes.
pub const MAX_DOCUMENT: u64 = 8 * 1024 * 1024;

const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";

/// What a registry is told that we read, best first.
pub(crate) const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, \
    application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, \
    application/vnd.docker.distribution.manifest.v2+json";

/// A manifest or an index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Document {
    /// One image for one platform.
    Manifest(Manifest),
    /// A choice of manifests.
    Index(Index),
}

/// The parts of one image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// The image configuration.
    pub config: Descriptor,
    /// The layers, the bottom one first.
    pub layers: Vec<LayerDescriptor>,
}

/// The manifests of one image, one per platform.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Index {
    manifests: Vec<(Descriptor, Option<Platform>)>,
}

/// A reference to a blob or document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Descriptor {
    /// Its digest.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
}

/// A reference to a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerDescriptor {
    /// The compressed blob.
    pub blob: Descriptor,
    /// How it is compressed.
    pub compression: Compression,
    /// Where else a foreign layer can be had. Never asked with credentials (CVE-2020-15157).
    pub urls: Vec<String>,
}

/// How a layer is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// A plain tar.
    None,
    /// gzip (RFC 1952), any number of members.
    Gzip,
    /// Zstandard (RFC 8878).
    Zstd,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawDocument {
    schema_version: Option<u64>,
    media_type: Option<String>,
    config: Option<RawDescriptor>,
    layers: Option<Vec<RawDescriptor>>,
    manifests: Option<Vec<RawDescriptor>>,
    fs_layers: Option<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawDescriptor {
    media_type: Option<String>,
    digest: Digest,
    size: u64,
    urls: Option<Vec<String>>,
    platform: Option<RawPlatform>,
}

#[derive(Deserialize)]
struct RawPlatform {
    os: Option<String>,
    architecture: Option<String>,
    variant: Option<String>,
}

// === impl Document ===

impl Document {
    /// Reads a document. `content_type` is the registry's header, where there was one; `what`
    /// names the document in errors.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if it is ambiguous or malformed, [`Error::Unsupported`] if it is a valid
    /// document of another kind.
    pub fn parse(json: &[u8], content_type: Option<&str>, what: &str) -> Result<Self> {
        let corrupt = |reason: String| Error::corrupt(what, reason);
        let raw: RawDocument =
            serde_json::from_slice(json).map_err(|error| corrupt(error.to_string()))?;
        if raw.fs_layers.is_some() || raw.schema_version == Some(1) {
            return Err(Error::Unsupported(format!(
                "{what} is a Docker schema 1 manifest, which registries no longer serve; push the image again with a current tool"
            )));
        }
        if raw.layers.is_some() && raw.manifests.is_some() {
            return Err(corrupt("it has both layers and manifests".into()));
        }
        let header = content_type.map(|text| text.split(';').next().unwrap_or("").trim());
        // A generic type says nothing; the document's own field decides then.
        let header = header.filter(|t| {
            !matches!(
                *t,
                "" | "application/json" | "application/octet-stream" | "text/plain"
            )
        });
        if let (Some(header), Some(field)) = (header, raw.media_type.as_deref())
            && header != field
        {
            return Err(corrupt(format!(
                "its content type is {:?} but it calls itself {:?}",
                shorten(header),
                shorten(field)
            )));
        }
        let stated = header.or(raw.media_type.as_deref());
        let is_index = raw.manifests.is_some();
        match stated {
            Some(OCI_INDEX | DOCKER_LIST) if !is_index => {
                return Err(corrupt(
                    "it calls itself an index but has no manifests".into(),
                ));
            }
            Some(OCI_MANIFEST | DOCKER_MANIFEST) if is_index => {
                return Err(corrupt(
                    "it calls itself a manifest but has manifests".into(),
                ));
            }
            Some(OCI_INDEX | DOCKER_LIST | OCI_MANIFEST | DOCKER_MANIFEST) | None => {}
            Some(other) => {
                return Err(Error::Unsupported(format!(
                    "{what} has the media type {:?}, which is no container image",
                    shorten(other)
                )));
            }
        }
        if let Some(manifests) = raw.manifests {
            return Ok(Self::Index(Index::from_raw(manifests)));
        }
        match (raw.config, raw.layers) {
            (Some(config), Some(layers)) => {
                Ok(Self::Manifest(Manifest::from_raw(config, layers, what)?))
            }
            _ => Err(corrupt(
                "it has neither manifests nor config and layers".into(),
            )),
        }
    }
}

// === impl Manifest ===

impl Manifest {
    fn from_raw(config: RawDescriptor, layers: Vec<RawDescriptor>, what: &str) -> Result<Self> {
        if config.size > MAX_DOCUMENT {
            return Err(Error::corrupt(
                what,
                format!(
                    "its configuration has {} bytes, more than {MAX_DOCUMENT}",
                    config.size
                ),
            ));
        }
        let layers = layers
            .into_iter()
            .map(|raw| LayerDescriptor::from_raw(raw, what));
        Ok(Self {
            config: Descriptor {
                digest: config.digest,
                size: config.size,
            },
            layers: layers.collect::<Result<_>>()?,
        })
    }
}

// === impl Index ===

impl Index {
    fn from_raw(manifests: Vec<RawDescriptor>) -> Self {
        let readable = |raw: &RawDescriptor| {
            matches!(
                raw.media_type.as_deref(),
                None | Some(OCI_MANIFEST | DOCKER_MANIFEST)
            )
        };
        let manifests = manifests.into_iter().filter(readable).map(|raw| {
            let platform = raw.platform.map(|p| {
                Platform::new(
                    &p.os.unwrap_or_default(),
                    &p.architecture.unwrap_or_default(),
                    p.variant.as_deref(),
                )
            });
            (
                Descriptor {
                    digest: raw.digest,
                    size: raw.size,
                },
                platform,
            )
        });
        Self {
            manifests: manifests.collect(),
        }
    }

    /// The manifest that fits a platform best; the first one among equals. Attestations
    /// (`unknown/unknown`) fit nothing. A lone manifest without a platform is taken: its
    /// configuration is checked later.
    ///
    /// # Errors
    /// [`Error::NotFound`] with the platforms there are.
    pub fn select(&self, platform: &Platform, what: &str) -> Result<&Descriptor> {
        let fitting = self.manifests.iter().filter_map(|(descriptor, offered)| {
            let rank = platform.rank(offered.as_ref()?)?;
            Some((rank, descriptor))
        });
        if let Some((_, descriptor)) = fitting.min_by_key(|(rank, _)| *rank) {
            return Ok(descriptor);
        }
        if let [(descriptor, None)] = self.manifests.as_slice() {
            return Ok(descriptor);
        }
        let mut offered: Vec<String> = self
            .manifests
            .iter()
            .filter_map(|(_, platform)| platform.as_ref().map(ToString::to_string))
            .filter(|name| !name.starts_with("unknown/"))
            .map(|name| shorten(&name))
            .take(32)
            .collect();
        offered.dedup();
        Err(Error::NotFound {
            what: format!("{what} for {platform}"),
            detail: format!(": it is made for {}", offered.join(", ")),
        })
    }
}

// === impl LayerDescriptor ===

impl LayerDescriptor {
    fn from_raw(raw: RawDescriptor, what: &str) -> Result<Self> {
        let media_type = raw.media_type.as_deref().unwrap_or_default();
        let compression = Compression::of_media_type(media_type).ok_or_else(|| {
            Error::Unsupported(format!(
                "{what} has a layer of the media type {:?}, which is no file system layer",
                shorten(media_type)
            ))
        })?;
        let urls = raw.urls.unwrap_or_default();
        Ok(Self {
            blob: Descriptor {
                digest: raw.digest,
                size: raw.size,
            },
            compression,
            urls: urls
                .into_iter()
                .take(16)
                .filter(|url| url.len() <= 8192)
                .collect(),
        })
    }
}

// === impl Compression ===

impl Compression {
    fn of_media_type(media_type: &str) -> Option<Self> {
        let plain = [
            "application/vnd.oci.image.layer.v1.tar",
            "application/vnd.oci.image.layer.nondistributable.v1.tar",
            "application/vnd.docker.image.rootfs.diff.tar",
            "application/vnd.docker.image.rootfs.foreign.diff.tar",
        ];
        for base in plain {
            match media_type.strip_prefix(base) {
                Some("") => return Some(Self::None),
                Some("+gzip" | ".gzip") => return Some(Self::Gzip),
                Some("+zstd" | ".zstd") => return Some(Self::Zstd),
                _ => {}
            }
        }
        None
    }

    /// What the first bytes of a blob say: the magic numbers of gzip and zstd, else a plain tar.
    pub(crate) fn of_magic(bytes: &[u8]) -> Self {
        match bytes {
            [0x1f, 0x8b, ..] => Self::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Self::Zstd,
            _ => Self::None,
        }
    }
}

fn shorten(text: &str) -> String {
    text.chars().take(100).collect()
}

#[cfg(test)]
mod tests;
