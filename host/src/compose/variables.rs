//! Environment: `env_file`s and `environment`, the later over the earlier, and names that take the caller's value.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Map, Value};

use super::interpolate::Lookup;
use super::quantities::plain;
use crate::error::{Error, ErrorKind, Result};

/// What a service's container is given. A name alone takes its value from `lookup`, and is left out where there is
/// none.
pub fn environment(
    keys: &Map<String, Value>,
    folder: &Path,
    field: &str,
    lookup: Lookup<'_>,
) -> Result<Map<String, Value>> {
    let mut all = Map::new();
    for (path, required) in files(keys.get("env_file"), field)? {
        let whole = folder.join(&path);
        match std::fs::read_to_string(&whole) {
            Ok(text) => merge(&mut all, from_file(&text), lookup),
            Err(error) if !required && error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => {
                return Err(Error::new(ErrorKind::Io, format!("{field}.env_file: cannot read {}", whole.display()))
                    .because(error));
            }
        }
    }
    let own = pairs(keys.get("environment"), &format!("{field}.environment"))?;
    merge(&mut all, own.into_iter().map(|(name, value)| (name, value.as_str().map(str::to_owned))), lookup);
    Ok(all)
}

fn merge(all: &mut Map<String, Value>, more: impl IntoIterator<Item = (String, Option<String>)>, lookup: Lookup<'_>) {
    for (name, value) in more {
        match value.or_else(|| lookup(&name)) {
            Some(value) => all.insert(name, value.into()),
            None => all.remove(&name),
        };
    }
}

/// `a.env`, `[a.env, {path: b.env, required: false}]`.
fn files(value: Option<&Value>, field: &str) -> Result<Vec<(String, bool)>> {
    let one = |value: &Value| match value {
        Value::String(path) => Ok((path.clone(), true)),
        Value::Object(long) if long.get("path").is_some_and(Value::is_string) => {
            Ok((plain(&value["path"]), value["required"] != false))
        }
        _ => {
            Err(Error::invalid(format!("{field}.env_file: write a path, a list of paths, or `path:` with `required:`")))
        }
    };
    match value {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Array(all)) => all.iter().map(one).collect(),
        Some(value) => Ok(vec![one(value)?]),
    }
}

/// Lines `NAME=VALUE`, `export NAME="VALUE"`, `NAME`; `#` begins a remark.
pub fn from_file(text: &str) -> BTreeMap<String, Option<String>> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let pair = |line: &str| {
        let line = line.strip_prefix("export ").unwrap_or(line);
        match line.split_once('=') {
            Some((name, value)) => (name.trim().to_owned(), Some(unquoted(value.trim()))),
            None => (line.to_owned(), None),
        }
    };
    lines.map(pair).collect()
}

fn unquoted(value: &str) -> String {
    for quote in ['"', '\''] {
        if let Some((inside, _)) = value.strip_prefix(quote).and_then(|rest| rest.split_once(quote)) {
            return if quote == '"' { inside.replace("\\n", "\n") } else { inside.to_owned() };
        }
    }
    value.split_once(" #").map_or(value, |(value, _)| value.trim_end()).to_owned()
}

/// `["A=1", "B"]` or `{A: 1, B: }` → strings; a name alone has no value.
pub fn pairs(value: Option<&Value>, field: &str) -> Result<Map<String, Value>> {
    let wrong = || Error::invalid(format!("{field}: write a map, or a list of NAME=VALUE"));
    match value {
        None | Some(Value::Null) => Ok(Map::new()),
        Some(Value::Object(all)) => {
            let one = |(name, value): (&String, &Value)| match value {
                Value::Null => Ok((name.clone(), Value::Null)),
                Value::Object(_) | Value::Array(_) => Err(wrong()),
                scalar => Ok((name.clone(), plain(scalar).into())),
            };
            all.iter().map(one).collect()
        }
        Some(Value::Array(all)) => {
            let one = |value: &Value| match value {
                Value::String(text) => Ok(match text.split_once('=') {
                    Some((name, value)) => (name.to_owned(), value.into()),
                    None => (text.clone(), Value::Null),
                }),
                _ => Err(wrong()),
            };
            all.iter().map(one).collect()
        }
        Some(_) => Err(wrong()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn lookup(name: &str) -> Option<String> {
        (name == "HOST").then(|| "here".to_owned())
    }

    #[test]
    fn lists_and_maps() {
        for written in
            [json!(["A=1", "HOST", "GONE", "B=x=y"]), json!({"A": 1, "HOST": null, "GONE": null, "B": "x=y"})]
        {
            let keys = Map::from_iter([("environment".to_owned(), written)]);
            let all = environment(&keys, Path::new("/"), "a", &lookup).unwrap();
            assert_eq!(Value::Object(all), json!({"A": "1", "HOST": "here", "B": "x=y"}));
        }
        assert!(pairs(Some(&json!("A=1")), "a.labels").unwrap_err().to_string().starts_with("a.labels: "));
        assert!(pairs(Some(&json!({"A": []})), "a.labels").is_err());
    }

    #[test]
    fn files_as_people_write_them() {
        let read = from_file("# talk\nA=1\nexport B=\"two words\"\nC='$x'\nD=4 # four\n\nHOST\nE=\n");
        let value = |name: &str| read[name].as_deref();
        assert_eq!((value("A"), value("B"), value("C")), (Some("1"), Some("two words"), Some("$x")));
        assert_eq!((value("D"), value("E"), value("HOST")), (Some("4"), Some(""), None));
    }

    #[test]
    fn a_file_that_is_not_there() {
        let of = |value: Value| Map::from_iter([("env_file".to_owned(), value)]);
        let read = |value| environment(&of(value), Path::new("/nowhere"), "services.a", &lookup);
        let error = read(json!("x.env")).unwrap_err().to_string();
        assert_eq!(error, "services.a.env_file: cannot read /nowhere/x.env");
        assert!(read(json!([{"path": "x.env", "required": false}])).unwrap().is_empty());
    }
}
