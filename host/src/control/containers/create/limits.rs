//! Memory, processors, restart policy, log and GPUs: what `create` and `update` check before anything is made. Pure.

use std::collections::BTreeMap;

use super::request::{DeviceRequest, GpuRequest, HostConfig, LogRequest, RestartRequest};
use crate::container::logs::attributes;
use crate::container::spec::{Gpus, LogOptions, RestartPolicy, is_true};
use crate::error::{Error, ErrorKind, Result};

/// Docker's smallest memory limit.
const LEAST_MEMORY: i64 = 6 << 20;

const NANOS_PER_CPU: i64 = 1_000_000_000;

/// Docker's period where only a quota is given, in microseconds.
const CPU_PERIOD: i64 = 100_000;

const LOG_OPTIONS: [&str; 8] =
    ["max-size", "max-file", "compress", "labels", "labels-regex", "env", "env-regex", "tag"];

/// Bytes; `None` where none is asked for.
pub fn memory(bytes: i64) -> Result<Option<u64>> {
    match bytes {
        0 => Ok(None),
        bytes if bytes < LEAST_MEMORY => Err(Error::invalid("Minimum memory limit allowed is 6MB")),
        bytes => Ok(u64::try_from(bytes).ok()),
    }
}

/// Billionths of a core, from `--cpus` or from quota and period.
pub fn nano_cpus(nanos: i64, quota: i64, period: i64, cores: usize) -> Result<Option<u64>> {
    if nanos != 0 && (quota > 0 || period > 0) {
        return Err(Error::invalid("Conflicting options: Nano CPUs and CPU Period cannot both be set"));
    }
    let nanos = match (nanos, quota) {
        (0, ..=0) => return Ok(None),
        (0, quota) => quota.saturating_mul(NANOS_PER_CPU) / if period > 0 { period } else { CPU_PERIOD },
        (nanos, _) => nanos,
    };
    let most = i64::try_from(cores).unwrap_or(i64::MAX).saturating_mul(NANOS_PER_CPU);
    if nanos < NANOS_PER_CPU / 100 || nanos > most {
        return Err(Error::invalid(format!(
            "Range of CPUs is from 0.01 to {cores}.00, as there are only {cores} CPUs available"
        )));
    }
    Ok(u64::try_from(nanos).ok())
}

pub fn restart(request: &RestartRequest) -> Result<RestartPolicy> {
    let invalid = |why: &str| Err(Error::invalid(format!("invalid restart policy: {why}")));
    let count = request.maximum_retry_count;
    let policy = match request.name.as_str() {
        "on-failure" => match u32::try_from(count) {
            Ok(max) => return Ok(RestartPolicy::OnFailure { max }),
            Err(_) => return invalid("maximum retry count cannot be negative"),
        },
        "" | "no" => RestartPolicy::No,
        "always" => RestartPolicy::Always,
        "unless-stopped" => RestartPolicy::UnlessStopped,
        other => {
            return invalid(&format!(
                "unknown policy '{other}'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'"
            ));
        }
    };
    if count != 0 {
        return invalid("maximum retry count can only be used with 'on-failure'");
    }
    Ok(policy)
}

pub fn log(request: &LogRequest) -> Result<LogOptions> {
    let driver = match request.driver.as_str() {
        "" | "json-file" => "json-file",
        "none" => "none",
        other => {
            return Err(Error::invalid(format!(
                "logger: no log driver named '{other}' is registered: use json-file, or none"
            )));
        }
    };
    let mut log = LogOptions { driver: driver.to_owned(), options: request.config.clone(), ..LogOptions::default() };
    for (key, value) in &request.config {
        if driver == "json-file" && !LOG_OPTIONS.contains(&key.as_str()) {
            return Err(Error::invalid(format!("unknown log opt '{key}' for json-file log driver")));
        }
        match key.as_str() {
            "max-size" => log.max_size = log_size(value)?,
            "max-file" => log.max_file = log_files(value)?,
            "compress" if is_true(value).is_none() => {
                return Err(Error::invalid(format!("strconv.ParseBool: parsing \"{value}\": invalid syntax")));
            }
            _ => {}
        }
    }
    attributes::check(&request.config)?;
    if driver == "json-file" && log.compresses() && (log.max_file < 2 || log.max_size.is_none()) {
        return Err(Error::invalid("compress cannot be true when max-file is less than 2 or max-size is not set"));
    }
    Ok(log)
}

fn log_size(text: &str) -> Result<Option<u64>> {
    if text == "-1" {
        return Ok(None);
    }
    match bytes(text) {
        Some(0) => Err(Error::invalid("max-size must be a positive number")),
        Some(bytes) => Ok(Some(bytes)),
        None => Err(Error::invalid(format!("invalid size: '{text}'"))),
    }
}

fn log_files(text: &str) -> Result<u32> {
    match text.parse() {
        Ok(0) => Err(Error::invalid("max-file cannot be less than 1")),
        Ok(count) => Ok(count),
        Err(_) => Err(Error::invalid(format!("invalid max-file: '{text}': a whole number from 1 up is expected"))),
    }
}

/// `5m`, `10k`, `1.5g`: of thousands, as Docker counts a log's size.
fn bytes(text: &str) -> Option<u64> {
    let lower = text.trim().to_ascii_lowercase();
    let plain = lower.trim_end_matches('b').trim_end_matches('i');
    let (number, factor) = match plain.char_indices().next_back()? {
        (at, 'k') => (&plain[..at], 1e3),
        (at, 'm') => (&plain[..at], 1e6),
        (at, 'g') => (&plain[..at], 1e9),
        (at, 't') => (&plain[..at], 1e12),
        _ => (plain, 1.0),
    };
    let number = number.trim();
    if number.is_empty() || !number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
        return None;
    }
    // Rounded down; past u64 it saturates, which no disk reaches.
    number.parse::<f64>().ok().map(|number| (number * factor) as u64)
}

/// From `--gpus`, `--runtime nvidia` and `--device /dev/nvidia0`.
pub fn gpus(config: &HostConfig) -> Result<Option<Gpus>> {
    let mut gpus = None;
    for request in &config.device_requests {
        gpus = gpu_request(request)?.or(gpus);
    }
    let devices = devices(&config.devices)?;
    if gpus.is_none() && !devices.is_empty() {
        gpus = Some(Gpus::Devices(devices));
    }
    Ok(gpus.or((config.runtime == "nvidia").then_some(Gpus::All)))
}

fn gpu_request(request: &GpuRequest) -> Result<Option<Gpus>> {
    let wanted = &request.capabilities;
    if request.driver != "cdi" && !wanted.iter().flatten().any(|capability| capability == "gpu") {
        let wanted: Vec<String> = wanted.iter().map(|all| format!("[{}]", all.join(" "))).collect();
        let wanted = wanted.join(" ");
        let message = format!("could not select device driver \"\" with capabilities: [{wanted}]: only gpu is offered");
        return Err(Error::invalid(message));
    }
    if request.driver == "cdi" {
        return cdi_request(&request.device_ids).map(Some);
    }
    match (request.count, request.device_ids.as_slice()) {
        (0, []) => Ok(None),
        (0, ids) => Ok(Some(Gpus::Devices(ids.to_vec()))),
        (_, [_, ..]) => Err(Error::invalid("cannot set both Count and DeviceIDs on device request")),
        (..0, []) => Ok(Some(Gpus::All)),
        (count, []) => Ok(Some(Gpus::Count(u32::try_from(count).unwrap_or(u32::MAX)))),
    }
}

/// `--device nvidia.com/gpu=all` and `=0`, which docker sends apart from the devices that are files.
fn cdi_request(names: &[String]) -> Result<Gpus> {
    let mut devices = Vec::new();
    for name in names {
        match name.strip_prefix("nvidia.com/gpu=") {
            Some("all") => return Ok(Gpus::All),
            Some(device) if !device.is_empty() => devices.push(device.to_owned()),
            _ => {
                return Err(Error::invalid(format!(
                    "unresolvable CDI devices {name}: write nvidia.com/gpu=all, or the GPU's number or UUID"
                )));
            }
        }
    }
    Ok(Gpus::Devices(devices))
}

/// Indices of the NVIDIA devices named; their control devices mean nothing by themselves.
fn devices(devices: &[DeviceRequest]) -> Result<Vec<String>> {
    let mut indices = Vec::new();
    for device in devices {
        let path = &device.path_on_host;
        let Some(rest) = path.strip_prefix("/dev/nvidia") else {
            return Err(Error::invalid(format!("device \"{path}\" is not available to Wasm components")));
        };
        if !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_digit()) {
            indices.push(rest.to_owned());
        }
    }
    Ok(indices)
}

/// Flags whose silent acceptance would promise what a container here cannot have.
pub fn refuse_impossible(config: &HostConfig, runtimes: &[String]) -> Result<()> {
    let refuse = |flag: &str, why: &str| Err(Error::invalid(format!("{flag} is not offered by this host: {why}")));
    if !config.links.is_empty() {
        return refuse("--link", "put the containers on a network of their own, where they find each other by name");
    }
    if !config.volumes_from.is_empty() {
        return refuse("--volumes-from", "name the volumes with -v");
    }
    if !["", "default"].contains(&config.isolation.as_str()) {
        return refuse("--isolation", "every container is a WebAssembly sandbox");
    }
    if !config.cgroup_parent.is_empty() {
        return refuse("--cgroup-parent", "containers have no cgroups; --memory and --cpus limit them");
    }
    let runtime = &config.runtime;
    if !runtime.is_empty() && !runtimes.contains(runtime) {
        return Err(Error::invalid(format!("unknown or invalid runtime name: {runtime}")));
    }
    Ok(())
}

/// What is accepted and has no effect, where somebody could rely on it.
pub fn warnings(config: &HostConfig, user: &str) -> Vec<String> {
    let no_rights = "a WebAssembly component gets no more rights";
    let no_namespaces = "containers share no namespaces with the host";
    let discarded: [(bool, &str, &str); 11] = [
        (!user.is_empty(), "--user", "a WebAssembly component has no user"),
        (config.privileged, "--privileged", no_rights),
        (!config.cap_add.clone().into_list().is_empty(), "--cap-add", no_rights),
        (!config.security_opt.is_empty(), "--security-opt", no_rights),
        (!["", "private", "none"].contains(&config.ipc_mode.as_str()), "--ipc", no_namespaces),
        (!["", "private"].contains(&config.pid_mode.as_str()), "--pid", no_namespaces),
        (!config.uts_mode.is_empty(), "--uts", no_namespaces),
        (config.pids_limit > 0, "--pids-limit", "a WebAssembly component has no processes"),
        (!config.cpuset_cpus.is_empty(), "--cpuset-cpus", "use --cpus"),
        (!config.ulimits.is_empty(), "--ulimit", "use --memory and --cpus"),
        (!config.sysctls.is_empty(), "--sysctl", "containers have no kernel of their own"),
    ];
    let discarded = discarded.into_iter().filter(|(given, ..)| *given);
    discarded.map(|(_, flag, why)| format!("{flag} has no effect here: {why}.")).collect()
}

/// A restart policy and `--rm` contradict each other.
pub fn check_auto_remove(auto_remove: bool, restart: RestartPolicy) -> Result<()> {
    if auto_remove && restart != RestartPolicy::No {
        return Err(Error::invalid("can't create 'AutoRemove' container with restart policy"));
    }
    Ok(())
}

/// Whether an image made for `platform` runs here: a component runs wherever the host does.
pub fn check_platform(platform: &str, image: &str, architecture: &str) -> Result<()> {
    let accepted = ["wasi/wasm", "wasm", "wasip1/wasm", "wasip2/wasm", "linux"];
    if platform.is_empty() || accepted.contains(&platform) || platform == format!("linux/{architecture}") {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::NotFound,
        format!(
            "image with reference {image} was found but its platform (wasi/wasm) does not match the specified platform \
             ({platform})"
        ),
    ))
}

/// Addresses that the label `wharf.egress` allows, separated by commas.
pub fn egress(labels: &BTreeMap<String, String>) -> Vec<String> {
    let allowed = labels.get("wharf.egress").map_or("", String::as_str).split(',');
    allowed.map(str::trim).filter(|entry| !entry.is_empty()).map(str::to_owned).collect()
}
