//! Sizes and durations as people type them: `64m`, `1.5g`, `30s`, `500ms`.

use std::time::Duration;

/// Bytes, with Docker's suffixes b, k, m, g (powers of 1024, either case, an optional `b` or `ib` after them).
pub fn size(text: &str) -> Result<u64, String> {
    let (number, unit) = split(text);
    let scale: u64 = match unit.to_ascii_lowercase().trim_end_matches("ib").trim_end_matches('b') {
        "" => 1,
        "k" => 1 << 10,
        "m" => 1 << 20,
        "g" => 1 << 30,
        _ => return Err(format!("{unit:?} is no unit of size; use b, k, m or g, e.g. 256m")),
    };
    let bytes = number.parse::<f64>().map_err(|_| format!("{number:?} is no number; e.g. 256m"))? * scale as f64;
    if !bytes.is_finite() || bytes < 0.0 || bytes >= u64::MAX as f64 {
        return Err(format!("{text:?} is out of range"));
    }
    Ok(bytes as u64)
}

/// `KEY=VALUE`, as it was typed.
pub fn pair(text: &str) -> Result<String, String> {
    if text.contains('=') { Ok(text.to_owned()) } else { Err("bad format of filter (expected name=value)".to_owned()) }
}

/// `ms`, `s`, `m` or `h`; a bare number is seconds.
pub fn duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = split(text);
    let seconds: f64 = match unit {
        "ms" => 0.001,
        "" | "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err(format!("{unit:?} is no unit of time; use ms, s, m or h, e.g. 30s")),
    };
    let value = number.parse::<f64>().map_err(|_| format!("{number:?} is no number; e.g. 30s"))? * seconds;
    match Duration::try_from_secs_f64(value) {
        Ok(duration) if !duration.is_zero() => Ok(duration),
        Ok(_) => Err("a limit of no time at all answers nothing".to_owned()),
        Err(error) => Err(format!("{text:?}: {error}")),
    }
}

fn split(text: &str) -> (&str, &str) {
    let text = text.trim();
    let end = text.find(|letter: char| !letter.is_ascii_digit() && letter != '.').unwrap_or(text.len());
    text.split_at(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        assert_eq!(size("512"), Ok(512));
        assert_eq!(size("64m"), Ok(64 << 20));
        assert_eq!(size("1.5g"), Ok(3 << 29));
        assert_eq!(size("10KiB"), Ok(10 << 10));
        assert_eq!(size("10MB"), Ok(10 << 20));
        assert!(size("m").is_err());
        assert!(size("-1m").is_err());
        assert!(size("5x").unwrap_err().contains("unit of size"));
    }

    #[test]
    fn durations() {
        assert_eq!(duration("30"), Ok(Duration::from_secs(30)));
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        assert!(duration("0").is_err());
        assert!(duration("5 parsecs").is_err());
    }
}
