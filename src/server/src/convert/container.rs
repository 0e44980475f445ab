//! `ContainerConfig` to [`ContainerSpec`], and its parts back.

use super::{
    PATH_MAX, Rejected, absolute_path, arguments, mounts, name, required, resources, security,
    signal, text, without_parent,
};
use insula_cri_api::v1::{ContainerConfig, ContainerMetadata, ImageSpec, KeyValue};
use insula_isolators::spec::{ContainerSpec, ImageRequest};
use insula_wire::OsText;

/// Longest reference of an image that is taken, in bytes.
const IMAGE_MAX: usize = 4096;

/// A container as `CreateContainer` asks for it.
pub fn from_cri(message: ContainerConfig) -> Result<ContainerSpec, Rejected> {
    let metadata = required(message.metadata, "metadata")?;
    let image = required(message.image, "image")?;
    let linux = message.linux.unwrap_or_default();
    let in_linux = |rejected: Rejected| rejected.within("linux");
    Ok(ContainerSpec {
        name: name(metadata.name, "metadata.name")?,
        attempt: metadata.attempt,
        image: image_request(image).map_err(|rejected| rejected.within("image"))?,
        command: arguments(message.command, "command")?,
        args: arguments(message.args, "args")?,
        working_dir: if message.working_dir.is_empty() {
            String::new()
        } else {
            absolute_path(message.working_dir, "working_dir")?
        },
        envs: each(message.envs, "envs", environment)?,
        mounts: each(message.mounts, "mounts", mounts::from_cri)?,
        devices: each(message.devices, "devices", mounts::device)?,
        cdi_devices: each(message.cdi_devices, "CDI_devices", |device| {
            text(device.name, "name", PATH_MAX)
        })?,
        labels: message.labels,
        annotations: message.annotations,
        log_path: log_path(message.log_path)?,
        stdin: message.stdin,
        stdin_once: message.stdin_once,
        tty: message.tty,
        stop_signal: signal::number(message.stop_signal, "stop_signal")?,
        resources: resources::from_cri(linux.resources.unwrap_or_default())
            .map_err(|rejected| in_linux(rejected.within("resources")))?,
        security: security::from_cri(linux.security_context.unwrap_or_default())
            .map_err(|rejected| in_linux(rejected.within("security_context")))?,
    })
}

/// An image as a container asks for it.
pub fn image_request(message: ImageSpec) -> Result<ImageRequest, Rejected> {
    let image = text(message.image, "image", IMAGE_MAX)?;
    if image.is_empty() {
        return Err(Rejected::invalid("image", "is empty"));
    }
    Ok(ImageRequest {
        image,
        annotations: message.annotations,
        user_specified_image: message.user_specified_image,
        runtime_handler: message.runtime_handler,
    })
}

/// A container's name as lists and statuses give it back.
pub fn metadata_to_cri(spec: &ContainerSpec) -> ContainerMetadata {
    ContainerMetadata {
        name: spec.name.clone(),
        attempt: spec.attempt,
    }
}

/// The image as asked for.
pub fn image_to_cri(request: &ImageRequest) -> ImageSpec {
    ImageSpec {
        image: request.image.clone(),
        annotations: request.annotations.clone(),
        user_specified_image: request.user_specified_image.clone(),
        runtime_handler: request.runtime_handler.clone(),
        image_ref: String::new(),
    }
}

/// Parses each of a list; the index of a bad one is part of the field.
fn each<M, T>(
    messages: Vec<M>,
    field: &str,
    parse: impl Fn(M) -> Result<T, Rejected>,
) -> Result<Vec<T>, Rejected> {
    messages
        .into_iter()
        .enumerate()
        .map(|(index, message)| {
            parse(message).map_err(|rejected| rejected.within(&format!("{field}[{index}]")))
        })
        .collect()
}

/// A value is bytes (KEP-4369); a name is what environ(7) allows.
fn environment(message: KeyValue) -> Result<(String, OsText), Rejected> {
    let key = text(message.key, "key", PATH_MAX)?;
    if key.is_empty() {
        return Err(Rejected::invalid("key", "is empty"));
    }
    if key.contains('=') {
        return Err(Rejected::invalid("key", format!("{key:?} holds `=`")));
    }
    let value =
        OsText::new(message.value).map_err(|_| Rejected::invalid("value", "holds a NUL byte"))?;
    Ok((key, value))
}

/// Relative to the pod's log directory, and never out of it.
fn log_path(value: String) -> Result<String, Rejected> {
    let value = without_parent(value, "log_path")?;
    if value.split('/').any(|part| part.len() > 255) {
        return Err(Rejected::invalid(
            "log_path",
            "has a part of more than 255 bytes, which no file name can be",
        ));
    }
    Ok(value.trim_start_matches('/').to_owned())
}

#[cfg(test)]
#[path = "container/tests.rs"]
mod tests;
