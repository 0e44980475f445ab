//! Resource limits of the process.

use crate::contribution::Contribution;
use crate::isolator::{Isolator, PodView, Refusal};
use crate::spec::ContainerSpec;
use insula_wire::plan::{Rlimit, RlimitResource};

/// Open files: a soft limit that programs using select(2) can live with, and
/// a hard limit that databases raise it to. The daemon's own may be unlimited,
/// and some programs close every possible descriptor at start.
const OPEN_FILES: (u64, u64) = (1024, 524_288);

/// The CRI has no field for limits: every container gets the same.
#[derive(Debug)]
pub(crate) struct Rlimits;

impl Isolator for Rlimits {
    fn name(&self) -> &'static str {
        "rlimits"
    }

    fn prepare(&self, _spec: &ContainerSpec, pod: &PodView<'_>) -> Result<Contribution, Refusal> {
        let hard = OPEN_FILES.1.min(pod.host.open_files);
        Ok(Contribution {
            rlimits: vec![Rlimit {
                resource: RlimitResource::Nofile,
                soft: OPEN_FILES.0.min(hard),
                hard,
            }],
            ..Contribution::default()
        })
    }
}
