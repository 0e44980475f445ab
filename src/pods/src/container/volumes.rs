//! The sources of a container's volumes.

use crate::env::Pod;
use crate::error::{Error, Result};
use crate::files;
use crate::host::Host;
use crate::ids::ContainerId;
use crate::ports::UserNamespace;
use insula_isolators::spec::ContainerSpec;
use insula_isolators::volumes::check_propagation;
use insula_wire::LaunchPlan;
use insula_wire::plan::{MountSource, Propagation};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Most of `/proc/self/mountinfo` that is read: a hundred thousand mounts.
const MOUNTINFO_LIMIT: u64 = 32 << 20;

/// What gets the container's SELinux label: the volumes for which that was
/// asked, and what is the runtime's own.
pub(super) fn relabelled(pod: &Pod, id: &ContainerId, spec: &ContainerSpec) -> Vec<PathBuf> {
    let own = [pod.directory.files(), pod.env.paths.container_volumes(id)];
    let asked = spec
        .mounts
        .iter()
        .filter(|volume| volume.selinux_relabel && !volume.host_path.is_empty());
    own.into_iter()
        .filter(|path| path.exists())
        .chain(asked.map(|volume| PathBuf::from(&volume.host_path)))
        .collect()
}

/// Gives them that label. May take as long as the deadline for each.
pub(super) fn relabel(
    host: &dyn Host,
    paths: &[PathBuf],
    label: &str,
    deadline: Duration,
) -> Result<()> {
    paths.iter().try_for_each(|path| {
        make_missing(path)?;
        host.relabel(path, label, deadline)
    })
}

/// Opens them all, in the order of [`LaunchPlan::opened_mounts`], where the
/// mounts of images, which are open, have their places. Those that ask for it
/// show the ids of the pod's user namespace. May hang.
pub(super) fn open(
    host: &dyn Host,
    plan: &LaunchPlan,
    images: Vec<OwnedFd>,
    user: Option<&UserNamespace>,
) -> Result<Vec<OwnedFd>> {
    let mut images = images.into_iter();
    plan.opened_mounts()
        .map(|mount| match &mount.source {
            MountSource::Host { path } => {
                let path = Path::new(path);
                make_missing(path)?;
                check(Path::new("/proc/self/mountinfo"), path, mount.propagation)?;
                host.clone_tree(path, user.filter(|_| mount.attributes.id_mapped))
            }
            _ => images.next().ok_or_else(|| {
                Error::internal("open the volumes", "an image of the plan was not mounted")
            }),
        })
        .collect()
}

/// Both other runtimes make a directory where nothing is; kubelet's users
/// count on it.
fn make_missing(path: &Path) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    match std::fs::metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(path)
            .map_err(|error| files::failed("make the missing volume", path, &error)),
        _ => Ok(()),
    }
}

/// Refuses a volume from which nothing could propagate as its pod counts on.
fn check(mountinfo: &Path, path: &Path, propagation: Propagation) -> Result<()> {
    if propagation == Propagation::Private {
        return Ok(());
    }
    let failed = |error| files::failed("look at the mount of the volume", path, &error);
    let source = path.canonicalize().map_err(failed)?;
    let mounts = files::read_bounded(mountinfo, MOUNTINFO_LIMIT).map_err(failed)?;
    check_propagation(
        &String::from_utf8_lossy(&mounts),
        &source.to_string_lossy(),
        propagation,
    )
    .map_err(|refusal| Error::FailedPrecondition(refusal.to_string()))
}

#[cfg(test)]
mod tests {
    use super::{Error, Propagation, check};

    #[test]
    fn the_mount_behind_a_link_decides() {
        let place = tempfile::tempdir().unwrap();
        let real = place.path().canonicalize().unwrap();
        std::fs::create_dir(real.join("private")).unwrap();
        std::os::unix::fs::symlink("private", real.join("link")).unwrap();
        let mounts = real.join("mountinfo");
        let text = format!(
            "1 0 0:1 / / rw shared:1 - ext4 a rw\n2 1 0:2 / {}/private rw - tmpfs t rw\n",
            real.display()
        );
        std::fs::write(&mounts, text).unwrap();
        for (name, propagation, possible) in [
            ("link", Propagation::Bidirectional, false),
            ("link", Propagation::HostToContainer, false),
            ("link", Propagation::Private, true),
            ("", Propagation::Bidirectional, true),
        ] {
            let result = check(&mounts, &real.join(name), propagation);
            match result {
                Ok(()) => assert!(possible, "{name:?} {propagation:?}"),
                Err(Error::FailedPrecondition(text)) => {
                    assert!(
                        !possible && text.contains("/private\" is mounted on"),
                        "{text}"
                    );
                }
                Err(other) => panic!("{other}"),
            }
        }
        let missing = check(&mounts, &real.join("none"), Propagation::Bidirectional);
        assert!(matches!(missing, Err(Error::Internal { .. })));
    }
}
