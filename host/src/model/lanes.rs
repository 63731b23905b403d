//! Who may use which session of a model, and when.
//!
//! A model has one **wide** lane, whose session uses all cores: the fastest for a request that is alone. The
//! first time requests overlap, **narrow** lanes are opened in the background, one single-threaded session
//! per core: under load they answer up to 1.7 times as much as taking turns on the wide one. A request that
//! arrives when nothing runs takes the wide lane, while anything runs it takes a narrow one.
//!
//! Under light load the caller runs the model on its own thread ([`Lanes::claim`]): no hop, no wake-up.
//! When no lane is free, requests queue; a caller that is done and finds the queue filled hands its lane to
//! the lane's own thread, which serves the queue until it is empty. What waits, in which order, and what is
//! run together is not decided here: see [`Backlog`].
//!
//! Generic over the session, so that the rules are tested without a model.

use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, Thread};
use std::time::Instant;

/// What waits for a lane. All calls are made under the lanes' lock: they must be short.
pub trait Backlog<S>: Send + 'static {
    type Work: Work<S>;

    fn is_empty(&self) -> bool;

    /// What to run next, if anything is still worth running.
    fn next(&mut self, now: Instant) -> Option<Self::Work>;

    /// No session will ever be had: whoever waits is told why.
    fn refuse(&mut self, reason: &str);
}

/// One run.
pub trait Work<S>: Send {
    fn run(self, session: &mut S);
}

/// Opens one more narrow session. The error has been reported; no further ones are tried.
pub type OpenNarrow<S> = Box<dyn Fn() -> Option<S> + Send + Sync>;

const WIDE: usize = 0;

pub struct Lanes<S: Send + 'static, Q: Backlog<S>> {
    shared: Arc<Shared<S, Q>>,
}

struct Shared<S: Send + 'static, Q: Backlog<S>> {
    state: Mutex<State<S, Q>>,
    narrow_wanted: usize,
    open_narrow: OpenNarrow<S>,
}

struct State<S, Q> {
    /// The wide one first.
    lanes: Vec<Lane<S>>,
    /// Lanes whose slot is not idle.
    busy: usize,
    queue: Q,
    growth: Growth,
    /// Why there is no session and will be none.
    refused: Option<String>,
    closed: bool,
}

struct Lane<S> {
    slot: Slot<S>,
    /// The lane's own thread, started when it is first needed.
    thread: Option<Thread>,
}

/// Where a lane's session is: its owner moves through this slot.
enum Slot<S> {
    Idle(S),
    /// Meant for the lane's own thread, which has been woken.
    Handed(S),
    Away,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Growth {
    NotYet,
    Now,
    Over,
}

impl<S> Slot<S> {
    /// The slot's content if it is of the wanted kind, else [`Slot::Away`] and no change.
    fn take_if(&mut self, wanted: impl FnOnce(&Self) -> bool) -> Self {
        if wanted(self) { mem::replace(self, Slot::Away) } else { Slot::Away }
    }
}

impl<S, Q> State<S, Q> {
    /// The lane for the next run, if any is free: the rule of this module.
    fn choose(&self) -> Option<usize> {
        let idle = |lane: &Lane<S>| matches!(lane.slot, Slot::Idle(_));
        let wide_idle = self.lanes.first().is_some_and(idle);
        if wide_idle && self.busy == 0 {
            return Some(WIDE);
        }
        let narrow = self.lanes.iter().skip(1).position(idle).map(|position| position + 1);
        // Before all narrow lanes are there, the wide one helps out.
        narrow.or_else(|| (wide_idle && !self.is_grown()).then_some(WIDE))
    }

    fn is_grown(&self) -> bool {
        self.growth == Growth::Over && self.lanes.len() > 1
    }

    fn lane(&mut self, index: usize) -> Option<&mut Lane<S>> {
        self.lanes.get_mut(index)
    }

    /// Take an idle lane's session away.
    fn take_idle(&mut self, index: usize) -> Option<S> {
        let lane = self.lane(index)?;
        let Slot::Idle(session) = lane.slot.take_if(|slot| matches!(slot, Slot::Idle(_))) else { return None };
        self.busy += 1;
        Some(session)
    }

    /// Take the session that was left for the lane's own thread.
    fn take_handed(&mut self, index: usize) -> Option<S> {
        let lane = self.lane(index)?;
        let Slot::Handed(session) = lane.slot.take_if(|slot| matches!(slot, Slot::Handed(_))) else { return None };
        Some(session)
    }

    fn put_idle(&mut self, index: usize, session: S) {
        if let Some(lane) = self.lane(index) {
            lane.slot = Slot::Idle(session);
            self.busy -= 1;
        }
    }

    fn tell_refused(&mut self)
    where
        S: Send + 'static,
        Q: Backlog<S>,
    {
        if let Some(reason) = &self.refused {
            self.queue.refuse(reason);
        }
    }

    /// Whether a lane's thread may go on with the queue. The wide lane leaves it to the narrow ones: running
    /// beside them it would only take their cores.
    fn may_go_on(&self, index: usize) -> bool {
        index != WIDE || self.busy <= 1 || !self.is_grown()
    }
}

impl<S: Send + 'static, Q: Backlog<S>> Lanes<S, Q> {
    /// With `narrow_wanted` 0, the wide lane is the only one for ever.
    pub fn new(wide: S, queue: Q, narrow_wanted: usize, open_narrow: OpenNarrow<S>) -> Self {
        let growth = if narrow_wanted == 0 { Growth::Over } else { Growth::NotYet };
        let lanes = vec![Lane { slot: Slot::Idle(wide), thread: None }];
        let state = Mutex::new(State { lanes, busy: 0, queue, growth, refused: None, closed: false });
        Lanes { shared: Arc::new(Shared { state, narrow_wanted, open_narrow }) }
    }

    /// One lane, whose session a thread of its own opens now: what comes waits in the queue. Where it cannot be opened,
    /// for which the error is the reason, what waits is refused, and all that comes later.
    pub fn opening(queue: Q, open: impl FnOnce() -> Result<S, String> + Send + 'static) -> Self {
        let lanes = vec![Lane { slot: Slot::Away, thread: None }];
        let state = State { lanes, busy: 1, queue, growth: Growth::Over, refused: None, closed: false };
        let shared = Arc::new(Shared { state: Mutex::new(state), narrow_wanted: 0, open_narrow: Box::new(|| None) });
        let opening = shared.clone();
        let body = move || {
            // Whoever waits learns of a panic, too.
            let opened = catch_unwind(AssertUnwindSafe(open));
            opening.opened(opened.unwrap_or_else(|_| Err("opening it panicked".into())));
        };
        let spawned = thread::Builder::new().name("lane-open".into()).spawn(body);
        if let Err(error) = spawned {
            shared.opened(Err(format!("cannot start a thread: {error}")));
        }
        Lanes { shared }
    }

    /// Whether there is no session and will be none.
    pub fn is_refused(&self) -> bool {
        self.shared.lock().refused.is_some()
    }

    /// A lane for the calling thread, if one is free and nobody waits.
    pub fn claim(&self) -> Option<Claim<'_, S, Q>> {
        let mut state = self.shared.lock();
        self.shared.grow_if_overlapping(&mut state);
        if !state.queue.is_empty() {
            return None;
        }
        let index = state.choose()?;
        let session = state.take_idle(index)?;
        Some(Claim { shared: &self.shared, index, session: Some(session) })
    }

    /// Change the queue; if a lane is free to serve what is in it, its thread starts.
    pub fn with_queue<R>(&self, change: impl FnOnce(&mut Q) -> R) -> R {
        let mut state = self.shared.lock();
        self.shared.grow_if_overlapping(&mut state);
        let result = change(&mut state.queue);
        self.shared.dispatch(&mut state);
        state.tell_refused();
        result
    }

    /// How many sessions there are, the wide one included.
    pub fn count(&self) -> usize {
        self.shared.lock().lanes.len()
    }
}

impl<S: Send + 'static, Q: Backlog<S>> Drop for Lanes<S, Q> {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.closed = true;
        for thread in state.lanes.iter().filter_map(|lane| lane.thread.as_ref()) {
            thread.unpark();
        }
    }
}

/// The right to use one lane's session; dropping it gives the session back.
pub struct Claim<'a, S: Send + 'static, Q: Backlog<S>> {
    shared: &'a Arc<Shared<S, Q>>,
    index: usize,
    session: Option<S>,
}

impl<S: Send + 'static, Q: Backlog<S>> Claim<'_, S, Q> {
    /// `None` never happens: the session leaves only when the claim is dropped.
    pub fn session(&mut self) -> Option<&mut S> {
        self.session.as_mut()
    }
}

impl<S: Send + 'static, Q: Backlog<S>> Drop for Claim<'_, S, Q> {
    fn drop(&mut self) {
        if let Some(session) = self.session.take() {
            let mut state = self.shared.lock();
            state.put_idle(self.index, session);
            self.shared.dispatch(&mut state);
        }
    }
}

impl<S: Send + 'static, Q: Backlog<S>> Shared<S, Q> {
    fn lock(&self) -> MutexGuard<'_, State<S, Q>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The session of lanes that began without one.
    fn opened(self: &Arc<Self>, session: Result<S, String>) {
        let mut state = self.lock();
        match session {
            Ok(session) => {
                state.put_idle(WIDE, session);
                self.dispatch(&mut state);
            }
            Err(reason) => {
                state.refused = Some(reason);
                state.tell_refused();
            }
        }
    }

    /// If something waits and a lane is free for it, hand that lane to its own thread.
    fn dispatch(self: &Arc<Self>, state: &mut State<S, Q>) {
        if state.queue.is_empty() || state.closed {
            return;
        }
        let Some(index) = state.choose() else { return };
        let Some(session) = state.take_idle(index) else { return };
        let Some(lane) = state.lane(index) else { return };
        lane.slot = Slot::Handed(session);
        if let Some(thread) = &lane.thread {
            thread.unpark();
            return;
        }
        let shared = self.clone();
        let spawned = thread::Builder::new().name(format!("lane-{index}")).spawn(move || shared.drive(index));
        match spawned {
            Ok(handle) => lane.thread = Some(handle.thread().clone()),
            Err(error) => {
                // The next request or the next free lane tries again.
                tracing::error!(%error, "cannot start an inference thread");
                if let Slot::Handed(session) = mem::replace(&mut lane.slot, Slot::Away) {
                    state.put_idle(index, session);
                }
            }
        }
    }

    /// The life of a lane's own thread.
    fn drive(self: Arc<Self>, index: usize) {
        while let Some(mut session) = self.wait_for_hand_over(index) {
            loop {
                let mut state = self.lock();
                let work = if state.may_go_on(index) { state.queue.next(Instant::now()) } else { None };
                let Some(work) = work else {
                    state.put_idle(index, session);
                    self.dispatch(&mut state);
                    break;
                };
                drop(state);
                // A panic must not take the lane with it; whoever waits learns that its answer is gone.
                if catch_unwind(AssertUnwindSafe(|| work.run(&mut session))).is_err() {
                    tracing::error!("a run of the model panicked");
                }
            }
        }
    }

    /// Sleep until this lane is handed to its thread; `None` when the model is unloaded.
    fn wait_for_hand_over(&self, index: usize) -> Option<S> {
        loop {
            {
                let mut state = self.lock();
                if state.closed {
                    return None;
                }
                if let Some(session) = state.take_handed(index) {
                    return Some(session);
                }
            }
            thread::park();
        }
    }

    /// Open the narrow lanes the first time a request meets a busy lane.
    fn grow_if_overlapping(self: &Arc<Self>, state: &mut State<S, Q>) {
        if state.busy == 0 || state.growth != Growth::NotYet {
            return;
        }
        let shared = self.clone();
        let spawned = thread::Builder::new().name("lanes-open".into()).spawn(move || shared.grow());
        state.growth = if spawned.is_ok() { Growth::Now } else { Growth::Over };
    }

    fn grow(self: Arc<Self>) {
        for _ in 0..self.narrow_wanted {
            if self.lock().closed {
                return;
            }
            let Some(session) = (self.open_narrow)() else { break };
            let mut state = self.lock();
            state.lanes.push(Lane { slot: Slot::Idle(session), thread: None });
            self.dispatch(&mut state);
        }
        self.lock().growth = Growth::Over;
    }
}

#[cfg(test)]
#[path = "lanes_tests.rs"]
mod tests;
