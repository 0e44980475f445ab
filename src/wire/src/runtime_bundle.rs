//! What is where in the bundle of a container that an external OCI runtime
//! executes.
//!
//! The bundle is a tmpfs in a mount namespace that is kept for the container,
//! so it is nowhere on the host and gone with the namespace. There it covers the
//! pod's state directory. The daemon names its parts in `config.json`; the
//! pod's supervisor makes them.

/// The configuration, bundle.md of the OCI runtime specification.
pub const CONFIG: &str = "config.json";
/// Where the root file system is attached.
pub const ROOT: &str = "rootfs";
/// The pod's `/dev/shm`.
pub const SHM: &str = "shm";
/// Directory of the mounts that came with the plan.
pub const MOUNTS: &str = "mounts";
/// Directory of files that name namespaces to join.
pub const NAMESPACES: &str = "ns";
/// Directory in which the runtime keeps its state (`--root`).
pub const STATE: &str = "state";
/// File in which the runtime leaves the id of the container's process
/// (`--pid-file`).
pub const PID: &str = "pid";
/// File of the runtime's own messages (`--log`).
pub const LOG: &str = "log";
/// Socket over which the runtime hands the master of a terminal
/// (`--console-socket`).
pub const CONSOLE: &str = "console";

/// Directory of the processes that the runtime is asked to add to a container.
pub const EXECS: &str = "execs";

/// The description of such a process, `process` of the configuration, by a number
/// that no other has which runs.
pub fn exec_process(number: u32) -> String {
    format!("{EXECS}/{number}.json")
}

/// File in which the runtime leaves that process's id, as the container counts.
pub fn exec_pid(number: u32) -> String {
    format!("{EXECS}/{number}.pid")
}

/// Where one of the mounts that came with the plan is attached, by its place
/// among them.
pub fn mount(index: usize) -> String {
    format!("{MOUNTS}/{index}")
}

/// Where a namespace is named, by the name that `/proc/PID/ns` has for its kind.
pub fn namespace(kind: &str) -> String {
    format!("{NAMESPACES}/{kind}")
}
