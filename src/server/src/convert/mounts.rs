//! `Mount` and `Device` both ways.

use super::{PATH_MAX, Rejected, absolute_path, text, user_namespace, without_parent};
use insula_cri_api::v1::{Device, ImageSpec, Mount, MountPropagation};
use insula_isolators::spec::{DeviceMapping, ImageMount, VolumeMount};
use insula_wire::plan::Propagation;

/// Per-mount options a client may name (CRI 1.37 `Mount.mount_options`).
const OPTIONS: &[&str] = &["nodev", "noexec", "nosuid"];

/// One volume. A relative `container_path` is taken from the root.
pub fn from_cri(message: Mount) -> Result<VolumeMount, Rejected> {
    let ids = match (&message.uid_mappings[..], &message.gid_mappings[..]) {
        ([], []) => None,
        (uids, gids) => Some(user_namespace::mappings(
            (uids, "uidMappings"),
            (gids, "gidMappings"),
        )?),
    };
    let propagation = match message.propagation() {
        _ if MountPropagation::try_from(message.propagation).is_err() => {
            return Err(Rejected::invalid(
                "propagation",
                format!(
                    "{} is not a value of enum MountPropagation",
                    message.propagation
                ),
            ));
        }
        MountPropagation::PropagationPrivate => Propagation::Private,
        MountPropagation::PropagationHostToContainer => Propagation::HostToContainer,
        MountPropagation::PropagationBidirectional => Propagation::Bidirectional,
    };
    check_recursive_read_only(&message, propagation)?;
    let options = options(message.mount_options)?;
    let container_path = without_parent(message.container_path, "container_path")?;
    if container_path.is_empty() {
        return Err(Rejected::invalid("container_path", "is empty"));
    }
    let image = image(message.image, message.image_sub_path)?;
    Ok(VolumeMount {
        container_path: if container_path.starts_with('/') {
            container_path
        } else {
            format!("/{container_path}")
        },
        host_path: match image {
            Some(_) => text(message.host_path, "host_path", PATH_MAX)?,
            None => host_path(message.host_path)?,
        },
        image,
        readonly: message.readonly,
        recursive_readonly: message.recursive_read_only,
        selinux_relabel: message.selinux_relabel,
        propagation,
        options,
        ids,
    })
}

/// A volume as a status gives it back.
pub fn to_cri(mount: &VolumeMount) -> Mount {
    let propagation = match mount.propagation {
        Propagation::Private => MountPropagation::PropagationPrivate,
        Propagation::HostToContainer => MountPropagation::PropagationHostToContainer,
        Propagation::Bidirectional => MountPropagation::PropagationBidirectional,
    };
    let (uid_mappings, gid_mappings) = user_namespace::lists(mount.ids);
    Mount {
        uid_mappings,
        gid_mappings,
        container_path: mount.container_path.clone(),
        host_path: mount.host_path.clone(),
        readonly: mount.readonly,
        selinux_relabel: mount.selinux_relabel,
        propagation: propagation as i32,
        recursive_read_only: mount.recursive_readonly,
        mount_options: mount.options.clone(),
        image: mount.image.as_ref().map(|image| ImageSpec {
            image_ref: image.id.clone(),
            ..super::container::image_to_cri(&image.request)
        }),
        image_sub_path: mount
            .image
            .as_ref()
            .map(|image| image.sub_path.clone())
            .unwrap_or_default(),
    }
}

/// An image as a volume (KEP-4639). A message without a name means none.
fn image(image: Option<ImageSpec>, sub_path: String) -> Result<Option<ImageMount>, Rejected> {
    let sub_path = without_parent(sub_path, "image_sub_path")?;
    match image {
        Some(image) if !image.image.is_empty() => Ok(Some(ImageMount {
            request: super::container::image_request(image).map_err(|bad| bad.within("image"))?,
            id: String::new(),
            sub_path,
        })),
        _ if sub_path.is_empty() => Ok(None),
        _ => Err(Rejected::invalid(
            "image_sub_path",
            "is set, but `image` is not",
        )),
    }
}

/// A device of the host. Without permissions all of them are meant.
pub fn device(message: Device) -> Result<DeviceMapping, Rejected> {
    let permissions = if message.permissions.is_empty() {
        "rwm".to_owned()
    } else {
        message.permissions
    };
    if permissions.len() > 3 || !permissions.bytes().all(|byte| b"rwm".contains(&byte)) {
        return Err(Rejected::invalid(
            "permissions",
            format!("{permissions:?} holds other letters than r, w and m"),
        ));
    }
    let host_path = absolute_path(message.host_path, "host_path")?;
    Ok(DeviceMapping {
        container_path: if message.container_path.is_empty() {
            host_path.clone()
        } else {
            absolute_path(message.container_path, "container_path")?
        },
        host_path,
        permissions,
    })
}

/// The host's own `..` are meant as the host resolves them.
fn host_path(value: String) -> Result<String, Rejected> {
    let value = text(value, "host_path", PATH_MAX)?;
    if value.is_empty() {
        return Err(Rejected::invalid("host_path", "is empty"));
    }
    if !value.starts_with('/') {
        return Err(Rejected::invalid(
            "host_path",
            format!("{value:?} is relative, an absolute path is expected"),
        ));
    }
    Ok(value)
}

/// KEP-3857: the combination is the client's to get right.
fn check_recursive_read_only(message: &Mount, propagation: Propagation) -> Result<(), Rejected> {
    if !message.recursive_read_only {
        return Ok(());
    }
    if !message.readonly {
        return Err(Rejected::invalid(
            "recursive_read_only",
            "needs `readonly` as well",
        ));
    }
    if propagation != Propagation::Private {
        return Err(Rejected::invalid(
            "recursive_read_only",
            "needs `propagation` PROPAGATION_PRIVATE: what the host mounts later would be writable",
        ));
    }
    Ok(())
}

fn options(options: Vec<String>) -> Result<Vec<String>, Rejected> {
    for (index, option) in options.iter().enumerate() {
        if !OPTIONS.contains(&option.as_str()) {
            return Err(Rejected::invalid(
                format!("mount_options[{index}]"),
                format!("{option:?} is not one of {}", OPTIONS.join(", ")),
            ));
        }
    }
    Ok(options)
}

#[cfg(test)]
mod tests {
    use super::{device, from_cri, to_cri};
    use insula_cri_api::v1::{Device, IdMapping, ImageSpec, Mount, MountPropagation};

    fn mount() -> Mount {
        Mount {
            container_path: "/data".into(),
            host_path: "/srv/data".into(),
            ..Mount::default()
        }
    }

    fn image(sub_path: &str) -> Mount {
        Mount {
            host_path: String::new(),
            readonly: true,
            image: Some(ImageSpec {
                image: "busybox".into(),
                user_specified_image: "busybox:latest".into(),
                ..ImageSpec::default()
            }),
            image_sub_path: sub_path.into(),
            ..mount()
        }
    }

    #[test]
    fn what_was_asked_comes_back() {
        let messages = [
            mount(),
            Mount {
                readonly: true,
                recursive_read_only: true,
                selinux_relabel: true,
                mount_options: vec!["noexec".into(), "nosuid".into()],
                ..mount()
            },
            Mount {
                propagation: MountPropagation::PropagationHostToContainer as i32,
                ..mount()
            },
            Mount {
                propagation: MountPropagation::PropagationBidirectional as i32,
                ..mount()
            },
            Mount {
                uid_mappings: vec![IdMapping {
                    host_id: 1000,
                    container_id: 0,
                    length: 10,
                }],
                gid_mappings: vec![IdMapping {
                    host_id: 2000,
                    container_id: 0,
                    length: 5,
                }],
                ..mount()
            },
            image(""),
            image("etc/ssl"),
        ];
        for message in messages {
            assert_eq!(to_cri(&from_cri(message.clone()).unwrap()), message);
        }
    }

    #[test]
    fn a_relative_container_path_starts_at_the_root() {
        let message = Mount {
            container_path: "data".into(),
            ..mount()
        };
        assert_eq!(from_cri(message).unwrap().container_path, "/data");
    }

    #[test]
    fn each_bad_mount_is_explained() {
        type Change = fn(&mut Mount);
        let cases: &[(Change, &str)] = &[
            (|m| m.host_path.clear(), "host_path: is empty"),
            (
                |m| m.host_path = "srv".into(),
                "host_path: \"srv\" is relative, an absolute path is expected",
            ),
            (
                |m| m.host_path = "/a\0".into(),
                "host_path: holds a NUL byte",
            ),
            (|m| m.container_path.clear(), "container_path: is empty"),
            (
                |m| m.container_path = "/a/../../etc".into(),
                "container_path: \"/a/../../etc\" holds `..`, write the path that is meant",
            ),
            (
                |m| m.propagation = 7,
                "propagation: 7 is not a value of enum MountPropagation",
            ),
            (
                |m| m.recursive_read_only = true,
                "recursive_read_only: needs `readonly` as well",
            ),
            (
                |m| {
                    m.recursive_read_only = true;
                    m.readonly = true;
                    m.propagation = 1;
                },
                "recursive_read_only: needs `propagation` PROPAGATION_PRIVATE: what the host \
                 mounts later would be writable",
            ),
            (
                |m| m.mount_options = vec!["suid".into()],
                "mount_options[0]: \"suid\" is not one of nodev, noexec, nosuid",
            ),
            (
                |m| m.uid_mappings = vec![IdMapping::default()],
                "uidMappings: does not map id 0 of the container",
            ),
            (
                |m| {
                    m.uid_mappings = vec![IdMapping {
                        host_id: 1000,
                        container_id: 0,
                        length: 10,
                    }];
                },
                "gidMappings: has 0 mappings, exactly one is possible",
            ),
            (
                |m| m.image_sub_path = "etc".into(),
                "image_sub_path: is set, but `image` is not",
            ),
            (
                |m| {
                    *m = image("etc/../..");
                },
                "image_sub_path: \"etc/../..\" holds `..`, write the path that is meant",
            ),
        ];
        for (change, want) in cases {
            let mut message = mount();
            change(&mut message);
            assert_eq!(from_cri(message).unwrap_err().to_string(), *want);
        }
    }

    #[test]
    fn devices_have_letters_and_absolute_paths() {
        let message = |host: &str, container: &str, permissions: &str| Device {
            host_path: host.into(),
            container_path: container.into(),
            permissions: permissions.into(),
        };
        let parsed = device(message("/dev/fuse", "", "")).unwrap();
        assert_eq!(parsed.container_path, "/dev/fuse");
        assert_eq!(parsed.permissions, "rwm");
        for bad in [
            message("dev/fuse", "/dev/fuse", "r"),
            message("/dev/fuse", "fuse", "r"),
            message("/dev/fuse", "/dev/fuse", "rx"),
        ] {
            assert!(device(bad.clone()).is_err(), "{bad:?}");
        }
    }
}
