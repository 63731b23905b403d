//! A start: everything a run needs is resolved, the runtime is asked, and the outcome is written down.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use tokio::time::Instant;

use super::cell::{Cell, blocking};
use super::create::settle_bind;
use super::engine::Shared;
use super::health::{self, Tracker};
use super::logs::feed::Sink;
use super::networks::Joining;
use super::networks::neighbours::Neighbours;
use super::runtime::{Exit, PortRequest, Start, Task};
use super::snapshot::{Endpoint, ResolvedMount};
use super::spec::{Mount, MountKind, Protocol, Publish, Spec};
use super::state::Status;
use super::{disk, probing};
use crate::error::{Error, ErrorKind, Result};

/// A container that runs.
pub struct Run {
    pub task: Arc<dyn Task>,
    pub number: u64,
}

impl Shared {
    /// Start it; the caller holds the gate. An error leaves it as it was: on no network, with no task.
    pub async fn launch(self: &Arc<Self>, cell: &Arc<Cell>) -> Result<Run> {
        let endpoints = self.join_all(cell)?;
        cell.live().endpoints = endpoints;
        // Lines of the start itself are part of the log.
        cell.alive.send_replace(true);
        let task = self.run(cell).await.inspect_err(|_| self.leave_all(cell))?;
        let number = self.note_start(cell, &task);
        cell.save_or_warn().await;
        self.tell(cell, "start", &[]);
        let check = cell.spec().healthcheck.clone();
        if let Some((check, Ok(Some(probe)))) = check.map(|check| (check.clone(), health::parse(&check.test))) {
            cell.live().tracker = Some(Tracker::default());
            tokio::spawn(probing::watch(self.clone(), cell.clone(), task.clone(), probe, check));
        }
        Ok(Run { task, number })
    }

    async fn run(self: &Arc<Self>, cell: &Arc<Cell>) -> Result<Arc<dyn Task>> {
        let (spec, name) = (cell.spec(), cell.name());
        cell.mark_log();
        let (shared, own, own_spec) = (self.clone(), cell.clone(), spec.clone());
        let (root, mounts) = blocking(move || prepare(&shared, &own, &own_spec)).await?;
        let ports = free_of_ranges(&spec, ports(&spec));
        let start = Start {
            id: cell.id.clone(),
            name: name.clone(),
            root,
            argv: spec.entrypoint.iter().chain(&spec.command).cloned().collect(),
            environment: environment(&spec.environment),
            working_dir: spec.working_dir.clone(),
            labels: spec.labels.clone(),
            mounts,
            ports: ports.clone(),
            memory: spec.memory,
            nano_cpus: spec.nano_cpus,
            gpus: spec.gpus.clone(),
            devices: spec.devices.clone(),
            tty: spec.tty,
            stdin: cell.take_stdin(),
            output: Arc::new(Sink(cell.feed.clone())),
            peers: Arc::new(Neighbours::new(self.networks.clone(), &cell.id, &spec)),
        };
        let started = self.runtime.start(start).await;
        started.map_err(|error| {
            if error.kind() == ErrorKind::Conflict { port_taken(cell, &name, &ports, error) } else { error }
        })
    }

    fn note_start(&self, cell: &Cell, task: &Arc<dyn Task>) -> u64 {
        let number = {
            let mut live = cell.live();
            live.run += 1;
            live.since = Some(Instant::now());
            live.kind = Some(task.kind());
            live.models = task.models();
            live.task = Some(task.clone());
            let record = &mut live.record;
            record.status = Status::Running;
            record.resume = false;
            record.started = Some(SystemTime::now());
            (record.exit_code, record.out_of_memory) = (0, false);
            record.error.clear();
            live.run
        };
        cell.progress.send_modify(|progress| progress.live = true);
        number
    }

    /// A start failed: what `inspect` and `wait` tell. `status` is what the container is now.
    pub async fn note_failure(&self, cell: &Cell, error: &Error, status: Status) {
        let code = exit_code_of_failure(&error.chain());
        let exit = Exit { code, out_of_memory: false, error: error.chain() };
        {
            let mut live = cell.live();
            let record = &mut live.record;
            record.status = status;
            record.exit_code = exit.code;
            record.error.clone_from(&exit.error);
            if status == Status::Exited {
                record.finished = Some(SystemTime::now());
            }
        }
        cell.feed.flushed().await;
        cell.disconnect();
        cell.save_or_warn().await;
        cell.alive.send_replace(status.is_live());
        cell.progress.send_modify(|progress| {
            progress.exits += 1;
            progress.exit = exit;
            progress.live = status.is_live();
        });
    }

    fn join_all(&self, cell: &Cell) -> Result<BTreeMap<String, Endpoint>> {
        let (name, spec, networks) = {
            let live = cell.live();
            (live.record.name.clone(), live.record.spec.clone(), live.record.networks.clone())
        };
        let joining = Joining { id: &cell.id, name: &name, hostname: &spec.hostname };
        let mut joined = BTreeMap::new();
        for (network, endpoint) in &networks {
            match self.networks.join(network, &joining, endpoint) {
                Ok((_, place)) => drop(joined.insert(network.clone(), place)),
                Err(error) => {
                    for network in joined.keys() {
                        self.networks.leave(network, &cell.id);
                    }
                    return Err(error);
                }
            }
        }
        Ok(joined)
    }

    pub fn leave_all(&self, cell: &Cell) {
        let endpoints = std::mem::take(&mut cell.live().endpoints);
        for network in endpoints.keys() {
            self.networks.leave(network, &cell.id);
        }
    }
}

/// The image's files, and the folders behind the mounts. Blocking.
fn prepare(shared: &Shared, cell: &Cell, spec: &Spec) -> Result<(PathBuf, Vec<Mount>)> {
    let root = shared.images.rootfs(&spec.image_id)?;
    for mount in spec.mounts.iter().filter(|mount| mount.kind == MountKind::Bind) {
        settle_bind(mount)?;
    }
    let resolved = cell.mounts(spec, &shared.volumes);
    for mount in resolved.iter().filter(|mount| mount.kind == MountKind::Tmpfs) {
        empty(mount)?;
    }
    let mount = |mount: ResolvedMount| Mount { source: mount.source, target: mount.target, read_only: mount.read_only };
    Ok((root, resolved.into_iter().map(mount).collect()))
}

/// A `tmpfs` begins empty at each start.
fn empty(mount: &ResolvedMount) -> Result<()> {
    match std::fs::remove_dir_all(&mount.source) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(disk::failed("empty", &mount.source, error)),
    }
    disk::create_folder(&mount.source)
}

/// Of each range the first port that is free now. If none is, the first one, whose refusal then says so.
fn free_of_ranges(spec: &Spec, mut requests: Vec<PortRequest>) -> Vec<PortRequest> {
    for place in 0..requests.len() {
        let Some(request) = requests.get(place).copied() else { continue };
        let is_it = |publish: &&Publish| {
            publish.guest == request.guest
                && publish.host_port == Some(request.host.port())
                && publish.host_port_end.is_some()
        };
        let Some(last) = spec.publish.iter().find(is_it).and_then(|publish| publish.host_port_end) else { continue };
        let taken: Vec<u16> = requests.iter().take(place).map(|other| other.host.port()).collect();
        let free = (request.host.port()..=last).find(|port| {
            let address = SocketAddr::new(request.host.ip(), *port);
            !taken.contains(port) && std::net::TcpListener::bind(address).is_ok()
        });
        if let (Some(free), Some(request)) = (free, requests.get_mut(place)) {
            request.host.set_port(free);
        }
    }
    requests
}

/// `-p` and `-P`. On the host's network nothing is published apart from it: each exposed port is itself.
fn ports(spec: &Spec) -> Vec<PortRequest> {
    let tcp = |publish: &Publish| publish.guest.protocol == Protocol::Tcp;
    if spec.network_mode == "none" {
        return Vec::new();
    }
    let request = |publish: &Publish| {
        let address = publish.host_ip.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        PortRequest { guest: publish.guest, host: SocketAddr::new(address, publish.host_port.unwrap_or(0)) }
    };
    if spec.network_mode == "host" {
        let direct = |guest: &super::spec::GuestPort| Publish {
            guest: *guest,
            host_ip: None,
            host_port: Some(guest.port),
            host_port_end: None,
        };
        return spec.exposed.iter().map(direct).filter(tcp).map(|publish| request(&publish)).collect();
    }
    let mut requests: Vec<PortRequest> = spec.publish.iter().filter(|publish| tcp(publish)).map(request).collect();
    if spec.publish_all {
        for guest in spec.exposed.iter().filter(|guest| guest.protocol == Protocol::Tcp) {
            if !requests.iter().any(|request| request.guest == *guest) {
                requests
                    .push(PortRequest { guest: *guest, host: SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0) });
            }
        }
    }
    requests
}

/// The last of each name counts; what has no value is not set.
fn environment(pairs: &[String]) -> Vec<(String, String)> {
    let mut variables: Vec<(String, String)> = Vec::new();
    for (name, value) in pairs.iter().filter_map(|pair| pair.split_once('=')) {
        variables.retain(|(known, _)| known != name);
        variables.push((name.to_owned(), value.to_owned()));
    }
    variables
}

/// Docker's words for a port that somebody has.
fn port_taken(cell: &Cell, name: &str, ports: &[PortRequest], error: Error) -> Error {
    let said = error.chain();
    let fixed = || ports.iter().filter(|request| request.host.port() != 0);
    let named = fixed().find(|request| {
        let port = request.host.port().to_string();
        said.split(|c: char| !c.is_ascii_digit()).any(|number| number == port)
    });
    let Some(request) = named.or_else(|| fixed().next()) else { return error };
    let endpoint =
        cell.live().endpoints.values().next().map(|endpoint| endpoint.endpoint_id.clone()).unwrap_or_default();
    Error::new(
        ErrorKind::Failed,
        format!(
            "driver failed programming external connectivity on endpoint {name} ({endpoint}): Bind for {} failed: port is \
             already allocated",
            request.host
        ),
    )
}

/// What Docker's client makes of the message, too.
fn exit_code_of_failure(message: &str) -> i32 {
    let says = |words: &[&str]| words.iter().any(|word| message.to_ascii_lowercase().contains(word));
    if says(&["no such file or directory", "executable file not found"]) {
        127
    } else if says(&["permission denied", "is a directory", "exec format error"]) {
        126
    } else {
        128
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::fixture;
    use crate::container::spec::GuestPort;

    fn guest(port: u16) -> GuestPort {
        GuestPort { port, protocol: Protocol::Tcp }
    }

    fn publish(port: u16, host: Option<u16>) -> Publish {
        Publish { guest: guest(port), host_ip: None, host_port: host, host_port_end: None }
    }

    #[test]
    fn ports_are_resolved() {
        let resolved = |spec: Spec| {
            let requests = ports(&spec);
            requests.iter().map(|request| format!("{}>{}", request.guest, request.host)).collect::<Vec<_>>()
        };
        let spec = Spec { publish: vec![publish(5000, Some(80)), publish(5001, None)], ..fixture::spec() };
        assert_eq!(resolved(spec.clone()), ["5000/tcp>0.0.0.0:80", "5001/tcp>0.0.0.0:0"]);
        let all = Spec { publish_all: true, exposed: vec![guest(5000), guest(7)], ..spec.clone() };
        assert_eq!(resolved(all), ["5000/tcp>0.0.0.0:80", "5001/tcp>0.0.0.0:0", "7/tcp>0.0.0.0:0"]);
        let host = Spec { network_mode: "host".into(), exposed: vec![guest(7)], ..spec.clone() };
        assert_eq!(resolved(host), ["7/tcp>0.0.0.0:7"]);
        assert!(resolved(Spec { network_mode: "none".into(), ..spec }).is_empty());
    }

    #[test]
    fn of_a_range_the_first_free_port_is_taken() {
        // A port that is taken, and the ones after it, of which some are free.
        let taken = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
        let first = taken.local_addr().unwrap().port().min(u16::MAX - 100);
        let range = |guest| Publish { host_port_end: Some(first + 100), ..publish(guest, Some(first)) };
        let spec = Spec { publish: vec![range(5000), range(5001)], ..fixture::spec() };
        let chosen: Vec<u16> = free_of_ranges(&spec, ports(&spec)).iter().map(|request| request.host.port()).collect();
        assert!(chosen.iter().all(|port| (first..=first + 100).contains(port)), "{chosen:?}");
        assert_ne!(chosen[0], chosen[1]);
        assert!(!chosen.contains(&taken.local_addr().unwrap().port()));
    }

    #[test]
    fn the_last_value_of_a_variable_counts() {
        let pairs = ["A=1", "B", "A=2=3", "C="].map(str::to_owned);
        let expected = [("A", "2=3"), ("C", "")].map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(environment(&pairs), expected);
    }

    #[test]
    fn a_taken_port_is_named_in_dockers_words() {
        let cell = fixture::cell("abc1", "web");
        let ports: Vec<_> =
            ports(&Spec { publish: vec![publish(1, Some(80)), publish(2, Some(5000))], ..fixture::spec() });
        let error = Error::new(ErrorKind::Conflict, "0.0.0.0:5000 is in use");
        assert_eq!(
            port_taken(&cell, "web", &ports, error).to_string(),
            "driver failed programming external connectivity on endpoint web (): Bind for 0.0.0.0:5000 failed: port is already \
             allocated"
        );
    }

    #[test]
    fn exit_codes_of_failed_starts_are_dockers() {
        for (message, code) in [
            ("exec: \"/x.wasm\": no such file or directory", 127),
            ("open /x: Permission denied", 126),
            ("could not select device driver", 128),
        ] {
            assert_eq!(exit_code_of_failure(message), code, "{message}");
        }
    }
}
