//! Is the network ready?

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use serde::Deserialize;

use super::Network;
use crate::chain::Means;
use crate::conf::{Loaded, NetworkConf, PluginConf};
use crate::config::NetworkConfig;
use crate::error::{Error, Result, Verb};
use crate::turns::lock;

/// The longest that VERSION and STATUS may take: kubelet waits for the answer.
const QUICK: Duration = Duration::from_secs(10);

/// Whether pods can get a network now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NetworkStatus {
    /// They can.
    Ready,
    /// They cannot.
    NotReady {
        /// What is wrong and what to do, for a person.
        message: String,
    },
}

impl NetworkStatus {
    /// The reason that kubelet shows when the network is not ready; empty if it is.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Ready => "",
            Self::NotReady { .. } => "NetworkPluginNotReady",
        }
    }

    /// What is wrong and what to do; empty if the network is ready.
    pub fn message(&self) -> &str {
        match self {
            Self::Ready => "",
            Self::NotReady { message } => message,
        }
    }

    /// Whether pods can get a network now.
    pub fn is_ready(&self) -> bool {
        matches!(self, Self::Ready)
    }
}

/// Identity of a program: path, device, inode, size, and time of change.
type Program = (PathBuf, u64, u64, u64, i64, i64);

/// What the plugins were asked, and when.
#[derive(Debug, Default)]
pub(crate) struct Poll {
    /// Held while plugins are asked.
    asking: tokio::sync::Mutex<HashMap<Program, Vec<String>>>,
    last: Mutex<Option<Asked>>,
}

#[derive(Clone, Debug)]
struct Asked {
    /// About which configuration.
    about: String,
    at: Instant,
    /// `None` if all is well.
    problem: Option<String>,
    /// Since when it is not well, after it was well.
    failing_since: Option<Instant>,
}

impl Asked {
    /// A failure after a success counts only when it has lasted for `grace`.
    fn status(&self, grace: Duration) -> NetworkStatus {
        match (&self.problem, self.failing_since) {
            (None, _) => NetworkStatus::Ready,
            (Some(_), Some(since)) if self.at.duration_since(since) < grace => NetworkStatus::Ready,
            (Some(message), _) => NetworkStatus::NotReady {
                message: message.clone(),
            },
        }
    }

    /// The state after `problem` was found, or not, at `at`.
    fn after(previous: Option<&Self>, about: String, at: Instant, problem: Option<String>) -> Self {
        let previous = previous.filter(|asked| asked.about == about);
        let failing_since = match (&problem, previous) {
            (None, _) | (Some(_), None) => None,
            (Some(_), Some(asked)) => match asked.problem {
                None => Some(at),
                Some(_) => asked.failing_since,
            },
        };
        Self {
            about,
            at,
            problem,
            failing_since,
        }
    }
}

impl Network {
    /// Whether pods can get a network now: a configuration is there, its plugins are there and
    /// speak its version, and those of a 1.1.0 network answer STATUS.
    ///
    /// Directories and files are looked at each time. The plugins are asked at most once per
    /// `status_interval`, and a failing STATUS counts when it has lasted for `status_grace`, for a
    /// node must not go down because of one flap.
    pub async fn status(&self) -> NetworkStatus {
        match self.ready().await {
            Ok(status) => status,
            Err(error) => NetworkStatus::NotReady {
                message: error.to_string(),
            },
        }
    }

    async fn ready(&self) -> Result<NetworkStatus> {
        let config = &self.0.config;
        let Loaded { conf, .. } = self.load().await?;
        for kind in conf
            .plugins
            .iter()
            .flat_map(|plugin| [Some(&plugin.kind), plugin.ipam.as_ref()])
            .flatten()
        {
            config.programs().locate(kind)?;
        }
        let about = serde_json::to_string(&conf)
            .map_err(|error| Error::InvalidAttachment(error.to_string()))?;
        let known = || {
            lock(&self.0.poll.last)
                .clone()
                .filter(|asked| asked.about == about)
        };
        let fresh = |asked: &Asked| asked.at.elapsed() < config.status_interval;
        if let Some(asked) = known().filter(fresh) {
            return Ok(asked.status(config.status_grace));
        }
        let mut versions = match (self.0.poll.asking.try_lock(), known()) {
            (Ok(versions), _) => versions,
            // Somebody is asking. Who has an older answer gets that, for a plugin may hang.
            (Err(_), Some(asked)) => return Ok(asked.status(config.status_grace)),
            (Err(_), None) => self.0.poll.asking.lock().await,
        };
        if let Some(asked) = known().filter(fresh) {
            return Ok(asked.status(config.status_grace));
        }
        let problem = ask_all(config, &conf, &mut versions).await.err();
        if let Some(error) = &problem {
            tracing::warn!(network = conf.name, %error, "CNI plugins are not ready");
        }
        let mut last = lock(&self.0.poll.last);
        let problem = problem.map(|error| error.to_string());
        let asked = Asked::after(last.as_ref(), about.clone(), Instant::now(), problem);
        let status = asked.status(config.status_grace);
        *last = Some(asked);
        Ok(status)
    }
}

/// VERSION and STATUS of each plugin.
async fn ask_all(
    config: &NetworkConfig,
    conf: &NetworkConf,
    versions: &mut HashMap<Program, Vec<String>>,
) -> Result<()> {
    let means = Means {
        programs: config.programs(),
        deadline: config.plugin_deadline.min(QUICK),
    };
    let mut current = HashMap::new();
    for plugin in &conf.plugins {
        let program = identify(&means.programs.locate(&plugin.kind)?)?;
        let spoken = match versions.remove(&program) {
            Some(spoken) => spoken,
            None => spoken_versions(means, conf, plugin).await,
        };
        let speaks = spoken.is_empty()
            || spoken
                .iter()
                .any(|version| version == conf.version.as_str());
        let error = (!speaks).then(|| Error::BadAnswer {
            plugin: plugin.kind.to_string(),
            verb: Verb::Version,
            network: conf.name.clone(),
            why: format!(
                "it speaks {}, but the configuration says cniVersion {}: change that or install a newer plugin",
                spoken.join(", "),
                conf.version
            ),
        });
        current.insert(program, spoken);
        if let Some(error) = error {
            return Err(error);
        }
    }
    *versions = current;
    if conf.version.has_status_and_gc() {
        for plugin in &conf.plugins {
            means.of_network(conf, plugin, Verb::Status, &[]).await?;
        }
    }
    Ok(())
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct VersionAnswer {
    supported_versions: Vec<String>,
}

/// The versions a plugin says it speaks; none if it does not say. Only a plugin that says it does
/// not speak a version is refused: scripts often leave VERSION out.
async fn spoken_versions(means: Means<'_>, conf: &NetworkConf, plugin: &PluginConf) -> Vec<String> {
    let answer = match means.of_network(conf, plugin, Verb::Version, &[]).await {
        Ok(answer) => answer,
        Err(error) => {
            tracing::warn!(plugin = %plugin.kind, %error, "CNI VERSION failed");
            return Vec::new();
        }
    };
    match serde_json::from_slice::<VersionAnswer>(&answer.stdout) {
        Ok(answer) => answer.supported_versions,
        Err(error) => {
            tracing::warn!(plugin = %plugin.kind, %error, "CNI VERSION gave no versions");
            Vec::new()
        }
    }
}

fn identify(path: &Path) -> Result<Program> {
    let found = std::fs::metadata(path)
        .map_err(|source| Error::io("cannot stat CNI plugin", path, source))?;
    Ok((
        path.to_owned(),
        found.dev(),
        found.ino(),
        found.size(),
        found.ctime(),
        found.ctime_nsec(),
    ))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::Asked;

    #[test]
    fn a_flap_is_forgiven_and_an_outage_is_not() {
        let begin = Instant::now();
        let grace = Duration::from_secs(10);
        // Seconds, whether STATUS failed, whether the network is ready then.
        let table = [
            (0, true, false),
            (5, false, true),
            (10, true, true),
            (15, false, true),
            (20, true, true),
            (25, true, true),
            (30, true, false),
            (35, true, false),
            (40, false, true),
        ];
        let mut asked: Option<Asked> = None;
        for (second, fails, ready) in table {
            let problem = fails.then(|| "down".to_owned());
            let at = begin + Duration::from_secs(second);
            let next = Asked::after(asked.as_ref(), "conf".to_owned(), at, problem);
            assert_eq!(next.status(grace).is_ready(), ready, "at {second}");
            asked = Some(next);
        }
        // Another configuration gets no credit.
        let next = Asked::after(
            asked.as_ref(),
            "other".to_owned(),
            begin,
            Some("down".into()),
        );
        assert!(!next.status(grace).is_ready());
    }
}
