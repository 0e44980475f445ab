//! cgroups that systemd makes.
//!
//! systemd is the one writer of the cgroup tree of a machine that it has
//! booted (systemd's CGROUP_DELEGATION.md): it makes a slice for each pod and a
//! scope for each container, and within a scope, which is delegated, we may do
//! as we like. A scope is made for a process that exists, so the blocked child
//! comes first:
//!
//! ```text
//! make ─► apply (values are kept) ─► place(pid): StartTransientUnit, job done
//!                                      └► the rest of the values by file
//! ```
//!
//! A scope ends, and its directory goes, when its last process does.

mod bus;
mod properties;
mod unit;

pub(super) use unit::UnitGroup;

use crate::cgroups::SliceName;
use crate::error::{Error, Result};
use bus::{Bus, BusError};
use insula_sys::cgroup::Layout;
use properties::{INFINITY, Property, Value};
use std::path::Path;
use std::time::Duration;

/// sd_booted(3): whether systemd is what booted this machine.
pub(crate) fn booted() -> bool {
    Path::new("/run/systemd/system").is_dir()
}

/// The driver. Its functions block, on a thread for it.
#[derive(Debug)]
pub(crate) struct Systemd {
    bus: Bus,
    runtime: tokio::runtime::Handle,
}

// === impl Systemd ===

impl Systemd {
    /// Connects to systemd and asks whether it can be used. `deadline` is for
    /// each call and each job.
    pub(crate) async fn open(layout: &Layout, deadline: Duration) -> Result<Self> {
        let failed = |why: String| {
            Err(Error::internal(
                "use the systemd cgroup driver",
                format!(
                    "{why}; set [cgroup] driver = \"cgroupfs\" to do without, and kubelet's cgroupDriver with it"
                ),
            ))
        };
        if !booted() {
            return failed(
                "this machine was not booted by systemd (no /run/systemd/system)".into(),
            );
        }
        if layout.version() != insula_sys::cgroup::Version::V2 {
            return failed("it needs cgroup version 2 alone, and this host has version 1".into());
        }
        let bus = Bus::new(deadline);
        match bus.root().await {
            Ok(root) if root.is_empty() || root == "/" => {}
            Ok(root) => {
                return failed(format!(
                    "systemd's own root is {root:?} in the cgroup tree that is mounted here"
                ));
            }
            Err(error) => return failed(error.to_string()),
        }
        Ok(Self {
            bus,
            runtime: tokio::runtime::Handle::current(),
        })
    }

    /// Starts a scope around processes.
    fn start_scope(
        &self,
        unit: &str,
        slice: &SliceName,
        pids: &[i32],
        limits: &[Property],
        layout: &Layout,
    ) -> std::result::Result<(), BusError> {
        let pids = pids.iter().filter_map(|pid| u32::try_from(*pid).ok());
        let mut properties = vec![
            Property::text("Description", "Insula"),
            Property::text("Slice", slice.as_str()),
            Property {
                name: "PIDs",
                value: Value::Pids(pids.collect()),
            },
            // Ours to divide further, and no limit is touched from outside.
            Property::bool("Delegate", true),
            // It is ended by us, not ordered among the system's services.
            Property::bool("DefaultDependencies", false),
            // One that failed is forgotten like any other.
            Property::text("CollectMode", "inactive-or-failed"),
        ];
        if !limits.iter().any(|limit| limit.name == "TasksMax") {
            // Else it would be a share of what the machine can have.
            properties.push(Property::number("TasksMax", INFINITY));
        }
        properties.extend(limits.iter().cloned());
        self.start(unit, &properties, &slice.with_ancestors(), layout)
    }

    /// Starts a slice of our own.
    fn start_slice(
        &self,
        slice: &SliceName,
        limits: &[Property],
        layout: &Layout,
    ) -> std::result::Result<(), BusError> {
        let mut properties = vec![
            Property::text("Description", "Insula pod"),
            Property::bool("DefaultDependencies", false),
            Property::text("CollectMode", "inactive-or-failed"),
        ];
        for accounting in [
            "CPUAccounting",
            "MemoryAccounting",
            "TasksAccounting",
            "IOAccounting",
        ] {
            properties.push(Property::bool(accounting, true));
        }
        properties.extend(limits.iter().cloned());
        let mut around = slice.with_ancestors();
        around.pop();
        self.start(slice.as_str(), &properties, &around, layout)
    }

    /// Starts a unit, and with it those of the slices around it that nobody
    /// has made yet.
    fn start(
        &self,
        unit: &str,
        properties: &[Property],
        around: &[SliceName],
        layout: &Layout,
    ) -> std::result::Result<(), BusError> {
        let exists = |slice: &SliceName| {
            layout
                .unified()
                .is_some_and(|unified| unified.mount_point.join(slice.path()).is_dir())
        };
        let missing: Vec<&str> = around
            .iter()
            .filter(|slice| !exists(slice))
            .map(SliceName::as_str)
            .collect();
        let started = self
            .runtime
            .block_on(self.bus.start(unit, properties, &missing));
        match started {
            // Somebody else has made one of them, or the unit itself.
            Err(BusError::Exists(_) | BusError::Refused { .. }) if !missing.is_empty() => {
                self.runtime.block_on(self.bus.start(unit, properties, &[]))
            }
            started => started,
        }
    }

    fn stop(&self, unit: &str) -> std::result::Result<(), BusError> {
        self.runtime.block_on(self.bus.stop(unit))
    }
}
