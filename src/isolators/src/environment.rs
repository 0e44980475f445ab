//! The process's environment.

use crate::contribution::Contribution;
use crate::isolator::{Isolator, PodView, Refusal};
use crate::spec::ContainerSpec;
use insula_wire::OsText;

/// Where programs are looked up when neither image nor container says.
pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Defaults, then the image's variables, then the container's; a later value
/// of a name wins.
#[derive(Debug)]
pub(crate) struct Environment;

impl Isolator for Environment {
    fn name(&self) -> &'static str {
        "environment"
    }

    fn prepare(&self, spec: &ContainerSpec, pod: &PodView<'_>) -> Result<Contribution, Refusal> {
        let text = |value: &str| {
            OsText::try_from(value).map_err(|error| Refusal::new(format!("host name: {error}")))
        };
        let mut env = vec![
            ("PATH".to_owned(), text(DEFAULT_PATH)?),
            ("HOSTNAME".to_owned(), text(pod.hostname)?),
        ];
        if spec.tty {
            env.push(("TERM".to_owned(), text("xterm")?));
        }
        for entry in &pod.image.env {
            env.push(split(entry)?);
        }
        for (name, value) in &spec.envs {
            validate_name(name)?;
            env.push((name.clone(), value.clone()));
        }
        Ok(Contribution {
            env,
            ..Contribution::default()
        })
    }
}

/// One `NAME=value` of an image. Bytes after the first `=` are taken as they
/// are.
fn split(entry: &OsText) -> Result<(String, OsText), Refusal> {
    let malformed = || {
        Refusal::new(format!(
            "the image's environment entry {entry:?} is not of the form NAME=value: the image is malformed"
        ))
    };
    let bytes = entry.as_bytes();
    let equals = bytes
        .iter()
        .position(|byte| *byte == b'=')
        .ok_or_else(malformed)?;
    let name = std::str::from_utf8(&bytes[..equals]).map_err(|_| malformed())?;
    let value = OsText::new(&bytes[equals + 1..]).map_err(|_| malformed())?;
    validate_name(name)?;
    Ok((name.to_owned(), value))
}

fn validate_name(name: &str) -> Result<(), Refusal> {
    if name.is_empty() || name.contains(['=', '\0']) {
        return Err(Refusal::new(format!(
            "{name:?} cannot be the name of an environment variable: it must not be empty nor hold `=` or NUL"
        )));
    }
    Ok(())
}

/// `NAME=value`. Names without NUL were checked when they came in; one with it
/// would end there.
pub(crate) fn assignment(name: &str, value: &OsText) -> OsText {
    let mut bytes: Vec<u8> = name.bytes().filter(|byte| *byte != 0).collect();
    bytes.push(b'=');
    bytes.extend_from_slice(value.as_bytes());
    OsText::new(bytes).unwrap_or_default()
}
