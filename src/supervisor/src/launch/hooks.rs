//! Hooks that are run in a container's namespaces (OCI runtime-spec,
//! config.md, "POSIX-platform Hooks").
//!
//! | hook | its program | runs | with |
//! |---|---|---|---|
//! | createContainer | the node's | before the root is entered | the rights of who builds it |
//! | startContainer | the container's | just before the program | the container's own, and its filter |
//!
//! A createContainer hook still sees the node's files, so no tenant may ever
//! see it, nor what it leaves behind: it is PID 1 of a PID namespace of its own
//! below the supervisor's or the new container's, which ends with it. It is not
//! confined by the labels that the container's program will get.
//!
//! A startContainer hook has nothing that the container has not. It is cloned by
//! a process that stands between: that one alone enters a PID namespace which
//! tenants share, by cloning, and takes the container's rights first.

use crate::launch::filter::Filter;
use crate::launch::report::{step, system_failure};
use crate::launch::{close_inherited, identity, lead_session};
use insula_sys::fork::{self, Child, Fork, ForkOptions, SingleThread, Strings, exit_now};
use insula_sys::{Error, fd};
use insula_wire::hooks::{Bundle, Hook, HookState, HookStatus, OCI_VERSION};
use insula_wire::message::{Failure, FailureKind};
use insula_wire::plan::{LaunchPlan, PidNamespace};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::pipe::PipeFlags;
use std::ffi::CString;
use std::time::{Duration, Instant};

/// What is kept of a hook's output, in bytes; the rest is read and dropped.
const MAX_OUTPUT: usize = 4096;

/// What a pipe holds as it is made, in bytes (pipe(7)).
const PIPE: usize = 65_536;

/// The status of a child that could not execute its hook.
const NOT_EXECUTED: i32 = 127;

/// Runs those of a stage one after the other, as long as they succeed.
struct Run<'a> {
    proof: SingleThread,
    plan: &'a LaunchPlan,
    bundle: &'a Bundle,
    status: HookStatus,
    /// The container's process, as seen there; 0 where it does not exist yet.
    pid: i32,
}

/// One hook's ends: what it reads, where it writes, and where that is read.
struct Streams {
    state: OwnedFd,
    output: OwnedFd,
    theirs: OwnedFd,
}

/// Runs the createContainer hooks, in the container's mount namespace with the
/// node's root. The working directory is where the container's root is
/// attached.
pub fn create_container(proof: SingleThread, plan: &LaunchPlan) -> Result<(), Failure> {
    let pid = rustix::process::getpid().as_raw_nonzero().get();
    let Some(run) = Run::new(proof, plan, HookStatus::Creating, pid) else {
        return Ok(());
    };
    for hook in &plan.hooks.create_container {
        let options = ForkOptions {
            new_pid_namespace: true,
            ..ForkOptions::default()
        };
        let prepare = || identity::undeclare_labels(&plan.process);
        run.one("createContainer", hook, &options, prepare, || {
            Run::execute_of_node(hook)
        })?;
    }
    Ok(())
}

/// Runs the startContainer hooks in the container's root. `choose` makes the
/// container's PID namespace that of the caller's children.
pub fn start_container(
    proof: SingleThread,
    plan: &LaunchPlan,
    choose: impl Fn() -> Result<(), Failure>,
) -> Result<(), Failure> {
    // Where others are, the process is cloned after its hooks have run.
    let pid = match plan.namespaces.pid {
        PidNamespace::Container => 1,
        _ => 0,
    };
    let Some(run) = Run::new(proof, plan, HookStatus::Created, pid) else {
        return Ok(());
    };
    for hook in &plan.hooks.start_container {
        let options = ForkOptions::default();
        run.one("startContainer", hook, &options, &choose, || {
            run.execute_of_container(hook)
        })?;
    }
    Ok(())
}

// === impl Run ===

impl<'a> Run<'a> {
    /// `None` where there is nothing that hooks could be told.
    fn new(
        proof: SingleThread,
        plan: &'a LaunchPlan,
        status: HookStatus,
        pid: i32,
    ) -> Option<Self> {
        plan.bundle.as_ref().map(|bundle| Self {
            proof,
            plan,
            bundle,
            status,
            pid,
        })
    }

    /// Runs one hook. What its child does first is `prepare`; what it does when
    /// it has nothing open but its streams is `execute`, which returns only on
    /// failure.
    fn one(
        &self,
        stage: &str,
        hook: &Hook,
        options: &ForkOptions<'_>,
        prepare: impl FnOnce() -> Result<(), Failure>,
        execute: impl FnOnce() -> Failure,
    ) -> Result<(), Failure> {
        let name = format!("{stage} hook {}", hook.path);
        let streams = self.streams(&name)?;
        match step(&name, fork::fork(self.proof, options))? {
            Fork::Child => {
                match prepare().and_then(|()| streams.install()) {
                    Ok(()) => say(std::io::stderr(), &execute()),
                    Err(failure) => say(&streams.theirs, &failure),
                }
                exit_now(NOT_EXECUTED)
            }
            Fork::Parent(child) => {
                drop((streams.state, streams.theirs));
                await_end(&name, hook, &child, &streams.output)
            }
        }
    }

    fn streams(&self, name: &str) -> Result<Streams, Failure> {
        let state = HookState {
            oci_version: OCI_VERSION,
            id: &self.plan.container_id,
            status: self.status,
            pid: self.pid,
            bundle: &self.bundle.path,
            annotations: &self.bundle.annotations,
        };
        let json = serde_json::to_vec(&state).unwrap_or_default();
        let state = step(name, filled_pipe(&json))?;
        let pipe = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)
            .map_err(|errno| Error::new("pipe2(O_CLOEXEC)", errno));
        let (output, theirs) = step(name, pipe)?;
        let set = rustix::fs::fcntl_setfl(&output, OFlags::NONBLOCK)
            .map_err(|errno| Error::new("fcntl(pipe, F_SETFL, O_NONBLOCK)", errno));
        step(name, set)?;
        Ok(Streams {
            state,
            output,
            theirs,
        })
    }

    /// In the child of a createContainer hook.
    fn execute_of_node(hook: &Hook) -> Failure {
        fork::reset_signals();
        rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
        // From the mount point below the root to the bundle that it is in: by
        // its path only the node's root may get there.
        if let Err(errno) = rustix::process::chdir("..") {
            let error = Error::new("chdir(\"..\"), from the bundle's rootfs", errno);
            return system_failure("enter the bundle", &error);
        }
        if let Err(errno) = lead_session(false) {
            return system_failure("lead session", &Error::new("setsid()", errno));
        }
        execute(hook)
    }

    /// In the child of a startContainer hook, which clones the hook.
    fn execute_of_container(&self, hook: &Hook) -> Failure {
        let filter = match identity::assume(&self.plan.process) {
            Ok(filter) => filter,
            Err(failure) => return failure,
        };
        match fork::fork(self.proof, &ForkOptions::default()) {
            Err(error) => system_failure("clone", &error),
            Ok(Fork::Child) => execute_confined(hook, &filter),
            // Whoever waits for this process kills it at its deadline, and then
            // all in the container's cgroup.
            Ok(Fork::Parent(child)) => loop {
                match fork::reap(child.pidfd.as_fd()) {
                    Ok(Some(ended)) => exit_now(ended.code()),
                    Ok(None) => {
                        let mut watched = [PollFd::new(&child.pidfd, PollFlags::IN)];
                        let _ = poll(&mut watched, None);
                    }
                    Err(_) => exit_now(NOT_EXECUTED),
                }
            },
        }
    }
}

/// In the hook's own process. Returns only on failure.
fn execute_confined(hook: &Hook, filter: &Filter) -> Failure {
    if let Err(errno) = lead_session(false) {
        return system_failure("lead session", &Error::new("setsid()", errno));
    }
    if let Err(error) = filter.load() {
        return system_failure("load system call filter", &error);
    }
    execute(hook)
}

/// Returns only on failure.
fn execute(hook: &Hook) -> Failure {
    let strings = |texts: Vec<&str>| {
        let texts = texts.into_iter();
        Strings::new(
            texts
                .map(|text| CString::new(text).unwrap_or_default())
                .collect(),
        )
    };
    let program = CString::new(hook.path.as_str()).unwrap_or_default();
    let args = strings(hook.arguments());
    let env = strings(hook.env.iter().map(String::as_str).collect());
    let errno = fork::execve(&program, &args, &env);
    Failure {
        kind: FailureKind::System,
        step: "execute".to_owned(),
        message: format!("{:?}: {errno}", hook.path),
    }
}

// === impl Streams ===

impl Streams {
    /// Makes them the only descriptors that this process has.
    fn install(&self) -> Result<(), Failure> {
        step(
            "run hook",
            fd::install_standard_streams([
                self.state.as_fd(),
                self.theirs.as_fd(),
                self.theirs.as_fd(),
            ]),
        )?;
        close_inherited(&[])
    }
}

/// The read end of a pipe with this content and its end. Tenants may see what a
/// startContainer hook reads from: it is nothing that they could write to.
fn filled_pipe(content: &[u8]) -> insula_sys::Result<OwnedFd> {
    let length = content.len();
    let failed = |call: String| move |errno| Error::new(call, errno);
    let (read, write) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)
        .map_err(failed("pipe2(O_CLOEXEC|O_NONBLOCK)".to_owned()))?;
    if length > PIPE {
        rustix::pipe::fcntl_setpipe_size(&write, length)
            .map_err(failed(format!("fcntl(pipe, F_SETPIPE_SZ, {length})")))?;
    }
    let call = || format!("write(pipe, {length} bytes of state)");
    match rustix::io::write(&write, content) {
        Ok(written) if written == length => {}
        Ok(_) => return Err(Error::new(call(), Errno::FBIG)),
        Err(errno) => return Err(Error::new(call(), errno)),
    }
    // A hook reads as from any pipe.
    rustix::fs::fcntl_setfl(&read, OFlags::empty())
        .map_err(failed("fcntl(pipe, F_SETFL, 0)".to_owned()))?;
    Ok(read)
}

/// Waits for a hook's end and tells what came of it, with what it wrote.
fn await_end(name: &str, hook: &Hook, child: &Child, output: &OwnedFd) -> Result<(), Failure> {
    let deadline = Instant::now() + Duration::from_secs(hook.seconds().into());
    let mut said = Vec::new();
    let mut open = true;
    let failed = |message: String| Failure {
        kind: FailureKind::System,
        step: name.to_owned(),
        message,
    };
    loop {
        if let Some(ended) = step(name, fork::reap(child.pidfd.as_fd()))? {
            read_output(output, &mut said);
            return match ended {
                fork::Ended::Exited(0) => Ok(()),
                fork::Ended::Exited(status) => {
                    Err(failed(with_output(format!("exit status {status}"), &said)))
                }
                fork::Ended::Signaled(signal) => Err(failed(with_output(
                    format!("killed by signal {signal}"),
                    &said,
                ))),
            };
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            // With the namespace that it leads, or with the container's cgroup.
            step(name, fork::send_signal(child.pidfd.as_fd(), 9))?;
            let _ = fork::wait(child.pidfd.as_fd(), fork::PATIENCE);
            read_output(output, &mut said);
            let words = format!("killed after {} s, its timeout", hook.seconds());
            return Err(failed(with_output(words, &said)));
        }
        let timeout = Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: left.subsec_nanos().into(),
        };
        let mut watched = vec![PollFd::new(&child.pidfd, PollFlags::IN)];
        if open {
            watched.push(PollFd::new(output, PollFlags::IN));
        }
        match poll(&mut watched, Some(&timeout)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return step(name, Err(Error::new("poll(hook)", errno))),
        }
        open = open && read_output(output, &mut said);
    }
}

/// Reads what there is; says whether more may come.
fn read_output(output: &OwnedFd, said: &mut Vec<u8>) -> bool {
    let mut buffer = [0; 4096];
    loop {
        match rustix::io::read(output, &mut buffer) {
            Ok(0) => return false,
            Ok(length) => {
                let room = MAX_OUTPUT.saturating_sub(said.len());
                said.extend_from_slice(&buffer[..length.min(room)]);
            }
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => return true,
            Err(_) => return false,
        }
    }
}

fn with_output(words: String, said: &[u8]) -> String {
    let said = String::from_utf8_lossy(said);
    match said.trim() {
        "" => words,
        said => format!("{words}: {said}"),
    }
}

/// Leaves a last word in a pipe, if somebody reads it.
fn say(to: impl AsFd, failure: &Failure) {
    let _ = rustix::io::write(to, failure.to_string().as_bytes());
}

#[cfg(test)]
mod tests {
    use super::{MAX_OUTPUT, await_end, filled_pipe, with_output};
    use insula_sys::fork::Child;
    use insula_wire::Hook;
    use rustix::pipe::PipeFlags;
    use std::os::fd::OwnedFd;
    use std::process::{Command, Stdio};

    fn run(script: &str, timeout: u32) -> Result<(), String> {
        let (output, theirs) =
            rustix::pipe::pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).unwrap();
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]).stderr(Stdio::from(theirs));
        let mut process = command.spawn().unwrap();
        drop(command);
        let pid = i32::try_from(process.id()).unwrap();
        let pidfd: OwnedFd = insula_sys::fork::open_pid(pid).unwrap();
        let hook = Hook {
            path: "/bin/hook".to_owned(),
            args: Vec::new(),
            env: Vec::new(),
            timeout: Some(timeout),
        };
        let ended = await_end("a hook", &hook, &Child { pid, pidfd }, &output);
        // It was reaped by its descriptor.
        assert!(process.wait().is_err());
        ended.map_err(|failure| failure.to_string())
    }

    #[test]
    fn a_state_of_any_usual_size_is_read_to_its_end() {
        use std::io::Read as _;
        for length in [0, 10, 65_536, 300_000] {
            let content = vec![b'x'; length];
            let mut read = Vec::new();
            let pipe = filled_pipe(&content).unwrap();
            std::fs::File::from(pipe).read_to_end(&mut read).unwrap();
            assert!(read == content, "{length}");
        }
    }

    #[test]
    fn the_end_of_a_hook_is_told_with_what_it_wrote() {
        assert_eq!(run("echo fine >&2", 60), Ok(()));
        for (script, timeout, want) in [
            ("exit 3", 60, "a hook: exit status 3"),
            (
                "echo no device >&2; exit 1",
                60,
                "a hook: exit status 1: no device",
            ),
            ("kill -9 $$", 60, "a hook: killed by signal 9"),
            (
                "echo hm >&2; exec sleep 1000",
                1,
                "a hook: killed after 1 s, its timeout: hm",
            ),
        ] {
            assert_eq!(run(script, timeout), Err(want.to_owned()));
        }
        let long = run("head -c 1000000 /dev/zero | tr '\\0' x >&2; exit 1", 60).unwrap_err();
        assert_eq!(long.matches('x').count(), MAX_OUTPUT + 1, "`exit` has one");
        assert_eq!(with_output("a".to_owned(), b" \n"), "a");
    }
}
