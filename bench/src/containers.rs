//! Many containers of one image in one host: until all are started, until all have answered, and what each costs.

use std::fmt;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use serde::Serialize;

use crate::contender::{Contender, Installation};
use crate::daemon::{Daemon, service};
use crate::http;
use crate::report::met;
use crate::stage::Stage;
use crate::usage::Memory;
use crate::workload::Workload;

/// Most that all may take to start, seconds.
const TARGET: f64 = 10.0;
/// Clients that create and start at once.
const CLIENTS: usize = 8;
/// Before a look at the memory: the garbage of what just happened is given back in the meantime.
const SETTLE: Duration = Duration::from_secs(2);

#[derive(Clone, Debug, Serialize)]
pub struct Containers {
    image: &'static str,
    containers: usize,
    /// Until the last `POST …/start` was answered, seconds from the first `POST /containers/create`.
    started: f64,
    /// Until the last has answered a request, from the same moment.
    answered: f64,
    /// With the image built and one container that has answered, which brings the models and the code in.
    one: Memory,
    /// With all, each of which has answered one request.
    all: Memory,
}

impl Containers {
    /// Bytes of each container but the first.
    fn each(&self) -> f64 {
        let others = self.containers.saturating_sub(1).max(1);
        self.all.proportional.saturating_sub(self.one.proportional) as f64 / others as f64
    }
}

pub fn measure(installation: &Installation, stage: &Stage, containers: usize) -> Result<Containers> {
    let daemon = Daemon::start(installation, stage, "containers")?;
    let model = "digits/models/digits.onnx";
    daemon.build("digits", &stage.context(&installation.guests, "digits/digits.wasm", &[model])?)?;
    let request = Workload::Digits.request(Contender::Wharf, stage)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let one = runtime.block_on(async {
        let mut control = daemon.connect().await?;
        control.create("one", &service("digits", 0)).await?;
        control.start("one").await?;
        ask_all(&control.published().await?, &request).await?;
        tokio::time::sleep(SETTLE).await;
        let memory = daemon.memory()?;
        control.remove("one").await?;
        anyhow::Ok(memory)
    })?;

    let result = runtime.block_on(async {
        let from = Instant::now();
        start_all(&daemon, containers).await?;
        let started = from.elapsed().as_secs_f64();
        let addresses = daemon.connect().await?.published().await?;
        ensure!(addresses.len() == containers, "{} of {containers} containers run", addresses.len());
        ask_all(&addresses, &request).await?;
        let answered = from.elapsed().as_secs_f64();
        tokio::time::sleep(SETTLE).await;
        anyhow::Ok(Containers { image: "digits", containers, started, answered, one, all: daemon.memory()? })
    })?;
    eprintln!("containers\n{result}");
    Ok(result)
}

async fn start_all(daemon: &Daemon, containers: usize) -> Result<()> {
    let mut clients = tokio::task::JoinSet::new();
    for client in 0..CLIENTS {
        let mut control = daemon.connect().await?;
        clients.spawn(async move {
            for number in (client..containers).step_by(CLIENTS) {
                let name = format!("digits-{number}");
                control.create(&name, &service("digits", 0)).await?;
                control.start(&name).await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(ended) = clients.join_next().await {
        ended??;
    }
    Ok(())
}

async fn ask_all(addresses: &[SocketAddr], request: &Bytes) -> Result<()> {
    for address in addresses {
        let response = http::fetch(*address, request).await.with_context(|| format!("asking {address}"))?;
        ensure!(response.status == 200, "{address} answered {}", response.status);
    }
    Ok(())
}

impl fmt::Display for Containers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| containers | image    | all started s | all answered s | KB each | MB in all | target |")?;
        writeln!(f, "|{}", " --- |".repeat(7))?;
        writeln!(
            f,
            "| {:>10} | {:<8} | {:>13.2} | {:>14.2} | {:>7.0} | {:>9.0} | {TARGET} s: {} |",
            self.containers,
            self.image,
            self.started,
            self.answered,
            self.each() / 1e3,
            self.all.proportional as f64 / 1e6,
            met(self.started < TARGET)
        )
    }
}
