//! `insula tag`: one more name for an image of the store.
//!
//! The CRI has no call for it, so the command opens the store itself, as [`mod@crate::import`] does.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use insula_images::{Images, Reference, StoreConfig};

use crate::client::error::{ClientError, one_line};
use crate::client::output::print;
use crate::client::{Outcome, end};
use crate::import::{blocking, store_root};

/// Give an image in the store one more name.
///
/// A tag that another image has moves to this one. A daemon that runs sees it at once.
#[derive(Debug, Args)]
pub(crate) struct Tag {
    /// Name or id.
    #[arg(value_name = "IMAGE")]
    image: String,
    /// The new name, such as registry.example/app:1.
    #[arg(value_name = "NAME")]
    name: Reference,
    /// The daemon's configuration file, which says where the store is.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The store's directory, whatever the configuration says.
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
}

/// Names the image.
pub(crate) fn main(args: &Tag) -> ExitCode {
    end(perform(args))
}

async fn perform(args: &Tag) -> Outcome {
    let store = StoreConfig::new(store_root(args.config.as_deref(), args.root.as_deref())?);
    let images = blocking(move || Images::open(store)).await?;
    let tagged = images.tag(&args.image, &args.name).await;
    let id = tagged.map_err(|error| ClientError::Usage(one_line(&error)))?;
    images.settle().await;
    print(&format!("{id}\n"))?;
    Ok(ExitCode::SUCCESS)
}
