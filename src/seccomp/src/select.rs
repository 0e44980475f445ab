//! From a profile to the rules that count on this machine for this container.

use crate::action::Action;
use crate::architecture::{ARM_PRIVATE, Architecture, NamedArchitecture};
use crate::profile::{Architectures, Condition, Group, KernelVersion, Profile, Requirements};
use crate::tables;
use insula_wire::CapabilitySet;
use std::collections::{BTreeMap, BTreeSet};

/// What a profile's conditions are about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Context {
    /// The machine's.
    pub architecture: Architecture,
    /// The bounding set of the process.
    pub capabilities: CapabilitySet,
    /// The machine's.
    pub kernel: KernelVersion,
}

/// The rules that count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// What becomes of all else.
    pub default_action: Action,
    /// Whose system calls are judged, the machine's own first, each once.
    pub architectures: Vec<Architecture>,
    /// In the order of the profile.
    pub rules: Vec<Rule>,
    /// The largest number among the system calls that the profile names, for
    /// each architecture that has any of them.
    pub newest: BTreeMap<Architecture, u32>,
    /// Names that none of [`Self::architectures`] knows, each once.
    pub unknown: Vec<String>,
}

/// A rule for one system call. A rule with two conditions on one argument was
/// split into rules of one condition each, of which any may hold: so do runc
/// and crun, and profiles are written for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// The system call.
    pub name: String,
    /// What becomes of it.
    pub action: Action,
    /// If all of these hold; each is about another argument.
    pub conditions: Vec<Condition>,
}

// === impl Rules ===

impl Rules {
    /// Selects from a profile. Rules that say what the default action says
    /// anyway are left out, as by runc and crun.
    pub fn select(profile: &Profile, context: &Context) -> Self {
        let architectures = profile.architectures.select(context.architecture);
        let mut rules = Vec::new();
        let mut unknown = BTreeSet::new();
        let mut newest = BTreeMap::new();
        for group in profile.groups.iter().filter(|it| it.counts(context)) {
            let conditions = group.alternatives();
            for name in &group.names {
                let mut known = false;
                for architecture in &architectures {
                    let Some(number) = tables::system_call(*architecture, name) else {
                        continue;
                    };
                    known = true;
                    // Those private to ARM say nothing about the others.
                    if *architecture != Architecture::Arm || number < ARM_PRIVATE {
                        let newest = newest.entry(*architecture).or_default();
                        *newest = number.max(*newest);
                    }
                }
                if !known {
                    unknown.insert(name.clone());
                    continue;
                }
                if group.action == profile.default_action {
                    continue;
                }
                rules.extend(conditions.iter().map(|conditions| Rule {
                    name: name.clone(),
                    action: group.action,
                    conditions: conditions.clone(),
                }));
            }
        }
        Self {
            default_action: profile.default_action,
            architectures,
            rules,
            newest,
            unknown: unknown.into_iter().collect(),
        }
    }
}

// === impl Architectures ===

impl Architectures {
    fn select(&self, native: Architecture) -> Vec<Architecture> {
        let own = NamedArchitecture::Known(native);
        let listed: &[NamedArchitecture] = match self {
            Self::Listed(listed) => listed,
            Self::Mapped(maps) => maps
                .iter()
                .find(|(architecture, _)| *architecture == own)
                .map_or(&[], |(_, smaller)| smaller),
        };
        // What this machine's kernel cannot run needs no rules.
        native
            .with_smaller()
            .iter()
            .copied()
            .filter(|it| *it == native || listed.contains(&NamedArchitecture::Known(*it)))
            .collect()
    }
}

// === impl Group ===

impl Group {
    fn counts(&self, context: &Context) -> bool {
        self.includes.all_hold(context) && !self.excludes.any_holds(context)
    }

    fn alternatives(&self) -> Vec<Vec<Condition>> {
        let arguments: BTreeSet<_> = self.conditions.iter().map(|it| it.argument).collect();
        if arguments.len() == self.conditions.len() {
            return vec![self.conditions.clone()];
        }
        self.conditions.iter().map(|it| vec![*it]).collect()
    }
}

// === impl Requirements ===

impl Requirements {
    fn all_hold(&self, context: &Context) -> bool {
        let has = |capability: &Option<_>| {
            capability.is_some_and(|capability| context.capabilities.contains(capability))
        };
        (self.architectures.is_empty() || self.names(context.architecture))
            && self.capabilities.iter().all(has)
            && self.kernel.is_none_or(|least| context.kernel >= least)
    }

    fn any_holds(&self, context: &Context) -> bool {
        let has = |capability: &Option<_>| {
            capability.is_some_and(|capability| context.capabilities.contains(capability))
        };
        self.names(context.architecture)
            || self.capabilities.iter().any(has)
            || self.kernel.is_some_and(|least| context.kernel >= least)
    }

    fn names(&self, architecture: Architecture) -> bool {
        self.architectures
            .iter()
            .any(|name| name == architecture.docker_name())
    }
}
