//! One container in memory: its record, its run, and what others wait for. The inner lock is held for moments only,
//! never over an await; the gate serialises verbs and the end of runs, and is never held while a container winds down.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::health::Tracker;
use super::logs::attributes;
use super::logs::feed::Feed;
use super::logs::file::Rotation;
use super::logs::journal::Journal;
use super::logs::writer::Queue;
use super::record::Record;
use super::runtime::{Exit, Kind, Task};
use super::snapshot::{Endpoint, ResolvedMount, Snapshot};
use super::spec::{MountKind, Spec};
use super::state::{Names, Status, Step, Verb, step};
use super::volumes::Volumes;
use crate::error::{Error, ErrorKind, Result};

/// Chunks of stdin on their way in.
const STDIN: usize = 16;

pub struct Cell {
    pub id: String,
    pub folder: PathBuf,
    pub feed: Arc<Feed>,
    /// Whoever changes the container's state holds it. Starting is within, ending is not.
    pub gate: tokio::sync::Mutex<()>,
    live: Mutex<Live>,
    pub progress: watch::Sender<Progress>,
    /// Whether more lines may come: readers that follow end when not.
    pub alive: watch::Sender<bool>,
}

/// What `wait` and the verbs wait for.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    /// Times it has ended, failed starts included.
    pub exits: u64,
    pub exit: Exit,
    pub live: bool,
    pub removed: bool,
}

pub struct Live {
    pub record: Record,
    pub task: Option<Arc<dyn Task>>,
    /// Counts starts, so that what belongs to an earlier run is told apart.
    pub run: u64,
    pub since: Option<Instant>,
    pub kind: Option<Kind>,
    pub models: Vec<String>,
    pub tracker: Option<Tracker>,
    pub endpoints: BTreeMap<String, Endpoint>,
    /// It is about to be started again by hand: `--rm` has to wait.
    pub keep: bool,
    stdin: Stdin,
}

/// The pipe into the container's next or present run.
#[derive(Default)]
struct Stdin {
    sender: Option<mpsc::Sender<Bytes>>,
    receiver: Option<mpsc::Receiver<Bytes>>,
    made: bool,
}

impl Stdin {
    fn make(&mut self) {
        if !self.made {
            let (sender, receiver) = mpsc::channel(STDIN);
            *self = Stdin { sender: Some(sender), receiver: Some(receiver), made: true };
        }
    }
}

impl Cell {
    pub fn new(containers: &Path, record: Record, queue: Queue) -> Arc<Cell> {
        let folder = containers.join(&record.id);
        let journal = (record.spec.log.driver != "none").then(|| Arc::new(journal(&folder, &record)));
        let exit = Exit { code: record.exit_code, out_of_memory: record.out_of_memory, error: record.error.clone() };
        Arc::new(Cell {
            id: record.id.clone(),
            folder,
            feed: Feed::new(journal, queue),
            gate: tokio::sync::Mutex::default(),
            progress: watch::Sender::new(Progress { exit, ..Progress::default() }),
            alive: watch::Sender::new(false),
            live: Mutex::new(Live {
                record,
                task: None,
                run: 0,
                since: None,
                kind: None,
                models: Vec::new(),
                tracker: None,
                endpoints: BTreeMap::new(),
                keep: false,
                stdin: Stdin::default(),
            }),
        })
    }

    pub fn live(&self) -> MutexGuard<'_, Live> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn status(&self) -> Status {
        self.live().record.status
    }

    pub fn name(&self) -> String {
        self.live().record.name.clone()
    }

    pub fn spec(&self) -> Arc<Spec> {
        self.live().record.spec.clone()
    }

    /// What a verb leads to now. Only who holds the gate may act on it.
    pub fn step(&self, verb: Verb) -> Result<Step> {
        let live = self.live();
        step(live.record.status, verb, Names { id: &self.id, name: &live.record.name })
    }

    /// Write the record. The caller holds the gate, so that the last state is the last written.
    pub async fn save(&self) -> Result<()> {
        let (record, folder) = (self.live().record.clone(), self.folder.clone());
        blocking(move || record.save(&folder)).await
    }

    /// Where failing to write must not change what happens to a container: it runs on with the older record.
    pub async fn save_or_warn(&self) {
        if let Err(error) = self.save().await {
            tracing::warn!("the record of container {} is out of date: {}", self.name(), error.chain());
        }
    }

    /// A sender into the container; `None` unless it was made with `-i`, or somebody else has its only stdin.
    pub fn stdin(&self) -> Option<mpsc::Sender<Bytes>> {
        let mut live = self.live();
        if !live.record.spec.open_stdin {
            return None;
        }
        live.stdin.make();
        // With `StdinOnce` the first client's end is the container's end of input.
        if live.record.spec.stdin_once { live.stdin.sender.take() } else { live.stdin.sender.clone() }
    }

    /// The other end, for a run.
    pub fn take_stdin(&self) -> Option<mpsc::Receiver<Bytes>> {
        let mut live = self.live();
        if !live.record.spec.open_stdin {
            return None;
        }
        live.stdin.make();
        live.stdin.receiver.take()
    }

    /// A run begins: its lines carry the name that the container has now.
    pub fn mark_log(&self) {
        let Some(journal) = self.feed.journal() else { return };
        let (spec, name) = (self.spec(), self.name());
        journal.set_attrs(attributes::of(&spec, &self.id, &name));
    }

    /// The run is over, or failed to begin: clients see the end, the log is closed, and the next run has a new stdin.
    pub fn disconnect(&self) {
        self.feed.detach_all();
        self.live().stdin = Stdin::default();
        if let Some(journal) = self.feed.journal() {
            journal.close();
        }
    }

    pub fn snapshot(&self, volumes: &Volumes, execs: Vec<String>) -> Snapshot {
        let live = self.live();
        let record = &live.record;
        let placed = |name: &String| live.endpoints.get(name).cloned();
        let endpoints = record.networks.iter().map(|(name, spec)| {
            let unplaced = || Endpoint { aliases: spec.aliases.clone(), ..Endpoint::default() };
            (name.clone(), placed(name).unwrap_or_else(unplaced))
        });
        Snapshot {
            id: self.id.clone(),
            name: record.name.clone(),
            created: record.created,
            spec: record.spec.clone(),
            status: record.status,
            exit: Exit { code: record.exit_code, out_of_memory: record.out_of_memory, error: record.error.clone() },
            started: record.started,
            finished: record.finished,
            restart_count: record.restart_count,
            health: live.tracker.as_ref().map(Tracker::report),
            ports: live.task.as_ref().map(|task| task.ports()).unwrap_or_default(),
            endpoints: endpoints.collect(),
            kind: live.kind,
            models: live.models.clone(),
            devices: live.task.as_ref().map(|task| task.devices()).unwrap_or_default(),
            log_path: log_path(&self.folder, &self.id),
            mounts: self.mounts(&record.spec, volumes),
            error: record.error.clone(),
            execs,
        }
    }

    /// Where each mount lies on this machine.
    pub fn mounts(&self, spec: &Spec, volumes: &Volumes) -> Vec<ResolvedMount> {
        let resolve = |(number, mount): (usize, &super::spec::MountSpec)| ResolvedMount {
            kind: mount.kind,
            volume: (mount.kind == MountKind::Volume).then(|| mount.source.clone()),
            source: match mount.kind {
                MountKind::Bind => PathBuf::from(&mount.source),
                MountKind::Volume => volumes.content(&mount.source),
                MountKind::Tmpfs => self.folder.join("tmpfs").join(number.to_string()),
            },
            target: mount.target.clone(),
            read_only: mount.read_only,
        };
        spec.mounts.iter().enumerate().map(resolve).collect()
    }
}

fn journal(folder: &Path, record: &Record) -> Journal {
    let (spec, log) = (&record.spec, &record.spec.log);
    let rotation = Rotation {
        max_size: log.max_size.filter(|size| *size > 0),
        max_file: log.max_file.max(1),
        compress: log.compresses(),
    };
    Journal::new(log_path(folder, &record.id), rotation, attributes::of(spec, &record.id, &record.name))
}

fn log_path(folder: &Path, id: &str) -> PathBuf {
    folder.join(format!("{id}-json.log"))
}

/// Run what waits for the disk where it may.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(
        |error| Err(Error::new(ErrorKind::Failed, "work on the disk ended unexpectedly").because(error)),
    )
}
