//! From measurements to what a person and a program read: medians over the rounds, ratios to the better
//! native setting, and whether the targets are met.

use std::fmt;

use serde::Serialize;
use serde_json::{Value, json};

use crate::call::Call;
use crate::cold_start::ColdStart;
use crate::containers::Containers;
use crate::contender::Contender;
use crate::idle_memory::IdleMemory;
use crate::rounds::Measurement;
use crate::start::Starts;
use crate::statistics::median;
use crate::workload::{Target, Workload};

#[derive(Default)]
pub struct Report {
    pub measurements: Vec<Measurement>,
    pub cold_start: Option<ColdStart>,
    pub idle_memory: Option<IdleMemory>,
    pub start: Option<Starts>,
    pub containers: Option<Containers>,
    pub call: Option<Call>,
}

/// One line of the table: a contender under one load, over all rounds.
#[derive(Clone, Debug, Serialize)]
struct Row {
    workload: Workload,
    contender: Contender,
    connections: Option<usize>,
    offered: Option<f64>,
    per_second: f64,
    /// Microseconds, like the other times here.
    p50: f64,
    p90: f64,
    p99: f64,
    max: f64,
    cpu: f64,
    errors: u64,
    /// Requests per second against the better native setting: the median over rounds of the ratio within
    /// a round, so that what slows down a whole round does not count.
    ratio: Option<f64>,
    /// Native processor time per request over this one's.
    cpu_ratio: Option<f64>,
    /// p50 less that of the better native setting, microseconds.
    p50_above: Option<f64>,
    verdict: Option<Verdict>,
}

#[derive(Clone, Debug, Serialize)]
struct Verdict {
    target: Target,
    met: bool,
}

impl Report {
    fn rows(&self) -> Vec<Row> {
        let mut rows = Vec::new();
        let mut rest: &[Measurement] = &self.measurements;
        // All rounds of one load stand together, contender after contender within a round.
        while let Some(first) = rest.first() {
            let same = |m: &Measurement| {
                (m.workload, m.connections, m.offered) == (first.workload, first.connections, first.offered)
            };
            let (load, after) = rest.split_at(rest.iter().take_while(|m| same(m)).count());
            rest = after;
            rows.extend(compare(load));
        }
        rows
    }

    /// Everything, for programs: the rows, and the measurements they come from.
    pub fn document(&self) -> Value {
        let cold_start = self.cold_start.as_ref().map(|c| {
            json!({ "start_ms": c.start(), "model_load_ms": c.model_load(), "target_ms": ColdStart::TARGET, "samples": c })
        });
        let idle_memory = self.idle_memory.as_ref().map(|m| {
            let (idle, called) = (m.per_container(), m.per_called_container());
            json!({ "bytes_per_container": idle, "bytes_per_called_container": called, "target": IdleMemory::TARGET, "samples": m })
        });
        json!({
            "cores": std::thread::available_parallelism().map_or(1, usize::from),
            "rows": self.rows(),
            "cold_start": cold_start,
            "idle_memory": idle_memory,
            "start": self.start,
            "containers": self.containers,
            "call": self.call,
            "measurements": self.measurements,
        })
    }
}

/// The rows of one load.
fn compare(load: &[Measurement]) -> Vec<Row> {
    let mut contenders: Vec<Contender> = load.iter().map(|m| m.contender).collect();
    contenders.sort_unstable();
    contenders.dedup();
    let rows: Vec<Row> = contenders.iter().filter_map(|&contender| row(load, contender)).collect();
    let native = rows.iter().filter(|row| row.contender.is_native());
    let Some(native) = better(native).cloned() else { return rows };
    rows.into_iter().map(|row| if row.contender.is_native() { row } else { held_against(row, &native, load) }).collect()
}

/// In a closed loop the one that answers more, in an open loop, where all answer what is offered unless
/// they fail, the one that answers sooner.
fn better<'a>(natives: impl Iterator<Item = &'a Row>) -> Option<&'a Row> {
    natives.max_by(|a, b| match a.connections {
        Some(_) => a.per_second.total_cmp(&b.per_second),
        None => b.p50.total_cmp(&a.p50),
    })
}

fn row(load: &[Measurement], contender: Contender) -> Option<Row> {
    let own: Vec<&Measurement> = load.iter().filter(|m| m.contender == contender).collect();
    let first = own.first()?;
    let of = |field: fn(&Measurement) -> f64| median(own.iter().map(|m| field(m))).unwrap_or_default();
    Some(Row {
        workload: first.workload,
        contender,
        connections: first.connections,
        offered: first.offered,
        per_second: of(|m| m.per_second),
        p50: of(|m| m.p50),
        p90: of(|m| m.p90),
        p99: of(|m| m.p99),
        max: own.iter().map(|m| m.max).fold(0.0, f64::max),
        cpu: of(|m| m.cpu),
        errors: own.iter().map(|m| m.errors).sum(),
        ratio: None,
        cpu_ratio: None,
        p50_above: None,
        verdict: None,
    })
}

fn held_against(mut row: Row, native: &Row, load: &[Measurement]) -> Row {
    let in_rounds = |contender: Contender, value: fn(&Measurement) -> f64| {
        load.iter().filter(move |m| m.contender == contender).map(value)
    };
    let ratio = |over: fn(&Measurement) -> f64, under: (Contender, fn(&Measurement) -> f64)| {
        let pairs = in_rounds(row.contender, over).zip(in_rounds(under.0, under.1));
        median(pairs.map(|(own, native)| own / native)).filter(|ratio| ratio.is_finite())
    };
    let per_second = ratio(|m| m.per_second, (native.contender, |m| m.per_second));
    let cpu = ratio(|m| m.cpu, (native.contender, |m| m.cpu));
    row.ratio = per_second;
    row.cpu_ratio = cpu.map(f64::recip).filter(|ratio| ratio.is_finite());
    row.p50_above = Some(row.p50 - native.p50);
    if let (Some(_), Some(target)) = (row.connections, row.workload.target(row.contender)) {
        row.verdict = Some(verdict(&row, target));
    }
    row
}

fn verdict(row: &Row, target: Target) -> Verdict {
    let fast = row.ratio.is_some_and(|ratio| ratio >= target.ratio);
    let bound = target.p50_above_ms.filter(|_| row.connections == Some(1));
    let prompt = bound.is_none_or(|bound| row.p50_above.is_some_and(|above| above <= bound * 1e3));
    Verdict { target: Target { p50_above_ms: bound, ..target }, met: fast && prompt && row.errors == 0 }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows = self.rows();
        if !rows.is_empty() {
            writeln!(
                f,
                "| {:<8} | {:<16} | {:<24} | {:>8} | {:>8} | {:>8} | {:>8} | {:>8} | {:>8} | {:>6} | {:>5} | {:>5} | target",
                "load",
                "",
                "server",
                "req/s",
                "p50 ms",
                "p90 ms",
                "p99 ms",
                "max ms",
                "cpu us",
                "errors",
                "ratio",
                "cpu"
            )?;
            writeln!(f, "|{}", " --- |".repeat(13))?;
        }
        rows.iter().try_for_each(|row| write_row(f, row))?;
        if let Some(cold) = &self.cold_start {
            let (start, load) = (cold.start(), cold.model_load());
            let target = ColdStart::TARGET;
            let met = met(start - load <= target);
            writeln!(
                f,
                "\ncold start: {start:.0} ms, less {load:.0} ms of loading models = {:.0} ms; target {target} ms: {met}",
                start - load
            )?;
        }
        if let Some(memory) = &self.idle_memory {
            let (idle, called) = (memory.per_container() / 1e3, memory.per_called_container() / 1e3);
            let target = IdleMemory::TARGET / 1e3;
            let met = met(idle <= target);
            writeln!(
                f,
                "\nextra idle container: {idle:.0} KB, after its first request {called:.0} KB; target {target} KB: {met}"
            )?;
        }
        let tables = [
            self.start.as_ref().map(ToString::to_string),
            self.containers.as_ref().map(ToString::to_string),
            self.call.as_ref().map(ToString::to_string),
        ];
        tables.iter().flatten().try_for_each(|table| write!(f, "\n{table}"))
    }
}

fn write_row(f: &mut fmt::Formatter<'_>, row: &Row) -> fmt::Result {
    let load = match (row.connections, row.offered) {
        (Some(connections), _) => format!("{connections} connections"),
        (_, Some(offered)) => format!("{offered:.0}/s offered"),
        _ => String::new(),
    };
    let ratio = |value: Option<f64>| value.map_or(String::new(), |ratio| format!("{ratio:.2}"));
    let milliseconds = |microseconds: f64| format!("{:.3}", microseconds / 1e3);
    write!(
        f,
        "| {:<8} | {load:<16} | {:<24} | {:>8.0} ",
        format!("{:?}", row.workload).to_lowercase(),
        row.contender,
        row.per_second
    )?;
    for time in [row.p50, row.p90, row.p99, row.max] {
        write!(f, "| {:>8} ", milliseconds(time))?;
    }
    write!(f, "| {:>8.1} | {:>6} | {:>5} | {:>5} |", row.cpu, row.errors, ratio(row.ratio), ratio(row.cpu_ratio))?;
    if let Some(verdict) = &row.verdict {
        write!(f, " {:.2}", verdict.target.ratio)?;
        if let (Some(bound), Some(above)) = (verdict.target.p50_above_ms, row.p50_above) {
            write!(f, ", p50 +{bound} ms (is {:+.2})", above / 1e3)?;
        }
        write!(f, ": {}", met(verdict.met))?;
    }
    writeln!(f)
}

pub fn met(met: bool) -> &'static str {
    if met { "met" } else { "NOT MET" }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(contender: Contender, round: usize, connections: usize, per_second: f64, p50: f64) -> Measurement {
        Measurement {
            workload: Workload::Classify,
            contender,
            round,
            connections: Some(connections),
            offered: None,
            per_second,
            p50,
            p90: p50,
            p99: p50,
            max: p50,
            cpu: 1e6 / per_second,
            errors: 0,
            first_error: None,
        }
    }

    fn rows(measurements: Vec<Measurement>) -> Vec<Row> {
        Report { measurements, ..Report::default() }.rows()
    }

    #[test]
    fn the_better_native_setting_counts_at_each_load() {
        let rows = rows(vec![
            measured(Contender::NativeOne, 1, 1, 200.0, 5_000.0),
            measured(Contender::NativePerCore, 1, 1, 100.0, 10_000.0),
            measured(Contender::Wharf, 1, 1, 190.0, 5_200.0),
            measured(Contender::NativeOne, 1, 8, 100.0, 5_000.0),
            measured(Contender::NativePerCore, 1, 8, 300.0, 10_000.0),
            measured(Contender::Wharf, 1, 8, 270.0, 11_000.0),
        ]);
        assert_eq!(
            rows.iter().map(|row| row.ratio).collect::<Vec<_>>(),
            [None, None, Some(0.95), None, None, Some(0.9)]
        );
        assert_eq!(rows[2].p50_above, Some(200.0));
        assert!(rows[2].verdict.as_ref().unwrap().met);
        assert!(!rows[5].verdict.as_ref().unwrap().met);
    }

    #[test]
    fn a_slow_round_slows_both_and_the_ratio_stays() {
        let rows = rows(vec![
            measured(Contender::NativeOne, 1, 1, 200.0, 5_000.0),
            measured(Contender::Wharf, 1, 1, 200.0, 5_000.0),
            measured(Contender::NativeOne, 2, 1, 20.0, 50_000.0),
            measured(Contender::Wharf, 2, 1, 20.0, 50_000.0),
        ]);
        assert_eq!(rows[1].ratio, Some(1.0));
        assert_eq!(rows[1].cpu_ratio, Some(1.0));
    }

    #[test]
    fn late_or_failed_answers_miss_the_target() {
        let native = measured(Contender::NativeOne, 1, 1, 200.0, 5_000.0);
        let late = measured(Contender::Wharf, 1, 1, 200.0, 5_400.0);
        assert!(!rows(vec![native.clone(), late]).pop().unwrap().verdict.unwrap().met);
        let failed = Measurement { errors: 1, ..measured(Contender::Wharf, 1, 1, 200.0, 5_000.0) };
        assert!(!rows(vec![native, failed]).pop().unwrap().verdict.unwrap().met);
    }
}
