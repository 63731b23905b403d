//! The way in: all containers of a host, and what they share. Verbs are in files of their own beside this one; each
//! looks its container up, takes its gate, asks [`state`](super::state), acts, and writes the record.

use std::future::Future;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::cell::Cell;
use super::events::{Event, EventKind, Events};
use super::exec::Execs;
use super::logs::writer::LogWriter;
use super::networks::Networks;
use super::record::{self, Record};
use super::runtime::{Runtime, Usage};
use super::snapshot::Snapshot;
use super::spec::{MountKind, Spec};
use super::state::Status;
use super::table::Table;
use super::volumes::{VolumeSpec, Volumes};
use super::{ids, restart, supervisor};
use crate::error::{Error, ErrorKind, Result};
use crate::image::{Digest, Images, Use};

/// Containers started at once when the host starts; each start may load models.
const STARTING_AT_ONCE: usize = 16;

/// What Docker shows for a container whose host was killed.
const LOST: i32 = 255;

#[derive(Clone, Debug)]
pub struct Options {
    /// `containers/`, `networks/` and `volumes/` are below it.
    pub data: PathBuf,
    /// What `stop` gives a container to end by itself, when nobody said.
    pub stop_timeout: Duration,
}

impl Options {
    pub fn new(data: PathBuf) -> Options {
        Options { data, stop_timeout: Duration::from_secs(10) }
    }
}

/// All containers of a host. Cloning gives another handle on the same.
#[derive(Clone)]
pub struct Containers {
    pub(super) shared: Arc<Shared>,
}

pub struct Shared {
    pub folder: PathBuf,
    pub stop_timeout: Duration,
    pub images: Images,
    pub runtime: Arc<dyn Runtime>,
    pub events: Events,
    pub networks: Networks,
    pub volumes: Volumes,
    pub execs: Execs,
    pub writer: LogWriter,
    table: Mutex<Table>,
    closing: AtomicBool,
}

impl Containers {
    /// Reads what is on disk; starts nothing. Blocking.
    pub fn open(options: Options, images: Images, runtime: Arc<dyn Runtime>) -> Result<Containers> {
        let events = Events::default();
        let networks = Networks::open(&options.data.join("networks"), events.clone())?;
        let volumes = Volumes::open(&options.data.join("volumes"), events.clone())?;
        let shared = Shared {
            folder: options.data.join("containers"),
            stop_timeout: options.stop_timeout,
            images,
            runtime,
            events,
            networks,
            volumes,
            execs: Execs::default(),
            writer: LogWriter::start()?,
            table: Mutex::default(),
            closing: AtomicBool::new(false),
        };
        for record in record::read_all(&shared.folder)? {
            shared.adopt(record)?;
        }
        Ok(Containers { shared: Arc::new(shared) })
    }

    /// Start what ran, or should always run. Returns when each was tried once; what failed is tried again by its
    /// policy.
    pub async fn restore(&self) {
        let places = Arc::new(Semaphore::new(STARTING_AT_ONCE));
        let mut starts = JoinSet::new();
        for cell in self.shared.by_age() {
            let (shared, places) = (self.shared.clone(), places.clone());
            starts.spawn(async move {
                // The semaphore is never closed.
                let _place = places.acquire().await;
                supervisor::restore(shared, cell).await;
            });
        }
        while starts.join_next().await.is_some() {}
    }

    /// Stop everything; the records say what ran, for [`Containers::restore`] of the next host.
    pub async fn shutdown(&self, grace: Duration) {
        self.shared.closing.store(true, Ordering::SeqCst);
        let mut stops = JoinSet::new();
        for cell in self.shared.by_age() {
            let shared = self.shared.clone();
            stops.spawn(async move { shared.suspend(&cell, grace).await });
        }
        while stops.join_next().await.is_some() {}
    }

    pub fn find(&self, id: &str) -> Result<Snapshot> {
        let cell = self.shared.cell(id)?;
        Ok(self.shared.snapshot(&cell))
    }

    /// Newest first, in every state.
    pub fn list(&self) -> Vec<Snapshot> {
        self.shared.by_age().iter().rev().map(|cell| self.shared.snapshot(cell)).collect()
    }

    /// `None` when it does not run.
    pub async fn usage(&self, id: &str) -> Result<Option<Usage>> {
        let task = self.shared.cell(id)?.live().task.clone();
        Ok(task.map(|task| task.usage()))
    }

    pub fn use_of(&self, image: &Digest) -> Use {
        let mut found = Use::None;
        for cell in self.shared.by_age() {
            let live = cell.live();
            if live.record.spec.image_id == *image {
                if live.record.status.is_live() {
                    return Use::Running(cell.id.clone());
                }
                found = Use::Stopped(cell.id.clone());
            }
        }
        found
    }

    pub fn uses(&self, image: &Digest) -> bool {
        !matches!(self.use_of(image), Use::None)
    }

    pub fn events(&self) -> &Events {
        &self.shared.events
    }

    pub fn networks(&self) -> &Networks {
        &self.shared.networks
    }

    pub fn volumes(&self) -> &Volumes {
        &self.shared.volumes
    }
}

impl Shared {
    /// A container found on disk.
    fn adopt(&self, mut record: Record) -> Result<()> {
        let mut table = self.table();
        if let Err(error) = table.reserve(Some(&record.name), &record.id, || 0) {
            // Nobody's fault that we know of, and no reason to lose it.
            record.name = format!("{}-{}", record.name, ids::short(&record.id));
            tracing::warn!("a container is now called {}: {error}", record.name);
            table.reserve(Some(&record.name), &record.id, || 0)?;
        }
        if record.status.is_live() {
            // Running when the host was killed. `resume` keeps that for `restore`.
            record.status = Status::Exited;
            record.resume = true;
            record.exit_code = LOST;
            record.finished = Some(SystemTime::now());
        } else if record.status == Status::Removing {
            record.status = Status::Dead;
        }
        for mount in record.spec.mounts.iter().filter(|mount| mount.kind == MountKind::Volume) {
            let (name, anonymous) = (Some(mount.source.clone()), mount.anonymous);
            self.volumes.hold(VolumeSpec { name, anonymous, ..VolumeSpec::default() }, &record.id)?;
        }
        table.insert(Cell::new(&self.folder, record, self.writer.queue()));
        Ok(())
    }

    pub fn cell(&self, id: &str) -> Result<Arc<Cell>> {
        self.table().find(id)
    }

    /// Oldest first.
    pub fn by_age(&self) -> Vec<Arc<Cell>> {
        let mut cells = self.table().all();
        cells.sort_by_cached_key(|cell| (cell.live().record.created, cell.id.clone()));
        cells
    }

    pub fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn snapshot(&self, cell: &Cell) -> Snapshot {
        cell.snapshot(&self.volumes, self.execs.of(&cell.id))
    }

    pub fn is_closing(&self) -> bool {
        self.closing.load(Ordering::SeqCst)
    }

    pub fn check_open(&self) -> Result<()> {
        if self.is_closing() {
            return Err(Error::new(ErrorKind::Unavailable, "the host is stopping: start it again first"));
        }
        Ok(())
    }

    /// Whether the policy brings this container back now that the host starts.
    pub fn wants_restore(&self, cell: &Cell) -> bool {
        let live = cell.live();
        let record = &live.record;
        !record.spec.auto_remove
            && restart::on_boot(record.spec.restart, record.was_running(), record.by_hand, record.started.is_some())
    }

    /// Tell the world what a container did; Docker's events carry its image, name and labels.
    pub fn tell(&self, cell: &Cell, action: &str, more: &[(&str, String)]) {
        let (name, spec): (String, Arc<Spec>) = {
            let live = cell.live();
            (live.record.name.clone(), live.record.spec.clone())
        };
        let mut event = Event::new(EventKind::Container, action, &cell.id);
        event.attributes.extend(spec.labels.clone());
        event = event.with("image", &spec.image).with("name", name);
        for (key, value) in more {
            event = event.with(key, value);
        }
        self.events.publish(event);
    }
}

/// Finish what was begun, even if the client that asked for it goes away.
pub async fn unbroken<T: Send + 'static>(work: impl Future<Output = Result<T>> + Send + 'static) -> Result<T> {
    let done = tokio::spawn(work).await;
    done.unwrap_or_else(|error| Err(Error::new(ErrorKind::Failed, "the request ended unexpectedly").because(error)))
}
