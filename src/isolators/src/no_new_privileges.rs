//! `PR_SET_NO_NEW_PRIVS`.

use crate::contribution::Contribution;
use crate::isolator::{Isolator, PodView, Refusal};
use crate::spec::ContainerSpec;

/// Whether set-user-id programs and file capabilities work, prctl(2). Holds
/// for execs, too, since they take over the plan's process.
#[derive(Debug)]
pub(crate) struct NoNewPrivileges;

impl Isolator for NoNewPrivileges {
    fn name(&self) -> &'static str {
        "no-new-privileges"
    }

    fn prepare(&self, spec: &ContainerSpec, _pod: &PodView<'_>) -> Result<Contribution, Refusal> {
        Ok(Contribution {
            no_new_privileges: Some(spec.security.no_new_privs),
            ..Contribution::default()
        })
    }
}
