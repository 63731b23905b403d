//! The flags of `run` and `create` → the body of `POST /containers/create`.

use std::fs;
use std::path::PathBuf;

use clap::Args;
use serde_json::{Map, Value, json};

use super::{environment, units, values};
use crate::error::{Error, ErrorKind, Result};

#[derive(Debug, Args)]
pub struct SpecFlags {
    /// Name of the container [default: two words]
    #[arg(long)]
    pub name: Option<String>,
    /// Publish a port: [IP:][HOST:]CONTAINER
    #[arg(short, long)]
    publish: Vec<String>,
    /// Publish every exposed port on a free one
    #[arg(short = 'P', long)]
    publish_all: bool,
    /// Environment variable; NAME alone takes this environment's value
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    env: Vec<String>,
    /// File of environment variables
    #[arg(long)]
    env_file: Vec<PathBuf>,
    /// Bind a folder or volume: SOURCE:TARGET[:ro]
    #[arg(short, long)]
    volume: Vec<String>,
    /// type=bind|volume|tmpfs,source=…,target=…[,readonly]
    #[arg(long)]
    mount: Vec<String>,
    /// Memory limit, e.g. 256m
    #[arg(short, long, value_parser = values::size)]
    memory: Option<u64>,
    /// Share of the processors, e.g. 1.5
    #[arg(long)]
    cpus: Option<f64>,
    /// no, on-failure[:N], always, unless-stopped
    #[arg(long, default_value = "no")]
    restart: String,
    /// Option of the log: max-size=5m, max-file=5
    #[arg(long)]
    log_opt: Vec<String>,
    /// Driver of the log (json-file or none)
    #[arg(long)]
    log_driver: Option<String>,
    /// Network to join; host opens the way out
    #[arg(long, visible_alias = "net")]
    network: Option<String>,
    /// Further name in its network
    #[arg(long)]
    network_alias: Vec<String>,
    /// What a name stands for: NAME:ADDRESS
    #[arg(long, value_name = "NAME:ADDRESS")]
    add_host: Vec<String>,
    /// Accelerators: all, a number, or device=0,1
    #[arg(long)]
    gpus: Option<String>,
    /// What models run on: auto, cpu, cuda[:N], tensorrt[:N] or a list, first choice first; the CPU does what none of them
    /// can. Label: wharf.device. A path as docker has it (/dev/nvidia0) requires that GPU
    #[arg(long, value_name = "DEVICE")]
    device: Vec<String>,
    /// Do not start where no --device of the list can be used. Label: wharf.require-device
    #[arg(long, requires = "device")]
    require_device: bool,
    /// Memory of the GPU each model may use, e.g. 2g. Label: wharf.gpu-memory
    #[arg(long, value_name = "SIZE")]
    gpu_memory: Option<String>,
    /// wharf's own, or nvidia (= --gpus all)
    #[arg(long)]
    runtime: Option<String>,
    #[arg(short, long)]
    label: Vec<String>,
    /// An outside host that may be called; may be repeated. As the label wharf.egress
    #[arg(long, value_name = "HOST:PORT")]
    egress: Vec<String>,
    /// Component to run instead of the image's
    #[arg(long)]
    entrypoint: Option<String>,
    #[arg(short, long)]
    workdir: Option<String>,
    #[arg(short, long)]
    user: Option<String>,
    #[arg(long)]
    hostname: Option<String>,
    #[arg(long)]
    expose: Vec<String>,
    /// Keep stdin open
    #[arg(short, long)]
    pub interactive: bool,
    /// Give it a terminal
    #[arg(short, long)]
    pub tty: bool,
    /// Remove the container when it ends
    #[arg(long)]
    pub rm: bool,
    #[arg(long)]
    read_only: bool,
    #[arg(long)]
    stop_signal: Option<String>,
    /// Seconds to stop in
    #[arg(long)]
    stop_timeout: Option<i64>,
    /// Command that checks its health
    #[arg(long)]
    health_cmd: Option<String>,
    #[arg(long)]
    health_interval: Option<String>,
    #[arg(long)]
    health_timeout: Option<String>,
    #[arg(long)]
    health_retries: Option<u32>,
    #[arg(long)]
    health_start_period: Option<String>,
    #[arg(long)]
    no_healthcheck: bool,
    #[arg(long)]
    pub platform: Option<String>,
    /// Pull the image first: always, missing, never
    #[arg(long, default_value = "missing")]
    pub pull: String,
    /// Accepted for docker's sake; sandboxes share nothing of the kind
    #[arg(long)]
    ipc: Option<String>,
    #[arg(long)]
    pid: Option<String>,
    #[arg(long)]
    shm_size: Option<String>,
    #[arg(long)]
    privileged: bool,
    #[arg(long)]
    cap_add: Vec<String>,
    #[arg(long)]
    init: bool,
    #[arg(long)]
    ulimit: Vec<String>,
    /// Image to run
    #[arg(value_name = "IMAGE")]
    pub image: String,
    /// Arguments for it
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "COMMAND")]
    command: Vec<String>,
}

/// The label that the host reads: allowed outside hosts, separated by commas.
const EGRESS: &str = "wharf.egress";

impl SpecFlags {
    pub fn body(&self, attached: bool) -> Result<Value> {
        let (exposed, bindings) = ports(&self.publish, &self.expose)?;
        let mut config = json!({
            "Image": self.image, "Env": self.environment()?, "Labels": self.labels(), "Tty": self.tty,
            "OpenStdin": self.interactive, "StdinOnce": self.interactive && attached,
            "AttachStdin": self.interactive && attached, "AttachStdout": attached, "AttachStderr": attached,
            "ExposedPorts": exposed, "Cmd": (!self.command.is_empty()).then_some(&self.command),
            "Entrypoint": self.entrypoint.as_ref().map(|path| vec![path]), "WorkingDir": self.workdir,
            "User": self.user, "Hostname": self.hostname, "StopSignal": self.stop_signal,
            "StopTimeout": self.stop_timeout, "Healthcheck": self.health()?,
        });
        let network = self.network.as_deref().unwrap_or("default");
        config["HostConfig"] = json!({
            "ExtraHosts": self.add_host,
            "Binds": self.volume.iter().map(|volume| bind(volume)).collect::<Result<Vec<_>>>()?,
            "Mounts": self.mount.iter().map(|mount| mount_of(mount)).collect::<Result<Vec<_>>>()?,
            "PortBindings": bindings, "PublishAllPorts": self.publish_all, "AutoRemove": self.rm,
            "RestartPolicy": restart_policy(&self.restart)?, "Memory": self.memory.unwrap_or(0),
            "NanoCpus": (self.cpus.unwrap_or(0.0) * 1e9) as i64, "NetworkMode": network,
            "LogConfig": {"Type": self.log_driver.as_deref().unwrap_or(""), "Config": pairs(&self.log_opt)},
            "DeviceRequests": self.device_requests(), "Devices": self.device_files(), "Runtime": self.runtime,
            "IpcMode": self.ipc.as_deref().unwrap_or(""), "PidMode": self.pid.as_deref().unwrap_or(""),
            "Privileged": self.privileged, "CapAdd": self.cap_add, "ReadonlyRootfs": self.read_only,
            "Init": self.init.then_some(true),
            "ShmSize": self.shm_size.as_deref().map(values::size).transpose().map_err(Error::invalid)?.unwrap_or(0),
        });
        if !self.network_alias.is_empty() {
            config["NetworkingConfig"] = json!({"EndpointsConfig": {network: {"Aliases": self.network_alias}}});
        }
        Ok(config)
    }

    fn environment(&self) -> Result<Vec<String>> {
        let mut all = Vec::new();
        for path in &self.env_file {
            let text = fs::read_to_string(path).map_err(|error| {
                Error::new(ErrorKind::Io, format!("cannot read --env-file {}", path.display())).because(error)
            })?;
            let lines = text.lines().map(str::trim_start).filter(|line| !line.is_empty() && !line.starts_with('#'));
            all.extend(lines.filter_map(variable));
        }
        all.extend(self.env.iter().filter_map(|typed| variable(typed)));
        Ok(all)
    }

    /// Those given, and what docker has no field for: what --device and its like say, and what `--egress` allows,
    /// beside what `--label` may allow.
    fn labels(&self) -> Map<String, Value> {
        let mut labels = pairs(&self.label);
        let models: Vec<&str> = self.device.iter().map(String::as_str).filter(|device| is_for_models(device)).collect();
        if !models.is_empty() {
            labels.insert("wharf.device".to_owned(), models.join(",").into());
        }
        if self.require_device {
            labels.insert("wharf.require-device".to_owned(), "true".into());
        }
        if let Some(size) = &self.gpu_memory {
            labels.insert("wharf.gpu-memory".to_owned(), size.as_str().into());
        }
        if !self.egress.is_empty() {
            let own = labels.get(EGRESS).and_then(Value::as_str).into_iter();
            let all: Vec<&str> = own.chain(self.egress.iter().map(String::as_str)).collect();
            labels.insert(EGRESS.to_owned(), all.join(",").into());
        }
        labels
    }

    fn device_requests(&self) -> Option<Vec<Value>> {
        let cdi: Vec<&String> = self.device.iter().filter(|device| device.contains('=')).collect();
        let cdi = (!cdi.is_empty()).then(|| json!({"Driver": "cdi", "DeviceIDs": cdi}));
        let all: Vec<Value> = self.gpus.as_deref().map(gpus).into_iter().chain(cdi).collect();
        (!all.is_empty()).then_some(all)
    }

    fn device_files(&self) -> Vec<Value> {
        let files = self.device.iter().filter(|device| device.starts_with('/'));
        let parts = files.map(|typed| typed.split(':').collect::<Vec<_>>());
        let file = |parts: Vec<&str>| {
            let at = |index: usize| parts.get(index).copied();
            let host = at(0).unwrap_or_default();
            json!({
                "PathOnHost": host, "PathInContainer": at(1).unwrap_or(host), "CgroupPermissions": at(2).unwrap_or("rwm"),
            })
        };
        parts.map(file).collect()
    }

    fn health(&self) -> Result<Option<Value>> {
        if self.no_healthcheck {
            return Ok(Some(json!({"Test": ["NONE"]})));
        }
        let time = |typed: &Option<String>| match typed {
            None => Ok(0),
            Some(text) => units::go_duration(text)
                .ok_or_else(|| Error::invalid(format!("{text:?} is no duration: write 500ms, 5s or 1m30s"))),
        };
        let Some(command) = &self.health_cmd else { return Ok(None) };
        Ok(Some(json!({
            "Test": ["CMD-SHELL", command], "Interval": time(&self.health_interval)?,
            "Timeout": time(&self.health_timeout)?, "StartPeriod": time(&self.health_start_period)?,
            "Retries": self.health_retries.unwrap_or(0),
        })))
    }
}

/// `NAME=VALUE`, or `NAME` with this process's value; one that is not set here is left out.
pub fn variable(typed: &str) -> Option<String> {
    if typed.contains('=') {
        return Some(typed.to_owned());
    }
    environment::variable(typed).map(|value| format!("{typed}={value}"))
}

pub fn pairs(typed: &[String]) -> Map<String, Value> {
    let pair = |text: &String| {
        let (key, value) = text.split_once('=').unwrap_or((text, ""));
        (key.to_owned(), Value::from(value))
    };
    typed.iter().map(pair).collect()
}

pub fn restart_policy(typed: &str) -> Result<Value> {
    let (name, count) = typed.split_once(':').unwrap_or((typed, "0"));
    let count: u32 = count.parse().map_err(|_| Error::invalid("maximum retry count must be an integer"))?;
    match name {
        "no" | "" | "always" | "unless-stopped" | "on-failure" => Ok(json!({"Name": name, "MaximumRetryCount": count})),
        _ => Err(Error::invalid(format!(
            "invalid restart policy {typed:?}: write no, on-failure[:N], always or unless-stopped"
        ))),
    }
}

/// `all`, `2`, `device=0,1`, each perhaps in quotes of its own.
pub fn gpus(typed: &str) -> Value {
    let typed = typed.trim_matches('"');
    let devices = typed.strip_prefix("device=").map(|list| list.split(',').collect::<Vec<_>>());
    let count = if typed == "all" { -1 } else { typed.trim_start_matches("count=").parse().unwrap_or(0) };
    json!({"Driver": "", "Count": count, "DeviceIDs": devices, "Capabilities": [["gpu"]], "Options": {}})
}

/// Whether a --device is one of ours: docker's are paths (`/dev/…`) and CDI names (`vendor.com/class=name`).
fn is_for_models(device: &str) -> bool {
    !device.starts_with('/') && !device.contains('=')
}

/// Published and exposed ports → `ExposedPorts`, `PortBindings`.
pub fn ports(publish: &[String], expose: &[String]) -> Result<(Value, Value)> {
    let mut exposed = Map::new();
    let mut bindings: Map<String, Value> = Map::new();
    for typed in expose {
        exposed.insert(if typed.contains('/') { typed.clone() } else { format!("{typed}/tcp") }, json!({}));
    }
    for typed in publish {
        let (address, protocol) = typed.rsplit_once('/').unwrap_or((typed, "tcp"));
        let (rest, inside) = address.rsplit_once(':').unwrap_or(("", address));
        let (ip, outside) = rest.rsplit_once(':').unwrap_or(("", rest));
        let wrong = |what: &str| Error::invalid(format!("invalid port mapping {typed:?}: {what}"));
        let inside = range(inside).ok_or_else(|| wrong("write [IP:][HOST:]CONTAINER"))?;
        let outside =
            if outside.is_empty() { None } else { Some(range(outside).ok_or_else(|| wrong("bad host port"))?) };
        if outside.as_ref().is_some_and(|outside| outside.len() != inside.len()) {
            return Err(wrong("the ranges differ in length"));
        }
        for (index, port) in inside.enumerate() {
            let key = format!("{port}/{protocol}");
            let host = outside.clone().and_then(|mut range| range.nth(index)).map(|port| port.to_string());
            let binding = json!({"HostIp": ip.trim_matches(['[', ']']), "HostPort": host.unwrap_or_default()});
            exposed.insert(key.clone(), json!({}));
            if let Value::Array(all) = bindings.entry(key).or_insert_with(|| json!([])) {
                all.push(binding);
            }
        }
    }
    Ok((exposed.into(), bindings.into()))
}

fn range(text: &str) -> Option<std::ops::RangeInclusive<u16>> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    Some(first.parse().ok()?..=last.parse().ok()?).filter(|range| !range.is_empty())
}

/// `./here:/there` → an absolute source; names of volumes stay.
pub fn bind(typed: &str) -> Result<String> {
    let Some((source, rest)) = typed.split_once(':') else { return Ok(typed.to_owned()) };
    if source.starts_with('.') || source.starts_with('~') {
        let path = std::path::absolute(source)
            .map_err(|error| Error::invalid(format!("cannot tell where {source:?} is")).because(error))?;
        return Ok(format!("{}:{rest}", path.display()));
    }
    Ok(typed.to_owned())
}

fn mount_of(typed: &str) -> Result<Value> {
    let mut mount = json!({"Type": "volume"});
    for part in typed.split(',') {
        let (key, value) = part.split_once('=').unwrap_or((part, "true"));
        match key {
            "type" => mount["Type"] = value.into(),
            "source" | "src" => mount["Source"] = value.into(),
            "target" | "dst" | "destination" => mount["Target"] = value.into(),
            "readonly" | "ro" => mount["ReadOnly"] = (value != "false" && value != "0").into(),
            _ => return Err(Error::invalid(format!("unexpected key '{key}' in '{part}' of --mount"))),
        }
    }
    if mount["Target"].is_null() {
        return Err(Error::invalid(format!("--mount {typed:?}: target is required")));
    }
    Ok(mount)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_as_docker_reads_them() {
        let bindings = |typed: &str| ports(&[typed.to_owned()], &[]).map(|(_, bindings)| bindings);
        assert_eq!(bindings("5001:5000").unwrap(), json!({"5000/tcp": [{"HostIp": "", "HostPort": "5001"}]}));
        assert_eq!(bindings("5000").unwrap(), json!({"5000/tcp": [{"HostIp": "", "HostPort": ""}]}));
        let full = json!({"5000/tcp": [{"HostIp": "127.0.0.1", "HostPort": "0"}]});
        assert_eq!(bindings("127.0.0.1:0:5000/tcp").unwrap(), full);
        assert_eq!(bindings("8000-8001:5000-5001").unwrap().as_object().unwrap().len(), 2);
        assert!(bindings("x:5000").is_err() && bindings("1-2:5000").is_err());
    }

    #[test]
    fn gpus_policies_and_mounts() {
        assert_eq!(gpus("all")["Count"], -1);
        assert_eq!(gpus("\"device=0,1\"")["DeviceIDs"], json!(["0", "1"]));
        assert_eq!(restart_policy("on-failure:3").unwrap()["MaximumRetryCount"], 3);
        assert!(restart_policy("sometimes").is_err());
        assert_eq!(mount_of("type=bind,src=/m,dst=/n,readonly").unwrap()["ReadOnly"], true);
        assert!(mount_of("type=bind,src=/m").is_err());
    }
}
