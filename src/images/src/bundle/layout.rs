//! OCI layouts (OCI image-spec, image-layout.md).

use std::collections::HashMap;
use std::os::fd::OwnedFd;

use serde::Deserialize;

use super::archive::Archive;
use super::blobs::{self, Blobs};
use super::{Bundle, BundledImage, merged};
use crate::digest::{Algorithm, Digest};
use crate::error::{Error, IoContext as _, Result};
use crate::manifest::Descriptor;
use crate::store::read_file;

/// A whole reference, written by containerd, Docker and BuildKit.
const CONTAINERD_NAME: &str = "io.containerd.image.name";
/// The specification's own: often a tag alone (image-spec, annotations.md).
const REFERENCE_NAME: &str = "org.opencontainers.image.ref.name";

#[derive(Deserialize)]
struct RawIndex {
    manifests: Vec<RawEntry>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawEntry {
    media_type: Option<String>,
    digest: Digest,
    size: u64,
    #[serde(default)]
    annotations: Option<HashMap<String, String>>,
}

pub(super) fn open_directory(name: String, directory: &OwnedFd) -> Result<Bundle> {
    let Some(index) = read_file(directory, "index.json").map_err(|error| at(error, &name))? else {
        return Err(Error::Unsupported(format!(
            "{name} is no OCI layout: it has no index.json"
        )));
    };
    let images = parse(&index, &name)?;
    let blobs =
        blobs::open_directory(directory, "blobs").context(|| format!("open {name}/blobs"))?;
    Ok(Bundle {
        name,
        blobs: Blobs::Directory(blobs),
        images,
    })
}

pub(super) fn open_archive(name: String, archive: &Archive) -> Result<Bundle> {
    let images = parse(&archive.document("index.json")?, &name)?;
    let mut blobs = HashMap::new();
    for (path, blob) in archive.blobs() {
        let digest = path.split_once('/').and_then(|(algorithm, hex)| {
            [Algorithm::Sha256, Algorithm::Sha512]
                .iter()
                .any(|known| known.name() == algorithm)
                .then(|| format!("{algorithm}:{hex}").parse().ok())?
        });
        if let Some(digest) = digest {
            blobs.insert(digest, blob);
        }
    }
    Ok(Bundle {
        name,
        blobs: Blobs::Parts(blobs),
        images,
    })
}

/// The images that an index.json names.
fn parse(json: &[u8], name: &str) -> Result<Vec<BundledImage>> {
    let index: RawIndex = serde_json::from_slice(json)
        .map_err(|error| Error::corrupt(format!("index.json of {name}"), error.to_string()))?;
    let images = index.manifests.into_iter().map(|entry| {
        let annotations = entry.annotations.unwrap_or_default();
        BundledImage {
            names: name_of(&annotations).into_iter().collect(),
            target: Descriptor {
                digest: entry.digest,
                size: entry.size,
            },
            media_type: entry.media_type,
        }
    });
    Ok(merged(images.collect()))
}

fn name_of(annotations: &HashMap<String, String>) -> Option<String> {
    let whole = |name: &&String| name.contains(['/', ':', '@']);
    annotations
        .get(CONTAINERD_NAME)
        .or_else(|| annotations.get(REFERENCE_NAME).filter(whole))
        .cloned()
}

fn at(error: Error, name: &str) -> Error {
    match error {
        Error::Io { what, source } => Error::Io {
            what: format!("{what} in {name}"),
            source,
        },
        other => other,
    }
}
