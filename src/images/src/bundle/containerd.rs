//! containerd's store, as it lies on the disk.
//!
//! `<root>/io.containerd.content.v1.content/blobs` holds every blob by its digest.
//! `<root>/io.containerd.metadata.v1.bolt/meta.db` holds the names: in the bucket
//! `v1/<namespace>/images` one bucket for each, with `digest`, `size` and `mediatype` in `target`
//! (containerd's core/metadata/buckets.go). Nothing is written and no lock is taken.

use std::fs::File;
use std::path::Path;

use rustix::fs::{Mode, OFlags};

use super::blobs::Blobs;
use super::bolt::{Bucket, Database};
use super::{Bundle, BundledImage, merged};
use crate::digest::Digest;
use crate::error::{Error, IoContext as _, Result};
use crate::manifest::Descriptor;

const CONTENT: &str = "io.containerd.content.v1.content/blobs";
const NAMES: &str = "io.containerd.metadata.v1.bolt/meta.db";

pub(super) fn open(root: &Path, namespace: &str) -> Result<Bundle> {
    let name = format!("containerd's store {}", root.display());
    let path = root.join(NAMES);
    let file = match File::open(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(Error::NotFound {
                what: name,
                detail: format!(": there is no {}", path.display()),
            });
        }
        opened => opened.context(|| format!("open {}", path.display()))?,
    };
    let database = Database::read(&file, &path.display().to_string())?;
    let images = images(&database, namespace, &name)?;
    let content = root.join(CONTENT);
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let blobs = rustix::fs::open(&content, flags, Mode::empty())
        .context(|| format!("open {}", content.display()))?;
    Ok(Bundle {
        name,
        blobs: Blobs::Directory(blobs),
        images,
    })
}

fn images(database: &Database, namespace: &str, name: &str) -> Result<Vec<BundledImage>> {
    let Some(version) = database.root().bucket(b"v1")? else {
        return Ok(Vec::new());
    };
    let Some(found) = version.bucket(namespace.as_bytes())? else {
        let mut known = Vec::new();
        version.each_bucket(|key, _| {
            known.push(String::from_utf8_lossy(key).into_owned());
            Ok(())
        })?;
        return Err(Error::NotFound {
            what: format!("the namespace {namespace:?}"),
            detail: format!(" in {name}; it has: {}", known.join(", ")),
        });
    };
    let Some(bucket) = found.bucket(b"images")? else {
        return Ok(Vec::new());
    };
    let mut images = Vec::new();
    bucket.each_bucket(|key, image| {
        images.push(image_of(key, &image, name)?);
        Ok(())
    })?;
    let mut images = merged(images);
    // The CRI plugin's own entries, `sha256:<image id>`, are no names.
    for image in &mut images {
        image.names.retain(|name| !name.starts_with("sha256:"));
    }
    images.retain(|image| !image.names.is_empty());
    Ok(images)
}

fn image_of(key: &[u8], image: &Bucket<'_>, store: &str) -> Result<BundledImage> {
    let shown = String::from_utf8_lossy(key).into_owned();
    let what = || format!("the image {shown:?} in {store}");
    let target = image
        .bucket(b"target")?
        .ok_or_else(|| Error::corrupt(what(), "it has no target"))?;
    let text = |key: &[u8]| -> Result<Option<String>> {
        let value = target.value(key)?;
        Ok(value.map(|value| String::from_utf8_lossy(value).into_owned()))
    };
    let digest: Digest = text(b"digest")?
        .ok_or_else(|| Error::corrupt(what(), "its target has no digest"))?
        .parse()?;
    let size = target.value(b"size")?.and_then(varint);
    Ok(BundledImage {
        names: vec![shown.clone()],
        target: Descriptor {
            digest,
            size: size.unwrap_or(0),
        },
        media_type: text(b"mediatype")?,
    })
}

/// A signed number as Go's encoding/binary writes it: zigzag, seven bits to a byte.
fn varint(bytes: &[u8]) -> Option<u64> {
    let mut number: u64 = 0;
    for (at, byte) in bytes.iter().take(10).enumerate() {
        number |= u64::from(byte & 0x7f).checked_shl(u32::try_from(at).ok()? * 7)?;
        if byte & 0x80 == 0 {
            // The lowest bit is the sign; no size is negative.
            return (number & 1 == 0).then_some(number >> 1);
        }
    }
    None
}
