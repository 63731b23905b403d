//! What the host says of itself: `version`, `info`, `system df`.

use std::collections::BTreeMap;
use std::time::SystemTime;

use axum::response::Response;
use serde_json::{Map, Value, json};

use super::call::{Call, blocking, ok};
use super::router::{API_VERSION, OLDEST_VERSION};
use super::{Control, HostFacts, containers, images, times, volumes};
use crate::container::Status;
use crate::error::Result;

const PRODUCT: &str = "Wharf";

pub fn version(call: &Call) -> Result<Response> {
    ok(&version_shape(&call.control.host))
}

fn version_shape(host: &HostFacts) -> Value {
    let architecture = host.go_architecture();
    // All values are strings: clients print them as they are.
    let engine = json!({
        "ApiVersion": API_VERSION, "MinAPIVersion": OLDEST_VERSION, "Os": "linux", "Arch": architecture,
        "GitCommit": "-", "GoVersion": "-", "KernelVersion": host.kernel, "BuildTime": "-", "Experimental": "false",
    });
    json!({
        "Platform": {"Name": PRODUCT}, "Version": host.version, "ApiVersion": API_VERSION,
        "MinAPIVersion": OLDEST_VERSION, "GitCommit": "-", "GoVersion": "-", "Os": "linux", "Arch": architecture,
        "KernelVersion": host.kernel, "BuildTime": "-",
        "Components": [
            {"Name": "Engine", "Version": host.version, "Details": engine},
            {"Name": "wasmtime", "Version": host.wasm_runtime, "Details": {"Platform": "wasi/wasm"}},
        ],
    })
}

pub async fn info(call: Call) -> Result<Response> {
    let control = &call.control;
    let images = control.images.clone();
    let images = blocking(move || Ok(images.list()?.len())).await?;
    ok(&info_shape(control, images))
}

fn info_shape(control: &Control, images: usize) -> Value {
    let list = control.containers.list();
    let count = |states: &[Status]| list.iter().filter(|container| states.contains(&container.status)).count();
    let running = count(&[Status::Running, Status::Restarting]);
    let paused = count(&[Status::Paused]);
    let mut info = json!({
        "Containers": list.len(), "ContainersRunning": running, "ContainersPaused": paused,
        "ContainersStopped": list.len() - running - paused, "Images": images,
        "NEventsListener": control.containers.events().listeners(), "SystemTime": times::rfc3339(SystemTime::now()),
    });
    for part in [machine(&control.host), engine(&control.host)] {
        if let (Value::Object(info), Value::Object(part)) = (&mut info, part) {
            info.extend(part);
        }
    }
    info
}

fn machine(host: &HostFacts) -> Value {
    json!({
        "ID": host.id, "Name": host.name, "KernelVersion": host.kernel, "OperatingSystem": host.operating_system,
        "OSType": "linux", "OSVersion": "", "Architecture": host.architecture, "NCPU": host.cores,
        "MemTotal": host.memory_total, "DockerRootDir": host.data, "HttpProxy": "", "HttpsProxy": "", "NoProxy": "",
        "MemoryLimit": true, "SwapLimit": true, "CpuCfsPeriod": true, "CpuCfsQuota": true, "CPUShares": true,
        "CPUSet": true, "PidsLimit": true, "OomKillDisable": false, "IPv4Forwarding": true, "CgroupDriver": "none",
        "CgroupVersion": "2",
    })
}

fn engine(host: &HostFacts) -> Value {
    let runtimes: Map<String, Value> = host
        .runtimes
        .iter()
        .filter(|name| *name != "nvidia" || host.gpus)
        .map(|name| (name.clone(), json!({"path": "wharf"})))
        .collect();
    let none = json!({"ID": ""});
    let swarm = json!({
        "NodeID": "", "NodeAddr": "", "LocalNodeState": "inactive", "ControlAvailable": false, "Error": "",
        "RemoteManagers": null,
    });
    let networks = ["bridge", "host", "null"];
    json!({
        "ServerVersion": host.version, "Driver": "overlay2",
        "DriverStatus": [["Store", "OCI image layout"], ["Sandbox", host.wasm_runtime.as_str()]],
        "Plugins": {"Volume": ["local"], "Network": networks, "Authorization": null, "Log": ["json-file", "none"]},
        "LoggingDriver": "json-file", "IndexServerAddress": "https://index.docker.io/v1/",
        "RegistryConfig": {"InsecureRegistryCIDRs": ["127.0.0.0/8"], "IndexConfigs": {}, "Mirrors": null},
        "Runtimes": runtimes, "DefaultRuntime": host.default_runtime(), "Swarm": swarm, "Labels": [], "Debug": false,
        "ExperimentalBuild": false, "LiveRestoreEnabled": false, "Isolation": "", "InitBinary": "",
        "ContainerdCommit": none, "RuncCommit": none, "InitCommit": none, "SecurityOptions": ["name=wasm"],
        "CDISpecDirs": [], "Warnings": host.warnings,
    })
}

pub async fn disk_usage(call: Call) -> Result<Response> {
    let wanted: Vec<String> = call.query.all("type").map(str::to_owned).collect();
    let wants = |kind: &str| wanted.is_empty() || wanted.iter().any(|wanted| wanted == kind);
    let control = &call.control;
    let mut usage = Map::new();
    if wants("image") {
        let (layers, rows) = image_usage(control).await?;
        usage.insert("LayersSize".to_owned(), layers.into());
        usage.insert("Images".to_owned(), json!(rows));
    }
    if wants("container") {
        let rows = containers::list::rows(control, control.containers.list(), true).await?;
        usage.insert("Containers".to_owned(), json!(rows));
    }
    if wants("volume") {
        usage.insert("Volumes".to_owned(), json!(volume_usage(control).await?));
    }
    if wants("build-cache") {
        usage.insert("BuildCache".to_owned(), json!([]));
    }
    ok(&usage)
}

async fn image_usage(control: &Control) -> Result<(u64, Vec<images::Row>)> {
    let mut users: BTreeMap<String, i64> = BTreeMap::new();
    for container in control.containers.list() {
        *users.entry(container.spec.image_id.to_string()).or_default() += 1;
    }
    let images = control.images.clone();
    let (layers, list) = blocking(move || Ok((images.layers_size()?, images.list()?))).await?;
    let rows = list.iter().map(|image| {
        let mut row = images::row(image);
        row.containers = users.get(&row.id).copied().unwrap_or(0);
        // Layers are shared, and counted once in the sum of all layers.
        row.shared_size = 0;
        row
    });
    Ok((layers, rows.collect()))
}

async fn volume_usage(control: &Control) -> Result<Vec<Value>> {
    let volumes = control.containers.volumes().clone();
    blocking(move || {
        let with_usage = |volume| {
            let mut shape = volumes::shape(&volume);
            // Removed meanwhile: nothing is in it any more.
            let size = volumes.size(&volume.name).unwrap_or(0);
            shape["UsageData"] = json!({"Size": size, "RefCount": volume.users.len()});
            shape
        };
        Ok(volumes.list().into_iter().map(with_usage).collect())
    })
    .await
}
