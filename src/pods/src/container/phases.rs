//! The phases of a container's creation.
//!
//! ```text
//! Begun ──root──► Rooted ──plan──► Planned ──group, sources──► Grouped ──fork──► Forked
//!   │               │                │                            │                │
//!   ▼ fail          ▼ fail           ▼ fail                       ▼ fail           ▼ fail
//! ```
//!
//! Each phase is consumed by the next and undoes, in `fail`, exactly what
//! exists: its own part, then that of the phase before it. What cannot be
//! undone is reported; the container's name is free again in any case.

use super::{external, image_mounts, seed, volumes};
use crate::env::Pod;
use crate::error::{Error, Result};
use crate::files::{self, blocking};
use crate::hooks;
use crate::host::{Group, NodeFiles, PlanRequest};
use crate::ids::ContainerId;
use crate::link::{Link, Refused, unexpected};
use crate::ports::{ImageFacts, PreparedRootfs, UserNamespace};
use insula_isolators::apparmor::{self, Profiles};
use insula_isolators::image_volumes;
use insula_isolators::spec::{ContainerSpec, ProfileRequest};
use insula_oci::cdi::requested;
use insula_wire::message::{Answer, CreateRequest, FailureKind, Request};
use insula_wire::plan::PidNamespace;
use insula_wire::{Hook, LaunchPlan};
use std::future::Future;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// A creation that begins: its directory exists.
pub(super) struct Begun {
    pub(super) pod: Arc<Pod>,
    pub(super) id: ContainerId,
    pub(super) spec: Arc<ContainerSpec>,
    /// Turns true when the pod is to be stopped.
    pub(super) closing: watch::Receiver<bool>,
}

/// The root file system exists.
pub(super) struct Rooted {
    pub(super) before: Begun,
    pub(super) image: ImageFacts,
    rootfs: PreparedRootfs,
    user: Option<Arc<UserNamespace>>,
}

/// It was decided what the container will be; the image's volumes exist.
pub(super) struct Planned {
    pub(super) before: Rooted,
    pub(super) plan: Arc<LaunchPlan>,
}

/// The cgroup exists with its values, and the sources of the mounts are open.
pub(super) struct Grouped {
    pub(super) before: Planned,
    pub(super) group: Arc<dyn Group>,
    sources: Vec<OwnedFd>,
}

/// The container is complete but for its execve(2).
pub(super) struct Forked {
    pub(super) before: Grouped,
    pub(super) pid: i32,
    link: Arc<Link>,
}

// === impl Begun ===

impl Begun {
    pub(super) fn new(
        pod: Arc<Pod>,
        id: ContainerId,
        spec: Arc<ContainerSpec>,
        closing: watch::Receiver<bool>,
    ) -> Result<Self> {
        files::make_directory(&pod.directory.container(&id))?;
        Ok(Self {
            pod,
            id,
            spec,
            closing,
        })
    }

    /// Makes the root file system from the image.
    pub(super) async fn root(mut self, link: &Link) -> std::result::Result<Rooted, (Self, Error)> {
        let env = Arc::clone(&self.pod.env);
        let (id, spec) = (self.id.clone(), Arc::clone(&self.spec));
        let pod = Arc::clone(&self.pod);
        let work = async {
            let image = env.images.image(&spec.image).await?;
            let spec = image_mounts::look_up(&env, &spec).await?;
            let labels = env
                .host
                .selinux_labels(&pod.spec, Some(&spec), pod.selinux_level())?;
            let label = labels.mount.as_deref();
            let user = user_namespace(&pod, link).await?.map(Arc::new);
            let rootfs = env
                .images
                .prepare_rootfs(&id, &image, label, user.as_deref())
                .await?;
            Ok((image, spec, rootfs, user))
        };
        let deadline = env.config.deadlines.service;
        let result = self
            .unless_closing("make the root file system", deadline, work)
            .await;
        match result {
            Ok((image, spec, rootfs, user)) => {
                self.spec = spec;
                Ok(Rooted {
                    before: self,
                    image,
                    rootfs,
                    user,
                })
            }
            Err(error) => {
                // It may exist half, or come to exist after the deadline.
                report(&self.id, "rootfs", env.images.remove_rootfs(&self.id).await);
                Err((self, error))
            }
        }
    }

    pub(super) fn fail(self) {
        let directory = self.pod.directory.container(&self.id);
        report(&self.id, "directory", files::remove_tree(&directory));
    }

    /// Waits within a deadline and only as long as the pod is wanted.
    async fn unless_closing<T>(
        &mut self,
        stage: &str,
        deadline: Duration,
        work: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        tokio::select! {
            result = tokio::time::timeout(deadline, work) => result.unwrap_or_else(|_| {
                Err(Error::DeadlineExceeded {
                    stage: format!("{stage} of container {}", self.id),
                    after: deadline,
                })
            }),
            _ = self.closing.wait_for(|closing| *closing) => Err(Error::Aborted(format!(
                "{stage} of container {}: given up because pod {} is being stopped",
                self.id, self.pod.id
            ))),
        }
    }
}

// === impl Rooted ===

impl Rooted {
    /// Fills the image's volumes and lets the isolators decide.
    pub(super) async fn plan(self) -> std::result::Result<Planned, (Self, Error)> {
        match self.make_plan().await {
            Ok(plan) => Ok(Planned {
                before: self,
                plan: Arc::new(plan),
            }),
            Err(error) => Err((self, error)),
        }
    }

    /// Reads what the container asks for of the node's own files. They may lie
    /// on a file system that hangs.
    async fn node_files(&self) -> Result<NodeFiles> {
        let begun = &self.before;
        let (host, spec) = (Arc::clone(&begun.pod.env.host), Arc::clone(&begun.spec));
        let stage = format!("read the node's files for container {}", begun.id);
        let deadline = begun.pod.env.config.deadlines.service;
        let seccomp = &spec.security.seccomp;
        let devices = requested(&spec.cdi_devices, &spec.annotations);
        // A name that is none is told by who reads.
        let asks = matches!(seccomp, ProfileRequest::Localhost(_))
            || !devices.is_ok_and(|names| names.is_empty());
        match asks {
            true => blocking(stage, deadline, move || host.node_files(&spec)).await,
            false => Ok(NodeFiles::default()),
        }
    }

    async fn apparmor_profiles(&self) -> Result<Profiles> {
        let begun = &self.before;
        if !apparmor::needs_profiles(&begun.spec) {
            return Ok(Profiles::default());
        }
        let host = Arc::clone(&begun.pod.env.host);
        let stage = format!("look up the AppArmor profiles for container {}", begun.id);
        let deadline = begun.pod.env.config.deadlines.service;
        blocking(stage, deadline, move || host.apparmor_profiles()).await
    }

    async fn make_plan(&self) -> Result<LaunchPlan> {
        let (pod, id) = (&self.before.pod, &self.before.id);
        let volumes = pod.env.paths.container_volumes(id);
        let apparmor = self.apparmor_profiles().await?;
        let plan = pod.env.host.plan(&PlanRequest {
            pod: &pod.spec,
            pod_id: pod.id.as_str(),
            hostname: &pod.hostname,
            files: pod.directory.files(),
            volumes: volumes.clone(),
            bundle: pod.directory.bundle(id),
            container: &self.before.spec,
            node_files: &self.node_files().await?,
            container_id: id.as_str(),
            image: &self.image,
            passwd: &self.rootfs.passwd,
            group: &self.rootfs.group,
            cgroup_path: &pod.container_cgroup(id),
            apparmor: &apparmor,
            selinux_level: pod.selinux_level(),
            runtime: pod.env.config.handlers.find(&pod.spec.runtime_handler)?,
        })?;
        if plan.process.oom_score_adj.is_none() {
            tracing::warn!(
                container = %id,
                wanted = self.before.spec.resources.oom_score_adj,
                "this host does not let oom_score_adj be lowered (CAP_SYS_RESOURCE); the container keeps the daemon's"
            );
        }
        let needed = image_volumes::needed(&self.before.spec, &self.image.view)
            .map_err(|refusal| Error::InvalidArgument(refusal.to_string()))?;
        let wanted: Vec<_> = needed
            .into_iter()
            .map(|volume| seed::Volume {
                container_path: volume.container_path,
                directory: volumes.join(volume.directory),
            })
            .collect();
        if !wanted.is_empty() {
            let stage = format!("fill the image's volumes of container {id}");
            let root = self
                .rootfs
                .mount
                .try_clone()
                .map_err(|error| Error::internal(&stage, error))?;
            let deadline = pod.env.config.deadlines.service;
            let owner = pod.root_ids();
            blocking(stage, deadline, move || seed::fill(&root, &wanted, owner)).await?;
        }
        Ok(plan)
    }

    pub(super) async fn fail(self) {
        let (pod, id) = (Arc::clone(&self.before.pod), self.before.id.clone());
        drop(self.rootfs);
        report(
            &id,
            "volumes",
            files::remove_tree(&pod.env.paths.container_volumes(&id)),
        );
        report(&id, "rootfs", pod.env.images.remove_rootfs(&id).await);
        self.before.fail();
    }
}

// === impl Planned ===

impl Planned {
    /// Makes the cgroup and, beside it, opens the sources of the mounts.
    pub(super) async fn group(mut self) -> std::result::Result<Grouped, (Self, Error)> {
        let begun = &mut self.before.before;
        let deadlines = begun.pod.env.config.deadlines;
        let host = Arc::clone(&begun.pod.env.host);
        let plan = Arc::clone(&self.plan);
        let id = begun.id.clone();
        let group = blocking(
            format!("make the cgroup of container {id}"),
            deadlines.supervisor,
            move || {
                let group = host.make_group(&plan.cgroup.path)?;
                if let Err(error) = group.apply(&plan.cgroup.resources) {
                    report(&id, "cgroup", group.remove(Duration::from_secs(1)));
                    return Err(error);
                }
                Ok(group)
            },
        );
        let host = Arc::clone(&begun.pod.env.host);
        let plan = Arc::clone(&self.plan);
        let relabelled = volumes::relabelled(&begun.pod, &begun.id, &begun.spec);
        let user = self.before.user.clone();
        let stage = format!("open the volumes of container {}", begun.id);
        let (pod, id) = (Arc::clone(&begun.pod), begun.id.clone());
        let open = async move {
            let images = image_mounts::open(&pod.env, &id, &plan, user.as_deref()).await?;
            blocking(stage, deadlines.volumes, move || {
                if let Some(log) = &plan.stdio.log_path {
                    make_parents(Path::new(log))?;
                }
                if let Some(label) = &plan.mount_label {
                    volumes::relabel(host.as_ref(), &relabelled, label, deadlines.volumes)?;
                }
                hooks::write_bundle(&pod, &id, &plan)?;
                volumes::open(host.as_ref(), &plan, images, user.as_deref())
            })
            .await
        };
        let sources = begun.unless_closing("open the volumes", deadlines.volumes, open);
        match tokio::join!(group, sources) {
            (Ok(group), Ok(sources)) => Ok(Grouped {
                before: self,
                group,
                sources,
            }),
            (group, sources) => {
                if let Ok(group) = &group {
                    remove_group(&self.before.before, Arc::clone(group)).await;
                }
                let error = group.err().or(sources.err());
                Err((
                    self,
                    error.unwrap_or_else(|| Error::internal("open the volumes", "no reason")),
                ))
            }
        }
    }

    pub(super) async fn fail(self) {
        self.before.fail().await;
    }
}

// === impl Grouped ===

impl Grouped {
    /// Hands all of it to the supervisor, which forks the blocked child.
    pub(super) async fn fork(self, link: Arc<Link>) -> std::result::Result<Forked, (Self, Error)> {
        match self.try_fork(&link).await {
            Ok(pid) => Ok(Forked {
                before: self,
                pid,
                link,
            }),
            Err(error) => {
                forget(&self.before.before.before, &link).await;
                hooks::after_removal(&self.before.plan).await;
                Err((self, error))
            }
        }
    }

    async fn try_fork(&self, link: &Link) -> Result<i32> {
        let begun = &self.before.before.before;
        let (pod, id) = (&begun.pod, &begun.id);
        let plan = &self.before.plan;
        let deadline = pod.env.config.deadlines.supervisor;
        let stage = format!("create container {id}");
        let json =
            serde_json::to_vec(plan.as_ref()).map_err(|error| Error::internal(&stage, error))?;
        let memfd = insula_sys::fd::sealed_memfd("plan", &json)
            .map_err(|error| Error::internal(&stage, error))?;
        let born_in_cgroup = self.group.takes_births();
        let groups = match born_in_cgroup {
            true => self.group.descriptors(),
            false => Vec::new(),
        };
        let config = external::config(pod, plan, born_in_cgroup)?;
        let mut descriptors: Vec<BorrowedFd<'_>> = vec![memfd.as_fd()];
        descriptors.extend(config.as_ref().map(|config| config.as_fd()));
        descriptors.extend(&groups);
        descriptors.push(self.before.before.rootfs.mount.as_fd());
        descriptors.extend(self.sources.iter().map(|source| source.as_fd()));
        let request = Request::Create(CreateRequest {
            notify: plan.notify(),
            container_id: id.to_string(),
            stdio: plan.stdio.clone(),
            owner: plan.process.user.uid,
            target: match &plan.namespaces.pid {
                PidNamespace::Target(target) => Some(target.clone()),
                _ => None,
            },
            cgroup_descriptors: groups.len(),
            born_in_cgroup,
            runtime: plan.runtime.as_ref().map(|it| it.program.clone()),
            exit_record: text(pod.directory.exit_record(id))?,
        });
        let pid = match link.ask(&stage, request, &descriptors, deadline).await? {
            (Answer::Forked { pid }, _) => pid,
            (other, _) => return Err(unexpected(&stage, &other)),
        };
        if !born_in_cgroup {
            let group = Arc::clone(&self.group);
            let stage = format!("place container {id} in its cgroup");
            blocking(stage, deadline, move || group.place(pid)).await?;
        }
        let placed_in = match born_in_cgroup {
            true => Vec::new(),
            false => self.group.descriptors(),
        };
        let placed = Request::Placed {
            container_id: id.to_string(),
        };
        let deadline = external::deadline(pod, plan) + Hook::total(&plan.hooks.create_container);
        match link.ask(&stage, placed, &placed_in, deadline).await? {
            (Answer::Created { pid }, _) => Ok(pid),
            (Answer::RootBuilt { pid }, _) => {
                hooks::before_root(plan, pid).await?;
                let enter = Request::EnterRoot {
                    container_id: id.to_string(),
                };
                match link.ask(&stage, enter, &[], deadline).await? {
                    (Answer::Created { pid }, _) => Ok(pid),
                    (other, _) => Err(unexpected(&stage, &other)),
                }
            }
            (other, _) => Err(unexpected(&stage, &other)),
        }
    }

    pub(super) async fn fail(self) {
        remove_group(&self.before.before.before, Arc::clone(&self.group)).await;
        drop(self.sources);
        self.before.fail().await;
    }
}

// === impl Forked ===

impl Forked {
    pub(super) async fn fail(self) {
        forget(&self.before.before.before.before, &self.link).await;
        hooks::after_removal(&self.before.before.plan).await;
        self.before.fail().await;
    }
}

/// The pod's own user namespace, from its supervisor, which holds it: a daemon
/// that was restarted gets it the same way.
async fn user_namespace(pod: &Pod, link: &Link) -> Result<Option<UserNamespace>> {
    let Some(ids) = pod.spec.namespaces.user else {
        return Ok(None);
    };
    let stage = format!("take the user namespace of pod {}", pod.id);
    let deadline = pod.env.config.deadlines.supervisor;
    let answer = link
        .ask(&stage, Request::UserNamespace, &[], deadline)
        .await?;
    match answer {
        (Answer::UserNamespace, namespaces) => match namespaces.into_iter().next() {
            Some(namespace) => Ok(Some(UserNamespace { namespace, ids })),
            None => Err(Error::internal(&stage, "the supervisor gave no descriptor")),
        },
        (other, _) => Err(unexpected(&stage, &other)),
    }
}

/// Makes the supervisor kill and forget what it may have of the container.
async fn forget(begun: &Begun, link: &Link) {
    let deadlines = begun.pod.env.config.deadlines;
    let container_id = begun.id.to_string();
    let kill = Request::KillAll {
        container_id: container_id.clone(),
    };
    // It may never have known it, or be gone; killing the cgroup follows.
    let answer = link
        .try_ask("undo a creation", kill, &[], deadlines.supervisor)
        .await;
    tracing::debug!(container = %begun.id, ?answer, "killed what was created");
    let begun_at = Instant::now();
    while begun_at.elapsed() < deadlines.kill {
        let forget = Request::Forget {
            container_id: container_id.clone(),
        };
        match link
            .try_ask("undo a creation", forget, &[], deadlines.supervisor)
            .await
        {
            // Its end has not been seen yet.
            Ok(Err(Refused::Failure(failure))) if failure.kind == FailureKind::WrongState => {}
            answer => {
                tracing::debug!(container = %begun.id, ?answer, "forgot what was created");
                return;
            }
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    report(
        &begun.id,
        "supervisor",
        Err(Error::DeadlineExceeded {
            stage: format!("the end of container {container_id}"),
            after: begun_at.elapsed(),
        }),
    );
}

async fn remove_group(begun: &Begun, group: Arc<dyn Group>) {
    let kill = begun.pod.env.config.deadlines.kill;
    let removed = blocking("remove the cgroup", kill * 3, move || {
        group.kill(kill)?;
        group.remove(kill)
    })
    .await;
    report(&begun.id, "cgroup", removed);
}

/// Reports what could not be undone; reconciling finds it again.
fn report(id: &ContainerId, what: &str, result: Result<()>) {
    if let Err(error) = result {
        tracing::warn!(container = %id, what, %error, "left behind by a failed creation");
    }
}

fn make_parents(log: &Path) -> Result<()> {
    log.parent().map_or(Ok(()), |parent| {
        std::fs::create_dir_all(parent)
            .map_err(|error| files::failed("make the log's directory", parent, &error))
    })
}

fn text(path: PathBuf) -> Result<String> {
    path.into_os_string()
        .into_string()
        .map_err(|path| Error::InvalidArgument(format!("the path {path:?} is not UTF-8")))
}
