//! Where an image comes from.

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::bundle::{Bundle, BundledImage};
use crate::error::Result;
use crate::manifest::{Descriptor, LayerDescriptor};
use crate::progress::LayerProgress;
use crate::registry::{BlobSource, FetchedDocument, Session};

/// A registry, or files.
pub(crate) enum Origin<'a> {
    Registry(&'a Session),
    Bundle(&'a Bundle, &'a BundledImage),
}

// === impl Origin ===

impl Origin<'_> {
    /// The document that the image's name stands for.
    pub(crate) async fn resolve(&self) -> Result<FetchedDocument> {
        match self {
            Self::Registry(session) => session.resolve().await,
            Self::Bundle(bundle, image) => Ok(FetchedDocument {
                digest: image.target.digest.clone(),
                content_type: image.media_type.clone(),
                bytes: bundle.document(&image.target.digest).await?,
            }),
        }
    }

    /// A document by its descriptor.
    pub(crate) async fn manifest(&self, descriptor: &Descriptor) -> Result<FetchedDocument> {
        match self {
            Self::Registry(session) => session.manifest(descriptor).await,
            Self::Bundle(bundle, _) => Ok(FetchedDocument {
                digest: descriptor.digest.clone(),
                content_type: None,
                bytes: bundle.document(&descriptor.digest).await?,
            }),
        }
    }

    /// A small blob (the configuration), whole.
    pub(crate) async fn small_blob(&self, descriptor: &Descriptor) -> Result<Bytes> {
        match self {
            Self::Registry(session) => session.small_blob(descriptor).await,
            Self::Bundle(bundle, _) => bundle.document(&descriptor.digest).await,
        }
    }

    /// Sends a layer's bytes, in order and exactly as many as its descriptor says, into `sink`.
    /// Returns early if the receiver is gone: then it has an error of its own to tell.
    pub(crate) async fn layer(
        &self,
        layer: &LayerDescriptor,
        progress: &LayerProgress,
        sink: mpsc::Sender<Bytes>,
    ) -> Result<()> {
        match self {
            Self::Registry(session) => {
                let source = BlobSource {
                    session,
                    layer,
                    progress,
                };
                source.run(sink).await
            }
            Self::Bundle(bundle, _) => bundle.layer(layer, progress, sink).await,
        }
    }
}
