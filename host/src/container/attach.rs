//! `logs` and `attach`.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc;

use super::cell::Cell;
use super::engine::Containers;
use super::logs::{LogQuery, LogReader};
use super::runtime::Stream;
use super::snapshot::{AttachQuery, Attached};
use super::state::Status;
use crate::error::{Error, ErrorKind, Result};

/// Lines on their way from the log to a client.
const REPLAYED: usize = 64;

impl Containers {
    pub async fn logs(&self, id: &str, query: LogQuery) -> Result<LogReader> {
        let cell = self.shared.cell(id)?;
        LogReader::open(&cell.feed, cell.alive.subscribe(), query).await
    }

    /// Everything written after this returns arrives, so a client that attaches before `start` misses nothing. Ends
    /// when the container does.
    pub async fn attach(&self, id: &str, query: AttachQuery) -> Result<Attached> {
        let cell = self.shared.cell(id)?;
        match cell.status() {
            Status::Paused => {
                let message = format!("container {} is paused, unpause the container before attach", cell.id);
                return Err(Error::new(ErrorKind::Conflict, message));
            }
            Status::Restarting => {
                let message = format!("container {} is restarting, wait until the container is running", cell.id);
                return Err(Error::new(ErrorKind::Conflict, message));
            }
            _ => {}
        }
        let output = if query.logs { replay(&cell, query).await? } else { live(&cell, query) };
        let stdin = if query.stdin && query.stream { cell.stdin() } else { None };
        self.shared.tell(&cell, "attach", &[]);
        Ok(Attached { output, stdin })
    }
}

fn live(cell: &Cell, query: AttachQuery) -> mpsc::Receiver<(Stream, Bytes)> {
    if !query.stream {
        return mpsc::channel(1).1;
    }
    cell.feed.attach(query.stdout, query.stderr)
}

/// What was written comes from the log, and so does what follows: one source, so that no line comes twice or not at
/// all.
async fn replay(cell: &Arc<Cell>, query: AttachQuery) -> Result<mpsc::Receiver<(Stream, Bytes)>> {
    let is_live = cell.status().is_live();
    if cell.feed.journal().is_none() {
        return Ok(live(cell, query));
    }
    // Before a start there is nothing to follow yet, and what was written by earlier runs is replayed ahead of the live
    // lines.
    let next = (query.stream && !is_live).then(|| cell.feed.attach(query.stdout, query.stderr));
    let (stdout, stderr) = (query.stdout, query.stderr);
    let logs = LogQuery { follow: query.stream && is_live, stdout, stderr, ..LogQuery::default() };
    let mut reader = LogReader::open(&cell.feed, cell.alive.subscribe(), logs).await?;
    let (lines, output) = mpsc::channel(REPLAYED);
    tokio::spawn(async move {
        while let Some(entry) = reader.next().await {
            if lines.send((entry.stream, entry.text)).await.is_err() {
                return;
            }
        }
        let Some(mut next) = next else { return };
        while let Some(line) = next.recv().await {
            if lines.send(line).await.is_err() {
                return;
            }
        }
    });
    Ok(output)
}
