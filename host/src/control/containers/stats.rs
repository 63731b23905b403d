//! `docker stats`: samples of what a container uses, each with the one before it.

use std::convert::Infallible;
use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime};

use axum::body::Body;
use axum::response::Response;
use futures_util::stream::unfold;
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::container::Snapshot;
use crate::container::runtime::Usage;
use crate::control::Control;
use crate::control::call::{Call, ok};
use crate::control::stream;
use crate::control::times::{NEVER, rfc3339};
use crate::error::Result;

/// Between two samples.
const PERIOD: Duration = Duration::from_secs(1);

/// What was in use at one instant; `None` where the container did not run.
#[derive(Clone, Copy)]
struct Sample {
    at: SystemTime,
    /// Time of all cores together since some moment before the first sample: what shares are of.
    machine: Duration,
    usage: Option<Usage>,
}

pub async fn stats(call: Call, id: &str) -> Result<Response> {
    let container = call.control.containers.find(id)?;
    let first = sample(&call.control, &container.id).await?;
    if !call.query.flag_or("stream", true) {
        if call.query.flag("one-shot") || first.usage.is_none() {
            return ok(&shape(&container, &first, None, &call.control));
        }
        sleep(PERIOD).await;
        let second = sample(&call.control, &container.id).await?;
        return ok(&shape(&container, &second, Some(&first), &call.control));
    }
    call.never_ends();
    let control = call.control;
    let samples = unfold((control, container.id, Some(first), None), |(control, id, next, before)| async move {
        let next = match next {
            Some(first) => first,
            None => {
                sleep(PERIOD).await;
                sample(&control, &id).await.ok()?
            }
        };
        // Removed meanwhile: the stream ends. Renamed meanwhile: the new name is told.
        let container = control.containers.find(&id).ok()?;
        let line = stream::line(&shape(&container, &next, before.as_ref(), &control));
        Some((Ok::<_, Infallible>(line), (control, id, None, Some(next))))
    });
    Ok(stream::response(stream::JSON, Body::from_stream(samples)))
}

async fn sample(control: &Control, id: &str) -> Result<Sample> {
    static START: OnceLock<Instant> = OnceLock::new();
    let cores = u32::try_from(control.host.cores).unwrap_or(u32::MAX);
    let machine = START.get_or_init(Instant::now).elapsed().saturating_mul(cores);
    Ok(Sample { at: SystemTime::now(), machine, usage: control.containers.usage(id).await? })
}

fn shape(container: &Snapshot, now: &Sample, before: Option<&Sample>, control: &Control) -> Value {
    let cores = control.host.cores;
    let usage = now.usage.unwrap_or_default();
    let running = now.usage.is_some();
    let limit = container.spec.memory.unwrap_or(usage.memory_limit);
    let limit = if limit == 0 { control.host.memory_total } else { limit };
    let memory =
        if running { json!({"usage": usage.memory, "limit": limit, "stats": {"inactive_file": 0}}) } else { json!({}) };
    let networks = if running { json!({"eth0": traffic(&usage)}) } else { json!({}) };
    let pids = if running { json!({"current": usage.in_flight.max(1)}) } else { json!({}) };
    json!({
        "name": format!("/{}", container.name), "id": container.id,
        "read": if running { rfc3339(now.at) } else { NEVER.to_owned() },
        "preread": before.map_or_else(|| NEVER.to_owned(), |before| rfc3339(before.at)),
        "num_procs": 0, "pids_stats": pids,
        "cpu_stats": processor(running.then_some(now), cores),
        "precpu_stats": processor(before, cores),
        "memory_stats": memory, "networks": networks,
        "blkio_stats": {"io_service_bytes_recursive": []}, "storage_stats": {},
    })
}

fn processor(sample: Option<&Sample>, cores: usize) -> Value {
    let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    let usage = sample.and_then(|sample| sample.usage).unwrap_or_default();
    let used = nanos(usage.cpu);
    let mut shape = json!({
        "cpu_usage": {"total_usage": used, "usage_in_kernelmode": 0, "usage_in_usermode": used},
        "throttling_data": {
            "periods": usage.periods, "throttled_periods": usage.throttled_periods,
            "throttled_time": nanos(usage.throttled_time),
        },
    });
    if let Some(sample) = sample {
        shape["system_cpu_usage"] = nanos(sample.machine).into();
        shape["online_cpus"] = cores.into();
    }
    shape
}

/// Requests count as packets: bytes are counted, packets are the kernel's affair.
fn traffic(usage: &Usage) -> Value {
    json!({
        "rx_bytes": usage.received, "rx_packets": usage.requests, "rx_errors": 0, "rx_dropped": 0,
        "tx_bytes": usage.sent, "tx_packets": usage.requests, "tx_errors": 0, "tx_dropped": 0,
    })
}
