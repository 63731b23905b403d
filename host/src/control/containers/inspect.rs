//! `docker inspect` of a container. Clients dereference much of it, so nothing is left out.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::response::Response;
use serde::Serialize;
use serde_json::{Value, json};

use super::shapes::{self, EndpointShape, MountShape};
use crate::container::runtime::{Kind, ModelDevice};
use crate::container::spec::{Healthcheck, RestartPolicy, Spec};
use crate::container::{HealthReport, Snapshot, Status};
use crate::control::call::{Call, blocking, ok};
use crate::control::{status, times};
use crate::error::Result;

/// Characters of an id that stand for a host name.
const SHORT: usize = 12;

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Inspect {
    id: String,
    created: String,
    path: String,
    args: Vec<String>,
    state: State,
    image: String,
    resolv_conf_path: &'static str,
    hostname_path: &'static str,
    hosts_path: &'static str,
    log_path: String,
    name: String,
    restart_count: u32,
    driver: &'static str,
    platform: &'static str,
    mount_label: &'static str,
    process_label: &'static str,
    app_armor_profile: &'static str,
    #[serde(rename = "ExecIDs")]
    exec_ids: Option<Vec<String>>,
    host_config: Value,
    graph_driver: Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    size_rw: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    size_root_fs: Option<u64>,
    mounts: Vec<MountShape>,
    config: Config,
    network_settings: NetworkSettings,
    /// Ours: what Docker has no words for.
    wharf: Value,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct State {
    status: &'static str,
    running: bool,
    paused: bool,
    restarting: bool,
    #[serde(rename = "OOMKilled")]
    oom_killed: bool,
    dead: bool,
    pid: u32,
    exit_code: i32,
    error: String,
    started_at: String,
    finished_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    health: Option<Value>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Config {
    hostname: String,
    domainname: &'static str,
    user: String,
    attach_stdin: bool,
    attach_stdout: bool,
    attach_stderr: bool,
    exposed_ports: BTreeMap<String, Value>,
    tty: bool,
    open_stdin: bool,
    stdin_once: bool,
    env: Vec<String>,
    cmd: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    healthcheck: Option<Value>,
    image: String,
    volumes: Option<BTreeMap<String, Value>>,
    working_dir: String,
    entrypoint: Option<Vec<String>>,
    on_build: Option<Vec<String>>,
    labels: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stop_signal: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stop_timeout: Option<i64>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct NetworkSettings {
    bridge: &'static str,
    #[serde(rename = "SandboxID")]
    sandbox_id: &'static str,
    sandbox_key: &'static str,
    ports: BTreeMap<String, Option<Vec<HostPort>>>,
    gateway: String,
    #[serde(rename = "IPAddress")]
    ip_address: String,
    #[serde(rename = "IPPrefixLen")]
    ip_prefix_len: u8,
    mac_address: String,
    networks: BTreeMap<String, EndpointShape>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct HostPort {
    host_ip: String,
    host_port: String,
}

pub async fn inspect(call: Call, id: &str) -> Result<Response> {
    let container = call.control.containers.find(id)?;
    let mut shape = shape(&container);
    if call.query.flag("size") {
        let (images, image) = (call.control.images.clone(), container.spec.image_id.to_string());
        // The image may be gone while the container stays.
        shape.size_root_fs = Some(blocking(move || Ok(images.find(&image).map_or(0, |image| image.size))).await?);
        shape.size_rw = Some(0);
    }
    ok(&shape)
}

fn shape(container: &Snapshot) -> Inspect {
    let spec = &container.spec;
    let (path, args) = shapes::path_and_args(spec);
    let logged = spec.log.driver != "none";
    Inspect {
        id: container.id.clone(),
        created: times::rfc3339(container.created),
        path,
        args,
        state: state(container),
        image: spec.image_id.to_string(),
        resolv_conf_path: "",
        hostname_path: "",
        hosts_path: "",
        log_path: if logged { container.log_path.display().to_string() } else { String::new() },
        name: format!("/{}", container.name),
        restart_count: container.restart_count,
        driver: "overlay2",
        platform: "linux",
        mount_label: "",
        process_label: "",
        app_armor_profile: "",
        exec_ids: (!container.execs.is_empty()).then(|| container.execs.clone()),
        host_config: host_config(spec),
        graph_driver: json!({"Name": "overlay2", "Data": null}),
        size_rw: None,
        size_root_fs: None,
        mounts: shapes::mounts(container),
        config: config(container),
        network_settings: network_settings(container),
        wharf: wharf(container),
    }
}

fn state(container: &Snapshot) -> State {
    let status = container.status;
    State {
        status: status.word(),
        running: status.is_live(),
        paused: status == Status::Paused,
        restarting: status == Status::Restarting,
        oom_killed: container.exit.out_of_memory,
        dead: status == Status::Dead,
        // All containers are this process.
        pid: if status.has_task() { std::process::id() } else { 0 },
        exit_code: if status.has_task() { 0 } else { container.exit.code },
        error: container.error.clone(),
        started_at: times::rfc3339_or_never(container.started),
        finished_at: times::rfc3339_or_never(container.finished),
        health: container.health.as_ref().map(health),
    }
}

fn health(report: &HealthReport) -> Value {
    let probes = report.log.iter().map(|probe| {
        let (start, end) = (times::rfc3339(probe.start), times::rfc3339(probe.end));
        json!({"Start": start, "End": end, "ExitCode": probe.code, "Output": probe.output})
    });
    json!({
        "Status": status::health_word(report.status), "FailingStreak": report.failing_streak,
        "Log": probes.collect::<Vec<_>>(),
    })
}

/// As stored at `create`; what `update` can change is taken from where it changed.
fn host_config(spec: &Spec) -> Value {
    let mut shown = spec.host_config.clone();
    let (policy, count) = restart(spec.restart);
    shown["RestartPolicy"] = json!({"Name": policy, "MaximumRetryCount": count});
    shown["Memory"] = spec.memory.unwrap_or(0).into();
    shown["NanoCpus"] = spec.nano_cpus.unwrap_or(0).into();
    shown
}

fn restart(policy: RestartPolicy) -> (&'static str, u32) {
    match policy {
        RestartPolicy::No => ("no", 0),
        RestartPolicy::OnFailure { max } => ("on-failure", max),
        RestartPolicy::Always => ("always", 0),
        RestartPolicy::UnlessStopped => ("unless-stopped", 0),
    }
}

fn config(container: &Snapshot) -> Config {
    let spec = &container.spec;
    let some = |list: &[String]| (!list.is_empty()).then(|| list.to_vec());
    let short = &container.id[..SHORT.min(container.id.len())];
    let volumes: BTreeMap<String, Value> =
        spec.mounts.iter().filter(|mount| mount.anonymous).map(|mount| (mount.target.clone(), json!({}))).collect();
    Config {
        hostname: if spec.hostname.is_empty() { short.to_owned() } else { spec.hostname.clone() },
        domainname: "",
        user: spec.user.clone(),
        attach_stdin: false,
        attach_stdout: false,
        attach_stderr: false,
        exposed_ports: spec.exposed.iter().map(|port| (port.to_string(), json!({}))).collect(),
        tty: spec.tty,
        open_stdin: spec.open_stdin,
        stdin_once: spec.stdin_once,
        env: spec.environment.clone(),
        cmd: some(&spec.command),
        healthcheck: spec.healthcheck.as_ref().map(healthcheck),
        image: spec.image.clone(),
        volumes: (!volumes.is_empty()).then_some(volumes),
        working_dir: spec.working_dir.clone(),
        entrypoint: some(&spec.entrypoint),
        on_build: None,
        labels: spec.labels.clone(),
        stop_signal: spec.stop_signal.clone(),
        stop_timeout: spec.stop_timeout,
    }
}

/// Docker leaves out what was not given, which is what equals the default.
fn healthcheck(check: &Healthcheck) -> Value {
    let default = Healthcheck::default();
    let mut shown = json!({"Test": check.test});
    let times = [
        ("Interval", check.interval, default.interval),
        ("Timeout", check.timeout, default.timeout),
        ("StartPeriod", check.start_period, default.start_period),
        ("StartInterval", check.start_interval, default.start_interval),
    ];
    for (key, time, _) in times.into_iter().filter(|(_, time, default)| time != default) {
        shown[key] = nanos(time).into();
    }
    if check.retries != default.retries {
        shown["Retries"] = check.retries.into();
    }
    shown
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

fn network_settings(container: &Snapshot) -> NetworkSettings {
    // Docker repeats the default bridge at the top; on other networks the fields are empty.
    let bridge = container.endpoints.get("bridge").cloned().unwrap_or_default();
    let text = |address: Option<std::net::IpAddr>| address.map(|address| address.to_string()).unwrap_or_default();
    NetworkSettings {
        bridge: "",
        sandbox_id: "",
        sandbox_key: "",
        ports: ports(container),
        gateway: text(bridge.gateway),
        ip_address: text(bridge.address),
        ip_prefix_len: if bridge.address.is_some() { bridge.prefix } else { 0 },
        mac_address: bridge.mac,
        networks: shapes::endpoints(container),
    }
}

/// Exposed and not published is null; nothing at all while it does not run.
fn ports(container: &Snapshot) -> BTreeMap<String, Option<Vec<HostPort>>> {
    let mut ports = BTreeMap::new();
    if !container.status.has_task() {
        return ports;
    }
    for guest in &container.spec.exposed {
        ports.insert(guest.to_string(), None);
    }
    for port in &container.ports {
        let bound = HostPort { host_ip: port.host.ip().to_string(), host_port: port.host.port().to_string() };
        ports.entry(port.guest.to_string()).or_insert_with(|| None).get_or_insert_with(Vec::new).push(bound);
    }
    ports
}

/// What one model runs on. `Nodes` is null where the session does not tell, `all` where nobody counted.
pub fn device(of: &ModelDevice) -> Value {
    let count = |nodes: &Option<u64>| nodes.map_or_else(|| json!("all"), |nodes| json!(nodes));
    let nodes: BTreeMap<&String, Value> = of.nodes.iter().map(|(provider, nodes)| (provider, count(nodes))).collect();
    let nodes = (!nodes.is_empty()).then_some(nodes);
    json!({"Model": of.model, "Device": of.device, "Nodes": nodes, "FellBack": of.fell_back, "Engine": of.engine})
}

fn wharf(container: &Snapshot) -> Value {
    let kind = container.kind.map(|kind| match kind {
        Kind::Service => "service",
        Kind::Job => "job",
        Kind::Model => "model",
    });
    let wish = &container.spec.devices;
    let mut asked = json!({
        "Devices": wish.list.as_ref().map(ToString::to_string), "Required": wish.required || container.spec.gpus.is_some(),
        "GpuMemory": wish.gpu_memory,
    });
    if let Some(graph) = wish.cuda_graph {
        asked["CudaGraph"] = graph.into();
    }
    let devices: Vec<Value> = container.devices.iter().map(device).collect();
    json!({
        "Kind": kind, "Models": container.models, "Egress": container.spec.egress, "Wish": asked, "Devices": devices,
    })
}
