//! Volumes: files of the host, and images.

use crate::contribution::Contribution;
use crate::isolator::{Isolator, PodView, Refusal};
use crate::path;
use crate::spec::{ContainerSpec, ImageMount, VolumeMount};
use insula_wire::plan::{Mount, MountAttributes, MountSource, Propagation};

/// CRI `Mount`: a file or directory of the host, or an image, at a path of the
/// container.
#[derive(Debug)]
pub(crate) struct Volumes;

impl Isolator for Volumes {
    fn name(&self) -> &'static str {
        "volumes"
    }

    fn prepare(&self, spec: &ContainerSpec, pod: &PodView<'_>) -> Result<Contribution, Refusal> {
        let mut mounts = Vec::with_capacity(spec.mounts.len());
        for volume in &spec.mounts {
            mounts.push(mount(volume, pod.host.recursive_readonly)?);
        }
        Ok(Contribution {
            mounts,
            ..Contribution::default()
        })
    }
}

/// Where the container's volumes appear, as the plan names it.
pub(crate) fn targets(spec: &ContainerSpec) -> Vec<String> {
    spec.mounts
        .iter()
        .map(|volume| path::clean(&volume.container_path))
        .collect()
}

fn mount(volume: &VolumeMount, recursive_readonly: bool) -> Result<Mount, Refusal> {
    path::validate("container path", &volume.container_path)?;
    let target = path::clean(&volume.container_path);
    if target == "/" {
        return Err(Refusal::new(format!(
            "a volume cannot take the place of the container's root (container path {:?})",
            volume.container_path
        )));
    }
    if volume.recursive_readonly {
        check_recursive_readonly(volume, &target, recursive_readonly)?;
    }
    Ok(Mount {
        source: match &volume.image {
            Some(image) => of_image(volume, image, &target)?,
            None => of_host(volume, &target)?,
        },
        attributes: attributes(volume, &target)?,
        propagation: volume.propagation,
        target,
    })
}

fn of_host(volume: &VolumeMount, target: &str) -> Result<MountSource, Refusal> {
    path::validate("host path", &volume.host_path)?;
    if !volume.host_path.starts_with('/') {
        return Err(Refusal::new(format!(
            "host path {:?} of the volume at {target} is not absolute",
            volume.host_path
        )));
    }
    Ok(MountSource::Host {
        path: volume.host_path.clone(),
    })
}

/// An image is shared by all who show it, so nobody may write to it. Kubelet
/// recognises the prefix of these texts (KEP-4639).
fn of_image(
    volume: &VolumeMount,
    image: &ImageMount,
    target: &str,
) -> Result<MountSource, Refusal> {
    let why = if !volume.host_path.is_empty() {
        format!("it has the host path {:?} as well", volume.host_path)
    } else if !volume.readonly {
        "it must be read-only".to_owned()
    } else if volume.propagation != Propagation::Private {
        "it must have private propagation".to_owned()
    } else if image.sub_path.starts_with('/') {
        format!("its sub path {:?} is absolute", image.sub_path)
    } else {
        if !image.sub_path.is_empty() {
            path::refuse_parent_parts("sub path", &image.sub_path)?;
        }
        return Ok(MountSource::Image {
            id: image.id.clone(),
            sub_path: image.sub_path.clone(),
        });
    };
    Err(Refusal::new(format!(
        "ImageVolumeMountFailed: image {:?} as the volume at {target}: {why}",
        image.request.image
    )))
}

/// Kubelet recognises the prefix of these texts (KEP-3857).
fn check_recursive_readonly(
    volume: &VolumeMount,
    target: &str,
    supported: bool,
) -> Result<(), Refusal> {
    let why = if !supported {
        "this kernel has no mount_setattr(AT_RECURSIVE), which came with Linux 5.12"
    } else if !volume.readonly {
        "it needs readonly, too"
    } else if volume.propagation != Propagation::Private {
        "it needs private propagation"
    } else {
        return Ok(());
    };
    Err(Refusal::new(format!(
        "RROUnsupported: recursive_read_only of the volume at {target}: {why}"
    )))
}

fn attributes(volume: &VolumeMount, target: &str) -> Result<MountAttributes, Refusal> {
    let mut attributes = MountAttributes {
        readonly: volume.readonly,
        recursive_readonly: volume.recursive_readonly,
        id_mapped: volume.ids.is_some(),
        ..MountAttributes::default()
    };
    for option in &volume.options {
        match option.as_str() {
            "noexec" => attributes.noexec = true,
            "nodev" => attributes.nodev = true,
            "nosuid" => attributes.nosuid = true,
            _ => {
                return Err(Refusal::new(format!(
                    "mount option {option:?} of the volume at {target} is not known: use noexec, nodev, nosuid"
                )));
            }
        }
    }
    Ok(attributes)
}

/// Checks that a volume's source can propagate as asked, from the text of the
/// host's `/proc/self/mountinfo`: `Bidirectional` needs a source on a shared
/// mount, `HostToContainer` on a shared or slave one, mount_namespaces(7).
///
/// `source` is the host path with all symbolic links resolved. The caller asks
/// just before the source is opened.
pub fn check_propagation(
    mountinfo: &str,
    source: &str,
    wanted: Propagation,
) -> Result<(), Refusal> {
    if wanted == Propagation::Private {
        return Ok(());
    }
    let source = path::clean(source);
    let mut best: Option<Seen> = None;
    for line in mountinfo.lines() {
        let mut words = line.split(' ').skip(4);
        let Some(point) = words.next().map(unescape) else {
            continue;
        };
        // Of mounts stacked at one place the last one is seen.
        if !path::is_at_or_below(&source, &point)
            || best
                .as_ref()
                .is_some_and(|seen| path::depth(&point) < path::depth(&seen.point))
        {
            continue;
        }
        let optional: Vec<&str> = words.skip(1).take_while(|word| *word != "-").collect();
        let has = |prefix: &str| optional.iter().any(|field| field.starts_with(prefix));
        best = Some(Seen {
            point,
            shared: has("shared:"),
            slave: has("master:"),
        });
    }
    let seen = best.unwrap_or_else(|| Seen {
        point: "/".to_owned(),
        shared: false,
        slave: false,
    });
    let needed = match wanted {
        Propagation::Bidirectional if !seen.shared => "a shared mount",
        Propagation::HostToContainer if !seen.shared && !seen.slave => "a shared or slave mount",
        _ => return Ok(()),
    };
    let point = seen.point;
    Err(Refusal::new(format!(
        "path {source:?} is mounted on {point:?}, which is not {needed}, as {wanted:?} mount propagation needs: run `mount --make-rshared {point}` on the node"
    )))
}

/// The mount that a path lies on.
struct Seen {
    point: String,
    shared: bool,
    slave: bool,
}

/// Undoes what `/proc/self/mountinfo` does to blanks and backslashes, proc(5).
fn unescape(word: &str) -> String {
    [
        ("\\040", " "),
        ("\\011", "\t"),
        ("\\012", "\n"),
        ("\\134", "\\"),
    ]
    .iter()
    .fold(word.to_owned(), |text, (from, to)| text.replace(from, to))
}
