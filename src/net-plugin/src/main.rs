//! `insula-net`: see the library.
#![forbid(unsafe_code)]

use std::io::{Write, stdin, stdout};
use std::process::ExitCode;

fn main() -> ExitCode {
    let variable = |name: &str| std::env::var(name).ok();
    let (text, code) = match insula_net::serve(variable, stdin().lock()) {
        Ok(text) => (text, ExitCode::SUCCESS),
        Err(text) => (text, ExitCode::FAILURE),
    };
    match stdout().write_all(text.as_bytes()) {
        Ok(()) => code,
        Err(error) => {
            eprintln!("insula-net: cannot write the answer: {error}");
            ExitCode::FAILURE
        }
    }
}
