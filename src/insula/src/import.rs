//! `insula import`: images from files, and from containerd's store.
//!
//! The CRI has no call for it. The command opens the store itself, beside a daemon that may be
//! using it; the daemon sees the images at once.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use insula_images::{
    Bundle, BundledImage, Error, ImageId, Images, Platform, Reference, StoreConfig,
};
use serde::Serialize;

use crate::cli::{Format, Global};
use crate::client::error::{ClientError, one_line};
use crate::client::output::{print, print_json, say};
use crate::client::progress::{Display, Snapshot};
use crate::client::table::{Table, bytes, short_id};
use crate::client::{Outcome, end};
use crate::serve;

/// Take images from files into the store, without a network.
///
/// FILE is an archive of `docker save`, `podman save`, `ctr images export` or `skopeo copy`, or a
/// directory that is an OCI layout; - is standard input. Every byte is checked as one from a
/// registry. A daemon that runs sees the images at once, and none has to.
///
/// With --from-containerd the images of a containerd on this machine are adopted: nothing of it is
/// changed, and it may run or not. What it no longer holds whole is named and must be pulled.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  insula import redis.tar
  docker save app:1 | insula import -
  insula import --name registry.example/app:1 layout/
  insula import --from-containerd
  insula import --from-containerd --list
  insula import --from-containerd --image registry.k8s.io/pause:3.10")]
pub(crate) struct Import {
    /// Archive or directory; - is standard input.
    #[arg(
        value_name = "FILE",
        required_unless_present = "from_containerd",
        conflicts_with = "from_containerd"
    )]
    file: Option<PathBuf>,
    /// Adopt the images of containerd on this machine.
    #[arg(long)]
    from_containerd: bool,
    /// containerd's root directory.
    #[arg(
        long,
        value_name = "DIR",
        default_value = "/var/lib/containerd",
        requires = "from_containerd",
        conflicts_with = "file"
    )]
    containerd_root: PathBuf,
    /// containerd's namespace; kubelet's images are in k8s.io.
    #[arg(
        long,
        value_name = "NAME",
        default_value = "k8s.io",
        requires = "from_containerd",
        conflicts_with = "file"
    )]
    namespace: String,
    /// Only this image; may be given several times.
    #[arg(long = "image", value_name = "NAME")]
    images: Vec<Reference>,
    /// What to call the image, whatever it is called there.
    #[arg(long, value_name = "NAME")]
    name: Option<Reference>,
    /// Only show what is there.
    #[arg(long)]
    list: bool,
    /// The daemon's configuration file, which says where the store is.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The store's directory, whatever the configuration says.
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
}

/// What became of one name.
#[derive(Debug, Serialize)]
struct Row {
    name: String,
    digest: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// One image under one name.
#[derive(Debug)]
struct Wanted<'a> {
    image: &'a BundledImage,
    name: Result<Reference, String>,
}

/// Imports images.
pub(crate) fn main(global: &Global, args: &Import) -> ExitCode {
    end(perform(global.output, args))
}

async fn perform(format: Format, args: &Import) -> Outcome {
    let root = store_root(args.config.as_deref(), args.root.as_deref())?;
    let bundle = open(args, &root).await?;
    let wanted = wanted(&bundle, args)?;
    if args.list {
        return list(format, &wanted);
    }
    let store = StoreConfig::new(&root);
    let images = blocking(move || Images::open(store)).await?;
    let mut rows = Vec::new();
    let mut failed = false;
    for wanted in &wanted {
        let (row, error) = import(&images, &bundle, wanted).await;
        // A store that was cleaned up is no failure, unless this very image was asked for.
        let tolerated = args.from_containerd
            && args.images.is_empty()
            && matches!(error, Some(Error::NotFound { .. }));
        failed |= row.error.is_some() && !tolerated;
        if format == Format::Table {
            tell(&row)?;
        }
        rows.push(row);
    }
    images.settle().await;
    if format == Format::Json {
        print_json(&rows)?;
    }
    Ok(if failed {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

/// Where a daemon with this configuration has its store.
pub(crate) fn store_root(
    config: Option<&Path>,
    root: Option<&Path>,
) -> Result<PathBuf, ClientError> {
    let serve = serve::Args {
        config: config.map(Path::to_owned),
        root: root.map(Path::to_owned),
        ..serve::Args::default()
    };
    let loaded = serve
        .load()
        .map_err(|error| ClientError::Usage(error.to_string()))?;
    Ok(loaded.config.root)
}

async fn open(args: &Import, root: &Path) -> Result<Bundle, ClientError> {
    // Rather where the store is: it has room for images.
    let spool = if root.is_dir() {
        root.to_owned()
    } else {
        std::env::temp_dir()
    };
    let (containerd, namespace) = (args.containerd_root.clone(), args.namespace.clone());
    let file = args.file.clone();
    blocking(move || match file {
        None => Bundle::open_containerd(&containerd, &namespace),
        Some(path) if path == Path::new("-") => Bundle::read(&mut std::io::stdin(), &spool),
        Some(path) => Bundle::open(&path),
    })
    .await
}

/// What of the bundle is meant, under which names.
fn wanted<'a>(bundle: &'a Bundle, args: &Import) -> Result<Vec<Wanted<'a>>, ClientError> {
    let mut all = Vec::new();
    for image in bundle.images() {
        if image.names.is_empty() {
            let name = "it has no name there; give it one with --name".to_owned();
            all.push(Wanted {
                image,
                name: Err(name),
            });
        }
        for name in &image.names {
            let name = name.parse::<Reference>().map_err(|error| error.to_string());
            all.push(Wanted { image, name });
        }
    }
    for asked in &args.images {
        let is_asked = |wanted: &Wanted<'_>| wanted.name.as_ref() == Ok(asked);
        if !all.iter().any(is_asked) {
            return Err(ClientError::Usage(format!(
                "there is no image {asked} in it; --list shows what there is"
            )));
        }
    }
    if !args.images.is_empty() {
        all.retain(|wanted| {
            let name = wanted.name.as_ref();
            name.is_ok_and(|name| args.images.contains(name))
        });
    }
    let Some(name) = &args.name else {
        return Ok(all);
    };
    all.dedup_by(|a, b| a.image == b.image);
    if all.len() != 1 {
        return Err(ClientError::Usage(format!(
            "--name is for one image, and there are {}; say which with --image",
            all.len()
        )));
    }
    for wanted in &mut all {
        wanted.name = Ok(name.clone());
    }
    Ok(all)
}

async fn import(images: &Images, bundle: &Bundle, wanted: &Wanted<'_>) -> (Row, Option<Error>) {
    let mut row = row(wanted);
    let Ok(name) = &wanted.name else {
        return (row, None);
    };
    let mut display = Display::new();
    let shown = name.to_string();
    let platform = Platform::host();
    let done = images.import(bundle, wanted.image, name, &platform, |progress| {
        display.update(&Snapshot::of(&shown, progress));
    });
    let done = done.await;
    display.finish();
    match done {
        Ok(id) => {
            row.bytes = size(images, &id).await;
            row.id = Some(id.as_str().to_owned());
            (row, None)
        }
        Err(error) => {
            row.error = Some(one_line(&error));
            (row, Some(error))
        }
    }
}

async fn size(images: &Images, id: &ImageId) -> Option<u64> {
    let image = images.status(id.as_str()).await.ok()??;
    Some(image.size)
}

fn row(wanted: &Wanted<'_>) -> Row {
    let (name, error) = match &wanted.name {
        Ok(name) => (name.to_string(), None),
        Err(reason) => (wanted.image.names.join(" "), Some(reason.clone())),
    };
    Row {
        name,
        digest: wanted.image.target.digest.to_string(),
        id: None,
        bytes: None,
        error,
    }
}

fn list(format: Format, wanted: &[Wanted<'_>]) -> Outcome {
    let rows: Vec<_> = wanted.iter().map(row).collect();
    match format {
        Format::Json => print_json(&rows)?,
        Format::Table => {
            let mut table = Table::new(["NAME", "DIGEST"]);
            for row in rows {
                let name = if row.name.is_empty() {
                    "-".into()
                } else {
                    row.name
                };
                table.row([name, short_id(&row.digest)]);
            }
            print(&table.to_string())?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// One line for one name, as soon as it is known.
fn tell(row: &Row) -> Result<(), ClientError> {
    let name = if row.name.is_empty() {
        &row.digest
    } else {
        &row.name
    };
    let name = name.escape_debug();
    if let Some(error) = &row.error {
        say(&format!("not imported: {name}: {error}"));
        return Ok(());
    }
    let id = short_id(row.id.as_deref().unwrap_or_default());
    print(&format!(
        "{name}   {id}   {}\n",
        bytes(row.bytes.unwrap_or_default())
    ))
}

/// Runs what blocks beside the runtime, and says its error in one line.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, ClientError> {
    let done = tokio::task::spawn_blocking(work).await;
    match done {
        Ok(result) => result.map_err(|error| ClientError::Usage(one_line(&error))),
        Err(error) => Err(ClientError::Usage(error.to_string())),
    }
}
