//! What a service may use and how it is kept up: memory, processors, accelerators, restarts, health, its log.

use serde_json::{Map, Value, json};

use super::project::Service;
use super::quantities::{bytes, nano_cpus, nanoseconds, plain};
use super::words;
use crate::error::{Error, Result};

impl Service {
    fn field(&self, key: &str) -> String {
        format!("services.{}.{key}", self.name)
    }

    fn inner(&self, key: &str, pointer: &str) -> Option<&Value> {
        self.keys.get(key).and_then(|value| value.pointer(pointer)).filter(|value| !value.is_null())
    }

    /// `mem_limit`, or `deploy.resources.limits.memory`.
    pub fn memory(&self) -> Result<u64> {
        let (key, value) = match self.keys.get("mem_limit") {
            Some(value) => ("mem_limit", Some(value)),
            None => ("deploy.resources.limits.memory", self.inner("deploy", "/resources/limits/memory")),
        };
        value.map_or(Ok(0), |value| bytes(value, &self.field(key)))
    }

    pub fn nano_cpus(&self) -> Result<i64> {
        let (key, value) = match self.keys.get("cpus") {
            Some(value) => ("cpus", Some(value)),
            None => ("deploy.resources.limits.cpus", self.inner("deploy", "/resources/limits/cpus")),
        };
        value.map_or(Ok(0), |value| nano_cpus(value, &self.field(key)))
    }

    /// `gpus: all`, `gpus: [...]`, or `deploy.resources.reservations.devices`.
    pub fn gpus(&self) -> Result<Value> {
        let mut all = Vec::new();
        match self.keys.get("gpus") {
            None => {}
            Some(Value::Array(devices)) => {
                for device in devices {
                    all.push(device_request(device, &self.field("gpus"))?);
                }
            }
            Some(count) => all.push(device_request(&json!({"count": count}), &self.field("gpus"))?),
        }
        let reserved = self.inner("deploy", "/resources/reservations/devices");
        for device in reserved.and_then(Value::as_array).into_iter().flatten() {
            all.push(device_request(device, &self.field("deploy.resources.reservations.devices"))?);
        }
        Ok(all.into())
    }

    /// `restart`, or `deploy.restart_policy`.
    pub fn restart(&self) -> Result<Value> {
        let (written, count) = match (self.keys.get("restart"), self.inner("deploy", "/restart_policy/condition")) {
            // A bare `no` is YAML's false.
            (Some(Value::Bool(false)), _) | (None, None) => ("no".to_owned(), 0),
            (Some(value), _) => {
                let text = plain(value);
                let (name, count) = text.split_once(':').unwrap_or((&text, "0"));
                (name.to_owned(), count.parse().unwrap_or(-1))
            }
            (None, Some(condition)) => {
                let attempts = self.inner("deploy", "/restart_policy/max_attempts").and_then(Value::as_i64);
                let name = match plain(condition).as_str() {
                    "none" => "no".to_owned(),
                    "any" => "always".to_owned(),
                    other => other.to_owned(),
                };
                (name, attempts.unwrap_or(0))
            }
        };
        if count < 0 || !["no", "always", "unless-stopped", "on-failure"].contains(&written.as_str()) {
            return Err(Error::invalid(format!(
                "{}: write \"no\", on-failure[:N], always or unless-stopped",
                self.field("restart")
            )));
        }
        let count = if written == "on-failure" { count } else { 0 };
        Ok(json!({"Name": written, "MaximumRetryCount": count}))
    }

    pub fn log(&self) -> Value {
        let driver = self.inner("logging", "/driver").map(plain).unwrap_or_default();
        let options = self.inner("logging", "/options").and_then(Value::as_object);
        let options: Map<String, Value> =
            options.into_iter().flatten().map(|(key, value)| (key.clone(), plain(value).into())).collect();
        json!({"Type": driver, "Config": options})
    }

    /// Nothing: the image's own.
    pub fn health(&self) -> Result<Option<Value>> {
        let Some(written) = self.keys.get("healthcheck") else { return Ok(None) };
        if written["disable"] == true {
            return Ok(Some(json!({"Test": ["NONE"]})));
        }
        let time = |key: &str| {
            written.get(key).map_or(Ok(0), |value| nanoseconds(value, &self.field(&format!("healthcheck.{key}"))))
        };
        let retries = written.get("retries").map(plain).unwrap_or_default();
        let retries: u32 = match retries.as_str() {
            "" => 0,
            text => text
                .parse()
                .map_err(|_| Error::invalid(format!("{}: {text:?} is no number", self.field("healthcheck.retries"))))?,
        };
        Ok(Some(json!({
            "Test": self.health_test(written.get("test"))?, "Interval": time("interval")?, "Timeout": time("timeout")?,
            "StartPeriod": time("start_period")?, "StartInterval": time("start_interval")?, "Retries": retries,
        })))
    }

    fn health_test(&self, test: Option<&Value>) -> Result<Vec<String>> {
        let words: Vec<String> = match test {
            // The image's command, with other times.
            None => return Ok(Vec::new()),
            Some(Value::String(text)) => return Ok(vec!["CMD-SHELL".to_owned(), text.clone()]),
            Some(Value::Array(all)) => all.iter().map(plain).collect(),
            Some(_) => Vec::new(),
        };
        match words.first().map(String::as_str) {
            Some("NONE") if words.len() == 1 => Ok(words),
            Some("CMD" | "CMD-SHELL") if words.len() > 1 => Ok(words),
            _ => Err(Error::invalid(format!(
                "{}: write a string, or a list that begins with CMD, CMD-SHELL or NONE",
                self.field("healthcheck.test")
            ))),
        }
    }

    /// Whole seconds, rounded up.
    pub fn stop_timeout(&self) -> Result<Option<i64>> {
        let value = self.keys.get("stop_grace_period");
        let nanoseconds = value.map(|value| nanoseconds(value, &self.field("stop_grace_period"))).transpose()?;
        Ok(nanoseconds.map(|nanoseconds| (nanoseconds + 999_999_999) / 1_000_000_000))
    }

    pub fn shared_memory(&self) -> Result<u64> {
        self.keys.get("shm_size").map_or(Ok(0), |value| bytes(value, &self.field("shm_size")))
    }

    /// `NAME:ADDRESS`, from a list of that or of `NAME=ADDRESS`, or from a map.
    pub fn extra_hosts(&self) -> Result<Vec<String>> {
        let wrong = || {
            let field = self.field("extra_hosts");
            Error::invalid(format!("{field}: write a list of NAME:ADDRESS, or a map of names to addresses"))
        };
        match self.keys.get("extra_hosts") {
            None | Some(Value::Null) => Ok(Vec::new()),
            Some(Value::Object(all)) => {
                let lists = all.iter().map(|(name, addresses)| match addresses {
                    Value::Array(all) => all.iter().map(|one| format!("{name}:{}", plain(one))).collect(),
                    one => vec![format!("{name}:{}", plain(one))],
                });
                Ok(lists.flatten().collect())
            }
            Some(Value::Array(all)) => {
                let pair = |entry: &Value| {
                    let text = plain(entry);
                    let (name, address) = text.split_once('=').or_else(|| text.split_once(':')).ok_or_else(wrong)?;
                    Ok(format!("{name}:{}", address.trim_matches(['[', ']'])))
                };
                all.iter().map(pair).collect()
            }
            Some(_) => Err(wrong()),
        }
    }

    /// A list, also where one word was written.
    pub fn list(&self, key: &str) -> Result<Vec<String>> {
        match self.keys.get(key) {
            Some(Value::Array(all)) => Ok(all.iter().map(plain).collect()),
            Some(Value::String(text)) => words::split(text),
            _ => Ok(Vec::new()),
        }
    }
}

fn device_request(device: &Value, field: &str) -> Result<Value> {
    let ids = device["device_ids"].as_array().map(|ids| ids.iter().map(plain).collect::<Vec<_>>());
    let count = match (plain(&device["count"]).as_str(), &ids) {
        ("all", None) | ("", None) => -1,
        ("", Some(_)) => 0,
        (text, None) => text
            .parse::<i64>()
            .map_err(|_| Error::invalid(format!("{field}: count {text:?} is neither a number nor all")))?,
        _ => return Err(Error::invalid(format!("{field}: count and device_ids exclude each other"))),
    };
    let capabilities: Vec<String> = match device["capabilities"].as_array() {
        Some(all) => all.iter().map(plain).collect(),
        None => vec!["gpu".to_owned()],
    };
    Ok(json!({
        "Driver": plain(&device["driver"]), "Count": count, "DeviceIDs": ids, "Capabilities": [capabilities],
        "Options": {},
    }))
}
