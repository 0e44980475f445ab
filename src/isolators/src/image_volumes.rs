//! Volumes that an image declares.

use crate::contribution::Contribution;
use crate::isolator::{ImageView, Isolator, PodView, Refusal};
use crate::path;
use crate::spec::ContainerSpec;
use insula_wire::plan::{Mount, MountAttributes, MountSource, Propagation};
use std::path::PathBuf;

/// Most volumes of one image; more can only be meant to hurt.
const MAX_VOLUMES: usize = 128;

/// OCI image configuration `Volumes`: a directory of the container's own, with
/// what the image has there, below [`PodView::image_volumes`].
#[derive(Debug)]
pub(crate) struct ImageVolumes;

/// One volume of an image that a container needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageVolume {
    /// Where it appears in the container, absolute and clean.
    pub container_path: String,
    /// Name of its directory below [`PodView::image_volumes`]: a number, never
    /// anything that the image says.
    pub directory: String,
}

impl Isolator for ImageVolumes {
    fn name(&self) -> &'static str {
        "image-volumes"
    }

    fn prepare(&self, spec: &ContainerSpec, pod: &PodView<'_>) -> Result<Contribution, Refusal> {
        let mut mounts = Vec::new();
        for volume in needed(spec, pod.image)? {
            let path: PathBuf = pod.image_volumes.join(&volume.directory);
            let path = path.to_str().ok_or_else(|| {
                Refusal::new(format!(
                    "path {:?} of image volumes is not UTF-8",
                    path.display()
                ))
            })?;
            mounts.push(Mount {
                target: volume.container_path,
                source: MountSource::Host {
                    path: path.to_owned(),
                },
                attributes: MountAttributes::default(),
                propagation: Propagation::Private,
            });
        }
        Ok(Contribution {
            mounts,
            ..Contribution::default()
        })
    }
}

/// The image's volumes that no volume of the container takes the place of.
/// Whoever prepares the container makes and fills one directory for each.
///
/// Refused are volumes over `/`, `/proc`, `/sys` and `/dev`, which would hide
/// what confines the process (CVE-2019-16884), and any with `..`
/// (CVE-2022-23648).
pub fn needed(spec: &ContainerSpec, image: &ImageView) -> Result<Vec<ImageVolume>, Refusal> {
    if image.volumes.len() > MAX_VOLUMES {
        return Err(Refusal::new(format!(
            "the image declares {} volumes; more than {MAX_VOLUMES} are not accepted",
            image.volumes.len()
        )));
    }
    let taken = crate::volumes::targets(spec);
    let mut volumes: Vec<ImageVolume> = Vec::new();
    for (index, text) in image.volumes.iter().enumerate() {
        path::refuse_parent_parts("the image's volume", text)?;
        let clean = path::clean(text);
        let kernel = ["/proc", "/sys", "/dev"];
        if clean == "/"
            || kernel
                .iter()
                .any(|parent| path::is_at_or_below(&clean, parent))
        {
            return Err(Refusal::new(format!(
                "the image declares a volume at {clean}, where the kernel's own files are: it cannot be run"
            )));
        }
        let double = volumes.iter().any(|volume| volume.container_path == clean);
        if !double && !taken.contains(&clean) {
            volumes.push(ImageVolume {
                container_path: clean,
                directory: index.to_string(),
            });
        }
    }
    Ok(volumes)
}
