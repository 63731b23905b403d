//! `volumes` and `tmpfs`: short and long forms → the long one, sources made whole; and what the API takes.

use std::path::{Component, Path, PathBuf};

use serde_json::{Map, Value, json};

use super::quantities::{bytes, plain};
use crate::error::{Error, Result};

/// Every entry in the long form. Named volumes must be in `declared`; binds become absolute.
pub fn canonical(
    value: Option<&Value>,
    folder: &Path,
    home: Option<&str>,
    declared: &Map<String, Value>,
    field: &str,
) -> Result<Vec<Value>> {
    let entries = match value {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Array(entries)) => entries,
        Some(_) => return Err(Error::invalid(format!("{field}: write a list, such as `- ./models:/models:ro`"))),
    };
    let mut all = Vec::new();
    for entry in entries {
        let mut long = match entry {
            Value::String(text) => short(text, field)?,
            Value::Object(_) => entry.clone(),
            _ => return Err(Error::invalid(format!("{field}: {entry} is no volume; write SOURCE:TARGET[:ro]"))),
        };
        if !plain(&long["target"]).starts_with('/') {
            return Err(Error::invalid(format!("{field}: {entry}: the target must be an absolute path")));
        }
        let source = plain(&long["source"]);
        match long["type"].as_str() {
            Some("bind") if !source.is_empty() => long["source"] = whole(&source, folder, home).into(),
            Some("volume") if source.is_empty() || declared.contains_key(&source) => {}
            Some("volume") => {
                return Err(Error::invalid(format!(
                    "{field}: refers to undefined volume {source}: declare it under the top-level `volumes:`"
                )));
            }
            Some("tmpfs") => {}
            _ => {
                return Err(Error::invalid(format!(
                    "{field}: {entry}: type must be bind (with a source), volume or tmpfs"
                )));
            }
        }
        all.push(long);
    }
    Ok(all)
}

fn short(text: &str, field: &str) -> Result<Value> {
    let parts: Vec<&str> = text.split(':').collect();
    let (source, target, options) = match parts[..] {
        [target] => ("", target, ""),
        [source, target] => (source, target, ""),
        [source, target, options] => (source, target, options),
        _ => return Err(Error::invalid(format!("{field}: {text:?} has too many colons; write SOURCE:TARGET[:ro]"))),
    };
    let kind = if source.starts_with(['.', '/', '~']) { "bind" } else { "volume" };
    let mut long = json!({"type": kind, "target": target});
    if !source.is_empty() {
        long["source"] = source.into();
    }
    if kind == "bind" {
        long["bind"] = json!({"create_host_path": true});
    }
    if options.split(',').any(|option| option == "ro") {
        long["read_only"] = true.into();
    }
    Ok(long)
}

/// Absolute, without `.` and `..`.
pub fn whole(path: &str, folder: &Path, home: Option<&str>) -> String {
    let path = match (path.strip_prefix('~'), home) {
        (Some(rest), Some(home)) => PathBuf::from(format!("{home}{rest}")),
        _ => folder.join(path),
    };
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => _ = out.pop(),
            other => out.push(other),
        }
    }
    out.to_string_lossy().into_owned()
}

/// Canonical entries → `Binds`, `Mounts` and `Tmpfs`. `name` tells the daemon's name of a declared volume.
pub fn request(volumes: &[Value], tmpfs: Option<&Value>, name: &dyn Fn(&str) -> String, field: &str) -> Result<Value> {
    let (mut binds, mut mounts, mut memory) = (Vec::new(), Vec::new(), Map::new());
    for volume in volumes {
        let (source, target) = (plain(&volume["source"]), plain(&volume["target"]));
        let read_only = volume["read_only"] == true;
        let suffix = if read_only { "ro" } else { "rw" };
        match volume["type"].as_str() {
            Some("tmpfs") => {
                let size = volume["tmpfs"].get("size").map(|size| bytes(size, field)).transpose()?;
                memory.insert(target, size.map(|size| format!("size={size}")).unwrap_or_default().into());
            }
            Some("volume") if source.is_empty() => mounts.push(json!({"Type": "volume", "Target": target})),
            Some("volume") => binds.push(format!("{}:{target}:{suffix}", name(&source))),
            // Short binds make a folder that is missing; long ones refuse it, as docker's do.
            _ if volume["bind"]["create_host_path"] == true => binds.push(format!("{source}:{target}:{suffix}")),
            _ => mounts.push(json!({"Type": "bind", "Source": source, "Target": target, "ReadOnly": read_only})),
        }
    }
    let single = tmpfs.filter(|value| value.is_string());
    for one in tmpfs.and_then(Value::as_array).into_iter().flatten().chain(single).map(plain) {
        let (target, options) = one.split_once(':').unwrap_or((&one, ""));
        memory.insert(target.to_owned(), options.into());
    }
    Ok(json!({"Binds": binds, "Mounts": mounts, "Tmpfs": memory}))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(entry: Value) -> Result<Value> {
        let declared = Map::from_iter([("named".to_owned(), Value::Null)]);
        let all = canonical(Some(&json!([entry])), Path::new("/p/app"), Some("/h"), &declared, "services.a.volumes")?;
        request(&all, None, &|name| format!("p_{name}"), "services.a.volumes")
    }

    #[test]
    fn every_form() {
        let bind = |text: &str| json!({"Binds": [text], "Mounts": [], "Tmpfs": {}});
        let cases = [
            (json!("./models:/models:ro"), bind("/p/app/models:/models:ro")),
            (json!("../m:/m"), bind("/p/m:/m:rw")),
            (json!("~/m:/m"), bind("/h/m:/m:rw")),
            (json!("/m:/m:ro,z"), bind("/m:/m:ro")),
            (json!("named:/d"), bind("p_named:/d:rw")),
            (json!({"type": "volume", "source": "named", "target": "/d", "read_only": true}), bind("p_named:/d:ro")),
            (json!("/only"), json!({"Binds": [], "Mounts": [{"Type": "volume", "Target": "/only"}], "Tmpfs": {}})),
            (
                json!({"type": "bind", "source": "./x", "target": "/x"}),
                json!({
                    "Binds": [], "Tmpfs": {},
                    "Mounts": [{"Type": "bind", "Source": "/p/app/x", "Target": "/x", "ReadOnly": false}],
                }),
            ),
            (
                json!({"type": "tmpfs", "target": "/t", "tmpfs": {"size": "1m"}}),
                json!({"Binds": [], "Mounts": [], "Tmpfs": {"/t": "size=1048576"}}),
            ),
        ];
        for (entry, expected) in cases {
            assert_eq!(made(entry.clone()).unwrap(), expected, "{entry}");
        }
    }

    #[test]
    fn mistakes() {
        let error = |entry| made(entry).unwrap_err().to_string();
        assert!(error(json!("other:/d")).starts_with("services.a.volumes: refers to undefined volume other"));
        assert!(error(json!("named:d")).contains("absolute"));
        assert!(error(json!("a:b:c:d")).contains("too many colons"));
        assert!(error(json!({"type": "npipe", "target": "/x"})).contains("type must be"));
        assert!(error(json!(5)).contains("no volume"));
    }
}
