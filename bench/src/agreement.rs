//! Do two servers give the same answer? A fast wrong answer is no result.

use anyhow::{Result, ensure};
use serde_json::Value;

use crate::http::Response;

/// Sums in another order differ in the last bits of a float, not in the third decimal.
const TOLERANCE: f64 = 1e-3;

/// Both are 200, and their bodies the same text or the same JSON up to rounding.
pub fn check(expected: &Response, actual: &Response) -> Result<()> {
    for response in [expected, actual] {
        let body = String::from_utf8_lossy(&response.body);
        ensure!(response.status == 200, "status {}, not 200: {body}", response.status);
    }
    let same = match (serde_json::from_slice(&expected.body), serde_json::from_slice(&actual.body)) {
        (Ok(expected), Ok(actual)) => alike(&expected, &actual),
        _ => expected.body == actual.body,
    };
    let (expected, actual) = (String::from_utf8_lossy(&expected.body), String::from_utf8_lossy(&actual.body));
    ensure!(same, "answered {actual}\nwhere the native server answers {expected}");
    Ok(())
}

fn alike(expected: &Value, actual: &Value) -> bool {
    match (expected, actual) {
        (Value::Number(a), Value::Number(b)) => match (a.as_i64(), b.as_i64()) {
            // A class is a whole number and has no tolerance.
            (Some(a), Some(b)) => a == b,
            _ => a.as_f64().zip(b.as_f64()).is_some_and(|(a, b)| (a - b).abs() <= TOLERANCE),
        },
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| alike(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(name, a)| b.get(name).is_some_and(|b| alike(a, b)))
        }
        _ => expected == actual,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ok(body: &str) -> Response {
        Response { status: 200, body: body.into() }
    }

    #[test]
    fn rounding_is_forgiven_and_classes_are_not() {
        assert!(check(&ok(r#"[{"class":7,"p":0.5}]"#), &ok(r#"[{"p":0.50001,"class":7}]"#)).is_ok());
        assert!(check(&ok(r#"[{"class":7,"p":0.5}]"#), &ok(r#"[{"class":8,"p":0.5}]"#)).is_err());
        assert!(check(&ok(r#"[{"class":7,"p":0.5}]"#), &ok(r#"[{"class":7,"p":0.6}]"#)).is_err());
        assert!(check(&ok("[1,2]"), &ok("[1]")).is_err());
    }

    #[test]
    fn text_must_be_equal_and_errors_never_agree() {
        assert!(check(&ok("Hello"), &ok("Hello")).is_ok());
        assert!(check(&ok("Hello"), &ok("Hallo")).is_err());
        let refused = Response { status: 503, body: Vec::new() };
        assert!(check(&refused, &refused).is_err());
    }
}
