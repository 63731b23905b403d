//! The one ONNX Runtime environment of this process. ONNX Runtime allows a single one, for ever, so it is
//! made once and stays.

use std::fmt;
use std::num::NonZero;
use std::sync::Mutex;
use std::thread;

use ort::environment::{Environment, EnvironmentBuilder, GlobalThreadPoolOptions};
use ort::logging::LogLevel;

use super::library::{self, Library, Search};
use crate::error::{Error, ErrorKind, Result};

/// ONNX Runtime, loaded and started.
pub struct OnnxRuntime {
    library: Library,
    cores: usize,
    pub(super) environment: Environment,
}

impl fmt::Debug for OnnxRuntime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OnnxRuntime")
            .field("library", &self.library)
            .field("cores", &self.cores)
            .finish_non_exhaustive()
    }
}

/// How many cores inference may use: as many as this process may run on. `available_parallelism` honours the
/// affinity mask and the cgroup's CPU quota, so that a host confined to 2 of 64 cores does not start 64
/// threads that throttle each other.
pub fn usable_cores() -> usize {
    thread::available_parallelism().map_or(1, NonZero::get)
}

impl OnnxRuntime {
    /// Load the library and start the environment with `cores` threads. A second call returns what the first
    /// one made, whatever its arguments: there can be only one.
    pub fn start(search: &Search, cores: usize) -> Result<&'static OnnxRuntime> {
        static STARTED: Mutex<Option<&'static OnnxRuntime>> = Mutex::new(None);
        let mut started = STARTED.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(runtime) = *started {
            return Ok(runtime);
        }
        let (builder, opened) = search.open(|path| ort::init_from(path).map_err(library::refusal))?;
        let library = library::identify(&opened);
        let environment = build(builder, cores).map_err(|error| {
            let message = format!("ONNX Runtime {} ({}) does not start", library.version, library.path.display());
            Error::new(ErrorKind::Unmet, message).because(error)
        })?;
        let runtime: &'static OnnxRuntime = Box::leak(Box::new(OnnxRuntime { library, cores, environment }));
        *started = Some(runtime);
        Ok(runtime)
    }

    pub fn library(&self) -> &Library {
        &self.library
    }

    /// For sessions beside those of the store: tests measure against them.
    pub fn environment(&self) -> &Environment {
        &self.environment
    }

    pub fn cores(&self) -> usize {
        self.cores
    }
}

fn build(builder: EnvironmentBuilder, cores: usize) -> ort::Result<Environment> {
    // The calling thread works too, ONNX Runtime counts it: `cores` is the total. The threads spin between the
    // operators of a run, where waking them takes longer than many an operator (a third of MobileNetV2's time);
    // sessions stop the spinning when their run ends (`load`), so idle models burn nothing.
    let pool = GlobalThreadPoolOptions::default()
        .with_intra_threads(cores.max(1))?
        .with_inter_threads(1)?
        .with_spin_control(true)?;
    let environment = builder.with_name("wharf").with_telemetry(false).with_global_thread_pool(pool).build()?;
    // Otherwise every run formats its verbose messages before tracing drops them.
    environment.set_log_level(LogLevel::Warning);
    Ok(environment)
}
