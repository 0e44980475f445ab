//! Image records: which images there are, and under which names.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::AtFlags;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::{
    Durability, Image, ImageId, Store, StoreLock, names, read_file, read_record, set_aside,
    write_file,
};
use crate::config::ImageConfig;
use crate::digest::Digest;
use crate::error::{Error, IoContext as _, Result};
use crate::reference::Reference;

/// Hexadecimal digits of the shortest id that is looked up.
const MIN_SHORT_ID: usize = 4;
const VERSION: u32 = 1;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct ImageRecord {
    version: u32,
    id: ImageId,
    repo_tags: Vec<String>,
    repo_digests: Vec<String>,
    size: u64,
}

/// Parsed records by file name, with what tells that a file was replaced.
#[derive(Debug, Default)]
pub(super) struct Cache(Mutex<HashMap<String, (Stamp, Arc<Image>)>>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    size: i64,
    changed: (i64, i64),
}

/// A verified image that is to be recorded.
#[derive(Debug)]
pub(crate) struct Commit<'a> {
    pub(crate) id: &'a ImageId,
    pub(crate) config: &'a [u8],
    pub(crate) reference: &'a Reference,
    /// What the reference stood for at the registry: an index or a manifest.
    pub(crate) manifest: &'a Digest,
    pub(crate) size: u64,
}

// === impl Store ===

impl Store {
    /// All images, by id.
    pub(crate) fn images(&self) -> Result<Vec<Arc<Image>>> {
        let mut found = Vec::new();
        let mut seen = Vec::new();
        for name in names(&self.images, "the image records")? {
            let Some(stem) = name.strip_suffix(".json") else {
                continue;
            };
            if let Some(digest) = Digest::from_file_stem(stem)
                && let Some(image) = self.load(&name, &ImageId::new(digest))?
            {
                found.push(image);
                seen.push(name);
            }
        }
        let mut cache = self
            .image_cache
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if cache.len() > seen.len() {
            cache.retain(|name, _| seen.contains(name));
        }
        drop(cache);
        found.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(found)
    }

    /// The image with exactly this id.
    pub(crate) fn image(&self, id: &ImageId) -> Result<Option<Arc<Image>>> {
        self.load(&record_name(id), id)
    }

    /// The image that an id, a unique beginning of an id, a tag, a digest or a name stands for.
    ///
    /// # Errors
    /// [`Error::InvalidReference`] if the beginning of an id fits several images. Text that can
    /// be no name is simply not here.
    pub(crate) fn find(&self, text: &str) -> Result<Option<Arc<Image>>> {
        let text = text.trim();
        if let Ok(id) = text.parse::<ImageId>() {
            return self.image(&id);
        }
        let images = self.images()?;
        if let Ok(reference) = text.parse::<Reference>() {
            let by_digest = reference
                .digest()
                .map(|digest| reference.repo_digest(digest));
            let by_tag = reference.repo_tag();
            let named = images.iter().find(|image| {
                by_digest
                    .as_ref()
                    .is_some_and(|name| image.repo_digests.contains(name))
                    || by_tag
                        .as_ref()
                        .is_some_and(|name| image.repo_tags.contains(name))
            });
            if let Some(image) = named {
                return Ok(Some(Arc::clone(image)));
            }
        }
        let hex = text.strip_prefix("sha256:").unwrap_or(text);
        if hex.len() < MIN_SHORT_ID || !hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
        {
            return Ok(None);
        }
        let mut fitting = images
            .iter()
            .filter(|image| image.id.digest().hex().starts_with(hex));
        match (fitting.next(), fitting.next()) {
            (Some(_), Some(_)) => Err(Error::InvalidReference {
                reference: text.chars().take(200).collect(),
                reason: "several image ids begin so; give more digits".into(),
            }),
            (found, _) => Ok(found.cloned()),
        }
    }

    /// Records an image, or one more name of it. The tag moves here from any other image.
    pub(crate) fn commit(&self, _lock: &StoreLock, commit: &Commit<'_>) -> Result<()> {
        let tag = commit.reference.repo_tag();
        if let Some(tag) = &tag {
            for image in self.images()? {
                if image.id != *commit.id && image.repo_tags.contains(tag) {
                    let mut record = ImageRecord::of(&image);
                    record.repo_tags.retain(|other| other != tag);
                    self.write(&record)?;
                }
            }
        }
        let existing = self.image(commit.id)?;
        let mut record = existing.as_deref().map_or_else(
            || ImageRecord {
                version: VERSION,
                id: commit.id.clone(),
                repo_tags: Vec::new(),
                repo_digests: Vec::new(),
                size: commit.size,
            },
            ImageRecord::of,
        );
        insert_sorted(&mut record.repo_tags, tag);
        insert_sorted(
            &mut record.repo_digests,
            Some(commit.reference.repo_digest(commit.manifest)),
        );
        if let Some(existing) = existing
            && ImageRecord::of(&existing) == record
        {
            return Ok(());
        }
        if !super::exists(&self.images, &config_name(commit.id))? {
            write_file(
                &self.images,
                &config_name(commit.id),
                commit.config,
                Durability::Data,
            )?;
        }
        self.write(&record)
    }

    /// Removes an image's record with all its names. Missing is no error.
    pub(crate) fn forget(&self, _lock: &StoreLock, id: &ImageId) -> Result<()> {
        for name in [record_name(id), config_name(id)] {
            match rustix::fs::unlinkat(&self.images, &name, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(error) => return Err(Error::io(format!("remove the record {name}"), error)),
            }
        }
        rustix::fs::fsync(&self.images).context(|| "flush the image records".into())
    }

    /// The configuration's bytes as the registry sent them.
    pub(crate) fn raw_config(&self, id: &ImageId) -> Result<Option<Vec<u8>>> {
        read_file(&self.images, &config_name(id))
    }

    /// Drops records of images that miss a layer.
    pub(super) fn drop_incomplete_images(&self, lock: &StoreLock) -> Result<()> {
        for image in self.images()? {
            for diff_id in &image.config.diff_ids {
                if self.layer(diff_id)?.is_none() {
                    tracing::warn!(image = %image.id, layer = %diff_id, names = ?image.repo_tags, "an image misses a layer; it is dropped and must be pulled again");
                    self.forget(lock, &image.id)?;
                    break;
                }
            }
        }
        Ok(())
    }

    fn write(&self, record: &ImageRecord) -> Result<()> {
        let json = serde_json::to_vec_pretty(record)
            .map_err(|error| Error::corrupt("image record", error.to_string()))?;
        write_file(
            &self.images,
            &record_name(&record.id),
            &json,
            Durability::Full,
        )
    }

    fn load(&self, name: &str, id: &ImageId) -> Result<Option<Arc<Image>>> {
        let stat = match rustix::fs::statat(&self.images, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => return Ok(None),
            Err(error) => return Err(Error::io(format!("look for {name}"), error)),
        };
        let stamp = Stamp {
            inode: stat.st_ino,
            size: stat.st_size,
            changed: (
                stat.st_ctime,
                i64::try_from(stat.st_ctime_nsec).unwrap_or(0),
            ),
        };
        let cache = &self.image_cache.0;
        if let Some((known, image)) = cache
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(name)
            && *known == stamp
        {
            return Ok(Some(Arc::clone(image)));
        }
        let Some(record) = read_record::<ImageRecord>(&self.images, name)? else {
            return Ok(None);
        };
        let config = self.raw_config(id)?.map(|bytes| ImageConfig::parse(&bytes));
        let config = match config {
            Some(Ok(config)) if record.id == *id && record.version == VERSION => config,
            // Removed while it was being read.
            None if !super::exists(&self.images, name)? => return Ok(None),
            _ => {
                tracing::error!(
                    record = name,
                    "an image record does not fit its configuration; it is set aside as .corrupt"
                );
                set_aside(&self.images, name);
                return Ok(None);
            }
        };
        let image = Arc::new(Image {
            id: record.id,
            repo_tags: record.repo_tags,
            repo_digests: record.repo_digests,
            size: record.size.max(1),
            config: Arc::new(config),
        });
        let mut cache = cache.lock().unwrap_or_else(PoisonError::into_inner);
        cache.insert(name.to_owned(), (stamp, Arc::clone(&image)));
        Ok(Some(image))
    }
}

// === impl ImageRecord ===

impl ImageRecord {
    fn of(image: &Image) -> Self {
        Self {
            version: VERSION,
            id: image.id.clone(),
            repo_tags: image.repo_tags.clone(),
            repo_digests: image.repo_digests.clone(),
            size: image.size,
        }
    }
}

fn insert_sorted(names: &mut Vec<String>, name: Option<String>) {
    if let Some(name) = name
        && let Err(at) = names.binary_search(&name)
    {
        names.insert(at, name);
    }
}

fn record_name(id: &ImageId) -> String {
    format!("{}.json", id.digest().file_stem())
}

fn config_name(id: &ImageId) -> String {
    format!("{}.config", id.digest().file_stem())
}
