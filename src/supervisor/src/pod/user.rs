//! Making the pod's user namespace: by the helper, with ids from the
//! supervisor.

use crate::launch::identity;
use crate::launch::report::{Go, Report, Reporter, step};
use insula_sys::Error;
use insula_sys::fork::Child;
use insula_sys::namespace::{self, Kind};
use insula_wire::IdMappings;
use insula_wire::message::{Failure, PodPlan};
use rustix::fd::OwnedFd;

/// The helper's side: makes the namespace, waits for its ids, becomes its root.
pub(super) fn make(plan: &PodPlan, reporter: &Reporter) -> Result<Option<OwnedFd>, Failure> {
    if plan.user.is_none() {
        return Ok(None);
    }
    step("make user namespace", namespace::unshare(&[Kind::User]))?;
    reporter.send(&Report::WithoutIds, &[]);
    reporter.wait_for(Go::Mapped);
    identity::become_root_inside()?;
    step("open user namespace", namespace::open_own(Kind::User)).map(Some)
}

/// The supervisor's side: gives the helper's namespace its ids, in one write
/// each (user_namespaces(7)).
pub(super) fn write_ids(helper: &Child, ids: IdMappings) -> Result<(), Failure> {
    for (file, range) in [("uid_map", ids.uids), ("gid_map", ids.gids)] {
        let path = format!("/proc/{}/{file}", helper.pid);
        let line = range.line();
        step(
            "map ids of the user namespace",
            std::fs::write(&path, &line)
                .map_err(|error| Error::from_io(format!("write({path:?}, {line:?})"), &error)),
        )?;
    }
    Ok(())
}
