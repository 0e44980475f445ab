//! AppArmor profiles.

use crate::contribution::Contribution;
use crate::isolator::{Isolator, PodView, Refusal};
use crate::spec::{ContainerSpec, ProfileRequest};

/// Refuses an explicit profile: on a host without AppArmor because it cannot
/// take effect there (as containerd does), on one with it because none can be
/// set yet. A privileged container ignores `RuntimeDefault` only.
#[derive(Debug)]
pub(crate) struct AppArmor;

impl Isolator for AppArmor {
    fn name(&self) -> &'static str {
        "apparmor"
    }

    fn prepare(&self, spec: &ContainerSpec, pod: &PodView<'_>) -> Result<Contribution, Refusal> {
        let profile = match &spec.security.apparmor {
            ProfileRequest::Unset | ProfileRequest::Unconfined => {
                return Ok(Contribution::default());
            }
            ProfileRequest::RuntimeDefault if spec.security.privileged => {
                return Ok(Contribution::default());
            }
            ProfileRequest::RuntimeDefault => "RuntimeDefault".to_owned(),
            ProfileRequest::Localhost(name) => format!("Localhost {name:?}"),
        };
        let why = if pod.host.apparmor {
            "this version cannot set one"
        } else {
            "AppArmor is not enabled on this host"
        };
        Err(Refusal::new(format!(
            "AppArmor profile {profile} was asked for, but {why}: leave it unset or use Unconfined"
        )))
    }
}
