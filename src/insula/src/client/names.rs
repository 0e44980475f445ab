//! What a name on the command line means.

use insula_apps::{AppId, label};
use insula_cri_api::v1::{Container, ContainerState, PodSandbox};

use super::connection::Client;
use super::error::ClientError;
use super::table::short_id;

/// Most candidates that an error lists.
const MAX_CANDIDATES: usize = 8;

/// All pods and containers, as the daemon lists them.
#[derive(Debug, Default)]
pub(crate) struct Inventory {
    pub(crate) pods: Vec<PodSandbox>,
    pub(crate) containers: Vec<Container>,
}

/// What a name stands for.
#[derive(Debug, PartialEq)]
pub(crate) enum Selection<'a> {
    /// A pod, or all pods of an app.
    Pods(Vec<&'a PodSandbox>),
    /// One container.
    Container(&'a Container),
}

impl Inventory {
    pub(crate) async fn load(client: &Client) -> Result<Self, ClientError> {
        let (pods, containers) = tokio::try_join!(client.pods(None), client.containers())?;
        Ok(Self { pods, containers })
    }

    /// Containers of a pod.
    pub(crate) fn containers_of<'a>(
        &'a self,
        pod: &'a PodSandbox,
    ) -> impl Iterator<Item = &'a Container> {
        self.containers
            .iter()
            .filter(move |container| container.pod_sandbox_id == pod.id)
    }

    /// By app id, then by pod name, then by the beginning of an id, then by container name.
    ///
    /// An app's id stands for all its pods. Everything else has to be clear.
    pub(crate) fn select(&self, name: &str) -> Result<Selection<'_>, ClientError> {
        if let Ok(id) = name.parse::<AppId>() {
            let pods: Vec<_> = self
                .pods
                .iter()
                .filter(|pod| {
                    pod.labels.get(label::APP_ID).map(String::as_str) == Some(id.as_str())
                })
                .collect();
            if !pods.is_empty() {
                return Ok(Selection::Pods(pods));
            }
        }
        let by_name = self
            .pods
            .iter()
            .filter(|pod| pod_name(pod) == name)
            .map(|pod| Selection::Pods(vec![pod]));
        if let Some(selection) = self.only(name, by_name.collect())? {
            return Ok(selection);
        }
        if let Some(selection) = self.only(name, self.by_id(name))? {
            return Ok(selection);
        }
        let by_container_name = self
            .containers
            .iter()
            .filter(|container| container_name(container) == name)
            .map(Selection::Container);
        self.only(name, by_container_name.collect())?
            .ok_or_else(|| ClientError::Unknown {
                name: name.to_owned(),
            })
    }

    /// The id of one pod, for commands that mean one; a container stands for its own.
    pub(crate) fn pod(&self, name: &str) -> Result<&str, ClientError> {
        match self.select(name)? {
            Selection::Container(container) => Ok(&container.pod_sandbox_id),
            Selection::Pods(pods) => match pods[..] {
                [pod] => Ok(&pod.id),
                _ => Err(ClientError::Ambiguous {
                    name: name.to_owned(),
                    candidates: pods.iter().map(|pod| pod_name(pod).to_owned()).collect(),
                }),
            },
        }
    }

    /// One container, for commands that mean one.
    ///
    /// Of a pod's or an app's containers it is the one that runs; if none does, the newest of
    /// those with one name.
    pub(crate) fn container(&self, name: &str) -> Result<&Container, ClientError> {
        let pods = match self.select(name)? {
            Selection::Container(container) => return Ok(container),
            Selection::Pods(pods) => pods,
        };
        let all: Vec<&Container> = pods
            .iter()
            .flat_map(|pod| {
                self.containers
                    .iter()
                    .filter(|container| container.pod_sandbox_id == pod.id)
            })
            .collect();
        let running: Vec<&Container> = all
            .iter()
            .copied()
            .filter(|container| container.state() == ContainerState::ContainerRunning)
            .collect();
        let candidates = if running.is_empty() { all } else { running };
        let one_name = candidates.iter().all(|container| {
            container.pod_sandbox_id == candidates[0].pod_sandbox_id
                && container_name(container) == container_name(candidates[0])
        });
        if one_name
            && let Some(newest) = candidates
                .iter()
                .max_by_key(|container| container.created_at)
        {
            return Ok(newest);
        }
        let candidates: Vec<_> = candidates.into_iter().map(Selection::Container).collect();
        if candidates.is_empty() {
            return Err(ClientError::Usage(format!("{name} has no container yet")));
        }
        Err(self.ambiguous(name, &candidates))
    }

    fn by_id(&self, name: &str) -> Vec<Selection<'_>> {
        if name.is_empty() || !name.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Vec::new();
        }
        let containers = self.containers.iter();
        if let Some(exact) = containers.clone().find(|container| container.id == name) {
            return vec![Selection::Container(exact)];
        }
        if let Some(exact) = self.pods.iter().find(|pod| pod.id == name) {
            return vec![Selection::Pods(vec![exact])];
        }
        containers
            .filter(|container| container.id.starts_with(name))
            .map(Selection::Container)
            .chain(
                self.pods
                    .iter()
                    .filter(|pod| pod.id.starts_with(name))
                    .map(|pod| Selection::Pods(vec![pod])),
            )
            .collect()
    }

    fn only<'a>(
        &'a self,
        name: &str,
        mut found: Vec<Selection<'a>>,
    ) -> Result<Option<Selection<'a>>, ClientError> {
        if found.len() > 1 {
            return Err(self.ambiguous(name, &found));
        }
        Ok(found.pop())
    }

    fn ambiguous(&self, name: &str, found: &[Selection<'_>]) -> ClientError {
        let mut candidates: Vec<String> = found
            .iter()
            .take(MAX_CANDIDATES)
            .map(|selection| self.describe(selection))
            .collect();
        if found.len() > MAX_CANDIDATES {
            candidates.push(format!("{} more", found.len() - MAX_CANDIDATES));
        }
        ClientError::Ambiguous {
            name: name.to_owned(),
            candidates,
        }
    }

    fn describe(&self, selection: &Selection<'_>) -> String {
        match selection {
            Selection::Pods(pods) => pods
                .iter()
                .map(|pod| format!("pod {} ({})", pod_name(pod), short_id(&pod.id)))
                .collect::<Vec<_>>()
                .join(", "),
            Selection::Container(container) => {
                let pod = self
                    .pods
                    .iter()
                    .find(|pod| pod.id == container.pod_sandbox_id)
                    .map_or("", pod_name);
                format!(
                    "container {} of pod {pod} ({})",
                    container_name(container),
                    short_id(&container.id)
                )
            }
        }
    }
}

/// The name in a pod's metadata.
pub(crate) fn pod_name(pod: &PodSandbox) -> &str {
    pod.metadata.as_ref().map_or("", |metadata| &metadata.name)
}

/// The name in a container's metadata.
pub(crate) fn container_name(container: &Container) -> &str {
    container
        .metadata
        .as_ref()
        .map_or("", |metadata| &metadata.name)
}

#[cfg(test)]
mod tests {
    use insula_cri_api::v1::{ContainerMetadata, PodSandboxMetadata};

    use super::*;

    fn pod(id: &str, name: &str, app: Option<&str>) -> PodSandbox {
        PodSandbox {
            id: id.into(),
            metadata: Some(PodSandboxMetadata {
                name: name.into(),
                ..Default::default()
            }),
            labels: app
                .map(|app| (label::APP_ID.to_owned(), app.to_owned()))
                .into_iter()
                .collect(),
            ..Default::default()
        }
    }

    fn container(
        id: &str,
        pod: &str,
        name: &str,
        state: ContainerState,
        created: i64,
    ) -> Container {
        Container {
            id: id.into(),
            pod_sandbox_id: pod.into(),
            metadata: Some(ContainerMetadata {
                name: name.into(),
                attempt: 0,
            }),
            state: state.into(),
            created_at: created,
            ..Default::default()
        }
    }

    fn inventory() -> Inventory {
        use ContainerState::{ContainerExited as Exited, ContainerRunning as Running};
        Inventory {
            pods: vec![
                pod("aa10", "redis", Some("/redis")),
                pod("aa20", "web-0", Some("/web")),
                pod("aa30", "web-1", Some("/web")),
                pod("bb10", "coredns", None),
                pod("bb20", "coredns", None),
                pod("cc10", "job", None),
                pod("cc20", "empty", None),
            ],
            containers: vec![
                container("0a11", "aa10", "redis", Exited, 1),
                container("0a12", "aa10", "redis", Running, 2),
                container("0a21", "aa20", "web", Running, 3),
                container("0a31", "aa30", "web", Running, 4),
                container("0c11", "cc10", "main", Exited, 5),
                container("0c12", "cc10", "main", Exited, 6),
            ],
        }
    }

    #[test]
    fn selections() {
        let inventory = inventory();
        let shown = |name| match inventory.select(name) {
            Ok(Selection::Pods(pods)) => pods
                .iter()
                .map(|p| p.id.as_str())
                .collect::<Vec<_>>()
                .join(" "),
            Ok(Selection::Container(container)) => container.id.clone(),
            Err(error) => error.to_string(),
        };
        for (name, want) in [
            ("redis", "aa10"),
            ("/redis", "aa10"),
            ("web", "aa20 aa30"),
            ("/web", "aa20 aa30"),
            ("web-1", "aa30"),
            ("aa3", "aa30"),
            ("0a12", "0a12"),
            ("0a2", "0a21"),
            (
                "main",
                "\"main\" could be container main of pod job (0c11) or container main of pod job (0c12); say which by its name or id",
            ),
            (
                "coredns",
                "\"coredns\" could be pod coredns (bb10) or pod coredns (bb20); say which by its name or id",
            ),
            (
                "aa",
                "\"aa\" could be pod redis (aa10) or pod web-0 (aa20) or pod web-1 (aa30); say which by its name or id",
            ),
            (
                "mysql",
                "nothing is called \"mysql\": insula ps -a lists what there is",
            ),
            (
                "",
                "nothing is called \"\": insula ps -a lists what there is",
            ),
        ] {
            assert_eq!(shown(name), want, "{name:?}");
        }
    }

    #[test]
    fn one_container() {
        let inventory = inventory();
        let shown = |name| match inventory.container(name) {
            Ok(container) => container.id.clone(),
            Err(error) => error.to_string(),
        };
        for (name, want) in [
            ("redis", "0a12"),
            ("web-0", "0a21"),
            ("job", "0c12"),
            ("0a11", "0a11"),
            ("empty", "empty has no container yet"),
            (
                "web",
                "\"web\" could be container web of pod web-0 (0a21) or container web of pod web-1 (0a31); say which by its name or id",
            ),
        ] {
            assert_eq!(shown(name), want, "{name:?}");
        }
    }
}
