//! A profile compiled for one kind of container.

use crate::compile::{CompileError, Newer, compile};
use crate::profile::{Flags, Listener, Profile};
use crate::program::Program;
use crate::select::{Context, Rules};

/// What a process loads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    /// What is asked for every system call.
    pub program: Program,
    /// How it is loaded.
    pub flags: Flags,
    /// Who answers where the program says [`Notify`](crate::Action::Notify).
    pub listener: Option<Listener>,
    /// System calls that the profile names and no architecture of its has.
    /// They are passed over: profiles name what other machines and newer
    /// kernels have.
    pub unknown: Vec<String>,
}

// === impl Filter ===

impl Filter {
    /// Compiles a profile.
    pub fn compile(profile: &Profile, context: &Context) -> Result<Self, CompileError> {
        let rules = Rules::select(profile, context);
        Ok(Self {
            program: compile(&rules, Newer::DoNotExist)?,
            flags: profile.flags,
            listener: profile.listener.clone(),
            unknown: rules.unknown,
        })
    }
}
