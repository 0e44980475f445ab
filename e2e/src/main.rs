//! The privileged suite: the built binaries against a real kernel, registry and CNI plugins.
//!
//! `cargo run --locked -p insula-e2e -- [FILTER] [--subset cgroup]`, as root. INSULA_BIN_DIR is the
//! directory that holds `insula` and `insula-pod` (`hack/build` prints it). Each test has a daemon
//! of its own ([`support::node`]) and must leave nothing behind ([`support::proof`]). What is
//! promised and missing fails; a skip says why. The last line counts them.
#![forbid(unsafe_code)]

mod suite;
mod support;

use libtest_mimic::Arguments;
use std::process::ExitCode;
use std::sync::Arc;
use support::case::Case;
use support::world::World;

/// How many tests run at a time unless `--test-threads` says otherwise.
const THREADS: usize = 2;

fn main() -> ExitCode {
    let (subset, rest) = match subset(std::env::args()) {
        Ok(arguments) => arguments,
        Err(problem) => return refuse(&problem),
    };
    let mut arguments = Arguments::from_iter(rest);
    arguments.test_threads.get_or_insert(THREADS);
    let cases: Vec<Case> = suite::cases()
        .into_iter()
        .filter(|case| subset.is_none() || case.in_cgroup_subset())
        .collect();
    if arguments.list {
        return libtest_mimic::run(&arguments, cases.into_iter().map(Case::listed).collect())
            .exit_code();
    }
    let world = match World::new() {
        Ok(world) => Arc::new(world),
        Err(problem) => return refuse(problem.text()),
    };
    let trials = cases.into_iter().map(|case| case.trial(Arc::clone(&world)));
    let conclusion = libtest_mimic::run(&arguments, trials.collect());
    let left = world.end();
    for thing in &left {
        println!("left behind by the suite: {thing}");
    }
    println!(
        "{} passed, {} failed, {} skipped",
        conclusion.num_passed, conclusion.num_failed, conclusion.num_ignored
    );
    if conclusion.has_failed() || !left.is_empty() {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}

/// Takes `--subset NAME` out of the arguments.
fn subset(
    arguments: impl Iterator<Item = String>,
) -> Result<(Option<String>, Vec<String>), String> {
    let mut arguments = arguments;
    let (mut subset, mut rest) = (None, Vec::new());
    while let Some(argument) = arguments.next() {
        let name = match argument.split_once('=') {
            Some(("--subset", name)) => Some(name.to_owned()),
            _ if argument == "--subset" => arguments.next(),
            _ => {
                rest.push(argument);
                continue;
            }
        };
        match name.as_deref() {
            Some("cgroup") => subset = name,
            other => return Err(format!("--subset {other:?}: the only subset is \"cgroup\"")),
        }
    }
    Ok((subset, rest))
}

fn refuse(problem: &str) -> ExitCode {
    eprintln!("insula-e2e: {problem}");
    ExitCode::FAILURE
}
