//! What the rules together say of each system call of one architecture.
//!
//! Where several rules speak of one system call, libseccomp's order decides,
//! because profiles were written and tried with it:
//!
//! - A rule without conditions replaces all before it, and none after it
//!   counts.
//! - Of rules with conditions any may hold. Where two with different actions
//!   hold at once, the one that stands earlier in a tree of comparisons
//!   counts: higher arguments first, then equalities before `<` before `>`,
//!   then larger values first (smaller ones for `<`), then the order of the
//!   profile.
//! - On 32-bit x86 sockets and System V IPC have two doors: a system call each,
//!   and one of `socketcall` and `ipc`, where the first argument says which is
//!   meant. A rule for the one is also a rule for the other, as far as it goes:
//!   conditions on the first argument are lost, since it is not there.

use crate::action::Action;
use crate::architecture::Architecture;
use crate::profile::{Condition, Operator};
use crate::select::{Rule, Rules};
use crate::tables;
use std::collections::BTreeMap;

/// What is said of one system call.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Judgement {
    /// Whatever its arguments are.
    Always(Action),
    /// The first whose conditions all hold; the default action if none.
    First(Vec<(Vec<Comparison>, Action)>),
}

/// A [`Condition`] as it is compared on an architecture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Comparison {
    /// Which argument.
    pub argument: u8,
    /// How.
    pub operator: Operator,
    /// Which bits of it count.
    pub mask: u64,
    /// What they are compared with.
    pub value: u64,
}

/// Two rules with the same conditions and different actions.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "two rules for {name} have the same conditions and different actions, {first} and {second}: keep one"
)]
pub struct Contradiction {
    /// The system call.
    pub name: String,
    /// What the earlier one says.
    pub first: Action,
    /// What the later one says.
    pub second: Action,
}

/// Sub-calls of `socketcall` (linux/net.h) and `ipc` (linux/ipc.h).
const MULTIPLEXED: &[(&str, &[(&str, u64)])] = &[
    (
        "socketcall",
        &[
            ("socket", 1),
            ("bind", 2),
            ("connect", 3),
            ("listen", 4),
            ("accept", 5),
            ("getsockname", 6),
            ("getpeername", 7),
            ("socketpair", 8),
            ("send", 9),
            ("recv", 10),
            ("sendto", 11),
            ("recvfrom", 12),
            ("shutdown", 13),
            ("setsockopt", 14),
            ("getsockopt", 15),
            ("sendmsg", 16),
            ("recvmsg", 17),
            ("accept4", 18),
            ("recvmmsg", 19),
            ("sendmmsg", 20),
        ],
    ),
    (
        "ipc",
        &[
            ("semop", 1),
            ("semget", 2),
            ("semctl", 3),
            ("semtimedop", 4),
            ("msgsnd", 11),
            ("msgrcv", 12),
            ("msgget", 13),
            ("msgctl", 14),
            ("shmat", 21),
            ("shmdt", 22),
            ("shmget", 23),
            ("shmctl", 24),
        ],
    ),
];

/// All that the rules say of an architecture's system calls, by number. What
/// is not in it gets the default action.
pub fn judge(
    rules: &Rules,
    architecture: Architecture,
) -> Result<BTreeMap<u32, Judgement>, Contradiction> {
    let mut judgements: BTreeMap<u32, Trees> = BTreeMap::new();
    for rule in &rules.rules {
        for (number, conditions) in doors(rule, architecture) {
            let comparisons = compare(&conditions, architecture);
            judgements
                .entry(number)
                .or_default()
                .add(&comparisons, rule.action, architecture.is_64_bit())
                .map_err(|first| Contradiction {
                    name: rule.name.clone(),
                    first,
                    second: rule.action,
                })?;
        }
    }
    Ok(judgements
        .into_iter()
        .map(|(number, trees)| (number, trees.finish()))
        .collect())
}

/// The numbers by which a system call can be made, and what is asked of the
/// arguments then. A later of two equal conditions would be dead, so the
/// multiplexer comes first, as in libseccomp.
fn doors(rule: &Rule, architecture: Architecture) -> Vec<(u32, Vec<Condition>)> {
    let mut doors = Vec::new();
    if architecture == Architecture::X86 {
        for (multiplexer, calls) in MULTIPLEXED {
            let call = calls.iter().find(|(name, _)| *name == rule.name);
            if let (Some((_, call)), Some(number)) =
                (call, tables::system_call(architecture, multiplexer))
            {
                let first = Condition {
                    argument: 0,
                    operator: Operator::Equal,
                    value: *call,
                    value_two: 0,
                };
                let others = rule.conditions.iter().filter(|it| it.argument != 0);
                let conditions = std::iter::once(first).chain(others.copied()).collect();
                doors.push((number, conditions));
            }
        }
    }
    if let Some(number) = tables::system_call(architecture, &rule.name) {
        doors.push((number, rule.conditions.clone()));
    }
    doors
}

/// Conditions in the order of their arguments, cut to the architecture's width.
/// A condition that always holds is left out.
fn compare(conditions: &[Condition], architecture: Architecture) -> Vec<Comparison> {
    let width = match architecture.is_64_bit() {
        true => u64::MAX,
        false => u64::from(u32::MAX),
    };
    let mut comparisons: Vec<_> = conditions
        .iter()
        .map(|condition| {
            let (mask, value) = match condition.operator {
                Operator::MaskedEqual => (condition.value, condition.value_two),
                _ => (u64::MAX, condition.value),
            };
            Comparison {
                argument: condition.argument,
                operator: condition.operator,
                mask: mask & width,
                value: value & mask & width,
            }
        })
        .filter(|comparison| comparison.mask != 0)
        .collect();
    comparisons.sort_by_key(|comparison| comparison.argument);
    comparisons
}

/// The rules of one system call while they are collected.
#[derive(Debug, Default)]
struct Trees {
    always: Option<Action>,
    level: Vec<Node>,
}

/// A half of an argument is compared here. Several rules can go through it.
#[derive(Debug)]
struct Node {
    step: Step,
    /// The rule that ends here.
    rule: Option<(Vec<Comparison>, Action)>,
    below: Vec<Node>,
}

/// One comparison of one half.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Step {
    /// Higher ones come first.
    half: u8,
    /// How it is compared; of two operators that differ only in which way out
    /// is taken it is the same.
    kind: Kind,
    mask: u32,
    value: u32,
    /// Of the whole condition; counts for the order, not for sameness.
    operator: Operator,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Equal,
    MaskedEqual,
    Greater,
    AtLeast,
}

// === impl Trees ===

impl Trees {
    /// Adds a rule, or gives back the action of the one it contradicts.
    fn add(
        &mut self,
        comparisons: &[Comparison],
        action: Action,
        wide: bool,
    ) -> Result<(), Action> {
        if self.always.is_some() {
            return Ok(());
        }
        if comparisons.is_empty() {
            self.always = Some(action);
            self.level.clear();
            return Ok(());
        }
        let mut steps = comparisons.iter().flat_map(|it| it.steps(wide)).peekable();
        let mut level = &mut self.level;
        while let Some(step) = steps.next() {
            let place = level
                .iter()
                .position(|node| node.step.is_same(step) || node.step.comes_after(step));
            let index = match place {
                Some(index) if level[index].step.is_same(step) => index,
                place => {
                    let index = place.unwrap_or(level.len());
                    level.insert(index, Node::new(step));
                    index
                }
            };
            let node = &mut level[index];
            if steps.peek().is_none() {
                return node.end(comparisons.to_vec(), action);
            }
            level = &mut node.below;
        }
        Ok(())
    }

    fn finish(self) -> Judgement {
        if let Some(action) = self.always {
            return Judgement::Always(action);
        }
        let mut rules = Vec::new();
        collect(self.level, &mut rules);
        Judgement::First(rules)
    }
}

fn collect(level: Vec<Node>, rules: &mut Vec<(Vec<Comparison>, Action)>) {
    for node in level {
        rules.extend(node.rule);
        collect(node.below, rules);
    }
}

// === impl Node ===

impl Node {
    fn new(step: Step) -> Self {
        Self {
            step,
            rule: None,
            below: Vec::new(),
        }
    }

    fn end(&mut self, comparisons: Vec<Comparison>, action: Action) -> Result<(), Action> {
        match &self.rule {
            Some((known, first)) if *known == comparisons && *first != action => Err(*first),
            // Of `= 5` and `!= 5`, which both end here, each keeps its place.
            Some((known, _)) if *known != comparisons => {
                let mut node = Self::new(self.step);
                node.rule = Some((comparisons, action));
                self.below.push(node);
                Ok(())
            }
            Some(_) => Ok(()),
            None => {
                self.rule = Some((comparisons, action));
                Ok(())
            }
        }
    }
}

// === impl Comparison ===

impl Comparison {
    /// Whether it holds.
    pub fn holds(&self, argument: u64) -> bool {
        let argument = argument & self.mask;
        match self.operator {
            Operator::Equal | Operator::MaskedEqual => argument == self.value,
            Operator::NotEqual => argument != self.value,
            Operator::Less => argument < self.value,
            Operator::LessOrEqual => argument <= self.value,
            Operator::GreaterOrEqual => argument >= self.value,
            Operator::Greater => argument > self.value,
        }
    }

    /// The comparisons of halves it is made of, as libseccomp orders them. A
    /// machine of 32 bits has no upper half.
    fn steps(&self, wide: bool) -> Vec<Step> {
        use Operator::{Equal, Greater, GreaterOrEqual, Less, LessOrEqual, MaskedEqual, NotEqual};
        let step = |upper: bool, kind| Step {
            half: 2 * self.argument + u8::from(upper),
            kind,
            mask: half(self.mask, upper),
            value: half(self.value, upper),
            operator: self.operator,
        };
        let lower = match self.operator {
            Equal | NotEqual => Kind::Equal,
            MaskedEqual => Kind::MaskedEqual,
            Greater | LessOrEqual => Kind::Greater,
            GreaterOrEqual | Less => Kind::AtLeast,
        };
        match lower {
            _ if !wide => vec![step(false, lower)],
            Kind::Equal | Kind::MaskedEqual => vec![step(true, lower), step(false, lower)],
            Kind::Greater | Kind::AtLeast => vec![
                step(true, Kind::Greater),
                step(true, Kind::Equal),
                step(false, lower),
            ],
        }
    }
}

/// One half of a value.
#[expect(clippy::cast_possible_truncation, reason = "a half is taken")]
pub(crate) fn half(value: u64, upper: bool) -> u32 {
    if upper {
        (value >> 32) as u32
    } else {
        value as u32
    }
}

// === impl Step ===

impl Step {
    fn is_same(self, other: Self) -> bool {
        let key = |step: Self| (step.half, step.kind, step.mask, step.value);
        key(self) == key(other)
    }

    /// Whether a new step is put before this one.
    fn comes_after(self, new: Self) -> bool {
        let rank = |step: Self| (step.half, step.priority());
        match rank(self).cmp(&rank(new)) {
            std::cmp::Ordering::Equal => match self.operator {
                Operator::Less | Operator::LessOrEqual => self.value > new.value,
                _ => self.value < new.value,
            },
            order => order.is_lt(),
        }
    }

    fn priority(self) -> u8 {
        match self.operator {
            Operator::MaskedEqual | Operator::Equal | Operator::NotEqual => 3,
            Operator::LessOrEqual | Operator::Less => 2,
            Operator::GreaterOrEqual | Operator::Greater => 1,
        }
    }
}

#[cfg(test)]
mod tests;
