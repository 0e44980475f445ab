//! The phases of a pod's making.
//!
//! ```text
//! Begun ──start──► Supervised ──connect, MakePod──► Isolated ──attach──► Attached ──► made
//!   ▼ fail             ▼ fail                          ▼ fail               ▼ fail
//! ```
//!
//! As with containers, each phase is consumed by the next, and `fail` undoes
//! what exists, the last part first.

use super::{files as pod_files, plan, resources};
use crate::container::external;
use crate::env::Pod;
use crate::error::{Error, Result};
use crate::files::{self, blocking};
use crate::handlers::NATIVE;
use crate::host::Process;
use crate::link::{Exited, Link, unexpected};
use crate::ports::Attachment;
use crate::readiness;
use crate::records::{PodRecord, Progress};
use insula_wire::message::{Answer, PodPlan, Request};
use insula_wire::plan::PodOrHost;
use std::net::IpAddr;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// How many ends of containers may wait for the pod's owner.
const EVENTS: usize = 256;

/// The making begins: the pod's directory exists, with a record of the intent.
pub(super) struct Begun {
    pub(super) pod: Arc<Pod>,
    pub(super) record: PodRecord,
    plan: PodPlan,
}

/// The supervisor runs.
pub(super) struct Supervised {
    pub(super) before: Begun,
    pub(super) process: Process,
}

/// The namespaces exist, and the network's is shown as a file.
pub(super) struct Isolated {
    pub(super) before: Supervised,
    pub(super) link: Arc<Link>,
    pub(super) events: mpsc::Receiver<Exited>,
}

/// The pod is attached to the network, and its files exist.
pub(super) struct Attached {
    pub(super) before: Isolated,
}

// === impl Begun ===

impl Begun {
    pub(super) async fn new(pod: Arc<Pod>) -> Result<Self> {
        let directory = pod.directory.path().to_str().ok_or_else(|| {
            Error::InvalidArgument(format!(
                "the state directory {:?} is not UTF-8",
                pod.directory.path()
            ))
        })?;
        check_handler(&pod)?;
        let mut plan = plan::plan(&pod.spec, &pod.hostname, directory)?;
        let labels = pod
            .env
            .host
            .selinux_labels(&pod.spec, None, pod.selinux_level())?;
        plan.mount_label = labels.mount;
        let record = PodRecord {
            id: pod.id.clone(),
            spec: Arc::clone(&pod.spec),
            progress: Progress::Making,
            created_at: files::now(),
            ips: Vec::new(),
            hostname: pod.hostname.clone(),
            cgroup_path: pod.cgroup_path.clone(),
            made_cgroups: Vec::new(),
            reason: String::new(),
            message: String::new(),
            resources: pod.spec.resources.clone(),
            overhead: pod.spec.overhead.clone(),
            selinux_level: pod.selinux_level().map(str::to_owned),
        };
        let mut begun = Self { pod, record, plan };
        match begun.write_down().await {
            Ok(missing) => {
                begun.record.made_cgroups = missing;
                Ok(begun)
            }
            Err(error) => {
                begun.fail();
                Err(error)
            }
        }
    }

    async fn write_down(&self) -> Result<Vec<String>> {
        let (pod, mut record) = (Arc::clone(&self.pod), self.record.clone());
        let stage = format!("record pod {}", pod.id);
        let deadline = pod.env.config.deadlines.supervisor;
        blocking(stage, deadline, move || {
            files::make_directory(&pod.directory.containers())?;
            record.made_cgroups = pod.env.host.missing_groups(&pod.cgroup_path)?;
            pod.env.records.write_pod(&record)?;
            Ok(record.made_cgroups)
        })
        .await
    }

    /// Starts the supervisor.
    pub(super) async fn start(self) -> std::result::Result<Supervised, (Self, Error)> {
        let pod = Arc::clone(&self.pod);
        let stage = format!("start the supervisor of pod {}", pod.id);
        let deadline = pod.env.config.deadlines.supervisor;
        let start = move || pod.env.host.start_supervisor(&pod.id, &pod.directory);
        match blocking(stage, deadline, start).await {
            Ok(process) => Ok(Supervised {
                before: self,
                process,
            }),
            Err(error) => Err((self, error)),
        }
    }

    /// Removes the groups that were made for the pod.
    async fn remove_groups(&self) {
        let (pod, made) = (Arc::clone(&self.pod), self.record.made_cgroups.clone());
        let stage = format!("remove the cgroups of pod {}", pod.id);
        let deadline = pod.env.config.deadlines.supervisor;
        let removed = blocking(stage, deadline, move || {
            for group in made.iter().rev() {
                // One that is in use is another pod's by now.
                if !pod.env.host.remove_empty_group(group) {
                    break;
                }
            }
            Ok(())
        });
        report(&self.pod, "groups", removed.await);
    }

    pub(super) fn fail(self) {
        report(
            &self.pod,
            "directory",
            files::remove_tree(self.pod.directory.path()),
        );
    }
}

// === impl Supervised ===

impl Supervised {
    /// Connects to the supervisor and has it make the namespaces.
    pub(super) async fn isolate(self) -> std::result::Result<Isolated, (Self, Error)> {
        match self.try_isolate().await {
            Ok((link, events)) => Ok(Isolated {
                before: self,
                link,
                events,
            }),
            Err(error) => {
                let pod = &self.before.pod;
                let message = messages(pod);
                report(pod, "network namespace", release(pod).await);
                Err((self, add(error, &message)))
            }
        }
    }

    async fn try_isolate(&self) -> Result<(Arc<Link>, mpsc::Receiver<Exited>)> {
        let pod = Arc::clone(&self.before.pod);
        let deadline = pod.env.config.deadlines.supervisor;
        let stage = format!("connect to the supervisor of pod {}", pod.id);
        let connecting = Arc::clone(&pod);
        let connect = move || connecting.env.host.connect(&connecting.directory);
        let socket = blocking(stage, deadline, connect).await?;
        let (sender, events) = mpsc::channel(EVENTS);
        let (link, _) = Link::open(socket, sender, deadline).await?;
        let stage = format!("make the namespaces of pod {}", pod.id);
        let request = Request::MakePod(self.before.plan.clone());
        let namespaces = match link.ask(&stage, request, &[], deadline).await? {
            (Answer::PodReady, namespaces) => namespaces,
            (other, _) => return Err(unexpected(&stage, &other)),
        };
        if self.before.plan.network == PodOrHost::Pod {
            let network = namespaces.into_iter().next().ok_or_else(|| {
                Error::internal(&stage, "the supervisor gave no network namespace")
            })?;
            blocking(stage, deadline, move || {
                let path = pod.env.paths.network_namespace(&pod.id);
                pod.env.host.bind_network_namespace(network.as_fd(), &path)
            })
            .await?;
        }
        Ok((link, events))
    }

    pub(super) async fn fail(self) {
        let pod = &self.before.pod;
        let killed = kill(pod, self.process.pidfd, pod.env.config.deadlines.kill).await;
        report(pod, "supervisor", killed);
        self.before.fail();
    }
}

// === impl Isolated ===

impl Isolated {
    /// Attaches the pod to the network and, beside it, puts the supervisor
    /// into its cgroup; then writes the pod's files.
    pub(super) async fn attach(mut self) -> std::result::Result<Attached, (Self, Error)> {
        let pod = Arc::clone(&self.before.before.pod);
        let pid = self.before.process.pid;
        let deadlines = pod.env.config.deadlines;
        let placing = Arc::clone(&pod);
        let place = blocking(
            format!("place the supervisor of pod {} in its cgroup", pod.id),
            deadlines.supervisor,
            move || placing.env.host.place_supervisor(pid),
        );
        let (placed, grouped, ips) = tokio::join!(place, resources::make_group(&pod), self.ips());
        let result = match (placed.and(grouped), ips) {
            (Ok(()), Ok(ips)) => self.write_files(ips).await,
            (Err(error), Ok(_)) | (_, Err(error)) => Err(error),
        };
        match result {
            Ok(ips) => {
                self.before.before.record.ips = ips.unwrap_or_default();
                Ok(Attached { before: self })
            }
            Err(error) => {
                // Even one that failed may have done half of it.
                report(&pod, "network", detach(&pod).await);
                self.before.before.remove_groups().await;
                Err((self, error))
            }
        }
    }

    async fn ips(&self) -> Result<Option<Vec<IpAddr>>> {
        let pod = &self.before.before.pod;
        if !pod.has_network() {
            return Ok(None);
        }
        let attachment = Attachment {
            pod: pod.id.clone(),
            spec: Arc::clone(&pod.spec),
            namespace: pod.env.paths.network_namespace(&pod.id),
            cgroup_path: pod.cgroup_path.clone(),
        };
        let deadline = pod.env.config.deadlines.service;
        let late = |_| Error::DeadlineExceeded {
            stage: format!("attach pod {} to the network", pod.id),
            after: deadline,
        };
        let attach = pod.env.network.attach(&attachment);
        Ok(Some(
            tokio::time::timeout(deadline, attach)
                .await
                .map_err(late)??,
        ))
    }

    async fn write_files(&self, ips: Option<Vec<IpAddr>>) -> Result<Option<Vec<IpAddr>>> {
        let pod = Arc::clone(&self.before.before.pod);
        let stage = format!("write the files of pod {}", pod.id);
        let deadline = pod.env.config.deadlines.supervisor;
        blocking(stage, deadline, move || {
            let directory = pod.directory.files();
            pod_files::write(
                &directory,
                &pod.hostname,
                pod.spec.dns.as_ref(),
                ips.as_deref(),
                pod.root_ids(),
            )?;
            Ok(ips)
        })
        .await
    }

    pub(super) async fn fail(self) {
        let pod = &self.before.before.pod;
        report(pod, "network namespace", release(pod).await);
        drop(self.link);
        self.before.fail().await;
    }
}

// === impl Attached ===

impl Attached {
    pub(super) async fn fail(self) {
        let pod = &self.before.before.before.pod;
        report(pod, "network", detach(pod).await);
        self.before.before.before.remove_groups().await;
        self.before.fail().await;
    }
}

/// Kills a supervisor and waits until it is gone.
pub(super) async fn kill(pod: &Pod, pidfd: OwnedFd, deadline: Duration) -> Result<()> {
    pod.env.host.kill_process(pidfd.as_fd())?;
    wait_for_end(pod, &pidfd, deadline).await?;
    pod.env.host.reap(pidfd.as_fd());
    Ok(())
}

/// Waits until a process has ended.
pub(crate) async fn wait_for_end(pod: &Pod, pidfd: &OwnedFd, deadline: Duration) -> Result<()> {
    let stage = || format!("the end of the supervisor of pod {}", pod.id);
    // The pod's owner may watch the same descriptor; epoll takes each once.
    let own = insula_sys::fd::duplicate(pidfd).map_err(|error| Error::internal(stage(), error))?;
    let watched = readiness::watch(own, tokio::io::Interest::READABLE)
        .map_err(|error| Error::internal(stage(), error))?;
    match tokio::time::timeout(deadline, watched.readable()).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(Error::internal(stage(), error)),
        Err(_) => Err(Error::DeadlineExceeded {
            stage: stage(),
            after: deadline,
        }),
    }
}

/// Takes the file of a pod's network namespace away.
pub(crate) async fn release(pod: &Pod) -> Result<()> {
    let host = Arc::clone(&pod.env.host);
    let path = pod.env.paths.network_namespace(&pod.id);
    let deadline = pod.env.config.deadlines.supervisor;
    let stage = format!("release the network namespace of pod {}", pod.id);
    blocking(stage, deadline, move || {
        host.release_network_namespace(&path)
    })
    .await
}

/// Detaches a pod from the network.
pub(crate) async fn detach(pod: &Pod) -> Result<()> {
    if !pod.has_network() {
        return Ok(());
    }
    let deadline = pod.env.config.deadlines.service;
    let namespace = pod.env.paths.network_namespace(&pod.id);
    let detach = pod.env.network.detach(&pod.id, &namespace);
    tokio::time::timeout(deadline, detach)
        .await
        .unwrap_or_else(|_| {
            Err(Error::DeadlineExceeded {
                stage: format!("detach pod {} from the network", pod.id),
                after: deadline,
            })
        })
}

/// The pod's runtime handler exists, works, and can do what the pod asks for.
fn check_handler(pod: &Pod) -> Result<()> {
    let external = pod.env.config.handlers.find(&pod.spec.runtime_handler)?;
    if external.is_some() && pod.spec.namespaces.user.is_some() {
        return Err(Error::InvalidArgument(format!(
            "runtime handler {:?} is an external OCI runtime, whose pods have no user namespaces of their own: use the handler {NATIVE:?}",
            pod.spec.runtime_handler
        )));
    }
    match external {
        None => Ok(()),
        Some(runtime) => external::program(runtime).map(drop),
    }
}

/// What a supervisor wrote before it could not be reached.
fn messages(pod: &Pod) -> String {
    let text = files::read_bounded(&pod.directory.messages(), 4096).unwrap_or_default();
    String::from_utf8_lossy(&text).trim().to_owned()
}

fn add(error: Error, message: &str) -> Error {
    match error {
        Error::Internal {
            stage,
            message: why,
        } if !message.is_empty() => Error::Internal {
            stage,
            message: format!("{why}; it wrote: {message}"),
        },
        other => other,
    }
}

fn report(pod: &Pod, what: &str, result: Result<()>) {
    if let Err(error) = result {
        tracing::warn!(pod = %pod.id, what, %error, "left behind by a failed pod");
    }
}
