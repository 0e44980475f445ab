//! `insula-pod`: the supervisor of one pod.
//!
//! One static process with one thread per pod. It holds the pod's namespaces,
//! executes launch plans, reaps, writes logs and serves execs, and lives on
//! when the daemon that started it does not. The daemon talks to it over the
//! socket it is born with; see `insula_wire::message`.
#![forbid(unsafe_code)]

mod attach;
mod cgroup;
mod container;
mod create;
mod exec;
mod exec_events;
mod launch;
mod log;
mod notify;
mod oom;
mod pod;
mod poll;
mod process_events;
mod requests;
mod runtime;
mod streams;
mod supervisor;

use insula_sys::fork::SingleThread;
use insula_sys::supervisor::{LISTENER, LOCK, PROGRAM};
use std::process::ExitCode;
use supervisor::Supervisor;

fn main() -> ExitCode {
    let Some(pod_id) = std::env::args().nth(1) else {
        eprintln!("insula-pod is started by `insula serve` for each pod; it is not run by hand");
        return ExitCode::from(64);
    };
    match serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("insula-pod {pod_id}: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve() -> insula_sys::Result<()> {
    let proof = SingleThread::prove()?;
    let [listener, lock, program] = insula_sys::fd::take_inherited([LISTENER, LOCK, PROGRAM])?;
    drop(program);
    insula_sys::supervisor::return_freed_memory();
    // Executed through a descriptor, we would be called by its number.
    rustix::thread::set_name(c"insula-pod")
        .map_err(|errno| insula_sys::Error::new("prctl(PR_SET_NAME, \"insula-pod\")", errno))?;
    // Nobody reads our memory or our descriptors, whatever rights a process of
    // the pod may have been given.
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)
        .map_err(|errno| insula_sys::Error::new("prctl(PR_SET_DUMPABLE, 0)", errno))?;
    // Kept open for as long as we live: the daemon knows us by this lock.
    let _lock = lock;
    Supervisor::new(proof, listener)?.run()
}
