//! Who may use a GPU while a recording is made there: nobody, or CUDA gives up on both. Runs and sessions that open are
//! short, and wait for each other. An engine takes minutes to build: nothing waits for that; while one is built, nothing
//! is recorded.

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// The gate of this process: CUDA's rule is about all of its threads.
pub(super) static GATE: Gate = Gate { recording: RwLock::new(()), builds: AtomicUsize::new(0) };

#[derive(Debug)]
pub(super) struct Gate {
    /// Held for writing while a recording is made.
    recording: RwLock<()>,
    /// Counted up under the lock, so that whoever holds it for writing sees all.
    builds: AtomicUsize,
}

/// An engine is being built.
#[derive(Debug)]
pub(super) struct Building<'a>(&'a Gate);

impl Gate {
    /// For what is short: waits while a recording is made, and keeps one from being made.
    pub fn undisturbed(&self) -> RwLockReadGuard<'_, ()> {
        self.recording.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// For what takes minutes: waits while a recording is made, and has those refused that come later.
    pub fn building(&self) -> Building<'_> {
        let _undisturbed = self.undisturbed();
        self.builds.fetch_add(1, SeqCst);
        Building(self)
    }

    /// For a recording: waits for what is short. The error is one clause.
    pub fn alone(&self) -> Result<RwLockWriteGuard<'_, ()>, String> {
        let alone = self.recording.write().unwrap_or_else(PoisonError::into_inner);
        match self.builds.load(SeqCst) {
            0 => Ok(alone),
            _ => Err("a TensorRT engine is being built meanwhile".to_owned()),
        }
    }
}

impl Drop for Building<'_> {
    fn drop(&mut self) {
        self.0.builds.fetch_sub(1, SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn while_an_engine_is_built_runs_go_on_and_nothing_is_recorded() {
        let gate = Gate { recording: RwLock::new(()), builds: AtomicUsize::new(0) };
        let (first, second) = (gate.building(), gate.building());
        drop(gate.undisturbed());
        assert_eq!(gate.alone().unwrap_err(), "a TensorRT engine is being built meanwhile");
        drop(gate.undisturbed());
        drop(first);
        assert!(gate.alone().is_err());
        drop(second);
        let alone = gate.alone().unwrap();
        assert!(gate.recording.try_read().is_err());
        drop(alone);
    }
}
