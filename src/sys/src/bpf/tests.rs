use super::program::{
    AND, EXIT, JUMP, JUMP_IF_NOT_EQUAL, JUMP_IF_SET, LOAD_WORD, MOVE, SET, SHIFT_RIGHT,
};
use super::{DeviceKind, DeviceRule, Instruction, device_program};

const MKNOD: u32 = 1;
const READ: u32 = 2;
const WRITE: u32 = 4;
const BLOCK: u32 = 1;
const CHARACTER: u32 = 2;

/// Runs a program as the kernel would, for the instructions that are used.
fn run(program: &[Instruction], context: [u32; 3]) -> u32 {
    let mut registers = [0u32; 11];
    let mut at = 0usize;
    // No loops: a program ends after as many steps as it has instructions.
    for _ in 0..=program.len() {
        let Instruction {
            code,
            registers: pair,
            offset,
            immediate,
        } = program[at];
        let (destination, source) = (usize::from(pair & 0xf), usize::from(pair >> 4));
        let operand = immediate.cast_unsigned();
        let jump = usize::try_from(offset).unwrap_or(0);
        at += 1;
        match code {
            LOAD_WORD => {
                assert_eq!(source, 1, "the context is in register 1");
                registers[destination] = context[jump / 4];
            }
            MOVE => registers[destination] = registers[source],
            AND => registers[destination] &= operand,
            SHIFT_RIGHT => registers[destination] >>= operand,
            SET => registers[destination] = operand,
            JUMP => at += jump,
            JUMP_IF_NOT_EQUAL if registers[destination] != operand => at += jump,
            JUMP_IF_SET if registers[destination] & operand != 0 => at += jump,
            JUMP_IF_NOT_EQUAL | JUMP_IF_SET => {}
            EXIT => return registers[0],
            _ => panic!("instruction {code:#x} at {}", at - 1),
        }
    }
    panic!("the program does not end");
}

fn asks(rules: &[DeviceRule], kind: u32, major: u32, minor: u32, access: u32) -> bool {
    run(&device_program(rules), [access << 16 | kind, major, minor]) == 1
}

fn rule(
    allow: bool,
    kind: Option<DeviceKind>,
    major: Option<u32>,
    minor: Option<u32>,
    access: &str,
) -> DeviceRule {
    DeviceRule {
        allow,
        kind,
        major,
        minor,
        read: access.contains('r'),
        write: access.contains('w'),
        mknod: access.contains('m'),
    }
}

#[test]
fn what_no_rule_allows_is_denied() {
    assert!(!asks(&[], CHARACTER, 1, 3, READ));
    let null = [rule(
        true,
        Some(DeviceKind::Character),
        Some(1),
        Some(3),
        "rw",
    )];
    for (kind, major, minor, access, expected) in [
        (CHARACTER, 1, 3, READ, true),
        (CHARACTER, 1, 3, READ | WRITE, true),
        (CHARACTER, 1, 3, READ | WRITE | MKNOD, false),
        (CHARACTER, 1, 3, MKNOD, false),
        (CHARACTER, 1, 5, READ, false),
        (CHARACTER, 2, 3, READ, false),
        (BLOCK, 1, 3, READ, false),
    ] {
        let answer = asks(&null, kind, major, minor, access);
        assert_eq!(answer, expected, "{kind} {major}:{minor} {access:#b}");
    }
}

#[test]
fn a_later_rule_overrides_for_its_kinds_of_access_only() {
    let all_but_writing = [
        rule(true, None, None, None, "rwm"),
        rule(false, Some(DeviceKind::Block), Some(8), None, "w"),
    ];
    assert!(asks(&all_but_writing, BLOCK, 8, 1, READ));
    assert!(asks(&all_but_writing, BLOCK, 8, 1, READ | MKNOD));
    assert!(!asks(&all_but_writing, BLOCK, 8, 1, READ | WRITE));
    assert!(asks(&all_but_writing, CHARACTER, 8, 1, WRITE));

    let again = [
        rule(true, None, None, None, "rwm"),
        rule(false, None, None, None, "rwm"),
        rule(true, None, Some(1), None, "r"),
        rule(true, None, Some(1), None, "w"),
    ];
    assert!(
        asks(&again, CHARACTER, 1, 3, READ | WRITE),
        "two rules together"
    );
    assert!(!asks(&again, CHARACTER, 1, 3, MKNOD));
    assert!(!asks(&again, CHARACTER, 2, 3, READ));
}

#[test]
fn large_numbers_are_compared_as_unsigned() {
    let rules = [rule(true, None, Some(u32::MAX), Some(0x8000_0000), "r")];
    assert!(asks(&rules, BLOCK, u32::MAX, 0x8000_0000, READ));
    assert!(!asks(&rules, BLOCK, u32::MAX, 0x8000_0001, READ));
}

/// The same answers as a plain reading of the rules, over a small world.
#[test]
fn the_program_agrees_with_the_rules_read_plainly() {
    let kinds = [None, Some(DeviceKind::Character), Some(DeviceKind::Block)];
    let mut pool = Vec::new();
    for allow in [true, false] {
        for kind in kinds {
            for minor in [None, Some(3)] {
                for access in ["r", "wm", "rwm"] {
                    pool.push(rule(allow, kind, Some(1), minor, access));
                }
            }
        }
    }
    for first in &pool {
        for second in &pool {
            let rules = [*first, *second];
            for (kind, minor, access) in [
                (CHARACTER, 3, READ),
                (BLOCK, 4, READ | WRITE),
                (CHARACTER, 4, MKNOD | WRITE),
            ] {
                let answer = asks(&rules, kind, 1, minor, access);
                assert_eq!(
                    answer,
                    plainly(&rules, kind, minor, access),
                    "{rules:?} {kind} {minor} {access}"
                );
            }
        }
    }
}

fn plainly(rules: &[DeviceRule], kind: u32, minor: u32, access: u32) -> bool {
    [READ, WRITE, MKNOD]
        .into_iter()
        .filter(|bit| access & bit != 0)
        .all(|bit| {
            let mut allowed = false;
            for rule in rules {
                let number = rule.kind.map(|kind| {
                    if kind == DeviceKind::Block {
                        BLOCK
                    } else {
                        CHARACTER
                    }
                });
                let covers = match bit {
                    READ => rule.read,
                    WRITE => rule.write,
                    _ => rule.mknod,
                };
                let matches = number.is_none_or(|number| number == kind)
                    && rule.minor.is_none_or(|one| one == minor);
                if covers && matches {
                    allowed = rule.allow;
                }
            }
            allowed
        })
}
