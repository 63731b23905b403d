//! Interleaved rounds: all contenders run side by side and are loaded in turn, A B C A B C, so that a
//! slow minute of the machine falls on all of them.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde::Serialize;

use crate::agreement;
use crate::contender::{Contender, Installation};
use crate::http;
use crate::load::{Load, Observation, Pace};
use crate::server::Server;
use crate::stage::Stage;
use crate::statistics::median;
use crate::workload::Workload;

/// The open loop offers this much of what the better native setting reached in the closed loop.
const OPEN_LOOP_FRACTION: f64 = 0.6;

#[derive(Clone, Debug)]
pub struct Plan {
    pub workloads: Vec<Workload>,
    pub connections: Vec<usize>,
    pub rounds: usize,
    pub measured: Duration,
    pub warm_up: Duration,
    /// Leave out Wharf: the limit alone.
    pub native_only: bool,
}

/// One contender under one load in one round. Times in microseconds.
#[derive(Clone, Debug, Serialize)]
pub struct Measurement {
    pub workload: Workload,
    pub contender: Contender,
    pub round: usize,
    /// Closed loop: callers.
    pub connections: Option<usize>,
    /// Open loop: requests offered per second.
    pub offered: Option<f64>,
    pub per_second: f64,
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
    pub max: f64,
    /// Processor time of the server for each answer.
    pub cpu: f64,
    pub errors: u64,
    pub first_error: Option<String>,
}

impl Plan {
    fn contenders(&self, workload: Workload) -> Vec<Contender> {
        let all = workload.contenders().iter().copied();
        all.filter(|contender| !self.native_only || contender.is_native()).collect()
    }

    pub fn run(&self, installation: &Installation, stage: &Stage) -> Result<Vec<Measurement>> {
        let mut servers = BTreeMap::new();
        for contender in self.workloads.iter().flat_map(|&workload| self.contenders(workload)) {
            if let Entry::Vacant(place) = servers.entry(contender) {
                let server = installation.start(contender, stage).with_context(|| format!("starting {contender}"))?;
                place.insert(server);
            }
        }
        let mut measurements = Vec::new();
        for &workload in &self.workloads {
            let lanes = self.lanes(workload, &servers, stage)?;
            for &connections in &self.connections {
                self.interleave(&lanes, Pace::Closed { connections }, &mut measurements)?;
            }
            for per_second in self.open_loop_rates(&measurements, workload) {
                self.interleave(&lanes, Pace::Open { per_second }, &mut measurements)?;
            }
        }
        Ok(measurements)
    }

    /// One lane per contender, after a look at whether they all give the same answer.
    fn lanes<'a>(
        &self,
        workload: Workload,
        servers: &'a BTreeMap<Contender, Server>,
        stage: &Stage,
    ) -> Result<Vec<Lane<'a>>> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (mut lanes, mut expected) = (Vec::new(), None);
        for contender in self.contenders(workload) {
            let server = servers.get(&contender).with_context(|| format!("{contender} was not started"))?;
            let pace = Pace::Closed { connections: 1 };
            let (address, request) = (workload.address(contender, server)?, workload.request(contender, stage)?);
            let answer = runtime.block_on(http::fetch(address, &request))?;
            let expected = expected.get_or_insert_with(|| answer.clone());
            agreement::check(expected, &answer).with_context(|| format!("{workload:?}: {contender}"))?;
            let load = Load { address, request, pace, warm_up: self.warm_up, measured: self.measured };
            lanes.push(Lane { workload, contender, server, load });
        }
        Ok(lanes)
    }

    fn interleave(&self, lanes: &[Lane<'_>], pace: Pace, measurements: &mut Vec<Measurement>) -> Result<()> {
        for round in 1..=self.rounds {
            for lane in lanes {
                let observation = Load { pace, ..lane.load.clone() }.run(|| lane.server.processor_time())?;
                let measurement = lane.measurement(round, pace, &observation);
                progress(&measurement);
                measurements.push(measurement);
            }
        }
        Ok(())
    }

    /// The rate that asks something of the native server, and, where that is more than Wharf can do at
    /// all, a second one at which everybody has latencies worth comparing.
    fn open_loop_rates(&self, measurements: &[Measurement], workload: Workload) -> Vec<f64> {
        let best = |contender: Contender| {
            let rate = |connections| {
                let of =
                    |m: &&Measurement| (m.workload, m.contender, m.connections) == (workload, contender, connections);
                median(measurements.iter().filter(of).map(|m| m.per_second))
            };
            self.connections.iter().filter_map(|&connections| rate(Some(connections))).fold(0.0, f64::max)
        };
        let (natives, others): (Vec<_>, Vec<_>) =
            self.contenders(workload).into_iter().partition(|contender| contender.is_native());
        let native = natives.into_iter().map(best).fold(0.0, f64::max);
        let slowest = others.into_iter().map(best).fold(native, f64::min);
        let offered = OPEN_LOOP_FRACTION * native;
        let mut rates = vec![offered];
        if slowest < offered {
            rates.push(OPEN_LOOP_FRACTION * slowest);
        }
        rates.retain(|rate| *rate >= 1.0);
        rates
    }
}

struct Lane<'a> {
    workload: Workload,
    contender: Contender,
    server: &'a Server,
    load: Load,
}

impl Lane<'_> {
    fn measurement(&self, round: usize, pace: Pace, seen: &Observation) -> Measurement {
        let (connections, offered) = match pace {
            Pace::Closed { connections } => (Some(connections), None),
            Pace::Open { per_second } => (None, Some(per_second)),
        };
        let microseconds = |time: Duration| time.as_secs_f64() * 1e6;
        Measurement {
            workload: self.workload,
            contender: self.contender,
            round,
            connections,
            offered,
            per_second: seen.per_second(),
            p50: microseconds(seen.percentile(50.0)),
            p90: microseconds(seen.percentile(90.0)),
            p99: microseconds(seen.percentile(99.0)),
            max: microseconds(seen.percentile(100.0)),
            cpu: microseconds(seen.cpu_per_request()),
            errors: seen.errors,
            first_error: seen.first_error.clone(),
        }
    }
}

fn progress(seen: &Measurement) {
    let pace = match (seen.connections, seen.offered) {
        (Some(connections), _) => format!("{connections} connections"),
        (_, Some(offered)) => format!("{offered:.0} offered/s"),
        _ => String::new(),
    };
    let workload = format!("{:?}", seen.workload).to_lowercase();
    eprintln!(
        "{workload:<9} {pace:<16} round {} {:<25} {:>9.0}/s  p50 {:>7.2} ms  {} errors",
        seen.round,
        seen.contender,
        seen.per_second,
        seen.p50 / 1e3,
        seen.errors
    );
}
