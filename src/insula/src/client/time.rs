//! Times as people and log files write them.

use std::str::FromStr;
use std::time::Duration;

use insula_wire::time::{date, days, now_nanoseconds};

/// Nanoseconds of a second.
const SECOND: i128 = 1_000_000_000;

/// A moment in nanoseconds since the Unix epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment(i128);

impl Moment {
    /// Now.
    pub(crate) fn now() -> Self {
        Self(now_nanoseconds().into())
    }

    /// A time of the CRI; zero and less mean "never".
    pub(crate) fn of_cri(nanoseconds: i64) -> Option<Self> {
        (nanoseconds > 0).then_some(Self(nanoseconds.into()))
    }

    /// RFC 3339, with or without a fraction, in UTC or with an offset.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (date, rest) = text.split_once(['T', 't', ' '])?;
        let mut date = date.splitn(3, '-').map(digits::<i64>);
        let (year, month, day) = (date.next()??, date.next()??, date.next()??);
        let (clock, offset) = split_offset(rest)?;
        let (clock, fraction) = clock.split_once('.').unwrap_or((clock, ""));
        let mut clock = clock.splitn(3, ':').map(digits::<i64>);
        let (hour, minute, second) = (clock.next()??, clock.next()??, clock.next()??);
        let in_range = (1..=9999).contains(&year)
            && (1..=12).contains(&month)
            && (1..=31).contains(&day)
            && hour < 24
            && minute < 60
            && second < 61;
        if !in_range {
            return None;
        }
        let seconds = days(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second - offset;
        Some(Self(i128::from(seconds) * SECOND + nanoseconds(fraction)?))
    }

    /// RFC 3339 in UTC, to the millisecond.
    pub(crate) fn to_rfc3339(self) -> String {
        let seconds = self.0.div_euclid(SECOND);
        let milliseconds = self.0.rem_euclid(SECOND) / 1_000_000;
        let (days, clock) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
        // No calendar goes further than the clock of the CRI, 64 bits of nanoseconds.
        let days = i64::try_from(days.clamp(-110_000, 110_000)).unwrap_or(0);
        let (year, month, day) = date(days);
        format!(
            "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{milliseconds:03}Z",
            clock / 3600,
            clock / 60 % 60,
            clock % 60
        )
    }

    /// How long ago, in the largest unit that says enough: `45s`, `12m`, `5h`, `3d`.
    pub(crate) fn age(self, now: Moment) -> String {
        let seconds = (now.0 - self.0).max(0) / SECOND;
        match seconds {
            0..120 => format!("{seconds}s"),
            120..7200 => format!("{}m", seconds / 60),
            7200..172_800 => format!("{}h", seconds / 3600),
            _ => format!("{}d", seconds / 86_400),
        }
    }

    fn before(self, duration: Duration) -> Self {
        Self(self.0 - i128::try_from(duration.as_nanos()).unwrap_or(i128::MAX / 2))
    }
}

/// Digits only, at most nine of them.
fn digits<T: FromStr>(text: &str) -> Option<T> {
    if text.is_empty() || text.len() > 9 || !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

/// Splits a clock from its offset from UTC, in seconds.
fn split_offset(text: &str) -> Option<(&str, i64)> {
    if let Some(clock) = text.strip_suffix(['Z', 'z']) {
        return Some((clock, 0));
    }
    let at = text.rfind(['+', '-'])?;
    let (clock, offset) = text.split_at_checked(at)?;
    let sign = if offset.starts_with('-') { -1 } else { 1 };
    let (hours, minutes) = offset.get(1..)?.split_once(':')?;
    let (hours, minutes) = (digits::<i64>(hours)?, digits::<i64>(minutes)?);
    (hours < 24 && minutes < 60).then_some((clock, sign * (hours * 3600 + minutes * 60)))
}

fn nanoseconds(fraction: &str) -> Option<i128> {
    if fraction.is_empty() {
        return Some(0);
    }
    let padded = format!("{:0<9}", fraction.get(..fraction.len().min(9))?);
    digits::<i128>(&padded)
}

/// The argument of `--since`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Since {
    /// A moment.
    Moment(Moment),
    /// That long ago.
    Ago(Duration),
}

impl Since {
    pub(crate) fn moment(self, now: Moment) -> Moment {
        match self {
            Since::Moment(moment) => moment,
            Since::Ago(duration) => now.before(duration),
        }
    }
}

/// A text that is neither a time nor a duration.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("want a time such as 2026-01-31T08:00:00Z, or how long ago: 30s, 10m, 2h, 1d")]
pub(crate) struct NotATime;

impl FromStr for Since {
    type Err = NotATime;

    fn from_str(text: &str) -> Result<Self, NotATime> {
        if let Some(moment) = Moment::parse(text) {
            return Ok(Since::Moment(moment));
        }
        let unit = match text.chars().last() {
            Some('s') => 1,
            Some('m') => 60,
            Some('h') => 3600,
            Some('d') => 86_400,
            _ => return Err(NotATime),
        };
        let number: u64 = digits(&text[..text.len() - 1]).ok_or(NotATime)?;
        Ok(Since::Ago(Duration::from_secs(number * unit)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments() {
        for (text, want) in [
            ("1970-01-01T00:00:00Z", Some(0)),
            ("1970-01-01T00:00:00.5Z", Some(500_000_000)),
            ("2026-02-28T23:59:60Z", Some(1_772_323_200_000_000_000)),
            ("2000-02-29T00:00:00Z", Some(951_782_400_000_000_000)),
            (
                "2026-01-31T08:00:00.123456789+02:00",
                Some(1_769_839_200_123_456_789),
            ),
            (
                "2026-01-31T08:00:00.1234567891Z",
                Some(1_769_846_400_123_456_789),
            ),
            ("2026-13-01T00:00:00Z", None),
            ("2026-01-31T08:00:00", None),
            ("2026-01-31", None),
            ("2026-01-31T24:00:00Z", None),
            ("T:Z", None),
            ("", None),
        ] {
            assert_eq!(Moment::parse(text).map(|m| m.0), want, "{text}");
        }
    }

    #[test]
    fn writing_is_the_inverse_of_parsing() {
        for text in [
            "1970-01-01T00:00:00.000Z",
            "1999-12-31T23:59:59.999Z",
            "2000-02-29T12:00:00.001Z",
            "2026-11-23T10:00:00.000Z",
            "2100-03-01T00:00:00.000Z",
        ] {
            assert_eq!(
                Moment::parse(text).map(Moment::to_rfc3339).as_deref(),
                Some(text)
            );
        }
    }

    #[test]
    fn ages() {
        let now = Moment(1_000_000 * SECOND);
        for (seconds, want) in [
            (-5, "0s"),
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (7200, "2h"),
            (172_800, "2d"),
        ] {
            assert_eq!(Moment(now.0 - seconds * SECOND).age(now), want);
        }
    }

    #[test]
    fn since() {
        for (text, want) in [
            ("30s", Some(30)),
            ("10m", Some(600)),
            ("2h", Some(7200)),
            ("1d", Some(86_400)),
            ("1w", None),
            ("-1s", None),
            ("s", None),
            ("\u{e9}", None),
        ] {
            let have = text.parse().ok();
            assert_eq!(
                have,
                want.map(|n| Since::Ago(Duration::from_secs(n))),
                "{text}"
            );
        }
        assert!(matches!(
            "2026-01-31T08:00:00Z".parse(),
            Ok(Since::Moment(_))
        ));
    }
}
