//! `rm` and `container prune`.

use std::sync::Arc;
use std::time::Duration;

use super::cell::{Cell, blocking};
use super::create::release;
use super::disk;
use super::engine::{Containers, Shared, unbroken};
use super::signal;
use super::snapshot::{PruneFilter, Pruned};
use super::state::{Status, Verb};
use crate::error::{Error, ErrorKind, Result};

impl Containers {
    /// `force` ends it first; `volumes` takes the volumes along that were made for it alone.
    pub async fn remove(&self, id: &str, force: bool, volumes: bool) -> Result<()> {
        let (shared, cell) = self.lookup(id)?;
        unbroken(async move { shared.remove(&cell, force, volumes).await }).await
    }

    /// All that do not run.
    pub async fn prune(&self, filter: &PruneFilter) -> Result<Pruned> {
        let mut pruned = Pruned::default();
        for cell in self.shared.by_age() {
            let (status, admitted) = {
                let record = &cell.live().record;
                (record.status, filter.admits(record.created, &record.spec.labels))
            };
            if !admitted || !matches!(status, Status::Created | Status::Exited | Status::Dead) {
                continue;
            }
            let folder = cell.folder.clone();
            let size = blocking(move || Ok(disk::size(&folder))).await?;
            match self.remove(&cell.id, false, false).await {
                Ok(()) => {
                    pruned.removed.push(cell.id.clone());
                    pruned.reclaimed += size;
                }
                // Started or removed meanwhile.
                Err(error) => tracing::debug!("container {} is left: {error}", cell.name()),
            }
        }
        Ok(pruned)
    }
}

impl Shared {
    async fn remove(self: &Arc<Self>, cell: &Arc<Cell>, force: bool, volumes: bool) -> Result<()> {
        let mut progress = cell.progress.subscribe();
        let exits = {
            let _gate = cell.gate.lock().await;
            if progress.borrow_and_update().removed {
                return Err(gone(cell));
            }
            cell.step(Verb::Remove { force })?;
            let has_task = {
                let mut live = cell.live();
                live.record.by_hand = true;
                live.record.status = Status::Removing;
                live.task.is_some()
            };
            if !has_task {
                return self.erase(cell, volumes).await;
            }
            self.tell(cell, "kill", &[("signal", signal::KILL.number().to_string())]);
            self.wind_down(cell, Some(Duration::ZERO), signal::KILL.exit_code());
            progress.borrow().exits
        };
        // From here on nobody else acts: the state refuses every verb.
        let _ = progress.wait_for(|progress| progress.exits > exits).await;
        let _gate = cell.gate.lock().await;
        self.erase(cell, volumes).await
    }

    /// The caller holds the gate, and the state is `Removing`. If the disk does not let go, it is `Dead` and can be
    /// removed again.
    pub async fn erase(self: &Arc<Self>, cell: &Arc<Cell>, volumes: bool) -> Result<()> {
        let folder = cell.folder.clone();
        if let Some(journal) = cell.feed.journal() {
            journal.close();
        }
        if let Err(error) = blocking(move || disk::remove_folder(&folder)).await {
            cell.live().record.status = Status::Dead;
            cell.progress.send_modify(|progress| progress.live = false);
            return Err(error);
        }
        let (shared, own) = (self.clone(), cell.clone());
        let released = blocking(move || {
            for mount in &own.spec().mounts {
                release(&shared, &own.id, mount, volumes);
            }
            Ok(())
        });
        released.await?;
        self.table().remove(&cell.id, &cell.name());
        self.execs.forget(&cell.id);
        self.tell(cell, "destroy", &[]);
        cell.feed.detach_all();
        cell.alive.send_replace(false);
        cell.progress.send_modify(|progress| {
            progress.live = false;
            progress.removed = true;
        });
        Ok(())
    }
}

fn gone(cell: &Cell) -> Error {
    Error::new(ErrorKind::NotFound, format!("No such container: {}", cell.id))
}
