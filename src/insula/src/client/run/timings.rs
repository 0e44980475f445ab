//! How long each phase took.

use std::fmt;
use std::time::{Duration, Instant};

/// Phases in order, each from the end of the one before.
#[derive(Debug)]
pub(crate) struct Timings {
    last: Instant,
    phases: Vec<(String, Duration)>,
}

impl Timings {
    pub(crate) fn new() -> Self {
        Self {
            last: Instant::now(),
            phases: Vec::new(),
        }
    }

    /// A phase has ended.
    pub(crate) fn end(&mut self, phase: impl Into<String>) {
        let now = Instant::now();
        self.phases.push((phase.into(), now - self.last));
        self.last = now;
    }
}

impl fmt::Display for Timings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self
            .phases
            .iter()
            .map(|(name, _)| name.chars().count())
            .max();
        let width = width.unwrap_or(0);
        f.write_str("timings:")?;
        for (name, duration) in &self.phases {
            let milliseconds = duration.as_secs_f64() * 1000.0;
            write!(f, "\n  {name:width$} {milliseconds:9.1} ms")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_are_aligned() {
        let timings = Timings {
            last: Instant::now(),
            phases: vec![
                ("image".into(), Duration::from_micros(1_234_560)),
                ("redis: pod".into(), Duration::from_micros(9_140)),
            ],
        };
        assert_eq!(
            timings.to_string(),
            "timings:\n  image         1234.6 ms\n  redis: pod       9.1 ms"
        );
    }
}
