//! One file, key by key.

use super::runtimes::{self, Kind};
use super::{Address, CgroupDriver, Config, KEYS, Runtime, SeccompDefault, Subnet};
use std::net::SocketAddr;
use std::ops::Range;
use std::path::{Path, PathBuf};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// A file cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ConfigError {
    /// It cannot be read.
    #[error("{}: {problem}", file.display())]
    Unreadable {
        /// Which.
        file: PathBuf,
        /// The system's answer.
        problem: String,
    },
    /// Keys contradict each other.
    #[error("{0}")]
    Conflict(String),
    /// Something in it is wrong.
    #[error("{}:{line}: {problem}", file.display())]
    Wrong {
        /// Which.
        file: PathBuf,
        /// Counted from one.
        line: usize,
        /// What is wrong and what is expected.
        problem: String,
    },
}

/// The section whose keys are sections.
const RUNTIMES: &str = "runtimes";

/// A value is of another type, or not one of those allowed.
#[derive(Debug)]
struct Unfit(String);

/// Puts the values of one file into the configuration.
pub(crate) fn apply(config: &mut Config, file: &Path, text: &str) -> Result<(), ConfigError> {
    let wrong = |at: Range<usize>, problem: String| ConfigError::Wrong {
        file: file.to_owned(),
        line: line(text, at.start),
        problem,
    };
    let document = DeTable::parse(text).map_err(|error| {
        let at = error.span().unwrap_or(text.len()..text.len());
        wrong(at, format!("not valid TOML: {}", one_line(error.message())))
    })?;
    for (key, value) in document.get_ref() {
        let name = key.get_ref().as_ref();
        if !is_section(name) {
            set_at(config, name, key.span(), value).map_err(|(at, problem)| wrong(at, problem))?;
            continue;
        }
        let section = section(name, key.span(), value).map_err(|(at, why)| wrong(at, why))?;
        for (key, value) in section {
            let part = key.get_ref();
            let set = match name {
                RUNTIMES => set_runtime(config, part, key.span(), value),
                _ => set_at(config, &format!("{name}.{part}"), key.span(), value),
            };
            set.map_err(|(at, problem)| wrong(at, problem))?;
        }
    }
    Ok(())
}

/// A place in the text and what is wrong there.
type Mistake = (Range<usize>, String);

fn section<'v, 't>(
    name: &str,
    at: Range<usize>,
    value: &'v Spanned<DeValue<'t>>,
) -> Result<&'v DeTable<'t>, Mistake> {
    match value.get_ref() {
        DeValue::Table(section) => Ok(section),
        other => Err((
            at,
            format!(
                "`{name}`: expected a section [{name}], found {}",
                found(other)
            ),
        )),
    }
}

/// The keys of one handler.
fn set_runtime(
    config: &mut Config,
    name: &str,
    at: Range<usize>,
    value: &Spanned<DeValue<'_>>,
) -> Result<(), Mistake> {
    runtimes::check_name(name).map_err(|problem| (at.clone(), problem))?;
    let whole = format!("{RUNTIMES}.{name}");
    let section = section(&whole, at, value)?;
    let runtime = config.runtimes.entry(name.to_owned()).or_default();
    for (key, value) in section {
        let key_name = key.get_ref().as_ref();
        if !runtimes::KEYS.contains(&key_name) {
            return Err((key.span(), unknown_of_runtime(&whole, key_name)));
        }
        set_of_runtime(runtime, key_name, value.get_ref())
            .map_err(|Unfit(problem)| (value.span(), format!("`{whole}.{key_name}`: {problem}")))?;
    }
    Ok(())
}

fn set_of_runtime(runtime: &mut Runtime, name: &str, value: &DeValue<'_>) -> Result<(), Unfit> {
    match name {
        "type" => {
            runtime.kind = Some(match string(value)? {
                "native" => Kind::Native,
                "oci" => Kind::Oci,
                text => return Err(Unfit(format!("{text:?} is not one of \"native\", \"oci\""))),
            });
        }
        "path" => runtime.path = Some(path(value)?),
        "args" => runtime.args = strings(value)?,
        _ => runtime.timeout = Some(seconds(value)?),
    }
    Ok(())
}

fn unknown_of_runtime(section: &str, name: &str) -> String {
    let nearest = runtimes::KEYS
        .iter()
        .map(|key| (strsim::damerau_levenshtein(name, key), *key))
        .min_by_key(|(distance, _)| *distance);
    let name: String = name.chars().take(100).collect();
    match nearest {
        Some((distance, key)) if distance <= 2 => {
            format!("unknown key `{section}.{name}`, did you mean `{section}.{key}`?")
        }
        _ => format!(
            "unknown key `{section}.{name}`, there are {}",
            runtimes::KEYS.join(", ")
        ),
    }
}

fn set_at(
    config: &mut Config,
    name: &str,
    at: Range<usize>,
    value: &Spanned<DeValue<'_>>,
) -> Result<(), (Range<usize>, String)> {
    if !KEYS.contains(&name) {
        return Err((at, unknown(name)));
    }
    set(config, name, value.get_ref())
        .map_err(|Unfit(problem)| (value.span(), format!("`{name}`: {problem}")))
}

/// The table of keys: what each one takes, and where it goes.
fn set(config: &mut Config, name: &str, value: &DeValue<'_>) -> Result<(), Unfit> {
    match name {
        "listen" => config.listen = Address::parse(string(value)?, false).map_err(Unfit)?,
        "root" => config.root = path(value)?,
        "state" => config.state = path(value)?,
        "cni.conf_dir" => config.cni.conf_dir = path(value)?,
        "cni.conf_template" => config.cni.conf_template = path_or_none(value)?,
        "cni.bin_dirs" => config.cni.bin_dirs = paths(value)?,
        "registry.config_path" => config.registry.config_path = paths(value)?,
        "cni.plugin_timeout" => config.cni.plugin_timeout = seconds(value)?,
        "cni.default_network" => config.cni.default_network = boolean(value)?,
        "cni.default_bridge" => config.cni.default_bridge = interface(string(value)?)?,
        "cni.default_subnets" => config.cni.default_subnets = subnets(value)?,
        "registry.connect_timeout" => config.registry.connect_timeout = seconds(value)?,
        "registry.progress_timeout" => config.registry.progress_timeout = seconds(value)?,
        "cgroup.driver" => config.cgroup.driver = driver(string(value)?)?,
        "cgroup.parent" => config.cgroup.parent = cgroup(string(value)?)?,
        "security.device_ownership_from_security_context" => {
            config.security.device_ownership_from_security_context = boolean(value)?;
        }
        "security.seccomp_default" => {
            config.security.seccomp_default = seccomp_default(string(value)?)?;
        }
        "cdi.spec_dirs" => config.cdi.spec_dirs = paths(value)?,
        "streaming.address" => config.streaming.address = socket_address(string(value)?)?,
        "streaming.tls" => config.streaming.tls = boolean(value)?,
        "streaming.certificate" => config.streaming.certificate = path_or_none(value)?,
        "streaming.key" => config.streaming.key = path_or_none(value)?,
        "streaming.client_ca" => config.streaming.client_ca = path_or_none(value)?,
        "streaming.idle_timeout" => config.streaming.idle_timeout = long_seconds(value)?,
        "streaming.creation_timeout" => config.streaming.creation_timeout = seconds(value)?,
        "metrics.address" => {
            config.metrics.address = match string(value)? {
                "" => None,
                text => Some(Address::parse(text, true).map_err(Unfit)?),
            };
        }
        "log.level" => config.log.level = choice(string(value)?)?,
        "log.format" => config.log.format = choice(string(value)?)?,
        // Every name in KEYS is above; the tests set each of them.
        _ => return Err(Unfit(unknown(name))),
    }
    Ok(())
}

fn string<'a>(value: &'a DeValue<'_>) -> Result<&'a str, Unfit> {
    value
        .as_str()
        .ok_or_else(|| Unfit(format!("expected a string, found {}", found(value))))
}

fn boolean(value: &DeValue<'_>) -> Result<bool, Unfit> {
    match value {
        DeValue::Boolean(value) => Ok(*value),
        _ => Err(Unfit(format!(
            "expected true or false, found {}",
            found(value)
        ))),
    }
}

fn path(value: &DeValue<'_>) -> Result<PathBuf, Unfit> {
    absolute(string(value)?)
}

fn strings(value: &DeValue<'_>) -> Result<Vec<String>, Unfit> {
    let DeValue::Array(items) = value else {
        return Err(Unfit(format!(
            "expected a list of strings, found {}",
            found(value)
        )));
    };
    let one = |text: &str| match text.contains('\0') {
        true => Err(Unfit("a string holds a NUL byte".to_owned())),
        false => Ok(text.to_owned()),
    };
    items
        .iter()
        .map(|item| string(item.get_ref()).and_then(one))
        .collect()
}

fn paths(value: &DeValue<'_>) -> Result<Vec<PathBuf>, Unfit> {
    let DeValue::Array(items) = value else {
        return Err(Unfit(format!(
            "expected a list of absolute paths, found {}",
            found(value)
        )));
    };
    items.iter().map(|item| path(item.get_ref())).collect()
}

/// The name of a network interface.
fn interface(text: &str) -> Result<String, Unfit> {
    // The kernel's rule, and what the packet filter's own tools can print.
    let good = (1..=15).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
        && !matches!(text, "." | "..");
    match good {
        true => Ok(text.to_owned()),
        false => Err(Unfit(format!(
            "{text:?} is no name for a bridge: up to 15 letters, digits, _ . and -"
        ))),
    }
}

fn subnets(value: &DeValue<'_>) -> Result<Vec<Subnet>, Unfit> {
    let DeValue::Array(items) = value else {
        return Err(Unfit(format!(
            "expected a list of subnets, found {}",
            found(value)
        )));
    };
    let subnets = items
        .iter()
        .map(|item| Subnet::parse(string(item.get_ref())?).map_err(Unfit))
        .collect::<Result<Vec<_>, _>>()?;
    let of_family = |ipv4: bool| {
        subnets
            .iter()
            .filter(|one| one.address.is_ipv4() == ipv4)
            .count()
    };
    match (of_family(true), of_family(false)) {
        (0, 0) => Err(Unfit(
            "there must be one; default_network = false switches it off".into(),
        )),
        (0 | 1, 0 | 1) => Ok(subnets),
        _ => Err(Unfit(
            "a pod has one address of each family, so one subnet of each".into(),
        )),
    }
}

/// A deadline: one second to an hour.
fn seconds(value: &DeValue<'_>) -> Result<u32, Unfit> {
    seconds_up_to(value, 60 * 60)
}

/// A time that is waited for without anything else waiting: to a week.
fn long_seconds(value: &DeValue<'_>) -> Result<u32, Unfit> {
    seconds_up_to(value, 7 * 24 * 60 * 60)
}

fn seconds_up_to(value: &DeValue<'_>, longest: u32) -> Result<u32, Unfit> {
    let DeValue::Integer(number) = value else {
        return Err(Unfit(format!(
            "expected a number of seconds, found {}",
            found(value)
        )));
    };
    u32::from_str_radix(number.as_str(), number.radix())
        .ok()
        .filter(|seconds| (1..=longest).contains(seconds))
        .ok_or_else(|| {
            Unfit(format!(
                "{} is not between 1 and {longest} seconds",
                number.as_str()
            ))
        })
}

fn absolute(text: &str) -> Result<PathBuf, Unfit> {
    if text.starts_with('/') && !text.contains('\0') {
        Ok(text.into())
    } else {
        Err(Unfit(format!("expected an absolute path, found {text:?}")))
    }
}

fn driver(text: &str) -> Result<CgroupDriver, Unfit> {
    match text {
        "auto" => Ok(CgroupDriver::Auto),
        "cgroupfs" => Ok(CgroupDriver::Cgroupfs),
        "systemd" => Ok(CgroupDriver::Systemd),
        _ => Err(Unfit(format!(
            "{text:?} is not one of \"auto\", \"cgroupfs\", \"systemd\""
        ))),
    }
}

fn seccomp_default(text: &str) -> Result<SeccompDefault, Unfit> {
    match text {
        "unconfined" => Ok(SeccompDefault::Unconfined),
        "runtime-default" => Ok(SeccompDefault::RuntimeDefault),
        _ => Err(Unfit(format!(
            "{text:?} is not one of \"unconfined\", \"runtime-default\""
        ))),
    }
}

/// A path below each hierarchy's root; slashes around it are dropped.
fn cgroup(text: &str) -> Result<String, Unfit> {
    let name = text.trim_matches('/');
    let plain = |part: &str| {
        !part.is_empty()
            && part != "."
            && part != ".."
            && part.len() <= 255
            && !part.contains(|c: char| c.is_control())
    };
    if name.split('/').all(plain) {
        Ok(name.to_owned())
    } else {
        Err(Unfit(format!(
            "{text:?} is not the path of a cgroup such as \"insula\""
        )))
    }
}

/// An address that a URL can name.
fn socket_address(text: &str) -> Result<SocketAddr, Unfit> {
    match text.parse::<SocketAddr>() {
        Ok(address) if !address.ip().is_unspecified() => Ok(address),
        _ => Err(Unfit(format!(
            "{text:?} is not an address and a port such as \"127.0.0.1:0\""
        ))),
    }
}

fn path_or_none(value: &DeValue<'_>) -> Result<PathBuf, Unfit> {
    match string(value)? {
        "" => Ok(PathBuf::new()),
        text => absolute(text),
    }
}

fn choice<T: clap::ValueEnum>(text: &str) -> Result<T, Unfit> {
    T::from_str(text, false).map_err(|_| {
        let names: Vec<_> = T::value_variants()
            .iter()
            .filter_map(clap::ValueEnum::to_possible_value)
            .map(|value| format!("{:?}", value.get_name()))
            .collect();
        Unfit(format!("{text:?} is not one of {}", names.join(", ")))
    })
}

/// Names the key that was probably meant, among all of them: a right key in
/// the wrong section is a common mistake, too.
fn unknown(name: &str) -> String {
    let last = name.rsplit('.').next().unwrap_or(name);
    let nearest = KEYS
        .iter()
        .map(|key| {
            let key_last = key.rsplit('.').next().unwrap_or(key);
            let whole = strsim::damerau_levenshtein(name, key);
            // The last part alone, when the section is another.
            let part = strsim::damerau_levenshtein(last, key_last) + 1;
            (whole.min(part), *key)
        })
        .chain(sections().map(|section| (strsim::damerau_levenshtein(name, section), section)))
        .min_by_key(|(distance, _)| *distance);
    let name: String = name.chars().take(100).collect();
    match nearest {
        Some((distance, key)) if distance <= 3 => {
            format!("unknown key `{name}`, did you mean `{key}`?")
        }
        _ => format!("unknown key `{name}`, there are {}", KEYS.join(", ")),
    }
}

fn sections() -> impl Iterator<Item = &'static str> {
    KEYS.iter()
        .filter_map(|key| key.split_once('.'))
        .map(|(section, _)| section)
        .chain([RUNTIMES])
}

fn is_section(name: &str) -> bool {
    sections().any(|section| section == name)
}

fn found(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a float",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

/// The number of the line that holds a byte, from one.
fn line(text: &str, offset: usize) -> usize {
    let before = text.as_bytes().get(..offset).unwrap_or(text.as_bytes());
    1 + before
        .split(|byte| *byte == b'\n')
        .count()
        .saturating_sub(1)
}

fn one_line(message: &str) -> String {
    message.split_whitespace().collect::<Vec<_>>().join(" ")
}
