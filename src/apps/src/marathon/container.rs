//! `container`: the image, its volumes and Docker options.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{MAX_ITEMS, Result};
use crate::app::{ContainerSettings, RunAs, Volume};
use crate::docker_parameters;
use crate::error::{AppError, Notice};
use crate::networking::{Declared, PortRequest};
use crate::reader::{Fields, invalid};

use super::ports;

/// Longest image reference: a name of 255 bytes, a tag of 128 and a digest (OCI distribution
/// specification, "Pulling manifests").
const MAX_IMAGE: usize = 512;

/// What `container` says.
#[derive(Debug)]
pub(super) struct Container {
    pub(super) image: String,
    pub(super) force_pull: bool,
    pub(super) volumes: Vec<Volume>,
    pub(super) settings: ContainerSettings,
    pub(super) environment: BTreeMap<String, String>,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) user: Option<RunAs>,
    pub(super) ports: ContainerPorts,
}

/// Ports as `container` gives them.
#[derive(Debug, Default)]
pub(super) struct ContainerPorts {
    /// `portMappings`, with the path they were found at.
    pub(super) mappings: Option<(String, Vec<PortRequest>)>,
    /// The network of `docker.network`, which is how definitions before 1.5 asked for one.
    pub(super) declared: Option<Declared>,
}

pub(super) fn read(fields: &mut Fields, notices: &mut Vec<Notice>) -> Result<Container> {
    let Some(mut container) = fields.object("container")? else {
        return Err(no_image("container"));
    };
    kind(&mut container)?;
    if container.take("appc").is_some() {
        return Err(AppError::Unsupported {
            path: "container.appc".into(),
            why: "AppC images cannot be run from an app definition yet; use container.docker"
                .into(),
        });
    }
    let Some(mut docker) = container.object("docker")? else {
        return Err(no_image("container.docker"));
    };
    let image = image(&mut docker)?;
    let force_pull = docker.boolean("forcePullImage")?.unwrap_or(false);
    let mut ports = ContainerPorts {
        mappings: ports::mappings(&mut docker)?,
        declared: docker_network(&mut docker)?,
    };
    credentials(&mut docker)?;
    let mut options = docker_parameters::read(&mut docker)?;
    options.settings.privileged |= docker.boolean("privileged")?.unwrap_or(false);
    docker.end()?;

    if let Some(mappings) = ports::mappings(&mut container)? {
        ports.mappings = Some(mappings);
    }
    let mut volumes = volumes(&mut container)?;
    volumes.append(&mut options.volumes);
    if container
        .take("linuxInfo")
        .is_some_and(|value| !value.as_object().is_some_and(serde_json::Map::is_empty))
    {
        return Err(AppError::Unsupported {
            path: "container.linuxInfo".into(),
            why: "IPC and seccomp settings of Mesos are not translated".into(),
        });
    }
    container.end()?;
    if options.settings.privileged {
        notices.push(Notice::new(
            "container.docker.privileged",
            "the app has every capability and device of the host",
        ));
    }
    Ok(Container {
        image,
        force_pull,
        volumes,
        settings: options.settings,
        environment: options.environment,
        labels: options.labels,
        user: options.user,
        ports,
    })
}

fn no_image(path: &str) -> AppError {
    AppError::Missing {
        path: path.to_owned(),
        why: "without an image Mesos runs an app in the agent's own file system; an isolated app \
              needs one: \"container\": {\"type\": \"MESOS\", \"docker\": {\"image\": \"...\"}}",
    }
}

/// `MESOS` and `DOCKER` (the default) are the same here: there is one runtime.
fn kind(container: &mut Fields) -> Result<()> {
    match container.string("type")?.as_deref() {
        None | Some("MESOS" | "DOCKER") => Ok(()),
        Some(other) => Err(invalid(
            &container.path("type"),
            "\"MESOS\" or \"DOCKER\"",
            &Value::String(other.to_owned()),
        )),
    }
}

fn image(docker: &mut Fields) -> Result<String> {
    let path = docker.path("image");
    let Some(image) = docker.string("image")? else {
        return Err(AppError::Missing {
            path,
            why: "the name of an image, such as \"redis\" or \"quay.io/org/app:1.2\"",
        });
    };
    // The grammar of references is the images room's; this is what no reference can be.
    if image.is_empty() || image.len() > MAX_IMAGE || image.chars().any(|c| !c.is_ascii_graphic()) {
        return Err(invalid(
            &path,
            "an image reference without spaces",
            &Value::String(image),
        ));
    }
    Ok(image)
}

fn docker_network(docker: &mut Fields) -> Result<Option<Declared>> {
    let path = docker.path("network");
    Ok(match docker.string("network")?.as_deref() {
        None => None,
        Some("HOST") => Some(Declared::Host),
        Some("BRIDGE") => Some(Declared::Bridge),
        Some("NONE") => {
            return Err(AppError::Unsupported {
                path,
                why: "an app without any network cannot be asked for; leave it out".into(),
            });
        }
        Some("USER") => {
            return Err(AppError::Unsupported {
                path,
                why: "it is the form of Marathon before 1.5; use networks".into(),
            });
        }
        Some(other) => {
            return Err(invalid(
                &path,
                "\"HOST\" or \"BRIDGE\"",
                &Value::String(other.to_owned()),
            ));
        }
    })
}

fn credentials(docker: &mut Fields) -> Result<()> {
    for name in ["pullConfig", "credential"] {
        if docker.take(name).is_some() {
            return Err(AppError::Unsupported {
                path: docker.path(name),
                why: "there is no secret store on one machine; put the registry's credentials \
                      into its hosts.toml"
                    .into(),
            });
        }
    }
    Ok(())
}

fn volumes(container: &mut Fields) -> Result<Vec<Volume>> {
    container
        .objects("volumes", MAX_ITEMS)?
        .unwrap_or_default()
        .into_iter()
        .map(volume)
        .collect()
}

fn volume(mut fields: Fields) -> Result<Volume> {
    for (name, why) in [
        (
            "persistent",
            "local persistent volumes are not kept yet; mount a directory with hostPath",
        ),
        (
            "external",
            "external volumes need a storage driver of the cluster; mount a directory with \
             hostPath",
        ),
        (
            "secret",
            "there is no secret store on one machine; mount a file with hostPath",
        ),
    ] {
        if fields.take(name).is_some() {
            return Err(AppError::Unsupported {
                path: fields.path(name),
                why: why.to_owned(),
            });
        }
    }
    let container_path = path(&mut fields, "containerPath", "where the app sees it")?;
    let host_path = path(&mut fields, "hostPath", "the directory or file of the host")?;
    let read_only = match fields.string("mode")?.as_deref() {
        None | Some("RW") => false,
        Some("RO") => true,
        Some(other) => {
            return Err(invalid(
                &fields.path("mode"),
                "\"RO\" or \"RW\"",
                &Value::String(other.to_owned()),
            ));
        }
    };
    fields.end()?;
    Ok(Volume {
        container_path,
        host_path,
        read_only,
    })
}

/// An absolute path without `..`.
fn path(fields: &mut Fields, name: &'static str, why: &'static str) -> Result<String> {
    let path = fields.path(name);
    let text = fields.string(name)?.ok_or(AppError::Missing {
        path: path.clone(),
        why,
    })?;
    if !text.starts_with('/') {
        return Err(AppError::Unsupported {
            path,
            why: format!(
                "{text:?} is relative, which in Mesos means the task's sandbox directory; give an \
                 absolute path"
            ),
        });
    }
    if text.split('/').any(|part| part == "..") {
        return Err(invalid(
            &path,
            "a path without \"..\"",
            &Value::String(text),
        ));
    }
    Ok(text)
}
