//! Start-up of one container from a built image: from `POST …/start` to the first 200 over its published port, in a
//! host that is up, beside what the models' load alone takes. A container is created, started, asked, removed; then
//! the next, image after image, so that a slow minute falls on all.

use std::fmt;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use serde::Serialize;

use crate::cold_start::model_load;
use crate::contender::{Contender, Installation};
use crate::daemon::{Control, Daemon, free_port, loopback, service};
use crate::http;
use crate::report::met;
use crate::stage::Stage;
use crate::statistics::{median, percentile};
use crate::workload::Workload;

/// Most that may remain of a start when the model's own load time is taken off, milliseconds.
const TARGET: f64 = 20.0;

/// All times in milliseconds, one of each kind for each start.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Starts {
    images: Vec<OfImage>,
}

#[derive(Clone, Debug, Serialize)]
struct OfImage {
    image: &'static str,
    /// `POST /containers/create`.
    created: Vec<f64>,
    /// Until `POST …/start` was answered.
    started: Vec<f64>,
    /// Until the first 200, from the same moment.
    answered: Vec<f64>,
    /// Of the image's models, in a fresh process that does nothing else. Zero where it has none.
    model_loads: Vec<f64>,
}

/// What is started and asked.
struct Lane {
    request: Bytes,
    models: Vec<PathBuf>,
    times: OfImage,
}

pub fn measure(installation: &Installation, stage: &Stage, starts: usize) -> Result<Starts> {
    let daemon = Daemon::start(installation, stage, "start")?;
    daemon.build("hello", &stage.context(&installation.guests, "hello/hello.wasm", &[])?)?;
    let model = "digits/models/digits.onnx";
    daemon.build("digits", &stage.context(&installation.guests, "digits/digits.wasm", &[model])?)?;
    let lane = |image, workload: Workload, models| -> Result<Lane> {
        let times = OfImage { image, created: vec![], started: vec![], answered: vec![], model_loads: vec![] };
        Ok(Lane { request: workload.request(Contender::Wharf, stage)?, models, times })
    };
    let digits_model = installation.guests.0.join(model);
    let mut lanes = [lane("hello", Workload::Hello, vec![])?, lane("digits", Workload::Digits, vec![digits_model])?];

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut control = runtime.block_on(daemon.connect())?;
    for lane in &mut lanes {
        // The first start of a host loads ONNX Runtime and maps the compiled component: it is not counted.
        runtime.block_on(lane.start(&mut control)).with_context(|| format!("first start of {}", lane.times.image))?;
        lane.times.forget();
    }
    for _ in 0..starts.max(1) {
        for lane in &mut lanes {
            runtime.block_on(lane.start(&mut control)).with_context(|| format!("start of {}", lane.times.image))?;
            let load = if lane.models.is_empty() { 0.0 } else { model_load(installation, &lane.models)? };
            lane.times.model_loads.push(load);
        }
    }
    let starts = Starts { images: lanes.into_iter().map(|lane| lane.times).collect() };
    eprintln!("start\n{starts}");
    Ok(starts)
}

impl Lane {
    /// Create a container, start it, ask it until it answers, remove it.
    async fn start(&mut self, control: &mut Control) -> Result<()> {
        let (name, port) = (format!("start-{}", self.times.image), free_port()?);
        let spec = service(self.times.image, port);
        let milliseconds = |since: Instant| since.elapsed().as_secs_f64() * 1e3;
        let from = Instant::now();
        control.create(&name, &spec).await?;
        self.times.created.push(milliseconds(from));

        let from = Instant::now();
        control.start(&name).await?;
        self.times.started.push(milliseconds(from));
        // A started container listens: one that refuses this connection has failed, and is not asked again.
        let response = http::fetch(loopback(port), &self.request).await?;
        self.times.answered.push(milliseconds(from));
        ensure!(response.status == 200, "the first answer is a {}", response.status);
        control.remove(&name).await
    }
}

impl OfImage {
    fn forget(&mut self) {
        self.created.clear();
        self.started.clear();
        self.answered.clear();
    }

    /// Of the starts less the models' own load.
    fn own(&self) -> f64 {
        median(self.answered.iter().copied()).unwrap_or_default() - self.model_load()
    }

    fn model_load(&self) -> f64 {
        median(self.model_loads.iter().copied()).unwrap_or_default()
    }
}

impl fmt::Display for Starts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "| {:<8} | starts | create p50 ms | start p50 ms | first 200 p50 ms | p90 ms | model's load ms | less that ms | target |",
            "start"
        )?;
        writeln!(f, "|{}", " --- |".repeat(9))?;
        self.images.iter().try_for_each(|one| {
            let half = |values: &[f64]| median(values.iter().copied()).unwrap_or_default();
            let p90 = percentile(one.answered.iter().copied(), 90.0).unwrap_or_default();
            writeln!(
                f,
                "| {:<8} | {:>6} | {:>13.1} | {:>12.1} | {:>16.1} | {p90:>6.1} | {:>15.1} | {:>12.1} | {TARGET} ms: {} |",
                one.image,
                one.answered.len(),
                half(&one.created),
                half(&one.started),
                half(&one.answered),
                one.model_load(),
                one.own(),
                met(one.own() < TARGET)
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn starts(answered: Vec<f64>, model_loads: Vec<f64>) -> String {
        let (created, started) = (vec![1.0; answered.len()], vec![2.0; answered.len()]);
        Starts { images: vec![OfImage { image: "digits", created, started, answered, model_loads }] }.to_string()
    }

    #[test]
    fn the_models_load_is_taken_off() {
        assert!(starts(vec![25.0, 29.0, 90.0], vec![10.0]).contains("|         19.0 | 20 ms: met |"));
        assert!(starts(vec![25.0, 29.0, 90.0], vec![9.0]).contains("|         20.0 | 20 ms: NOT MET |"));
    }
}
