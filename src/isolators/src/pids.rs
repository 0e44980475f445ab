//! How many processes.

use crate::change::Change;
use crate::isolator::{ApplyError, Isolator, Usage};
use insula_sys::cgroup::Cgroup;
use insula_wire::plan::CgroupResources;

/// `pids.max`, the same in both versions. The CRI sets no limit per container
/// (kubelet limits the pod); one may come from an adjustment of the plan.
#[derive(Debug)]
pub(crate) struct Pids;

impl Isolator for Pids {
    fn name(&self) -> &'static str {
        "pids"
    }

    fn isolate(&self, change: &mut Change<'_>, want: &CgroupResources) -> Result<(), ApplyError> {
        match want.pids_limit {
            None => Ok(()),
            Some(limit) if limit < 0 => change.write("pids", "pids.max", "max"),
            Some(limit) => change.write("pids", "pids.max", &limit.to_string()),
        }
    }

    fn usage(&self, cgroup: &Cgroup, usage: &mut Usage) {
        usage.processes = cgroup.read_number("pids", "pids.current").ok();
    }
}
