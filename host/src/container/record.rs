//! What is known of a container on disk: `containers/<id>/config.json`, written whole or not at all. Blocking.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::disk;
use super::ids;
use super::spec::{EndpointSpec, Spec};
use super::state::Status;
use crate::error::{Error, ErrorKind, Result};

/// Raised when an older host could no longer read what a newer one writes. New fields do not: they have defaults.
const VERSION: u32 = 1;

const NAME: &str = "config.json";

/// A folder that is being made.
const NEW: &str = ".new-";

/// A folder whose record cannot be read: kept for people to look at.
const UNREADABLE: &str = ".unreadable-";

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Record {
    version: u32,
    pub id: String,
    pub name: String,
    pub created: SystemTime,
    #[serde(with = "shared")]
    pub spec: Arc<Spec>,
    pub status: Status,
    /// Ran when the host was told to end, and counts as running for the next one.
    #[serde(default)]
    pub resume: bool,
    /// Somebody stopped it, which suspends its restart policy.
    #[serde(default)]
    pub by_hand: bool,
    #[serde(default)]
    pub exit_code: i32,
    #[serde(default)]
    pub out_of_memory: bool,
    #[serde(default)]
    pub error: String,
    pub started: Option<SystemTime>,
    pub finished: Option<SystemTime>,
    #[serde(default)]
    pub restart_count: u32,
    /// Networks by name: the request's, and what was connected and disconnected since.
    #[serde(default)]
    pub networks: BTreeMap<String, EndpointSpec>,
}

/// `Arc` without serde's feature for it.
mod shared {
    use std::sync::Arc;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use crate::container::spec::Spec;

    pub fn serialize<S: Serializer>(spec: &Arc<Spec>, to: S) -> Result<S::Ok, S::Error> {
        spec.as_ref().serialize(to)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Arc<Spec>, D::Error> {
        Spec::deserialize(from).map(Arc::new)
    }
}

impl Record {
    pub fn new(id: String, name: String, spec: Spec, networks: BTreeMap<String, EndpointSpec>) -> Record {
        Record {
            version: VERSION,
            id,
            name,
            created: SystemTime::now(),
            spec: Arc::new(spec),
            status: Status::Created,
            resume: false,
            by_hand: false,
            exit_code: 0,
            out_of_memory: false,
            error: String::new(),
            started: None,
            finished: None,
            restart_count: 0,
            networks,
        }
    }

    /// Replace the record in the container's folder.
    pub fn save(&self, folder: &Path) -> Result<()> {
        let text = serde_json::to_vec_pretty(self)
            .map_err(|error| Error::new(ErrorKind::Failed, "cannot write a container's record").because(error))?;
        disk::replace(&folder.join(NAME), &text)
    }

    /// Make the container's folder with its record in it: it appears whole, or not at all.
    pub fn create(&self, containers: &Path) -> Result<()> {
        let unfinished = containers.join(format!("{NEW}{}", self.id));
        let folder = containers.join(&self.id);
        let made = || -> Result<()> {
            disk::create_folder(&unfinished)?;
            self.save(&unfinished)?;
            fs::rename(&unfinished, &folder).map_err(|error| disk::failed("create", &folder, error))?;
            disk::sync_folder(containers)
        };
        made().inspect_err(|_| {
            for left in [&unfinished, &folder] {
                let _ = fs::remove_dir_all(left);
            }
        })
    }

    /// Whether it ran when the host ended, whichever way that was.
    pub fn was_running(&self) -> bool {
        self.status.is_live() || self.resume
    }
}

/// All containers of a folder, oldest first. What a crash left half-made or half-removed goes.
pub fn read_all(containers: &Path) -> Result<Vec<Record>> {
    disk::create_folder(containers)?;
    let mut records = Vec::new();
    for name in disk::entries(containers)? {
        let folder = containers.join(&name);
        if [NEW, disk::GONE].iter().any(|prefix| name.starts_with(prefix)) {
            clear(&folder);
        } else if ids::is_id(&name) {
            records.extend(read_one(containers, &name, &folder)?);
        }
    }
    records.sort_by(|one, other| (one.created, &one.id).cmp(&(other.created, &other.id)));
    Ok(records)
}

fn read_one(containers: &Path, id: &str, folder: &Path) -> Result<Option<Record>> {
    let path = folder.join(NAME);
    let text = match fs::read(&path) {
        Ok(text) if !text.is_empty() => text,
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(disk::failed("read", &path, error)),
        Ok(_) | Err(_) => {
            clear(folder);
            return Ok(None);
        }
    };
    disk::clear_unfinished(folder)?;
    match parse(&text, id) {
        Ok(record) => Ok(Some(record)),
        Err(why) => {
            let aside: PathBuf = containers.join(format!("{UNREADABLE}{id}"));
            tracing::warn!("container {} is left out, its folder is now {}: {why}", ids::short(id), aside.display());
            fs::rename(folder, &aside).map_err(|error| disk::failed("rename", folder, error))?;
            Ok(None)
        }
    }
}

fn parse(text: &[u8], id: &str) -> Result<Record, String> {
    let record: Record = serde_json::from_slice(text).map_err(|error| error.to_string())?;
    if record.version > VERSION {
        return Err(format!("its record is of version {}, this host knows up to {VERSION}", record.version));
    }
    if record.id != id {
        return Err(format!("its record is of container {}", record.id));
    }
    Ok(record)
}

fn clear(folder: &Path) {
    if let Err(error) = fs::remove_dir_all(folder) {
        tracing::warn!("cannot clear {}: {error}", folder.display());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::fixture;

    fn record(name: &str) -> Record {
        Record::new(ids::random().unwrap(), name.to_owned(), fixture::spec(), BTreeMap::new())
    }

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let mut one = record("one");
        one.restart_count = 7;
        one.started = Some(SystemTime::now());
        one.status = Status::Restarting;
        one.create(folder.path()).unwrap();
        let read = read_all(folder.path()).unwrap();
        assert_eq!(format!("{read:?}"), format!("{:?}", [&one]));
        assert!(read[0].was_running());
    }

    #[test]
    fn a_crash_at_any_byte_of_any_step_leaves_the_old_record_or_the_new() {
        let folder = tempfile::tempdir().unwrap();
        let one = record("one");
        one.create(folder.path()).unwrap();
        let home = folder.path().join(&one.id);
        let renamed = Record { name: "renamed".into(), ..one.clone() };
        let text = serde_json::to_vec_pretty(&renamed).unwrap();
        for cut in (0..text.len()).step_by(97) {
            // Killed while the new record was written beside the old.
            fs::write(home.join("config.tmp"), &text[..cut]).unwrap();
            // Killed while another container was made, and while a third was removed.
            let other = record("other");
            let unfinished = folder.path().join(format!("{NEW}{}", other.id));
            fs::create_dir(&unfinished).unwrap();
            fs::write(unfinished.join("config.tmp"), &text[..cut]).unwrap();
            let gone = folder.path().join(format!("{}{}", disk::GONE, other.id));
            fs::create_dir(&gone).unwrap();
            fs::write(gone.join(NAME), &text).unwrap();
            let names: Vec<_> = read_all(folder.path()).unwrap().into_iter().map(|record| record.name).collect();
            assert_eq!(names, ["one"], "cut at {cut}");
            assert_eq!(disk::entries(&home).unwrap(), [NAME], "cut at {cut}");
            assert_eq!(disk::entries(folder.path()).unwrap(), std::slice::from_ref(&one.id));
        }
        renamed.save(&home).unwrap();
        assert_eq!(read_all(folder.path()).unwrap()[0].name, "renamed");
    }

    #[test]
    fn what_cannot_be_read_is_put_aside_and_an_empty_folder_goes() {
        let folder = tempfile::tempdir().unwrap();
        let (newer, wrong, empty) = (record("newer"), record("wrong"), record("empty"));
        Record { version: VERSION + 1, ..newer.clone() }.create(folder.path()).unwrap();
        wrong.create(folder.path()).unwrap();
        fs::write(folder.path().join(&wrong.id).join(NAME), "{\"version\":1").unwrap();
        fs::create_dir(folder.path().join(&empty.id)).unwrap();
        assert!(read_all(folder.path()).unwrap().is_empty());
        let mut left = disk::entries(folder.path()).unwrap();
        left.sort();
        let mut expected = [newer.id, wrong.id].map(|id| format!("{UNREADABLE}{id}"));
        expected.sort();
        assert_eq!(left, expected);
    }
}
