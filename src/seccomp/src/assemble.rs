//! Puts a program together from its end.
//!
//! The machine jumps ahead only, so what is jumped to is always there already
//! when a program grows from its end, and its distance is known. Conditional
//! jumps reach 255 instructions: further ones are bridged by an unconditional
//! jump, or by a return of their own.

use crate::action::Action;
use crate::program::{Instruction, InvalidProgram, JUMP, LOAD, Program, RETURN};
use std::collections::HashMap;

/// A program that grows.
#[derive(Debug, Default)]
pub(crate) struct Assembler {
    /// The last instruction first.
    reversed: Vec<Instruction>,
    /// The nearest return of each action.
    returns: HashMap<Action, usize>,
    /// The nearest bridge to each place.
    bridges: HashMap<usize, usize>,
}

/// Where a jump leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Target {
    /// To an instruction: how many there are from it to the end.
    At(usize),
    /// To the end with this action.
    Return(Action),
}

/// How far a conditional jump reaches.
const REACH: usize = u8::MAX as usize;

// === impl Assembler ===

impl Assembler {
    /// A conditional jump; gives back where it is.
    pub(crate) fn branch(&mut self, code: u16, k: u32, yes: Target, no: Target) -> Target {
        if yes == no {
            return yes;
        }
        let (mut yes, mut no) = (yes, no);
        loop {
            let before = self.reversed.len();
            let on_true = self.bring_near(yes);
            let on_false = self.bring_near(no);
            // What was put in for the one moved the other away.
            if self.reversed.len() == before
                && let (Some(on_true), Some(on_false)) =
                    (self.distance(on_true), self.distance(on_false))
            {
                return self.push(Instruction {
                    code,
                    on_true,
                    on_false,
                    k,
                });
            }
            (yes, no) = (Target::At(on_true), Target::At(on_false));
        }
    }

    /// Loads a word and goes on at the target.
    pub(crate) fn load(&mut self, offset: u32, next: Target) -> Target {
        self.before(LOAD, offset, next)
    }

    /// An instruction that does not jump, and goes on at the target.
    pub(crate) fn before(&mut self, code: u16, k: u32, next: Target) -> Target {
        let place = self.place(next);
        if place != self.reversed.len() {
            self.jump_to(place);
        }
        self.push(Instruction {
            code,
            on_true: 0,
            on_false: 0,
            k,
        })
    }

    /// The program that begins at the target.
    pub(crate) fn finish(mut self, begin: Target) -> Result<Program, InvalidProgram> {
        let place = self.place(begin);
        self.reversed.truncate(place);
        self.reversed.reverse();
        Program::new(self.reversed)
    }

    fn push(&mut self, instruction: Instruction) -> Target {
        self.reversed.push(instruction);
        Target::At(self.reversed.len())
    }

    /// How far a jump would lead that is put in now.
    fn distance(&self, place: usize) -> Option<u8> {
        u8::try_from(self.reversed.len() - place).ok()
    }

    fn place(&mut self, target: Target) -> usize {
        match target {
            Target::At(place) => place,
            Target::Return(action) => self.give_back(action),
        }
    }

    fn bring_near(&mut self, target: Target) -> usize {
        let near = |places: &Self, place: usize| places.reversed.len() - place <= REACH;
        match target {
            Target::Return(action) => match self.returns.get(&action) {
                Some(place) if near(self, *place) => *place,
                _ => self.give_back(action),
            },
            Target::At(place) if near(self, place) => place,
            Target::At(place) => match self.bridges.get(&place) {
                Some(bridge) if near(self, *bridge) => *bridge,
                _ => {
                    let bridge = self.jump_to(place);
                    self.bridges.insert(place, bridge);
                    bridge
                }
            },
        }
    }

    fn give_back(&mut self, action: Action) -> usize {
        self.push(Instruction {
            code: RETURN,
            on_true: 0,
            on_false: 0,
            k: action.bits(),
        });
        let place = self.reversed.len();
        self.returns.insert(action, place);
        place
    }

    fn jump_to(&mut self, place: usize) -> usize {
        let distance = self.reversed.len() - place;
        self.push(Instruction {
            code: JUMP,
            on_true: 0,
            on_false: 0,
            // Longer programs than the kernel takes are refused in the end.
            k: u32::try_from(distance).unwrap_or(u32::MAX),
        });
        self.reversed.len()
    }
}

#[cfg(test)]
mod tests {
    use super::{Assembler, Target};
    use crate::action::Action;
    use crate::program::{AT_LEAST, Call, EQUAL};

    #[test]
    fn jumps_reach_any_distance() {
        // One comparison after the other: the first ones are far from the last
        // return.
        let mut assembler = Assembler::default();
        let mut next = Target::Return(Action::KillProcess);
        let far = assembler.load(16, next);
        for number in (0..1500).rev() {
            let yes = match number % 3 {
                0 => far,
                1 => Target::Return(Action::Allow),
                _ => Target::Return(Action::Error(7)),
            };
            next = assembler.branch(EQUAL, number, yes, next);
        }
        let begin = assembler.load(0, next);
        let program = assembler.finish(begin).unwrap();
        for number in 0..1500 {
            let expected = match number % 3 {
                0 => Action::KillProcess,
                1 => Action::Allow,
                _ => Action::Error(7),
            };
            let call = Call {
                number,
                ..Call::default()
            };
            assert_eq!(program.run(&call).bits, expected.bits(), "{number}");
        }
    }

    #[test]
    fn what_need_not_be_asked_is_not_and_too_much_is_refused() {
        let mut assembler = Assembler::default();
        let allow = Target::Return(Action::Allow);
        assert_eq!(assembler.branch(AT_LEAST, 3, allow, allow), allow);
        assert_eq!(assembler.finish(allow).unwrap().instructions().len(), 1);

        let mut assembler = Assembler::default();
        let mut next = Target::Return(Action::Trap);
        for number in 0..4096 {
            next = assembler.branch(EQUAL, number, allow, next);
        }
        assert!(assembler.finish(next).is_err());
    }
}
