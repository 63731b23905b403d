//! Sizes, times and shares as a compose file writes them: a number or a string.

use serde_json::Value;

use crate::error::{Error, Result};

const KIB: f64 = 1024.0;

/// `64m`, `1.5gb`, `268435456`: bytes. `field` is what a mistake is blamed on.
pub fn bytes(value: &Value, field: &str) -> Result<u64> {
    let wrong = || Error::invalid(format!("{field}: {} is no size; write 256m or 1.5g", plain(value)));
    let text = plain(value).to_lowercase();
    let end = text.find(|letter: char| !letter.is_ascii_digit() && letter != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let scale = match unit.trim().trim_end_matches("ib").trim_end_matches('b') {
        "" => 1.0,
        "k" => KIB,
        "m" => KIB * KIB,
        "g" => KIB * KIB * KIB,
        _ => return Err(wrong()),
    };
    let bytes = number.parse::<f64>().map_err(|_| wrong())? * scale;
    if bytes >= i64::MAX as f64 { Err(wrong()) } else { Ok(bytes as u64) }
}

/// `1m30s`, `500ms`; a bare number is seconds. Nanoseconds.
pub fn nanoseconds(value: &Value, field: &str) -> Result<i64> {
    let wrong = || Error::invalid(format!("{field}: {} is no duration; write 500ms, 30s or 1m30s", plain(value)));
    let text = plain(value);
    if let Ok(seconds) = text.parse::<u32>() {
        return Ok(i64::from(seconds) * 1_000_000_000);
    }
    let units = [("ns", 1.0), ("us", 1e3), ("ms", 1e6), ("s", 1e9), ("m", 60e9), ("h", 3600e9), ("d", 86_400e9)];
    let (mut rest, mut total) = (text.trim(), 0.0);
    if rest.is_empty() {
        return Err(wrong());
    }
    while !rest.is_empty() {
        let end = rest.find(|letter: char| !letter.is_ascii_digit() && letter != '.').ok_or_else(wrong)?;
        let (number, after) = rest.split_at(end);
        let (unit, scale) = units.iter().find(|(unit, _)| after.starts_with(unit)).ok_or_else(wrong)?;
        total += number.parse::<f64>().map_err(|_| wrong())? * scale;
        rest = &after[unit.len()..];
    }
    if total < i64::MAX as f64 { Ok(total as i64) } else { Err(wrong()) }
}

/// `cpus: 1.5` or `"0.5"`, in billionths.
pub fn nano_cpus(value: &Value, field: &str) -> Result<i64> {
    match plain(value).parse::<f64>() {
        Ok(cpus) if cpus.is_finite() && (0.0..1e6).contains(&cpus) => Ok((cpus * 1e9).round() as i64),
        _ => Err(Error::invalid(format!("{field}: {} is no number of processors; write 0.5", plain(value)))),
    }
}

/// A scalar as it was written; strings without their quotes, nothing for null.
pub fn plain(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn numbers_and_strings() {
        let sizes =
            [(json!("64m"), 64 << 20), (json!("1.5gb"), 3 << 29), (json!(1024), 1024), (json!("2GiB"), 2 << 30)];
        for (value, expected) in sizes {
            assert_eq!(bytes(&value, "x").unwrap(), expected, "{value}");
        }
        let times = [(json!("1m30s"), 90_000_000_000), (json!("500ms"), 500_000_000), (json!(3), 3_000_000_000)];
        for (value, expected) in times {
            assert_eq!(nanoseconds(&value, "x").unwrap(), expected, "{value}");
        }
        assert_eq!(nano_cpus(&json!("0.5"), "x").unwrap(), 500_000_000);
        assert_eq!(nano_cpus(&json!(2), "x").unwrap(), 2_000_000_000);
    }

    #[test]
    fn mistakes_name_their_field() {
        for wrong in [json!("lots"), json!("-1m"), json!(""), json!("1x"), json!("99999999999g")] {
            assert!(bytes(&wrong, "a.mem_limit").unwrap_err().to_string().starts_with("a.mem_limit: "), "{wrong}");
            assert!(nanoseconds(&wrong, "a.t").is_err() || wrong == json!("-1m"), "{wrong}");
            assert!(nano_cpus(&wrong, "a.cpus").is_err(), "{wrong}");
        }
        assert!(nanoseconds(&json!("-1m"), "a.t").is_err());
    }
}
