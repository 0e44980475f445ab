//! Programs for the kernel's packet filter machine, as far as seccomp(2) has
//! it: linux/filter.h, linux/bpf_common.h.

/// Loads a word of the [`Call`] at offset `k`: `BPF_LD | BPF_W | BPF_ABS`.
pub(crate) const LOAD: u16 = 0x20;
/// And with `k`: `BPF_ALU | BPF_AND | BPF_K`.
pub(crate) const AND: u16 = 0x54;
/// Jumps `k` ahead: `BPF_JMP | BPF_JA`.
pub(crate) const JUMP: u16 = 0x05;
/// Jumps if equal: `BPF_JMP | BPF_JEQ | BPF_K`.
pub(crate) const EQUAL: u16 = 0x15;
/// Jumps if greater: `BPF_JMP | BPF_JGT | BPF_K`.
pub(crate) const GREATER: u16 = 0x25;
/// Jumps if greater or equal: `BPF_JMP | BPF_JGE | BPF_K`.
pub(crate) const AT_LEAST: u16 = 0x35;
/// Ends with `k`: `BPF_RET | BPF_K`.
pub(crate) const RETURN: u16 = 0x06;

/// Most instructions the kernel takes, `BPF_MAXINSNS`.
pub const MAX_INSTRUCTIONS: usize = 4096;

/// `struct sock_filter`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Instruction {
    /// What to do.
    pub code: u16,
    /// How far to jump ahead if true.
    pub on_true: u8,
    /// How far to jump ahead if false.
    pub on_false: u8,
    /// Its constant.
    pub k: u32,
}

/// A filter program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program(Vec<Instruction>);

/// What a program is asked about, `struct seccomp_data` of linux/seccomp.h.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Call {
    /// Number of the system call.
    pub number: u32,
    /// `AUDIT_ARCH_*`.
    pub audit: u32,
    /// Where it was made from.
    pub instruction_pointer: u64,
    /// Its arguments.
    pub arguments: [u64; 6],
}

/// What a program answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    /// `SECCOMP_RET_*` with its data.
    pub bits: u32,
    /// How many instructions it took.
    pub instructions: usize,
}

/// A program that the kernel would not take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidProgram {
    /// Neither empty nor longer than [`MAX_INSTRUCTIONS`].
    #[error("a program of {0} instructions is not 1 to {MAX_INSTRUCTIONS} long")]
    Length(usize),
    /// An instruction that seccomp(2) does not have, or this crate does not
    /// use.
    #[error("instruction {at} has the unknown code {code:#x}")]
    Code {
        /// Where.
        at: usize,
        /// Which.
        code: u16,
    },
    /// A load from outside the [`Call`].
    #[error("instruction {at} loads from offset {offset}")]
    Offset {
        /// Where.
        at: usize,
        /// From which offset.
        offset: u32,
    },
    /// A jump out of the program, or no return at its end.
    #[error("instruction {0} leads out of the program")]
    Jump(usize),
}

// === impl Program ===

impl Program {
    /// Takes instructions that the kernel would take.
    pub fn new(instructions: Vec<Instruction>) -> Result<Self, InvalidProgram> {
        let length = instructions.len();
        if length == 0 || length > MAX_INSTRUCTIONS {
            return Err(InvalidProgram::Length(length));
        }
        for (at, instruction) in instructions.iter().enumerate() {
            let left = length - at - 1;
            let furthest = match instruction.code {
                LOAD if instruction.k >= 64 || !instruction.k.is_multiple_of(4) => {
                    let offset = instruction.k;
                    return Err(InvalidProgram::Offset { at, offset });
                }
                LOAD | AND => 1,
                JUMP => usize::try_from(instruction.k).map_or(usize::MAX, |k| k.saturating_add(1)),
                EQUAL | GREATER | AT_LEAST => {
                    usize::from(instruction.on_true.max(instruction.on_false)) + 1
                }
                RETURN => 0,
                code => return Err(InvalidProgram::Code { at, code }),
            };
            if furthest > left {
                return Err(InvalidProgram::Jump(at));
            }
        }
        Ok(Self(instructions))
    }

    /// Reads what [`Self::to_bytes`] writes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, InvalidProgram> {
        if !bytes.len().is_multiple_of(8) {
            return Err(InvalidProgram::Length(bytes.len() / 8));
        }
        let instructions = bytes
            .chunks_exact(8)
            .map(|part| Instruction {
                code: u16::from_ne_bytes([part[0], part[1]]),
                on_true: part[2],
                on_false: part[3],
                k: u32::from_ne_bytes([part[4], part[5], part[6], part[7]]),
            })
            .collect();
        Self::new(instructions)
    }

    /// Its instructions.
    pub fn instructions(&self) -> &[Instruction] {
        &self.0
    }

    /// An array of `struct sock_filter` in this machine's byte order.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.0.len() * 8);
        for instruction in &self.0 {
            bytes.extend(instruction.code.to_ne_bytes());
            bytes.extend([instruction.on_true, instruction.on_false]);
            bytes.extend(instruction.k.to_ne_bytes());
        }
        bytes
    }

    /// Runs the program as the kernel would.
    pub fn run(&self, call: &Call) -> Verdict {
        let (mut accumulator, mut at, mut instructions) = (0_u32, 0_usize, 0_usize);
        // Jumps lead ahead only and never out of it, which `new` has checked.
        while let Some(instruction) = self.0.get(at) {
            instructions += 1;
            at += 1;
            let k = instruction.k;
            let holds = match instruction.code {
                LOAD => {
                    accumulator = call.word(k);
                    continue;
                }
                AND => {
                    accumulator &= k;
                    continue;
                }
                JUMP => {
                    at += k as usize;
                    continue;
                }
                EQUAL => accumulator == k,
                GREATER => accumulator > k,
                AT_LEAST => accumulator >= k,
                _ => {
                    return Verdict {
                        bits: k,
                        instructions,
                    };
                }
            };
            at += usize::from(match holds {
                true => instruction.on_true,
                false => instruction.on_false,
            });
        }
        Verdict {
            bits: 0,
            instructions,
        }
    }
}

// === impl Call ===

impl Call {
    /// Offset of the number.
    pub(crate) const NUMBER: u32 = 0;
    /// Offset of the architecture.
    pub(crate) const AUDIT: u32 = 4;

    /// Offset of the lower half of an argument, on a little-endian machine.
    pub(crate) const fn low(argument: u8) -> u32 {
        16 + 8 * argument as u32
    }

    /// Offset of the upper half of an argument.
    pub(crate) const fn high(argument: u8) -> u32 {
        Self::low(argument) + 4
    }

    /// The word at an offset.
    #[expect(clippy::cast_possible_truncation, reason = "halves are taken")]
    fn word(&self, offset: u32) -> u32 {
        let half = |value: u64, upper: bool| match upper {
            true => (value >> 32) as u32,
            false => value as u32,
        };
        let upper = !offset.is_multiple_of(8);
        match offset {
            Self::NUMBER => self.number,
            Self::AUDIT => self.audit,
            8 | 12 => half(self.instruction_pointer, upper),
            _ => {
                let argument = (offset as usize).saturating_sub(16) / 8;
                half(self.arguments.get(argument).copied().unwrap_or(0), upper)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{
        AND, AT_LEAST, Call, EQUAL, GREATER, Instruction, InvalidProgram, JUMP, LOAD, Program,
        RETURN,
    };

    fn instruction(code: u16, k: u32, on_true: u8, on_false: u8) -> Instruction {
        Instruction {
            code,
            on_true,
            on_false,
            k,
        }
    }

    #[test]
    fn what_the_kernel_would_refuse_is_refused() {
        let end = instruction(RETURN, 0, 0, 0);
        for (program, expected) in [
            (vec![], InvalidProgram::Length(0)),
            (vec![end; 4097], InvalidProgram::Length(4097)),
            (vec![instruction(LOAD, 0, 0, 0)], InvalidProgram::Jump(0)),
            (
                vec![instruction(LOAD, 64, 0, 0), end],
                InvalidProgram::Offset { at: 0, offset: 64 },
            ),
            (
                vec![instruction(LOAD, 3, 0, 0), end],
                InvalidProgram::Offset { at: 0, offset: 3 },
            ),
            (
                vec![instruction(JUMP, 1, 0, 0), end],
                InvalidProgram::Jump(0),
            ),
            (
                vec![instruction(JUMP, u32::MAX, 0, 0), end],
                InvalidProgram::Jump(0),
            ),
            (
                vec![instruction(EQUAL, 0, 0, 1), end],
                InvalidProgram::Jump(0),
            ),
            (
                vec![instruction(0x7, 0, 0, 0), end],
                InvalidProgram::Code { at: 0, code: 7 },
            ),
        ] {
            assert_eq!(Program::new(program), Err(expected));
        }
        assert!(Program::new(vec![end; 4096]).is_ok());
        assert_eq!(Program::from_bytes(&[0; 9]), Err(InvalidProgram::Length(1)));
    }

    #[test]
    fn programs_run_as_the_kernel_runs_them() {
        let program = Program::new(vec![
            instruction(LOAD, Call::high(2), 0, 0),
            instruction(AND, 0xff, 0, 0),
            instruction(GREATER, 7, 1, 0),
            instruction(JUMP, 1, 0, 0),
            instruction(RETURN, 1, 0, 0),
            instruction(AT_LEAST, 7, 0, 1),
            instruction(RETURN, 2, 0, 0),
            instruction(RETURN, 3, 0, 0),
        ])
        .unwrap();
        assert_eq!(
            Program::from_bytes(&program.to_bytes()),
            Ok(program.clone())
        );
        for (argument, bits, instructions) in [
            (0x0000_0008_0000_0000, 1, 4),
            (0x0000_0107_ffff_ffff, 2, 6),
            (0x0000_0006_ffff_ffff, 3, 6),
        ] {
            let call = Call {
                arguments: [9, 9, argument, 9, 9, 9],
                ..Call::default()
            };
            let verdict = program.run(&call);
            assert_eq!((verdict.bits, verdict.instructions), (bits, instructions));
        }
    }
}
