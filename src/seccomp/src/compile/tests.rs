use super::{CompileError, Newer, compile};
use crate::action::Action;
use crate::architecture::Architecture;
use crate::judgement::{Judgement, judge};
use crate::profile::{Condition, Operator};
use crate::program::{Call, MAX_INSTRUCTIONS};
use crate::select::{Rule, Rules};
use crate::tables;
use proptest::prelude::*;
use std::collections::BTreeMap;

/// Few names, so that rules meet; the last three only on some architectures.
const NAMES: &[&str] = &[
    "read",
    "kill",
    "clone",
    "waitpid",
    "arch_prctl",
    "cacheflush",
];

/// Few values, so that conditions meet, on both sides of the halves' borders.
const VALUES: &[u64] = &[
    0,
    1,
    2,
    7,
    0xffff_fffe,
    0xffff_ffff,
    0x1_0000_0000,
    0x1_0000_0001,
    0x7_0000_0007,
    u64::MAX,
];

fn value() -> impl Strategy<Value = u64> {
    prop_oneof![9 => prop::sample::select(VALUES), 1 => any::<u64>()]
}

fn operator() -> impl Strategy<Value = Operator> {
    prop::sample::select(vec![
        Operator::NotEqual,
        Operator::Less,
        Operator::LessOrEqual,
        Operator::Equal,
        Operator::GreaterOrEqual,
        Operator::Greater,
        Operator::MaskedEqual,
    ])
}

fn condition(argument: u8) -> impl Strategy<Value = Condition> {
    (operator(), value(), value()).prop_map(move |(operator, value, value_two)| Condition {
        argument,
        operator,
        value,
        value_two,
    })
}

fn conditions() -> impl Strategy<Value = Vec<Condition>> {
    prop::collection::btree_set(0..3_u8, 0..3)
        .prop_flat_map(|arguments| arguments.into_iter().map(condition).collect::<Vec<_>>())
}

fn rules(actions: &'static [Action]) -> impl Strategy<Value = Rules> {
    let rule = (
        prop::sample::select(NAMES),
        prop::sample::select(actions),
        conditions(),
    );
    prop::collection::vec(rule, 0..12).prop_map(|rules| Rules {
        default_action: Action::Error(1),
        architectures: Architecture::ALL.to_vec(),
        rules: rules
            .into_iter()
            .map(|(name, action, conditions)| Rule {
                name: name.to_owned(),
                action,
                conditions,
            })
            .collect(),
        newest: BTreeMap::new(),
        unknown: Vec::new(),
    })
}

fn call() -> impl Strategy<Value = (Architecture, &'static str, [u64; 6])> {
    (
        prop::sample::select(Architecture::ALL.to_vec()),
        prop::sample::select(NAMES),
        prop::array::uniform6(value()),
    )
}

/// What a condition says, in the plainest words.
fn holds(condition: &Condition, architecture: Architecture, arguments: [u64; 6]) -> bool {
    let cut = |value: u64| match architecture.is_64_bit() {
        true => value,
        false => value & 0xffff_ffff,
    };
    let argument = cut(arguments[usize::from(condition.argument)]);
    let value = cut(condition.value);
    match condition.operator {
        Operator::NotEqual => argument != value,
        Operator::Less => argument < value,
        Operator::LessOrEqual => argument <= value,
        Operator::Equal => argument == value,
        Operator::GreaterOrEqual => argument >= value,
        Operator::Greater => argument > value,
        Operator::MaskedEqual => argument & value == cut(condition.value_two) & value,
    }
}

fn run(rules: &Rules, newer: Newer, call: &Call) -> u32 {
    compile(rules, newer).unwrap().run(call).bits
}

proptest! {
    #[test]
    fn any_rule_that_holds_counts(
        rules in rules(&[Action::Allow]),
        calls in prop::collection::vec(call(), 32),
    ) {
        let program = compile(&rules, Newer::GetDefault).unwrap();
        for (architecture, name, arguments) in calls {
            let Some(number) = tables::system_call(architecture, name) else {
                continue;
            };
            let matches = |rule: &Rule| {
                rule.name == name
                    && rule.conditions.iter().all(|it| holds(it, architecture, arguments))
            };
            let expected = match rules.rules.iter().any(matches) {
                true => Action::Allow,
                false => Action::Error(1),
            };
            let call = Call { number, audit: architecture.audit(), instruction_pointer: 0, arguments };
            prop_assert_eq!(program.run(&call).bits, expected.bits(), "{:?} {}", architecture, name);
        }
    }

    #[test]
    fn programs_say_what_was_judged(
        rules in rules(&[Action::Allow, Action::Log, Action::Error(5), Action::KillProcess]),
        calls in prop::collection::vec(call(), 32),
    ) {
        let program = match compile(&rules, Newer::GetDefault) {
            Ok(program) => program,
            Err(error) => {
                prop_assert!(matches!(error, CompileError::Contradiction(_)));
                return Ok(());
            }
        };
        for (architecture, name, arguments) in calls {
            let Some(number) = tables::system_call(architecture, name) else {
                continue;
            };
            let expected = match judge(&rules, architecture).unwrap().get(&number) {
                None => rules.default_action,
                Some(Judgement::Always(action)) => *action,
                Some(Judgement::First(list)) => list
                    .iter()
                    .find(|(comparisons, _)| {
                        comparisons.iter().all(|it| it.holds(arguments[usize::from(it.argument)]))
                    })
                    .map_or(rules.default_action, |(_, action)| *action),
            };
            let call = Call { number, audit: architecture.audit(), instruction_pointer: 0, arguments };
            prop_assert_eq!(program.run(&call).bits, expected.bits(), "{:?} {}", architecture, name);
        }
    }
}

#[test]
fn what_is_newer_than_the_profile_does_not_exist() {
    let with_default = |default_action| Rules {
        default_action,
        architectures: vec![Architecture::X86_64, Architecture::X86],
        rules: Vec::new(),
        newest: BTreeMap::from([(Architecture::X86_64, 300)]),
        unknown: Vec::new(),
    };
    let (refused, missing) = (Action::Error(1), Action::Error(38));
    let (killed, trapped) = (Action::KillThread, Action::Trap);
    let (x86_64, x86) = (Architecture::X86_64.audit(), Architecture::X86.audit());
    for (default_action, newer, audit, number, expected) in [
        (refused, Newer::DoNotExist, x86_64, 300, refused),
        (refused, Newer::DoNotExist, x86_64, 301, missing),
        (refused, Newer::DoNotExist, x86_64, 0x3fff_ffff, missing),
        (refused, Newer::DoNotExist, x86_64, 0x4000_0000, killed),
        (refused, Newer::DoNotExist, x86_64, 0xffff_fffe, killed),
        // What a tracer leaves of a call that it has made itself.
        (refused, Newer::DoNotExist, x86_64, 0xffff_ffff, refused),
        (refused, Newer::DoNotExist, x86, 301, refused),
        (refused, Newer::GetDefault, x86_64, 301, refused),
        (trapped, Newer::DoNotExist, x86_64, 301, missing),
        (Action::Allow, Newer::DoNotExist, x86_64, 301, Action::Allow),
        (Action::Log, Newer::DoNotExist, x86_64, 301, Action::Log),
    ] {
        let call = Call {
            number,
            audit,
            ..Call::default()
        };
        assert_eq!(
            run(&with_default(default_action), newer, &call),
            expected.bits(),
            "{default_action}, {newer:?}, {audit:#x}, {number:#x}"
        );
    }
}

#[test]
fn too_many_rules_are_refused() {
    let list = |count: u64| Rules {
        default_action: Action::Allow,
        architectures: vec![Architecture::X86_64],
        rules: (0..count)
            .map(|value| Rule {
                name: "kill".to_owned(),
                action: Action::Error(1),
                conditions: vec![Condition {
                    argument: 0,
                    operator: Operator::Equal,
                    value: value << 20,
                    value_two: 0,
                }],
            })
            .collect(),
        newest: BTreeMap::new(),
        unknown: Vec::new(),
    };
    let longest = compile(&list(900), Newer::GetDefault).unwrap();
    assert!(
        longest.instructions().len() > 3600 && longest.instructions().len() <= MAX_INSTRUCTIONS
    );
    let error = compile(&list(1100), Newer::GetDefault).unwrap_err();
    assert!(
        error.to_string().contains("too many rules: a program of"),
        "{error}"
    );
}
