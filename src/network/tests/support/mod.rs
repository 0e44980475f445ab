//! Fake plugins: shell scripts that record what they were asked and do as they are told.
#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use insula_network::{Attachment, Network, NetworkConfig, PodIdentity};
use tempfile::TempDir;

/// A result that a fake plugin prints: with a key of its own and a number that no f64 keeps.
pub(crate) const RESULT: &str = r#"{"cniVersion":"1.0.0","interfaces":[{"name":"eth0","sandbox":"/n"}],"ips":[{"address":"10.9.0.2/24","interface":0}],"own":12345678901234567890123}"#;

/// A node of our own: its directories, and its plugins.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) dir: TempDir,
    pub(crate) config: NetworkConfig,
}

impl Node {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut config = NetworkConfig::new(dir.path().join("state"));
        config.conf_dir = dir.path().join("net.d");
        config.bin_dirs = vec![dir.path().join("empty"), dir.path().join("bin")];
        for name in ["net.d", "empty", "bin", "log"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        Self { dir, config }
    }

    pub(crate) async fn open(&self) -> Network {
        Network::open(self.config.clone()).await.unwrap()
    }

    /// Writes `10-test.conflist` for network `net`.
    pub(crate) fn configure(&self, version: &str, plugins: &str) {
        let text = format!(r#"{{"cniVersion":"{version}","name":"net","plugins":[{plugins}]}}"#);
        self.write_conf("10-test.conflist", &text);
    }

    pub(crate) fn write_conf(&self, name: &str, text: &str) {
        fs::write(self.config.conf_dir.join(name), text).unwrap();
    }

    /// Installs a plugin that records its call and then runs `script`, a body for
    /// `case "$CNI_COMMAND" in … esac`.
    pub(crate) fn plugin(&self, name: &str, script: &str) {
        let log = self.dir.path().join("log");
        let log = log.display();
        let text = format!(
            "#!/bin/sh\n\
             echo \"{name} $CNI_COMMAND\" >> {log}/order\n\
             env > {log}/{name}.$CNI_COMMAND.env\n\
             cat > {log}/{name}.$CNI_COMMAND.stdin\n\
             LOG={log}\n\
             RESULT='{RESULT}'\n\
             case \"$CNI_COMMAND\" in\n{script}\nesac\n"
        );
        let path = self.dir.path().join("bin").join(name);
        let temporary = self.dir.path().join(format!("new-{name}"));
        fs::write(&temporary, text).unwrap();
        fs::set_permissions(&temporary, fs::Permissions::from_mode(0o755)).unwrap();
        fs::rename(temporary, path).unwrap();
    }

    /// What a plugin was last given, `what` being `env` or `stdin`; `None` if it was not asked.
    pub(crate) fn seen(&self, plugin: &str, verb: &str, what: &str) -> Option<String> {
        fs::read_to_string(self.log(&format!("{plugin}.{verb}.{what}"))).ok()
    }

    pub(crate) fn variable(&self, plugin: &str, verb: &str, name: &str) -> Option<String> {
        self.seen(plugin, verb, "env")?
            .lines()
            .find_map(|line| Some(line.strip_prefix(name)?.strip_prefix('=')?.to_owned()))
    }

    pub(crate) fn log(&self, name: &str) -> PathBuf {
        self.dir.path().join("log").join(name)
    }

    /// Calls so far, without VERSION; and forgets them.
    pub(crate) fn order(&self) -> Vec<String> {
        let text = fs::read_to_string(self.log("order")).unwrap_or_default();
        let _ = fs::remove_file(self.log("order"));
        text.lines()
            .filter(|line| !line.ends_with(" VERSION"))
            .map(str::to_owned)
            .collect()
    }

    /// Names of files in the state directory.
    pub(crate) fn records(&self) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(&self.config.state_dir)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }
}

/// A sandbox whose network namespace is the test's own: fake plugins leave it alone.
pub(crate) fn sandbox(id: &str) -> Attachment {
    Attachment {
        container_id: id.to_owned(),
        netns: "/proc/self/ns/net".into(),
        pod: PodIdentity {
            namespace: "default".into(),
            name: "web".into(),
            uid: "u-1".into(),
        },
        port_mappings: Vec::new(),
        bandwidth: None,
        dns: None,
        cgroup_path: None,
        annotations: std::collections::BTreeMap::new(),
    }
}
