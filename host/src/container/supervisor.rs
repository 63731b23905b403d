//! Watches a container's runs: what it ended with, whether its policy starts it again and when, and whether it goes
//! away with its end (`--rm`).

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::cell::Cell;
use super::engine::Shared;
use super::launch::Run;
use super::restart::{BackOff, again};
use super::runtime::Exit;
use super::state::Status;
use crate::error::Error;

/// From its start to its last end. One such task per running container.
pub fn watch(shared: Arc<Shared>, cell: Arc<Cell>, run: Run) {
    tokio::spawn(supervise(shared, cell, run, BackOff::default()));
}

async fn supervise(shared: Arc<Shared>, cell: Arc<Cell>, mut run: Run, mut back_off: BackOff) {
    loop {
        let exit = run.task.exited().await;
        let Some(wait) = shared.ended(&cell, &run, exit, &mut back_off).await else { return };
        match start_again(&shared, &cell, wait, &mut back_off).await {
            Some(next) => run = next,
            None => return,
        }
    }
}

/// Until a start succeeds, or the policy or somebody ends it.
async fn start_again(shared: &Arc<Shared>, cell: &Arc<Cell>, wait: Duration, back_off: &mut BackOff) -> Option<Run> {
    let number = cell.live().run;
    let mut wait = wait;
    loop {
        let mut progress = cell.progress.subscribe();
        let cancelled = progress.wait_for(|progress| !progress.live);
        if tokio::time::timeout(wait, cancelled).await.is_ok() {
            return None;
        }
        let _gate = cell.gate.lock().await;
        {
            let mut live = cell.live();
            if live.record.status != Status::Restarting || live.run != number || shared.is_closing() {
                return None;
            }
            live.record.restart_count += 1;
        }
        match shared.launch(cell).await {
            Ok(run) => return Some(run),
            Err(error) => wait = shared.failed(cell, &error, back_off).await?,
        }
    }
}

/// At the start of the host: bring it back if its policy says so, or clear it away if it should not have outlived its
/// run.
pub async fn restore(shared: Arc<Shared>, cell: Arc<Cell>) {
    let _gate = cell.gate.lock().await;
    if cell.status() == Status::Dead || is_left_over(&cell) {
        cell.live().record.status = Status::Removing;
        if let Err(error) = shared.erase(&cell, true).await {
            tracing::warn!("cannot remove container {}: {}", cell.name(), error.chain());
        }
        return;
    }
    if cell.status() != Status::Exited && cell.status() != Status::Created || !shared.wants_restore(&cell) {
        return;
    }
    let mut back_off = BackOff::default();
    match shared.launch(&cell).await {
        Ok(run) => {
            cell.live().record.by_hand = false;
            drop(tokio::spawn(supervise(shared.clone(), cell.clone(), run, back_off)));
        }
        Err(error) => {
            tracing::warn!("cannot bring back container {}: {}", cell.name(), error.chain());
            let Some(wait) = shared.failed(&cell, &error, &mut back_off).await else { return };
            let (shared, cell) = (shared.clone(), cell.clone());
            tokio::spawn(async move {
                if let Some(run) = start_again(&shared, &cell, wait, &mut back_off).await {
                    supervise(shared, cell, run, back_off).await;
                }
            });
        }
    }
}

/// `--rm`, and its run ended with the host.
fn is_left_over(cell: &Cell) -> bool {
    let live = cell.live();
    live.record.spec.auto_remove && live.record.started.is_some() && !live.record.status.is_live()
}

impl Shared {
    /// A run ended. How long to wait for the next, if there is to be one.
    async fn ended(
        self: &Arc<Self>,
        cell: &Arc<Cell>,
        run: &Run,
        exit: Exit,
        back_off: &mut BackOff,
    ) -> Option<Duration> {
        let _gate = cell.gate.lock().await;
        // Whoever waits for the end finds the whole output in the log.
        cell.feed.flushed().await;
        let up = cell.live().since.map(|since| since.elapsed()).unwrap_or_default();
        let status = self.note_end(cell, run, &exit)?;
        if exit.out_of_memory {
            self.tell(cell, "oom", &[]);
        }
        let duration = up.as_secs().to_string();
        self.tell(cell, "die", &[("exitCode", exit.code.to_string()), ("execDuration", duration)]);
        self.leave_all(cell);
        self.execs.container_ended(&cell.id);
        cell.disconnect();
        cell.save_or_warn().await;
        let goes = status == Status::Exited && {
            let live = cell.live();
            live.record.spec.auto_remove && !live.keep
        };
        cell.alive.send_replace(status == Status::Restarting);
        cell.progress.send_modify(|progress| {
            progress.exits += 1;
            progress.exit = exit;
            progress.live = status == Status::Restarting;
        });
        if goes {
            cell.live().record.status = Status::Removing;
            if let Err(error) = self.erase(cell, true).await {
                tracing::warn!("cannot remove container {}: {}", cell.name(), error.chain());
            }
        }
        (status == Status::Restarting).then(|| back_off.next(up))
    }

    /// The record of an ended run; the new status. `None` if it was another run's end.
    fn note_end(&self, cell: &Cell, run: &Run, exit: &Exit) -> Option<Status> {
        let mut live = cell.live();
        if live.run != run.number || live.task.is_none() {
            return None;
        }
        live.task = None;
        live.since = None;
        let keep = live.keep;
        let record = &mut live.record;
        record.exit_code = exit.code;
        record.out_of_memory = exit.out_of_memory;
        record.error.clone_from(&exit.error);
        record.finished = Some(SystemTime::now());
        record.resume = self.is_closing() && !record.by_hand;
        record.status = match record.status {
            Status::Removing => Status::Removing,
            _ if self.is_closing() || record.by_hand || keep => Status::Exited,
            _ if again(record.spec.restart, exit.code, record.restart_count) => Status::Restarting,
            _ => Status::Exited,
        };
        Some(record.status)
    }

    /// A start by policy failed, which counts as an end. How long to wait for the next.
    async fn failed(&self, cell: &Cell, error: &Error, back_off: &mut BackOff) -> Option<Duration> {
        let goes_on = {
            let live = cell.live();
            again(live.record.spec.restart, 128, live.record.restart_count)
        };
        let status = if goes_on { Status::Restarting } else { Status::Exited };
        self.note_failure(cell, error, status).await;
        goes_on.then(|| back_off.next(Duration::ZERO))
    }
}
