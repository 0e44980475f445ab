//! The `insula` command: the daemon (`insula serve`) and the client of its socket.
//!
//! Wiring only. [`serve`] puts the rooms together and listens; [`client`] talks to whoever
//! listens, and never touches the daemon's files but to show the progress of a pull; [`mod@import`]
//! and [`tag`] are those that do, for what the CRI has no call for.
#![forbid(unsafe_code)]

mod cli;
mod client;
mod doctor;
mod import;
mod serve;
mod tag;

use std::process::ExitCode;

use clap::Parser;

use crate::cli::{Cli, Command};

fn main() -> ExitCode {
    let cli = Cli::parse();
    match cli.command {
        Command::Serve(args) => serve::main(&args),
        Command::Import(import) => import::main(&cli.global, &import),
        Command::Tag(tag) => tag::main(&tag),
        Command::Client(command) => client::main(&cli.global, command),
    }
}
