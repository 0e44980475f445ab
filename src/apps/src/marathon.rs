//! Parses a Marathon app definition (the `App` type of its 1.9 API, and what is still seen of
//! older ones).

mod container;
mod elsewhere;
mod ports;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use serde_json::Value;

use crate::app::{App, AppId, Command, CpuLimit, MemoryLimit, RunAs};
use crate::error::{AppError, Notice};
use crate::reader::{Fields, invalid, number, string};

/// Longest definition that is read: one MiB.
pub const MAX_DEFINITION_BYTES: usize = 1 << 20;

/// Most items of any list in a definition.
const MAX_ITEMS: usize = 1000;
/// Most instances on one machine.
const MAX_INSTANCES: u64 = 250;
/// Largest weight in processors, and the smallest that Marathon takes.
const CPUS: std::ops::RangeInclusive<f64> = 0.001..=4096.0;
/// MiB of memory; less than four cannot hold a process.
const MEMORY: std::ops::RangeInclusive<f64> = 4.0..=1_073_741_824.0;
/// MiB of disk.
const DISK: std::ops::RangeInclusive<f64> = 0.0..=1_073_741_824.0;
/// Longest grace period, in seconds: a day.
const MAX_GRACE: u64 = 86_400;
/// Grace period of a Mesos executor, in seconds.
const DEFAULT_GRACE: u64 = 3;

type Result<T> = std::result::Result<T, AppError>;

/// Reads one app definition.
///
/// The notices name fields that are understood and have no effect here. Everything else that has
/// no effect is an error.
pub fn parse(text: &[u8]) -> Result<(App, Vec<Notice>)> {
    if text.len() > MAX_DEFINITION_BYTES {
        return Err(AppError::TooLarge {
            bytes: text.len(),
            limit: MAX_DEFINITION_BYTES,
        });
    }
    let mut fields = Fields::of("", serde_json::from_slice(text)?)?;
    let mut notices = Vec::new();

    let id = app_id(&mut fields)?;
    let container = container::read(&mut fields, &mut notices)?;
    let command = command(&mut fields)?;
    let cpus = fields.number("cpus", CPUS)?.unwrap_or(1.0);
    let memory_mib = fields.number("mem", MEMORY)?.unwrap_or(128.0);
    let disk_mib = fields.number("disk", DISK)?.unwrap_or(0.0);
    if disk_mib > 0.0 {
        notices.push(Notice::new(
            "disk",
            "the limit is not enforced: there is no disk quota yet",
        ));
    }
    let (cpu_limit, memory_limit) = limits(&mut fields, memory_mib)?;
    let environment = environment(&mut fields)?;
    let labels = labels(&mut fields)?;
    let run_as = match (container.user, fields.string("user")?) {
        (_, Some(user)) => run_as("user", &user)?,
        (Some(user), None) => user,
        (None, None) => RunAs::OfImage,
    };
    let (declared, ports) = ports::read(&mut fields, container.ports, &mut notices)?;

    let app = App {
        id,
        command,
        image: container.image,
        force_pull: container.force_pull,
        cpus,
        cpu_limit,
        memory_mib,
        memory_limit,
        disk_mib,
        instances: instances(&mut fields)?,
        environment: container
            .environment
            .into_iter()
            .chain(environment)
            .collect(),
        labels: container.labels.into_iter().chain(labels).collect(),
        run_as,
        tty: fields.boolean("tty")?.unwrap_or(false),
        kill_grace_seconds: grace(&mut fields)?,
        volumes: container.volumes,
        declared,
        ports,
        settings: container.settings,
    };
    elsewhere::read(&mut fields, &mut notices)?;
    fields.end()?;
    Ok((app, notices))
}

fn app_id(fields: &mut Fields) -> Result<AppId> {
    let text = fields.string("id")?.ok_or_else(|| AppError::Missing {
        path: "id".into(),
        why: "an app has a name, such as \"/redis\"",
    })?;
    text.parse()
        .map_err(|error: crate::NotAnAppId| invalid("id", &error.to_string(), &Value::String(text)))
}

/// `cmd` xor `args`, or neither.
fn command(fields: &mut Fields) -> Result<Command> {
    let line = fields.string("cmd")?;
    let arguments = fields.strings("args", MAX_ITEMS)?;
    match (line, arguments) {
        (Some(_), Some(_)) => Err(AppError::Conflict {
            path: "cmd".into(),
            why: "cmd and args exclude each other: cmd is a line for /bin/sh -c, args are \
                  arguments for the image's entrypoint"
                .into(),
        }),
        (Some(line), None) if line.trim().is_empty() => {
            Err(invalid("cmd", "a command line", &Value::String(line)))
        }
        (Some(line), None) => Ok(Command::Shell(line)),
        (None, Some(arguments)) if !arguments.is_empty() => Ok(Command::Arguments(arguments)),
        (None, _) => Ok(Command::OfImage),
    }
}

fn instances(fields: &mut Fields) -> Result<u32> {
    let count = fields.integer("instances", 0..=MAX_INSTANCES)?.unwrap_or(1);
    match u32::try_from(count) {
        Ok(count) if count > 0 => Ok(count),
        _ => Err(AppError::Invalid {
            path: "instances".into(),
            want: "at least 1 to run anything".into(),
            have: count.to_string(),
        }),
    }
}

fn grace(fields: &mut Fields) -> Result<u32> {
    let seconds = fields
        .integer("taskKillGracePeriodSeconds", 0..=MAX_GRACE)?
        .unwrap_or(DEFAULT_GRACE);
    Ok(u32::try_from(seconds).unwrap_or(u32::MAX))
}

/// `resourceLimits`: a number, or "unlimited". Memory is limited to `mem` without it.
fn limits(fields: &mut Fields, memory_mib: f64) -> Result<(CpuLimit, MemoryLimit)> {
    let mut cpu = CpuLimit::SharesOnly;
    let mut memory = MemoryLimit::Bytes(mebibytes(memory_mib));
    let Some(mut limits) = fields.object("resourceLimits")? else {
        return Ok((cpu, memory));
    };
    let unlimited = |value: &Value| value.as_str() == Some("unlimited");
    if let Some(value) = limits.take("cpus")
        && !unlimited(&value)
    {
        cpu = CpuLimit::Processors(number(&limits.path("cpus"), &value, &(0.01..=*CPUS.end()))?);
    }
    if let Some(value) = limits.take("mem") {
        memory = if unlimited(&value) {
            MemoryLimit::Unlimited
        } else {
            let least = memory_mib..=*MEMORY.end();
            MemoryLimit::Bytes(mebibytes(number(&limits.path("mem"), &value, &least)?))
        };
    }
    limits.end()?;
    Ok((cpu, memory))
}

/// Bytes of a number of MiB within [`MEMORY`].
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the range of MEMORY is checked before: below 2^50, above zero"
)]
fn mebibytes(mib: f64) -> u64 {
    (mib * 1_048_576.0) as u64
}

/// `env`: strings. An object is a reference to a secret.
fn environment(fields: &mut Fields) -> Result<BTreeMap<String, String>> {
    let Some(entries) = fields.object("env")? else {
        return Ok(BTreeMap::new());
    };
    entries
        .into_entries()
        .map(|(path, name, value)| {
            if value.is_object() {
                return Err(AppError::Unsupported {
                    path,
                    why: "there is no secret store on one machine; give the value itself, or \
                          mount a file with container.volumes"
                        .into(),
                });
            }
            variable_name(&path, &name)?;
            Ok((name, string(&path, value)?))
        })
        .collect()
}

/// A variable's name is not empty and has neither `=` nor NUL (environ(7)).
fn variable_name(path: &str, name: &str) -> Result<()> {
    if name.is_empty() || name.contains(['=', '\0']) {
        return Err(AppError::Invalid {
            path: path.to_owned(),
            want: "a variable name without '=' and NUL".into(),
            have: format!("{name:?}"),
        });
    }
    Ok(())
}

/// Labels, of which those with our own and Kubernetes' prefixes are not the app's to set.
fn labels(fields: &mut Fields) -> Result<BTreeMap<String, String>> {
    let labels = fields.string_map("labels")?;
    for name in labels.keys() {
        reserved_label(&format!("labels.{name}"), name)?;
    }
    Ok(labels)
}

pub(crate) fn reserved_label(path: &str, name: &str) -> Result<()> {
    if name.starts_with("io.kubernetes.") || name.starts_with("insula.app/") {
        return Err(AppError::Conflict {
            path: path.to_owned(),
            why: "labels that begin with io.kubernetes. and insula.app/ are set by the runtime"
                .into(),
        });
    }
    Ok(())
}

/// `name`, `uid` or `uid:gid`.
pub(crate) fn run_as(path: &str, text: &str) -> Result<RunAs> {
    let wrong = || {
        invalid(
            path,
            "a user name, a uid, or uid:gid",
            &Value::String(text.to_owned()),
        )
    };
    let (user, group) = match text.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (text, None),
    };
    match (user.parse::<u32>(), group) {
        (Ok(uid), None) => Ok(RunAs::Ids { uid, gid: None }),
        (Ok(uid), Some(group)) => Ok(RunAs::Ids {
            uid,
            gid: Some(group.parse().map_err(|_| wrong())?),
        }),
        (Err(_), None) if is_user_name(user) => Ok(RunAs::Name(user.to_owned())),
        _ => Err(wrong()),
    }
}

fn is_user_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 256
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "._-$".contains(c))
}
