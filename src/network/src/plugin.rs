//! Finding a plugin and asking it something.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{Access, access};
use serde::Deserialize;

use crate::conf::PluginType;
use crate::default::OWN_PLUGIN;
use crate::error::{Error, PluginFailure, Result, Verb};
use crate::process::{self, Failed, Finished, Run};

/// Where programs are looked for by plugins, if our own environment does not say.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A question to a plugin.
#[derive(Debug)]
pub(crate) struct Question<'a> {
    pub(crate) plugin: &'a PluginType,
    pub(crate) verb: Verb,
    /// The network's name, for messages.
    pub(crate) network: &'a str,
    /// The configuration, in JSON.
    pub(crate) stdin: Vec<u8>,
    /// For which sandbox; none for STATUS, GC and VERSION.
    pub(crate) target: Option<&'a Target>,
    pub(crate) deadline: Duration,
}

/// The parameters of ADD, DEL and CHECK.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) container_id: String,
    /// Empty if it is gone.
    pub(crate) netns: PathBuf,
    pub(crate) interface: String,
    pub(crate) args: String,
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) stdout: Vec<u8>,
    pub(crate) took: Duration,
}

/// Where plugins are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Programs<'a> {
    /// Searched in order.
    pub(crate) bin_dirs: &'a [PathBuf],
    /// The daemon's own, which counts before those.
    pub(crate) own: Option<&'a Path>,
}

impl Programs<'_> {
    /// The file of plugin `kind`: the first executable of that name.
    pub(crate) fn locate(self, kind: &PluginType) -> Result<PathBuf> {
        let own = self.own.filter(|_| kind.as_str() == OWN_PLUGIN);
        let in_dirs = self.bin_dirs.iter().map(|dir| dir.join(kind.as_str()));
        own.map(Path::to_owned)
            .into_iter()
            .chain(in_dirs)
            .find(|file| file.is_file() && access(file, Access::EXEC_OK).is_ok())
            .ok_or_else(|| Error::PluginMissing {
                plugin: kind.to_string(),
                bin_dirs: self.bin_dirs.to_vec(),
            })
    }
}

/// Asks, and reads the answer.
pub(crate) async fn ask(question: Question<'_>, programs: Programs<'_>) -> Result<Answer> {
    let program = programs.locate(question.plugin)?;
    let verb = question.verb;
    let plugin = question.plugin.to_string();
    let network = question.network.to_owned();
    tracing::debug!(plugin, %verb, network, "CNI plugin starts");
    let run = Run {
        environment: environment(&question, programs.bin_dirs)?,
        program: program.clone(),
        stdin: question.stdin,
        deadline: question.deadline,
    };
    let finished = process::run(run).await.map_err(|failed| match failed {
        Failed::Start(source) => Error::PluginStart {
            program,
            verb,
            source,
        },
        Failed::Timeout { after, stderr } => Error::PluginTimeout {
            plugin: plugin.clone(),
            verb,
            network: network.clone(),
            after,
            stderr: first_lines(&stderr),
        },
        Failed::Output(error) => Error::BadAnswer {
            plugin: plugin.clone(),
            verb,
            network: network.clone(),
            why: error.to_string(),
        },
    })?;
    tracing::debug!(plugin, %verb, network, milliseconds = finished.took.as_millis(), status = %finished.status, "CNI plugin ended");
    if finished.status.success() {
        return Ok(Answer {
            stdout: finished.stdout,
            took: finished.took,
        });
    }
    let failure = failure(plugin, verb, network, &finished);
    Err(Error::PluginFailed(Box::new(failure)))
}

fn environment(
    question: &Question<'_>,
    bin_dirs: &[PathBuf],
) -> Result<Vec<(&'static str, OsString)>> {
    let cni_path = env::join_paths(bin_dirs).map_err(|_| {
        Error::InvalidAttachment("a plugin directory has ':' in its name".to_owned())
    })?;
    let mut environment = vec![
        ("CNI_COMMAND", question.verb.as_str().into()),
        ("CNI_PATH", cni_path),
        (
            "PATH",
            env::var_os("PATH").unwrap_or_else(|| DEFAULT_PATH.into()),
        ),
    ];
    if let Some(target) = question.target {
        environment.extend([
            ("CNI_CONTAINERID", OsString::from(&target.container_id)),
            ("CNI_NETNS", target.netns.clone().into_os_string()),
            ("CNI_IFNAME", OsString::from(&target.interface)),
            ("CNI_ARGS", OsString::from(&target.args)),
        ]);
    }
    Ok(environment)
}

/// The error object that a failing plugin writes to its standard output.
#[derive(Deserialize)]
struct ErrorObject {
    code: Option<u32>,
    #[serde(default)]
    msg: String,
    details: Option<String>,
}

fn failure(plugin: String, verb: Verb, network: String, finished: &Finished) -> PluginFailure {
    let stderr = first_lines(&finished.stderr);
    let said = serde_json::from_slice::<ErrorObject>(&finished.stdout)
        .ok()
        .filter(|said| said.code.is_some() || !said.msg.is_empty());
    let (code, message, details) = said.map_or_else(
        // Scripts and crashing plugins write whatever they like.
        || {
            let message = format!("it ended with {}", finished.status);
            (None, message, first_lines(&finished.stdout))
        },
        |said| {
            let details = said.details.as_deref().map(printable);
            (said.code, printable(&said.msg), details.unwrap_or_default())
        },
    );
    PluginFailure {
        plugin,
        verb,
        network,
        code,
        message,
        details,
        stderr,
        after: finished.took,
    }
}

/// The first lines of what a plugin wrote, safe for a terminal.
fn first_lines(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let lines: Vec<_> = text
        .lines()
        .filter(|line| !line.trim().is_empty())
        .take(4)
        .collect();
    printable(&lines.join(" | "))
}

/// At most 1,000 characters, controls escaped.
fn printable(text: &str) -> String {
    let mut printable = String::new();
    for character in text.trim().chars() {
        if printable.len() >= 1_000 {
            printable.push('…');
            break;
        }
        if character.is_control() && character != '\t' {
            printable.extend(character.escape_default());
        } else {
            printable.push(character);
        }
    }
    printable
}

/// Whether `path` is a network namespace, or any other: a file of nsfs (namespaces(7)).
pub(crate) fn is_namespace(path: &Path) -> bool {
    /// `NSFS_MAGIC` of linux/magic.h.
    const NSFS_MAGIC: u64 = 0x6e73_6673;
    rustix::fs::statfs(path).is_ok_and(|found| u64::try_from(found.f_type) == Ok(NSFS_MAGIC))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{failure, first_lines};
    use crate::error::Verb;
    use crate::process::Finished;

    #[test]
    fn failures_say_what_the_plugin_said() {
        use std::os::unix::process::ExitStatusExt;
        for (stdout, stderr, expected) in [
            (
                r#"{"code":11,"msg":"busy","details":"lease held"}"#,
                "",
                r#"CNI plugin "p" failed ADD for network "n" after 0.00 s (code 11, try again later): busy; lease held"#,
            ),
            (
                "",
                "boom\n\nat line 3\n",
                r#"CNI plugin "p" failed ADD for network "n" after 0.00 s: it ended with exit status: 1; it wrote: boom | at line 3"#,
            ),
            (
                "not json\u{1b}[31m",
                "",
                r#"CNI plugin "p" failed ADD for network "n" after 0.00 s: it ended with exit status: 1; not json\u{1b}[31m"#,
            ),
        ] {
            let finished = Finished {
                status: std::process::ExitStatus::from_raw(0x100),
                stdout: stdout.into(),
                stderr: stderr.into(),
                took: Duration::ZERO,
            };
            let failure = failure("p".into(), Verb::Add, "n".into(), &finished);
            assert_eq!(failure.to_string(), expected);
        }
    }

    #[test]
    fn what_plugins_write_is_cut() {
        assert!(first_lines(&vec![b'x'; 100_000]).chars().count() <= 1_001);
        assert_eq!(first_lines(b"1\n2\n3\n4\n5\n"), "1 | 2 | 3 | 4");
        assert_eq!(first_lines(&[0xff, b'a']), "\u{fffd}a");
    }
}
