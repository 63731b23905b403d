//! Start, stop, restart, kill, pause, unpause, rename, update.

use std::sync::Arc;
use std::time::Duration;

use super::cell::Cell;
use super::engine::{Containers, Shared, unbroken};
use super::signal::{self, Signal};
use super::snapshot::{Changed, Update};
use super::spec::RestartPolicy;
use super::state::{Status, Step, Verb};
use super::supervisor;
use crate::error::{Error, ErrorKind, Result};

impl Containers {
    pub async fn start(&self, id: &str) -> Result<Changed> {
        let (shared, cell) = self.lookup(id)?;
        unbroken(async move {
            let _gate = cell.gate.lock().await;
            shared.start(&cell).await
        })
        .await
    }

    /// Returns when it is down. `timeout` in seconds; negative waits for ever, `None` is the container's own.
    pub async fn stop(&self, id: &str, timeout: Option<i64>, signal: Option<&str>) -> Result<Changed> {
        let (shared, cell) = self.lookup(id)?;
        let signal = parse(signal)?;
        unbroken(async move { shared.stop(&cell, timeout, signal, Reason::ByHand).await }).await
    }

    pub async fn restart(&self, id: &str, timeout: Option<i64>) -> Result<()> {
        let (shared, cell) = self.lookup(id)?;
        unbroken(async move {
            cell.step(Verb::Restart)?;
            shared.stop(&cell, timeout, None, Reason::Restart).await?;
            let _gate = cell.gate.lock().await;
            cell.live().keep = false;
            shared.start(&cell).await?;
            shared.tell(&cell, "restart", &[]);
            Ok(())
        })
        .await
    }

    /// Signals that end nothing are accepted and ignored: a component could not receive them.
    pub async fn kill(&self, id: &str, signal: &str) -> Result<()> {
        let (shared, cell) = self.lookup(id)?;
        let signal = signal.to_owned();
        unbroken(async move { shared.kill(&cell, &signal).await }).await
    }

    pub async fn pause(&self, id: &str) -> Result<()> {
        self.stand_still(id, Verb::Pause, "pause").await
    }

    pub async fn unpause(&self, id: &str) -> Result<()> {
        self.stand_still(id, Verb::Unpause, "unpause").await
    }

    async fn stand_still(&self, id: &str, verb: Verb, action: &'static str) -> Result<()> {
        let (shared, cell) = self.lookup(id)?;
        unbroken(async move {
            let _gate = cell.gate.lock().await;
            let Step::To(status) = cell.step(verb)? else { return Ok(()) };
            {
                let mut live = cell.live();
                let Some(task) = live.task.clone() else { return Ok(()) };
                if status == Status::Paused {
                    task.pause()
                } else {
                    task.unpause()
                }
                live.record.status = status;
            }
            cell.save_or_warn().await;
            shared.tell(&cell, action, &[]);
            Ok(())
        })
        .await
    }

    pub async fn rename(&self, id: &str, new: &str) -> Result<()> {
        let (shared, cell) = self.lookup(id)?;
        let new = new.to_owned();
        unbroken(async move { shared.rename(&cell, &new).await }).await
    }

    pub async fn update(&self, id: &str, update: Update) -> Result<()> {
        let (shared, cell) = self.lookup(id)?;
        unbroken(async move { shared.update(&cell, update).await }).await
    }

    pub(super) fn lookup(&self, id: &str) -> Result<(Arc<Shared>, Arc<Cell>)> {
        Ok((self.shared.clone(), self.shared.cell(id)?))
    }
}

/// Why it is stopped, which decides what happens then.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// Suspends the restart policy.
    ByHand,
    /// To be started again at once: `--rm` does not apply.
    Restart,
}

impl Shared {
    /// The caller holds the gate.
    async fn start(self: &Arc<Self>, cell: &Arc<Cell>) -> Result<Changed> {
        self.check_open()?;
        let Step::To(_) = cell.step(Verb::Start)? else { return Ok(Changed::No) };
        let before = {
            let mut live = cell.live();
            live.record.by_hand = false;
            live.record.restart_count = 0;
            live.record.status
        };
        match self.launch(cell).await {
            Ok(run) => {
                supervisor::watch(self.clone(), cell.clone(), run);
                Ok(Changed::Yes)
            }
            Err(error) => {
                self.note_failure(cell, &error, before).await;
                if cell.spec().auto_remove {
                    cell.live().record.status = Status::Removing;
                    self.erase(cell, true).await?;
                }
                Err(error)
            }
        }
    }

    async fn stop(
        &self,
        cell: &Arc<Cell>,
        timeout: Option<i64>,
        signal: Option<Signal>,
        why: Reason,
    ) -> Result<Changed> {
        let mut progress = cell.progress.subscribe();
        let exits = {
            let _gate = cell.gate.lock().await;
            let Step::To(_) = cell.step(Verb::Stop)? else { return Ok(Changed::No) };
            {
                let mut live = cell.live();
                live.keep = why == Reason::Restart;
                live.record.by_hand = why == Reason::ByHand;
            }
            let spec = cell.spec();
            let own = spec.stop_signal.as_deref().and_then(Signal::parse);
            let signal = signal.or(own).unwrap_or(signal::TERM);
            self.tell(cell, "kill", &[("signal", signal.number().to_string())]);
            if !self.end_waiting(cell).await {
                self.wind_down(cell, grace(timeout.or(spec.stop_timeout), self.stop_timeout), signal.exit_code());
            }
            progress.borrow_and_update().exits
        };
        // The cell keeps the sender, so that this ends by the condition only.
        let _ = progress.wait_for(|progress| progress.exits > exits || !progress.live || progress.removed).await;
        // What its end leads to happens within the gate: with `--rm` its name is free when this returns.
        drop(cell.gate.lock().await);
        self.tell(cell, "stop", &[]);
        Ok(Changed::Yes)
    }

    /// Waiting to be started again: it is not, and that is all. The caller holds the gate.
    async fn end_waiting(&self, cell: &Cell) -> bool {
        {
            let mut live = cell.live();
            if live.record.status != Status::Restarting {
                return false;
            }
            live.record.status = Status::Exited;
        }
        cell.save_or_warn().await;
        cell.alive.send_replace(false);
        cell.progress.send_modify(|progress| progress.live = false);
        true
    }

    /// Let the task end; its supervisor does the rest. The caller holds the gate, and lets go of it to wait.
    pub fn wind_down(&self, cell: &Cell, grace: Option<Duration>, code: i32) {
        let task = {
            let mut live = cell.live();
            if live.record.status == Status::Paused {
                live.record.status = Status::Running;
            }
            live.task.clone()
        };
        if let Some(task) = task {
            // Standing still it could not finish its requests.
            task.unpause();
            // Of its own, so that it goes on when whoever asked for it is gone.
            tokio::spawn(async move { task.stop(grace, code).await });
        }
    }

    async fn kill(&self, cell: &Arc<Cell>, signal: &str) -> Result<()> {
        let mut progress = cell.progress.subscribe();
        let (sent, exits) = {
            let _gate = cell.gate.lock().await;
            cell.step(Verb::Kill)?;
            let Some(sent) = Signal::parse(signal) else { return Ok(()) };
            self.tell(cell, "kill", &[("signal", sent.number().to_string())]);
            let spec = cell.spec();
            let own = spec.stop_signal.as_deref().and_then(Signal::parse);
            if !sent.ends() && own != Some(sent) {
                return Ok(());
            }
            cell.live().record.by_hand = true;
            let exits = progress.borrow_and_update().exits;
            if !self.end_waiting(cell).await {
                let grace = if sent == signal::KILL {
                    Some(Duration::ZERO)
                } else {
                    grace(spec.stop_timeout, self.stop_timeout)
                };
                self.wind_down(cell, grace, sent.exit_code());
            }
            (sent, exits)
        };
        // Others may take their time to end; who waits for that uses `wait`.
        if sent == signal::KILL {
            let _ = progress.wait_for(|now| now.exits > exits || !now.live || now.removed).await;
        }
        Ok(())
    }

    /// The host ends: stop it, and remember that it ran.
    pub async fn suspend(&self, cell: &Arc<Cell>, grace: Duration) {
        let mut progress = cell.progress.subscribe();
        {
            let _gate = cell.gate.lock().await;
            if !cell.status().is_live() {
                return;
            }
            cell.live().record.resume = true;
            if self.end_waiting(cell).await {
                return;
            }
            let own = cell.spec().stop_signal.as_deref().and_then(Signal::parse);
            self.wind_down(cell, Some(grace), own.unwrap_or(signal::TERM).exit_code());
        }
        let _ = progress.wait_for(|progress| !progress.live).await;
        // Removing it, with `--rm`, happens within the gate.
        let _gate = cell.gate.lock().await;
    }

    async fn rename(&self, cell: &Arc<Cell>, new: &str) -> Result<()> {
        let _gate = cell.gate.lock().await;
        cell.step(Verb::Rename)?;
        let old = cell.name();
        if new.is_empty() {
            return Err(Error::invalid("Neither old nor new names may be empty"));
        }
        if new.strip_prefix('/').unwrap_or(new) == old {
            return Err(Error::invalid("Renaming a container with the same name as its current name"));
        }
        let new = self.table().reserve(Some(new), &cell.id, || 0).map_err(|error| match error.kind() {
            ErrorKind::Conflict => Error::new(ErrorKind::Conflict, format!("Error when allocating new name: {error}")),
            _ => error,
        })?;
        cell.live().record.name.clone_from(&new);
        if let Err(error) = cell.save().await {
            cell.live().record.name = old;
            self.table().free(&new);
            return Err(error);
        }
        self.table().free(&old);
        self.networks.renamed(&cell.id, &new);
        let task = cell.live().task.clone();
        if let Some(task) = task {
            task.renamed(&new);
        }
        self.tell(cell, "rename", &[("oldName", format!("/{old}"))]);
        Ok(())
    }

    async fn update(&self, cell: &Arc<Cell>, update: Update) -> Result<()> {
        let _gate = cell.gate.lock().await;
        cell.step(Verb::Update)?;
        let (before, task) = {
            let live = cell.live();
            (live.record.spec.clone(), live.task.clone())
        };
        if before.auto_remove && update.restart.is_some_and(|policy| policy != RestartPolicy::No) {
            return Err(Error::new(
                ErrorKind::Conflict,
                "Restart policy cannot be updated because AutoRemove is enabled for the container",
            ));
        }
        if let Some(task) = task {
            task.update(update.memory, update.nano_cpus)?;
        }
        {
            let mut live = cell.live();
            let spec = Arc::make_mut(&mut live.record.spec);
            spec.memory = update.memory.or(spec.memory);
            spec.nano_cpus = update.nano_cpus.or(spec.nano_cpus);
            spec.restart = update.restart.unwrap_or(spec.restart);
        }
        cell.save().await.inspect_err(|_| cell.live().record.spec = before)?;
        self.tell(cell, "update", &[]);
        Ok(())
    }
}

/// `None` waits for ever.
fn grace(seconds: Option<i64>, default: Duration) -> Option<Duration> {
    match seconds {
        None => Some(default),
        Some(seconds) => u64::try_from(seconds).ok().map(Duration::from_secs),
    }
}

fn parse(signal: Option<&str>) -> Result<Option<Signal>> {
    match signal.filter(|signal| !signal.is_empty()) {
        None => Ok(None),
        Some(text) => Signal::parse(text).map(Some).ok_or_else(|| Error::invalid(format!("invalid signal: {text}"))),
    }
}
