//! Writing values into a cgroup so that they can be put back.

use crate::isolator::ApplyError;
use insula_sys::cgroup::Cgroup;

/// Values being written into one cgroup.
///
/// For a running container every old value is read before it is replaced, and
/// [`Change::undo`] puts them back in reverse order. For a new cgroup nothing
/// is recorded: on an error the caller removes it.
#[derive(Debug)]
pub struct Change<'a> {
    cgroup: &'a Cgroup,
    records: bool,
    replaced: Vec<Replaced>,
}

#[derive(Debug)]
struct Replaced {
    controller: &'static str,
    file: String,
    value: String,
}

// === impl Change ===

impl<'a> Change<'a> {
    /// Values of a cgroup that nobody is in yet.
    pub fn of_new(cgroup: &'a Cgroup) -> Self {
        Self {
            cgroup,
            records: false,
            replaced: Vec::new(),
        }
    }

    /// Values of a cgroup whose container runs.
    pub fn of_running(cgroup: &'a Cgroup) -> Self {
        Self {
            records: true,
            ..Self::of_new(cgroup)
        }
    }

    /// The cgroup, for reading.
    pub fn cgroup(&self) -> &'a Cgroup {
        self.cgroup
    }

    /// Whether the container runs already.
    pub fn is_running(&self) -> bool {
        self.records
    }

    /// Writes one value.
    pub fn write(
        &mut self,
        controller: &'static str,
        file: &str,
        value: &str,
    ) -> Result<(), ApplyError> {
        let old = if self.records {
            Some(self.cgroup.read(controller, file)?)
        } else {
            None
        };
        self.cgroup.write(controller, file, value)?;
        if let Some(old) = old {
            self.replaced.push(Replaced {
                controller,
                file: file.to_owned(),
                value: old.trim().to_owned(),
            });
        }
        Ok(())
    }

    /// Puts back what was replaced, latest first. What cannot be put back is
    /// told, the rest is tried nevertheless.
    pub fn undo(self) -> Vec<insula_sys::Error> {
        self.replaced
            .into_iter()
            .rev()
            .filter_map(|old| {
                self.cgroup
                    .write(old.controller, &old.file, &old.value)
                    .err()
            })
            .collect()
    }
}
