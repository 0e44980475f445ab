//! `container.docker.parameters`: options of the `docker run` command line, as far as the CRI has
//! a field for them. Every other one is refused.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::app::{ContainerSettings, RunAs, Volume};
use crate::error::AppError;
use crate::reader::{Fields, invalid};

/// Most options.
const MAX_ITEMS: usize = 1000;

/// Options that exist, and why they cannot be honoured.
const REFUSED: [(&str, &str); 4] = [
    (
        "ulimit",
        "the CRI has no field for resource limits of processes; set them in the image's entrypoint",
    ),
    (
        "shm-size",
        "the CRI has no field for the size of /dev/shm; mount a directory of the host at /dev/shm",
    ),
    ("net", "use networks"),
    ("network", "use networks"),
];

/// Everything that options can ask for.
#[derive(Debug, Default)]
pub(crate) struct Options {
    pub(crate) settings: ContainerSettings,
    pub(crate) environment: BTreeMap<String, String>,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) user: Option<RunAs>,
    pub(crate) volumes: Vec<Volume>,
}

/// Takes `parameters` of `container.docker`.
pub(crate) fn read(docker: &mut Fields) -> Result<Options, AppError> {
    let mut options = Options::default();
    for mut parameter in docker.objects("parameters", MAX_ITEMS)?.unwrap_or_default() {
        let path = parameter.path("value");
        let missing = |path| AppError::Missing {
            path,
            why: "a parameter has a key and a value",
        };
        let key = parameter
            .string("key")?
            .ok_or_else(|| missing(parameter.path("key")))?;
        let value = parameter
            .string("value")?
            .ok_or_else(|| missing(path.clone()))?;
        let key_path = parameter.path("key");
        parameter.end()?;
        options.apply(&key_path, &path, key.trim_start_matches('-'), value)?;
    }
    Ok(options)
}

impl Options {
    fn apply(
        &mut self,
        key_path: &str,
        path: &str,
        key: &str,
        value: String,
    ) -> Result<(), AppError> {
        let settings = &mut self.settings;
        match key {
            "cap-add" => settings.add_capabilities.push(capability(path, &value)?),
            "cap-drop" => settings.drop_capabilities.push(capability(path, &value)?),
            "device" => settings.devices.push(device(path, &value)?),
            "dns" => settings.dns.get_or_insert_default().0.push(value),
            "dns-search" => settings.dns.get_or_insert_default().1.push(value),
            "dns-opt" | "dns-option" => settings.dns.get_or_insert_default().2.push(value),
            "hostname" | "h" => settings.hostname = Some(hostname(path, value)?),
            "privileged" => settings.privileged = boolean(path, &value)?,
            "read-only" => settings.read_only_root = boolean(path, &value)?,
            "security-opt" => match value.as_str() {
                "no-new-privileges" | "no-new-privileges:true" => settings.no_new_privileges = true,
                _ => return Err(text_error(path, "\"no-new-privileges\"", value)),
            },
            "sysctl" => {
                let (name, number) = pair(path, value, '=')?;
                settings.sysctls.insert(name, number);
            }
            "workdir" | "w" => settings.working_directory = Some(absolute(path, value)?),
            "env" | "e" => {
                let (name, text) = pair(path, value, '=')?;
                self.environment.insert(name, text);
            }
            "label" | "l" => {
                let (name, text) = pair(path, value, '=')?;
                crate::marathon::reserved_label(path, &name)?;
                self.labels.insert(name, text);
            }
            "user" | "u" => self.user = Some(crate::marathon::run_as(path, &value)?),
            "volume" | "v" => self.volumes.push(volume(path, value)?),
            other => {
                let why = REFUSED.iter().find(|(name, _)| *name == other).map_or(
                    "it is not among the Docker options that are translated",
                    |(_, why)| why,
                );
                return Err(AppError::Unsupported {
                    path: format!("{key_path} {other:?}"),
                    why: why.to_owned(),
                });
            }
        }
        Ok(())
    }
}

fn text_error(path: &str, want: &str, value: String) -> AppError {
    invalid(path, want, &Value::String(value))
}

fn boolean(path: &str, value: &str) -> Result<bool, AppError> {
    value
        .parse()
        .map_err(|_| text_error(path, "\"true\" or \"false\"", value.to_owned()))
}

fn pair(path: &str, value: String, separator: char) -> Result<(String, String), AppError> {
    match value.split_once(separator) {
        Some((name, text)) if !name.is_empty() => Ok((name.to_owned(), text.to_owned())),
        _ => Err(text_error(path, &format!("name{separator}value"), value)),
    }
}

fn absolute(path: &str, value: String) -> Result<String, AppError> {
    if value.starts_with('/') && !value.split('/').any(|part| part == "..") {
        Ok(value)
    } else {
        Err(text_error(path, "an absolute path without \"..\"", value))
    }
}

/// One label of a host name (RFC 1123): what the kernel and DNS both take.
fn hostname(path: &str, value: String) -> Result<String, AppError> {
    let valid = (1..=63).contains(&value.len())
        && value.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
        && !value.starts_with('-')
        && !value.ends_with('-');
    if valid {
        Ok(value)
    } else {
        Err(text_error(path, "a host name without dots", value))
    }
}

/// A capability as the CRI names it: upper case, without `CAP_`.
fn capability(path: &str, value: &str) -> Result<String, AppError> {
    let name = value.to_ascii_uppercase();
    let name = name.strip_prefix("CAP_").unwrap_or(&name);
    if !name.is_empty() && name.chars().all(|c| c.is_ascii_uppercase() || c == '_') {
        Ok(name.to_owned())
    } else {
        Err(text_error(
            path,
            "a capability such as \"NET_ADMIN\"",
            value.to_owned(),
        ))
    }
}

/// `host[:container[:permissions]]`.
fn device(path: &str, value: &str) -> Result<(String, String, String), AppError> {
    let mut parts = value.split(':');
    let host = parts.next().unwrap_or_default();
    let container = parts.next().unwrap_or(host);
    let permissions = parts.next().unwrap_or("rwm");
    let valid = host.starts_with("/dev/")
        && container.starts_with("/dev/")
        && !value.contains("..")
        && !permissions.is_empty()
        && permissions.chars().all(|c| "rwm".contains(c))
        && parts.next().is_none();
    if valid {
        Ok((
            host.to_owned(),
            container.to_owned(),
            permissions.to_owned(),
        ))
    } else {
        Err(text_error(
            path,
            "a device such as \"/dev/fuse\" or \"/dev/a:/dev/b:rw\"",
            value.to_owned(),
        ))
    }
}

/// `host:container[:ro|rw]`.
fn volume(path: &str, value: String) -> Result<Volume, AppError> {
    let parts: Vec<&str> = value.split(':').collect();
    let (host, container, read_only) = match parts[..] {
        [host, container] | [host, container, "rw"] => (host, container, false),
        [host, container, "ro"] => (host, container, true),
        _ => {
            return Err(text_error(
                path,
                "\"/host/path:/container/path\", with \":ro\" or \":rw\" if you like",
                value,
            ));
        }
    };
    Ok(Volume {
        host_path: absolute(path, host.to_owned())?,
        container_path: absolute(path, container.to_owned())?,
        read_only,
    })
}
