//! The CRI's `Signal` enum (KEP-4960) and the kernel's numbers.

use super::Rejected;
use insula_cri_api::v1::Signal;

/// The lowest real-time signal that programs may use: the C library keeps 32
/// and 33 for itself, signal(7).
const SIGRTMIN: i32 = 34;
/// The highest real-time signal.
const SIGRTMAX: i32 = 64;

/// Signals with a name of their own: the interface's value and the number on
/// every architecture that Insula runs on (x86-64 and arm64 agree). Where two
/// names share a number the usual one comes first.
const NAMED: &[(Signal, i32)] = &[
    (Signal::Sighup, 1),
    (Signal::Sigint, 2),
    (Signal::Sigquit, 3),
    (Signal::Sigill, 4),
    (Signal::Sigtrap, 5),
    (Signal::Sigabrt, 6),
    (Signal::Sigiot, 6),
    (Signal::Sigbus, 7),
    (Signal::Sigfpe, 8),
    (Signal::Sigkill, 9),
    (Signal::Sigusr1, 10),
    (Signal::Sigsegv, 11),
    (Signal::Sigusr2, 12),
    (Signal::Sigpipe, 13),
    (Signal::Sigalrm, 14),
    (Signal::Sigterm, 15),
    (Signal::Sigstkflt, 16),
    (Signal::Sigchld, 17),
    (Signal::Sigcld, 17),
    (Signal::Sigcont, 18),
    (Signal::Sigstop, 19),
    (Signal::Sigtstp, 20),
    (Signal::Sigttin, 21),
    (Signal::Sigttou, 22),
    (Signal::Sigurg, 23),
    (Signal::Sigxcpu, 24),
    (Signal::Sigxfsz, 25),
    (Signal::Sigvtalrm, 26),
    (Signal::Sigprof, 27),
    (Signal::Sigwinch, 28),
    (Signal::Sigio, 29),
    (Signal::Sigpoll, 29),
    (Signal::Sigpwr, 30),
    (Signal::Sigsys, 31),
];

/// The number of a signal; `None` is the interface's "not asked for".
pub fn number(value: i32, field: &str) -> Result<Option<i32>, Rejected> {
    let signal = Signal::try_from(value)
        .map_err(|_| Rejected::invalid(field, format!("{value} is not a value of enum Signal")))?;
    if signal == Signal::RuntimeDefault {
        return Ok(None);
    }
    if let Some((_, number)) = NAMED.iter().find(|(name, _)| *name == signal) {
        return Ok(Some(*number));
    }
    // The real-time signals are numbered without gaps in both places.
    Ok(Some(SIGRTMIN + value - Signal::Sigrtmin as i32))
}

/// The interface's value for a number; `RuntimeDefault` for one that has none.
pub fn value(number: i32) -> Signal {
    if let Some((signal, _)) = NAMED.iter().find(|(_, known)| *known == number) {
        return *signal;
    }
    if !(SIGRTMIN..=SIGRTMAX).contains(&number) {
        return Signal::RuntimeDefault;
    }
    Signal::try_from(Signal::Sigrtmin as i32 + number - SIGRTMIN).unwrap_or(Signal::RuntimeDefault)
}

#[cfg(test)]
mod tests {
    use super::{Signal, number, value};

    #[test]
    fn numbers_are_those_of_signal_7() {
        let cases = [
            (Signal::RuntimeDefault, None),
            (Signal::Sigterm, Some(15)),
            (Signal::Sigkill, Some(9)),
            (Signal::Sigiot, Some(6)),
            (Signal::Sigcld, Some(17)),
            (Signal::Sigpoll, Some(29)),
            (Signal::Sigrtmin, Some(34)),
            (Signal::Sigrtminplus1, Some(35)),
            (Signal::Sigrtminplus15, Some(49)),
            (Signal::Sigrtmaxminus14, Some(50)),
            (Signal::Sigrtmaxminus1, Some(63)),
            (Signal::Sigrtmax, Some(64)),
        ];
        for (signal, want) in cases {
            assert_eq!(number(signal as i32, "stop_signal"), Ok(want), "{signal:?}");
        }
    }

    #[test]
    fn every_signal_number_has_a_name_and_comes_back() {
        for signal in (1..=31).chain(34..=64) {
            let named = value(signal);
            assert_ne!(named, Signal::RuntimeDefault, "{signal}");
            assert_eq!(number(named as i32, "stop_signal"), Ok(Some(signal)));
        }
        for none in [-1, 0, 32, 33, 65] {
            assert_eq!(value(none), Signal::RuntimeDefault, "{none}");
        }
    }

    #[test]
    fn a_value_of_a_newer_interface_is_refused() {
        let refused = number(66, "config.stop_signal").unwrap_err().to_string();
        assert_eq!(
            refused,
            "config.stop_signal: 66 is not a value of enum Signal"
        );
        assert!(number(-1, "stop_signal").is_err());
    }
}
