//! Stands in for a network plugin: enters the cgroup whose file of tasks is beside it as `group`, so that
//! the processor time of plugins is counted apart, and becomes the program of its own name in `real/`.
//! Before that cgroup is made, nothing is counted.
#![forbid(unsafe_code)]

use std::io::{Error, ErrorKind};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};

fn become_the_plugin() -> Result<Error, Error> {
    let own = std::env::current_exe()?;
    match std::fs::write(own.with_file_name("group"), "0") {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let name = own.file_name().unwrap_or_default();
    let real = own.with_file_name("real").join(name);
    Ok(Command::new(real).args(std::env::args_os().skip(1)).exec())
}

fn main() -> ExitCode {
    let (Ok(error) | Err(error)) = become_the_plugin();
    eprintln!("a plugin whose time is counted: {error}");
    ExitCode::FAILURE
}
