//! Removing what belongs to nobody after a crash.
//!
//! What there is, is listed before the daemon serves, so nothing that is made
//! later can be mistaken for a leftover. The removal itself goes on beside the
//! daemon's work. Each thing found is counted and logged.

use crate::cgroups::container_of;
use crate::env::Env;
use crate::error::Result;
use crate::files::{self, blocking};
use crate::ids::{ContainerId, PodId};
use crate::records::{ContainerRecord, Found, PodRecord};
use std::collections::BTreeSet;
use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::sync::Arc;

/// What is in use and what is not.
#[derive(Debug, Default)]
pub(crate) struct Leftovers {
    pods: BTreeSet<PodId>,
    unfinished: Vec<PodRecord>,
    rootfs: Vec<ContainerId>,
    /// Directories of volumes and of containers without a record.
    directories: Vec<PathBuf>,
    namespaces: Vec<PathBuf>,
    groups: Vec<Group>,
}

/// A group that belongs to nobody.
#[derive(Debug)]
struct Group {
    path: String,
    /// It was a container's, by its name and its place in a pod on record.
    was_containers: bool,
}

/// Lists what belongs to nobody.
pub(crate) async fn find(
    env: &Arc<Env>,
    found: &Found,
    unfinished: Vec<PodRecord>,
) -> Result<Leftovers> {
    let containers: BTreeSet<ContainerId> = found
        .pods
        .iter()
        .flat_map(|(_, containers)| containers)
        .map(|container: &ContainerRecord| container.id.clone())
        .chain(found.aside_containers.iter().cloned())
        .collect();
    let mut leftovers = Leftovers {
        pods: found
            .pods
            .iter()
            .map(|(pod, _)| pod.id.clone())
            .chain(found.aside_pods.iter().cloned())
            .collect(),
        unfinished,
        ..Leftovers::default()
    };
    let owners = env.images.rootfs_owners().await?;
    leftovers.rootfs = owners
        .into_iter()
        .filter(|id| !containers.contains(id))
        .collect();
    let groups: Vec<_> = found
        .pods
        .iter()
        .map(|(pod, _)| (pod.id.clone(), pod.cgroup_path.clone()))
        .collect();
    let env = Arc::clone(env);
    let deadline = env.config.deadlines.service;
    blocking("look for leftovers", deadline, move || {
        leftovers.list_files(&env, &containers)?;
        leftovers.list_groups(&env, &groups, &containers)?;
        Ok(leftovers)
    })
    .await
}

impl Leftovers {
    fn list_files(&mut self, env: &Env, containers: &BTreeSet<ContainerId>) -> Result<()> {
        let unknown = |name: &str| !containers.contains(name);
        for name in files::names_in(&env.paths.volumes())? {
            if unknown(&name) {
                self.directories.push(env.paths.volumes().join(name));
            }
        }
        for pod in &self.pods {
            let directory = env.paths.pod(pod).containers();
            for name in files::names_in(&directory)? {
                if unknown(&name) {
                    self.directories.push(directory.join(name));
                }
            }
        }
        // Undoing a pod releases its own.
        let undone: BTreeSet<_> = self.unfinished.iter().map(|pod| pod.id.as_str()).collect();
        for name in files::names_in(&env.paths.network_namespaces())? {
            if !self.pods.contains(name.as_str()) && !undone.contains(name.as_str()) {
                self.namespaces
                    .push(env.paths.network_namespaces().join(name));
            }
        }
        Ok(())
    }

    /// Groups with our names in the parents that we know: our own, and those
    /// of the pods on record.
    fn list_groups(
        &mut self,
        env: &Env,
        parents: &[(PodId, String)],
        containers: &BTreeSet<ContainerId>,
    ) -> Result<()> {
        let ours = env.naming.parent();
        for name in env.host.groups_below(&ours)? {
            if env
                .naming
                .pod_of(&name)
                .is_some_and(|id| !self.pods.contains(&id))
            {
                self.groups.push(Group {
                    path: format!("{ours}/{name}"),
                    was_containers: false,
                });
            }
        }
        for (_, parent) in parents {
            for name in env.host.groups_below(parent)? {
                if container_of(&name).is_some_and(|id| !containers.contains(&id)) {
                    self.groups.push(Group {
                        path: format!("{parent}/{name}"),
                        was_containers: true,
                    });
                }
            }
        }
        Ok(())
    }

    /// Removes them. Errors are logged; the next start finds what is left.
    pub(crate) async fn remove(self, env: Arc<Env>) {
        for pod in &self.unfinished {
            count(&env, "pod", undo(&env, pod).await.map(|()| 1));
        }
        let deadline = env.config.deadlines.kill;
        for Group {
            path,
            was_containers,
        } in self.groups
        {
            let host = Arc::clone(&env.host);
            let known = self
                .unfinished
                .iter()
                .any(|pod| path.starts_with(&pod.cgroup_path));
            let removed = blocking("remove a leftover cgroup", deadline * 3, move || {
                let Some(group) = host.open_group(&path)? else {
                    return Ok(0);
                };
                // A child that was blocked when the daemon died ends with its
                // supervisor or is killed by the pod's owner. What runs here
                // for another reason may belong to another daemon.
                if !known && !was_containers && !group.is_empty() {
                    tracing::warn!(
                        cgroup = path,
                        "a cgroup of no pod on record holds processes and is left alone"
                    );
                    return Ok(0);
                }
                group.kill(deadline)?;
                group.remove(deadline)?;
                Ok(1)
            });
            count(&env, "cgroup", removed.await);
        }
        for path in self.namespaces {
            let host = Arc::clone(&env.host);
            let release = move || host.release_network_namespace(&path).map(|()| 1);
            count(
                &env,
                "network namespace",
                blocking("release a leftover", deadline, release).await,
            );
        }
        for id in self.rootfs {
            count(
                &env,
                "rootfs",
                env.images.remove_rootfs(&id).await.map(|()| 1),
            );
        }
        for path in self.directories {
            let service = env.config.deadlines.service;
            let remove = move || files::remove_tree(&path).map(|()| 1);
            count(
                &env,
                "directory",
                blocking("remove a leftover", service, remove).await,
            );
        }
        count(
            &env,
            "network attachment",
            env.network.sweep(&self.pods).await,
        );
    }
}

/// Undoes a pod that was being made when the daemon died. Nobody was told of
/// it, so its supervisor is killed if it lives.
async fn undo(env: &Arc<Env>, record: &PodRecord) -> Result<()> {
    let pod = Arc::new(crate::env::Pod::recorded(env, record));
    let directory = pod.directory.clone();
    let host = Arc::clone(&env.host);
    let deadline = env.config.deadlines.adopt;
    let stage = format!("undo pod {}", record.id);
    let socket = blocking(stage.clone(), deadline, move || {
        if host.supervisor_ended(&directory)? {
            return Ok(None);
        }
        host.connect(&directory).map(Some)
    })
    .await?;
    if let Some(socket) = socket {
        let (events, _unheard) = tokio::sync::mpsc::channel(1);
        let (link, hello) = crate::link::Link::open(socket, events, deadline).await?;
        let pidfd = env.host.open_process(hello.pid)?;
        env.host.kill_process(pidfd.as_fd())?;
        crate::sandbox::phases::wait_for_end(&pod, &pidfd, env.config.deadlines.kill).await?;
        drop(link);
    }
    crate::sandbox::phases::detach(&pod).await?;
    crate::sandbox::phases::release(&pod).await?;
    let (host, record) = (Arc::clone(&env.host), record.clone());
    blocking(stage, deadline, move || {
        for group in record.made_cgroups.iter().rev() {
            if !host.remove_empty_group(group) {
                break;
            }
        }
        files::remove_tree(pod.directory.path())
    })
    .await
}

fn count(env: &Env, kind: &str, result: Result<u64>) {
    match result {
        Ok(0) => {}
        Ok(removed) => {
            tracing::warn!(kind, removed, "removed what belonged to nobody");
            env.metrics.leaked(kind, removed);
        }
        Err(error) => tracing::error!(kind, %error, "cannot remove what belongs to nobody"),
    }
}
