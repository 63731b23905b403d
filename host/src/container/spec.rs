//! What was asked for at `create`: one container's settings, merged from the image and the request, with every name
//! resolved that can be resolved once. It is what the record on disk holds, so a field is added, never renamed.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::devices::DeviceWish;
use crate::image::Digest;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Spec {
    /// The image as it was typed, e.g. `digits`.
    pub image: String,
    pub image_id: Digest,
    /// What runs: a path in the image, then its arguments. Empty for an image that holds models only.
    pub entrypoint: Vec<String>,
    pub command: Vec<String>,
    /// `NAME=VALUE`, the image's first, the request's replacing them.
    pub environment: Vec<String>,
    pub working_dir: String,
    pub user: String,
    pub hostname: String,
    pub labels: BTreeMap<String, String>,
    /// Ports the container listens on as far as anybody said so, e.g. `5000/tcp`.
    pub exposed: Vec<GuestPort>,
    pub publish: Vec<Publish>,
    /// Publish every exposed port on a free port of the host.
    pub publish_all: bool,
    pub mounts: Vec<MountSpec>,
    /// Memory of one instance in bytes; `None` is the host's default.
    pub memory: Option<u64>,
    /// Billionths of a core; `None` is no cap.
    pub nano_cpus: Option<u64>,
    pub restart: RestartPolicy,
    pub log: LogOptions,
    /// `bridge`, `host`, `none`, or the name of a network.
    pub network_mode: String,
    /// Networks to join by name, with what was asked for each.
    pub endpoints: BTreeMap<String, EndpointSpec>,
    /// Outside hosts this container may call, `HOST:PORT`; from `wharf.egress` labels and `--egress`.
    pub egress: Vec<String>,
    /// `--add-host`: names and the addresses they stand for, before any resolver is asked.
    #[serde(default)]
    pub extra_hosts: Vec<(String, IpAddr)>,
    pub healthcheck: Option<Healthcheck>,
    pub auto_remove: bool,
    pub tty: bool,
    pub open_stdin: bool,
    pub stdin_once: bool,
    /// As typed; a Wasm component sees none, so it only decides the exit code.
    pub stop_signal: Option<String>,
    pub stop_timeout: Option<i64>,
    pub gpus: Option<Gpus>,
    /// What its models run on; `gpus` above it has the last word.
    #[serde(default)]
    pub devices: DeviceWish,
    /// `--runtime`: `wharf` when not given.
    pub runtime: String,
    /// The request's `HostConfig` as it was sent, for what has no meaning here and is only shown by `inspect`.
    #[serde(default)]
    pub host_config: serde_json::Value,
}

/// A port inside a container. A component has no sockets, so the number is a name that `-p` refers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct GuestPort {
    pub port: u16,
    pub protocol: Protocol,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    Tcp,
    Udp,
}

/// One `-p`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Publish {
    pub guest: GuestPort,
    /// `None` is every address.
    pub host_ip: Option<IpAddr>,
    /// `None` chooses a free one at each start.
    pub host_port: Option<u16>,
    /// Of a range the last one: the first that is free at the start is taken.
    #[serde(default)]
    pub host_port_end: Option<u16>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountSpec {
    pub kind: MountKind,
    /// A folder of the host, or a volume's name.
    pub source: String,
    /// Absolute path in the container.
    pub target: String,
    pub read_only: bool,
    /// A volume made for this container alone, removed with `rm -v`.
    #[serde(default)]
    pub anonymous: bool,
    /// Make a missing folder of the host: `-v` does, `--mount` does not.
    #[serde(default)]
    pub create_source: bool,
    /// A volume that is empty stays so: what the image has in its place is not copied into it.
    #[serde(default)]
    pub no_copy: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MountKind {
    Bind,
    Volume,
    Tmpfs,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "name")]
pub enum RestartPolicy {
    #[default]
    No,
    /// Restart when the exit code is not 0; `max` of 0 is without end.
    OnFailure {
        max: u32,
    },
    Always,
    UnlessStopped,
}

/// `--log-driver` and `--log-opt`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogOptions {
    /// `json-file` or `none`.
    pub driver: String,
    /// Bytes after which a file is rotated; `None` is never.
    pub max_size: Option<u64>,
    /// Files kept, the one written included; at least 1.
    pub max_file: u32,
    /// As typed, for `inspect`.
    pub options: BTreeMap<String, String>,
}

impl LogOptions {
    /// Whether files that were put aside are packed.
    pub fn compresses(&self) -> bool {
        self.options.get("compress").is_some_and(|value| is_true(value) == Some(true))
    }
}

/// What Go's `strconv.ParseBool` takes.
pub fn is_true(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

impl Default for LogOptions {
    fn default() -> Self {
        LogOptions { driver: "json-file".into(), max_size: None, max_file: 1, options: BTreeMap::new() }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointSpec {
    pub aliases: Vec<String>,
    /// A fixed address, from `--ip`.
    pub ipv4: Option<IpAddr>,
}

/// `HEALTHCHECK`, in the words of the image format: `["CMD", …]`, `["CMD-SHELL", "…"]` or `["NONE"]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Healthcheck {
    pub test: Vec<String>,
    /// Docker's defaults where not given: 30 s, 30 s, 0 s, 5 s, 3.
    pub interval: Duration,
    pub timeout: Duration,
    pub start_period: Duration,
    pub start_interval: Duration,
    pub retries: u32,
}

impl Default for Healthcheck {
    fn default() -> Self {
        Healthcheck {
            test: Vec::new(),
            interval: Duration::from_secs(30),
            timeout: Duration::from_secs(30),
            start_period: Duration::ZERO,
            start_interval: Duration::from_secs(5),
            retries: 3,
        }
    }
}

/// `--gpus` and `--runtime nvidia`: a GPU is required.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Gpus {
    All,
    Count(u32),
    /// Indices or UUIDs.
    Devices(Vec<String>),
}

/// A mount with its source resolved to a folder of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    pub source: PathBuf,
    pub target: String,
    pub read_only: bool,
}

impl std::fmt::Display for GuestPort {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let protocol = match self.protocol {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        };
        write!(f, "{}/{protocol}", self.port)
    }
}
