//! A service as it was written → every key in one form, with paths, names and values made whole. Whatever comes after
//! this knows one form only.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::interpolate::Lookup;
use super::quantities::plain;
use super::variables::{environment, pairs};
use super::{mounts, ports, words};
use crate::error::{Error, Result};

/// What a service's keys are read with.
pub struct Surroundings<'a> {
    pub folder: &'a Path,
    pub lookup: Lookup<'a>,
    pub volumes: &'a Map<String, Value>,
    pub networks: &'a Map<String, Value>,
}

const CONDITIONS: &[&str] = &["service_started", "service_healthy", "service_completed_successfully"];

pub fn canonical(name: &str, mut keys: Map<String, Value>, around: &Surroundings<'_>) -> Result<Map<String, Value>> {
    let field = format!("services.{name}");
    // A key without a value says nothing.
    keys.retain(|_, value| !value.is_null());
    let variables = environment(&keys, around.folder, &field, around.lookup)?;
    keys.remove("env_file");
    put(&mut keys, "environment", variables.into());
    let mut labels = pairs(keys.get("labels"), &format!("{field}.labels"))?;
    labels.values_mut().for_each(|value| *value = plain(value).into());
    put(&mut keys, "labels", labels.into());
    for key in ["command", "entrypoint"] {
        if let Some(value) = keys.get(key) {
            let list = command(value, &format!("{field}.{key}"))?;
            keys.insert(key.to_owned(), list);
        }
    }
    let published = ports::parse(keys.get("ports"), &format!("{field}.ports"))?;
    put(&mut keys, "ports", published.iter().map(ports::Published::written).collect());
    let home = (around.lookup)("HOME");
    let volumes_field = format!("{field}.volumes");
    let volumes =
        mounts::canonical(keys.get("volumes"), around.folder, home.as_deref(), around.volumes, &volumes_field)?;
    put(&mut keys, "volumes", volumes.into());
    let depends = depends_on(keys.get("depends_on"), &field)?;
    put(&mut keys, "depends_on", depends);
    if let Some(value) = keys.get("build") {
        let value = build(value, around, &format!("{field}.build"))?;
        keys.insert("build".to_owned(), value);
    }
    if keys.contains_key("network_mode") {
        if keys.contains_key("networks") {
            return Err(Error::invalid(format!("{field}: network_mode and networks exclude each other")));
        }
    } else {
        let networks = networks(keys.get("networks"), around.networks, &field)?;
        keys.insert("networks".to_owned(), networks);
    }
    Ok(keys)
}

/// What is empty is left out.
fn put(keys: &mut Map<String, Value>, key: &str, value: Value) {
    let empty = value.as_object().is_some_and(Map::is_empty) || value.as_array().is_some_and(Vec::is_empty);
    if empty {
        keys.remove(key);
    } else {
        keys.insert(key.to_owned(), value);
    }
}

pub fn command(value: &Value, field: &str) -> Result<Value> {
    match value {
        Value::String(text) => Ok(json!(words::split(text)?)),
        Value::Array(all) if !all.iter().any(|one| one.is_array() || one.is_object()) => {
            Ok(all.iter().map(plain).collect::<Vec<_>>().into())
        }
        _ => Err(Error::invalid(format!("{field}: write a string, or a list of words"))),
    }
}

/// Service → `{condition, required}`.
fn depends_on(value: Option<&Value>, field: &str) -> Result<Value> {
    let mut all = Map::new();
    match value {
        None => {}
        Some(Value::Array(names)) => {
            for name in names {
                all.insert(plain(name), json!({"condition": CONDITIONS[0], "required": true}));
            }
        }
        Some(Value::Object(long)) => {
            for (name, how) in long {
                let condition = how["condition"].as_str().unwrap_or(CONDITIONS[0]);
                if !CONDITIONS.contains(&condition) {
                    let known = CONDITIONS.join(", ");
                    let message = format!("{field}.depends_on.{name}: no condition {condition}; write one of {known}");
                    return Err(Error::invalid(message));
                }
                all.insert(name.clone(), json!({"condition": condition, "required": how["required"] != false}));
            }
        }
        Some(_) => return Err(Error::invalid(format!("{field}.depends_on: write a list of services, or a map"))),
    }
    Ok(all.into())
}

fn build(value: &Value, around: &Surroundings<'_>, field: &str) -> Result<Value> {
    let mut long = match value {
        Value::String(context) => Map::from_iter([("context".to_owned(), context.clone().into())]),
        Value::Object(long) => long.clone(),
        _ => return Err(Error::invalid(format!("{field}: write the path of a folder, or a map with `context:`"))),
    };
    let context = long.get("context").map_or_else(|| ".".to_owned(), plain);
    if context.contains("://") {
        return Err(Error::invalid(format!("{field}: {context}: contexts are folders; clone it and name the folder")));
    }
    let context = mounts::whole(&context, around.folder, None);
    long.insert("context".to_owned(), context.into());
    // A name alone takes the caller's value, as in `environment`.
    let mut args = pairs(long.get("args"), &format!("{field}.args"))?;
    for (name, value) in &mut args {
        if value.is_null() {
            *value = (around.lookup)(name).into();
        }
    }
    args.retain(|_, value| !value.is_null());
    put(&mut long, "args", args.into());
    let labels = pairs(long.get("labels"), &format!("{field}.labels"))?;
    put(&mut long, "labels", labels.into());
    Ok(long.into())
}

/// Network → `{aliases}`; without any, the project's own.
fn networks(value: Option<&Value>, declared: &Map<String, Value>, field: &str) -> Result<Value> {
    let all: Map<String, Value> = match value {
        None => Map::from_iter([("default".to_owned(), json!({}))]),
        Some(Value::Array(names)) => names.iter().map(|name| (plain(name), json!({}))).collect(),
        Some(Value::Object(long)) => long.clone(),
        Some(_) => return Err(Error::invalid(format!("{field}.networks: write a list of networks, or a map"))),
    };
    for name in all.keys() {
        if name != "default" && !declared.contains_key(name) {
            return Err(Error::invalid(format!(
                "{field}.networks: refers to undefined network {name}: declare it under the top-level `networks:`"
            )));
        }
    }
    Ok(all.into())
}
