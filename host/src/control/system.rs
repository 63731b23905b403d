//! What the host says of itself: `version`, `info`, `system df`.

use std::collections::BTreeMap;
use std::time::SystemTime;

use axum::response::Response;
use serde_json::{Map, Value, json};

use super::call::{Call, blocking, ok};
use super::fields::Fields;
use super::router::{API_VERSION, OLDEST_VERSION};
use super::{Control, HostFacts, containers, images, times, volumes};
use crate::container::Status;
use crate::error::Result;

const PRODUCT: &str = "Wharf";

pub fn version(call: &Call) -> Result<Response> {
    ok(&version_shape(&call.control.host))
}

fn version_shape(host: &HostFacts) -> Fields {
    let architecture = host.go_architecture();
    // All values are strings: clients print them as they are. In a component docker sorts them.
    let engine = json!({
        "ApiVersion": API_VERSION, "MinAPIVersion": OLDEST_VERSION, "Os": "linux", "Arch": architecture,
        "GitCommit": "-", "GoVersion": "-", "KernelVersion": host.kernel, "BuildTime": "-", "Experimental": "false",
    });
    let component = |name: &str, version: &str, details: Value| {
        Fields::new().with("Name", name).with("Version", version).with("Details", details)
    };
    let components = vec![
        component("Engine", &host.version, engine),
        component("wasmtime", &host.wasm_runtime, json!({"Platform": "wasi/wasm"})),
    ];
    Fields::new()
        .object("Platform", Fields::new().with("Name", PRODUCT))
        .list("Components", components)
        .with("Version", host.version.as_str())
        .with("ApiVersion", API_VERSION)
        .with("MinAPIVersion", OLDEST_VERSION)
        .with("GitCommit", "-")
        .with("GoVersion", "-")
        .with("Os", "linux")
        .with("Arch", architecture)
        .with("KernelVersion", host.kernel.as_str())
        .with("BuildTime", "-")
}

pub async fn info(call: Call) -> Result<Response> {
    let control = &call.control;
    let images = control.images.clone();
    let images = blocking(move || Ok(images.list()?.len())).await?;
    ok(&info_shape(control, images))
}

fn info_shape(control: &Control, images: usize) -> Fields {
    let list = control.containers.list();
    let count = |states: &[Status]| list.iter().filter(|container| states.contains(&container.status)).count();
    let running = count(&[Status::Running, Status::Restarting]);
    let paused = count(&[Status::Paused]);
    let host = &control.host;
    let counted = Fields::new()
        .with("ID", host.id.as_str())
        .with("Containers", list.len())
        .with("ContainersRunning", running)
        .with("ContainersPaused", paused)
        .with("ContainersStopped", list.len() - running - paused)
        .with("Images", images);
    let stored = store(counted, host);
    let limited = limits(stored, control.containers.events().listeners());
    engine(machine(limited, host), host)
}

fn store(info: Fields, host: &HostFacts) -> Fields {
    let sandbox = format!("wasmtime {}", host.wasm_runtime);
    let plugins = Fields::new()
        .with("Volume", json!(["local"]))
        .with("Network", json!(["bridge", "host", "null"]))
        .with("Authorization", Value::Null)
        .with("Log", json!(["json-file", "none"]));
    info.with("Driver", "overlay2")
        .with("DriverStatus", json!([["Store", "OCI image layout"], ["Sandbox", sandbox]]))
        .object("Plugins", plugins)
}

fn limits(info: Fields, listeners: usize) -> Fields {
    info.with("MemoryLimit", true)
        .with("SwapLimit", true)
        .with("CpuCfsPeriod", true)
        .with("CpuCfsQuota", true)
        .with("CPUShares", true)
        .with("CPUSet", true)
        .with("PidsLimit", true)
        .with("IPv4Forwarding", true)
        .with("Debug", false)
        .with("NFd", 0)
        .with("OomKillDisable", false)
        .with("NGoroutines", 0)
        .with("SystemTime", times::rfc3339(SystemTime::now()))
        .with("LoggingDriver", "json-file")
        .with("CgroupDriver", "none")
        .with("CgroupVersion", "2")
        .with("NEventsListener", listeners)
}

fn machine(info: Fields, host: &HostFacts) -> Fields {
    let registries = json!({"IndexConfigs": {}, "InsecureRegistryCIDRs": ["127.0.0.0/8"], "Mirrors": null});
    info.with("KernelVersion", host.kernel.as_str())
        .with("OperatingSystem", host.operating_system.as_str())
        .with("OSVersion", "")
        .with("OSType", "linux")
        .with("Architecture", host.architecture.as_str())
        .with("IndexServerAddress", "https://index.docker.io/v1/")
        .with("RegistryConfig", registries)
        .with("NCPU", host.cores)
        .with("MemTotal", host.memory_total)
        .with("GenericResources", Value::Null)
        .with("DockerRootDir", host.data.display().to_string())
        .with("HttpProxy", "")
        .with("HttpsProxy", "")
        .with("NoProxy", "")
        .with("Name", host.name.as_str())
        .with("Labels", json!([]))
}

fn engine(info: Fields, host: &HostFacts) -> Fields {
    // `nvidia` is accepted everywhere, and shown where it can be had.
    let shown = host.runtimes.iter().filter(|name| *name != "nvidia" || host.gpus);
    let runtimes: Map<String, Value> = shown.map(|name| (name.clone(), json!({"path": "wharf"}))).collect();
    let none = || Fields::new().with("ID", "");
    let swarm = Fields::new()
        .with("NodeID", "")
        .with("NodeAddr", "")
        .with("LocalNodeState", "inactive")
        .with("ControlAvailable", false)
        .with("Error", "")
        .with("RemoteManagers", Value::Null);
    info.with("ExperimentalBuild", false)
        .with("ServerVersion", host.version.as_str())
        .with("Runtimes", runtimes)
        .with("DefaultRuntime", host.default_runtime())
        .object("Swarm", swarm)
        .with("LiveRestoreEnabled", false)
        .with("Isolation", "")
        .with("InitBinary", "")
        .object("ContainerdCommit", none())
        .object("RuncCommit", none())
        .object("InitCommit", none())
        .with("SecurityOptions", json!(["name=wasm"]))
        .with("CDISpecDirs", json!([]))
        .with("Warnings", json!(host.warnings))
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
    let (layers, list, shared) =
        blocking(move || Ok((images.layers_size()?, images.list()?, images.shared_sizes()?))).await?;
    let rows = list.iter().map(|image| {
        let mut row = images::row(image);
        row.containers = users.get(&row.id).copied().unwrap_or(0);
        row.shared_size = shared.get(&image.id).map_or(0, |bytes| i64::try_from(*bytes).unwrap_or(i64::MAX));
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
