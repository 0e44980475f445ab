//! What the runtime asks: the parameters that come by environment variables (CNI specification
//! 1.1.0, section 2).

use crate::error::{Code, Failure};
use crate::kernel::link::Mac;
use insula_cni::Cidr;
use std::net::IpAddr;
use std::path::PathBuf;

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Attach a container.
    Add(Target),
    /// Undo that.
    Del(Target),
    /// Is it as ADD left it?
    Check(Target),
    /// Undo what belongs to no attachment any more.
    Gc,
    /// Would ADD succeed?
    Status,
    /// Which versions are spoken?
    Version,
}

/// An attachment: one interface of one container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// `CNI_CONTAINERID` and `CNI_IFNAME`.
    pub id: AttachmentId,
    /// `CNI_NETNS`; none if the runtime says that it is gone.
    pub netns: Option<PathBuf>,
    /// What `CNI_ARGS` asks for.
    pub args: Args,
}

/// Names an attachment within a network.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AttachmentId {
    container: String,
    interface: String,
}

/// The keys of `CNI_ARGS` that concern us.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Args {
    /// `IP`: addresses to be given, a list with commas.
    pub ips: Vec<IpAddr>,
    /// `MAC`: the hardware address of the pod's interface.
    pub mac: Option<Mac>,
}

/// The longest container id: it becomes part of a file's name.
const LONGEST_ID: usize = 200;
/// The longest name of an interface, `IFNAMSIZ` without its NUL.
pub(crate) const LONGEST_INTERFACE: usize = 15;

// === impl Command ===

impl Command {
    /// Reads the environment, of which `variable` knows the values.
    pub fn parse(variable: impl Fn(&str) -> Option<String>) -> Result<Self, Failure> {
        let text = |name: &str| variable(name).unwrap_or_default();
        let command = text("CNI_COMMAND");
        let target = |needs_netns: bool| {
            let netns = Some(text("CNI_NETNS")).filter(|path| !path.is_empty());
            if needs_netns && netns.is_none() {
                return Err(Failure::environment(format!(
                    "CNI_NETNS is empty, and {command} needs the pod's network namespace"
                )));
            }
            Ok(Target {
                id: AttachmentId::parse(&text("CNI_CONTAINERID"), &text("CNI_IFNAME"))
                    .map_err(Failure::environment)?,
                netns: netns.map(PathBuf::from),
                args: Args::parse(&text("CNI_ARGS"))?,
            })
        };
        Ok(match command.as_str() {
            "ADD" => Self::Add(target(true)?),
            "DEL" => Self::Del(target(false)?),
            "CHECK" => Self::Check(target(true)?),
            "GC" => Self::Gc,
            "STATUS" => Self::Status,
            "VERSION" => Self::Version,
            "" => {
                return Err(Failure::environment(
                    "CNI_COMMAND is missing: this is a CNI plugin, run by a container runtime",
                ));
            }
            other => {
                return Err(Failure::environment(format!(
                    "CNI_COMMAND is {other:?}, not ADD, DEL, CHECK, GC, STATUS or VERSION"
                )));
            }
        })
    }
}

// === impl AttachmentId ===

impl AttachmentId {
    /// Checks both names; the error says what is wrong.
    pub fn parse(container: &str, interface: &str) -> Result<Self, String> {
        let mut bytes = container.bytes();
        let identifier = bytes
            .next()
            .is_some_and(|first| first.is_ascii_alphanumeric())
            && bytes.all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte));
        if !identifier || container.len() > LONGEST_ID {
            return Err(format!(
                "CNI_CONTAINERID {container:?} must begin with a letter or digit, hold only these \
                 and _ . -, and have at most {LONGEST_ID} characters"
            ));
        }
        interface_name(interface).map_err(|why| format!("CNI_IFNAME {why}"))?;
        Ok(Self {
            container: container.to_owned(),
            interface: interface.to_owned(),
        })
    }

    /// The container's id.
    pub fn container(&self) -> &str {
        &self.container
    }

    /// The name of the interface in the container.
    pub fn interface(&self) -> &str {
        &self.interface
    }
}

/// The kernel's rules for a name (`dev_valid_name`); the error says what is wrong with it.
pub(crate) fn interface_name(name: &str) -> Result<(), String> {
    let fits = !name.is_empty() && name.len() <= LONGEST_INTERFACE && !matches!(name, "." | "..");
    let clean = name
        .bytes()
        .all(|byte| byte.is_ascii_graphic() && !b"/:%\"".contains(&byte));
    if fits && clean {
        Ok(())
    } else {
        Err(format!(
            "{name:?} is no name for an interface: 1 to {LONGEST_INTERFACE} characters without \
             blanks, / : % and quotes"
        ))
    }
}

// === impl Args ===

impl Args {
    /// Reads `KEY=VALUE;...`. Keys that are not ours are an error, unless `IgnoreUnknown` is true
    /// (CNI conventions, "CNI_ARGS").
    fn parse(text: &str) -> Result<Self, Failure> {
        let wrong = |why: String| Failure::environment(format!("CNI_ARGS: {why}"));
        let mut args = Self::default();
        let mut unknown = None;
        let mut ignore_unknown = false;
        for pair in text.split(';').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair
                .split_once('=')
                .ok_or_else(|| wrong(format!("{pair:?} is not KEY=VALUE")))?;
            match key {
                "IgnoreUnknown" => ignore_unknown = is_true(value).map_err(wrong)?,
                "IP" => {
                    for address in value.split(',') {
                        args.ips.push(requested(address).map_err(wrong)?);
                    }
                }
                "MAC" => args.mac = Some(value.parse().map_err(wrong)?),
                _ => unknown = unknown.or(Some(key)),
            }
        }
        match unknown {
            Some(key) if !ignore_unknown => Err(Failure::new(
                Code::InvalidEnvironment,
                format!("CNI_ARGS: {key:?} is not known"),
                "insula-net knows IP and MAC; IgnoreUnknown=1 lets others pass",
            )),
            _ => Ok(args),
        }
    }
}

fn is_true(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "1" | "true" | "t" | "yes" => Ok(true),
        "0" | "false" | "f" | "no" => Ok(false),
        _ => Err(format!("IgnoreUnknown is {text:?}, not true or false")),
    }
}

/// An address that is asked for; a prefix behind it is allowed and means nothing.
pub(crate) fn requested(text: &str) -> Result<IpAddr, String> {
    match text.parse::<Cidr>() {
        Ok(cidr) => Ok(cidr.address),
        Err(_) => text
            .parse()
            .map_err(|_| format!("{text:?} is not an address")),
    }
}

#[cfg(test)]
mod tests {
    use super::{AttachmentId, Command};
    use crate::error::Code;

    fn parse(variables: &[(&str, &str)]) -> Result<Command, crate::error::Failure> {
        Command::parse(|name| {
            let found = variables.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    const POD: &[(&str, &str)] = &[("CNI_CONTAINERID", "c1"), ("CNI_IFNAME", "eth0")];

    #[test]
    fn commands_have_the_parameters_they_need() {
        // Variables beside the container's, whether they will do.
        let table: &[(&[(&str, &str)], bool)] = &[
            (&[("CNI_COMMAND", "ADD"), ("CNI_NETNS", "/run/n")], true),
            (&[("CNI_COMMAND", "ADD")], false),
            (&[("CNI_COMMAND", "CHECK")], false),
            (&[("CNI_COMMAND", "DEL")], true),
            (&[("CNI_COMMAND", "add"), ("CNI_NETNS", "/run/n")], false),
            (&[], false),
        ];
        for (variables, good) in table {
            let all: Vec<_> = variables.iter().chain(POD).copied().collect();
            let parsed = parse(&all);
            assert_eq!(parsed.is_ok(), *good, "{variables:?}: {parsed:?}");
            if let Err(failure) = parsed {
                assert_eq!(failure.code, Code::InvalidEnvironment);
            }
        }
        for command in ["GC", "STATUS", "VERSION"] {
            assert!(parse(&[("CNI_COMMAND", command)]).is_ok(), "{command}");
        }
    }

    #[test]
    fn names_that_would_be_paths_are_refused() {
        for (container, interface) in [
            ("", "eth0"),
            ("../x", "eth0"),
            ("a/b", "eth0"),
            ("c1", ""),
            ("c1", ".."),
            ("c1", "a/b"),
            ("c1", "a b"),
            ("c1", "sixteen-letters-"),
            ("c1", "eth0:1"),
            (&*"x".repeat(201), "eth0"),
        ] {
            assert!(
                AttachmentId::parse(container, interface).is_err(),
                "{container} {interface}"
            );
        }
        assert!(AttachmentId::parse("a.B_c-9", "net1.5@x").is_ok());
    }

    #[test]
    fn arguments_are_known_or_said_to_be_ignored() {
        let del = |args: &str| {
            let variables = [("CNI_COMMAND", "DEL"), ("CNI_ARGS", args), POD[0], POD[1]];
            parse(&variables)
        };
        for good in [
            "",
            "IP=10.1.2.3",
            "IP=10.1.2.3/24,fd00::5;MAC=c2:00:00:00:00:01",
            "IgnoreUnknown=1;K8S_POD_NAME=x",
            "K8S_POD_NAME=x;IgnoreUnknown=true",
        ] {
            assert!(del(good).is_ok(), "{good}");
        }
        for bad in [
            "IP",
            "IP=x",
            "MAC=1",
            "K8S_POD_NAME=x",
            "IgnoreUnknown=0;A=b",
            "IgnoreUnknown=maybe",
        ] {
            assert!(del(bad).is_err(), "{bad}");
        }
    }
}
