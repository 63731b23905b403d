//! Cold start: from `exec` of `wharf serve` to the first 200, with the compiled component in the cache.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde::Serialize;

use crate::contender::Installation;
use crate::http;
use crate::server::Server;
use crate::stage::Stage;
use crate::statistics::median;

const STARTS: usize = 10;

/// All times in milliseconds.
#[derive(Clone, Debug, Serialize)]
pub struct ColdStart {
    pub starts: Vec<f64>,
    /// Loading the target's models in a fresh process that does nothing else.
    pub model_loads: Vec<f64>,
}

impl ColdStart {
    /// Most that may remain of a start when the model's own load time is taken off, milliseconds.
    pub const TARGET: f64 = 150.0;

    pub fn start(&self) -> f64 {
        median(self.starts.iter().copied()).unwrap_or_default()
    }

    pub fn model_load(&self) -> f64 {
        median(self.model_loads.iter().copied()).unwrap_or_default()
    }
}

pub fn measure(installation: &Installation, stage: &Stage) -> Result<ColdStart> {
    let models = ["tensor.onnx", "mobilenet.onnx"].map(|model| stage.models().join(model));
    let target = [stage.hello(&installation.guests)?];
    let start = || first_answer(installation.wharf(stage, "cold-start", &target));
    // The first start compiles the component and writes the cache.
    start().context("first start")?;
    let mut result = ColdStart { starts: Vec::new(), model_loads: Vec::new() };
    for _ in 0..STARTS {
        result.starts.push(start()?.as_secs_f64() * 1e3);
        result.model_loads.push(model_load(installation, &models)?);
    }
    eprintln!("cold start median {:.0} ms, of it the models {:.0} ms", result.start(), result.model_load());
    Ok(result)
}

fn first_answer(command: Command) -> Result<Duration> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let server = Server::start(command, &["hello"])?;
    let response = runtime.block_on(http::fetch(server.address("hello")?, &http::request("GET", "/", "", b"")))?;
    ensure!(response.status == 200, "the first answer is a {}", response.status);
    Ok(server.started().elapsed())
}

/// Milliseconds, from this program's `load-time` in a process of its own.
pub fn model_load(installation: &Installation, models: &[PathBuf]) -> Result<f64> {
    let own: PathBuf = std::env::current_exe().context("this program has no path")?;
    let mut command = Command::new(own);
    command.arg("load-time").arg("--onnxruntime").arg(&installation.onnxruntime).args(models);
    let output = command.output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    text.trim()
        .parse()
        .with_context(|| format!("load-time wrote {text:?}, {}", String::from_utf8_lossy(&output.stderr)))
}
