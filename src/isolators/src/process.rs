//! What is executed, where, and how it is asked to end.

use crate::contribution::Contribution;
use crate::isolator::{ImageView, Isolator, PodView, Refusal};
use crate::spec::ContainerSpec;
use crate::{path, signal};
use insula_wire::OsText;

/// SIGTERM, signal(7).
const TERMINATE: i32 = 15;

/// Arguments, working directory and stop signal, from the container and, where
/// it says nothing, from its image (OCI image-spec, `conversion.md`).
#[derive(Debug)]
pub(crate) struct ProcessArguments;

impl Isolator for ProcessArguments {
    fn name(&self) -> &'static str {
        "process"
    }

    fn prepare(&self, spec: &ContainerSpec, pod: &PodView<'_>) -> Result<Contribution, Refusal> {
        Ok(Contribution {
            args: Some(arguments(spec, pod.image)?),
            cwd: Some(working_directory(spec, pod.image)?),
            stop_signal: Some(stop_signal(spec, pod.image)?),
            ..Contribution::default()
        })
    }
}

/// A command of the container's replaces the image's entry point and drops its
/// command; arguments replace the command alone.
fn arguments(spec: &ContainerSpec, image: &ImageView) -> Result<Vec<OsText>, Refusal> {
    let (program, rest) = if !spec.command.is_empty() {
        (&spec.command, &spec.args)
    } else if !spec.args.is_empty() {
        (&image.entrypoint, &spec.args)
    } else {
        (&image.entrypoint, &image.cmd)
    };
    let args: Vec<OsText> = program.iter().chain(rest).cloned().collect();
    if args.first().is_none_or(|first| first.as_bytes().is_empty()) {
        let image = &spec.image;
        let name = [&image.user_specified_image, &image.image]
            .into_iter()
            .find(|name| !name.is_empty())
            .map_or("", String::as_str);
        return Err(Refusal::new(format!(
            "no command specified: image {name:?} has neither entry point nor command, and the container names none: set its command"
        )));
    }
    Ok(args)
}

/// `/proc/self/fd/N` as a working directory is how descriptors of the host
/// were reached (CVE-2024-21626). None is open when it could be used; still
/// such a path can only be meant ill. Links to one are the launcher's matter,
/// which resolves without magic links.
fn working_directory(spec: &ContainerSpec, image: &ImageView) -> Result<String, Refusal> {
    let text = [&spec.working_dir, &image.working_dir]
        .into_iter()
        .find(|text| !text.is_empty())
        .map_or("/", String::as_str);
    path::validate("working directory", text)?;
    let clean = path::clean(text);
    let mut parts = clean.split('/').skip(1);
    let process = |part: &str| {
        part == "self" || part == "thread-self" || part.bytes().all(|byte| byte.is_ascii_digit())
    };
    if parts.next() == Some("proc") && parts.next().is_some_and(process) {
        return Err(Refusal::new(format!(
            "working directory {text:?} leads through a process's files in /proc: use a directory of the image"
        )));
    }
    Ok(clean)
}

fn stop_signal(spec: &ContainerSpec, image: &ImageView) -> Result<i32, Refusal> {
    match (spec.stop_signal, image.stop_signal.as_deref()) {
        (Some(number), _) if (1..=64).contains(&number) => Ok(number),
        (Some(number), _) => Err(Refusal::new(format!("stop signal {number} does not exist"))),
        (None, None | Some("")) => Ok(TERMINATE),
        (None, Some(name)) => signal::number(name).ok_or_else(|| {
            Refusal::new(format!(
                "the image's stop signal {name:?} does not exist: set one for the container"
            ))
        }),
    }
}
