//! The crate's front door.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::AbortHandle;

use crate::bundle::{Bundle, BundledImage};
use crate::error::{Error, Result};
use crate::origin::Origin;
use crate::platform::Platform;
use crate::progress::{PullProgress, Tracker};
use crate::pull::{self, LayerLocks, Request};
use crate::reference::Reference;
use crate::registry::Timeouts;
use crate::registry::auth::RegistryAuth;
use crate::rootfs::{DirectoryBackend, KnownRootfs, Rootfs, RootfsBackend, RootfsIds, RootfsUsage};
use crate::store::{Commit, Image, ImageId, Store};

/// How often an import tells how far it is.
const PROGRESS: Duration = Duration::from_millis(100);

/// How to open a store.
#[derive(Debug, Clone)]
pub struct StoreConfig {
    /// The durable directory, such as `/var/lib/insula`.
    pub root: PathBuf,
    /// Directories that hold `<host>/hosts.toml`, the first that knows a host decides.
    pub registry_config_paths: Vec<PathBuf>,
    /// How long the network may be silent.
    pub timeouts: Timeouts,
    /// Layers fetched at once for one pull.
    pub concurrent_layers: usize,
    /// Upper bound of one layer's uncompressed bytes.
    pub max_layer_bytes: u64,
}

/// Images, layers and root file systems of one store. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Images(Arc<Inner>);

/// What images take on disk, for the CRI's `ImageFsInfo`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FsInfo {
    /// The store's directory: its file system is the one that fills up.
    pub path: PathBuf,
    /// Bytes of all layers.
    pub bytes: u64,
    /// Inodes of all layers.
    pub inodes: u64,
}

/// A pull in flight. The transfer goes on while anybody holds one for it.
#[derive(Debug, Clone)]
pub struct Pull(Arc<Flight>);

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) config: StoreConfig,
    pub(crate) store: Arc<Store>,
    pub(crate) layer_locks: LayerLocks,
    backend: Arc<dyn RootfsBackend>,
    flights: Mutex<HashMap<Request, Weak<Flight>>>,
}

#[derive(Debug)]
struct Flight {
    reference: Reference,
    tracker: Arc<Tracker>,
    result: watch::Receiver<Option<Result<ImageId>>>,
    task: AbortHandle,
    /// See [`Pull::is_counted_here`].
    counted: AtomicBool,
}

// === impl StoreConfig ===

impl StoreConfig {
    /// The usual settings for a store at `root`, without registry configuration.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self {
            root: root.into(),
            registry_config_paths: Vec::new(),
            timeouts: Timeouts::default(),
            concurrent_layers: 6,
            max_layer_bytes: 256 << 30,
        }
    }
}

// === impl Images ===

impl Images {
    /// Opens a store, making it if there is none, and removes what dead pulls and power cuts left.
    ///
    /// Several processes may have it open. Blocks for file system calls.
    pub fn open(config: StoreConfig) -> Result<Self> {
        let store = Store::open(&config.root).map_err(|error| error.in_store(&config.root))?;
        Ok(Self(Arc::new(Inner {
            store: Arc::new(store),
            config,
            layer_locks: LayerLocks::default(),
            backend: Arc::new(DirectoryBackend::default()),
            flights: Mutex::default(),
        })))
    }

    /// Pulls an image and gives its id, which is the same everywhere in the CRI.
    ///
    /// Pulls of the same reference with the same credentials join. Dropping the future gives the
    /// pull up, unless somebody else waits for it; then nothing of it is left.
    ///
    /// # Errors
    /// Every variant of [`Error`]; none holds a credential.
    pub async fn pull(
        &self,
        reference: &str,
        auth: Option<RegistryAuth>,
        platform: Platform,
    ) -> Result<ImageId> {
        self.start_pull(reference, auth, platform)?.wait().await
    }

    /// As [`Images::pull`], but gives a handle at once that shows the progress.
    ///
    /// Must be called within a tokio runtime.
    pub fn start_pull(
        &self,
        reference: &str,
        auth: Option<RegistryAuth>,
        platform: Platform,
    ) -> Result<Pull> {
        let request = Request {
            reference: reference.parse()?,
            auth,
            platform,
        };
        let mut flights = self
            .0
            .flights
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(flight) = flights.get(&request).and_then(Weak::upgrade)
            && flight.result.borrow().is_none()
        {
            return Ok(Pull(flight));
        }
        flights.retain(|_, flight| flight.strong_count() > 0);
        let (sender, result) = watch::channel(None);
        let tracker = Arc::new(Tracker::default());
        let task = {
            let (inner, request, tracker) =
                (Arc::clone(&self.0), request.clone(), Arc::clone(&tracker));
            tokio::spawn(async move {
                let done = pull::run(&inner, &request, &tracker).await;
                let done = done.map_err(|error| error.in_store(&inner.config.root));
                sender.send_replace(Some(done));
            })
        };
        let flight = Arc::new(Flight {
            reference: request.reference.clone(),
            tracker,
            result,
            task: task.abort_handle(),
            counted: AtomicBool::new(false),
        });
        flights.insert(request, Arc::downgrade(&flight));
        Ok(Pull(flight))
    }

    /// Takes an image from files, under a name. It is checked as one from a registry; layers that
    /// are here are not read. Dropping the future gives the import up, and nothing of it is left.
    /// `progress` is called now and then with how far it is.
    ///
    /// # Errors
    /// [`Error::InvalidReference`] for a name with another digest, [`Error::NotFound`] if the files
    /// lack a blob or the platform, [`Error::Corrupt`] if one is not what its digest says.
    pub async fn import(
        &self,
        bundle: &Bundle,
        image: &BundledImage,
        reference: &Reference,
        platform: &Platform,
        mut progress: impl FnMut(&PullProgress),
    ) -> Result<ImageId> {
        image.check(reference)?;
        let tracker = Tracker::default();
        let origin = Origin::Bundle(bundle, image);
        let done = {
            let fetched = pull::fetch(&self.0, &origin, reference, platform, &tracker);
            tokio::pin!(fetched);
            let mut ticks = tokio::time::interval(PROGRESS);
            loop {
                tokio::select! {
                    done = &mut fetched => break done,
                    _ = ticks.tick() => progress(&tracker.snapshot()),
                }
            }
        };
        progress(&tracker.snapshot());
        done.map_err(|error| error.in_store(&self.0.config.root))
    }

    /// How far a pull in flight of this reference is. None if there is none.
    pub fn progress(&self, reference: &Reference) -> Option<PullProgress> {
        let flights = self
            .0
            .flights
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let mut flights = flights.values().filter_map(Weak::upgrade);
        let flight = flights.find(|f| f.reference == *reference && f.result.borrow().is_none())?;
        Some(flight.tracker.snapshot())
    }

    /// The image that an id, a unique beginning of an id (four digits or more), a tag, a digest or
    /// a name stands for. None if it is not here, or if the text can be no name.
    ///
    /// # Errors
    /// [`Error::InvalidReference`] if the beginning of an id fits several images.
    pub async fn status(&self, any_ref: &str) -> Result<Option<Arc<Image>>> {
        let any_ref = any_ref.to_owned();
        self.with_store(move |store| store.find(&any_ref)).await
    }

    /// All images, by id.
    pub async fn list(&self) -> Result<Vec<Arc<Image>>> {
        self.with_store(Store::images).await
    }

    /// The image's configuration as the registry sent it (JSON).
    pub async fn raw_config(&self, id: &ImageId) -> Result<Option<Vec<u8>>> {
        let id = id.clone();
        self.with_store(move |store| store.raw_config(&id)).await
    }

    /// Gives an image that is here one more name, as `reference`; a tag that another image has moves.
    ///
    /// # Errors
    /// [`Error::NotFound`] if nothing is called `any_ref`, [`Error::InvalidReference`] for a
    /// `reference` with a digest: that is what an image is, not what it is called.
    pub async fn tag(&self, any_ref: &str, reference: &Reference) -> Result<ImageId> {
        if reference.digest().is_some() {
            return Err(Error::InvalidReference {
                reference: reference.to_string(),
                reason: "a name with a digest cannot be given away; give one with a tag".into(),
            });
        }
        let (any_ref, reference) = (any_ref.to_owned(), reference.clone());
        self.with_store(move |store| {
            let lock = store.lock()?;
            let missing = || Error::NotFound {
                what: format!("image {any_ref}"),
                detail: " in the store".into(),
            };
            let image = store.find(&any_ref)?.ok_or_else(missing)?;
            let manifest = image
                .repo_digests
                .iter()
                .find_map(|name| name.split_once('@')?.1.parse().ok())
                .ok_or_else(missing)?;
            let commit = Commit {
                id: &image.id,
                config: &[],
                reference: &reference,
                manifest: &manifest,
                size: image.size,
            };
            store.commit(&lock, &commit)?;
            Ok(image.id.clone())
        })
        .await
    }

    /// Removes an image with all its names, whichever of them is given. It is gone from lists when
    /// this returns; layers that nothing else needs are removed after that. A missing image is no
    /// error. Containers made from it keep their layers.
    pub async fn remove(&self, any_ref: &str) -> Result<()> {
        let any_ref = any_ref.to_owned();
        self.with_store(move |store| {
            let lock = store.lock()?;
            let Some(image) = store.find(&any_ref)? else {
                return Ok(());
            };
            store.forget(&lock, &image.id)?;
            store.collect(&lock)
        })
        .await?;
        self.0.store.empty_trash_later();
        Ok(())
    }

    /// The store's directory.
    pub fn root(&self) -> &Path {
        &self.0.config.root
    }

    /// Bytes and inodes used by images.
    pub async fn fs_info(&self) -> Result<FsInfo> {
        let (bytes, inodes) = self.with_store(Store::usage).await?;
        Ok(FsInfo {
            path: self.0.config.root.clone(),
            bytes,
            inodes,
        })
    }

    /// Makes the root file system of a new container. From then on its layers stay, even if the
    /// image is removed or this process restarted, until [`Images::remove_rootfs`]. All files in
    /// it have the SELinux label `mount_label`, where there is one.
    ///
    /// With `ids` it is shown with a user namespace's ids: what the image says belongs to user 0
    /// belongs to root there, and what root there writes does not belong to the host's.
    ///
    /// # Errors
    /// [`Error::NotFound`] if the image is not here, [`Error::Unsupported`] if the container's id
    /// is malformed or has a root file system already, or if the store's file system cannot show
    /// other ids.
    pub async fn prepare_rootfs(
        &self,
        image: &ImageId,
        container_id: &str,
        mount_label: Option<&str>,
        ids: Option<RootfsIds>,
    ) -> Result<Rootfs> {
        let (image, container, backend) = (
            image.clone(),
            container_id.to_owned(),
            Arc::clone(&self.0.backend),
        );
        let label = mount_label.map(str::to_owned);
        self.with_store(move |store| {
            store.prepare_rootfs(&*backend, &image, &container, label, ids.as_ref())
        })
        .await
    }

    /// Mounts an image for a container to see it as a volume. It goes when the container's root file
    /// system does, which must exist; `index` counts the volumes of a container. The mount is
    /// writable, into a place of the container's own; whoever attaches it makes it read-only. `ids` are
    /// those of [`Images::prepare_rootfs`].
    ///
    /// # Errors
    /// [`Error::NotFound`] if the image or the container's root file system is not here.
    pub async fn mount_volume(
        &self,
        image: &ImageId,
        container_id: &str,
        index: usize,
        ids: Option<RootfsIds>,
    ) -> Result<Rootfs> {
        let (image, container, backend) = (
            image.clone(),
            container_id.to_owned(),
            Arc::clone(&self.0.backend),
        );
        self.with_store(move |store| {
            store.mount_volume(&*backend, &image, &container, index, ids.as_ref())
        })
        .await
    }

    /// Removes a container's root file system. It is gone from lists when this returns, its files
    /// after that. Missing is no error. Mounts of it must be gone before.
    pub async fn remove_rootfs(&self, container_id: &str) -> Result<()> {
        let container = container_id.to_owned();
        let image_gone = self
            .with_store(move |store| store.remove_rootfs(&container))
            .await?;
        if image_gone {
            self.with_store(|store| store.collect(&store.lock()?))
                .await?;
        }
        self.0.store.empty_trash_later();
        Ok(())
    }

    /// What a container has written. Walks its files, so do not call it often.
    pub async fn rootfs_usage(&self, container_id: &str) -> Result<RootfsUsage> {
        let container = container_id.to_owned();
        self.with_store(move |store| store.rootfs_usage(&container))
            .await
    }

    /// All root file systems there are, to find those of containers that are not.
    pub async fn list_rootfs(&self) -> Result<Vec<KnownRootfs>> {
        self.with_store(Store::list_rootfs).await
    }

    /// Waits until nothing is being flushed or removed in the background. A command that ends
    /// after a pull calls it, or its layers count as torn after the next power cut.
    pub async fn settle(&self) {
        self.0.store.settled().await;
    }

    /// Gives up pulls in flight and waits until nothing is being flushed or removed, at most
    /// `within`. False if something still is; the next [`Images::open`] finishes it. What this
    /// value is asked after that works, but nobody waits for it.
    pub async fn shut_down(&self, within: Duration) -> bool {
        let flights: Vec<_> = self
            .0
            .flights
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .drain()
            .filter_map(|(_, flight)| flight.upgrade())
            .collect();
        for flight in flights {
            flight.task.abort();
        }
        tokio::time::timeout(within, self.settle()).await.is_ok()
    }

    async fn with_store<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Store) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let store = Arc::clone(&self.0.store);
        let done = blocking(move || work(&store)).await;
        done.map_err(|error| error.in_store(&self.0.config.root))
    }
}

// === impl Pull ===

impl Pull {
    /// How far it is.
    pub fn progress(&self) -> PullProgress {
        self.0.tracker.snapshot()
    }

    /// True for the first who asks, of all who share this pull: who counts pulls
    /// counts each once.
    pub fn is_counted_here(&self) -> bool {
        !self.0.counted.swap(true, Ordering::Relaxed)
    }

    /// Waits for its end.
    pub async fn wait(&self) -> Result<ImageId> {
        let mut result = self.0.result.clone();
        let done = result
            .wait_for(Option::is_some)
            .await
            .map(|done| done.clone());
        match done {
            Ok(Some(done)) => done,
            _ => Err(Error::Cancelled(self.0.reference.to_string())),
        }
    }
}

impl Drop for Flight {
    /// The last one who waited is gone.
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Runs file system calls where they block nobody.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|_| Err(Error::Cancelled("work on the image store".into())))
}
