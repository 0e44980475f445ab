//! Signals by name.

/// SIGRTMIN as programs see it: the C library keeps two for itself.
const REAL_TIME_MIN: i32 = 34;

/// The last signal, signal(7).
const REAL_TIME_MAX: i32 = 64;

/// The signals of signal(7) on x86-64 and AArch64, from 1.
const NAMES: &[&str] = &[
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2",
    "PIPE", "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG",
    "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];

/// The number of a signal that an image or an app definition names: `15`,
/// `SIGTERM`, `term`, `SIGRTMIN+3`, `RTMAX-1`. `None` where there is no such
/// signal.
pub fn number(text: &str) -> Option<i32> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        return text
            .parse()
            .ok()
            .filter(|number| (1..=REAL_TIME_MAX).contains(number));
    }
    let upper = text.to_ascii_uppercase();
    let bare = upper.strip_prefix("SIG").unwrap_or(&upper);
    let offset = |digits: &str| -> Option<i32> {
        let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        plain.then(|| digits.parse().ok()).flatten()
    };
    let number = match bare {
        "IOT" => 6,
        "POLL" => 29,
        "RTMIN" => REAL_TIME_MIN,
        "RTMAX" => REAL_TIME_MAX,
        _ => {
            if let Some(rest) = bare.strip_prefix("RTMIN+") {
                REAL_TIME_MIN.checked_add(offset(rest)?)?
            } else if let Some(rest) = bare.strip_prefix("RTMAX-") {
                REAL_TIME_MAX.checked_sub(offset(rest)?)?
            } else {
                let index = NAMES.iter().position(|name| *name == bare)?;
                return i32::try_from(index + 1).ok();
            }
        }
    };
    let real_time = (REAL_TIME_MIN..=REAL_TIME_MAX).contains(&number);
    (real_time || number < 32).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::number;

    #[test]
    fn numbers_and_names() {
        for (text, expected) in [
            ("15", Some(15)),
            ("SIGTERM", Some(15)),
            ("term", Some(15)),
            ("SIGQUIT", Some(3)),
            ("SIGWINCH", Some(28)),
            ("SIGSYS", Some(31)),
            ("SIGRTMIN", Some(34)),
            ("SIGRTMIN+3", Some(37)),
            ("RTMAX-1", Some(63)),
            ("SIGRTMIN+30", Some(64)),
            ("SIGRTMIN+31", None),
            ("SIGRTMAX-31", None),
            ("SIGRTMIN+-1", None),
            ("SIGRTMIN+", None),
            ("SIGRTMAX-99999999999", None),
            ("0", None),
            ("65", None),
            ("-9", None),
            ("", None),
            ("SIG", None),
            ("SIGFOO", None),
        ] {
            assert_eq!(number(text), expected, "{text:?}");
        }
    }
}
