//! Device rules as BPF instructions.

/// Kind of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceKind {
    /// `BPF_DEVCG_DEV_CHAR`.
    Character,
    /// `BPF_DEVCG_DEV_BLOCK`.
    Block,
}

/// One rule; see [`device_program`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is one bit of the kernel's access mask"
)]
pub struct DeviceRule {
    /// Allows or denies.
    pub allow: bool,
    /// `None` is both kinds.
    pub kind: Option<DeviceKind>,
    /// `None` is every major number.
    pub major: Option<u32>,
    /// `None` is every minor number.
    pub minor: Option<u32>,
    /// Reading.
    pub read: bool,
    /// Writing.
    pub write: bool,
    /// Making a node.
    pub mknod: bool,
}

/// `struct bpf_insn` of linux/bpf.h.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Instruction {
    /// Operation code.
    pub code: u8,
    /// Destination register in the low half, source register in the high half.
    pub registers: u8,
    /// Jump or memory offset.
    pub offset: i16,
    /// Immediate operand.
    pub immediate: i32,
}

// Operation codes, from the classes, sizes and modes of linux/bpf.h.
/// `BPF_LDX | BPF_W | BPF_MEM`: destination = u32 at source + offset.
pub(super) const LOAD_WORD: u8 = 0x61;
/// `BPF_ALU | BPF_MOV | BPF_X`.
pub(super) const MOVE: u8 = 0xbc;
/// `BPF_ALU | BPF_AND | BPF_K`.
pub(super) const AND: u8 = 0x54;
/// `BPF_ALU | BPF_RSH | BPF_K`.
pub(super) const SHIFT_RIGHT: u8 = 0x74;
/// `BPF_ALU | BPF_MOV | BPF_K`.
pub(super) const SET: u8 = 0xb4;
/// `BPF_JMP32 | BPF_JNE | BPF_K`.
pub(super) const JUMP_IF_NOT_EQUAL: u8 = 0x56;
/// `BPF_JMP32 | BPF_JSET | BPF_K`: jumps where a bit is in both.
pub(super) const JUMP_IF_SET: u8 = 0x46;
/// `BPF_JMP | BPF_JA`.
pub(super) const JUMP: u8 = 0x05;
/// `BPF_JMP | BPF_EXIT`: gives back register 0.
pub(super) const EXIT: u8 = 0x95;

const RESULT: u8 = 0;
const CONTEXT: u8 = 1;
const KIND: u8 = 2;
const NEEDED: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;

/// The instructions that decide by rules.
///
/// Rules are applied in order and a later one overrides an earlier one, for
/// each of reading, writing and making a node on its own. What no rule allows
/// is denied. So the last rule is looked at first: one that denies any kind of
/// access still needed ends it with "no"; one that allows takes its kinds off
/// the list of needed ones, and when that is empty the answer is "yes".
pub fn device_program(rules: &[DeviceRule]) -> Vec<Instruction> {
    // struct bpf_cgroup_dev_ctx { u32 access_type; u32 major; u32 minor; },
    // where access_type is (access << 16) | kind.
    let mut program = vec![
        instruction(LOAD_WORD, KIND, CONTEXT, 0, 0),
        instruction(MOVE, NEEDED, KIND, 0, 0),
        instruction(AND, KIND, 0, 0, 0xffff),
        instruction(SHIFT_RIGHT, NEEDED, 0, 0, 16),
        instruction(LOAD_WORD, MAJOR, CONTEXT, 4, 0),
        instruction(LOAD_WORD, MINOR, CONTEXT, 8, 0),
    ];
    for rule in rules.iter().rev() {
        append(&mut program, rule);
    }
    program.extend(answer(false));
    program
}

fn append(program: &mut Vec<Instruction>, rule: &DeviceRule) {
    let kind = rule.kind.map(|kind| match kind {
        DeviceKind::Block => 1,
        DeviceKind::Character => 2,
    });
    let conditions = [(KIND, kind), (MAJOR, rule.major), (MINOR, rule.minor)];
    let conditions: Vec<(u8, u32)> = conditions
        .into_iter()
        .filter_map(|(register, value)| Some((register, value?)))
        .collect();
    // BPF_DEVCG_ACC_MKNOD, _READ, _WRITE.
    let access = i32::from(rule.mknod) | i32::from(rule.read) << 1 | i32::from(rule.write) << 2;
    let [yes_result, yes_exit] = answer(true);
    let [no_result, no_exit] = answer(false);
    let decision = if rule.allow {
        vec![
            instruction(AND, NEEDED, 0, 0, !access),
            instruction(JUMP_IF_NOT_EQUAL, NEEDED, 0, 2, 0),
            yes_result,
            yes_exit,
        ]
    } else {
        vec![
            instruction(JUMP_IF_SET, NEEDED, 0, 1, access),
            instruction(JUMP, 0, 0, 2, 0),
            no_result,
            no_exit,
        ]
    };
    let mut left = conditions.len() + decision.len();
    for (register, value) in conditions {
        left -= 1;
        // At most six instructions are jumped over.
        let offset = i16::try_from(left).unwrap_or(i16::MAX);
        program.push(instruction(
            JUMP_IF_NOT_EQUAL,
            register,
            0,
            offset,
            value.cast_signed(),
        ));
    }
    program.extend(decision);
}

fn answer(allow: bool) -> [Instruction; 2] {
    [
        instruction(SET, RESULT, 0, 0, i32::from(allow)),
        instruction(EXIT, 0, 0, 0, 0),
    ]
}

fn instruction(code: u8, destination: u8, source: u8, offset: i16, immediate: i32) -> Instruction {
    let registers = if cfg!(target_endian = "little") {
        destination | source << 4
    } else {
        destination << 4 | source
    };
    Instruction {
        code,
        registers,
        offset,
        immediate,
    }
}
