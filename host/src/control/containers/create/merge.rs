//! A request and its image's configuration, joined as Docker joins them. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::request::{CreateRequest, EndpointRequest, HealthRequest, HostConfig};
use super::{hosts, limits, mounts, ports, stored};
use crate::container::Spec;
use crate::container::devices::DeviceWish;
use crate::container::spec::{EndpointSpec, Healthcheck};
use crate::control::HostFacts;
use crate::error::{Error, Result};
use crate::image::{HealthConfig, Image, RunConfig};

/// Nanoseconds; Docker's shortest time in a health check.
const LEAST_TIME: u64 = 1_000_000;

/// What can be said without making anything: the container's settings, and what about them has no effect.
pub fn merge(request: CreateRequest, image: &Image, host: &HostFacts) -> Result<(Spec, Vec<String>)> {
    let config: HostConfig = serde_json::from_value(serde_json::Value::Object(request.host_config.clone()))
        .map_err(|error| Error::invalid("invalid JSON: HostConfig").because(error))?;
    limits::refuse_impossible(&config, &host.runtimes)?;
    let restart = limits::restart(&config.restart_policy)?;
    limits::check_auto_remove(config.auto_remove, restart)?;
    let from = &image.config.config;
    let network_mode = network_mode(&config.network_mode)?;
    let (entrypoint, command) = command(request.entrypoint.into_list(), request.cmd.into_list(), from);
    let labels = labels(request.labels, from);
    let named = request.exposed_ports.keys().chain(&from.exposed_ports).chain(config.port_bindings.keys());
    let declared: BTreeSet<&str> = request.volumes.keys().map(String::as_str).chain(volumes(from)).collect();
    let runtime = if config.runtime.is_empty() { host.default_runtime() } else { &config.runtime };
    let spec = Spec {
        image_id: image.id.clone(),
        entrypoint,
        command,
        environment: environment(request.env, &from.env),
        working_dir: or(request.working_dir, &from.working_dir),
        user: or(request.user.clone(), &from.user),
        hostname: request.hostname,
        exposed: ports::exposed(named.map(String::as_str))?,
        publish: ports::publish(&config.port_bindings)?,
        publish_all: config.publish_all_ports,
        mounts: mounts::mounts(&config, declared.into_iter())?,
        memory: limits::memory(config.memory)?,
        nano_cpus: limits::nano_cpus(config.nano_cpus, config.cpu_quota, config.cpu_period, host.cores)?,
        restart,
        log: limits::log(&config.log_config)?,
        endpoints: endpoints(&request.networking_config.endpoints_config, &network_mode)?,
        egress: limits::egress(&labels),
        devices: DeviceWish::of_labels(&labels)?,
        extra_hosts: hosts::extra(&config.extra_hosts)?,
        labels,
        healthcheck: healthcheck(request.healthcheck, from.healthcheck.as_ref())?,
        auto_remove: config.auto_remove,
        tty: request.tty,
        open_stdin: request.open_stdin,
        stdin_once: request.stdin_once,
        stop_signal: some(or(request.stop_signal, from.stop_signal.as_deref().unwrap_or_default())),
        stop_timeout: request.stop_timeout,
        gpus: limits::gpus(&config)?,
        runtime: runtime.to_owned(),
        host_config: stored::host_config(request.host_config, host.default_runtime(), &network_mode),
        image: request.image,
        network_mode,
    };
    let warnings = limits::warnings(&config, &request.user);
    Ok((spec, warnings))
}

fn or(asked: String, image: &str) -> String {
    if asked.is_empty() { image.to_owned() } else { asked }
}

fn some(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

/// An entry point that was asked for drops the image's command; `--entrypoint ""` drops both.
fn command(entrypoint: Vec<String>, command: Vec<String>, image: &RunConfig) -> (Vec<String>, Vec<String>) {
    if entrypoint == [""] {
        return (Vec::new(), command);
    }
    if !entrypoint.is_empty() {
        return (entrypoint, command);
    }
    let command = if command.is_empty() { image.cmd.clone().unwrap_or_default() } else { command };
    (image.entrypoint.clone().unwrap_or_default(), command)
}

/// What was asked for, then what the image has besides. A name without `=` removes the image's variable.
fn environment(asked: Vec<String>, image: &[String]) -> Vec<String> {
    let name = |entry: &str| entry.split('=').next().unwrap_or_default().to_owned();
    let named: BTreeSet<String> = asked.iter().map(|entry| name(entry)).collect();
    let mut environment: Vec<String> = Vec::new();
    for entry in asked.into_iter().filter(|entry| entry.contains('=')) {
        // The last one of a name wins, in the first one's place.
        match environment.iter_mut().find(|known| name(known) == name(&entry)) {
            Some(known) => *known = entry,
            None => environment.push(entry),
        }
    }
    environment.extend(image.iter().filter(|entry| !named.contains(&name(entry))).cloned());
    environment
}

fn labels(asked: BTreeMap<String, String>, image: &RunConfig) -> BTreeMap<String, String> {
    let mut labels = image.labels.clone();
    labels.extend(asked);
    labels
}

fn volumes(image: &RunConfig) -> impl Iterator<Item = &str> {
    image.volumes.iter().map(String::as_str)
}

/// `default` is an alias of `bridge`, and `container:ID` needs what no sandbox has.
fn network_mode(mode: &str) -> Result<String> {
    match mode {
        "" | "default" => Ok("bridge".to_owned()),
        mode => match mode.strip_prefix("container:") {
            Some(other) => Err(Error::invalid(format!(
                "network mode {mode} is not offered by this host: a sandbox has no network stack to share. Make a network \
                 (docker network create NET), run both containers with --network NET, and call http://{other}:PORT"
            ))),
            None => Ok(mode.to_owned()),
        },
    }
}

/// Every network named, and the mode's own.
fn endpoints(asked: &BTreeMap<String, EndpointRequest>, network_mode: &str) -> Result<BTreeMap<String, EndpointSpec>> {
    let mut endpoints = BTreeMap::new();
    for (name, request) in asked {
        let name = if name == "default" { "bridge" } else { name };
        endpoints.insert(name.to_owned(), endpoint(request)?);
    }
    endpoints.entry(network_mode.to_owned()).or_default();
    Ok(endpoints)
}

pub fn endpoint(request: &EndpointRequest) -> Result<EndpointSpec> {
    let text = &request.ipam_config.ipv4;
    let invalid = |_| Error::invalid(format!("invalid IPv4 address: {text}"));
    let ipv4 = if text.is_empty() { None } else { Some(text.parse().map_err(invalid)?) };
    Ok(EndpointSpec { aliases: request.aliases.clone(), ipv4 })
}

/// Field by field: what was asked for, what the image says, Docker's default.
fn healthcheck(asked: Option<HealthRequest>, image: Option<&HealthConfig>) -> Result<Option<Healthcheck>> {
    let (asked, image) = (asked.unwrap_or_default(), image.cloned().unwrap_or_default());
    let test = if asked.test.is_empty() { image.test } else { asked.test };
    if test.is_empty() || test.first().is_some_and(|word| word == "NONE") {
        return Ok(None);
    }
    let default = Healthcheck::default();
    let either = |asked: i64, image: i64| if asked == 0 { image } else { asked };
    let time = |what: &str, asked: i64, image: i64, default: Duration| match u64::try_from(either(asked, image)) {
        Ok(0) => Ok(default),
        Ok(nanos) if nanos >= LEAST_TIME => Ok(Duration::from_nanos(nanos)),
        _ => Err(Error::invalid(format!("{what} in Healthcheck cannot be less than 1ms"))),
    };
    let retries = u32::try_from(either(asked.retries, image.retries))
        .map_err(|_| Error::invalid("Retries in Healthcheck cannot be negative"))?;
    Ok(Some(Healthcheck {
        test,
        interval: time("Interval", asked.interval, image.interval, default.interval)?,
        timeout: time("Timeout", asked.timeout, image.timeout, default.timeout)?,
        start_period: time("StartPeriod", asked.start_period, image.start_period, default.start_period)?,
        start_interval: time("StartInterval", asked.start_interval, image.start_interval, default.start_interval)?,
        retries: if retries == 0 { default.retries } else { retries },
    }))
}
