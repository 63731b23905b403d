//! `exec`: commands beside a running container, known by ids of their own from `create` until well after they ended.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::cell::Cell;
use super::engine::{Containers, Shared};
use super::ids;
use super::runtime::{Exec, Exit, Task};
use super::snapshot::{ExecSpec, ExecState, ExecStreams};
use super::state::Verb;
use crate::error::{Error, ErrorKind, Result};

/// Clients ask for the exit code after the stream has ended; this is how long they may take.
const KEPT: Duration = Duration::from_secs(300);

/// Chunks on their way in or out.
const CHUNKS: usize = 64;

/// Execs that nobody starts are forgotten from here on, oldest first.
const MOST: usize = 4096;

#[derive(Default)]
pub struct Execs {
    table: Mutex<BTreeMap<String, Entry>>,
}

struct Entry {
    container: String,
    spec: Arc<ExecSpec>,
    created: Instant,
    phase: Phase,
    exit: watch::Sender<Option<Exit>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Waiting,
    Running,
    Ended(Instant),
}

impl Containers {
    pub async fn exec_create(&self, id: &str, spec: ExecSpec) -> Result<String> {
        let cell = self.shared.cell(id)?;
        cell.step(Verb::Exec)?;
        if spec.argv.is_empty() {
            return Err(Error::invalid("No exec command specified"));
        }
        let action = format!("exec_create: {}", spec.argv.join(" "));
        let exec = ids::random()?;
        self.shared.execs.add(&exec, &cell.id, spec);
        self.shared.tell(&cell, &action, &[("execID", exec.clone())]);
        Ok(exec)
    }

    /// `size`: columns and rows of the client's terminal; commands here do not ask for it.
    pub async fn exec_start(&self, exec: &str, _size: Option<(u16, u16)>) -> Result<ExecStreams> {
        let state = self.exec_inspect(exec)?;
        let cell = self.shared.cell(&state.container)?;
        cell.step(Verb::Exec)?;
        let task = cell.live().task.clone();
        let Some(task) = task else {
            return Err(Error::new(ErrorKind::Conflict, format!("container {} is not running", cell.id)));
        };
        self.shared.execs.begin(exec)?;
        self.shared.tell(&cell, &format!("exec_start: {}", state.spec.argv.join(" ")), &[("execID", exec.to_owned())]);
        Ok(begin(&self.shared, cell, task, exec, &state.spec))
    }

    pub fn exec_inspect(&self, exec: &str) -> Result<ExecState> {
        let table = self.shared.execs.table();
        let entry = table.get(exec).ok_or_else(|| unknown(exec))?;
        let running = entry.phase == Phase::Running;
        let exit = entry.exit.borrow().clone();
        Ok(ExecState {
            id: exec.to_owned(),
            container: entry.container.clone(),
            spec: entry.spec.clone(),
            running,
            exit,
        })
    }

    /// Accepted, as clients send it; commands here do not ask for the size.
    pub fn exec_resize(&self, exec: &str, _columns: u16, _rows: u16) -> Result<()> {
        let state = self.exec_inspect(exec)?;
        if !state.running {
            return Err(Error::new(ErrorKind::Conflict, format!("exec {exec} is not running")));
        }
        Ok(())
    }
}

fn begin(shared: &Arc<Shared>, cell: Arc<Cell>, task: Arc<dyn Task>, exec: &str, spec: &ExecSpec) -> ExecStreams {
    let (to_client, output) = mpsc::channel(CHUNKS);
    let (to_command, stdin) = mpsc::channel(CHUNKS);
    let (stdin, to_command) = if spec.attach_stdin { (Some(stdin), Some(to_command)) } else { (None, None) };
    let own = cell.spec();
    let pairs = own.environment.iter().chain(&spec.environment).filter_map(|pair| pair.split_once('='));
    let command = Exec {
        argv: spec.argv.clone(),
        environment: pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
        working_dir: spec.working_dir.clone(),
        tty: spec.tty,
        stdin,
        output: to_client,
    };
    let mut ended = shared.execs.exit_of(exec);
    let (shared, exec) = (shared.clone(), exec.to_owned());
    tokio::spawn(async move {
        let exit = tokio::select! {
            biased;
            exit = task.exec(command) => exit,
            // The container went away beneath it.
            _ = task.exited() => Exit { code: 137, ..Exit::default() },
        };
        let code = exit.code.to_string();
        shared.execs.end(&exec, exit);
        shared.tell(&cell, "exec_die", &[("execID", exec), ("exitCode", code)]);
    });
    let done = Box::pin(async move {
        let exit = ended.wait_for(Option::is_some).await.map(|exit| exit.clone());
        exit.ok().flatten().unwrap_or_default()
    });
    ExecStreams { output, stdin: to_command, done }
}

impl Execs {
    fn add(&self, exec: &str, container: &str, spec: ExecSpec) {
        let mut table = self.table();
        let now = Instant::now();
        table.retain(|_, entry| !matches!(entry.phase, Phase::Ended(end) if now - end > KEPT));
        if table.len() >= MOST {
            let waiting = table.iter().filter(|(_, entry)| entry.phase != Phase::Running);
            let oldest = waiting.min_by_key(|(_, entry)| entry.created).map(|(id, _)| id.clone());
            oldest.map(|id| table.remove(&id));
        }
        let exit = watch::Sender::new(None);
        let (container, spec, phase) = (container.to_owned(), Arc::new(spec), Phase::Waiting);
        table.insert(exec.to_owned(), Entry { container, spec, created: now, phase, exit });
    }

    fn begin(&self, exec: &str) -> Result<()> {
        let mut table = self.table();
        let entry = table.get_mut(exec).ok_or_else(|| unknown(exec))?;
        let refused = match entry.phase {
            Phase::Waiting => {
                entry.phase = Phase::Running;
                return Ok(());
            }
            Phase::Running => format!("exec command {exec} is already running"),
            Phase::Ended(_) => format!("exec command {exec} has already run"),
        };
        Err(Error::new(ErrorKind::Conflict, refused))
    }

    fn end(&self, exec: &str, exit: Exit) {
        if let Some(entry) = self.table().get_mut(exec) {
            entry.phase = Phase::Ended(Instant::now());
            entry.exit.send_replace(Some(exit));
        }
    }

    fn exit_of(&self, exec: &str) -> watch::Receiver<Option<Exit>> {
        match self.table().get(exec) {
            Some(entry) => entry.exit.subscribe(),
            // Its container was removed just now: the receiver ends at once.
            None => watch::channel(None).1,
        }
    }

    /// Of a container, oldest first.
    pub fn of(&self, container: &str) -> Vec<String> {
        let table = self.table();
        let mut own: Vec<_> = table.iter().filter(|(_, entry)| entry.container == container).collect();
        own.retain(|(_, entry)| entry.phase == Phase::Running);
        own.sort_by_key(|(_, entry)| entry.created);
        own.into_iter().map(|(id, _)| id.clone()).collect()
    }

    /// What was never started cannot be any more: it was meant for the run that ended.
    pub fn container_ended(&self, container: &str) {
        self.table().retain(|_, entry| entry.container != container || entry.phase != Phase::Waiting);
    }

    pub fn forget(&self, container: &str) {
        self.table().retain(|_, entry| entry.container != container);
    }

    fn table(&self) -> MutexGuard<'_, BTreeMap<String, Entry>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn unknown(exec: &str) -> Error {
    Error::new(ErrorKind::NotFound, format!("No such exec instance: {exec}"))
}
