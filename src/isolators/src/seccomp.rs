//! System call filters.

use crate::contribution::Contribution;
use crate::isolator::{Isolator, PodView, Refusal};
use crate::spec::{ContainerSpec, ProfileRequest};

/// Refuses a filter, since none can be loaded yet; running without one would
/// be less than was asked for. A privileged container never has one.
#[derive(Debug)]
pub(crate) struct Seccomp;

impl Isolator for Seccomp {
    fn name(&self) -> &'static str {
        "seccomp"
    }

    fn prepare(&self, spec: &ContainerSpec, _pod: &PodView<'_>) -> Result<Contribution, Refusal> {
        if spec.security.privileged {
            return Ok(Contribution::default());
        }
        let profile = match &spec.security.seccomp {
            ProfileRequest::Unset | ProfileRequest::Unconfined => {
                return Ok(Contribution::default());
            }
            ProfileRequest::RuntimeDefault => "RuntimeDefault".to_owned(),
            ProfileRequest::Localhost(path) => format!("Localhost {path:?}"),
        };
        Err(Refusal::new(format!(
            "seccomp profile {profile} was asked for, which this version cannot load: leave it unset or use Unconfined"
        )))
    }
}
