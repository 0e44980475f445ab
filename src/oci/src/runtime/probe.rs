//! Asking a runtime's program what it is.

use super::features::{self, Features, FeaturesError};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::MemfdFlags;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};
use std::fs::File;
use std::io::{self, Read as _, Seek as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// The whole environment of a runtime's program.
pub const ENVIRONMENT: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Runtimes that make their containers of Linux namespaces, also those versions
/// that cannot say so: `features` came with crun 1.8.6 and runc 1.1.
const NAMESPACED: &[&str] = &["crun", "runc", "youki"];

/// Runtimes whose containers are processes of a kernel of their own in user space,
/// whatever namespaces their `features` name: those are around that kernel.
const SANDBOXED: &[&str] = &["runsc"];

/// Most of a version or an error that is shown.
const MAX_LINE: usize = 200;

/// What a runtime's program says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// The first line of `RUNTIME --version`, such as `runc version 1.1.5`.
    pub version: String,
    /// What it can do; `None` where it has no such command.
    pub features: Option<Features>,
}

/// What a runtime's containers are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Containers {
    /// Processes in Linux namespaces, which a further process can join.
    Namespaces,
    /// Processes in a sandbox, for which the runtime has to be asked.
    Sandbox,
}

/// A program is of no use as a runtime.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// It cannot be executed.
    #[error("{}: {error}", path.display())]
    Start {
        /// The program.
        path: PathBuf,
        /// The system's answer.
        error: io::Error,
    },
    /// It did not end in time and was killed.
    #[error("`{command}` did not end within {after:?}")]
    Timeout {
        /// The program with its arguments.
        command: String,
        /// How long it was waited for.
        after: Duration,
    },
    /// It does not even tell its version.
    #[error("`{command}` failed ({status}): {words}")]
    Failed {
        /// The program with its arguments.
        command: String,
        /// How it ended.
        status: ExitStatus,
        /// What it said, shortened.
        words: String,
    },
    /// Its features are not understood.
    #[error("`{command}` printed no features: {error}")]
    Features {
        /// The program with its arguments.
        command: String,
        /// What is wrong with them.
        error: FeaturesError,
    },
}

/// One run of the program.
struct Run {
    command: String,
    status: ExitStatus,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

// === impl Facts ===

impl Facts {
    /// What its containers are, where that is known.
    pub fn containers(&self) -> Option<Containers> {
        let name = self.version.split_whitespace().next().unwrap_or_default();
        let namespaced = match &self.features {
            Some(features) => features.namespaces,
            None => NAMESPACED.contains(&name),
        };
        match namespaced {
            _ if SANDBOXED.contains(&name) => Some(Containers::Sandbox),
            true => Some(Containers::Namespaces),
            false => None,
        }
    }
}

/// Asks a program for its version and its features. Both answers have to come
/// within the deadline. A program that does not know the command `features` has
/// none that are known.
pub fn probe(path: &Path, deadline: Duration) -> Result<Facts, ProbeError> {
    let until = Instant::now() + deadline;
    let version = run(path, "--version", until)?;
    if !version.status.success() {
        return Err(ProbeError::Failed {
            words: line(&version.stderr),
            command: version.command,
            status: version.status,
        });
    }
    let answer = run(path, "features", until)?;
    let features = match answer.status.success() {
        true => Some(
            Features::parse(&answer.stdout).map_err(|error| ProbeError::Features {
                command: answer.command,
                error,
            })?,
        ),
        false => None,
    };
    Ok(Facts {
        version: line(&version.stdout),
        features,
    })
}

fn run(path: &Path, verb: &str, until: Instant) -> Result<Run, ProbeError> {
    let begun = Instant::now();
    let failed = |error: io::Error| ProbeError::Start {
        path: path.to_owned(),
        error,
    };
    // Files need nobody who reads while it writes.
    let memory = |name: &str| {
        rustix::fs::memfd_create(name, MemfdFlags::CLOEXEC)
            .map(File::from)
            .map_err(|errno| failed(errno.into()))
    };
    let (stdout, stderr) = (memory("stdout")?, memory("stderr")?);
    let (name, value) = ENVIRONMENT.split_once('=').unwrap_or_default();
    let mut child = Command::new(path)
        .arg(verb)
        .env_clear()
        .env(name, value)
        .current_dir("/")
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(stdout.try_clone().map_err(failed)?)
        .stderr(stderr.try_clone().map_err(failed)?)
        .spawn()
        .map_err(failed)?;
    let command = format!("{} {verb}", path.display());
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    if !pid.is_some_and(|pid| ends(pid, until)) {
        if let Some(pid) = pid {
            // It is not reaped yet, so the id is still its own.
            let _ = kill_process_group(pid, Signal::KILL);
        }
        child.wait().map_err(failed)?;
        return Err(ProbeError::Timeout {
            command,
            after: begun.elapsed(),
        });
    }
    let status = child.wait().map_err(failed)?;
    Ok(Run {
        command,
        status,
        stdout: content(stdout).map_err(failed)?,
        stderr: content(stderr).map_err(failed)?,
    })
}

/// Waits for a process; `false` if it takes too long.
fn ends(pid: Pid, until: Instant) -> bool {
    let Ok(pidfd) = pidfd_open(pid, PidfdFlags::empty()) else {
        return false;
    };
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let timeout = Timespec {
            tv_sec: left.as_secs().cast_signed(),
            tv_nsec: left.subsec_nanos().into(),
        };
        match poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&timeout)) {
            Err(rustix::io::Errno::INTR) => {}
            answer => return answer.is_ok_and(|ready| ready > 0),
        }
    }
}

fn content(mut file: File) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.rewind()?;
    file.take(features::MAX_BYTES as u64 + 1)
        .read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The first line, printable and short.
fn line(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let first = text.lines().find(|line| !line.trim().is_empty());
    first
        .unwrap_or("it said nothing")
        .trim()
        .chars()
        .filter(|letter| !letter.is_control())
        .take(MAX_LINE)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{Containers, probe};
    use std::os::unix::fs::PermissionsExt as _;
    use std::time::Duration;

    fn ask(script: &str, deadline: Duration) -> Result<super::Facts, String> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("runtime");
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        loop {
            // Another test may fork while the script is open for writing.
            match probe(&path, deadline) {
                Err(super::ProbeError::Start { error, .. })
                    if error.kind() == std::io::ErrorKind::ExecutableFileBusy => {}
                answer => return answer.map_err(|error| error.to_string()),
            }
        }
    }

    #[test]
    fn a_program_is_known_by_what_it_says() {
        for (script, version, known, containers) in [
            (
                "[ $1 = features ] && echo '{}' || echo x 1",
                "x 1",
                true,
                None,
            ),
            (
                "[ $1 = features ] && exit 1; echo 'crun version 1.8.1'; echo y",
                "crun version 1.8.1",
                false,
                Some(Containers::Namespaces),
            ),
            (
                "[ $1 = features ] && exit 1; echo 'runsc version 1'",
                "runsc version 1",
                false,
                Some(Containers::Sandbox),
            ),
            (
                r#"[ $1 = features ] && echo '{"linux":{"namespaces":["pid","mount"]}}' || echo runsc 2"#,
                "runsc 2",
                true,
                Some(Containers::Sandbox),
            ),
            (
                r#"[ $1 = features ] && echo '{"linux":{"namespaces":["pid","mount"]}}' || echo new 2"#,
                "new 2",
                true,
                Some(Containers::Namespaces),
            ),
            // The environment is its own.
            (
                "[ $1 = features ] && exit 1; echo \"$PATH ${HOME-none}\"",
                "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin none",
                false,
                None,
            ),
        ] {
            let facts = ask(script, Duration::from_secs(60)).unwrap();
            assert_eq!(facts.version, version, "{script}");
            assert_eq!(facts.features.is_some(), known, "{script}");
            assert_eq!(facts.containers(), containers, "{script}");
        }
    }

    #[test]
    fn what_is_no_runtime_is_refused_with_its_own_words() {
        for (script, words) in [
            ("echo 'no such luck' >&2; exit 3", "no such luck"),
            ("exit 3", "it said nothing"),
            ("echo x", "printed no features: "),
        ] {
            let error = ask(script, Duration::from_secs(60)).unwrap_err();
            assert!(error.contains(words), "{error}");
        }
        let error = ask("sleep 1000", Duration::from_millis(50)).unwrap_err();
        assert!(error.contains("--version` did not end within"), "{error}");
        let missing = std::path::Path::new("/nowhere/crun");
        let error = probe(missing, Duration::from_secs(1))
            .unwrap_err()
            .to_string();
        assert!(error.starts_with("/nowhere/crun: No such file"), "{error}");
    }
}
