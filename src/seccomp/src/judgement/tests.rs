use super::{Contradiction, Judgement, judge};
use crate::action::Action;
use crate::architecture::Architecture;
use crate::profile::{Condition, Operator};
use crate::select::{Rule, Rules};
use std::collections::BTreeMap;

type Listed<'a> = (&'a str, Action, &'a [(u8, Operator, u64, u64)]);

fn rules(list: &[Listed<'_>]) -> Rules {
    Rules {
        default_action: Action::Allow,
        architectures: vec![Architecture::X86_64, Architecture::X86],
        rules: list
            .iter()
            .map(|(name, action, conditions)| Rule {
                name: (*name).to_owned(),
                action: *action,
                conditions: conditions
                    .iter()
                    .map(|(argument, operator, value, value_two)| Condition {
                        argument: *argument,
                        operator: *operator,
                        value: *value,
                        value_two: *value_two,
                    })
                    .collect(),
            })
            .collect(),
        newest: BTreeMap::new(),
        unknown: Vec::new(),
    }
}

/// The actions for a call in the order in which they are tried.
fn order(rules: &Rules, architecture: Architecture, number: u32) -> Vec<Action> {
    match judge(rules, architecture).unwrap().remove(&number) {
        Some(Judgement::Always(action)) => vec![action],
        Some(Judgement::First(rules)) => rules.into_iter().map(|(_, action)| action).collect(),
        None => Vec::new(),
    }
}

#[test]
fn a_rule_without_conditions_ends_the_matter() {
    use Operator::Equal;
    let (one, two, three) = (Action::Error(1), Action::Error(2), Action::Error(3));
    let first = rules(&[
        ("kill", one, &[]),
        ("kill", two, &[(0, Equal, 1, 0)]),
        ("kill", three, &[]),
    ]);
    assert_eq!(order(&first, Architecture::X86_64, 62), [one]);
    let last = rules(&[
        ("kill", one, &[(0, Equal, 1, 0)]),
        ("kill", two, &[]),
        ("kill", three, &[]),
    ]);
    assert_eq!(order(&last, Architecture::X86_64, 62), [two]);
    // A mask of nothing is no condition.
    let empty = rules(&[("kill", one, &[(1, Operator::MaskedEqual, 0, 7)])]);
    assert_eq!(order(&empty, Architecture::X86_64, 62), [one]);
    let upper = rules(&[("kill", one, &[(1, Operator::MaskedEqual, 1 << 32, 1 << 32)])]);
    assert_eq!(
        judge(&upper, Architecture::X86).unwrap()[&37],
        Judgement::Always(one)
    );
}

#[test]
fn rules_are_tried_in_libseccomps_order() {
    use Operator::{Equal, Greater, Less, NotEqual};
    let (one, two, three, four) = (
        Action::Error(1),
        Action::Error(2),
        Action::Error(3),
        Action::Error(4),
    );
    let mixed = rules(&[
        ("kill", one, &[(0, Greater, 5, 0)]),
        ("kill", two, &[(0, Less, 50, 0)]),
        ("kill", three, &[(0, Equal, 7, 0)]),
        ("kill", four, &[(1, Greater, 0, 0)]),
    ]);
    assert_eq!(
        order(&mixed, Architecture::X86_64, 62),
        [four, three, two, one]
    );
    let values = rules(&[
        ("kill", one, &[(0, Equal, 1, 0)]),
        ("kill", two, &[(0, NotEqual, 3, 0)]),
        ("kill", three, &[(0, Equal, 2, 0)]),
    ]);
    assert_eq!(order(&values, Architecture::X86_64, 62), [two, three, one]);
}

#[test]
fn the_same_conditions_with_two_actions_are_refused() {
    use Operator::Equal;
    let (one, two) = (Action::Error(1), Action::Error(2));
    let rules = rules(&[
        ("kill", one, &[(0, Equal, 1, 0)]),
        ("kill", two, &[(0, Equal, 1, 0)]),
    ]);
    let expected = Contradiction {
        name: "kill".to_owned(),
        first: one,
        second: two,
    };
    assert_eq!(judge(&rules, Architecture::X86_64), Err(expected));
}

#[test]
fn sockets_and_messages_have_two_doors_on_32_bit_x86() {
    let deny = Action::Error(1);
    let rules = rules(&[
        ("socket", deny, &[(0, Operator::Equal, 38, 0)]),
        ("shmget", deny, &[]),
        ("recv", deny, &[]),
    ]);
    let numbers =
        |architecture| -> Vec<u32> { judge(&rules, architecture).unwrap().into_keys().collect() };
    assert_eq!(numbers(Architecture::X86_64), [29, 41]);
    assert_eq!(numbers(Architecture::X86), [102, 117, 359, 395]);
    let Judgement::First(doors) = &judge(&rules, Architecture::X86).unwrap()[&102] else {
        panic!("socketcall is judged by its first argument");
    };
    // recv = 10 before socket = 1: the family is lost.
    let calls: Vec<u64> = doors.iter().map(|(it, _)| it[0].value).collect();
    assert_eq!(calls, [10, 1]);
}
