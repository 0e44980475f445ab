//! Whether a privileged container may be.

use crate::contribution::Contribution;
use crate::isolator::{Isolator, PodView, Refusal};
use crate::spec::ContainerSpec;

/// Lets a privileged container only into a pod that was made for them (CRI
/// `LinuxSandboxSecurityContext.privileged`). What privileged means is with
/// the isolators whose part of the kernel it concerns.
#[derive(Debug)]
pub(crate) struct Privileged;

impl Isolator for Privileged {
    fn name(&self) -> &'static str {
        "privileged"
    }

    fn prepare(&self, spec: &ContainerSpec, pod: &PodView<'_>) -> Result<Contribution, Refusal> {
        if spec.security.privileged && !pod.spec.privileged {
            return Err(Refusal::new(
                "no privileged container allowed in sandbox: its pod was not made as privileged",
            ));
        }
        Ok(Contribution::default())
    }
}
