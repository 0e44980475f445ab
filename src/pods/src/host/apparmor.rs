//! AppArmor on this machine: the default profile is loaded by
//! apparmor_parser(8), as every container runtime does; the kernel's list says
//! what is there.

use crate::error::{Error, Result};
use crate::files;
use insula_isolators::apparmor::{
    DEFAULT_PROFILE, PolicyParts, Profiles, default_profile, parse_profiles,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The kernel's list of profiles.
const LIST: &str = "/sys/kernel/security/apparmor/profiles";
/// Most bytes of it that are read: tens of thousands of profiles.
const LIST_LIMIT: u64 = 4 << 20;
/// Where the policy's parts are.
const POLICY: &str = "/etc/apparmor.d";
/// Where distributions have the parser.
const PARSERS: &[&str] = &["/usr/sbin/apparmor_parser", "/sbin/apparmor_parser"];
/// How long the parser may take: some hundred milliseconds are usual.
const DEADLINE: Duration = Duration::from_secs(60);
/// Most of the parser's complaints that are read.
const COMPLAINTS: u64 = 4096;

/// The default profile of this host, loaded in the background at start.
#[derive(Debug, Clone, Default)]
pub(super) struct AppArmor(Arc<Loading>);

#[derive(Debug, Default)]
struct Loading {
    /// `None` while it is being loaded.
    result: Mutex<Option<std::result::Result<(), String>>>,
    done: Condvar,
}

// === impl AppArmor ===

impl AppArmor {
    /// Begins to load the default profile. A profile of an older version is
    /// replaced; containers that run under it get the new rules.
    pub(super) fn load() -> Self {
        let this = Self::default();
        let loading = Arc::clone(&this.0);
        std::thread::spawn(move || {
            let result = load_default();
            if let Err(why) = &result {
                tracing::warn!(
                    profile = DEFAULT_PROFILE,
                    why,
                    "AppArmor is enabled but the default profile cannot be loaded: containers that name none run without"
                );
            }
            loading.finish(result);
        });
        this
    }

    /// What is loaded now. Waits until the default profile is, and loads it
    /// again if somebody has taken it away since.
    pub(super) fn profiles(&self) -> Result<Profiles> {
        let mut result = self.0.wait()?;
        let mut loaded = read_list();
        if result.is_ok()
            && loaded
                .as_ref()
                .is_ok_and(|names| !names.contains(DEFAULT_PROFILE))
        {
            result = load_default();
            loaded = read_list();
        }
        Ok(match loaded {
            Ok(loaded) => Profiles {
                loaded,
                default_missing: result.err(),
            },
            Err(error) => Profiles {
                default_missing: Some(format!("{LIST}: {error}")),
                ..Profiles::default()
            },
        })
    }
}

// === impl Loading ===

impl Loading {
    fn finish(&self, result: std::result::Result<(), String>) {
        *self.result.lock().unwrap_or_else(PoisonError::into_inner) = Some(result);
        self.done.notify_all();
    }

    fn wait(&self) -> Result<std::result::Result<(), String>> {
        let guard = self.result.lock().unwrap_or_else(PoisonError::into_inner);
        let (guard, _) = self
            .done
            .wait_timeout_while(guard, DEADLINE, |result| result.is_none())
            .unwrap_or_else(PoisonError::into_inner);
        guard.clone().ok_or_else(|| Error::DeadlineExceeded {
            stage: "load the AppArmor default profile".to_owned(),
            after: DEADLINE,
        })
    }
}

fn read_list() -> std::io::Result<std::collections::BTreeSet<String>> {
    let list = files::read_bounded(Path::new(LIST), LIST_LIMIT)?;
    Ok(parse_profiles(&String::from_utf8_lossy(&list)))
}

fn load_default() -> std::result::Result<(), String> {
    let has = |part: &str| Path::new(POLICY).join(part).exists();
    let parts = PolicyParts {
        abi: has("abi/3.0"),
        tunables: has("tunables/global"),
        base: has("abstractions/base"),
    };
    let profile = default_profile(parts, own_profile().as_deref());
    parse(&["--replace", "--skip-cache"], &profile)
}

/// The profile this process runs under; `None` is unconfined.
fn own_profile() -> Option<String> {
    let current = ["apparmor/current", "current"]
        .iter()
        .find_map(|file| std::fs::read_to_string(Path::new("/proc/self/attr").join(file)).ok())?;
    let name = current.trim_end_matches(['\n', '\0']);
    let name = name.rsplit_once(" (").map_or(name, |(name, _)| name);
    (name != "unconfined").then(|| name.to_owned())
}

/// Runs the parser on a profile; an error says what it complained of.
fn parse(options: &[&str], profile: &str) -> std::result::Result<(), String> {
    let parser = PARSERS
        .iter()
        .find(|path| Path::new(path).exists())
        .ok_or_else(|| {
            "apparmor_parser is not installed: install the package apparmor and restart".to_owned()
        })?;
    let mut child = Command::new(parser)
        .args(options)
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("{parser}: {error}"))?;
    // It fits into the pipe, so that a parser that does not read it cannot
    // hold this up.
    let written = child
        .stdin
        .take()
        .map_or(Ok(()), |mut input| input.write_all(profile.as_bytes()));
    if !ends_within(&child, DEADLINE) {
        let _gone = child.kill();
        let _reaped = child.wait();
        return Err(format!(
            "{parser} was killed after {} s",
            DEADLINE.as_secs()
        ));
    }
    let status = child.wait().map_err(|error| format!("{parser}: {error}"))?;
    if status.success() {
        return written.map_err(|error| format!("{parser}: {error}"));
    }
    let mut complaint = Vec::new();
    if let Some(errors) = child.stderr.take() {
        let _partly = errors.take(COMPLAINTS).read_to_end(&mut complaint);
    }
    Err(format!(
        "{parser} failed ({status}): {}",
        String::from_utf8_lossy(&complaint)
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ")
    ))
}

fn ends_within(child: &Child, deadline: Duration) -> bool {
    let end = Instant::now() + deadline;
    let Some(pidfd) = i32::try_from(child.id())
        .ok()
        .and_then(Pid::from_raw)
        .and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok())
    else {
        return false;
    };
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let timeout = Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(left.subsec_nanos()),
        };
        match poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&timeout)) {
            Ok(0) => return false,
            Ok(_) => return true,
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{AppArmor, PARSERS, Path, PolicyParts, default_profile, parse};

    /// Needs the parser alone, no kernel with AppArmor.
    #[test]
    fn the_default_profile_is_one() {
        if !PARSERS.iter().any(|path| Path::new(path).exists()) {
            println!("skipped: apparmor_parser is not installed");
            return;
        }
        let check = ["--skip-kernel-load", "--skip-cache"];
        for daemon in [None, Some("/usr/bin/insula"), Some("hostile } {")] {
            let parts = |all| PolicyParts {
                abi: all,
                tunables: all,
                base: all,
            };
            for all in [true, false] {
                parse(&check, &default_profile(parts(all), daemon)).unwrap();
            }
        }
        let error = parse(&check, "profile x {\n nonsense,\n}\n").unwrap_err();
        assert!(error.contains("syntax error"), "{error}");
    }

    #[test]
    fn whoever_needs_it_waits_until_it_is_loaded() {
        let apparmor = AppArmor::default();
        let waiter = apparmor.clone();
        let waits = std::thread::spawn(move || waiter.0.wait());
        apparmor.0.finish(Err("no parser".to_owned()));
        assert_eq!(waits.join().unwrap().unwrap(), Err("no parser".to_owned()));
        assert!(apparmor.profiles().unwrap().default_missing.is_some());
    }
}
