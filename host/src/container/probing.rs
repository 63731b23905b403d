//! Runs the health checks of one run of a container, until it ends.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::time::{Instant, sleep, timeout};

use super::cell::Cell;
use super::engine::Shared;
use super::health;
use super::runtime::{Probe, ProbeResult, Task};
use super::snapshot::ProbeRecord;
use super::spec::Healthcheck;
use super::state::Status;

pub async fn watch(shared: Arc<Shared>, cell: Arc<Cell>, task: Arc<dyn Task>, probe: Probe, check: Healthcheck) {
    let ended = task.exited();
    tokio::select! {
        _ = ended => {}
        () = check_for_ever(&shared, &cell, &task, &probe, &check) => {}
    }
}

async fn check_for_ever(shared: &Shared, cell: &Cell, task: &Arc<dyn Task>, probe: &Probe, check: &Healthcheck) {
    let begin = Instant::now();
    loop {
        let wait = cell.live().tracker.as_ref().map(|tracker| tracker.wait(check, begin.elapsed()));
        sleep(wait.unwrap_or(check.interval)).await;
        if cell.status() == Status::Paused {
            continue;
        }
        let start = SystemTime::now();
        let result = health::shorten(run(task, probe, check.timeout).await);
        let record = ProbeRecord { start, end: SystemTime::now(), code: result.code, output: result.output };
        let changed = {
            let mut live = cell.live();
            // A check that ends late says nothing about the next run.
            if !live.task.as_ref().is_some_and(|current| Arc::ptr_eq(current, task)) {
                return;
            }
            live.tracker.as_mut().and_then(|tracker| tracker.record(check, begin.elapsed(), record))
        };
        if let Some(status) = changed {
            shared.tell(cell, &format!("health_status: {}", health::word(status)), &[]);
        }
    }
}

async fn run(task: &Arc<dyn Task>, probe: &Probe, limit: Duration) -> ProbeResult {
    match timeout(limit, task.probe(probe.clone(), limit)).await {
        Ok(result) => result,
        Err(_) => ProbeResult { code: -1, output: format!("Health check exceeded timeout ({limit:?})") },
    }
}
