//! Our programs and libseccomp's give the same verdicts.
//!
//! Each profile of `tests/profiles` and the default one is selected for x86_64
//! and aarch64; libseccomp makes a filter of the same rules, as runc would ask
//! it to; both programs are run for every number of every architecture and for
//! arguments at the edges of what the rules compare with.
#![forbid(unsafe_code)]

use insula_seccomp::action::Action;
use insula_seccomp::architecture::X32_BIT;
use insula_seccomp::compile::{Newer, compile};
use insula_seccomp::default_profile::default_profile;
use insula_seccomp::profile::{Condition, KernelVersion, Operator};
use insula_seccomp::program::{Call, Program};
use insula_seccomp::{Architecture, Context, Profile, Rules, tables};
use insula_wire::{Capability, CapabilitySet};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// libseccomp, asked line by line.
struct Libseccomp {
    process: Child,
    questions: ChildStdin,
    answers: BufReader<ChildStdout>,
}

// === impl Libseccomp ===

impl Libseccomp {
    fn start() -> Self {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/libseccomp.py");
        let mut process = Command::new("python3")
            .arg(script)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3 and libseccomp2 are installed by hack/packages");
        Self {
            questions: process.stdin.take().unwrap(),
            answers: BufReader::new(process.stdout.take().unwrap()),
            process,
        }
    }

    fn ask(&mut self, question: &str) -> String {
        writeln!(self.questions, "{question}").expect("libseccomp.py ended: see its message");
        let mut answer = String::new();
        self.answers.read_line(&mut answer).unwrap();
        assert!(!answer.is_empty(), "libseccomp.py ended at {question:?}");
        answer.trim().to_owned()
    }

    /// As runc asks for a filter.
    fn filter(&mut self, rules: &Rules, optimize: u32) -> Program {
        let mut question = format!("filter {} {optimize}", rules.default_action.bits());
        for architecture in &rules.architectures {
            write!(question, " {}", token(*architecture)).unwrap();
        }
        assert_eq!(self.ask(&question), "ok");
        for rule in &rules.rules {
            let mut question = format!("rule {} {}", rule.action.bits(), rule.name);
            for condition in &rule.conditions {
                write!(
                    question,
                    " {} {} {} {}",
                    condition.argument,
                    operator(condition.operator),
                    condition.value,
                    condition.value_two
                )
                .unwrap();
            }
            let answer = self.ask(&question);
            assert!(
                matches!(answer.as_str(), "ok" | "unknown"),
                "{rule:?}: {answer}"
            );
        }
        let program = self.ask("export");
        let bytes: Vec<u8> = (0..program.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&program[at..at + 2], 16).unwrap())
            .collect();
        Program::from_bytes(&bytes).unwrap()
    }

    /// The number of a system call. `None` where it has none: it is older than
    /// our tables.
    fn number(&mut self, architecture: Architecture, name: &str) -> Option<Number> {
        let answer = self.ask(&format!("resolve {} {name}", token(architecture)));
        match answer.parse::<i64>().unwrap() {
            // What it makes up for the calls of socketcall and ipc.
            -224..=-100 if architecture == Architecture::X86 => Some(Number::Door),
            number => u32::try_from(number).ok().map(Number::Known),
        }
    }

    /// What it does not know.
    fn missing(&mut self) -> BTreeSet<(Architecture, u32)> {
        let mut missing = BTreeSet::new();
        for architecture in Architecture::ALL {
            for (name, number) in tables::system_calls(architecture) {
                if self.number(architecture, name).is_none() {
                    missing.insert((architecture, number));
                }
            }
        }
        missing
    }
}

enum Number {
    Known(u32),
    Door,
}

impl Drop for Libseccomp {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// `SCMP_ARCH_*` of seccomp.h: what a filter sees, but for x32.
fn token(architecture: Architecture) -> u32 {
    match architecture {
        Architecture::X32 => 0x4000_003e,
        other => other.audit(),
    }
}

/// `enum scmp_compare` of seccomp.h.
fn operator(operator: Operator) -> u32 {
    match operator {
        Operator::NotEqual => 1,
        Operator::Less => 2,
        Operator::LessOrEqual => 3,
        Operator::Equal => 4,
        Operator::GreaterOrEqual => 5,
        Operator::Greater => 6,
        Operator::MaskedEqual => 7,
    }
}

fn profiles() -> Vec<(String, Profile)> {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/profiles");
    let mut profiles: Vec<_> = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            let profile = Profile::parse(&std::fs::read(&path).unwrap());
            let profile = profile.unwrap_or_else(|error| panic!("{path:?}: {error}"));
            (
                path.file_stem().unwrap().to_string_lossy().into_owned(),
                profile,
            )
        })
        .collect();
    profiles.sort_by(|one, other| one.0.cmp(&other.0));
    profiles.push(("the default profile".to_owned(), default_profile()));
    profiles
}

/// Calls that show where two programs differ.
struct Samples {
    /// Conditions by name of the system call.
    conditions: BTreeMap<String, Vec<Condition>>,
    /// A generator of numbers that is the same in each run.
    state: u64,
}

// === impl Samples ===

impl Samples {
    fn new(rules: &Rules) -> Self {
        let mut conditions: BTreeMap<String, Vec<Condition>> = BTreeMap::new();
        for rule in &rules.rules {
            let conditions = conditions.entry(rule.name.clone()).or_default();
            conditions.extend(&rule.conditions);
        }
        // What is asked of socket(2) and its like is lost behind these.
        for name in ["socketcall", "ipc"] {
            conditions
                .entry(name.to_owned())
                .or_default()
                .extend((0..26).map(|value| Condition {
                    argument: 0,
                    operator: Operator::Equal,
                    value,
                    value_two: 0,
                }));
        }
        Self {
            conditions,
            state: 0x9e37_79b9_7f4a_7c15,
        }
    }

    fn random(&mut self) -> u64 {
        // Knuth's 64-bit linear congruential generator; its upper bits are good.
        self.state = self
            .state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        self.state >> 20
    }

    fn numbers(architecture: Architecture) -> Vec<u32> {
        let base = match architecture {
            Architecture::X32 => X32_BIT,
            _ => 0,
        };
        let mut numbers: Vec<u32> = (0..600).map(|number| base + number).collect();
        numbers.extend(tables::system_calls(architecture).map(|(_, number)| number));
        numbers.extend([
            0x000f_0000,
            0x3fff_ffff,
            0x4000_0000,
            0x4000_1000,
            0x7fff_ffff,
            0x8000_0000,
            0xffff_fffe,
            0xffff_ffff,
        ]);
        numbers
    }

    /// Arguments for a system call: few where none count.
    fn arguments(&mut self, name: Option<&str>) -> Vec<[u64; 6]> {
        let conditions = name.and_then(|name| self.conditions.get(name));
        let edges: Vec<u64> = conditions
            .into_iter()
            .flatten()
            .flat_map(|it| {
                [
                    it.value,
                    it.value_two,
                    it.value & it.value_two,
                    !it.value | it.value_two,
                ]
            })
            .flat_map(|value| {
                [
                    value,
                    value.wrapping_sub(1),
                    value.wrapping_add(1),
                    value ^ 1 << 32,
                    value & 0xffff_ffff,
                    value | 0xffff_ffff << 32,
                ]
            })
            .chain([0, 1, u64::MAX, 0xffff_ffff, 1 << 32])
            .collect();
        let mut samples = vec![[0; 6], [u64::MAX; 6]];
        if conditions.is_none_or(Vec::is_empty) {
            return samples;
        }
        // Each edge for each argument, the others from other edges.
        for edge in &edges {
            for argument in 0..6 {
                let mut sample = [0; 6];
                for value in &mut sample {
                    let length = edges.len() as u64;
                    *value = match self.random() % 4 {
                        0 => 0,
                        1 => self.random() % 16,
                        _ => edges[usize::try_from(self.random() % length).unwrap()],
                    };
                }
                sample[argument] = *edge;
                samples.push(sample);
            }
        }
        samples
    }
}

#[test]
fn verdicts_are_libseccomps() {
    let mut libseccomp = Libseccomp::start();
    let missing = libseccomp.missing();
    assert!(missing.len() < 200, "{missing:?}");
    let (mut compared, mut filters) = (0_u64, 0);
    for (title, profile) in profiles() {
        for machine in [Architecture::X86_64, Architecture::Aarch64] {
            for capabilities in [
                CapabilitySet::EMPTY,
                [Capability::SysAdmin, Capability::SysPtrace]
                    .into_iter()
                    .collect(),
            ] {
                let context = Context {
                    architecture: machine,
                    capabilities,
                    kernel: KernelVersion {
                        major: 6,
                        minor: 12,
                    },
                };
                let rules = Rules::select(&profile, &context);
                compared += compare(&mut libseccomp, &missing, &title, &rules);
                filters += 1;
            }
        }
    }
    println!("{filters} filters gave the same {compared} verdicts as libseccomp's");
    assert!(filters >= 84 && compared > 1_000_000);
}

fn compare(
    libseccomp: &mut Libseccomp,
    missing: &BTreeSet<(Architecture, u32)>,
    title: &str,
    rules: &Rules,
) -> u64 {
    let theirs = libseccomp.filter(rules, 2);
    let ours = compile(rules, Newer::GetDefault).unwrap();
    let with_newer = compile(rules, Newer::DoNotExist).unwrap();
    let mut samples = Samples::new(rules);
    let mut compared = 0;
    for architecture in Architecture::ALL {
        for number in Samples::numbers(architecture) {
            let name = tables::name(architecture, number);
            // To the kernel x32 is a part of x86_64.
            let owner = match architecture {
                Architecture::X32 if number < X32_BIT => Architecture::X86_64,
                Architecture::X86_64 if number >= X32_BIT => Architecture::X32,
                other => other,
            };
            let newest = rules.newest.get(&owner).copied();
            if missing.contains(&(owner, number)) {
                continue;
            }
            for arguments in samples.arguments(name) {
                let call = Call {
                    number,
                    audit: architecture.audit(),
                    instruction_pointer: 0,
                    arguments,
                };
                let (got, wanted) = (ours.run(&call).bits, theirs.run(&call).bits);
                assert_eq!(
                    got, wanted,
                    "{title}, {architecture} {name:?}: ours {got:#x}, theirs {wanted:#x}, {call:x?}"
                );
                // What is not newer than the profile is as it was.
                let newer = with_newer.run(&call).bits;
                assert!(
                    newer == wanted
                        || newer == Action::Error(38).bits()
                            && newest.is_some_and(|newest| number > newest),
                    "{title}, {architecture} {name:?}: {newer:#x}, {call:x?}"
                );
                compared += 1;
            }
        }
    }
    compared
}

#[test]
fn numbers_are_libseccomps() {
    let mut libseccomp = Libseccomp::start();
    for architecture in Architecture::ALL {
        let mut known = 0;
        for (name, number) in tables::system_calls(architecture) {
            if let Some(Number::Known(theirs)) = libseccomp.number(architecture, name) {
                assert_eq!(theirs, number, "{architecture} {name}");
                known += 1;
            }
        }
        assert!(known > 300, "{architecture}: {known}");
    }
}

/// How many instructions a system call costs, for the default profile.
#[test]
fn the_search_is_shorter_than_libseccomps_list() {
    let mut libseccomp = Libseccomp::start();
    let context = Context {
        architecture: Architecture::X86_64,
        capabilities: CapabilitySet::EMPTY,
        kernel: KernelVersion {
            major: 6,
            minor: 12,
        },
    };
    let rules = Rules::select(&default_profile(), &context);
    let ours = compile(&rules, Newer::DoNotExist).unwrap();
    let list = libseccomp.filter(&rules, 1);
    let tree = libseccomp.filter(&rules, 2);
    let average = |program: &Program| {
        let steps: Vec<usize> = tables::system_calls(Architecture::X86_64)
            .map(|(_, number)| {
                let call = Call {
                    number,
                    audit: Architecture::X86_64.audit(),
                    ..Call::default()
                };
                program.run(&call).instructions
            })
            .collect();
        #[expect(clippy::cast_precision_loss, reason = "small numbers")]
        let average = steps.iter().sum::<usize>() as f64 / steps.len() as f64;
        average
    };
    let (ours_takes, list_takes, tree_takes) = (average(&ours), average(&list), average(&tree));
    println!(
        "default profile: {} instructions, {ours_takes:.1} a call; libseccomp's list {}, {list_takes:.1}; its tree {}, {tree_takes:.1}",
        ours.instructions().len(),
        list.instructions().len(),
        tree.instructions().len(),
    );
    assert!(ours_takes < tree_takes && ours_takes * 5.0 < list_takes);
}
