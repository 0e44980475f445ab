//! The kernel, probed by using it.

use super::Row;
use insula_pods::CgroupDriver;
use insula_sys::cgroup::{Layout, Version};
use insula_sys::mount::{Attributes, clone_tree, new_filesystem, set_attributes};
use rustix::fs::OFlags;
use std::fs;
use std::os::fd::AsFd as _;
use std::path::Path;

/// Controllers that limits need, by their names in version 2, what version 1
/// calls them, and what is lost without.
const CONTROLLERS: &[(&str, &str, &str)] = &[
    ("cpu", "cpu", "cpu shares and quotas are refused"),
    (
        "memory",
        "memory",
        "memory limits are refused, and nobody learns of OOM kills",
    ),
    (
        "pids",
        "pids",
        "limits on the number of processes are refused",
    ),
    (
        "cpuset",
        "cpuset",
        "containers cannot be pinned to processors",
    ),
    ("io", "blkio", "weights and limits of disks are refused"),
    (
        "hugetlb",
        "hugetlb",
        "limits of huge pages other than 0 are refused",
    ),
];

pub(super) fn kernel() -> Row {
    let release = rustix::system::uname()
        .release()
        .to_string_lossy()
        .into_owned();
    let number = |text: Option<&str>| text.and_then(|text| text.parse::<u32>().ok()).unwrap_or(0);
    let mut parts = release.split(|c: char| !c.is_ascii_digit());
    let version = (number(parts.next()), number(parts.next()));
    match version {
        (6.., _) if version >= (6, 6) => Row::ok("kernel", release),
        _ if version >= (5, 15) => Row::warning(
            "kernel",
            format!("{release} is older than 6.6"),
            "some features have slower fallbacks, see the rows below",
        ),
        _ => Row::missing(
            "kernel",
            format!("{release} is older than 5.15"),
            "nothing is tested on a kernel this old",
        ),
    }
}

pub(super) fn root_rights() -> Row {
    let uid = rustix::process::geteuid();
    if uid.is_root() {
        Row::ok("root rights", "user id 0")
    } else {
        Row::missing(
            "root rights",
            format!("user id {}", uid.as_raw()),
            "namespaces, mounts and cgroups cannot be made",
        )
    }
}

pub(super) fn cgroups() -> Vec<Row> {
    let layout = match Layout::detect() {
        Ok(layout) => layout,
        Err(error) => {
            return vec![Row::missing(
                "cgroups",
                error.to_string(),
                "no pod can be made",
            )];
        }
    };
    let version = layout.version();
    let mut rows = vec![match version {
        Version::V2 => Row::ok("cgroups", "version 2"),
        Version::V1 => Row::warning(
            "cgroups",
            format!("version 1, {} hierarchies", layout.hierarchies().len()),
            "children join their groups after fork, killing a group takes a freeze, and \
             memory.high and memory.min do not exist",
        ),
    }];
    rows.extend(CONTROLLERS.iter().map(|(new, old, lost)| {
        let name = if version == Version::V2 { new } else { old };
        let row = format!("cgroup controller {name}");
        if layout.has(name) {
            Row::ok(&row, "mounted")
        } else {
            Row::missing(&row, "not mounted, or not enabled in the kernel", lost)
        }
    }));
    rows
}

/// Who makes cgroups here, and whether that works: with systemd, D-Bus has to
/// answer.
pub(super) fn cgroup_driver(configured: CgroupDriver) -> Row {
    let name = "cgroup driver";
    // Whatever runtime the caller is on cannot be blocked.
    let asked = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| error.to_string())?;
        runtime
            .block_on(insula_pods::try_cgroup_driver(configured))
            .map_err(|error| error.to_string())
    });
    let tried = asked
        .join()
        .unwrap_or_else(|_| Err("the probe broke off".to_owned()))
        .map(|driver| match (configured, driver) {
            (CgroupDriver::Auto, CgroupDriver::Systemd) => {
                "systemd, which has booted this machine".to_owned()
            }
            (CgroupDriver::Auto, driver) => format!("{}, chosen by auto", driver.name()),
            (_, driver) => driver.name().to_owned(),
        });
    Row::tried(name, tried, "the daemon does not start")
}

/// An overlay with a volatile upper directory, as containers have, on the file
/// system that theirs are on.
pub(super) fn overlay(root: &Path) -> Row {
    let name = "overlayfs, volatile";
    let lost = "containers have no root file system";
    // The daemon may not have made its directory yet.
    let base = root
        .ancestors()
        .find(|path| path.is_dir())
        .unwrap_or(Path::new("/"));
    let scratch = base.join(format!(".insula-doctor-{}", std::process::id()));
    let tried = (|| {
        for part in ["lower", "upper", "work"] {
            fs::create_dir_all(scratch.join(part)).map_err(|error| {
                format!("cannot make a directory in {}: {error}", base.display())
            })?;
        }
        let part = |part: &str| scratch.join(part).to_string_lossy().into_owned();
        let (lower, upper, work) = (part("lower"), part("upper"), part("work"));
        let options = [
            ("lowerdir", Some(lower.as_str())),
            ("upperdir", Some(upper.as_str())),
            ("workdir", Some(work.as_str())),
            ("volatile", None),
        ];
        new_filesystem("overlay", options, Attributes::default())
            .map(|_| format!("works on {}", base.display()))
            .map_err(|error| error.to_string())
    })();
    // An overlay's work directory holds one of its own.
    let _ = fs::remove_dir_all(&scratch);
    Row::tried(name, tried, lost)
}

pub(super) fn paths_in_root() -> Row {
    let tried = fs::File::open("/")
        .map_err(|error| error.to_string())
        .and_then(|root| {
            insula_sys::path::open_in_root(root.as_fd(), "../../proc", OFlags::PATH)
                .map(|_| "RESOLVE_IN_ROOT works".to_owned())
                .map_err(|error| error.to_string())
        });
    Row::tried(
        "openat2",
        tried,
        "paths inside containers cannot be resolved safely, so none can be made",
    )
}

pub(super) fn mount_attributes() -> Row {
    let attributes = Attributes {
        nosuid: true,
        ..Attributes::default()
    };
    let tried = clone_tree(Path::new("/proc"), false)
        .and_then(|mount| set_attributes(&mount, attributes))
        .map(|()| "open_tree and mount_setattr work".to_owned());
    Row::tried("detached mounts", tried, "volumes cannot be made")
}

pub(super) fn recursive_read_only() -> Row {
    Row::tried(
        "recursive read-only mounts",
        try_recursive_read_only().map(|()| "mount_setattr with AT_RECURSIVE works".to_owned()),
        "mounts with recursive_read_only are refused",
    )
}

/// Whether a mount and all below it can be made read-only in one step.
pub(crate) fn try_recursive_read_only() -> insula_sys::Result<()> {
    let attributes = Attributes {
        readonly: true,
        recursive: true,
        ..Attributes::default()
    };
    let mount = clone_tree(Path::new("/proc"), true)?;
    set_attributes(&mount, attributes)
}

pub(super) fn pidfd() -> Row {
    let own = rustix::process::getpid();
    let tried = rustix::process::pidfd_open(own, rustix::process::PidfdFlags::empty())
        .map(|_| "pidfd_open works".to_owned())
        .map_err(|errno| format!("pidfd_open: {errno}"));
    Row::tried("pidfd", tried, "processes cannot be watched without a race")
}

pub(super) fn oom_score() -> Row {
    match try_lower_oom_score() {
        Ok(()) => Row::ok("CAP_SYS_RESOURCE", "a lower oom_score_adj can be set"),
        Err(error) => Row::warning(
            "CAP_SYS_RESOURCE",
            format!("a lower oom_score_adj cannot be set: {error}"),
            "containers with a negative oom_score_adj keep the daemon's own",
        ),
    }
}

/// Whether `oom_score_adj` can be lowered here, tried on this process for a
/// moment.
pub(crate) fn try_lower_oom_score() -> std::io::Result<()> {
    let file = "/proc/self/oom_score_adj";
    let before = fs::read_to_string(file)?;
    let value: i32 = before.trim().parse().map_err(std::io::Error::other)?;
    if value <= -1000 {
        return Ok(());
    }
    fs::write(file, (value - 1).to_string())?;
    fs::write(file, before.trim())
}

/// Pressure stall information, which is kept only in the unified hierarchy
/// (accounting/psi.rst). A kernel may have it switched off at boot.
pub(super) fn pressure() -> Row {
    let name = "pressure stall information";
    let file = "/proc/pressure/cpu";
    let unified = Layout::detect().is_ok_and(|layout| layout.unified().is_some());
    match fs::read_to_string(file) {
        Ok(_) if unified => Row::ok(name, "the kernel keeps it for each cgroup"),
        Ok(_) => Row::warning(
            name,
            "the kernel keeps it, but no cgroup2 file system is mounted",
            "statistics and metrics do not tell how long containers wait; mount cgroup2 at \
             /sys/fs/cgroup/unified",
        ),
        Err(error) => Row::warning(name, format!("{file}: {error}"), no_pressure(&error)),
    }
}

/// What is lost where the file cannot be opened, and what helps: the kernel has
/// it always if it was built with that, and refuses to open it where it was
/// switched off (`psi_cpu_open`, EOPNOTSUPP).
fn no_pressure(error: &std::io::Error) -> &'static str {
    use std::io::ErrorKind;
    match error.kind() {
        ErrorKind::NotFound => {
            "statistics and metrics do not tell how long containers wait; that takes a kernel \
             with CONFIG_PSI"
        }
        ErrorKind::PermissionDenied => {
            "whether statistics and metrics tell how long containers wait is not known: this \
             process may not look"
        }
        _ => "statistics and metrics do not tell how long containers wait; boot with psi=1",
    }
}

/// Filters of system calls. The file names the verdicts that the kernel has
/// (Linux 4.14, admin-guide/sysctl/kernel.rst, "seccomp").
pub(super) fn seccomp() -> Row {
    let file = "/proc/sys/kernel/seccomp/actions_avail";
    match std::fs::read_to_string(file) {
        Ok(actions) => Row::ok("seccomp", format!("verdicts: {}", actions.trim())),
        Err(error) => Row::missing(
            "seccomp",
            format!("{file}: {error}; the kernel needs CONFIG_SECCOMP_FILTER"),
            "containers that ask for RuntimeDefault or a profile of the node do not start",
        ),
    }
}
