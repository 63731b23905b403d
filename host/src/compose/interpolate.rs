//! Variables in a compose file: `$X`, `${X}`, `${X:-default}`, `${X-default}`, `${X:?error}`, `${X?error}`, `${X:+y}`,
//! `$$`.

use serde_json::Value;

use crate::error::{Error, Result};

/// What a variable is worth; `None`: not set.
pub type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Every string of the file, in place.
pub fn fill(value: &mut Value, lookup: Lookup<'_>, warnings: &mut Vec<String>) -> Result<()> {
    match value {
        Value::String(text) => *text = expand(text, lookup, warnings)?,
        Value::Array(all) => all.iter_mut().try_for_each(|one| fill(one, lookup, warnings))?,
        Value::Object(all) => all.values_mut().try_for_each(|one| fill(one, lookup, warnings))?,
        _ => {}
    }
    Ok(())
}

/// The reverse: what a file must say for each string to mean itself.
pub fn escape(value: &mut Value) {
    match value {
        Value::String(text) => *text = text.replace('$', "$$"),
        Value::Array(all) => all.iter_mut().for_each(escape),
        Value::Object(all) => all.values_mut().for_each(escape),
        _ => {}
    }
}

pub fn expand(text: &str, lookup: Lookup<'_>, warnings: &mut Vec<String>) -> Result<String> {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        out += before;
        rest = after;
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some(after) = rest.strip_prefix('{') {
            let end = closing(after).ok_or_else(|| refuse(text, "${ without }"))?;
            out += &braced(&after[..end], text, lookup, warnings)?;
            rest = &after[end + 1..];
        } else {
            let end = name_end(rest);
            if end == 0 {
                return Err(refuse(text, "$ without a name: write $$ for a dollar"));
            }
            out += &value_of(&rest[..end], lookup, warnings);
            rest = &rest[end..];
        }
    }
    Ok(out + rest)
}

fn braced(inside: &str, text: &str, lookup: Lookup<'_>, warnings: &mut Vec<String>) -> Result<String> {
    let (name, operation) = inside.split_at(name_end(inside));
    if name.is_empty() {
        return Err(refuse(text, "${} names no variable"));
    }
    // With a colon an empty value counts as none.
    let (strict, operation) = operation.strip_prefix(':').map_or((false, operation), |rest| (true, rest));
    let value = lookup(name).filter(|value| !strict || !value.is_empty());
    let mut letters = operation.chars();
    match (letters.next(), letters.as_str()) {
        (None, _) if !strict => Ok(value_of(name, lookup, warnings)),
        (Some('-'), default) => value.map_or_else(|| expand(default, lookup, warnings), Ok),
        (Some('+'), other) => value.map_or_else(|| Ok(String::new()), |_| expand(other, lookup, warnings)),
        (Some('?'), message) => {
            value.ok_or_else(|| Error::invalid(format!("required variable {name} is missing a value: {message}")))
        }
        _ => Err(refuse(text, "write ${X}, ${X:-default}, ${X:?error} or ${X:+other}")),
    }
}

fn value_of(name: &str, lookup: Lookup<'_>, warnings: &mut Vec<String>) -> String {
    lookup(name).unwrap_or_else(|| {
        warnings.push(format!("The \"{name}\" variable is not set. Defaulting to a blank string."));
        String::new()
    })
}

fn name_end(text: &str) -> usize {
    text.find(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_').unwrap_or(text.len())
}

fn closing(text: &str) -> Option<usize> {
    let mut depth = 0;
    for (at, letter) in text.char_indices() {
        match letter {
            '{' => depth += 1,
            '}' if depth == 0 => return Some(at),
            '}' => depth -= 1,
            _ => {}
        }
    }
    None
}

fn refuse(text: &str, why: &str) -> Error {
    Error::invalid(format!("invalid interpolation format in {text:?}: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lookup(name: &str) -> Option<String> {
        [("A", "a"), ("EMPTY", "")].iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
    }

    #[test]
    fn every_form() {
        let cases = [
            ("$A-${A}", "a-a"),
            ("${X:-y}", "y"),
            ("${EMPTY:-y}${EMPTY-y}", "y"),
            ("${X:-${A}}", "a"),
            ("${A:+set}${X:+set}", "set"),
            ("$$A", "$A"),
        ];
        for (text, expected) in cases {
            assert_eq!(expand(text, &lookup, &mut Vec::new()).unwrap(), expected, "{text}");
        }
        let mut warnings = Vec::new();
        assert_eq!(expand("x${X}", &lookup, &mut warnings).unwrap(), "x");
        assert!(warnings[0].contains("\"X\" variable is not set"));
    }

    #[test]
    fn mistakes() {
        let error = |text: &str| expand(text, &lookup, &mut Vec::new()).unwrap_err().to_string();
        assert_eq!(error("${X:?say so}"), "required variable X is missing a value: say so");
        assert!(error("${A").contains("${ without }"));
        assert!(error("5$").contains("$$"));
    }
}
