//! Raw files of cgroup version 2.

use crate::change::Change;
use crate::isolator::{ApplyError, HostFacts, Isolator, Refusal};
use crate::spec::Resources;
use insula_sys::cgroup::Version;
use insula_wire::plan::CgroupResources;

/// Controllers whose files may be written by name. Not `cgroup.*`: those move,
/// freeze and kill.
const CONTROLLERS: &[&str] = &[
    "cpu", "cpuset", "hugetlb", "io", "memory", "misc", "pids", "rdma",
];

/// CRI `LinuxContainerResources.unified`: kubelet's quality of service sends
/// `memory.min`, `memory.high` and `memory.oom.group` here. Written last, so
/// that they win over what other isolators wrote.
#[derive(Debug)]
pub(crate) struct Unified;

impl Isolator for Unified {
    fn name(&self) -> &'static str {
        "unified"
    }

    fn limits(&self, wanted: &Resources, host: &HostFacts) -> Result<CgroupResources, Refusal> {
        if !wanted.unified.is_empty() && host.cgroup.version() == Version::V1 {
            return Err(Refusal::new(
                "raw cgroup files (unified) were given, which need cgroup version 2; this host has version 1",
            ));
        }
        for (file, value) in &wanted.unified {
            if controller(file).is_none() {
                return Err(Refusal::new(format!(
                    "{file:?} is no file of a cgroup version 2 controller that may be set: use names such as memory.high"
                )));
            }
            if value.is_empty() || !value.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
                return Err(Refusal::new(format!(
                    "value {value:?} for {file} is not one line of printable ASCII"
                )));
            }
        }
        Ok(CgroupResources {
            unified: wanted.unified.clone(),
            ..CgroupResources::default()
        })
    }

    fn isolate(&self, change: &mut Change<'_>, want: &CgroupResources) -> Result<(), ApplyError> {
        for (file, value) in &want.unified {
            let controller = controller(file).ok_or_else(|| {
                Refusal::new(format!(
                    "{file:?} is no file of a cgroup version 2 controller"
                ))
            })?;
            change.write(controller, file, value)?;
        }
        Ok(())
    }
}

/// The controller whose file this is: its name, a dot, and letters.
fn controller(file: &str) -> Option<&'static str> {
    let (first, rest) = file.split_once('.')?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'.';
    if rest.is_empty() || !rest.bytes().all(plain) || file.split('.').any(str::is_empty) {
        return None;
    }
    CONTROLLERS.iter().copied().find(|name| *name == first)
}
