//! Which sessions a request goes to, where a model has more than one kind: TensorRT's engine for the shapes it was made
//! for, another device's for the rest, and for all while the engine is being built. Knows no ONNX Runtime and no file:
//! who opens sessions and who builds engines is [`super::engines`]'.
//!
//! A request takes its lanes once and keeps them: the switch to an engine happens between requests. Those that run or
//! wait end on the old sessions, which are freed with the last of them.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Instant;

use wharf_tensor::infer::Signature;

use super::device::Device;
use super::lanes::{Backlog, Lanes};
use super::options::Profile;
use super::placement::Placement;

/// How a model's TensorRT engine is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EngineState {
    /// Another device serves.
    Building { since: Instant },
    /// It serves what is in its profile.
    Ready,
    /// Another device serves until the model is loaded again; why, as one clause.
    Failed(String),
}

impl EngineState {
    /// For whoever counts.
    pub fn word(&self) -> &'static str {
        match self {
            EngineState::Building { .. } => "building",
            EngineState::Ready => "ready",
            EngineState::Failed(_) => "failed",
        }
    }
}

impl fmt::Display for EngineState {
    /// `building for 75 s`, `ready`, `failed: …`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EngineState::Building { since } => write!(f, "building for {} s", since.elapsed().as_secs()),
            EngineState::Ready => f.write_str("ready"),
            EngineState::Failed(reason) => write!(f, "failed: {reason}"),
        }
    }
}

/// The lanes most requests go to, and where their sessions run.
pub(super) struct Main<S: Send + 'static, Q: Backlog<S>> {
    pub lanes: Arc<Lanes<S, Q>>,
    pub device: Device,
    pub placement: Option<Placement>,
    /// Devices that were tried before it, each with its refusal.
    pub refused: Vec<String>,
}

/// The first sessions of a model on one device, and what they tell of it.
pub(super) type First<S, Q> = (Main<S, Q>, Arc<Signature>);

/// Opens the sessions for shapes outside of the profile; requests wait in their queue meanwhile.
pub(super) type OpenSpare<S, Q> = Box<dyn Fn() -> Lanes<S, Q> + Send + Sync>;

/// The lanes of a model that has, or is to have, an engine.
pub(super) struct Routes<S: Send + 'static, Q: Backlog<S>> {
    /// What the engine takes; `None` for a model of fixed shapes, all of which it takes.
    profile: Option<Profile>,
    state: RwLock<State<S, Q>>,
    open_spare: OpenSpare<S, Q>,
    /// A request outside of the profile has come.
    outside: AtomicBool,
}

/// The same of a model that has, or is to have, an engine.
pub(super) type Routed<S, Q> = (Arc<Routes<S, Q>>, Arc<Signature>);

struct State<S: Send + 'static, Q: Backlog<S>> {
    main: Main<S, Q>,
    /// For shapes outside of the profile, once the engine serves the others.
    spare: Option<Arc<Lanes<S, Q>>>,
    engine: EngineState,
}

impl<S: Send + 'static, Q: Backlog<S>> Routes<S, Q> {
    pub fn new(main: Main<S, Q>, engine: EngineState, profile: Option<Profile>, open_spare: OpenSpare<S, Q>) -> Self {
        let state = RwLock::new(State { main, spare: None, engine });
        Routes { profile, state, open_spare, outside: AtomicBool::new(false) }
    }

    /// The lanes for a request of these shapes, by input name. Never waits for a session to open.
    pub fn lanes<'a>(&self, shapes: impl Iterator<Item = (&'a str, &'a [usize])>) -> Arc<Lanes<S, Q>> {
        let inside = self.profile.as_ref().is_none_or(|profile| profile.takes(shapes));
        let state = self.read();
        if inside {
            return state.main.lanes.clone();
        }
        self.outside.store(true, Relaxed);
        if state.engine != EngineState::Ready {
            return state.main.lanes.clone();
        }
        match &state.spare {
            Some(spare) if !spare.is_refused() => spare.clone(),
            _ => {
                drop(state);
                self.spare()
            }
        }
    }

    /// Open the sessions beside the engine, unless another request has just done so. One that failed is tried again.
    fn spare(&self) -> Arc<Lanes<S, Q>> {
        let mut state = self.write();
        match &state.spare {
            Some(spare) if !spare.is_refused() => spare.clone(),
            _ => state.spare.insert(Arc::new((self.open_spare)())).clone(),
        }
    }

    /// From now on requests go to the engine. The old sessions stay where requests outside of the profile have needed
    /// them; else they are freed, because they are a second copy of the weights in a memory that, on a Jetson, is all
    /// there is. Should such a request come later, it opens them again.
    pub fn switch(&self, engine: Main<S, Q>) {
        let mut state = self.write();
        let old = std::mem::replace(&mut state.main, engine);
        state.engine = EngineState::Ready;
        if self.outside.load(Relaxed) {
            state.spare = Some(old.lanes.clone());
        }
        drop(state);
        // Outside the lock: freeing a session takes its time.
        drop(old);
    }

    pub fn fail(&self, reason: String) {
        self.write().engine = EngineState::Failed(reason);
    }

    pub fn engine(&self) -> EngineState {
        self.read().engine.clone()
    }

    /// Something of the lanes most requests go to.
    pub fn of_main<T>(&self, look: impl FnOnce(&Main<S, Q>) -> T) -> T {
        look(&self.read().main)
    }

    fn read(&self) -> RwLockReadGuard<'_, State<S, Q>> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State<S, Q>> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}
