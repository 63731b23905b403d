//! Several compose files as one: the later over the earlier. And what is known of their keys.

use serde_json::{Map, Value};

use super::variables::pairs;
use crate::error::{Error, Result};

/// Lists that a later file adds to; of all other lists the later one stays.
const ADDED: &[&str] = &[
    "ports",
    "expose",
    "volumes",
    "tmpfs",
    "env_file",
    "profiles",
    "extra_hosts",
    "cap_add",
    "security_opt",
    "devices",
];
/// Written as a map or as a list; joined name by name.
const NAMED: &[&str] = &["environment", "labels", "args"];

const TOP: &[&str] = &["version", "name", "services", "networks", "volumes"];
/// What a service may say and what is done about it.
const SERVICE: &[&str] = &[
    "build",
    "cap_add",
    "command",
    "container_name",
    "cpus",
    "cpuset",
    "depends_on",
    "deploy",
    "entrypoint",
    "env_file",
    "environment",
    "expose",
    "extra_hosts",
    "gpus",
    "healthcheck",
    "hostname",
    "image",
    "init",
    "ipc",
    "labels",
    "logging",
    "mem_limit",
    "network_mode",
    "networks",
    "pid",
    "pids_limit",
    "platform",
    "ports",
    "privileged",
    "profiles",
    "pull_policy",
    "read_only",
    "restart",
    "runtime",
    "scale",
    "security_opt",
    "shm_size",
    "stdin_open",
    "stop_grace_period",
    "stop_signal",
    "tmpfs",
    "tty",
    "user",
    "volumes",
    "working_dir",
];
/// A service without these would not be the one that was meant: better none.
const REFUSED: &[(&str, &str)] = &[
    ("extends", "write its keys out, share them with a YAML anchor, or merge files with several -f"),
    ("secrets", "mount the file under `volumes:`, or pass it in `environment:`"),
    ("configs", "mount the file under `volumes:`"),
    ("volumes_from", "name the volume in both services"),
];
/// Keys below those of a service.
const INNER: &[(&str, &[&str])] = &[
    ("build", &["context", "dockerfile", "args", "target", "labels", "no_cache", "pull", "platforms", "tags"]),
    ("deploy", &["resources", "restart_policy", "labels", "replicas"]),
    ("deploy.resources", &["limits", "reservations"]),
    ("deploy.resources.limits", &["memory", "cpus", "pids"]),
    ("deploy.resources.reservations", &["devices", "memory", "cpus"]),
    ("deploy.restart_policy", &["condition", "max_attempts"]),
    ("healthcheck", &["test", "interval", "timeout", "retries", "start_period", "start_interval", "disable"]),
    ("logging", &["driver", "options"]),
    (
        "x-wharf",
        &["egress", "device", "require-device", "gpu-memory", "cuda-graph", "tensorrt-precision", "tensorrt-workspace"],
    ),
];

/// `over` on top of `under`; `path` is where in the file they stand.
pub fn overlay(under: Value, over: Value, path: &[&str]) -> Result<Value> {
    let key = path.last().copied().unwrap_or_default();
    match (under, over) {
        (under, over) if NAMED.contains(&key) => {
            let mut all = pairs(Some(&under), key)?;
            all.extend(pairs(Some(&over), key)?);
            Ok(Value::Object(all))
        }
        (Value::Object(mut under), Value::Object(over)) => {
            for (name, value) in over {
                let below = under.remove(&name);
                let path: Vec<&str> = path.iter().copied().chain([name.as_str()]).collect();
                let value = match below {
                    Some(below) => overlay(below, value, &path)?,
                    None => value,
                };
                under.insert(name, value);
            }
            Ok(under.into())
        }
        (Value::Array(mut under), Value::Array(over)) if ADDED.contains(&key) => {
            under.extend(over);
            Ok(under.into())
        }
        (_, over) => Ok(over),
    }
}

/// Names every key that means nothing here.
pub fn unknown_top(top: &Map<String, Value>, warnings: &mut Vec<String>) -> Result<()> {
    if top.contains_key("include") {
        return Err(Error::invalid("`include` is not supported: merge the files with several -f"));
    }
    let known = |key: &str| TOP.contains(&key) || key.starts_with("x-");
    for key in top.keys().filter(|key| !known(key)) {
        warnings.push(format!("{key}: unknown key, ignored"));
    }
    Ok(())
}

pub fn unknown_in_service(name: &str, keys: &Map<String, Value>, warnings: &mut Vec<String>) -> Result<()> {
    for (key, instead) in REFUSED {
        if keys.contains_key(*key) {
            return Err(Error::invalid(format!("services.{name}.{key} is not supported: {instead}")));
        }
    }
    let known = |key: &str| SERVICE.contains(&key) || key.starts_with("x-");
    for key in keys.keys().filter(|key| !known(key)) {
        warnings.push(format!("services.{name}.{key}: unknown key, ignored"));
    }
    for (path, known) in INNER {
        let (first, rest) = path.split_once('.').unwrap_or((path, ""));
        let start = keys.get(first).unwrap_or(&Value::Null);
        let inner = rest.split('.').filter(|part| !part.is_empty()).fold(start, |value, part| &value[part]);
        for key in inner.as_object().into_iter().flat_map(Map::keys) {
            if !known.contains(&key.as_str()) && !key.starts_with("x-") {
                warnings.push(format!("services.{name}.{path}.{key}: unknown key, ignored"));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_later_file_lies_over_the_earlier() {
        let under = json!({"services": {"a": {
            "image": "one", "ports": ["1:1"], "command": ["x"], "environment": ["A=1", "B=1"], "labels": {"l": "1"},
        }}});
        let over = json!({"services": {
            "a": {"image": "two", "ports": ["2:2"], "command": ["y"],
                "environment": {"B": 2}}, "b": {"image": "b"},
        }});
        assert_eq!(
            overlay(under, over, &[]).unwrap(),
            json!({"services": {
                "a": {"image": "two", "ports": ["1:1", "2:2"], "command": ["y"],
                "environment": {"A": "1", "B": "2"}, "labels": {"l": "1"}},
                "b": {"image": "b"},
            }})
        );
    }

    #[test]
    fn every_unknown_key_is_named_with_its_place() {
        let keys = json!({
            "image": "a", "colour": "red", "x-mine": 1, "healthcheck": {"tset": "x"},
            "deploy": {"resources": {"limits": {"disk": "1g"}}, "placement": {}}, "x-wharf": {"egres": []},
        });
        let mut warnings = Vec::new();
        unknown_in_service("a", keys.as_object().unwrap(), &mut warnings).unwrap();
        let expected =
            ["colour", "deploy.placement", "deploy.resources.limits.disk", "healthcheck.tset", "x-wharf.egres"]
                .map(|key| format!("services.a.{key}: unknown key, ignored"));
        assert_eq!(warnings, expected);
    }

    #[test]
    fn what_cannot_be_left_out_is_refused() {
        for (key, _) in REFUSED {
            let keys = Map::from_iter([((*key).to_owned(), json!([]))]);
            let error = unknown_in_service("a", &keys, &mut Vec::new()).unwrap_err().to_string();
            assert!(error.starts_with(&format!("services.a.{key} is not supported: ")), "{error}");
        }
        assert!(unknown_top(json!({"include": []}).as_object().unwrap(), &mut Vec::new()).is_err());
    }
}
