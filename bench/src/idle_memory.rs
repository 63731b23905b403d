//! What one more idle container costs: the memory of `wharf serve` with 100 copies of a service that
//! share one model, less that with a single copy, per copy.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde::Serialize;

use crate::contender::Installation;
use crate::http;
use crate::server::Server;
use crate::stage::Stage;
use crate::usage::Memory;
use crate::workload::Workload;

const COPIES: usize = 100;
/// Between "ready" and the look at the memory: start-up's own garbage is given back in the meantime.
const SETTLE: Duration = Duration::from_secs(2);

#[derive(Clone, Debug, Serialize)]
pub struct IdleMemory {
    pub copies: usize,
    /// Never called.
    pub one: Memory,
    pub many: Memory,
    /// After each copy has answered one request.
    pub one_called: Memory,
    pub many_called: Memory,
}

impl IdleMemory {
    /// Most for each extra container that was never called, bytes.
    pub const TARGET: f64 = 1e6;

    pub fn per_container(&self) -> f64 {
        self.extra(self.one, self.many)
    }

    pub fn per_called_container(&self) -> f64 {
        self.extra(self.one_called, self.many_called)
    }

    fn extra(&self, one: Memory, many: Memory) -> f64 {
        many.proportional.saturating_sub(one.proportional) as f64 / (self.copies - 1) as f64
    }
}

pub fn measure(installation: &Installation, stage: &Stage) -> Result<IdleMemory> {
    let names: Vec<String> = (1..=COPIES).map(|n| format!("digits-{n:03}")).collect();
    // A start that compiles keeps the compiler's memory: let the cache be warm.
    let single = names.get(..1).unwrap_or_default();
    drop(start(installation, stage, single).context("first start")?);
    let (one, one_called) = look(&start(installation, stage, single)?, stage, single)?;
    let (many, many_called) = look(&start(installation, stage, &names)?, stage, &names)?;
    let result = IdleMemory { copies: COPIES, one, many, one_called, many_called };
    eprintln!(
        "idle container: {:.0} KB, after a request {:.0} KB",
        result.per_container() / 1e3,
        result.per_called_container() / 1e3
    );
    Ok(result)
}

fn start(installation: &Installation, stage: &Stage, names: &[String]) -> Result<Server> {
    let targets = names.iter().map(|name| stage.digits(&installation.guests, name)).collect::<Result<Vec<_>>>()?;
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    Server::start(installation.wharf(stage, "idle-memory", &targets), &names)
}

/// Memory before and after one request to each service.
fn look(server: &Server, stage: &Stage, names: &[String]) -> Result<(Memory, Memory)> {
    std::thread::sleep(SETTLE);
    let idle = server.memory()?;
    let request = Workload::Digits.request(crate::contender::Contender::Wharf, stage)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    for name in names {
        let response = runtime.block_on(http::fetch(server.address(name)?, &request))?;
        ensure!(response.status == 200, "{name} answered {}", response.status);
    }
    std::thread::sleep(SETTLE);
    Ok((idle, server.memory()?))
}
