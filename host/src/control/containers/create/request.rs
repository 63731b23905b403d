//! The body of `POST /containers/create`, as far as it means something here. Everything is optional; what is not named
//! is ignored, or only shown again by `inspect`.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value};

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct CreateRequest {
    pub image: String,
    pub hostname: String,
    pub user: String,
    pub exposed_ports: BTreeMap<String, Value>,
    pub tty: bool,
    pub open_stdin: bool,
    pub stdin_once: bool,
    pub env: Vec<String>,
    pub cmd: Words,
    pub entrypoint: Words,
    pub volumes: BTreeMap<String, Value>,
    pub working_dir: String,
    pub labels: BTreeMap<String, String>,
    pub stop_signal: String,
    pub stop_timeout: Option<i64>,
    pub healthcheck: Option<HealthRequest>,
    /// As sent: read once more as [`HostConfig`], and kept for `inspect`.
    pub host_config: Map<String, Value>,
    pub networking_config: NetworkingConfig,
}

/// A list, or one word, as older clients send it.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(untagged)]
pub enum Words {
    Many(Vec<String>),
    One(String),
}

impl Default for Words {
    fn default() -> Self {
        Words::Many(Vec::new())
    }
}

impl Words {
    pub fn into_list(self) -> Vec<String> {
        match self {
            Words::Many(words) => words,
            Words::One(word) => vec![word],
        }
    }
}

/// Nanoseconds; zero is "not given".
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct HealthRequest {
    pub test: Vec<String>,
    pub interval: i64,
    pub timeout: i64,
    pub start_period: i64,
    pub start_interval: i64,
    pub retries: i64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct NetworkingConfig {
    pub endpoints_config: BTreeMap<String, EndpointRequest>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct EndpointRequest {
    #[serde(rename = "IPAMConfig")]
    pub ipam_config: IpamRequest,
    pub aliases: Vec<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct IpamRequest {
    #[serde(rename = "IPv4Address")]
    pub ipv4: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct HostConfig {
    pub binds: Vec<String>,
    pub mounts: Vec<MountRequest>,
    pub tmpfs: BTreeMap<String, String>,
    pub volumes_from: Vec<String>,
    pub log_config: LogRequest,
    pub network_mode: String,
    pub port_bindings: BTreeMap<String, Vec<PortBinding>>,
    pub publish_all_ports: bool,
    pub restart_policy: RestartRequest,
    pub auto_remove: bool,
    pub memory: i64,
    pub nano_cpus: i64,
    pub cpu_quota: i64,
    pub cpu_period: i64,
    pub runtime: String,
    pub devices: Vec<DeviceRequest>,
    pub device_requests: Vec<GpuRequest>,
    pub links: Vec<String>,
    pub extra_hosts: Vec<String>,
    pub isolation: String,
    pub cgroup_parent: String,
    // Without effect; named to warn of it.
    pub ipc_mode: String,
    pub pid_mode: String,
    #[serde(rename = "UTSMode")]
    pub uts_mode: String,
    pub privileged: bool,
    pub cap_add: Words,
    pub security_opt: Vec<String>,
    pub pids_limit: i64,
    pub cpuset_cpus: String,
    pub ulimits: Vec<Value>,
    pub sysctls: BTreeMap<String, String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct MountRequest {
    #[serde(rename = "Type")]
    pub kind: String,
    pub source: String,
    pub target: String,
    pub read_only: bool,
    pub volume_options: VolumeOptions,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct VolumeOptions {
    pub no_copy: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct LogRequest {
    #[serde(rename = "Type")]
    pub driver: String,
    pub config: BTreeMap<String, String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct PortBinding {
    pub host_ip: String,
    pub host_port: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct RestartRequest {
    pub name: String,
    pub maximum_retry_count: i64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct DeviceRequest {
    pub path_on_host: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct GpuRequest {
    /// `cdi` for devices named as CDI does.
    pub driver: String,
    pub count: i64,
    #[serde(rename = "DeviceIDs")]
    pub device_ids: Vec<String>,
    pub capabilities: Vec<Vec<String>>,
}
