//! The plugin on a real kernel, driven by the real `cnitool`, beside the reference plugins.
//!
//! `hack/plugin-suite` runs it, in namespaces of its own. Each case of [`cases`] is run twice, with
//! the reference plugins and with `insula-net`, and both must give the answer that is written
//! beside it; [`own`] is what only this plugin promises. Each ends by proving that nothing is left.
//! Without INSULA_CNI_PEERS, the directory that `hack/peers/plugins` prints, all are skipped.
#![forbid(unsafe_code)]

mod cases;
mod host;
mod load;
mod own;
mod plugins;
mod traffic;

use libtest_mimic::{Arguments, Completion, Failed, Trial};
use plugins::{Kind, Peers};
use std::process::ExitCode;
use std::sync::Arc;

/// What a case found out, in words.
pub type Answer = Result<String, String>;

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // Rates are measured, and the hosts of the cases have the same addresses outside.
    arguments.test_threads = Some(1);
    let peers = Arc::new(Peers::find());
    let mut trials = Vec::new();
    for case in cases::cases() {
        let peers = Arc::clone(&peers);
        trials.push(Trial::ignorable_test(case.name, move || {
            let Some(peers) = &*peers else {
                return Ok(Completion::ignored_with("run by hack/plugin-suite"));
            };
            if let Some(reason) = (case.needs)() {
                println!("skipped {}: {reason}", case.name);
                return Ok(Completion::ignored_with(reason));
            }
            for kind in [Kind::Reference, Kind::Insula] {
                let answer = plugins::run(peers, kind, case.run)
                    .map_err(|why| Failed::from(format!("{kind:?}: {why}")))?;
                if answer != case.answer {
                    let why = format!("{kind:?} answers\n{answer}\nnot\n{}", case.answer);
                    return Err(why.into());
                }
            }
            Ok(Completion::Completed)
        }));
    }
    for (name, run) in own::cases().into_iter().chain(load::cases()) {
        let peers = Arc::clone(&peers);
        trials.push(Trial::ignorable_test(name, move || {
            let Some(peers) = &*peers else {
                return Ok(Completion::ignored_with("run by hack/plugin-suite"));
            };
            plugins::run(peers, Kind::Insula, run).map_err(Failed::from)?;
            Ok(Completion::Completed)
        }));
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}
