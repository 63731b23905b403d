//! A service → the container that is asked for: its name, its labels, the hash that tells whether it changed.

use std::fmt::Write as _;

use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::project::{Project, Service};
use super::quantities::plain;

/// What says nothing about the container itself.
const NOT_HASHED: &[&str] = &["build", "depends_on", "profiles", "pull_policy", "scale"];

pub const PROJECT: &str = "com.docker.compose.project";
pub const SERVICE: &str = "com.docker.compose.service";
pub const ONE_OFF: &str = "com.docker.compose.oneoff";
pub const NUMBER: &str = "com.docker.compose.container-number";
pub const HASH: &str = "com.docker.compose.config-hash";
/// Outside hosts that a container may call.
const EGRESS: &str = "wharf.egress";

impl Service {
    /// A value that is a string; nothing for one that is missing.
    pub fn text(&self, key: &str) -> Option<&str> {
        self.keys.get(key).and_then(Value::as_str)
    }

    /// Changes when what the container is made of changes.
    pub fn hash(&self) -> String {
        let mut keys = self.keys.clone();
        keys.retain(|key, _| !NOT_HASHED.contains(&key.as_str()));
        // How many there are says nothing about one of them.
        if let Some(deploy) = keys.get_mut("deploy").and_then(Value::as_object_mut) {
            deploy.remove("replicas");
        }
        let digest = Sha256::digest(Value::Object(keys).to_string());
        digest.iter().fold(String::new(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
    }
}

impl Project {
    /// Of the container of that number, from 1 up.
    pub fn container_name(&self, service: &Service, number: u32) -> String {
        let own = service.text("container_name");
        own.map_or_else(|| format!("{}-{}-{number}", self.name, service.name), str::to_owned)
    }

    /// The image's name: the one written, or the one a build gets.
    pub fn image(&self, service: &Service) -> String {
        service.text("image").map_or_else(|| format!("{}-{}", self.name, service.name), str::to_owned)
    }

    pub fn labels(&self, service: &Service, number: u32) -> Map<String, Value> {
        let mut labels = service.keys.get("labels").and_then(Value::as_object).cloned().unwrap_or_default();
        if let Some(hosts) = service.keys.get("x-wharf").and_then(|own| own["egress"].as_array()) {
            let hosts: Vec<&str> = hosts.iter().filter_map(Value::as_str).collect();
            labels.insert(EGRESS.to_owned(), hosts.join(",").into());
        }
        for key in ["device", "require-device", "gpu-memory", "cuda-graph", "tensorrt-precision", "tensorrt-workspace"]
        {
            if let Some(value) = service.keys.get("x-wharf").and_then(|own| own.get(key)) {
                labels.insert(format!("wharf.{key}"), plain(value).into());
            }
        }
        let (folder, number) = (self.folder.to_string_lossy(), number.to_string());
        for (key, value) in [
            (PROJECT, self.name.as_str()),
            (SERVICE, &service.name),
            (HASH, &service.hash()),
            (NUMBER, &number),
            (ONE_OFF, "False"),
            ("com.docker.compose.project.working_dir", &folder),
        ] {
            labels.insert(key.to_owned(), value.into());
        }
        labels
    }

    pub fn network_name(&self, key: &str) -> String {
        self.named(&self.networks, key)
    }

    pub fn volume_name(&self, key: &str) -> String {
        self.named(&self.volumes, key)
    }

    fn named(&self, all: &Map<String, Value>, key: &str) -> String {
        let settings = all.get(key).unwrap_or(&Value::Null);
        // `external: {name: x}` is how version 2 of the format wrote it.
        match settings["name"].as_str().or(settings["external"]["name"].as_str()) {
            Some(name) => name.to_owned(),
            None if is_external(settings) => key.to_owned(),
            None => format!("{}_{key}", self.name),
        }
    }
}

/// Made by somebody else: must be there, and is never removed.
pub fn is_external(settings: &Value) -> bool {
    settings["external"] == true || settings["external"].is_object()
}
