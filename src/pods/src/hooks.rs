//! Hooks that are run on the node, and what all hooks of a container are shown
//! (OCI runtime-spec, config.md, "POSIX-platform Hooks").
//!
//! The daemon runs them in its own namespaces: before the container's root is
//! entered, after its program was executed, and after it was removed. The bundle
//! is a directory of the container's; its `rootfs` is empty here, since the root
//! is attached there in the container's mount namespace alone. A hook reaches it
//! as `/proc/<pid>/root/<bundle>/rootfs`, or by joining that namespace.

use crate::env::Pod;
use crate::error::{Error, Result};
use crate::files;
use crate::ids::ContainerId;
use insula_oci::Surroundings;
use insula_wire::LaunchPlan;
use insula_wire::hooks::{Bundle, Hook, HookState, HookStatus, OCI_VERSION};
use rustix::process::{Pid, Signal, kill_process_group};
use std::os::unix::fs::{DirBuilderExt as _, chown};
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, Command};
use tokio::time::timeout;

/// What is kept of a hook's output, in bytes; the rest is read and dropped.
const MAX_OUTPUT: usize = 4096;

/// How long output is awaited after a hook has ended: a process that it left
/// behind may hold the pipe.
const DRAIN: Duration = Duration::from_secs(1);

/// What the hooks of a container are shown. An external runtime runs those of
/// its containers itself.
fn bundle_of(plan: &LaunchPlan) -> Option<&Bundle> {
    let bundle = plan.bundle.as_ref();
    bundle.filter(|_| !plan.hooks.is_empty() && plan.runtime.is_none())
}

/// Writes the bundle of a container that has hooks. A pod's own root may read
/// it, since hooks that are run in its user namespace have its rights.
pub(crate) fn write_bundle(pod: &Pod, id: &ContainerId, plan: &LaunchPlan) -> Result<()> {
    let Some(bundle) = bundle_of(plan) else {
        return Ok(());
    };
    let path = pod.directory.bundle(id);
    let root = path.join("rootfs");
    files::make_directory(&path)?;
    std::fs::DirBuilder::new()
        .mode(0o711)
        .create(&root)
        .map_err(|error| files::failed("make directory", &root, &error))?;
    let network = pod
        .has_network()
        .then(|| pod.env.paths.network_namespace(&pod.id));
    let spec = insula_oci::render(
        plan,
        &Surroundings {
            root_path: bundle.root(),
            hostname: pod.spec.hostname.clone(),
            id_mappings: pod.spec.namespaces.user,
            network_namespace: network.map(|path| path.display().to_string()),
            process: None,
            sysctls: pod.spec.sysctls.clone(),
            annotations: bundle.annotations.clone(),
        },
    );
    let json = serde_json::to_vec(&spec)
        .map_err(|error| Error::internal("write the bundle's config.json", error))?;
    let config = path.join("config.json");
    files::write_atomically(&config, &json, 0o640)?;
    if pod.spec.namespaces.user.is_some() {
        let (_, group) = pod.root_ids();
        show(&pod.env.paths.pods(), None, 0o711)?;
        let above = [
            pod.directory.path().to_owned(),
            pod.directory.containers(),
            pod.directory.container(id),
        ];
        for directory in above {
            show(&directory, Some(group), 0o710)?;
        }
        show(&path, Some(group), 0o750)?;
        show(&config, Some(group), 0o640)?;
    }
    Ok(())
}

fn show(path: &Path, group: Option<u32>, mode: u32) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    chown(path, None, group)
        .and_then(|()| std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)))
        .map_err(|error| files::failed("let the pod's root see", path, &error))
}

/// Runs the hooks for which the container's root waits, as long as they succeed.
pub(crate) async fn before_root(plan: &LaunchPlan, pid: i32) -> Result<()> {
    let Some(bundle) = bundle_of(plan) else {
        return Ok(());
    };
    let hooks = &plan.hooks;
    let stages = [
        ("prestart", &hooks.prestart),
        ("createRuntime", &hooks.create_runtime),
    ];
    for (stage, hooks) in stages {
        for hook in hooks {
            run(plan, bundle, hook, HookStatus::Creating, pid)
                .await
                .map_err(|why| Error::internal(format!("{stage} hook {}", hook.path), why))?;
        }
    }
    Ok(())
}

/// Runs the poststart hooks. One that fails changes nothing.
pub(crate) async fn after_start(plan: &LaunchPlan, pid: i32) {
    warn_all(
        plan,
        "poststart",
        &plan.hooks.poststart,
        HookStatus::Running,
        pid,
    )
    .await;
}

/// Runs the poststop hooks. One that fails changes nothing.
pub(crate) async fn after_removal(plan: &LaunchPlan) {
    warn_all(
        plan,
        "poststop",
        &plan.hooks.poststop,
        HookStatus::Stopped,
        0,
    )
    .await;
}

async fn warn_all(plan: &LaunchPlan, stage: &str, hooks: &[Hook], status: HookStatus, pid: i32) {
    let Some(bundle) = bundle_of(plan) else {
        return;
    };
    for hook in hooks {
        if let Err(error) = run(plan, bundle, hook, status, pid).await {
            let container = &plan.container_id;
            tracing::warn!(%container, stage, hook = hook.path, error, "a hook failed");
        }
    }
}

/// Runs one hook to its end; an error is in words.
async fn run(
    plan: &LaunchPlan,
    bundle: &Bundle,
    hook: &Hook,
    status: HookStatus,
    pid: i32,
) -> std::result::Result<(), String> {
    let state = HookState {
        oci_version: OCI_VERSION,
        id: &plan.container_id,
        status,
        pid,
        bundle: &bundle.path,
        annotations: &bundle.annotations,
    };
    let state = serde_json::to_vec(&state).map_err(|error| error.to_string())?;
    let mut child = command(hook, &bundle.path)
        .spawn()
        .map_err(|error| format!("cannot be executed: {error}"))?;
    let leader = child.id().and_then(|id| i32::try_from(id).ok());
    let mut group = Group(leader.and_then(Pid::from_raw));
    let mut said = Said::default();
    let deadline = Duration::from_secs(hook.seconds().into());
    match timeout(deadline, converse(&mut child, &state, &mut said)).await {
        Ok(Ok(ended)) => {
            // What it has left behind is its own affair.
            group.0 = None;
            match ended.success() {
                true => Ok(()),
                false => Err(said.after(&ended.to_string())),
            }
        }
        Ok(Err(error)) => Err(said.after(&format!("its end is not known: {error}"))),
        Err(_) => {
            drop(group);
            let reaped = timeout(DRAIN, child.wait()).await;
            tracing::debug!(?reaped, hook = hook.path, "killed a hook");
            let seconds = hook.seconds();
            Err(said.after(&format!("killed after {seconds} s, its timeout")))
        }
    }
}

fn command(hook: &Hook, directory: &str) -> Command {
    let arguments = hook.arguments();
    let (name, rest) = arguments.split_first().unwrap_or((&"", &[]));
    let mut command = Command::new(&hook.path);
    command
        .arg0(name)
        .args(rest)
        .env_clear()
        .envs(hook.env.iter().filter_map(|text| text.split_once('=')))
        .current_dir(directory)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true);
    command
}

/// Kills a hook's process group when it goes out of scope before the hook was
/// reaped: until then nobody else can have its number.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(leader) = self.0.take() {
            // ESRCH: it is gone, which is what we want.
            let _gone = kill_process_group(leader, Signal::KILL);
        }
    }
}

/// What a hook wrote.
#[derive(Default)]
struct Said {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

impl Said {
    fn after(&self, words: &str) -> String {
        let said = [&self.stderr[..], &self.stdout[..]].concat();
        let said = String::from_utf8_lossy(&said);
        match said.trim() {
            "" => words.to_owned(),
            said => format!("{words}: {said}"),
        }
    }
}

async fn converse(child: &mut Child, state: &[u8], said: &mut Said) -> std::io::Result<ExitStatus> {
    let missing = || std::io::Error::other("a pipe to it is missing");
    let mut input = child.stdin.take().ok_or_else(missing)?;
    let stdout = child.stdout.take().ok_or_else(missing)?;
    let stderr = child.stderr.take().ok_or_else(missing)?;
    let mut data = Box::pin(async {
        let write = async move {
            // It need not read its input.
            let _unread = input.write_all(state).await;
        };
        tokio::join!(
            write,
            read_first(stdout, &mut said.stdout),
            read_first(stderr, &mut said.stderr)
        )
    });
    tokio::select! {
        _ = &mut data => child.wait().await,
        status = child.wait() => {
            let _cut = timeout(DRAIN, data).await;
            status
        }
    }
}

async fn read_first(mut pipe: impl AsyncRead + Unpin, into: &mut Vec<u8>) {
    let mut buffer = [0; 4096];
    while let Ok(length @ 1..) = pipe.read(&mut buffer).await {
        let room = MAX_OUTPUT.saturating_sub(into.len());
        into.extend_from_slice(&buffer[..length.min(room)]);
    }
}

#[cfg(test)]
mod tests {
    use super::{MAX_OUTPUT, run};
    use crate::testing::plan;
    use insula_wire::hooks::{Bundle, Hook, HookStatus};

    async fn sh(script: &str, timeout: u32) -> Result<(), String> {
        let place = tempfile::tempdir().unwrap();
        let bundle = Bundle {
            path: place.path().to_str().unwrap().to_owned(),
            annotations: [("a".to_owned(), "b".to_owned())].into(),
        };
        let hook = Hook {
            path: "/bin/sh".to_owned(),
            args: vec!["named".to_owned(), "-c".to_owned(), script.to_owned()],
            env: vec!["ONLY=this".to_owned()],
            timeout: Some(timeout),
        };
        run(&plan("c1"), &bundle, &hook, HookStatus::Creating, 7).await
    }

    #[tokio::test]
    async fn a_hook_has_its_state_its_environment_its_bundle_and_its_name() {
        let script = r#"set -e
            state=$(cat)
            for part in '"id":"c1"' '"pid":7' '"status":"creating"' '"annotations":{"a":"b"}' "\"bundle\":\"$PWD\""; do
                case $state in *"$part"*) ;; *) echo "no $part in $state"; exit 1;; esac
            done
            env=$(cat /proc/self/environ | tr '\0' ' ')
            case $env in "ONLY=this " | "ONLY=this PWD=$PWD ") ;; *) echo "environment: $env"; exit 1;; esac
            test "$0" = named || { echo "name: $0"; exit 1; }"#;
        assert_eq!(sh(script, 60).await, Ok(()));
    }

    #[tokio::test]
    async fn a_failure_is_told_with_what_it_wrote() {
        for (script, timeout, want) in [
            ("exit 3", 60, "exit status: 3"),
            (
                "echo no device >&2; exit 1",
                60,
                "exit status: 1: no device",
            ),
            (
                "echo hm; exec sleep 1000",
                1,
                "killed after 1 s, its timeout: hm",
            ),
        ] {
            assert_eq!(sh(script, timeout).await, Err(want.to_owned()));
        }
        let long = "head -c 1000000 /dev/zero | tr '\\0' y >&2; exit 1";
        let long = sh(long, 60).await.unwrap_err();
        assert_eq!(long.matches('y').count(), MAX_OUTPUT);
    }
}
