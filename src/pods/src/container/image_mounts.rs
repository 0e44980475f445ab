//! Images that a container shows as volumes (CRI `Mount.image`, KEP-4639).

use crate::env::Env;
use crate::error::{Cause, Error, Result};
use crate::files::blocking;
use crate::ids::ContainerId;
use crate::ports::UserNamespace;
use insula_isolators::spec::ContainerSpec;
use insula_sys::path::open_in_root;
use insula_wire::LaunchPlan;
use insula_wire::plan::{Mount, MountSource};
use rustix::fs::OFlags;
use rustix::io::Errno;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;

/// Looks up the images and notes their ids. They are never pulled here.
pub(super) async fn look_up(env: &Env, spec: &Arc<ContainerSpec>) -> Result<Arc<ContainerSpec>> {
    let mut found = Arc::clone(spec);
    for (index, mount) in spec.mounts.iter().enumerate() {
        if let Some(image) = &mount.image {
            let facts = env
                .images
                .image(&image.request)
                .await
                .map_err(|error| failed(&image.request.image, &mount.container_path, error))?;
            if let Some(image) = &mut Arc::make_mut(&mut found).mounts[index].image {
                image.id = facts.id;
            }
        }
    }
    Ok(found)
}

/// Mounts the images of a plan, in the order in which they appear there, shown
/// with the ids of the pod's user namespace where it has one.
pub(super) async fn open(
    env: &Env,
    id: &ContainerId,
    plan: &LaunchPlan,
    user: Option<&UserNamespace>,
) -> Result<Vec<OwnedFd>> {
    let mut opened = Vec::new();
    for mount in plan.opened_mounts() {
        if let MountSource::Image {
            id: image,
            sub_path,
        } = &mount.source
        {
            let volume = env
                .images
                .mount_image(id, image, opened.len(), user)
                .await
                .map_err(|error| failed(image, &mount.target, error))?;
            opened.push(check_sub_path(env, volume, sub_path, mount).await?);
        }
    }
    Ok(opened)
}

/// The child finds the directory again by itself; here a wrong one gets an
/// error that says so.
async fn check_sub_path(
    env: &Env,
    volume: OwnedFd,
    sub_path: &str,
    mount: &Mount,
) -> Result<OwnedFd> {
    if sub_path.is_empty() {
        return Ok(volume);
    }
    let (path, target) = (sub_path.to_owned(), mount.target.clone());
    let stage = format!("look at the image that is mounted at {target}");
    blocking(stage, env.config.deadlines.volumes, move || {
        match open_in_root(volume.as_fd(), &path, OFlags::PATH | OFlags::DIRECTORY) {
            Ok(_) => Ok(volume),
            Err(error) => Err(Error::FailedPrecondition(format!(
                "ImageVolumeMountFailed: sub path {path:?} of the image as the volume at {target}: {}",
                match error.errno() {
                    Errno::NOENT => "the image has no such directory".to_owned(),
                    Errno::NOTDIR => "it is no directory".to_owned(),
                    _ => error.to_string(),
                }
            ))),
        }
    })
    .await
}

/// Kubelet recognises the word at the start.
fn failed(image: &str, target: &str, error: Error) -> Error {
    match error {
        Error::NotFound { .. } => Error::NotFound {
            what: "ImageVolumeMountFailed: the image of a volume:",
            id: image.to_owned(),
        },
        Error::DeadlineExceeded { .. } | Error::Aborted(_) => error,
        other => Error::Images {
            stage: "ImageVolumeMountFailed",
            source: Cause::new(Labelled {
                text: format!("image {image:?} as the volume at {target}"),
                source: other,
            }),
        },
    }
}

#[derive(Debug, thiserror::Error)]
#[error("{text}: {source}")]
struct Labelled {
    text: String,
    source: Error,
}
