//! The wasmtime engine: compiler settings, the memory layout of the instance pool, and the epoch ticker
//! that lets a guest in an endless loop be stopped.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{JoinHandle, Thread};
use std::time::Duration;

use wasmtime::{Config, Enabled, InstanceAllocationStrategy, PoolingAllocationConfig};

/// The version of wasmtime that runs guests. The crate does not say it itself; a test compares it with the lock file.
pub const WASMTIME: &str = "48.0.8";

/// A running guest yields to the host this often, so this is how late a deadline may be noticed.
pub(crate) const EPOCH: Duration = Duration::from_millis(5);

/// Component instances alive at the same time in one host. Each costs address space, not memory.
const INSTANCES: u32 = 1000;

/// A component made by wit-component is three core instances (the module, a shim and its fix-ups), with one
/// table each at most; other toolchains make a few more.
const CORE_INSTANCES_PER_COMPONENT: u32 = 6;

/// Bytes of an instance's memory that stay mapped between uses. Must exceed what a request usually touches:
/// pages beyond it are given back and faulted in again (twice the cost of a small request).
const KEEP_RESIDENT: usize = 2 << 20;

/// Default of the largest memory an instance may be given; a container's own limit is enforced below it.
const MAX_MEMORY: usize = 4 << 30;

/// Where the address space is too small for 4 GiB per slot, a memory is reserved at this size and guest code
/// checks its bounds explicitly.
const SMALL_MEMORY: usize = 256 << 20;

/// How the pool lays out linear memories.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemoryLayout {
    /// 4 GiB of address space per slot: the guard pages replace bounds checks.
    Wide,
    /// 256 MiB per slot, explicit bounds checks: for kernels with a 39-bit address space.
    Small,
}

/// The compiler and the pool of instances. Cheap to clone; one per process.
#[derive(Clone)]
pub struct Engine {
    pub(crate) wasmtime: wasmtime::Engine,
    ticker: Arc<Ticker>,
    layout: MemoryLayout,
}

/// Why there is no engine: neither layout fits this machine.
#[derive(Debug, thiserror::Error)]
#[error("cannot reserve address space for guest memories: {small} (with 4 GiB each: {wide}); raise `ulimit -v`")]
pub struct EngineError {
    wide: String,
    small: String,
}

impl Engine {
    /// Reserve the pool; where 4 GiB per slot do not fit, fall back to small reservations.
    pub fn new() -> Result<Engine, EngineError> {
        let wide = match Engine::with_layout(MemoryLayout::Wide) {
            Ok(engine) => return Ok(engine),
            Err(error) => format!("{error:#}"),
        };
        tracing::warn!(reason = %wide, "address space is small: guest memories are reserved at 256 MiB each");
        Engine::with_layout(MemoryLayout::Small).map_err(|error| EngineError { wide, small: format!("{error:#}") })
    }

    /// One layout or an error; [`Engine::new`] chooses.
    pub fn with_layout(layout: MemoryLayout) -> wasmtime::Result<Engine> {
        let wasmtime = wasmtime::Engine::new(&config(layout))?;
        let ticker = Arc::new(Ticker::start(wasmtime.clone()));
        Ok(Engine { wasmtime, ticker, layout })
    }

    pub fn layout(&self) -> MemoryLayout {
        self.layout
    }

    /// The largest memory limit a container can ask for, in bytes.
    pub fn max_memory(&self) -> usize {
        max_memory(self.layout)
    }

    /// Whether the kernel can tell which pages an instance dirtied (Linux 6.7); without it fresh instances
    /// cost about twice as much.
    pub fn has_pagemap_scan() -> bool {
        PoolingAllocationConfig::is_pagemap_scan_available()
    }

    /// Keeps the epoch ticking while a guest computes.
    pub(crate) fn running(&self) -> Running<'_> {
        self.ticker.enter();
        Running(&self.ticker)
    }
}

fn max_memory(layout: MemoryLayout) -> usize {
    match layout {
        MemoryLayout::Wide => MAX_MEMORY,
        MemoryLayout::Small => SMALL_MEMORY,
    }
}

fn config(layout: MemoryLayout) -> Config {
    let scan = PoolingAllocationConfig::is_pagemap_scan_available();
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(INSTANCES)
        .total_core_instances(INSTANCES * CORE_INSTANCES_PER_COMPONENT)
        .total_memories(INSTANCES)
        .total_tables(INSTANCES * CORE_INSTANCES_PER_COMPONENT)
        .total_stacks(INSTANCES)
        .max_memory_size(max_memory(layout))
        .max_unused_warm_slots(100)
        .table_keep_resident(16 << 10)
        .pagemap_scan(if scan { Enabled::Yes } else { Enabled::No })
        // Without the scan the lowest bytes are cleared whether touched or not; then giving all back is cheaper.
        .linear_memory_keep_resident(if scan { KEEP_RESIDENT } else { 0 });

    let mut config = Config::new();
    config
        .allocation_strategy(InstanceAllocationStrategy::Pooling(pool))
        .memory_init_cow(true)
        .epoch_interruption(true)
        // Saves 3–4 µs a call; only 0.3 components need it, and they are refused by name.
        .concurrency_support(false)
        .wasm_component_model(true);
    if layout == MemoryLayout::Small {
        config.memory_reservation(SMALL_MEMORY as u64).memory_guard_size(1 << 16).memory_reservation_for_growth(0);
    }
    config
}

/// Increments the engine's epoch every [`EPOCH`] while at least one guest computes, and sleeps otherwise: an idle
/// host, or one whose guests only wait, wakes up for nothing.
struct Ticker {
    shared: Arc<Shared>,
    thread: Thread,
    join: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    running: AtomicUsize,
    parked: AtomicBool,
    stop: AtomicBool,
}

impl Ticker {
    fn start(engine: wasmtime::Engine) -> Ticker {
        let shared = Arc::new(Shared::default());
        let seen = shared.clone();
        let join = std::thread::Builder::new().name("wharf-epoch".into()).spawn(move || tick(&engine, &seen));
        match join {
            Ok(join) => Ticker { shared, thread: join.thread().clone(), join: Some(join) },
            Err(error) => {
                // Without a ticker guests still run; only endless loops go unnoticed.
                tracing::error!(%error, "cannot start the epoch thread: endless loops in guests will not be stopped");
                Ticker { shared, thread: std::thread::current(), join: None }
            }
        }
    }

    fn enter(&self) {
        self.shared.running.fetch_add(1, Ordering::SeqCst);
        if self.shared.parked.load(Ordering::SeqCst) && self.shared.parked.swap(false, Ordering::SeqCst) {
            self.thread.unpark();
        }
    }

    fn leave(&self) {
        self.shared.running.fetch_sub(1, Ordering::SeqCst);
    }
}

fn tick(engine: &wasmtime::Engine, shared: &Shared) {
    while !shared.stop.load(Ordering::SeqCst) {
        if shared.running.load(Ordering::SeqCst) == 0 {
            shared.parked.store(true, Ordering::SeqCst);
            // A guest that entered between the look and the store sees `parked` and wakes us; one that
            // entered before the store is seen here.
            if shared.running.load(Ordering::SeqCst) == 0 && !shared.stop.load(Ordering::SeqCst) {
                std::thread::park();
            }
            shared.parked.store(false, Ordering::SeqCst);
        }
        // After a park too: most guests are done sooner than this thread is awake, and to wake it costs each of them
        // more than it saves.
        std::thread::sleep(EPOCH);
        engine.increment_epoch();
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        self.thread.unpark();
        if let Some(join) = self.join.take() {
            // A ticker that panicked has nothing left to stop.
            let _ = join.join();
        }
    }
}

pub(crate) struct Running<'a>(&'a Ticker);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.leave();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_the_one_that_is_locked() {
        let locked = include_str!("../../../Cargo.lock");
        assert!(locked.contains(&format!("name = \"wasmtime\"\nversion = \"{WASMTIME}\"\n")), "not {WASMTIME}");
    }
}
