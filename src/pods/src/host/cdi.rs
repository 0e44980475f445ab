//! What the CDI devices of a container are on this machine.

use crate::error::{Error, Result};
use insula_isolators::cdi::{InjectedDevice, Injection};
use insula_isolators::host::device_at;
use insula_isolators::spec::ContainerSpec;
use insula_oci::cdi::{DeviceEdit, Directories, requested};
use insula_wire::plan::{DeviceNode, MountSource};

/// Reads the vendors' files, if the container asks for a device, and looks at
/// the nodes and paths that they name.
pub(super) fn injection(directories: &Directories, spec: &ContainerSpec) -> Result<Injection> {
    let invalid = |error: insula_oci::cdi::CdiError| Error::InvalidArgument(error.to_string());
    let names = requested(&spec.cdi_devices, &spec.annotations).map_err(invalid)?;
    let edits = directories.find(&names).map_err(invalid)?;
    for mount in &edits.mounts {
        if let MountSource::Host { path } = &mount.source {
            std::fs::metadata(path).map_err(|error| {
                Error::InvalidArgument(format!(
                    "a CDI device wants {path:?} of this host at {:?}: {error}",
                    mount.target
                ))
            })?;
        }
    }
    Ok(Injection {
        env: edits.env,
        devices: edits
            .devices
            .into_iter()
            .map(device)
            .collect::<Result<_>>()?,
        mounts: edits.mounts,
        groups: edits.additional_gids,
        hooks: edits.hooks,
    })
}

/// What the vendor does not say is the host's, and what the vendor says of the
/// type has to be true.
fn device(edit: DeviceEdit) -> Result<InjectedDevice> {
    let on_host = edit.host_path.as_ref().unwrap_or(&edit.path);
    let node = match (edit.kind, edit.numbers) {
        (Some(kind), Some((major, minor))) => DeviceNode {
            path: edit.path,
            kind,
            major,
            minor,
            mode: edit.mode.unwrap_or(0o666),
            uid: 0,
            gid: 0,
        },
        (kind, _) => {
            let found = device_at(on_host, &edit.path)
                .map_err(|refusal| Error::InvalidArgument(format!("a CDI device: {refusal}")))?;
            if let Some(kind) = kind
                && kind != found.kind
            {
                return Err(Error::InvalidArgument(format!(
                    "a CDI device says that {on_host:?} is a {kind:?} device, which it is not on this host"
                )));
            }
            DeviceNode {
                mode: edit.mode.unwrap_or(found.mode),
                ..found
            }
        }
    };
    Ok(InjectedDevice {
        node,
        uid: edit.uid,
        gid: edit.gid,
        access: edit.access,
    })
}

#[cfg(test)]
mod tests {
    use super::device;
    use insula_oci::cdi::DeviceEdit;
    use insula_wire::plan::DeviceKind;

    #[test]
    fn what_the_vendor_leaves_out_is_the_hosts() {
        let edit = DeviceEdit {
            path: "/dev/gpu0".to_owned(),
            host_path: Some("/dev/null".to_owned()),
            kind: None,
            numbers: None,
            mode: Some(0o640),
            uid: Some(7),
            gid: None,
            access: "rw".to_owned(),
        };
        let found = device(edit.clone()).unwrap();
        let node = &found.node;
        assert_eq!(
            (node.path.as_str(), node.major, node.minor),
            ("/dev/gpu0", 1, 3)
        );
        assert_eq!((node.kind, node.mode), (DeviceKind::Character, 0o640));
        assert_eq!((found.uid, found.gid), (Some(7), None));
        let told = DeviceEdit {
            host_path: None,
            kind: Some(DeviceKind::Block),
            numbers: Some((8, 1)),
            mode: None,
            ..edit.clone()
        };
        let node = device(told.clone()).unwrap().node;
        assert_eq!(
            (node.kind, node.major, node.minor, node.mode),
            (DeviceKind::Block, 8, 1, 0o666)
        );
        for (wrong, want) in [
            (
                DeviceEdit {
                    host_path: Some("/dev/none".to_owned()),
                    ..edit.clone()
                },
                "/dev/none",
            ),
            (
                DeviceEdit {
                    kind: Some(DeviceKind::Block),
                    ..edit.clone()
                },
                "Block device",
            ),
            (
                DeviceEdit {
                    numbers: None,
                    ..told
                },
                "/dev/gpu0",
            ),
        ] {
            let text = device(wrong).unwrap_err().to_string();
            assert!(text.contains(want), "{want}: {text}");
        }
    }
}
