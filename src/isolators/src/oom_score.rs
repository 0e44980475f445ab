//! Who is killed first when memory is short.

use crate::contribution::Contribution;
use crate::isolator::{Isolator, PodView, Refusal};
use crate::spec::ContainerSpec;

/// `oom_score_adj` of proc(5), -1000 to 1000.
///
/// Without `CAP_SYS_RESOURCE` a value below the daemon's own cannot be set.
/// That is a weakness of the host and no reason to fail every guaranteed pod:
/// such a container keeps the inherited value.
#[derive(Debug)]
pub(crate) struct OomScore;

impl Isolator for OomScore {
    fn name(&self) -> &'static str {
        "oom-score"
    }

    fn prepare(&self, spec: &ContainerSpec, pod: &PodView<'_>) -> Result<Contribution, Refusal> {
        let wanted = spec.resources.oom_score_adj;
        let score = i32::try_from(wanted)
            .ok()
            .filter(|score| (-1000..=1000).contains(score))
            .ok_or_else(|| {
                Refusal::new(format!(
                    "oom_score_adj {wanted} is not between -1000 and 1000"
                ))
            })?;
        let possible = pod.host.can_lower_oom_score || score >= pod.host.oom_score_adj;
        Ok(Contribution {
            oom_score_adj: possible.then_some(score),
            ..Contribution::default()
        })
    }
}
