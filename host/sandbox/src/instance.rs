//! How an instance of a container is made and run, and why one fails.

use std::future::Future;
use std::sync::{Arc, OnceLock};

use wasmtime::{Store, UpdateDeadline};
use wasmtime_wasi::filesystem::WasiFilesystemCtx;

use crate::engine::Engine;
use crate::governor::Governor;
use crate::state::{Guest, State};
use crate::stdio::Stdin;
use crate::turn::Turn;

/// Why a guest gave no response, or no exit code.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// It trapped: `unreachable`, a stack overflow, an out-of-bounds access, …
    #[error("the guest crashed: {0}")]
    Trap(String),
    /// Limit in bytes.
    #[error("the guest ran out of memory: its limit is {limit} bytes")]
    OutOfMemory { limit: usize },
    #[error("the guest ended without a response")]
    NoResponse,
    #[error("the guest refused the request: {0}")]
    Refused(String),
    #[error("the host has no room for another instance")]
    Saturated,
    #[error("the request cannot be given to the guest: {0}")]
    Request(String),
    #[error("the guest cannot be started: {0}")]
    Start(String),
}

/// What all instances of a container are made from.
pub(crate) struct Mould {
    engine: Engine,
    guest: Arc<Guest>,
    /// Opened with the first instance, so that an error is that instance's; from then on a volume stays the folder it
    /// was, whatever happens to its name.
    folders: OnceLock<WasiFilesystemCtx>,
}

impl Mould {
    pub(crate) fn new(engine: Engine, guest: Guest) -> Mould {
        Mould { engine, guest: Arc::new(guest), folders: OnceLock::new() }
    }

    pub(crate) fn governor(&self) -> &Governor {
        &self.guest.governor
    }

    /// Where an instance will live.
    pub(crate) fn store(&self, stdin: Stdin) -> Result<Store<State>, CallError> {
        let folders = match self.folders.get() {
            Some(folders) => folders,
            None => {
                let opened = self.guest.open_mounts().map_err(|error| CallError::Start(format!("{error:#}")))?;
                self.folders.get_or_init(|| opened)
            }
        };
        let state = State::new(self.guest.clone(), folders, stdin);
        let mut store = Store::new(&self.engine.wasmtime, state);
        store.limiter(|state| &mut state.meter);
        store.epoch_deadline_callback(|mut store| {
            let turn = &mut store.data_mut().turn;
            if !turn.is_over() {
                return Ok(UpdateDeadline::Continue(1));
            }
            *turn = Turn::begin();
            Ok(UpdateDeadline::Yield(1))
        });
        store.set_epoch_deadline(1);
        Ok(store)
    }

    /// Drive guest code, as far as the container's governor lets it.
    pub(crate) async fn run<T>(&self, guest: impl Future<Output = T>) -> T {
        self.governor().run(|| self.engine.running(), guest).await
    }
}

/// Why no instance came to be in `store`.
pub(crate) fn unstarted(error: &wasmtime::Error, store: &Store<State>) -> CallError {
    if store.data().meter.denied() {
        return out_of_memory(store.data());
    }
    if error.is::<wasmtime::PoolConcurrencyLimitError>() {
        return CallError::Saturated;
    }
    CallError::Start(format!("{error:#}"))
}

/// Why the guest's code ended with `error`.
pub(crate) fn failed(error: &wasmtime::Error, state: &State) -> CallError {
    if state.meter.denied() {
        return out_of_memory(state);
    }
    CallError::Trap(describe_trap(error))
}

fn out_of_memory(state: &State) -> CallError {
    state.guest.governor.ran_out_of_memory();
    CallError::OutOfMemory { limit: state.meter.limit() }
}

/// The reason first; then where, as far as the component has names for its functions.
fn describe_trap(error: &wasmtime::Error) -> String {
    /// Frames shown: an endless recursion has thousands of the same.
    const FRAMES: usize = 8;
    let mut text = error.root_cause().to_string();
    let frames =
        error.downcast_ref::<wasmtime::WasmBacktrace>().map(wasmtime::WasmBacktrace::frames).unwrap_or_default();
    for name in frames.iter().filter_map(wasmtime::FrameInfo::func_name).take(FRAMES) {
        text.push_str("\n    at ");
        text.push_str(name);
    }
    text
}
