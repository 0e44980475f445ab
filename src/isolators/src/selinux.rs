//! SELinux labels.

use crate::contribution::Contribution;
use crate::isolator::{Isolator, PodView, Refusal};
use crate::spec::ContainerSpec;

/// Refuses SELinux options: no label can be set yet. A privileged container
/// has no label, so it ignores them. Relabelling of volumes is tolerated, as
/// on file systems that know no labels.
#[derive(Debug)]
pub(crate) struct Selinux;

impl Isolator for Selinux {
    fn name(&self) -> &'static str {
        "selinux"
    }

    fn prepare(&self, spec: &ContainerSpec, pod: &PodView<'_>) -> Result<Contribution, Refusal> {
        if spec.security.selinux.is_none() || spec.security.privileged {
            return Ok(Contribution::default());
        }
        let why = if pod.host.selinux {
            "this version cannot set a label"
        } else {
            "SELinux is not enabled on this host"
        };
        Err(Refusal::new(format!(
            "SELinux options were asked for, but {why}: leave them unset"
        )))
    }
}
