//! User namespaces.

use crate::contribution::Contribution;
use crate::isolator::{Isolator, PodView, Refusal};
use crate::spec::ContainerSpec;

/// Refuses a user namespace of the pod's own (CRI `userns_options`, mode POD):
/// a container that was promised one must not run as the host's root.
#[derive(Debug)]
pub(crate) struct UserNamespace;

impl Isolator for UserNamespace {
    fn name(&self) -> &'static str {
        "user-namespace"
    }

    fn prepare(&self, spec: &ContainerSpec, pod: &PodView<'_>) -> Result<Contribution, Refusal> {
        if spec.security.namespaces.user.is_some() || pod.spec.namespaces.user.is_some() {
            return Err(Refusal::new(
                "a user namespace was asked for, which this version cannot give: use the node's (hostUsers: true)",
            ));
        }
        Ok(Contribution::default())
    }
}
