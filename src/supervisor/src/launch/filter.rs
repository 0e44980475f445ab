//! When a process loads its system call filter.
//!
//! As late as can be: whatever is done after is filtered, too, and the
//! profile's author has the workload in mind, not us. Loading takes
//! `no_new_privs` or CAP_SYS_ADMIN (seccomp(2)), which decides when that is:
//!
//! | the process | loads | what is filtered of ours |
//! |---|---|---|
//! | has no_new_privs or CAP_SYS_ADMIN anyway | last | execve |
//! | is alone in its PID namespace | last, with CAP_SYS_ADMIN kept for it | execve |
//! | is seen by others | before it is cloned, and gives CAP_SYS_ADMIN up then | capset, clone, setsid, with a terminal ioctl, execve, exit_group |
//!
//! A filter with a listener is loaded before the clone in any case: whoever loads
//! it has the listener, and nobody that tenants see may ([`keeper`]). All that the
//! third row names may then wait for an answer.
//!
//! [`keeper`]: crate::launch::keeper
//!
//! A capability that is kept ends at execve(2): the new sets are made from the
//! bounding, inheritable and ambient ones (capabilities(7)), which lack it. In
//! a process that tenants can see, one with CAP_SYS_PTRACE could take it.

use crate::launch::identity::masks;
use crate::launch::keeper::Keeper;
use insula_sys::Error;
use insula_sys::identity::{self, CapabilityMasks};
use insula_sys::outcome::Outcome;
use insula_sys::seccomp::{self, Flags};
use insula_wire::plan::Process;
use insula_wire::{Capability, CapabilitySet};
use rustix::io::Errno;

/// A process's filter, made ready; it is loaded without taking memory.
#[derive(Debug)]
pub struct Filter {
    /// `None` where the process has none.
    ready: Option<seccomp::Filter>,
    /// What the process keeps to be allowed to load it.
    kept: CapabilitySet,
    /// What it has without that.
    rights: CapabilityMasks,
}

// === impl Filter ===

impl Filter {
    /// That of a process which has none.
    pub fn none() -> Self {
        Self {
            ready: None,
            kept: CapabilitySet::EMPTY,
            rights: CapabilityMasks::default(),
        }
    }

    /// Makes the filter ready.
    pub fn new(process: &Process) -> Self {
        let may_load = process.no_new_privileges
            || process
                .capabilities
                .effective
                .contains(Capability::SysAdmin);
        let kept = match &process.seccomp {
            Some(_) if !may_load => [Capability::SysAdmin].into_iter().collect(),
            _ => CapabilitySet::EMPTY,
        };
        let ready = process.seccomp.as_ref().map(|filter| {
            let flags = Flags {
                log: filter.log,
                spec_allow: filter.spec_allow,
                wait_killable: filter
                    .listener
                    .as_ref()
                    .is_some_and(|listener| listener.wait_killable),
            };
            seccomp::Filter::new(filter.program.as_bytes(), flags)
        });
        Self {
            ready,
            kept,
            rights: masks(&process.capabilities),
        }
    }

    /// The capabilities that the process has until it executes.
    pub fn rights_until_loaded(&self) -> CapabilityMasks {
        CapabilityMasks {
            effective: self.rights.effective | self.kept.bits(),
            permitted: self.rights.permitted | self.kept.bits(),
            ..self.rights
        }
    }

    /// Loads it, where nobody sees what was kept for that.
    pub fn load(&self) -> insula_sys::Result<()> {
        match &self.ready {
            Some(filter) => filter.load(),
            None => Ok(()),
        }
    }

    /// Loads it there, with a listener that the keeper passes on.
    pub fn load_listening(&self, keeper: &Keeper, outcome: &Outcome) -> insula_sys::Result<()> {
        keeper.announce()?;
        match &self.ready {
            Some(filter) => filter.load_listening(outcome),
            None => Ok(()),
        }
    }

    /// Before the clone of a process that others see: loads the filter that
    /// the clone itself could not load, and gives up what was kept.
    pub fn load_for_clone(&self) -> insula_sys::Result<()> {
        if self.kept == CapabilitySet::EMPTY {
            return Ok(());
        }
        self.load()?;
        identity::limit_capabilities(self.rights)
    }

    /// The same with a listener, which the clone could not pass on: waits until
    /// that is done.
    pub fn load_listening_for_clone(
        &self,
        keeper: &Keeper,
        outcome: &Outcome,
    ) -> insula_sys::Result<()> {
        self.load_listening(keeper, outcome)?;
        if !outcome.spin_until_confirmed() {
            return Err(Error::new(
                "wait for the listener's keeper",
                Errno::TIMEDOUT,
            ));
        }
        match self.kept == CapabilitySet::EMPTY {
            true => Ok(()),
            false => identity::limit_capabilities(self.rights),
        }
    }

    /// In that clone: loads the filter if that was not done before.
    pub fn load_in_clone(&self) -> insula_sys::Result<()> {
        match self.kept == CapabilitySet::EMPTY {
            true => self.load(),
            false => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Filter;
    use insula_wire::plan::{Capabilities, Process, User};
    use insula_wire::{Capability, CapabilitySet, FilterProgram, SeccompFilter};

    fn process(no_new_privileges: bool, has: &[Capability], filtered: bool) -> Process {
        let set: CapabilitySet = has.iter().copied().collect();
        Process {
            args: Vec::new(),
            env: Vec::new(),
            cwd: "/".to_owned(),
            user: User {
                uid: 0,
                gid: 0,
                supplementary_groups: Vec::new(),
            },
            umask: 0o022,
            capabilities: Capabilities {
                bounding: set,
                effective: set,
                permitted: set,
                ..Capabilities::default()
            },
            no_new_privileges,
            rlimits: Vec::new(),
            oom_score_adj: None,
            apparmor_profile: None,
            selinux_label: None,
            seccomp: filtered.then(|| SeccompFilter {
                program: FilterProgram::new(vec![6, 0, 0, 0, 0, 0, 0, 0]).unwrap(),
                log: false,
                spec_allow: false,
                listener: None,
            }),
        }
    }

    #[test]
    fn only_who_could_not_load_a_filter_keeps_something_for_it() {
        let (chown, admin) = (Capability::Chown, Capability::SysAdmin);
        for (no_new_privileges, has, filtered, expected) in [
            (false, &[chown][..], false, &[chown][..]),
            (false, &[chown], true, &[chown, admin]),
            (true, &[chown], true, &[chown]),
            (false, &[admin], true, &[admin]),
            (false, &[], true, &[admin]),
        ] {
            let filter = Filter::new(&process(no_new_privileges, has, filtered));
            let rights = filter.rights_until_loaded();
            let expected: CapabilitySet = expected.iter().copied().collect();
            assert_eq!(rights.permitted, expected.bits());
            assert_eq!(rights.effective, expected.bits());
            let has: CapabilitySet = has.iter().copied().collect();
            assert_eq!(rights.bounding, has.bits());
        }
    }
}
