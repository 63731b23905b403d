//! A call by name between two containers of one network, beside a direct call of the called one's published port and
//! beside a route of the caller that calls nobody: what the way through the host's memory adds, in microseconds.

use std::fmt;
use std::net::SocketAddr;

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use serde::Serialize;
use serde_json::json;

use crate::contender::Installation;
use crate::daemon::{Daemon, free_port, loopback, service};
use crate::http;
use crate::load::{Load, Pace};
use crate::report::met;
use crate::rounds::Plan;
use crate::stage::Stage;
use crate::statistics::median;

/// Most that a call by name may add to a direct one at p50, microseconds.
const TARGET: f64 = 60.0;
/// What `hello` answers; the caller tells how much it read.
const ANSWER: usize = "Hello from Wharf.\n".len();

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Way {
    /// The called container's published port.
    Direct,
    /// The caller's published port, at a route that calls nobody.
    Own,
    /// The caller's published port, at a route that calls the other container by its name.
    ByName,
}

const WAYS: [Way; 3] = [Way::Direct, Way::Own, Way::ByName];

/// Times in microseconds; one caller at a time, closed loop.
#[derive(Clone, Debug, Serialize)]
struct Measured {
    way: Way,
    round: usize,
    p50: f64,
    p90: f64,
    p99: f64,
    /// Processor time of the host for each answer.
    cpu: f64,
    errors: u64,
    first_error: Option<String>,
}

#[derive(Clone, Debug, Default, Serialize)]
pub struct Call {
    measured: Vec<Measured>,
}

pub fn measure(installation: &Installation, stage: &Stage, plan: &Plan) -> Result<Call> {
    let daemon = Daemon::start(installation, stage, "call")?;
    daemon.build("callee", &stage.context(&installation.guests, "hello/hello.wasm", &[])?)?;
    daemon.build("caller", &stage.context(&installation.guests, "fixtures/misbehave.wasm", &[])?)?;
    let (callee, caller) = (free_port()?, free_port()?);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut control = daemon.connect().await?;
        control.ask("POST", "/networks/create", &json!({ "Name": "bench" }), 201).await?;
        for (name, port) in [("callee", callee), ("caller", caller)] {
            let mut spec = service(name, port);
            let host = spec.get_mut("HostConfig").and_then(|host| host.as_object_mut());
            host.context("a service has a HostConfig")?.insert("NetworkMode".into(), "bench".into());
            control.create(name, &spec).await?;
            control.start(name).await?;
        }
        anyhow::Ok(())
    })?;

    let lane = |way| match way {
        Way::Direct => (loopback(callee), http::request("GET", "/", "", b"")),
        Way::Own => (loopback(caller), http::request("GET", "/counter", "", b"")),
        Way::ByName => (loopback(caller), http::request("GET", "/egress?authority=callee:5000", "", b"")),
    };
    runtime.block_on(check(lane(Way::ByName)))?;
    let mut call = Call::default();
    for round in 1..=plan.rounds {
        for way in WAYS {
            let (address, request) = lane(way);
            let pace = Pace::Closed { connections: 1 };
            let load = Load { address, request, pace, warm_up: plan.warm_up, measured: plan.measured };
            let seen = load.run(|| daemon.processor_time())?;
            let microseconds = |percent| seen.percentile(percent).as_secs_f64() * 1e6;
            call.measured.push(Measured {
                way,
                round,
                p50: microseconds(50.0),
                p90: microseconds(90.0),
                p99: microseconds(99.0),
                cpu: seen.cpu_per_request().as_secs_f64() * 1e6,
                errors: seen.errors,
                first_error: seen.first_error,
            });
        }
    }
    eprintln!("call\n{call}");
    Ok(call)
}

/// Whether the caller reaches the other one and reads all it answers.
async fn check((address, request): (SocketAddr, Bytes)) -> Result<()> {
    let response = http::fetch(address, &request).await?;
    let text = String::from_utf8_lossy(&response.body).into_owned();
    let answer: serde_json::Value =
        serde_json::from_str(&text).with_context(|| format!("the caller wrote {text:?}"))?;
    let read = (answer.get("status").and_then(|v| v.as_u64()), answer.get("length").and_then(|v| v.as_u64()));
    ensure!(
        read == (Some(200), Some(ANSWER as u64)),
        "the caller should read {ANSWER} bytes of a 200, and says {text}: build the fixture guests anew"
    );
    Ok(())
}

impl Call {
    fn of(&self, way: Way) -> impl Iterator<Item = &Measured> {
        self.measured.iter().filter(move |one| one.way == way)
    }

    /// p50 of one way less that of another: the median over rounds of the difference within a round.
    fn added(&self, way: Way, to: Way) -> f64 {
        median(self.of(way).zip(self.of(to)).map(|(way, to)| way.p50 - to.p50)).unwrap_or_default()
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| call                          | p50 us | p90 us | p99 us | cpu us | errors |")?;
        writeln!(f, "|{}", " --- |".repeat(6))?;
        for way in WAYS {
            let half = |field: fn(&Measured) -> f64| median(self.of(way).map(field)).unwrap_or_default();
            let name = match way {
                Way::Direct => "direct, by its published port",
                Way::Own => "the caller, calling nobody",
                Way::ByName => "the caller, calling by name",
            };
            let errors: u64 = self.of(way).map(|one| one.errors).sum();
            writeln!(
                f,
                "| {name:<29} | {:>6.1} | {:>6.1} | {:>6.1} | {:>6.1} | {errors:>6} |",
                half(|m| m.p50),
                half(|m| m.p90),
                half(|m| m.p99),
                half(|m| m.cpu)
            )?;
        }
        let (direct, own) = (self.added(Way::ByName, Way::Direct), self.added(Way::ByName, Way::Own));
        let all_answered = self.measured.iter().all(|one| one.errors == 0);
        writeln!(
            f,
            "\na call by name adds {direct:.0} us to a direct one at p50, {own:.0} us to a route that calls nobody; \
             target {TARGET} us: {}",
            met(direct < TARGET && all_answered)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(way: Way, round: usize, p50: f64) -> Measured {
        Measured { way, round, p50, p90: p50, p99: p50, cpu: p50, errors: 0, first_error: None }
    }

    #[test]
    fn what_is_added_is_taken_within_a_round() {
        let call = Call {
            measured: vec![
                measured(Way::Direct, 1, 40.0),
                measured(Way::Own, 1, 45.0),
                measured(Way::ByName, 1, 90.0),
                measured(Way::Direct, 2, 400.0),
                measured(Way::Own, 2, 450.0),
                measured(Way::ByName, 2, 450.0),
            ],
        };
        assert!((call.added(Way::ByName, Way::Direct) - 50.0).abs() < 1e-9);
        assert!(call.to_string().contains("target 60 us: met"), "{call}");
    }
}
