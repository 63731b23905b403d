//! Volumes: folders that outlive containers. Each is `volumes/<name>/`: its record, and `_data`, which containers see.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::events::{Event, EventKind, Events};
use super::snapshot::{PruneFilter, Pruned};
use super::{disk, ids, names};
use crate::error::{Error, ErrorKind, Result};

const RECORD: &str = "volume.json";
const CONTENT: &str = "_data";

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VolumeSpec {
    /// `None` invents one.
    pub name: Option<String>,
    /// Empty is `local`, which is the only one.
    pub driver: String,
    pub labels: BTreeMap<String, String>,
    pub options: BTreeMap<String, String>,
    /// Made for one container.
    pub anonymous: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    pub name: String,
    pub mountpoint: PathBuf,
    pub created: SystemTime,
    pub labels: BTreeMap<String, String>,
    pub options: BTreeMap<String, String>,
    pub anonymous: bool,
    /// Ids of the containers that have it, running or not.
    pub users: Vec<String>,
}

#[derive(Clone, Serialize, Deserialize)]
struct Record {
    created: SystemTime,
    labels: BTreeMap<String, String>,
    options: BTreeMap<String, String>,
    anonymous: bool,
}

#[derive(Clone)]
pub struct Volumes {
    shared: Arc<Shared>,
}

struct Shared {
    folder: PathBuf,
    events: Events,
    table: Mutex<BTreeMap<String, Entry>>,
}

struct Entry {
    record: Record,
    users: BTreeSet<String>,
}

impl Volumes {
    /// Blocking, like everything here that touches the disk.
    pub fn open(folder: &Path, events: Events) -> Result<Volumes> {
        disk::create_folder(folder)?;
        let mut table = BTreeMap::new();
        for name in disk::entries(folder)? {
            let path = folder.join(&name);
            match disk::clear_unfinished(&path).and_then(|()| read(&path)) {
                Ok(Some(record)) if names::is_word(&name) => {
                    table.insert(name, Entry { record, users: BTreeSet::new() });
                }
                // The record is written last, so that a volume without one was never given to anybody.
                Ok(_) if name.starts_with(disk::GONE) || disk::size(&path) == 0 => drop(std::fs::remove_dir_all(&path)),
                Ok(_) => tracing::warn!("volume {name} is left out: it holds files and has no {RECORD}"),
                Err(error) => tracing::warn!("volume {name} is left out: {}", error.chain()),
            }
        }
        Ok(Volumes { shared: Arc::new(Shared { folder: folder.to_owned(), events, table: Mutex::new(table) }) })
    }

    /// The volume of this name, made if there is none.
    pub fn create(&self, spec: VolumeSpec) -> Result<Volume> {
        if !["", "local"].contains(&spec.driver.as_str()) {
            let message = format!("error looking up volume plugin {0}: plugin \"{0}\" not found", spec.driver);
            return Err(Error::new(ErrorKind::NotFound, message));
        }
        let name = match spec.name {
            Some(name) if !name.is_empty() => name,
            _ => ids::random()?,
        };
        if !names::is_word(&name) {
            return Err(Error::invalid(format!(
                "create {name}: \"{name}\" includes invalid characters for a local volume name, only \
                 \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. If you intended to pass a host directory, use absolute path"
            )));
        }
        let mut table = self.table();
        if let Some(entry) = table.get(&name) {
            return Ok(self.snapshot(&name, entry));
        }
        let (created, labels) = (SystemTime::now(), spec.labels);
        let record = Record { created, labels, options: spec.options, anonymous: spec.anonymous };
        // The lock is held, so that a name is made once.
        self.make(&name, &record)?;
        let entry = Entry { record, users: BTreeSet::new() };
        let volume = self.snapshot(&name, &entry);
        table.insert(name, entry);
        drop(table);
        self.tell("create", &volume.name, None);
        Ok(volume)
    }

    fn make(&self, name: &str, record: &Record) -> Result<()> {
        let folder = self.shared.folder.join(name);
        let made = || -> Result<()> {
            disk::create_folder(&folder.join(CONTENT))?;
            let text = serde_json::to_vec_pretty(record)
                .map_err(|error| Error::new(ErrorKind::Failed, "cannot write a volume's record").because(error))?;
            disk::replace(&folder.join(RECORD), &text)?;
            disk::sync_folder(&self.shared.folder)
        };
        made().inspect_err(|_| drop(std::fs::remove_dir_all(&folder)))
    }

    /// By name.
    pub fn list(&self) -> Vec<Volume> {
        self.table().iter().map(|(name, entry)| self.snapshot(name, entry)).collect()
    }

    pub fn find(&self, name: &str) -> Result<Volume> {
        self.table().get(name).map(|entry| self.snapshot(name, entry)).ok_or_else(|| not_found(name))
    }

    /// `force`: one that does not exist is as good as removed.
    pub fn remove(&self, name: &str, force: bool) -> Result<()> {
        let mut table = self.table();
        let Some(entry) = table.get(name) else {
            return if force { Ok(()) } else { Err(not_found(name)) };
        };
        if !entry.users.is_empty() {
            let users = entry.users.iter().cloned().collect::<Vec<_>>().join(", ");
            let message = format!("remove {name}: volume is in use - [{users}]");
            return Err(Error::new(ErrorKind::Conflict, message));
        }
        disk::remove_folder(&self.shared.folder.join(name))?;
        table.remove(name);
        drop(table);
        self.tell("destroy", name, None);
        Ok(())
    }

    /// Volumes that no container has: anonymous ones, or with `all` every one.
    pub fn prune(&self, filter: &PruneFilter) -> Result<Pruned> {
        let mut pruned = Pruned::default();
        for volume in self.list() {
            let idle = volume.users.is_empty() && (filter.all || volume.anonymous);
            if !idle || !filter.admits(volume.created, &volume.labels) {
                continue;
            }
            let size = disk::size(&volume.mountpoint);
            match self.remove(&volume.name, false) {
                Ok(()) => {
                    pruned.reclaimed += size;
                    pruned.removed.push(volume.name);
                }
                // Somebody took or removed it meanwhile.
                Err(error) => tracing::debug!("volume {} is left: {error}", volume.name),
            }
        }
        Ok(pruned)
    }

    /// Bytes in it.
    pub fn size(&self, name: &str) -> Result<u64> {
        Ok(disk::size(&self.find(name)?.mountpoint))
    }

    /// A container has it from now on. Makes it if need be, so that it cannot be removed in between.
    pub(super) fn hold(&self, spec: VolumeSpec, container: &str) -> Result<Volume> {
        loop {
            let volume = self.create(spec.clone())?;
            if let Some(entry) = self.table().get_mut(&volume.name) {
                entry.users.insert(container.to_owned());
                return Ok(volume);
            }
        }
    }

    pub(super) fn release(&self, name: &str, container: &str) {
        if let Some(entry) = self.table().get_mut(name) {
            entry.users.remove(container);
        }
    }

    pub(super) fn tell(&self, action: &str, name: &str, container: Option<&str>) {
        let event = Event::new(EventKind::Volume, action, name).with("driver", "local");
        self.shared.events.publish(match container {
            Some(container) => event.with("container", container),
            None => event,
        });
    }

    pub(super) fn content(&self, name: &str) -> PathBuf {
        self.shared.folder.join(name).join(CONTENT)
    }

    fn snapshot(&self, name: &str, entry: &Entry) -> Volume {
        Volume {
            name: name.to_owned(),
            mountpoint: self.content(name),
            created: entry.record.created,
            labels: entry.record.labels.clone(),
            options: entry.record.options.clone(),
            anonymous: entry.record.anonymous,
            users: entry.users.iter().cloned().collect(),
        }
    }

    fn table(&self) -> MutexGuard<'_, BTreeMap<String, Entry>> {
        self.shared.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn not_found(name: &str) -> Error {
    Error::new(ErrorKind::NotFound, format!("get {name}: no such volume"))
}

/// `None` when there is no record.
fn read(folder: &Path) -> Result<Option<Record>> {
    let path = folder.join(RECORD);
    let text = match std::fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(disk::failed("read", &path, error)),
    };
    let broken = |error| Error::new(ErrorKind::Io, format!("{} is no volume's record", path.display())).because(error);
    serde_json::from_slice(&text).map(Some).map_err(broken)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str) -> VolumeSpec {
        VolumeSpec { name: Some(name.to_owned()), ..VolumeSpec::default() }
    }

    fn open(folder: &Path) -> Volumes {
        Volumes::open(folder, Events::default()).unwrap()
    }

    #[test]
    fn volumes_and_their_content_last_and_half_made_ones_go() {
        let folder = tempfile::tempdir().unwrap();
        let made = open(folder.path()).create(named("v1")).unwrap();
        std::fs::write(made.mountpoint.join("file"), "x").unwrap();
        std::fs::create_dir_all(folder.path().join("half").join(CONTENT)).unwrap();
        std::fs::write(folder.path().join("half").join(RECORD).with_extension(disk::UNFINISHED), "{").unwrap();
        std::fs::create_dir_all(folder.path().join(".gone-v2").join(CONTENT)).unwrap();
        let volumes = open(folder.path());
        assert_eq!(volumes.list(), [made]);
        assert_eq!(volumes.size("v1").unwrap(), 1);
        assert_eq!(disk::entries(folder.path()).unwrap(), ["v1"]);
    }

    #[test]
    fn a_volume_in_use_stays() {
        let folder = tempfile::tempdir().unwrap();
        let volumes = open(folder.path());
        volumes.hold(named("v1"), "ID").unwrap();
        let error = volumes.remove("v1", true).unwrap_err();
        assert_eq!(
            (error.kind(), error.to_string().as_str()),
            (ErrorKind::Conflict, "remove v1: volume is in use - [ID]")
        );
        volumes.release("v1", "ID");
        volumes.remove("v1", false).unwrap();
        assert_eq!(volumes.remove("v1", false).unwrap_err().to_string(), "get v1: no such volume");
        volumes.remove("v1", true).unwrap();
        assert!(volumes.create(named("../x")).is_err());
    }

    #[test]
    fn pruning_takes_anonymous_ones_unless_all() {
        let folder = tempfile::tempdir().unwrap();
        let volumes = open(folder.path());
        let anonymous = volumes.create(VolumeSpec { anonymous: true, ..VolumeSpec::default() }).unwrap();
        volumes.create(named("v1")).unwrap();
        volumes.hold(named("v2"), "ID").unwrap();
        assert_eq!(volumes.prune(&PruneFilter::default()).unwrap().removed, [anonymous.name]);
        let all = PruneFilter { all: true, ..PruneFilter::default() };
        assert_eq!(volumes.prune(&all).unwrap().removed, ["v1"]);
    }
}
