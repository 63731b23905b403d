//! Networks: which there are, who is on them, and by which names. Each is one file in `networks/`; who is on it is kept
//! in memory only, as containers join when they start.
//!
//! - [`members`]: names and addresses on one network.
//! - [`neighbours`]: what a container sees of its networks; implements [`Peers`](super::runtime::Peers).
//!
//! It must never know a container's state, and no socket: a network here is who may call whom.

pub mod members;
pub mod neighbours;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use self::members::Members;
use super::addresses::{Subnet, free_subnet};
use super::events::{Event, EventKind, Events};
use super::snapshot::{Endpoint, PruneFilter, Pruned};
use super::spec::EndpointSpec;
use super::{disk, ids, names};
use crate::error::{Error, ErrorKind, Result};

/// Networks that always exist, and their drivers.
const PREDEFINED: [(&str, &str); 3] = [("bridge", "bridge"), ("host", "host"), ("none", "null")];

/// What `network create` asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NetworkSpec {
    pub name: String,
    /// Empty is `bridge`, which is the only one to make networks of.
    pub driver: String,
    /// `None` chooses a free one.
    pub subnet: Option<String>,
    pub gateway: Option<String>,
    pub internal: bool,
    pub attachable: bool,
    pub labels: BTreeMap<String, String>,
    pub options: BTreeMap<String, String>,
}

/// A network, and who is on it at one instant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    pub id: String,
    pub name: String,
    pub created: SystemTime,
    pub driver: String,
    /// `None` for `host` and `none`.
    pub subnet: Option<Subnet>,
    pub gateway: Option<Ipv4Addr>,
    pub internal: bool,
    pub attachable: bool,
    pub labels: BTreeMap<String, String>,
    pub options: BTreeMap<String, String>,
    /// By the container's id: its name and its place.
    #[serde(skip)]
    pub members: BTreeMap<String, (String, Endpoint)>,
}

impl Network {
    pub fn is_predefined(&self) -> bool {
        PREDEFINED.iter().any(|(name, _)| *name == self.name)
    }
}

#[derive(Clone)]
pub struct Networks {
    shared: Arc<Shared>,
}

struct Shared {
    folder: PathBuf,
    events: Events,
    entries: RwLock<BTreeMap<String, Entry>>,
}

struct Entry {
    network: Network,
    members: Members,
}

impl Networks {
    /// Blocking, like everything here that makes or removes a network.
    pub fn open(folder: &Path, events: Events) -> Result<Networks> {
        disk::create_folder(folder)?;
        let mut entries = BTreeMap::new();
        for name in disk::entries(folder)? {
            let path = folder.join(&name);
            if !name.ends_with(".json") {
                // What a crash left of writing one.
                let _ = std::fs::remove_file(&path);
                continue;
            }
            let text = std::fs::read(&path).map_err(|error| disk::failed("read", &path, error))?;
            match serde_json::from_slice::<Network>(&text) {
                Ok(network) => drop(entries.insert(network.id.clone(), Entry::new(network))),
                Err(error) => tracing::warn!("{} is left out: it is no network: {error}", path.display()),
            }
        }
        let shared = Shared { folder: folder.to_owned(), events, entries: RwLock::new(entries) };
        let networks = Networks { shared: Arc::new(shared) };
        networks.make_predefined()?;
        Ok(networks)
    }

    fn make_predefined(&self) -> Result<()> {
        let mut entries = self.write();
        for (name, driver) in PREDEFINED {
            if !entries.values().any(|entry| entry.network.name == name) {
                let subnet = if name == "bridge" { Some(choose_subnet(&entries)?) } else { None };
                let spec = NetworkSpec { name: name.to_owned(), driver: driver.to_owned(), ..NetworkSpec::default() };
                let network = spec.into_network(subnet, subnet.map(Subnet::gateway))?;
                self.save(&network)?;
                entries.insert(network.id.clone(), Entry::new(network));
            }
        }
        Ok(())
    }

    pub fn create(&self, spec: NetworkSpec) -> Result<Network> {
        let name = &spec.name;
        if PREDEFINED.iter().any(|(predefined, _)| predefined == name) {
            let message = format!("operation is not permitted on predefined {name} network ");
            return Err(Error::new(ErrorKind::Forbidden, message));
        }
        let is_letter = name.len() == 1 && name.bytes().all(|byte| byte.is_ascii_alphanumeric());
        if !names::is_word(name) && !is_letter {
            return Err(Error::invalid(format!(
                "invalid network name \"{name}\": only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"
            )));
        }
        if !["", "default", "bridge"].contains(&spec.driver.as_str()) {
            return Err(Error::new(ErrorKind::NotFound, format!("plugin \"{}\" not found", spec.driver)));
        }
        let mut entries = self.write();
        if entries.values().any(|entry| entry.network.name == *name) {
            return Err(Error::new(ErrorKind::Conflict, format!("network with name {name} already exists")));
        }
        let (subnet, gateway) = spec.range(&entries)?;
        let network = NetworkSpec { driver: "bridge".to_owned(), ..spec }.into_network(Some(subnet), Some(gateway))?;
        // The lock is held while the file is written, so that a name is given once; nothing on the hot path makes
        // networks.
        self.save(&network)?;
        entries.insert(network.id.clone(), Entry::new(network.clone()));
        drop(entries);
        self.tell("create", &network, None);
        Ok(network)
    }

    /// By name, so that `ls` is stable.
    pub fn list(&self) -> Vec<Network> {
        let mut networks: Vec<_> = self.read().values().map(Entry::snapshot).collect();
        networks.sort_by(|one, other| one.name.cmp(&other.name));
        networks
    }

    /// By full id, name, or the start of an id.
    pub fn find(&self, name: &str) -> Result<Network> {
        let entries = self.read();
        let id = lookup(&entries, name)?;
        entries.get(&id).map(Entry::snapshot).ok_or_else(|| not_found(name))
    }

    pub fn remove(&self, name: &str) -> Result<()> {
        let mut entries = self.write();
        let id = lookup(&entries, name)?;
        let Some(entry) = entries.get(&id) else { return Err(not_found(name)) };
        let network = entry.network.clone();
        if network.is_predefined() {
            let message = format!("{} is a pre-defined network and cannot be removed", network.name);
            return Err(Error::new(ErrorKind::Forbidden, message));
        }
        if !entry.members.is_empty() {
            return Err(Error::new(
                ErrorKind::Forbidden,
                format!(
                    "error while removing network: network {} has active endpoints ({})",
                    network.name,
                    entry.members.describe()
                ),
            ));
        }
        let path = self.path(&id);
        std::fs::remove_file(&path).map_err(|error| disk::failed("remove", &path, error))?;
        entries.remove(&id);
        drop(entries);
        self.tell("destroy", &network, None);
        Ok(())
    }

    /// Networks that nobody is on.
    pub fn prune(&self, filter: &PruneFilter) -> Result<Pruned> {
        let mut pruned = Pruned::default();
        for network in self.list() {
            let idle = !network.is_predefined() && network.members.is_empty();
            if idle && filter.admits(network.created, &network.labels) {
                match self.remove(&network.id) {
                    Ok(()) => pruned.removed.push(network.name),
                    // Somebody joined or removed it meanwhile.
                    Err(error) => tracing::debug!("network {} is left: {error}", network.name),
                }
            }
        }
        Ok(pruned)
    }

    /// Give a container a place. It has one per network at most.
    pub(super) fn join(
        &self,
        network: &str,
        container: &Joining<'_>,
        spec: &EndpointSpec,
    ) -> Result<(String, Endpoint)> {
        let mut entries = self.write();
        let id = lookup(&entries, network)?;
        let Some(entry) = entries.get_mut(&id) else { return Err(not_found(network)) };
        let endpoint = entry.members.join(&entry.network, container, spec)?;
        let network = entry.network.clone();
        drop(entries);
        self.tell("connect", &network, Some(container.id));
        Ok((network.name, endpoint))
    }

    pub(super) fn leave(&self, network: &str, container: &str) -> bool {
        let mut entries = self.write();
        let Ok(id) = lookup(&entries, network) else { return false };
        let Some(entry) = entries.get_mut(&id) else { return false };
        let left = entry.members.leave(container);
        let network = entry.network.clone();
        drop(entries);
        if left {
            self.tell("disconnect", &network, Some(container));
        }
        left
    }

    pub(super) fn renamed(&self, container: &str, name: &str) {
        for entry in self.write().values_mut() {
            entry.members.rename(container, name, entry.network.is_predefined());
        }
    }

    fn save(&self, network: &Network) -> Result<()> {
        let text = serde_json::to_vec_pretty(network)
            .map_err(|error| Error::new(ErrorKind::Failed, "cannot write a network's record").because(error))?;
        disk::replace(&self.path(&network.id), &text)
    }

    fn path(&self, id: &str) -> PathBuf {
        self.shared.folder.join(format!("{id}.json"))
    }

    fn tell(&self, action: &str, network: &Network, container: Option<&str>) {
        let event = Event::new(EventKind::Network, action, &network.id).with("name", &network.name);
        let event = event.with("type", &network.driver);
        self.shared.events.publish(match container {
            Some(container) => event.with("container", container),
            None => event,
        });
    }

    fn read(&self) -> RwLockReadGuard<'_, BTreeMap<String, Entry>> {
        self.shared.entries.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, BTreeMap<String, Entry>> {
        self.shared.entries.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Who joins.
pub(super) struct Joining<'a> {
    pub id: &'a str,
    pub name: &'a str,
    pub hostname: &'a str,
}

impl Entry {
    fn new(network: Network) -> Entry {
        Entry { network, members: Members::default() }
    }

    fn snapshot(&self) -> Network {
        Network { members: self.members.all(), ..self.network.clone() }
    }
}

impl NetworkSpec {
    fn into_network(self, subnet: Option<Subnet>, gateway: Option<Ipv4Addr>) -> Result<Network> {
        Ok(Network {
            id: ids::random()?,
            name: self.name,
            created: SystemTime::now(),
            driver: self.driver,
            subnet,
            gateway,
            internal: self.internal,
            attachable: self.attachable,
            labels: self.labels,
            options: self.options,
            members: BTreeMap::new(),
        })
    }

    fn range(&self, entries: &BTreeMap<String, Entry>) -> Result<(Subnet, Ipv4Addr)> {
        let subnet = match &self.subnet {
            Some(text) => text.parse()?,
            None => choose_subnet(entries)?,
        };
        if entries.values().any(|entry| entry.network.subnet.is_some_and(|taken| taken.overlaps(subnet))) {
            return Err(Error::new(
                ErrorKind::Forbidden,
                "Pool overlaps with other one on this address space".to_owned(),
            ));
        }
        let Some(text) = &self.gateway else { return Ok((subnet, subnet.gateway())) };
        match text.parse() {
            Ok(gateway) if subnet.contains(gateway) => Ok((subnet, gateway)),
            _ => Err(Error::invalid(format!("no matching subnet for gateway {text}"))),
        }
    }
}

fn choose_subnet(entries: &BTreeMap<String, Entry>) -> Result<Subnet> {
    let taken = |subnet| entries.values().any(|entry| entry.network.subnet.is_some_and(|own| own.overlaps(subnet)));
    free_subnet(taken).ok_or_else(|| {
        Error::new(
            ErrorKind::Failed,
            "could not find an available, non-overlapping IPv4 address pool among the defaults to assign to the network: \
             remove unused networks (network prune), or choose one with --subnet",
        )
    })
}

fn lookup(entries: &BTreeMap<String, Entry>, name: &str) -> Result<String> {
    // `--network default` and no `--network` at all.
    let name = if name == "default" { "bridge" } else { name };
    if entries.contains_key(name) {
        return Ok(name.to_owned());
    }
    if let Some((id, _)) = entries.iter().find(|(_, entry)| entry.network.name == name) {
        return Ok(id.clone());
    }
    let mut matching = entries.keys().filter(|id| !name.is_empty() && id.starts_with(name));
    match (matching.next(), matching.next()) {
        (Some(id), None) => Ok(id.clone()),
        (Some(_), Some(_)) => {
            Err(Error::invalid(format!("network {name} is ambiguous (2 matches found based on ID prefix)")))
        }
        (None, _) => Err(not_found(name)),
    }
}

fn not_found(name: &str) -> Error {
    Error::new(ErrorKind::NotFound, format!("network {name} not found"))
}

/// Only IPv4 is given out.
fn four(address: IpAddr) -> Option<Ipv4Addr> {
    match address {
        IpAddr::V4(four) => Some(four),
        IpAddr::V6(_) => None,
    }
}
