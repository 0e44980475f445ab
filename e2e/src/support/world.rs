//! What all tests share: the binaries, a registry with the test images, programs for containers.

use super::network;
use super::outcome::{Outcome, Stop};
use super::programs;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

/// The suite's surroundings.
#[derive(Debug)]
pub struct World {
    /// Holds `insula` and `insula-pod`.
    pub binaries: PathBuf,
    /// Static programs for containers, see [`programs`].
    pub programs: PathBuf,
    /// Scratch directory of this run; each node has one in it.
    pub scratch: PathBuf,
    /// `hosts.toml` files of the registry.
    pub mirrors: PathBuf,
    /// Every image of the registry and its digest.
    pub images: BTreeMap<String, String>,
    /// Directory of `hack/registry`, if this run has started it.
    registry: Option<PathBuf>,
    chains: network::Chains,
    nodes: AtomicU32,
}

// === impl World ===

impl World {
    /// Looks for everything that is promised and starts the registry.
    pub fn new() -> Outcome<Self> {
        if !rustix::process::geteuid().is_root() {
            return Err("the suite makes namespaces, mounts and cgroups: run it as root".into());
        }
        let binaries = std::env::var_os("INSULA_BIN_DIR")
            .map(PathBuf::from)
            .ok_or("INSULA_BIN_DIR is not set: it is the directory that hack/build prints")?;
        for program in ["insula", "insula-pod"] {
            if !binaries.join(program).is_file() {
                return Err(
                    format!("{} has no {program}: run hack/build", binaries.display()).into(),
                );
            }
        }
        let scratch = PathBuf::from(format!("/tmp/insula-e2e-{}", std::process::id()));
        std::fs::create_dir(&scratch)?;
        let (registry, mirrors) = registry(&scratch)?;
        Ok(Self {
            programs: programs::build(&binaries)?,
            images: serde_json::from_str(&hack("images", &["--refs"])?)?,
            chains: network::Chains::now(),
            nodes: AtomicU32::new(std::process::id() % 4096),
            binaries,
            scratch,
            mirrors,
            registry,
        })
    }

    /// A number that no other node of this run has.
    pub fn number(&self) -> u32 {
        self.nodes.fetch_add(1, Ordering::Relaxed)
    }

    /// Stops the registry; gives back what is left of the whole run.
    pub fn end(&self) -> Vec<String> {
        let mut left = Vec::new();
        if let Some(directory) = &self.registry
            && let Err(stop) = hack("registry", &["down", "--dir", &directory.to_string_lossy()])
        {
            left.push(stop.text().to_owned());
        }
        self.chains.remove_new();
        let nodes = std::fs::read_dir(&self.scratch)
            .into_iter()
            .flatten()
            .flatten();
        let kept: Vec<_> = nodes
            .map(|entry| entry.file_name())
            .filter(|name| name != "registry")
            .collect();
        if kept.is_empty() {
            if let Err(error) = std::fs::remove_dir_all(&self.scratch) {
                left.push(format!("{}: {error}", self.scratch.display()));
            }
        } else {
            println!("kept for a look: {} {kept:?}", self.scratch.display());
        }
        left
    }
}

/// The registry's directory, if it was started here, and its `hosts.toml` files.
fn registry(scratch: &Path) -> Outcome<(Option<PathBuf>, PathBuf)> {
    if let Some(running) = std::env::var_os("INSULA_REGISTRY_DIR") {
        return Ok((None, PathBuf::from(running).join("certs.d")));
    }
    let directory = scratch.join("registry");
    let mirrors = hack("registry", &["up", "--dir", &directory.to_string_lossy()])?;
    Ok((Some(directory), PathBuf::from(mirrors.trim())))
}

/// The checkout: INSULA_REPOSITORY where it is not where it was built.
pub fn repository() -> PathBuf {
    std::env::var_os("INSULA_REPOSITORY").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join(".."),
        PathBuf::from,
    )
}

/// Runs a script of `hack/` and gives back what it prints.
fn hack(script: &str, arguments: &[&str]) -> Outcome<String> {
    let program = repository().join("hack").join(script);
    let output = Command::new(&program)
        .args(arguments)
        .stderr(std::process::Stdio::inherit())
        .output()
        .map_err(|error| Stop::Failed(format!("{}: {error}", program.display())))?;
    if !output.status.success() {
        return Err(format!(
            "{} {arguments:?} failed: {}",
            program.display(),
            output.status
        )
        .into());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
