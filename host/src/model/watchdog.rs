//! The one timer of inference: stops what runs or waits past its deadline, and what was cancelled.
//!
//! Whoever runs a model is blocked in it, so somebody else has to look at the clock. One thread looks every
//! 10 ms at a table of at most a few hundred entries, and sleeps when the table has been empty for a while.
//! To enter and leave the table costs a lock each, no allocation and almost never a system call.

use std::sync::{Arc, Condvar, LazyLock, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use wharf_tensor::infer::CancelToken;

/// How late a deadline or a cancellation may take effect.
const TICK: Duration = Duration::from_millis(10);

/// Empty ticks before the thread sleeps: waking it for every single request would cost more than looking.
const LINGER: u32 = 100;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    Deadline,
    Cancelled,
}

/// Something that can be told to stop. Called at most once per registration, from the watchdog's thread.
pub trait Stoppable: Send + Sync {
    fn stop(&self, reason: Reason);
}

struct Watched {
    deadline: Option<Instant>,
    cancel: Option<CancelToken>,
    target: Arc<dyn Stoppable>,
}

impl Watched {
    fn due(&self, now: Instant) -> Option<Reason> {
        if self.cancel.as_ref().is_some_and(CancelToken::is_cancelled) {
            return Some(Reason::Cancelled);
        }
        self.deadline.is_some_and(|deadline| deadline <= now).then_some(Reason::Deadline)
    }
}

#[derive(Default)]
struct Table {
    slots: Vec<Option<Watched>>,
    free: Vec<usize>,
    asleep: bool,
    started: bool,
}

#[derive(Default)]
struct Watchdog {
    table: Mutex<Table>,
    wake: Condvar,
}

static WATCHDOG: LazyLock<Watchdog> = LazyLock::new(Watchdog::default);

/// Keeps its target watched; dropping it takes the target out of the table.
#[derive(Debug)]
#[must_use = "what is not held is not watched"]
pub struct Watch {
    slot: usize,
}

/// Watch until the returned value is dropped; nothing to watch for costs nothing.
pub fn watch(deadline: Option<Instant>, cancel: Option<CancelToken>, target: Arc<dyn Stoppable>) -> Option<Watch> {
    if deadline.is_none() && cancel.is_none() {
        return None;
    }
    let watched = Watched { deadline, cancel, target };
    let mut table = WATCHDOG.table();
    let slot = match table.free.pop() {
        Some(slot) => {
            if let Some(free) = table.slots.get_mut(slot) {
                *free = Some(watched);
            }
            slot
        }
        None => {
            table.slots.push(Some(watched));
            table.slots.len() - 1
        }
    };
    if !table.started {
        table.started = thread::Builder::new().name("infer-watchdog".into()).spawn(|| WATCHDOG.keep()).is_ok();
    } else if table.asleep {
        WATCHDOG.wake.notify_one();
    }
    Some(Watch { slot })
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut table = WATCHDOG.table();
        let watched = table.slots.get_mut(self.slot).and_then(Option::take);
        table.free.push(self.slot);
        drop(table);
        // Outside the lock: this may be the last reference to a request and its tensors.
        drop(watched);
    }
}

impl Watchdog {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keep(&self) {
        let mut idle = 0;
        loop {
            thread::sleep(TICK);
            let mut table = self.table();
            // A slot stays taken until its `Watch` is dropped, so nothing is freed twice.
            let now = Instant::now();
            let due: Vec<Watched> =
                table.slots.iter_mut().filter_map(|slot| slot.take_if(|watched| watched.due(now).is_some())).collect();
            idle = if table.free.len() == table.slots.len() { idle + 1 } else { 0 };
            if idle > LINGER {
                table.asleep = true;
                while table.free.len() == table.slots.len() {
                    table = self.wake.wait(table).unwrap_or_else(PoisonError::into_inner);
                }
                table.asleep = false;
                idle = 0;
            }
            drop(table);
            for watched in due {
                if let Some(reason) = watched.due(now) {
                    watched.target.stop(reason);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    struct Told(mpsc::Sender<Reason>);

    impl Stoppable for Told {
        fn stop(&self, reason: Reason) {
            self.0.send(reason).unwrap();
        }
    }

    #[test]
    fn deadlines_and_cancellations_stop_their_target_once() {
        let (tell, told) = mpsc::channel();
        let target = Arc::new(Told(tell));
        let late = watch(Some(Instant::now()), None, target.clone());
        assert_eq!(told.recv().unwrap(), Reason::Deadline);
        let token = CancelToken::new();
        let cancelled = watch(None, Some(token.clone()), target.clone());
        token.cancel();
        assert_eq!(told.recv().unwrap(), Reason::Cancelled);
        drop((late, cancelled));
        drop(watch(Some(Instant::now()), None, target.clone()));
        assert!(watch(None, None, target).is_none());
    }
}
