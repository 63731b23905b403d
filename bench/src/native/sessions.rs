//! ONNX Runtime sessions behind a checkout pool, in the two settings a careful native server chooses from.

use std::path::Path;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};
use ort::session::Session;
use ort::value::TensorRef;
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

/// How sessions and threads are shared out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Setting {
    /// One session that spreads every operator over all cores: the shortest time for one caller.
    One,
    /// One single-threaded session per core: the most requests per second under load.
    PerCore,
}

impl Setting {
    /// (sessions, threads of each)
    fn shape(self) -> (usize, usize) {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        match self {
            Setting::One => (1, cores),
            Setting::PerCore => (cores, 1),
        }
    }
}

/// ONNX Runtime itself, loaded once: it allows only one environment in a process.
#[derive(Clone, Copy)]
pub struct Environment(&'static ort::environment::Environment);

impl Environment {
    pub fn load(library: &Path) -> Result<Self> {
        static LOADED: OnceLock<Result<ort::environment::Environment, String>> = OnceLock::new();
        let loaded = LOADED.get_or_init(|| {
            let builder = ort::init_from(library).map_err(|e| e.to_string())?;
            builder.with_name("wharf-bench").with_telemetry(false).build().map_err(|e| e.to_string())
        });
        loaded.as_ref().map(Environment).map_err(|e| anyhow!("ONNX Runtime at {}: {e}", library.display()))
    }

    fn session(self, model: &[u8], threads: usize) -> Result<Session> {
        let builder = Session::builder(self.0)?.with_intra_threads(threads).map_err(|e| anyhow!("{e}"))?;
        let mut builder = builder.with_inter_threads(1).map_err(|e| anyhow!("{e}"))?;
        Ok(builder.commit_from_memory(model)?)
    }
}

/// Time to make one single-threaded session of a model file: what no host can avoid at a cold start.
pub fn load_time(environment: Environment, model: &Path) -> Result<Duration> {
    let started = Instant::now();
    let bytes = std::fs::read(model).with_context(|| format!("cannot read model {}", model.display()))?;
    let session = environment.session(&bytes, 1)?;
    let elapsed = started.elapsed();
    drop(session);
    Ok(elapsed)
}

/// Sessions of one model. A run needs a session to itself; who finds none waits in order of arrival.
pub struct Sessions {
    idle: Mutex<Vec<Session>>,
    /// As many as there are sessions: a permit means that `idle` is not empty.
    permits: Semaphore,
}

impl Sessions {
    pub fn open(environment: Environment, model: &Path, setting: Setting) -> Result<Self> {
        let bytes = std::fs::read(model).with_context(|| format!("cannot read model {}", model.display()))?;
        Self::from_bytes(environment, &bytes, setting).with_context(|| format!("model {}", model.display()))
    }

    pub fn from_bytes(environment: Environment, model: &[u8], setting: Setting) -> Result<Self> {
        let (count, threads) = setting.shape();
        let idle = (0..count).map(|_| environment.session(model, threads)).collect::<Result<Vec<_>>>()?;
        Ok(Self { idle: Mutex::new(idle), permits: Semaphore::new(count) })
    }

    /// Run on one input without copying it; the first output's values.
    pub async fn run(&self, shape: &[usize], values: &[f32]) -> Result<Vec<f32>> {
        let _permit = self.permits.acquire().await?;
        tokio::task::block_in_place(|| self.run_now(shape, values))
    }

    /// `run` without waiting: an error when no session is idle.
    pub fn run_now(&self, shape: &[usize], values: &[f32]) -> Result<Vec<f32>> {
        let mut session = self.lock().pop().context("no idle session")?;
        let output = infer(&mut session, shape, values);
        self.lock().push(session);
        output
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Session>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn infer(session: &mut Session, shape: &[usize], values: &[f32]) -> Result<Vec<f32>> {
    let shape: Vec<i64> = shape.iter().map(|&d| d as i64).collect();
    let input = TensorRef::from_array_view((shape, values))?;
    let outputs = session.run(ort::inputs![input])?;
    let (_, first) = outputs.iter().next().context("the model has no output")?;
    let (_, values) = first.try_extract_tensor::<f32>()?;
    Ok(values.to_vec())
}
