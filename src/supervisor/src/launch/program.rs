//! Finding and executing the program.

use crate::launch::external::CommandLine;
use crate::launch::report::ProgramName;
use insula_sys::fork::{self, Strings};
use insula_wire::OsText;
use insula_wire::message::Failure;
use insula_wire::plan::Process;
use rustix::io::Errno;
use std::ffi::CString;

/// Everything execve(2) needs, made ready while memory may still be taken and
/// errors may still be told.
#[derive(Debug)]
pub struct Program {
    candidates: Vec<CString>,
    searched: bool,
    args: Strings,
    env: Strings,
}

// === impl Program ===

impl Program {
    /// Lists the paths to try: the program itself where it holds a slash, else
    /// each directory of `PATH` with it, as execvp(3) does.
    pub fn new(process: &Process) -> Result<Self, Failure> {
        let Some(program) = process
            .args
            .first()
            .filter(|arg| !arg.as_bytes().is_empty())
        else {
            return Err(ProgramName::default().failure(Errno::NOENT));
        };
        let name = program.as_bytes();
        let searched = !name.contains(&b'/');
        let candidates = if searched {
            search_path(process)
                .split(|byte| *byte == b':')
                .map(|directory| {
                    // An empty entry means the working directory, environ(7).
                    let directory = if directory.is_empty() {
                        b"."
                    } else {
                        directory
                    };
                    CString::new([directory, b"/", name].concat()).unwrap_or_default()
                })
                .collect()
        } else {
            vec![c_string(program)]
        };
        Ok(Self {
            candidates,
            searched,
            args: Strings::new(process.args.iter().map(c_string).collect()),
            env: Strings::new(process.env.iter().map(c_string).collect()),
        })
    }

    /// The program of an external runtime, at the path that the node's
    /// administrator gave.
    pub fn runtime(call: CommandLine) -> Self {
        Self {
            candidates: vec![call.path],
            searched: false,
            args: call.args,
            env: call.environment,
        }
    }

    /// Executes it. Returns only on failure, with the error that says most:
    /// a program that may not be executed over one that is not there.
    pub fn execute(&self) -> Errno {
        let mut result = Errno::NOENT;
        for candidate in &self.candidates {
            match fork::execve(candidate, &self.args, &self.env) {
                missing @ (Errno::NOENT | Errno::NOTDIR) => {
                    if result != Errno::ACCESS {
                        result = missing;
                    }
                }
                Errno::ACCESS => result = Errno::ACCESS,
                other => return other,
            }
        }
        result
    }

    /// How the supervisor knows it.
    pub fn name(&self) -> ProgramName {
        let name = self.args.first().map(|arg| arg.to_string_lossy());
        ProgramName {
            name: name.unwrap_or_default().chars().take(256).collect(),
            searched: self.searched,
        }
    }
}

fn search_path(process: &Process) -> &[u8] {
    process
        .env
        .iter()
        .find_map(|entry| entry.as_bytes().strip_prefix(b"PATH="))
        .unwrap_or(b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
}

fn c_string(text: &OsText) -> CString {
    // OsText holds no NUL by construction.
    CString::new(text.as_bytes()).unwrap_or_default()
}
