//! Which processors and memory nodes.

use crate::change::Change;
use crate::isolator::{ApplyError, HostFacts, Isolator, Refusal};
use crate::spec::Resources;
use insula_wire::plan::CgroupResources;

/// `cpuset.cpus` and `cpuset.mems`, the same in both versions, cpuset(7).
#[derive(Debug)]
pub(crate) struct Cpuset;

impl Isolator for Cpuset {
    fn name(&self) -> &'static str {
        "cpuset"
    }

    fn limits(&self, wanted: &Resources, _host: &HostFacts) -> Result<CgroupResources, Refusal> {
        Ok(CgroupResources {
            cpuset_cpus: list("cpuset_cpus", &wanted.cpuset_cpus)?,
            cpuset_mems: list("cpuset_mems", &wanted.cpuset_mems)?,
            ..CgroupResources::default()
        })
    }

    fn isolate(&self, change: &mut Change<'_>, want: &CgroupResources) -> Result<(), ApplyError> {
        if let Some(mems) = &want.cpuset_mems {
            change.write("cpuset", "cpuset.mems", mems)?;
        }
        if let Some(cpus) = &want.cpuset_cpus {
            change.write("cpuset", "cpuset.cpus", cpus)?;
        }
        Ok(())
    }
}

/// A list such as `0-3,7`; the kernel decides whether the numbers exist.
fn list(field: &str, text: &str) -> Result<Option<String>, Refusal> {
    let text = text.trim();
    if text.is_empty() {
        return Ok(None);
    }
    let number = |part: &str| -> Option<u32> {
        let digits = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| part.parse().ok()).flatten()
    };
    let is_range = |part: &str| match part.split_once('-') {
        None => number(part).is_some(),
        Some((first, last)) => {
            matches!((number(first), number(last)), (Some(first), Some(last)) if first <= last)
        }
    };
    if text.split(',').all(is_range) {
        Ok(Some(text.to_owned()))
    } else {
        Err(Refusal::new(format!(
            "{field} {text:?} is no list of numbers and ranges such as \"0-3,7\""
        )))
    }
}
