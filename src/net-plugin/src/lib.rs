//! `insula-net`: a network plugin (CNI specification 0.3.0 to 1.1.0) that does in one process of a
//! few milliseconds what the reference plugins `bridge`, `host-local`, `portmap` and `bandwidth` do
//! in four: a bridge, an address, mapped ports, rates.
//!
//! What lives here: the parsing of requests ([`Command`], [`Config`]), the store of addresses and
//! records, the few netlink messages that are needed, and the verbs. No other program is started,
//! and the packet filter is always nftables. One thread; what runs on when it
//! ends is a child in which the kernel forgets a removed link.
//!
//! Its place in a chain decides what it does: the first plugin makes the interface, a later one,
//! which finds a `prevResult`, adds ports and rates only.
#![forbid(unsafe_code)]

mod add;
mod bridge;
mod chained;
mod check;
mod config;
mod del;
mod error;
mod kernel;
mod names;
mod netlink;
mod nft;
mod ports;
mod request;
mod resolver;
mod result;
mod store;
mod version;

pub use crate::config::Config;
pub use crate::error::{Code, Failure};
pub use crate::request::{Args, AttachmentId, Command, Target};

use crate::config::{Identity, object};
use crate::version::VersionAnswer;
use insula_cni::CniVersion;
use serde_json::{Map, Value};
use std::io::Read;

/// The bound on a configuration, in bytes: a runtime may pass a pod's annotations along.
const MAX_INPUT: u64 = 4 << 20;

/// Serves one request: the variables of the environment and standard input. What is to be written
/// to standard output is given either way.
pub fn serve(
    variable: impl Fn(&str) -> Option<String>,
    input: impl Read,
) -> Result<String, String> {
    let mut version = CniVersion::V1_1_0;
    answer(variable, input, &mut version).map_err(|failure| failure.to_json(version.as_str()))
}

fn answer(
    variable: impl Fn(&str) -> Option<String>,
    input: impl Read,
    version: &mut CniVersion,
) -> Result<String, Failure> {
    let command = Command::parse(variable)?;
    if command == Command::Version {
        return Ok(serde_json::to_string(&VersionAnswer::new()).unwrap_or_default());
    }
    let object = read(input)?;
    *version = config::version_of(&object)?;
    requires(&command, *version)?;
    let nothing = |()| String::new();
    match command {
        Command::Add(target) => add::add(&Config::from_object(object)?, &target),
        Command::Del(target) => del::del(&Identity::parse(&object)?, &target.id).map(nothing),
        Command::Check(target) => check::check(&Config::from_object(object)?, &target).map(nothing),
        Command::Gc => del::gc(&Identity::parse(&object)?).map(nothing),
        Command::Status => {
            let later = declares(&object, "ipRanges");
            check::status(&Config::from_object(object)?, later).map(nothing)
        }
        Command::Version => Ok(String::new()),
    }
}

fn read(input: impl Read) -> Result<Map<String, Value>, Failure> {
    let mut bytes = Vec::new();
    input
        .take(MAX_INPUT + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| {
            Failure::io("cannot read the configuration from standard input", &error)
        })?;
    if bytes.len() as u64 > MAX_INPUT {
        return Err(Failure::new(
            Code::Decoding,
            format!("the network configuration is larger than {MAX_INPUT} bytes"),
            "leave out what no plugin needs",
        ));
    }
    object(&bytes)
}

/// CHECK came with 0.4.0, STATUS and GC with 1.1.0.
fn requires(command: &Command, version: CniVersion) -> Result<(), Failure> {
    let needed = match command {
        Command::Check(_) => CniVersion::V0_4_0,
        Command::Gc | Command::Status => CniVersion::V1_1_0,
        _ => return Ok(()),
    };
    if version >= needed {
        return Ok(());
    }
    Err(Failure::new(
        Code::IncompatibleVersion,
        format!("cniVersion {} has no such command", version.as_str()),
        format!("it came with {}", needed.as_str()),
    ))
}

fn declares(object: &Map<String, Value>, capability: &str) -> bool {
    let declared = object
        .get("capabilities")
        .and_then(|all| all.get(capability));
    declared == Some(&Value::Bool(true))
}
