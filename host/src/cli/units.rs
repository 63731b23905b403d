//! Sizes, ages and ids as docker writes them for people.

use jiff::Timestamp;

use crate::error::{Error, Result};

/// `3.2MB`: powers of 1000, four digits that count.
pub fn size(bytes: f64) -> String {
    scaled(bytes, 1000.0, &["B", "kB", "MB", "GB", "TB", "PB"], 4)
}

/// `3MB`: as [`size`], with three digits, for images and containers.
pub fn short_size(bytes: f64) -> String {
    scaled(bytes, 1000.0, &["B", "kB", "MB", "GB", "TB", "PB"], 3)
}

/// `256MiB`: powers of 1024.
pub fn binary_size(bytes: f64) -> String {
    scaled(bytes, 1024.0, &["B", "KiB", "MiB", "GiB", "TiB", "PiB"], 4)
}

fn scaled(bytes: f64, step: f64, units: &[&str], digits: usize) -> String {
    // `max` may give the negative of two zeros, an empty sum of floats is one.
    let mut value = bytes.max(0.0) + 0.0;
    let mut unit = 0;
    while value >= step && unit + 1 < units.len() {
        value /= step;
        unit += 1;
    }
    format!("{}{}", significant(value, digits), units[unit])
}

/// C's `%.Ng` for numbers below a few thousand.
fn significant(value: f64, digits: usize) -> String {
    let whole = if value < 1.0 { 1 } else { value.log10().floor() as usize + 1 };
    let text = format!("{value:.*}", digits.saturating_sub(whole));
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// `2 minutes`, as docker rounds.
pub fn age(seconds: i64) -> String {
    let minutes = seconds / 60;
    let hours = (seconds as f64 / 3600.0).round() as i64;
    match (seconds, minutes, hours) {
        (i64::MIN..1, ..) => "Less than a second".to_owned(),
        (1, ..) => "1 second".to_owned(),
        (2..60, ..) => format!("{seconds} seconds"),
        (_, 1, _) => "About a minute".to_owned(),
        (_, 2..60, _) => format!("{minutes} minutes"),
        (.., 1) => "About an hour".to_owned(),
        (.., 2..48) => format!("{hours} hours"),
        (.., 48..336) => format!("{} days", hours / 24),
        (.., 336..1440) => format!("{} weeks", hours / 24 / 7),
        (.., 1440..17520) => format!("{} months", hours / 24 / 30),
        _ => format!("{} years", hours / 24 / 365),
    }
}

pub fn ago(unix: i64) -> String {
    format!("{} ago", age(Timestamp::now().as_second() - unix))
}

/// `2026-05-30T12:07:14.120Z` as `2026-05-30 12:07:14.12 +0000 UTC`: Go ends a fraction with its last digit that is not 0.
pub fn go_time_of(rfc3339: &str) -> String {
    let time = rfc3339.trim_end_matches('Z').replace('T', " ");
    let time = if time.contains('.') { time.trim_end_matches('0').trim_end_matches('.') } else { &time };
    format!("{time} +0000 UTC")
}

/// `2026-05-30 12:07:14 +0000 UTC`, as Go prints a time.
pub fn go_time(unix: i64) -> String {
    match Timestamp::from_second(unix) {
        Ok(time) => time.strftime("%Y-%m-%d %H:%M:%S +0000 UTC").to_string(),
        Err(_) => unix.to_string(),
    }
}

/// `2026-05-30T12:07:14Z` of seconds since 1970.
pub fn iso_time(unix: i64) -> String {
    match Timestamp::from_second(unix) {
        Ok(time) => time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        Err(_) => unix.to_string(),
    }
}

/// `2026-05-30T12:07:14.000000001Z` of nanoseconds since 1970.
pub fn exact_time(nanoseconds: i64) -> String {
    match Timestamp::from_nanosecond(nanoseconds.into()) {
        Ok(time) => format!("{time:.9}"),
        Err(_) => nanoseconds.to_string(),
    }
}

/// Seconds since 1970 of an RFC 3339 time.
pub fn parse_time(text: &str) -> Option<i64> {
    text.parse::<Timestamp>().ok().map(Timestamp::as_second)
}

/// `--since 10m`, `--since 2026-05-30T12:00:00Z` or unix seconds → what the API takes.
pub fn moment(typed: &str) -> Result<String> {
    if typed.parse::<f64>().is_ok() {
        return Ok(typed.to_owned());
    }
    let now = Timestamp::now();
    let nanoseconds = if let Ok(time) = typed.parse::<Timestamp>() {
        time.as_nanosecond()
    } else if let Some(back) = go_duration(typed) {
        now.as_nanosecond() - i128::from(back)
    } else if let Ok(time) = typed.parse::<jiff::civil::DateTime>() {
        time.to_zoned(jiff::tz::TimeZone::UTC)
            .map_err(|error| bad_time(typed).because(error))?
            .timestamp()
            .as_nanosecond()
    } else {
        return Err(bad_time(typed));
    };
    Ok(format!("{}.{:09}", nanoseconds.div_euclid(1_000_000_000), nanoseconds.rem_euclid(1_000_000_000)))
}

fn bad_time(typed: &str) -> Error {
    Error::invalid(format!("{typed:?} is no time: write 10m, 1h30m, 2026-05-30T12:00:00Z or unix seconds"))
}

/// Nanoseconds of `1h30m`, `500ms`, `1.5s`.
pub fn go_duration(typed: &str) -> Option<i64> {
    let mut rest = typed;
    let mut total = 0.0;
    if rest == "0" {
        return Some(0);
    }
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let end = rest.find(|letter: char| !letter.is_ascii_digit() && letter != '.')?;
        let number: f64 = rest[..end].parse().ok()?;
        let unit = &rest[end..];
        let units = [("ns", 1.0), ("us", 1e3), ("µs", 1e3), ("ms", 1e6), ("s", 1e9), ("m", 60e9), ("h", 3600e9)];
        let (name, scale) = units.iter().find(|(name, _)| unit.starts_with(name))?;
        total += number * scale;
        rest = &unit[name.len()..];
    }
    Some(total as i64)
}

/// The first 12 digits of an id, without `sha256:`.
pub fn short_id(id: &str) -> String {
    id.strip_prefix("sha256:").unwrap_or(id).chars().take(12).collect()
}

/// At most `width` letters, the last of them `…` where something was cut.
pub fn ellipsis(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let mut cut: String = text.chars().take(width.saturating_sub(1)).collect();
    cut.push('…');
    cut
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fraction_ends_as_gos_does() {
        assert_eq!(go_time_of("2026-05-30T12:07:14.123456780Z"), "2026-05-30 12:07:14.12345678 +0000 UTC");
        assert_eq!(go_time_of("2026-05-30T12:07:10.000000000Z"), "2026-05-30 12:07:10 +0000 UTC");
        assert_eq!(go_time_of("2026-05-30T12:07:10Z"), "2026-05-30 12:07:10 +0000 UTC");
    }

    #[test]
    fn sizes_as_docker_writes_them() {
        assert_eq!(short_size(0.0), "0B");
        assert_eq!(short_size(-0.0), "0B");
        assert_eq!(short_size(3_000_000.0), "3MB");
        assert_eq!(short_size(1_234_567.0), "1.23MB");
        assert_eq!(short_size(123_456.0), "123kB");
        assert_eq!(size(1_234_567.0), "1.235MB");
        assert_eq!(binary_size(52_428_800.0), "50MiB");
    }

    #[test]
    fn ages_as_docker_writes_them() {
        let ages = [(0, "Less than a second"), (1, "1 second"), (59, "59 seconds"), (60, "About a minute")];
        let more = [(7200, "2 hours"), (3600, "About an hour"), (172_800, "2 days"), (1_209_600, "2 weeks")];
        for (seconds, text) in ages.into_iter().chain(more) {
            assert_eq!(age(seconds), text);
        }
    }

    #[test]
    fn durations_and_moments() {
        assert_eq!(go_duration("1h30m"), Some(5_400_000_000_000));
        assert_eq!(go_duration("500ms"), Some(500_000_000));
        assert_eq!(go_duration("5 parsecs"), None);
        assert_eq!(moment("1970-01-01T00:00:10Z").unwrap(), "10.000000000");
        assert!(moment("yesterday").is_err());
    }

    #[test]
    fn ids_and_ellipses() {
        assert_eq!(short_id("sha256:0123456789abcdef"), "0123456789ab");
        assert_eq!(ellipsis("abcdef", 4), "abc…");
    }
}
