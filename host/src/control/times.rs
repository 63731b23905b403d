//! Moments as clients write and read them. Pure; what is relative is relative to a `now` passed in.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jiff::Timestamp;

use crate::error::{Error, Result};

/// Docker's "never".
pub const NEVER: &str = "0001-01-01T00:00:00Z";

/// `2026-05-30T12:07:14.123456789Z`, always with nine digits.
pub fn rfc3339(time: SystemTime) -> String {
    Timestamp::try_from(time).map_or_else(|_| NEVER.to_owned(), |time| format!("{time:.9}"))
}

/// [`NEVER`] for what has not happened.
pub fn rfc3339_or_never(time: Option<SystemTime>) -> String {
    time.map_or_else(|| NEVER.to_owned(), rfc3339)
}

/// Whole seconds since 1970.
pub fn unix(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

pub fn unix_nanos(time: SystemTime) -> u64 {
    u64::try_from(time.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos()).unwrap_or(u64::MAX)
}

/// `since` and `until`: unix seconds with or without a fraction, RFC 3339, or how long ago (`10m`).
pub fn parse(text: &str, now: SystemTime) -> Result<SystemTime> {
    let time = from_unix(text)
        .or_else(|| text.parse::<Timestamp>().ok().map(SystemTime::from))
        .or_else(|| duration(text).and_then(|ago| now.checked_sub(ago)));
    time.ok_or_else(|| {
        Error::invalid(format!("invalid time {text:?}: write unix seconds, RFC 3339, or a duration like \"10m\""))
    })
}

/// Python sends fractions of any length (`1704067200.5`), Docker's CLI nine digits.
fn from_unix(text: &str) -> Option<SystemTime> {
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if seconds.is_empty() || !digits(seconds) || !digits(fraction) {
        return None;
    }
    let nanos = format!("{fraction:0<9}").get(..9)?.parse().ok()?;
    UNIX_EPOCH.checked_add(Duration::new(seconds.parse().ok()?, nanos))
}

/// Go's notation: `1h30m`, `300ms`, `1.5s`.
pub fn duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut sum = Duration::ZERO;
    while !rest.is_empty() {
        let number = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (value, tail) = rest.split_at(number);
        let unit = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit);
        let seconds = match unit {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "µs" => 1e-6,
            "ns" => 1e-9,
            _ => return None,
        };
        let part = Duration::try_from_secs_f64(value.parse::<f64>().ok()? * seconds).ok()?;
        sum = sum.checked_add(part)?;
        rest = tail;
    }
    (!text.is_empty()).then_some(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64, nanos: u32) -> SystemTime {
        UNIX_EPOCH + Duration::new(seconds, nanos)
    }

    #[test]
    fn moments_are_written_with_nine_digits() {
        assert_eq!(rfc3339(at(1_780_142_834, 123_456_789)), "2026-05-30T12:07:14.123456789Z");
        assert_eq!(rfc3339(at(0, 0)), "1970-01-01T00:00:00.000000000Z");
        assert_eq!(rfc3339_or_never(None), NEVER);
    }

    #[test]
    fn moments_are_read_in_every_notation() {
        let now = at(10_000, 0);
        for (text, time) in [
            ("0", at(0, 0)),
            ("1704067200", at(1_704_067_200, 0)),
            ("1704067200.000000001", at(1_704_067_200, 1)),
            ("1704067200.5", at(1_704_067_200, 500_000_000)),
            ("2024-01-01T00:00:00Z", at(1_704_067_200, 0)),
            ("2024-01-01T01:00:00.25+01:00", at(1_704_067_200, 250_000_000)),
            ("10m", at(9_400, 0)),
            ("1h30m", at(4_600, 0)),
        ] {
            assert_eq!(parse(text, now).unwrap(), time, "{text}");
        }
        for text in ["", "-1", ".5", "1.x", "10 minutes", "yesterday", "99999999999999999999", "1e400h"] {
            assert!(parse(text, now).is_err(), "{text}");
        }
    }

    #[test]
    fn durations_are_gos() {
        assert_eq!(duration("24h"), Some(Duration::from_secs(86_400)));
        assert_eq!(duration("1m0.5s"), Some(Duration::from_millis(60_500)));
        assert_eq!(duration("300ms"), Some(Duration::from_millis(300)));
        for text in ["", "5", "5d", "h", "-5m"] {
            assert_eq!(duration(text), None, "{text}");
        }
    }
}
