//! Seccomp profiles: whatever a file holds, reading it ends with a profile or an error, and a
//! profile with a program that the kernel would take and that says what its rules say, or an error.
#![no_main]

use insula_seccomp::compile::{Newer, compile};
use insula_seccomp::judgement::{Judgement, judge};
use insula_seccomp::program::{Call, Program};
use insula_seccomp::{Architecture, Context, KernelVersion, Profile, Rules};
use insula_wire::CapabilitySet;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &[u8]| {
    let Ok(profile) = Profile::parse(text) else {
        return;
    };
    for architecture in [Architecture::X86_64, Architecture::Aarch64] {
        for capabilities in [CapabilitySet::EMPTY, CapabilitySet::all()] {
            let context = Context {
                architecture,
                capabilities,
                kernel: KernelVersion { major: 6, minor: 6 },
            };
            check(&Rules::select(&profile, &context));
        }
    }
});

fn check(rules: &Rules) {
    let (Ok(program), Ok(strict)) = (
        compile(rules, Newer::DoNotExist),
        compile(rules, Newer::GetDefault),
    ) else {
        return;
    };
    assert_eq!(Program::from_bytes(&program.to_bytes()).as_ref(), Ok(&program));
    for architecture in &rules.architectures {
        for (number, judgement) in judge(rules, *architecture).expect("it was compiled") {
            let edges = match &judgement {
                Judgement::Always(_) => vec![0],
                Judgement::First(list) => list
                    .iter()
                    .flat_map(|(comparisons, _)| comparisons)
                    .flat_map(|it| [it.value, it.value.wrapping_add(1), !it.mask])
                    .take(64)
                    .collect(),
            };
            for edge in edges {
                let expected = match &judgement {
                    Judgement::Always(action) => *action,
                    Judgement::First(list) => list
                        .iter()
                        .find(|(comparisons, _)| comparisons.iter().all(|it| it.holds(edge)))
                        .map_or(rules.default_action, |(_, action)| *action),
                };
                let call = Call {
                    number,
                    audit: architecture.audit(),
                    instruction_pointer: 0,
                    arguments: [edge; 6],
                };
                assert_eq!(strict.run(&call).bits, expected.bits());
                assert_eq!(program.run(&call).bits, expected.bits());
            }
        }
    }
}
