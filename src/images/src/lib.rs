//! Images: references, registry client, manifests, layer store and root file systems.
//!
//! [`Images`] is the front door: it pulls Docker schema 2 and OCI images from registries (hosts,
//! mirrors and TLS from `hosts.toml`), keeps their layers unpacked and verified under one
//! directory, names them as the CRI does, and gives each container a root file system as one
//! mountable value, [`Rootfs`]. It knows nothing of pods.
//!
//! ```text
//! reference ─▶ hosts ─▶ manifest ─▶ configuration ─▶ layers, all at once ─▶ record
//!                                                     │ staging/<pull>/     │ images/<id>.json
//!                                                     ▼ verified            ▼
//!                                                    layers/<diffID>.tree   listed
//!                                                                           │ rw/<container>/
//!                                                                           ▼
//!                                                                          Rootfs
//! ```
//!
//! An image exists when its record does, and a record is written only when all its layers are
//! verified. It may come from a registry or from files ([`Bundle`]). What a registry or an image says is data of strangers: it is bounded, parsed into a
//! typed value, and never part of a path, a URL with credentials, or policy before that.
#![forbid(unsafe_code)]

mod bundle;
mod config;
mod digest;
mod error;
#[doc(hidden)]
pub mod fuzzing;
mod images;
mod layer;
mod manifest;
mod origin;
mod platform;
mod progress;
mod pull;
mod reference;
mod registry;
mod rootfs;
mod secret;
mod store;

pub use self::bundle::{Bundle, BundledImage};
pub use self::config::ImageConfig;
pub use self::digest::{Algorithm, Digest, Hasher};
pub use self::error::{Error, Result};
pub use self::images::{FsInfo, Images, Pull, StoreConfig};
pub use self::layer::EntryPath;
pub use self::manifest::{Compression, Descriptor, Document, Index, LayerDescriptor, Manifest};
pub use self::platform::Platform;
pub use self::progress::{LayerSnapshot, LayerState, PullProgress};
pub use self::reference::{DEFAULT_DOMAIN, DEFAULT_TAG, Reference};
pub use self::registry::Timeouts;
pub use self::registry::auth::RegistryAuth;
pub use self::rootfs::{
    KnownRootfs, OverlayDescription, Rootfs, RootfsIds, RootfsMount, RootfsUsage, read_in_root,
    try_ids,
};
pub use self::secret::Secret;
pub use self::store::{Image, ImageId};
