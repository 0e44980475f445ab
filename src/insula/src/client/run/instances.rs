//! The instances of one run of an app.

use std::cell::RefCell;
use std::fs;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};

use insula_apps::{App, AssignedPort, Instance, InstanceId, Networking, NoFreePort, label};
use insula_cri_api::v1::{
    CreateContainerRequest, PodSandbox, PodSandboxFilter, RunPodSandboxRequest,
    StartContainerRequest,
};

use super::ports::HostPorts;
use super::timings::Timings;
use crate::client::connection::{CHANGE, answer};
use crate::client::error::ClientError;
use crate::client::names::Inventory;
use crate::client::session::Session;
use crate::client::stop::{remove_pod, stop_pod};
use crate::client::time::Moment;

/// An app that is being run: everything its instances have in common.
#[derive(Debug)]
pub(crate) struct Run<'a> {
    session: &'a Session,
    app: &'a App,
    networking: &'a Networking,
    image: String,
    version: String,
    host: String,
    ids: Vec<InstanceId>,
    ports: RefCell<HostPorts>,
}

/// An instance that runs.
#[derive(Debug)]
pub(crate) struct Started {
    pub(crate) pod_name: String,
    pub(crate) pod_id: String,
    pub(crate) container_id: String,
    pub(crate) ports: Vec<AssignedPort>,
}

impl<'a> Run<'a> {
    pub(crate) async fn new(
        session: &'a Session,
        app: &'a App,
        networking: &'a Networking,
        image: String,
    ) -> Result<Self, ClientError> {
        let ids = (0..app.instances)
            .map(|index| {
                Ok(InstanceId {
                    index,
                    of: app.instances,
                    uid: random_uid()?,
                })
            })
            .collect::<Result<_, ClientError>>()?;
        Ok(Self {
            session,
            app,
            networking,
            image,
            version: Moment::now().to_rfc3339(),
            host: rustix::system::uname()
                .nodename()
                .to_string_lossy()
                .into_owned(),
            ids,
            ports: RefCell::new(HostPorts::of_pods(&session.client.pods(None).await?)),
        })
    }

    pub(crate) fn instances(&self) -> usize {
        self.ids.len()
    }

    /// Makes a pod and its container, and starts it.
    pub(crate) async fn start(
        &self,
        index: usize,
        timings: &mut Timings,
    ) -> Result<Started, ClientError> {
        let id = &self.ids[index];
        let name = id.pod_name(self.app);
        let ports = self.assign_ports(id.index)?;
        let instance = Instance {
            id,
            network: self.networking.mode,
            ports: &ports,
            host: &self.host,
            version: &self.version,
        };
        make_directories(id, self.app)?;

        let sandbox = instance.sandbox(self.app);
        let mut runtime = self.session.client.runtime();
        let request = RunPodSandboxRequest {
            config: Some(sandbox.clone()),
            runtime_handler: String::new(),
        };
        let doing = format!("make the pod {name}");
        let pod = answer(&doing, CHANGE, runtime.run_pod_sandbox(request)).await?;
        timings.end(format!("{name}: pod"));

        let request = CreateContainerRequest {
            pod_sandbox_id: pod.pod_sandbox_id.clone(),
            config: Some(instance.container(self.app, &self.image)),
            sandbox_config: Some(sandbox),
        };
        let doing = format!("make the container of {name}");
        // Boxed, because a container's configuration is large and futures hold it by value.
        let call = Box::pin(runtime.create_container(request));
        let container = answer(&doing, CHANGE, call).await?;
        timings.end(format!("{name}: create"));

        let request = StartContainerRequest {
            container_id: container.container_id.clone(),
        };
        let doing = format!("start {name}");
        answer(&doing, CHANGE, runtime.start_container(request)).await?;
        timings.end(format!("{name}: start"));
        Ok(Started {
            pod_name: name,
            pod_id: pod.pod_sandbox_id,
            container_id: container.container_id,
            ports,
        })
    }

    fn assign_ports(&self, index: u32) -> Result<Vec<AssignedPort>, NoFreePort> {
        let mut free = self.ports.borrow_mut();
        self.networking.assign(index, |wish| free.take(wish))
    }

    /// Stops every pod of this run, whatever became of it, all at once. `grace` in seconds; the
    /// app's own if not given.
    pub(crate) async fn stop(&self, grace: Option<u32>) -> Result<(), ClientError> {
        let inventory = Inventory::load(&self.session.client).await?;
        let pods = self.pods().await?;
        let stops = pods
            .iter()
            .map(|pod| stop_pod(&self.session.client, &inventory, pod, grace));
        futures_util::future::try_join_all(stops).await.map(drop)
    }

    /// Removes every pod of this run and its files.
    pub(crate) async fn remove(&self) -> Result<(), ClientError> {
        for pod in self.pods().await? {
            remove_pod(&self.session.client, &pod).await?;
        }
        // An instance whose pod was never made has its directories all the same.
        for id in &self.ids {
            let _ = fs::remove_dir_all(id.log_directory(self.app));
        }
        Ok(())
    }

    async fn pods(&self) -> Result<Vec<PodSandbox>, ClientError> {
        let filter = PodSandboxFilter {
            label_selector: [(label::APP_ID.to_owned(), self.app.id.to_string())].into(),
            ..Default::default()
        };
        let mut pods = self.session.client.pods(Some(filter)).await?;
        pods.retain(|pod| {
            pod.metadata
                .as_ref()
                .is_some_and(|metadata| self.ids.iter().any(|id| id.uid == metadata.uid))
        });
        Ok(pods)
    }
}

/// A random UUID (version 4), from the kernel.
fn random_uid() -> Result<String, ClientError> {
    let path = "/proc/sys/kernel/random/uuid";
    let text = fs::read_to_string(path).map_err(ClientError::file(format!("read {path}")))?;
    Ok(text.trim().to_owned())
}

/// The log directory, and in it the task's sandbox, which any user of the image may write to.
fn make_directories(id: &InstanceId, app: &App) -> Result<(), ClientError> {
    let sandbox = id.sandbox_directory(app);
    let make = || {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(&sandbox)?;
        fs::set_permissions(&sandbox, fs::Permissions::from_mode(0o1777))
    };
    make().map_err(ClientError::file(format!("make {sandbox}")))
}
