//! Images that lie in files: OCI layouts, archives of `docker save`, another runtime's store.
//!
//! A [`Bundle`] is a set of blobs by digest and a list of what they are called. It is the other
//! origin that an image can come from, beside a registry: what it holds goes the same way, checked
//! by the same digests, and is trusted as little.
//!
//! ```text
//! directory  index.json, blobs/<algorithm>/<hex>              OCI image-spec, image-layout.md
//! archive    the same in a tar, or manifest.json (docker save, moby's image specification v1)
//! containerd io.containerd.content.v1.content/blobs, names in io.containerd.metadata.v1.bolt
//! ```

mod archive;
mod blobs;
mod bolt;
mod containerd;
mod docker;
mod layout;

use std::collections::HashMap;
use std::fs::File;
use std::path::Path;

use bytes::Bytes;
use tokio::sync::mpsc;

use self::archive::Archive;
use self::blobs::Blobs;
use crate::digest::Digest;
use crate::error::{Error, IoContext as _, Result};
use crate::images::blocking;
use crate::manifest::{Descriptor, LayerDescriptor, MAX_DOCUMENT};
use crate::progress::LayerProgress;
use crate::reference::Reference;

pub(crate) use self::bolt::parse as parse_bolt;

/// Bytes of a layer that are read at once.
const PIECE: usize = 256 * 1024;

/// Images in files.
#[derive(Debug)]
pub struct Bundle {
    /// What it is, for messages.
    name: String,
    blobs: Blobs,
    images: Vec<BundledImage>,
}

/// One image of a [`Bundle`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BundledImage {
    /// What it is called there, as it is written there; empty if it has no name.
    pub names: Vec<String>,
    /// Its manifest or index.
    pub target: Descriptor,
    /// The media type of that, where it is told.
    pub media_type: Option<String>,
}

// === impl Bundle ===

impl Bundle {
    /// Opens a directory that is an OCI layout, or a file that is an archive of one or was written
    /// by `docker save`. Blocks.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be read, [`Error::Corrupt`] or [`Error::Unsupported`] if it is
    /// something else.
    pub fn open(path: &Path) -> Result<Self> {
        let name = path.display().to_string();
        let file = File::open(path).context(|| format!("open {name}"))?;
        let kind = file.metadata().context(|| format!("look at {name}"))?;
        if kind.is_dir() {
            return layout::open_directory(name, &file.into());
        }
        if !kind.is_file() {
            return Err(Error::Unsupported(format!(
                "{name} is neither a directory nor a file; write - to read standard input"
            )));
        }
        let archive = Archive::read(file, &name)?;
        Self::from_archive(name, &archive)
    }

    /// Opens an archive that comes from a pipe. It is kept in an unnamed file in `spool`, which
    /// must have room for all of it. Blocks.
    ///
    /// # Errors
    /// Those of [`Bundle::open`].
    pub fn read(reader: &mut dyn std::io::Read, spool: &Path) -> Result<Self> {
        let name = "standard input".to_owned();
        let archive = Archive::spool(reader, spool, &name)?;
        Self::from_archive(name, &archive)
    }

    /// Opens the store of containerd at `root`, such as `/var/lib/containerd`, with the images of
    /// one of its namespaces; kubelet's are in `k8s.io`. Whether containerd runs does not matter,
    /// and nothing of it is changed. Blocks.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is none or it has no such namespace, [`Error::Corrupt`] if its
    /// names cannot be read.
    pub fn open_containerd(root: &Path, namespace: &str) -> Result<Self> {
        containerd::open(root, namespace)
    }

    /// The images in it.
    pub fn images(&self) -> &[BundledImage] {
        &self.images
    }

    fn from_archive(name: String, archive: &Archive) -> Result<Self> {
        if archive.has("index.json") {
            return layout::open_archive(name, archive);
        }
        if archive.has("manifest.json") {
            return docker::open(name, archive);
        }
        Err(Error::Unsupported(format!(
            "{name} has neither an index.json (an OCI layout) nor a manifest.json (docker save)"
        )))
    }

    /// A small document, whole and verified.
    pub(crate) async fn document(&self, digest: &Digest) -> Result<Bytes> {
        let blob = self.blobs.open(digest).map_err(|error| self.lacks(error))?;
        let what = format!("{digest} in {}", self.name);
        let digest = digest.clone();
        blocking(move || {
            if blob.size() > MAX_DOCUMENT {
                return Err(Error::corrupt(
                    what,
                    format!("it has {} bytes, more than {MAX_DOCUMENT}", blob.size()),
                ));
            }
            let bytes = blob.read_all(&what)?;
            digest.verify(&bytes, &what)?;
            Ok(bytes)
        })
        .await
    }

    /// Sends a layer's bytes, in order and as many as its descriptor says, into `sink`. Returns
    /// early if the receiver is gone: then it has an error of its own to tell.
    pub(crate) async fn layer(
        &self,
        layer: &LayerDescriptor,
        progress: &LayerProgress,
        sink: mpsc::Sender<Bytes>,
    ) -> Result<()> {
        let digest = &layer.blob.digest;
        let blob = self.blobs.open(digest).map_err(|error| self.lacks(error))?;
        let what = format!("layer {digest} in {}", self.name);
        if blob.size() != layer.blob.size {
            let reason = format!(
                "it has {} bytes and not the {} of its descriptor",
                blob.size(),
                layer.blob.size
            );
            return Err(Error::corrupt(what, reason));
        }
        let mut offset = 0;
        while offset < blob.size() {
            let (reading, what) = (blob.clone(), what.clone());
            let piece = blocking(move || reading.read_at(offset, PIECE, &what)).await?;
            offset += piece.len() as u64;
            progress.downloaded(offset);
            if sink.send(piece).await.is_err() {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Says where a blob was looked for.
    fn lacks(&self, error: Error) -> Error {
        match error {
            Error::NotFound { what, .. } => Error::NotFound {
                what,
                detail: format!(" in {}", self.name),
            },
            other => other,
        }
    }
}

// === impl BundledImage ===

impl BundledImage {
    /// Checks that what a reference says is true of this image: its digest, where it has one.
    pub(crate) fn check(&self, reference: &Reference) -> Result<()> {
        match reference.digest() {
            Some(digest) if *digest != self.target.digest => Err(Error::InvalidReference {
                reference: reference.to_string(),
                reason: format!("the image's digest is {}", self.target.digest),
            }),
            _ => Ok(()),
        }
    }
}

/// Several entries for one target are one image of several names.
fn merged(found: Vec<BundledImage>) -> Vec<BundledImage> {
    let mut places: HashMap<Digest, usize> = HashMap::new();
    let mut images: Vec<BundledImage> = Vec::new();
    for image in found {
        if let Some(at) = places.get(&image.target.digest) {
            for name in image.names {
                if !images[*at].names.contains(&name) {
                    images[*at].names.push(name);
                }
            }
        } else {
            places.insert(image.target.digest.clone(), images.len());
            images.push(image);
        }
    }
    images
}
