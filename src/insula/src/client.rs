//! The commands that talk to a daemon over its CRI socket.
//!
//! Each command has a file. They share the [`session::Session`] (a connection, and the daemon
//! that was started for it if none listened), [`names`] (what a name on the command line means)
//! and the [`error`]s, which are one line for a person.

pub(crate) mod address;
mod connection;
mod doctor;
mod embedded;
pub(crate) mod error;
mod events;
mod exec;
mod images;
mod inspect;
mod logs;
mod names;
pub(crate) mod output;
pub(crate) mod progress;
mod ps;
mod pull;
mod run;
mod session;
mod stop;
mod streams;
pub(crate) mod table;
#[cfg(test)]
mod tests;
pub(crate) mod time;
mod version;

use std::process::ExitCode;

use self::error::{ClientError, one_line};
use self::session::Session;
use crate::cli::{ClientCommand, Global};

/// How a command ended: with the exit code of what it ran, or its own.
pub(crate) type Outcome = Result<ExitCode, ClientError>;

/// Runs a client command.
pub(crate) fn main(global: &Global, command: ClientCommand) -> ExitCode {
    end(perform(global, command))
}

/// Runs a command to its end, and says what went wrong.
pub(crate) fn end(command: impl Future<Output = Outcome>) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            output::say(&format!("insula: cannot start: {error}"));
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(command) {
        Ok(code) => code,
        Err(ClientError::BrokenPipe) => ExitCode::SUCCESS,
        Err(error) => {
            output::say(&format!("insula: {}", one_line(&error)));
            ExitCode::FAILURE
        }
    }
}

async fn perform(global: &Global, command: ClientCommand) -> Outcome {
    let Some(place) = command.embedded().cloned() else {
        return match command {
            ClientCommand::Doctor => doctor::doctor(global).await,
            _ => version::version(global).await,
        };
    };
    if let ClientCommand::Run(run) = command {
        return run::run(global, &run).await;
    }
    let session = Session::open(global, &place).await?;
    let outcome = match command {
        ClientCommand::Ps(ps) => ps::ps(&session, &ps).await,
        ClientCommand::Logs(logs) => logs::logs(&session, &logs).await,
        ClientCommand::Exec(exec) if exec.interactive || exec.tty => {
            streams::exec(&session, &exec).await
        }
        ClientCommand::Exec(exec) => exec::exec(&session, &exec).await,
        ClientCommand::Attach(attach) => streams::attach(&session, &attach).await,
        ClientCommand::PortForward(forward) => streams::port_forward(&session, &forward).await,
        ClientCommand::Stop(stop) => stop::stop(&session, &stop).await,
        ClientCommand::Rm(rm) => stop::rm(&session, &rm).await,
        ClientCommand::Pull(pull) => pull::command(&session, &pull).await,
        ClientCommand::Events(_) => events::events(&session).await,
        ClientCommand::Images(_) => images::images(&session).await,
        ClientCommand::Rmi(rmi) => images::rmi(&session, &rmi).await,
        ClientCommand::Inspect(inspect) => inspect::inspect(&session, &inspect).await,
        ClientCommand::Run(_) | ClientCommand::Doctor | ClientCommand::Version => {
            Ok(ExitCode::SUCCESS)
        }
    };
    let closed = session.close().await;
    let code = outcome?;
    closed?;
    Ok(code)
}
