//! The image store.

use crate::error::{Cause, Error, Result};
use crate::files::blocking;
use crate::ids::ContainerId;
use crate::ports::{ImageFacts, ImageStore, PreparedRootfs, UserNamespace};
use crate::stats::FilesystemUsage;
use futures_util::future::{BoxFuture, FutureExt as _};
use insula_images::{
    Image, ImageConfig, ImageId, Images, Reference, Rootfs, RootfsIds, RootfsMount, read_in_root,
};
use insula_isolators::isolator::ImageView;
use insula_isolators::spec::ImageRequest;
use insula_wire::{IdRange, OsText};
use std::os::fd::OwnedFd;
use std::time::Duration;

/// Most bytes of `/etc/passwd` and `/etc/group`; larger ones are meant to hurt.
const ACCOUNTS_LIMIT: u64 = 4 << 20;

/// How long reading two small files may take.
const READ_DEADLINE: Duration = Duration::from_secs(30);

impl ImageStore for Images {
    fn image<'a>(&'a self, image: &'a ImageRequest) -> BoxFuture<'a, Result<ImageFacts>> {
        async move {
            let name = &image.image;
            let found = self
                .status(name)
                .await
                .map_err(|error| failed("look up the image", error))?;
            let found = found.ok_or_else(|| Error::NotFound {
                what: "image",
                id: name.clone(),
            })?;
            facts(&found, image)
        }
        .boxed()
    }

    fn prepare_rootfs<'a>(
        &'a self,
        container: &'a ContainerId,
        image: &'a ImageFacts,
        mount_label: Option<&'a str>,
        user: Option<&'a UserNamespace>,
    ) -> BoxFuture<'a, Result<PreparedRootfs>> {
        async move {
            let stage = "make the root file system";
            let id: ImageId = image.id.parse().map_err(|error| failed(stage, error))?;
            let ids = user.map(rootfs_ids).transpose()?;
            let rootfs = Images::prepare_rootfs(self, &id, container.as_str(), mount_label, ids)
                .await
                .map_err(|error| failed(stage, error))?;
            blocking(stage, READ_DEADLINE, move || prepared(rootfs)).await
        }
        .boxed()
    }

    fn mount_image<'a>(
        &'a self,
        container: &'a ContainerId,
        image: &'a str,
        index: usize,
        user: Option<&'a UserNamespace>,
    ) -> BoxFuture<'a, Result<OwnedFd>> {
        async move {
            let stage = "mount an image as a volume";
            let id: ImageId = image.parse().map_err(|error| failed(stage, error))?;
            let ids = user.map(rootfs_ids).transpose()?;
            let volume = self
                .mount_volume(&id, container.as_str(), index, ids)
                .await
                .map_err(|error| failed(stage, error))?;
            detached(volume.mount)
        }
        .boxed()
    }

    fn remove_rootfs<'a>(&'a self, container: &'a ContainerId) -> BoxFuture<'a, Result<()>> {
        async move {
            Images::remove_rootfs(self, container.as_str())
                .await
                .map_err(|error| failed("remove the root file system", error))
        }
        .boxed()
    }

    fn rootfs_usage<'a>(
        &'a self,
        container: &'a ContainerId,
    ) -> BoxFuture<'a, Result<Option<FilesystemUsage>>> {
        async move {
            let stage = "measure the root file system";
            let usage = Images::rootfs_usage(self, container.as_str())
                .await
                .map_err(|error| failed(stage, error))?;
            Ok(Some(FilesystemUsage {
                timestamp: crate::files::now(),
                mountpoint: self.root().to_owned(),
                used_bytes: usage.bytes,
                inodes_used: usage.inodes,
            }))
        }
        .boxed()
    }

    fn rootfs_owners(&self) -> BoxFuture<'_, Result<Vec<ContainerId>>> {
        async move {
            let all = self
                .list_rootfs()
                .await
                .map_err(|error| failed("list the root file systems", error))?;
            // Names that are no ids of ours are of no concern to us.
            Ok(all
                .iter()
                .filter_map(|rootfs| ContainerId::parse(&rootfs.container).ok())
                .collect())
        }
        .boxed()
    }
}

fn rootfs_ids(user: &UserNamespace) -> Result<RootfsIds> {
    let namespace = insula_sys::fd::duplicate(&user.namespace)
        .map_err(|error| Error::internal("make the root file system", error))?;
    let range = |ids: IdRange| ids.first()..ids.first() + ids.length();
    Ok(RootfsIds {
        namespace,
        uids: range(user.ids.uids),
        gids: range(user.ids.gids),
    })
}

/// What containers need to know of an image.
fn facts(image: &Image, asked: &ImageRequest) -> Result<ImageFacts> {
    let id = image.id.as_str().to_owned();
    Ok(ImageFacts {
        reference: image
            .repo_digests
            .first()
            .cloned()
            .unwrap_or_else(|| id.clone()),
        name: shown_name(&image.repo_tags, asked),
        view: view(&image.config)?,
        id,
    })
}

/// Of the names of an image the one that was asked for, or the first: kubelet
/// shows it as the container's image.
fn shown_name(names: &[String], asked: &ImageRequest) -> Option<String> {
    [&asked.user_specified_image, &asked.image]
        .into_iter()
        .filter_map(|name| name.parse::<Reference>().ok()?.repo_tag())
        .find(|name| names.contains(name))
        .or_else(|| names.first().cloned())
}

fn view(config: &ImageConfig) -> Result<ImageView> {
    Ok(ImageView {
        entrypoint: texts("entrypoint", &config.entrypoint)?,
        cmd: texts("command", &config.cmd)?,
        env: texts("environment", &config.env)?,
        working_dir: config.working_dir.clone(),
        user: config.user.clone(),
        stop_signal: config.stop_signal.clone(),
        volumes: config.volumes.clone(),
    })
}

fn texts(what: &str, words: &[String]) -> Result<Vec<OsText>> {
    words
        .iter()
        .map(|word| OsText::try_from(word.as_str()))
        .collect::<std::result::Result<_, _>>()
        .map_err(|error| {
            Error::InvalidArgument(format!("the image's {what} cannot be used: {error}"))
        })
}

fn prepared(rootfs: Rootfs) -> Result<PreparedRootfs> {
    let read = |path| {
        read_in_root(&rootfs, path, ACCOUNTS_LIMIT)
            .map(Option::unwrap_or_default)
            .map_err(|error| failed("read the image's accounts", error))
    };
    let (passwd, group) = (read("/etc/passwd")?, read("/etc/group")?);
    Ok(PreparedRootfs {
        mount: detached(rootfs.mount)?,
        passwd,
        group,
    })
}

fn detached(mount: RootfsMount) -> Result<OwnedFd> {
    match mount {
        RootfsMount::Detached(mount) => Ok(mount),
        RootfsMount::Overlay(layers) => Err(Error::Unimplemented(format!(
            "the image has {} layers, more than this kernel can stack by descriptor: use Linux 6.5 or later, or an image with fewer layers",
            layers.lower.len()
        ))),
    }
}

fn failed(stage: &'static str, error: insula_images::Error) -> Error {
    match error {
        insula_images::Error::NotFound { what, .. } => Error::NotFound {
            what: "image or root file system",
            id: what,
        },
        insula_images::Error::InvalidReference { .. } => Error::InvalidArgument(error.to_string()),
        insula_images::Error::NoSpace { .. } => Error::ResourceExhausted(error.to_string()),
        insula_images::Error::DeadlineExceeded { stage, waited } => Error::DeadlineExceeded {
            stage,
            after: waited,
        },
        other => Error::Images {
            stage,
            source: Cause::new(other),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::shown_name;
    use insula_isolators::spec::ImageRequest;

    #[test]
    fn an_image_is_shown_by_the_name_that_was_asked_for() {
        let id = format!("sha256:{}", "a".repeat(64));
        let names = [
            "docker.io/library/redis:7",
            "docker.io/library/redis:latest",
        ];
        let names = names.map(str::to_owned);
        for (image, user_specified_image, shown) in [
            ("redis", "", 1),
            (id.as_str(), "redis:latest", 1),
            (id.as_str(), "docker.io/library/redis:7", 0),
            ("redis:latest", "redis:7", 0),
            (id.as_str(), "", 0),
            (id.as_str(), "gone:7", 0),
            ("redis:latest", "not a name", 1),
        ] {
            let asked = ImageRequest {
                image: image.to_owned(),
                user_specified_image: user_specified_image.to_owned(),
                ..ImageRequest::default()
            };
            let wanted = Some(names[shown].clone());
            assert_eq!(shown_name(&names, &asked), wanted, "{asked:?}");
            assert_eq!(shown_name(&[], &asked), None);
        }
    }
}
