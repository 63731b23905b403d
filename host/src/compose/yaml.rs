//! YAML in and out: files as values, values in block style.

use std::fmt::Write as _;

use serde_json::Value;

use crate::error::{Error, Result};

/// As compose reads it: `no`, `on` and their kin are words, only `true` and `false` are not.
pub fn read(text: &str) -> Result<Value> {
    let options = serde_saphyr::options! { strict_booleans: true };
    serde_saphyr::from_str_with_options(text, options)
        .map_err(|error| Error::invalid("this is not YAML").because(error.to_string()))
}

pub fn write(value: &Value) -> String {
    let mut out = String::new();
    block(value, 0, &mut out);
    out
}

/// Lines of a map or list; `indent` blanks before each.
fn block(value: &Value, indent: usize, out: &mut String) {
    let blanks = " ".repeat(indent);
    match value {
        Value::Object(all) => {
            for (key, value) in all {
                let _ = write!(out, "{blanks}{}:", scalar(&Value::String(key.clone())));
                below(value, indent + 2, out);
            }
        }
        Value::Array(all) => {
            for value in all {
                if is_block(value) {
                    let mut inner = String::new();
                    block(value, indent + 2, &mut inner);
                    // Its first line follows the dash.
                    let _ = write!(out, "{blanks}- {}", inner.trim_start());
                } else {
                    let _ = writeln!(out, "{blanks}- {}", scalar(value));
                }
            }
        }
        other => _ = writeln!(out, "{blanks}{}", scalar(other)),
    }
}

fn below(value: &Value, indent: usize, out: &mut String) {
    if is_block(value) {
        out.push('\n');
        block(value, indent, out);
    } else {
        let _ = writeln!(out, " {}", scalar(value));
    }
}

fn is_block(value: &Value) -> bool {
    value.as_object().is_some_and(|all| !all.is_empty()) || value.as_array().is_some_and(|all| !all.is_empty())
}

/// JSON's string is a YAML string; plain only where nothing could be mistaken.
fn scalar(value: &Value) -> String {
    match value {
        Value::String(text) if is_plain(text) => text.clone(),
        other => other.to_string(),
    }
}

fn is_plain(text: &str) -> bool {
    let words = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"];
    let inner = |letter: char| letter.is_ascii_alphanumeric() || "-_./".contains(letter);
    text.starts_with(|letter: char| letter.is_ascii_alphabetic() || letter == '/' || letter == '_')
        && text.chars().all(inner)
        && !words.contains(&text.to_lowercase().as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_written_reads_back() {
        let value = json!({
            "name": "p", "services": {"a": {
                "image": "a:1", "command": ["x", "y: z", "no", "1", ""], "ports": [{"a": 1, "b": ["c"]}],
            }},
            "empty": {}, "none": null, "list": [], "number": 1.5, "on": true,
            "text": "two\nlines # no remark", "- x": "'",
        });
        let text = write(&value);
        assert_eq!(read(&text).unwrap(), value, "{text}");
        assert!(text.contains("services:\n  a:\n    command:\n      - x\n"), "{text}");
    }
}
