//! User namespaces (KEP-127).

use crate::contribution::Contribution;
use crate::isolator::{Isolator, PodView, Refusal};
use crate::path;
use crate::spec::ContainerSpec;
use insula_wire::plan::{LaunchPlan, MountSource};
use insula_wire::{IdMappings, IdRange};

/// CRI `userns_options`: the pod's, which all its containers are in.
#[derive(Debug)]
pub(crate) struct UserNamespace;

impl Isolator for UserNamespace {
    fn name(&self) -> &'static str {
        "user-namespace"
    }

    fn prepare(&self, spec: &ContainerSpec, pod: &PodView<'_>) -> Result<Contribution, Refusal> {
        let of_pod = pod.spec.namespaces.user;
        if spec.security.namespaces.user != of_pod {
            return Err(Refusal::new(format!(
                "the user namespace of the container is {}, that of its pod {}: userns_options have to be the same",
                shown(spec.security.namespaces.user),
                shown(of_pod)
            )));
        }
        for volume in &spec.mounts {
            if volume.ids.is_some() && volume.ids != of_pod {
                return Err(Refusal::new(format!(
                    "the volume at {} is to be shown with the ids {}, the user namespace of the pod is {}: only that one's are possible",
                    volume.container_path,
                    shown(volume.ids),
                    shown(of_pod)
                )));
            }
        }
        Ok(Contribution::default())
    }
}

/// Checks what only the whole plan of a container in a user namespace shows:
/// that its process has ids there, and that its devices are where they can be
/// made, which is on the file system of `/dev` alone.
pub(crate) fn check(plan: &LaunchPlan, ids: IdMappings) -> Result<(), Refusal> {
    let user = &plan.process.user;
    let missing = |what: &str, id: u32, range: IdRange| {
        Refusal::new(format!(
            "the process is to run with {what} {id}, but the pod's user namespace has only the {} from 0 on",
            range.length()
        ))
    };
    if ids.uids.to_host(user.uid).is_none() {
        return Err(missing("user", user.uid, ids.uids));
    }
    for group in [user.gid].iter().chain(&user.supplementary_groups) {
        if ids.gids.to_host(*group).is_none() {
            return Err(missing("group", *group, ids.gids));
        }
    }
    for device in &plan.devices {
        let over = plan
            .mounts
            .iter()
            .filter(|mount| path::is_at_or_below(&device.path, &mount.target))
            .max_by_key(|mount| path::depth(&mount.target));
        let possible = over.is_some_and(|mount| {
            mount.target == "/dev" && matches!(mount.source, MountSource::Filesystem { .. })
        });
        if !possible {
            return Err(Refusal::new(format!(
                "device {} is not directly on the container's /dev: with a user namespace it cannot be made elsewhere",
                device.path
            )));
        }
    }
    Ok(())
}

fn shown(user: Option<IdMappings>) -> String {
    let range = |range: IdRange| format!("{}+{}", range.first(), range.length());
    user.map_or("the node's".to_owned(), |user| {
        format!("(users {}, groups {})", range(user.uids), range(user.gids))
    })
}
