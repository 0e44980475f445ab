//! Time lost for want of something: pressure stall information.

use insula_sys::cgroup::Cgroup;

/// Time in which tasks of a cgroup waited (accounting/psi.rst, "Pressure
/// interface").
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Pressure {
    /// At least one task waited.
    pub some: Stall,
    /// No task could go on.
    pub full: Stall,
}

/// How long it was so.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Stall {
    /// Since the cgroup was made, in microseconds.
    pub total: u64,
    /// Share of the last ten seconds, in percent.
    pub avg10: f64,
    /// Share of the last minute, in percent.
    pub avg60: f64,
    /// Share of the last five minutes, in percent.
    pub avg300: f64,
}

/// A pressure file of a cgroup. The files are in the unified hierarchy, also on
/// a host whose controllers are in version 1 ones, and only where the kernel
/// keeps the information (`psi=1`).
pub(crate) fn of(cgroup: &Cgroup, file: &str) -> Option<Pressure> {
    parse(&cgroup.read_unified(file).ok()?)
}

/// Reads such a file. Linux before 5.13 has no `full` line for processors: then
/// it is zero. Anything that does not look like that is `None`.
pub fn parse(text: &str) -> Option<Pressure> {
    let mut pressure = Pressure::default();
    let mut some = false;
    for line in text.lines() {
        let (kind, numbers) = line.split_once(' ')?;
        let stall = stall(numbers)?;
        match kind {
            "some" => {
                pressure.some = stall;
                some = true;
            }
            "full" => pressure.full = stall,
            _ => {}
        }
    }
    some.then_some(pressure)
}

fn stall(text: &str) -> Option<Stall> {
    let mut stall = Stall::default();
    for word in text.split_ascii_whitespace() {
        let (key, value) = word.split_once('=')?;
        let percent = || value.parse().ok().filter(|share: &f64| share.is_finite());
        match key {
            "avg10" => stall.avg10 = percent()?,
            "avg60" => stall.avg60 = percent()?,
            "avg300" => stall.avg300 = percent()?,
            "total" => stall.total = value.parse().ok()?,
            _ => {}
        }
    }
    Some(stall)
}

#[cfg(test)]
mod tests {
    use super::{Pressure, Stall, parse};
    use proptest::prelude::*;

    #[test]
    fn files_are_read_as_the_kernel_writes_them() {
        let some = Stall {
            total: 7,
            avg10: 1.64,
            avg60: 0.5,
            avg300: 12.04,
        };
        let line = "some avg10=1.64 avg60=0.50 avg300=12.04 total=7\n";
        let full = Stall {
            total: 9,
            ..Stall::default()
        };
        let both = format!("{line}full avg10=0.00 avg60=0.00 avg300=0.00 total=9\n");
        for (text, expected) in [
            (
                line,
                Some(Pressure {
                    some,
                    ..Pressure::default()
                }),
            ),
            (&both, Some(Pressure { some, full })),
            ("full avg10=0.00 avg60=0.00 avg300=0.00 total=9\n", None),
            ("some avg10=x avg60=0.00 avg300=0.00 total=9\n", None),
            ("some avg10=NaN avg60=0.00 avg300=0.00 total=9\n", None),
            ("some total\n", None),
            ("", None),
        ] {
            assert_eq!(parse(text), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in ".{0,200}") {
            let _read = parse(&text);
        }

        #[test]
        fn what_is_written_is_read(total: u64, hundredths in 0u32..=10_000) {
            let avg = f64::from(hundredths) / 100.0;
            let line = format!("some avg10={avg:.2} avg60=0.00 avg300={avg:.2} total={total}\n");
            let stall = parse(&line).unwrap().some;
            prop_assert_eq!((stall.total, stall.avg10, stall.avg300), (total, avg, avg));
        }
    }
}
