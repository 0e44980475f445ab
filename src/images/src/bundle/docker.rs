//! Archives of `docker save` before it wrote OCI layouts, and of podman's `docker-archive`
//! (moby's image specification v1.2, "Combined Image JSON + Filesystem Changeset Format").

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::archive::Archive;
use super::blobs::{Blob, Blobs};
use super::{Bundle, BundledImage, merged};
use crate::config::ImageConfig;
use crate::digest::{Algorithm, Digest};
use crate::error::{Error, Result};
use crate::manifest::{Compression, Descriptor};

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RawImage {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

/// The manifest that such an archive does without, as its image would have in a registry.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Manifest {
    schema_version: u32,
    media_type: &'static str,
    config: Entry,
    layers: Vec<Entry>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    media_type: &'static str,
    digest: Digest,
    size: u64,
}

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";

pub(super) fn open(name: String, archive: &Archive) -> Result<Bundle> {
    let what = format!("manifest.json of {name}");
    let raw: Vec<RawImage> = serde_json::from_slice(&archive.document("manifest.json")?)
        .map_err(|error| Error::corrupt(&what, error.to_string()))?;
    let mut blobs = HashMap::new();
    let mut images = Vec::new();
    for image in raw {
        images.push(add(archive, image, &mut blobs, &what)?);
    }
    Ok(Bundle {
        name,
        blobs: Blobs::Parts(blobs),
        images: merged(images),
    })
}

/// Makes an image's manifest, and adds it and all that it names to the blobs.
fn add(
    archive: &Archive,
    image: RawImage,
    blobs: &mut HashMap<Digest, Blob>,
    what: &str,
) -> Result<BundledImage> {
    let config_bytes = archive.document(&image.config)?;
    let config = ImageConfig::parse(&config_bytes)?;
    if config.diff_ids.len() != image.layers.len() {
        let reason = format!(
            "an image has {} layers but its configuration names {}",
            image.layers.len(),
            config.diff_ids.len()
        );
        return Err(Error::corrupt(what, reason));
    }
    let mut layers = Vec::new();
    for (path, diff_id) in image.layers.iter().zip(&config.diff_ids) {
        let blob = archive.part(path)?;
        let entry = layer(&blob, diff_id, path)?;
        blobs.insert(entry.digest.clone(), blob);
        layers.push(entry);
    }
    let config = Entry {
        media_type: CONFIG,
        digest: Digest::sha256(&config_bytes),
        size: config_bytes.len() as u64,
    };
    blobs.insert(config.digest.clone(), Blob::Bytes(config_bytes));
    let manifest = Manifest {
        schema_version: 2,
        media_type: MANIFEST,
        config,
        layers,
    };
    let manifest =
        serde_json::to_vec(&manifest).map_err(|error| Error::corrupt(what, error.to_string()))?;
    let digest = Digest::sha256(&manifest);
    let size = manifest.len() as u64;
    blobs.insert(digest.clone(), Blob::Bytes(manifest.into()));
    Ok(BundledImage {
        names: image.repo_tags.unwrap_or_default(),
        target: Descriptor { digest, size },
        media_type: Some(MANIFEST.into()),
    })
}

/// What a layer's file is: a plain tar has the digest that the configuration says, if it is the
/// right one, which is checked later as for every layer; a compressed one has one of its own.
fn layer(blob: &Blob, diff_id: &Digest, path: &str) -> Result<Entry> {
    let start = blob.read_at(0, 4, path)?;
    let (media_type, digest) = match Compression::of_magic(&start) {
        Compression::None => ("application/vnd.oci.image.layer.v1.tar", None),
        Compression::Gzip => (
            "application/vnd.oci.image.layer.v1.tar+gzip",
            Some(blob.digest(Algorithm::Sha256, path)?),
        ),
        Compression::Zstd => (
            "application/vnd.oci.image.layer.v1.tar+zstd",
            Some(blob.digest(Algorithm::Sha256, path)?),
        ),
    };
    Ok(Entry {
        media_type,
        digest: digest.unwrap_or_else(|| diff_id.clone()),
        size: blob.size(),
    })
}
