//! One pull or import: resolve, manifest, configuration, layers, record.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::{FutureExt as _, StreamExt as _, TryStreamExt as _, stream};
use tokio::sync::mpsc;

use crate::config::ImageConfig;
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::images::{Inner, blocking};
use crate::layer::{PieceReader, unpack_layer};
use crate::manifest::{Document, LayerDescriptor, Manifest};
use crate::origin::Origin;
use crate::platform::Platform;
use crate::progress::{LayerProgress, LayerState, Tracker};
use crate::reference::Reference;
use crate::registry::Session;
use crate::registry::auth::RegistryAuth;
use crate::store::{Commit, Image, ImageId, Staging};

/// Pieces of a blob between the network and the unpacking thread.
const QUEUE: usize = 64;

/// Layers that are being fetched by this process, so that two images fetch a shared one once.
#[derive(Debug, Default)]
pub(crate) struct LayerLocks(Mutex<HashMap<Digest, Arc<tokio::sync::Mutex<()>>>>);

/// What to pull.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Request {
    pub(crate) reference: Reference,
    pub(crate) auth: Option<RegistryAuth>,
    pub(crate) platform: Platform,
}

/// Everything that was fetched but the layers.
struct Resolved {
    digest: Digest,
    manifest: Manifest,
    config_bytes: bytes::Bytes,
    config: ImageConfig,
}

/// Pulls an image. Dropping the future removes everything it made.
pub(crate) async fn run(
    inner: &Arc<Inner>,
    request: &Request,
    tracker: &Tracker,
) -> Result<ImageId> {
    let Request {
        reference,
        auth,
        platform,
    } = request;
    let paths = inner.config.registry_config_paths.clone();
    let session = Session::open(reference, paths, auth.as_ref(), inner.config.timeouts).await?;
    if let Some(id) = known(inner, &session, request).await? {
        return Ok(id);
    }
    let origin = Origin::Registry(&session);
    fetch(inner, &origin, reference, platform, tracker).await
}

/// Takes an image from its origin and names it. Dropping the future removes everything it made.
pub(crate) async fn fetch(
    inner: &Arc<Inner>,
    origin: &Origin<'_>,
    reference: &Reference,
    platform: &Platform,
    tracker: &Tracker,
) -> Result<ImageId> {
    let resolved = resolve(origin, reference, platform).await?;
    let id = ImageId::new(resolved.manifest.config.digest.clone());
    let diff_ids = resolved.config.diff_ids.clone();
    let store = Arc::clone(&inner.store);
    let staging = Arc::new(blocking(move || Staging::create(&store, &diff_ids)).await?);
    fetch_layers(inner, origin, &resolved, &staging, tracker).await?;
    let store = Arc::clone(&inner.store);
    let (reference, committed) = (reference.clone(), id.clone());
    blocking(move || {
        let mut size = resolved.config_bytes.len() as u64;
        for diff_id in &resolved.config.diff_ids {
            size += store.layer(diff_id)?.map_or(0, |layer| layer.bytes);
        }
        let lock = store.lock()?;
        let commit = Commit {
            id: &committed,
            config: &resolved.config_bytes,
            reference: &reference,
            manifest: &resolved.digest,
            size,
        };
        store.commit(&lock, &commit)?;
        // Held until here: it is what keeps the layers without a record.
        drop(staging);
        Ok(())
    })
    .await?;
    inner.store.sync_later();
    Ok(id)
}

/// The image, if it is here and the registry still means it by this reference. Costs one HEAD, and
/// only if this repository was pulled from before.
async fn known(
    inner: &Arc<Inner>,
    session: &Session,
    request: &Request,
) -> Result<Option<ImageId>> {
    let prefix = format!("{}@", request.reference.name());
    let store = Arc::clone(&inner.store);
    let images = blocking(move || store.images()).await?;
    let of_repository = |image: &Arc<Image>| {
        image
            .repo_digests
            .iter()
            .any(|name| name.starts_with(&prefix))
    };
    if !images.iter().any(of_repository) {
        return Ok(None);
    }
    let digest = match session.head().await {
        Ok(Some(digest)) => digest,
        Err(
            error @ (Error::Unauthorized { .. }
            | Error::DeadlineExceeded { .. }
            | Error::NotFound { .. }),
        ) => return Err(error),
        // A registry without HEAD or without digests, perhaps.
        Ok(None) | Err(_) => return Ok(None),
    };
    let name = request.reference.repo_digest(&digest);
    let fits = |image: &&Arc<Image>| {
        let platform = image.config.platform.as_ref();
        image.repo_digests.contains(&name)
            && platform.is_none_or(|offered| request.platform.rank(offered).is_some())
    };
    let Some(image) = images.iter().find(fits).cloned() else {
        return Ok(None);
    };
    let (store, reference) = (Arc::clone(&inner.store), request.reference.clone());
    blocking(move || {
        let lock = store.lock()?;
        // It may have been removed since.
        if store.image(&image.id)?.is_none() {
            return Ok(None);
        }
        let commit = Commit {
            id: &image.id,
            config: &[],
            reference: &reference,
            manifest: &digest,
            size: image.size,
        };
        store.commit(&lock, &commit)?;
        Ok(Some(image.id.clone()))
    })
    .await
}

async fn resolve(
    origin: &Origin<'_>,
    reference: &Reference,
    platform: &Platform,
) -> Result<Resolved> {
    let what = format!("manifest of {reference}");
    let top = origin.resolve().await?;
    let digest = top.digest.clone();
    let manifest = match Document::parse(&top.bytes, top.content_type.as_deref(), &what)? {
        Document::Manifest(manifest) => manifest,
        Document::Index(index) => {
            let descriptor = index.select(platform, &reference.to_string())?;
            let child = origin.manifest(descriptor).await?;
            match Document::parse(&child.bytes, child.content_type.as_deref(), &what)? {
                Document::Manifest(manifest) => manifest,
                Document::Index(_) => {
                    return Err(Error::Unsupported(format!(
                        "{what}: an index within an index"
                    )));
                }
            }
        }
    };
    let config_bytes = origin.small_blob(&manifest.config).await?;
    let config = ImageConfig::parse(&config_bytes)?;
    if config.diff_ids.len() != manifest.layers.len() {
        let reason = format!(
            "it has {} layers but its configuration names {}",
            manifest.layers.len(),
            config.diff_ids.len()
        );
        return Err(Error::corrupt(what, reason));
    }
    if let Some(offered) = &config.platform
        && platform.rank(offered).is_none()
    {
        return Err(Error::NotFound {
            what: format!("{reference} for {platform}"),
            detail: format!(": it is made for {offered}"),
        });
    }
    Ok(Resolved {
        digest,
        manifest,
        config_bytes,
        config,
    })
}

async fn fetch_layers(
    inner: &Arc<Inner>,
    origin: &Origin<'_>,
    resolved: &Resolved,
    staging: &Arc<Staging>,
    tracker: &Tracker,
) -> Result<()> {
    let layers = resolved
        .manifest
        .layers
        .iter()
        .zip(&resolved.config.diff_ids);
    let layers: Vec<_> = layers
        .map(|(layer, diff_id)| {
            let progress = Arc::new(LayerProgress::new(
                layer.blob.digest.clone(),
                layer.blob.size,
            ));
            LayerJob {
                inner,
                origin,
                layer,
                diff_id,
                staging,
                progress,
            }
        })
        .collect();
    tracker.start(layers.iter().map(|job| Arc::clone(&job.progress)).collect());
    let jobs: Vec<_> = layers.iter().map(|job| job.run().boxed()).collect();
    stream::iter(jobs)
        .buffer_unordered(inner.config.concurrent_layers.max(1))
        .try_collect()
        .await
}

struct LayerJob<'a> {
    inner: &'a Arc<Inner>,
    origin: &'a Origin<'a>,
    layer: &'a LayerDescriptor,
    diff_id: &'a Digest,
    staging: &'a Arc<Staging>,
    progress: Arc<LayerProgress>,
}

// === impl LayerJob ===

impl LayerJob<'_> {
    async fn run(&self) -> Result<()> {
        // One at a time for each layer; whoever comes second finds it done.
        let lock = self.inner.layer_locks.of(self.diff_id);
        let guard = lock.lock().await;
        let (store, diff_id) = (Arc::clone(&self.inner.store), self.diff_id.clone());
        if blocking(move || store.layer(&diff_id)).await?.is_some() {
            self.progress.enter(LayerState::Present);
            return Ok(());
        }
        self.progress.enter(LayerState::Fetching);
        self.fetch().await?;
        self.progress.enter(LayerState::Done);
        drop(guard);
        Ok(())
    }

    async fn fetch(&self) -> Result<()> {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let pieces = PieceReader::new(self.layer, receiver);
        let (layer, diff_id, progress) = (
            self.layer.clone(),
            self.diff_id.clone(),
            Arc::clone(&self.progress),
        );
        let (staging, store) = (Arc::clone(self.staging), Arc::clone(&self.inner.store));
        let limit = self.inner.config.max_layer_bytes;
        let mut unpacking = tokio::task::spawn_blocking(move || {
            let root = staging.layer_directory(&diff_id)?;
            let accounting = unpack_layer(pieces, &layer, &diff_id, limit, root, &progress)?;
            store.publish_layer(&staging, &diff_id, accounting)
        });
        let source = self.origin.layer(self.layer, &self.progress, sender);
        let fetched = tokio::select! {
            // A failed unpacking ends the transfer, which may be waiting for the network.
            done = &mut unpacking => return joined(done),
            fetched = source => fetched,
        };
        let unpacked = joined(unpacking.await);
        match (fetched, unpacked) {
            (Err(error), Err(Error::Cancelled(_)) | Ok(())) => Err(error),
            (_, unpacked) => unpacked,
        }
    }
}

fn joined(result: Result<Result<()>, tokio::task::JoinError>) -> Result<()> {
    result.unwrap_or_else(|_| Err(Error::Cancelled("a layer".into())))
}

// === impl LayerLocks ===

impl LayerLocks {
    fn of(&self, diff_id: &Digest) -> Arc<tokio::sync::Mutex<()>> {
        let mut locks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        locks.retain(|_, lock| Arc::strong_count(lock) > 1);
        Arc::clone(locks.entry(diff_id.clone()).or_default())
    }
}
