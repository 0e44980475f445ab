use super::{Cgroup, CgroupPath, Hierarchy, Layout, Version};
use rustix::io::Errno;
use std::io::Write as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

const DEADLINE: Duration = Duration::from_secs(20);

#[test]
fn paths() {
    for (text, expected) in [
        ("kubepods/pod1/c1", Some("kubepods/pod1/c1")),
        ("/kubepods", Some("kubepods")),
        ("", None),
        ("/", None),
        ("//a", None),
        ("a//b", None),
        ("a/", None),
        ("a/../b", None),
        ("..", None),
        ("./a", None),
        ("a\nb", None),
        ("a\0b", None),
    ] {
        let path = text.parse::<CgroupPath>();
        assert_eq!(
            path.as_ref().ok().map(CgroupPath::as_str),
            expected,
            "{text:?}"
        );
    }
    assert!("x".repeat(256).parse::<CgroupPath>().is_err());
    assert!(
        "x/".repeat(2000)
            .trim_end_matches('/')
            .parse::<CgroupPath>()
            .is_err()
    );
    let path: CgroupPath = "/a/b".parse().unwrap();
    assert_eq!(path.name(), "b");
    assert_eq!(path.parent(), Some("a".parse().unwrap()));
    assert_eq!(path.parent().unwrap().parent(), None);
    assert_eq!(path.join("c/d").unwrap().as_str(), "a/b/c/d");
    assert!(path.join("..").is_err());
}

#[test]
fn layouts() {
    let unified =
        "31 23 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n";
    let layout = Layout::from_mountinfo(unified.as_bytes());
    assert_eq!(layout.version(), Version::V2);
    assert_eq!(
        layout.hierarchies(),
        [Hierarchy::unified("/sys/fs/cgroup", &[])]
    );

    let hybrid = "\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:1 master:2 - cgroup cgroup rw,cpu,cpuacct
33 31 0:30 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd,release_agent=/x
34 31 0:31 / /sys/fs/cgroup/my\\040memory rw - cgroup cgroup rw,memory
35 31 0:32 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
36 31 0:31 /c1 /var/lib/c1/sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
37 31 0:33 / /other ro,seclabel - ext4 /dev/sda rw,memory
bad line
38 31 0:34 / /short rw -
";
    let layout = Layout::from_mountinfo(hybrid.as_bytes());
    assert_eq!(layout.version(), Version::V1);
    let mut systemd = Hierarchy::legacy("/sys/fs/cgroup/systemd", &[]);
    systemd.name = Some("systemd".to_owned());
    assert_eq!(
        layout.hierarchies(),
        [
            Hierarchy::legacy("/sys/fs/cgroup/cpu,cpuacct", &["cpu", "cpuacct"]),
            systemd,
            Hierarchy::legacy("/sys/fs/cgroup/my memory", &["memory"]),
            Hierarchy::unified("/sys/fs/cgroup/unified", &[]),
        ]
    );
    assert!(layout.has("cpuacct") && !layout.has("pids"));
    assert_eq!(Layout::from_mountinfo(b"").hierarchies(), []);
}

#[test]
fn a_mount_at_the_usual_place_is_preferred() {
    let text = "\
1 1 0:31 /c1 /var/lib/c1/memory rw - cgroup cgroup rw,memory
2 1 0:31 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
";
    let layout = Layout::from_mountinfo(text.as_bytes());
    assert_eq!(
        layout.hierarchies(),
        [Hierarchy::legacy("/sys/fs/cgroup/memory", &["memory"])]
    );
}

/// Version 2 with a plain directory in place of the kernel's.
#[test]
fn unified_in_a_plain_directory() {
    let root = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| std::fs::write(root.path().join(name), text).unwrap();
    let read = |name: &str| std::fs::read_to_string(root.path().join(name)).unwrap();
    file("cgroup.controllers", "cpu memory rdma\n");
    file("cgroup.subtree_control", "cpu\n");
    let layout = Layout::new(vec![Hierarchy::unified(
        root.path(),
        &["cpu", "memory", "rdma"],
    )]);
    let path: CgroupPath = "pods/c1".parse().unwrap();

    assert_eq!(
        Cgroup::open(&layout, &path).unwrap_err().errno(),
        Errno::NOENT
    );
    let cgroup = Cgroup::create(&layout, &path).unwrap();
    assert_eq!(
        read("cgroup.subtree_control"),
        "+memory",
        "cpu is on, rdma is not ours"
    );
    assert_eq!(cgroup.version(), Version::V2);
    assert_eq!(cgroup.descriptors().len(), 1);
    assert!(cgroup.unified().is_some());
    assert_eq!(cgroup.controller("memory"), Some(Version::V2));
    assert_eq!(cgroup.controller("pids"), None);

    let error = cgroup.write("memory", "memory.max", "1000").unwrap_err();
    assert_eq!(error.errno(), Errno::NOENT);
    let call = format!(
        "write(\"{}/pods/c1/memory.max\", \"1000\")",
        root.path().display()
    );
    assert_eq!(error.call(), call);
    file("pods/c1/memory.max", "max\n");
    assert_eq!(
        cgroup.read_number("memory", "memory.max").unwrap(),
        u64::MAX
    );
    file(
        "pods/c1/memory.events",
        "low 0\noom 3\noom_kill 2\noom_group_kill 0\n",
    );
    assert_eq!(cgroup.oom_kills().unwrap(), 2);
    file("pods/c1/cgroup.procs", "0\n17\n4\n17\n");
    assert_eq!(
        cgroup.procs().unwrap(),
        [4, 17],
        "0 means an outer namespace"
    );
    file("pods/c1/cgroup.events", "populated 1\nfrozen 0\n");
    assert!(!cgroup.is_empty().unwrap());
    file("pods/c1/cgroup.events", "populated 0\nfrozen 0\n");
    file("pods/c1/cgroup.kill", "");
    assert!(cgroup.is_empty().unwrap());
    cgroup.kill(DEADLINE).unwrap();
    assert_eq!(read("pods/c1/cgroup.kill"), "1");
    cgroup.place(77).unwrap();
    assert!(read("pods/c1/cgroup.procs").starts_with("77"));
}

#[test]
fn a_link_in_place_of_a_file_is_not_followed() {
    let root = tempfile::tempdir().unwrap();
    std::fs::create_dir(root.path().join("c1")).unwrap();
    std::fs::write(root.path().join("elsewhere"), "as it was").unwrap();
    std::os::unix::fs::symlink("../elsewhere", root.path().join("c1/memory.max")).unwrap();
    let layout = Layout::new(vec![Hierarchy::unified(root.path(), &["memory"])]);
    let cgroup = Cgroup::open(&layout, &"c1".parse().unwrap()).unwrap();
    assert_eq!(
        cgroup
            .write("memory", "memory.max", "1")
            .unwrap_err()
            .errno(),
        Errno::LOOP
    );
    assert_eq!(
        std::fs::read_to_string(root.path().join("elsewhere")).unwrap(),
        "as it was"
    );
}

/// A cgroup of this test's own on the machine's hierarchies, gone afterwards.
struct Scratch {
    layout: Layout,
    path: CgroupPath,
    cgroup: Cgroup,
}

impl Scratch {
    /// `None`, with the reason printed, where no cgroups can be made.
    fn new(name: &str) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: making cgroups needs root");
            return None;
        }
        let layout = Layout::detect().unwrap();
        let path: CgroupPath = format!("insula-test-{}-{name}/inner", std::process::id())
            .parse()
            .unwrap();
        let cgroup = Cgroup::create(&layout, &path).unwrap();
        Some(Self {
            layout,
            path,
            cgroup,
        })
    }

    /// A shell that runs a script once it was placed.
    fn shell(&self, script: &str) -> Child {
        let mut child = Command::new("/bin/sh")
            .args(["-c", &format!("read go; {script}")])
            .stdin(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        self.cgroup.place(child.id().cast_signed()).unwrap();
        child.stdin.take().unwrap().write_all(b"go\n").unwrap();
        child
    }

    fn run(&self, script: &str) -> ExitStatus {
        self.shell(script).wait().unwrap()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let top = self.path.parent().unwrap();
        let killed = self.cgroup.kill(DEADLINE);
        let removed = Cgroup::remove_at(&self.layout, &top, DEADLINE);
        if !std::thread::panicking() {
            killed.unwrap();
            removed.unwrap();
            for hierarchy in self.layout.hierarchies() {
                assert!(!hierarchy.mount_point.join(top.as_str()).exists());
            }
        }
    }
}

#[test]
fn root_a_cgroup_is_in_every_hierarchy() {
    let Some(scratch) = Scratch::new("every") else {
        return;
    };
    let (layout, cgroup) = (&scratch.layout, &scratch.cgroup);
    assert_eq!(cgroup.version(), layout.version());
    assert_eq!(cgroup.descriptors().len(), layout.hierarchies().len());
    let again = Cgroup::create(layout, &scratch.path).unwrap();
    assert_eq!(again.procs().unwrap(), []);
    let mut child = scratch.shell("sleep 60 & wait");
    let pid = child.id().cast_signed();
    assert!(cgroup.procs().unwrap().contains(&pid));
    assert!(!cgroup.is_empty().unwrap());
    let text = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    assert_eq!(
        text.lines().filter(|line| line.ends_with("/inner")).count(),
        layout.hierarchies().len(),
        "{text}"
    );
    let outer = Cgroup::open(layout, &scratch.path.parent().unwrap()).unwrap();
    assert_eq!(outer.children().unwrap(), ["inner"]);
    assert!(!outer.is_empty().unwrap(), "not empty with what is below");
    cgroup.kill(DEADLINE).unwrap();
    child.wait().unwrap();
    assert!(outer.is_empty().unwrap());
}

#[test]
fn root_values_reach_the_right_hierarchy() {
    let Some(scratch) = Scratch::new("values") else {
        return;
    };
    let cgroup = &scratch.cgroup;
    cgroup.write("pids", "pids.max", "17").unwrap();
    assert_eq!(cgroup.read("pids", "pids.max").unwrap(), "17\n");
    let file = match cgroup.controller("memory").unwrap() {
        Version::V1 => "memory.limit_in_bytes",
        Version::V2 => "memory.max",
    };
    cgroup.write("memory", file, "16777216").unwrap();
    assert_eq!(cgroup.read_number("memory", file).unwrap(), 16_777_216);
    let error = cgroup.write("memory", file, "much").unwrap_err();
    assert_eq!(error.errno(), Errno::INVAL);
    assert!(
        error.call().contains("/inner/memory.") && error.call().contains("\"much\""),
        "{error}"
    );
    assert_eq!(
        cgroup.read("nonsense", "x").unwrap_err().errno(),
        Errno::NODEV
    );
}

#[test]
fn root_descriptors_find_their_hierarchies_again() {
    let Some(scratch) = Scratch::new("descriptors") else {
        return;
    };
    let copies = scratch
        .cgroup
        .descriptors()
        .iter()
        .map(|fd| fd.try_clone_to_owned().unwrap())
        .collect();
    let copy = Cgroup::from_descriptors(copies).unwrap();
    assert_eq!(copy.version(), scratch.cgroup.version());
    for name in ["memory", "pids", "cpuset", "freezer", "devices", "cpu"] {
        assert_eq!(
            copy.controller(name),
            scratch.cgroup.controller(name),
            "{name}"
        );
    }
    let mut child = scratch.shell("sleep 60");
    copy.kill(DEADLINE).unwrap();
    child.wait().unwrap();
    assert_eq!(copy.oom_kills().unwrap(), 0);
}

/// Also without `cgroup.kill`: version 1 hierarchies alone, with groups that
/// the workload made, processes that fork and one that was frozen.
#[test]
fn root_killing_with_the_freezer() {
    let Some(scratch) = Scratch::new("freezer") else {
        return;
    };
    let old: Vec<Hierarchy> = scratch
        .layout
        .hierarchies()
        .iter()
        .filter(|one| one.version == Version::V1)
        .cloned()
        .collect();
    if !old
        .iter()
        .any(|one| one.controllers.iter().any(|name| name == "freezer"))
    {
        eprintln!("skipped: no version 1 freezer on this host");
        return;
    }
    let legacy = Layout::new(old);
    let cgroup = Cgroup::open(&legacy, &scratch.path).unwrap();
    let deeper = Cgroup::create(&legacy, &scratch.path.join("made/by/workload").unwrap()).unwrap();
    let mut forking = scratch.shell("while :; do sleep 60 & sleep 0.01; done");
    let mut below = scratch.shell("sleep 60 & sleep 60 & wait");
    deeper.place(below.id().cast_signed()).unwrap();
    deeper.write("freezer", "freezer.state", "FROZEN").unwrap();
    cgroup.kill(DEADLINE).unwrap();
    assert!(cgroup.is_empty().unwrap());
    forking.wait().unwrap();
    below.wait().unwrap();
}

#[test]
fn root_removing_is_bounded_and_idempotent() {
    let Some(scratch) = Scratch::new("remove") else {
        return;
    };
    let mut child = scratch.shell("sleep 60");
    let deeper = scratch.path.join("a/b").unwrap();
    Cgroup::create(&scratch.layout, &deeper).unwrap();
    let error = scratch.cgroup.remove(Duration::from_millis(5)).unwrap_err();
    assert_eq!(error.errno(), Errno::BUSY);
    scratch.cgroup.kill(DEADLINE).unwrap();
    child.wait().unwrap();
    scratch.cgroup.remove(DEADLINE).unwrap();
    scratch.cgroup.remove(DEADLINE).unwrap();
    Cgroup::remove_at(&scratch.layout, &scratch.path, DEADLINE).unwrap();
    assert_eq!(
        Cgroup::open(&scratch.layout, &scratch.path)
            .unwrap_err()
            .errno(),
        Errno::NOENT
    );
    assert!(
        scratch.cgroup.procs().unwrap().is_empty(),
        "a removed group has no processes"
    );
    scratch.cgroup.kill(DEADLINE).unwrap();
}

#[test]
fn root_a_kill_group_takes_only_its_own() {
    let Some(scratch) = Scratch::new("exec") else {
        return;
    };
    let mut main = scratch.shell("sleep 60");
    let group = scratch.cgroup.create_kill_group("exec-1").unwrap();
    assert_eq!(group.descriptors().len(), 1);
    let mut exec = scratch.shell("sleep 60 & wait");
    group.place(exec.id().cast_signed()).unwrap();
    group.kill(DEADLINE).unwrap();
    exec.wait().unwrap();
    assert!(
        main.try_wait().unwrap().is_none(),
        "the main process lives on"
    );
    group.remove(DEADLINE).unwrap();
    for name in ["", ".", "..", "a/b", "../x"] {
        assert_eq!(
            scratch.cgroup.create_kill_group(name).unwrap_err().errno(),
            Errno::INVAL
        );
    }
    scratch.cgroup.kill(DEADLINE).unwrap();
    main.wait().unwrap();
}

#[test]
fn root_placing_a_process_that_has_ended_is_no_error() {
    let Some(scratch) = Scratch::new("gone") else {
        return;
    };
    let mut child = Command::new("/bin/true").spawn().unwrap();
    let pid = child.id().cast_signed();
    child.wait().unwrap();
    scratch.cgroup.place(pid).unwrap();
    assert!(scratch.cgroup.place(-5).is_err());
}

#[test]
fn root_deaths_for_want_of_memory_are_counted() {
    let Some(scratch) = Scratch::new("oom") else {
        return;
    };
    let cgroup = &scratch.cgroup;
    match cgroup.controller("memory").unwrap() {
        Version::V1 => {
            cgroup
                .write("memory", "memory.limit_in_bytes", "15728640")
                .unwrap();
            cgroup
                .write("memory", "memory.memsw.limit_in_bytes", "15728640")
                .unwrap();
        }
        Version::V2 => {
            cgroup.write("memory", "memory.max", "15728640").unwrap();
            cgroup.write("memory", "memory.swap.max", "0").unwrap();
        }
    }
    // The shell survives; its child does not.
    let status = scratch.run("head -c 60000000 /dev/zero | tail -c 60000000 > /dev/null; exit 3");
    assert_eq!(status.code(), Some(3));
    assert_eq!(cgroup.oom_kills().unwrap(), 1);
}

#[test]
fn root_the_kernel_takes_and_obeys_a_device_program() {
    use crate::bpf::{DeviceKind, DeviceRule, attach_device_program, device_program};
    let Some(scratch) = Scratch::new("devices") else {
        return;
    };
    let Some(directory) = scratch.cgroup.unified() else {
        eprintln!("skipped: no unified hierarchy on this host");
        return;
    };
    let null = |minor| DeviceRule {
        allow: true,
        kind: Some(DeviceKind::Character),
        major: Some(1),
        minor: Some(minor),
        read: true,
        write: true,
        mknod: false,
    };
    // Twice: the second takes the place of the first.
    for (minor, expected) in [(3, [true, false]), (5, [false, true])] {
        attach_device_program(directory, &device_program(&[null(minor)])).unwrap();
        for (device, expected) in ["null", "zero"].into_iter().zip(expected) {
            let status = scratch.run(&format!("exec 3< /dev/{device}"));
            assert_eq!(status.success(), expected, "/dev/{device}");
        }
    }
}
