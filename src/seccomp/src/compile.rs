//! From rules to a program.
//!
//! ```text
//! architecture? ── one of the profile's ──► number? ── binary search ──► action
//!       │                                                          └──► arguments? ──► action
//!       └── any other ──► the thread is killed
//! ```
//!
//! All numbers are cut into ranges of equal fate, and the range is found by
//! halving: eight comparisons or fewer for Docker's default profile, where a
//! list of its system calls takes hundreds. The program keeps to instructions
//! that the kernel can judge beforehand: what is always allowed is remembered
//! in a bitmap and never gets here (Linux 5.11, kernel/seccomp.c).

use crate::action::{Action, ENOSYS};
use crate::architecture::{ARM_PRIVATE, Architecture, X32_BIT};
use crate::assemble::{Assembler, Target};
use crate::judgement::{Comparison, Contradiction, Judgement, half, judge};
use crate::profile::Operator;
use crate::program::{AND, AT_LEAST, Call, EQUAL, GREATER, InvalidProgram, Program};
use crate::select::Rules;
use std::collections::{BTreeMap, HashMap};
use std::ops::RangeInclusive;

/// System calls that are newer than all that a profile names, so that its
/// author cannot have meant them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Newer {
    /// They do not exist (`ENOSYS`), unless the default action lets calls
    /// pass: programs know what to do on an older kernel, but not what `EPERM`
    /// means. runc does so, too.
    DoNotExist,
    /// They get the default action.
    GetDefault,
}

/// Rules cannot be made a program.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CompileError {
    /// They contradict each other.
    #[error(transparent)]
    Contradiction(#[from] Contradiction),
    /// There are too many.
    #[error("the profile has too many rules: {0}")]
    TooLong(#[from] InvalidProgram),
}

/// Makes a program of rules.
pub fn compile(rules: &Rules, newer: Newer) -> Result<Program, CompileError> {
    let mut compiler = Compiler {
        assembler: Assembler::default(),
        default_action: rules.default_action,
        made: HashMap::new(),
    };
    let mut sections: Vec<(u32, Fates)> = Vec::new();
    for architecture in &rules.architectures {
        let audit = architecture.audit();
        // x32 is a part of x86_64.
        if sections.iter().all(|(known, _)| *known != audit) {
            sections.push((audit, Fates::new(rules, audit, newer)?));
        }
    }
    let mut next = Target::Return(Action::KillThread);
    for (audit, fates) in sections.iter().rev() {
        let ranges = fates.ranges();
        let search = compiler.search(&ranges);
        let section = compiler.assembler.load(Call::NUMBER, search);
        next = compiler.assembler.branch(EQUAL, *audit, section, next);
    }
    let begin = compiler.assembler.load(Call::AUDIT, next);
    Ok(compiler.assembler.finish(begin)?)
}

/// What becomes of every number: of the one given and all up to the next.
struct Fates(BTreeMap<u32, Judgement>);

struct Compiler {
    assembler: Assembler,
    default_action: Action,
    /// Where what was made before is: many system calls share their rules.
    made: HashMap<Judgement, Target>,
}

// === impl Fates ===

impl Fates {
    fn new(rules: &Rules, audit: u32, newer: Newer) -> Result<Self, Contradiction> {
        let everything = Judgement::Always(rules.default_action);
        let mut fates = Self(BTreeMap::from([(0, everything)]));
        let has_x32 = rules.architectures.contains(&Architecture::X32);
        if audit == Architecture::X32.audit() && !has_x32 {
            // -1 is what a tracer leaves of a call it has made itself,
            // seccomp(2).
            fates.paint(
                X32_BIT..=u32::MAX - 1,
                Judgement::Always(Action::KillThread),
            );
        }
        let passes = matches!(
            rules.default_action,
            Action::Allow | Action::Log | Action::Trace(_)
        );
        let members = rules.architectures.iter().filter(|it| it.audit() == audit);
        for architecture in members.clone() {
            if let Some(newest) = rules.newest.get(architecture)
                && newer == Newer::DoNotExist
                && !passes
            {
                let end = match architecture {
                    Architecture::X86_64 => X32_BIT - 1,
                    Architecture::Arm => ARM_PRIVATE - 1,
                    _ => u32::MAX - 1,
                };
                fates.paint(newest + 1..=end, Judgement::Always(Action::Error(ENOSYS)));
            }
        }
        for architecture in members {
            for (number, judgement) in judge(rules, *architecture)? {
                fates.paint(number..=number, judgement);
            }
        }
        Ok(fates)
    }

    /// Gives a range another fate.
    fn paint(&mut self, range: RangeInclusive<u32>, judgement: Judgement) {
        let (first, last) = (*range.start(), *range.end());
        if let Some(after) = last.checked_add(1) {
            let was = self.0.range(..=after).next_back();
            if let Some(was) = was.map(|(_, was)| was.clone()) {
                self.0.insert(after, was);
            }
        }
        let inside: Vec<u32> = self.0.range(range).map(|(start, _)| *start).collect();
        for start in inside {
            self.0.remove(&start);
        }
        self.0.insert(first, judgement);
    }

    /// Neighbours of equal fate are one range.
    fn ranges(&self) -> Vec<(u32, &Judgement)> {
        let mut ranges: Vec<(u32, &Judgement)> = Vec::new();
        for (start, judgement) in &self.0 {
            if ranges.last().is_none_or(|(_, before)| *before != judgement) {
                ranges.push((*start, judgement));
            }
        }
        ranges
    }
}

// === impl Compiler ===

impl Compiler {
    /// Finds the range of the number by halving.
    fn search(&mut self, ranges: &[(u32, &Judgement)]) -> Target {
        match ranges {
            [] => Target::Return(self.default_action),
            [(_, judgement)] => self.judgement(judgement),
            _ => {
                let (lower, upper) = ranges.split_at(ranges.len() / 2);
                let above = self.search(upper);
                let below = self.search(lower);
                self.assembler.branch(AT_LEAST, upper[0].0, above, below)
            }
        }
    }

    fn judgement(&mut self, judgement: &Judgement) -> Target {
        let rules = match judgement {
            Judgement::Always(action) => return Target::Return(*action),
            Judgement::First(rules) => rules,
        };
        if let Some(made) = self.made.get(judgement) {
            return *made;
        }
        let mut next = Target::Return(self.default_action);
        for (comparisons, action) in rules.iter().rev() {
            let mut holds = Target::Return(*action);
            for comparison in comparisons.iter().rev() {
                holds = self.comparison(comparison, holds, next);
            }
            next = holds;
        }
        self.made.insert(judgement.clone(), next);
        next
    }

    fn comparison(&mut self, comparison: &Comparison, yes: Target, no: Target) -> Target {
        match comparison.operator {
            Operator::Equal | Operator::MaskedEqual => self.equal(comparison, yes, no),
            Operator::NotEqual => self.equal(comparison, no, yes),
            Operator::Greater => self.above(GREATER, comparison, yes, no),
            Operator::LessOrEqual => self.above(GREATER, comparison, no, yes),
            Operator::GreaterOrEqual => self.above(AT_LEAST, comparison, yes, no),
            Operator::Less => self.above(AT_LEAST, comparison, no, yes),
        }
    }

    fn equal(&mut self, comparison: &Comparison, yes: Target, no: Target) -> Target {
        let mut next = yes;
        for upper in [false, true] {
            let mask = half(comparison.mask, upper);
            if mask == 0 {
                continue;
            }
            next = self
                .assembler
                .branch(EQUAL, half(comparison.value, upper), next, no);
            if mask != u32::MAX {
                next = self.assembler.before(AND, mask, next);
            }
            next = self.load(comparison.argument, upper, next);
        }
        next
    }

    /// Whether the argument is above the value: by more (`GREATER`), or at all
    /// (`AT_LEAST`).
    fn above(&mut self, code: u16, comparison: &Comparison, yes: Target, no: Target) -> Target {
        let (low, high) = (half(comparison.value, false), half(comparison.value, true));
        let lower = self.assembler.branch(code, low, yes, no);
        let lower = self.load(comparison.argument, false, lower);
        if half(comparison.mask, true) == 0 {
            return lower;
        }
        // No upper half is below zero.
        let not_above = match high {
            0 => lower,
            _ => self.assembler.branch(EQUAL, high, lower, no),
        };
        let upper = self.assembler.branch(GREATER, high, yes, not_above);
        self.load(comparison.argument, true, upper)
    }

    fn load(&mut self, argument: u8, upper: bool, next: Target) -> Target {
        let offset = match upper {
            true => Call::high(argument),
            false => Call::low(argument),
        };
        self.assembler.load(offset, next)
    }
}

#[cfg(test)]
mod tests;
