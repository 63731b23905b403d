//! Every metric's name, labels and buckets, once. Whoever counts holds plain atomics; names and text come in
//! only when somebody scrapes.
//!
//! Two families: `wharf_*` for containers, and the names that Triton made common (`nv_inference_*`) for models, so
//! that existing dashboards work. The room knows no HTTP, no model and no clock but the process's start.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};

/// Upper bounds of the latency buckets in seconds: from half a millisecond to the default deadline.
const LATENCY_BUCKETS: [f64; 15] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

const STATUS_CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// Why the host answered in a container's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Too many requests in flight, or shutting down.
    Busy,
    /// The body was over its limit.
    TooLarge,
    /// The client sent headers or body too slowly.
    Slow,
    /// No answer within the deadline.
    Deadline,
}

impl Refusal {
    const ALL: [Refusal; 4] = [Refusal::Busy, Refusal::TooLarge, Refusal::Slow, Refusal::Deadline];

    const fn label(self) -> &'static str {
        match self {
            Refusal::Busy => "busy",
            Refusal::TooLarge => "too_large",
            Refusal::Slow => "slow",
            Refusal::Deadline => "deadline",
        }
    }
}

/// One model's totals since it was loaded, read at each scrape.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ModelSnapshot {
    /// What it runs on, e.g. `cuda:0`.
    pub device: String,
    /// How many of the graph's nodes each provider has; empty where the session does not tell.
    pub nodes: BTreeMap<String, u64>,
    /// How many devices were preferred to it and cannot be used.
    pub fell_back: u64,
    /// How its TensorRT engine is doing: `building`, `ready` or `failed`; `None` where it is to have none.
    pub engine: Option<&'static str>,
    /// Requests that were answered.
    pub success: u64,
    /// Requests the queue did not take: full, or shutting down.
    pub failed_rejected: u64,
    /// Requests whose client left, or whose deadline passed.
    pub failed_canceled: u64,
    /// Requests on which the model failed while running.
    pub failed_backend: u64,
    /// Requests with inputs that do not fit, and all the rest.
    pub failed_other: u64,
    /// Elements of batches that ran: one request may hold several.
    pub inferences: u64,
    /// Runs of the model. `inferences / executions` is the mean batch.
    pub executions: u64,
    /// Microseconds from request to answer, over all requests.
    pub request_us: u64,
    /// Microseconds waited in the queue, over all requests.
    pub queue_us: u64,
    /// Microseconds the model ran.
    pub compute_infer_us: u64,
    /// Requests in the queue now.
    pub pending: u64,
}

/// Where a model's totals come from.
pub type ModelSource = Arc<dyn Fn() -> ModelSnapshot + Send + Sync>;

type ModelColumn = (&'static str, &'static str, fn(&ModelSnapshot) -> u64);

/// Totals per model. Triton's names lack the suffix that the OpenMetrics type `counter` demands, so their type is
/// `unknown`; rates work on them all the same.
const MODEL_TOTALS: [ModelColumn; 6] = [
    ("nv_inference_request_success", "Requests answered", |m| m.success),
    ("nv_inference_count", "Batch elements inferred", |m| m.inferences),
    ("nv_inference_exec_count", "Runs of the model", |m| m.executions),
    ("nv_inference_request_duration_us", "Time from request to answer, summed", |m| m.request_us),
    ("nv_inference_queue_duration_us", "Time in the queue, summed", |m| m.queue_us),
    ("nv_inference_compute_infer_duration_us", "Time in the model, summed", |m| m.compute_infer_us),
];

type FailureReason = (&'static str, fn(&ModelSnapshot) -> u64);

const FAILURE_REASONS: [FailureReason; 4] = [
    ("REJECTED", |m| m.failed_rejected),
    ("CANCELED", |m| m.failed_canceled),
    ("BACKEND", |m| m.failed_backend),
    ("OTHER", |m| m.failed_other),
];

/// All metrics of this process. Cheap to clone.
#[derive(Clone)]
pub struct Metrics {
    sources: Arc<Sources>,
    registry: Arc<Registry>,
}

impl Metrics {
    pub fn new() -> Metrics {
        Metrics::started_at(SystemTime::now())
    }

    fn started_at(started: SystemTime) -> Metrics {
        let sources = Arc::new(Sources { started, containers: RwLock::default(), models: RwLock::default() });
        let mut registry = Registry::default();
        registry.register_collector(Box::new(sources.clone()));
        Metrics { sources, registry: Arc::new(registry) }
    }

    /// The counters of the container called `name`, made on first use.
    pub fn container(&self, name: &str) -> ContainerMetrics {
        let mut containers = self.sources.containers.write().unwrap_or_else(PoisonError::into_inner);
        ContainerMetrics(containers.entry(name.into()).or_default().clone())
    }

    /// Report what was counted for `old`, and what will be, as of `new`.
    pub fn rename_container(&self, old: &str, new: &str) {
        let mut containers = self.sources.containers.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(counters) = containers.remove(old) {
            containers.insert(new.into(), counters);
        }
    }

    /// Report nothing about this container any more.
    pub fn forget_container(&self, name: &str) {
        self.sources.containers.write().unwrap_or_else(PoisonError::into_inner).remove(name);
    }

    /// Report this model from now on; a second model of the same name takes the first one's place.
    pub fn watch_model(&self, name: &str, source: ModelSource) {
        self.sources.models.write().unwrap_or_else(PoisonError::into_inner).insert(name.into(), source);
    }

    pub fn forget_model(&self, name: &str) {
        self.sources.models.write().unwrap_or_else(PoisonError::into_inner).remove(name);
    }

    /// Everything as OpenMetrics text, of type `application/openmetrics-text; version=1.0.0; charset=utf-8`.
    pub fn encode(&self) -> String {
        let mut exposition = String::new();
        // Writing to a string cannot fail, and no encoder here makes errors of its own.
        let _ = text::encode(&mut exposition, &self.registry);
        exposition
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Metrics::new()
    }
}

/// One container's counters; resolve it once, then counting is a few atomic additions.
#[derive(Clone)]
pub struct ContainerMetrics(Arc<ContainerCounters>);

#[derive(Default)]
struct ContainerCounters {
    /// By [`STATUS_CLASSES`].
    requests: [AtomicU64; STATUS_CLASSES.len()],
    /// By [`Refusal::ALL`].
    refused: [AtomicU64; Refusal::ALL.len()],
    in_flight: AtomicI64,
    /// Per bucket, not cumulative; the last has no upper bound.
    latency: [AtomicU64; LATENCY_BUCKETS.len() + 1],
    latency_sum_ns: AtomicU64,
}

impl ContainerMetrics {
    /// A request came in. It counts as in flight until the observation ends or is dropped.
    pub fn begin(&self) -> Observation<'_> {
        self.0.in_flight.fetch_add(1, Relaxed);
        Observation(&self.0)
    }

    /// The host refuses a request; its answer is still observed like every other.
    pub fn refused(&self, reason: Refusal) {
        let index = Refusal::ALL.iter().position(|known| *known == reason);
        if let Some(counter) = index.and_then(|index| self.0.refused.get(index)) {
            counter.fetch_add(1, Relaxed);
        }
    }
}

/// A request in flight. Dropped without an end, its client has left: it was no answer and is not counted as one.
#[must_use]
pub struct Observation<'a>(&'a ContainerCounters);

impl Observation<'_> {
    pub fn end(self, status: u16, elapsed: Duration) {
        let class = usize::from(status / 100).checked_sub(1);
        if let Some(counter) = class.and_then(|class| self.0.requests.get(class)) {
            counter.fetch_add(1, Relaxed);
        }
        let seconds = elapsed.as_secs_f64();
        let bucket = LATENCY_BUCKETS.partition_point(|bound| *bound < seconds);
        if let Some(counter) = self.0.latency.get(bucket) {
            counter.fetch_add(1, Relaxed);
        }
        let nanoseconds = u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX);
        self.0.latency_sum_ns.fetch_add(nanoseconds, Relaxed);
    }
}

impl Drop for Observation<'_> {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Relaxed);
    }
}

/// What is read at a scrape.
struct Sources {
    started: SystemTime,
    containers: RwLock<BTreeMap<Arc<str>, Arc<ContainerCounters>>>,
    models: RwLock<BTreeMap<Arc<str>, ModelSource>>,
}

impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sources").finish_non_exhaustive()
    }
}

impl Collector for Sources {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let version = [("version", env!("CARGO_PKG_VERSION"))];
        encoder
            .encode_descriptor("wharf_build", "The host's version", None, MetricType::Info)?
            .encode_info(&version)?;
        let started = self.started.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        encoder
            .encode_descriptor("process_start_time", "Since the epoch", Some(&Unit::Seconds), MetricType::Gauge)?
            .encode_gauge(&started.as_secs_f64())?;
        let containers = self.containers.read().unwrap_or_else(PoisonError::into_inner).clone();
        if !containers.is_empty() {
            encode_containers(&containers, &mut encoder)?;
        }
        // Copied out, so that a slow source holds no lock.
        let models = self.models.read().unwrap_or_else(PoisonError::into_inner).clone();
        let models: Vec<(Arc<str>, ModelSnapshot)> =
            models.into_iter().map(|(name, source)| (name, source())).collect();
        if !models.is_empty() {
            encode_models(&models, &mut encoder)?;
        }
        Ok(())
    }
}

type Containers = BTreeMap<Arc<str>, Arc<ContainerCounters>>;

fn encode_containers(containers: &Containers, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let name = "wharf_http_requests";
    let mut metric = encoder.encode_descriptor(name, "Requests answered, by status", None, MetricType::Counter)?;
    for (container, counters) in containers {
        for (class, counter) in STATUS_CLASSES.iter().zip(&counters.requests) {
            counter_sample(&mut metric, &[("container", container), ("code", class)], counter.load(Relaxed))?;
        }
    }
    let name = "wharf_http_refused";
    let help = "Requests the host answered in the container's place, by reason";
    let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    for (container, counters) in containers {
        for (reason, counter) in Refusal::ALL.iter().zip(&counters.refused) {
            counter_sample(
                &mut metric,
                &[("container", container), ("reason", reason.label())],
                counter.load(Relaxed),
            )?;
        }
    }
    let name = "wharf_http_requests_in_flight";
    let mut metric = encoder.encode_descriptor(name, "Requests being answered now", None, MetricType::Gauge)?;
    for (container, counters) in containers {
        gauge_sample(&mut metric, &[("container", container)], counters.in_flight.load(Relaxed))?;
    }
    let name = "wharf_http_request_duration";
    let help = "From a request's headers to its answer's";
    let mut metric = encoder.encode_descriptor(name, help, Some(&Unit::Seconds), MetricType::Histogram)?;
    for (container, counters) in containers {
        let bounds = LATENCY_BUCKETS.into_iter().chain([f64::INFINITY]);
        let buckets: Vec<(f64, u64)> = bounds.zip(counters.latency.iter().map(|count| count.load(Relaxed))).collect();
        let count = buckets.iter().map(|(_, count)| count).sum();
        let sum = Duration::from_nanos(counters.latency_sum_ns.load(Relaxed)).as_secs_f64();
        let labels = [("container", &**container)];
        metric.encode_family(&labels)?.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)?;
    }
    Ok(())
}

/// The one version every model has, see `oip/metadata.rs`.
const MODEL_VERSION: (&str, &str) = ("version", "1");

fn encode_models(models: &[(Arc<str>, ModelSnapshot)], encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    for (name, help, column) in MODEL_TOTALS {
        let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Unknown)?;
        for (model, snapshot) in models {
            unknown_sample(&mut metric, &[("model", model), MODEL_VERSION], column(snapshot))?;
        }
    }
    let name = "nv_inference_request_failure";
    let mut metric = encoder.encode_descriptor(name, "Requests not answered, by reason", None, MetricType::Unknown)?;
    for (model, snapshot) in models {
        for (reason, column) in FAILURE_REASONS {
            unknown_sample(&mut metric, &[("model", model), MODEL_VERSION, ("reason", reason)], column(snapshot))?;
        }
    }
    let name = "nv_inference_pending_request_count";
    let mut metric = encoder.encode_descriptor(name, "Requests in the queue now", None, MetricType::Gauge)?;
    for (model, snapshot) in models {
        let pending = i64::try_from(snapshot.pending).unwrap_or(i64::MAX);
        gauge_sample(&mut metric, &[("model", model), MODEL_VERSION], pending)?;
    }
    let name = "wharf_model_device";
    let mut metric = encoder.encode_descriptor(name, "1 for the device it runs on", None, MetricType::Gauge)?;
    for (model, snapshot) in models {
        gauge_sample(&mut metric, &[("model", model), ("device", &snapshot.device)], 1)?;
    }
    let name = "wharf_model_fell_back";
    let help = "Devices that were preferred to the one it runs on";
    let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for (model, snapshot) in models {
        let fell_back = i64::try_from(snapshot.fell_back).unwrap_or(i64::MAX);
        gauge_sample(&mut metric, &[("model", model)], fell_back)?;
    }
    if models.iter().any(|(_, snapshot)| snapshot.engine.is_some()) {
        let name = "wharf_model_engine";
        let help = "1 for how the model's TensorRT engine is doing: building, ready or failed";
        let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (model, snapshot) in models {
            if let Some(state) = snapshot.engine {
                gauge_sample(&mut metric, &[("model", model), ("state", state)], 1)?;
            }
        }
    }
    if models.iter().all(|(_, snapshot)| snapshot.nodes.is_empty()) {
        return Ok(());
    }
    let name = "wharf_model_nodes";
    let mut metric = encoder.encode_descriptor(name, "Nodes of its graph, by provider", None, MetricType::Gauge)?;
    for (model, snapshot) in models {
        for (provider, nodes) in &snapshot.nodes {
            let nodes = i64::try_from(*nodes).unwrap_or(i64::MAX);
            gauge_sample(&mut metric, &[("model", model), ("provider", provider)], nodes)?;
        }
    }
    Ok(())
}

type Labels<'a> = &'a [(&'a str, &'a str)];

fn counter_sample(metric: &mut MetricEncoder<'_>, labels: Labels<'_>, value: u64) -> fmt::Result {
    metric.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(&value, None)
}

fn gauge_sample(metric: &mut MetricEncoder<'_>, labels: Labels<'_>, value: i64) -> fmt::Result {
    metric.encode_family(&labels)?.encode_gauge(&value)
}

/// A sample without a suffix, as a gauge's is written.
fn unknown_sample(metric: &mut MetricEncoder<'_>, labels: Labels<'_>, value: u64) -> fmt::Result {
    metric.encode_family(&labels)?.encode_gauge(&i64::try_from(value).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metrics() -> Metrics {
        Metrics::started_at(SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_500))
    }

    #[test]
    fn the_text_is_pinned() {
        let metrics = metrics();
        let container = metrics.container("eyes");
        container.begin().end(200, Duration::from_micros(1500));
        container.begin().end(503, Duration::from_secs(40));
        container.refused(Refusal::Busy);
        let in_flight = container.begin();
        let snapshot = ModelSnapshot {
            device: "cuda:0".into(),
            nodes: [("CPUExecutionProvider".to_owned(), 2), ("CUDAExecutionProvider".to_owned(), 9)].into(),
            fell_back: 1,
            engine: Some("building"),
            success: 5,
            failed_rejected: 1,
            failed_backend: 2,
            inferences: 9,
            executions: 3,
            request_us: 700,
            queue_us: 100,
            compute_infer_us: 500,
            pending: 4,
            ..ModelSnapshot::default()
        };
        metrics.watch_model("digits", Arc::new(move || snapshot.clone()));
        let expected = include_str!("../tests/golden/metrics.txt").replace("{version}", env!("CARGO_PKG_VERSION"));
        let text = metrics.encode();
        assert_eq!(text, expected, "\n{text}");
        drop(in_flight);
        assert!(metrics.encode().contains("wharf_http_requests_in_flight{container=\"eyes\"} 0\n"));
    }

    #[test]
    fn what_is_gone_is_not_reported() {
        let metrics = metrics();
        let empty = metrics.encode();
        assert!(empty.ends_with("# EOF\n") && !empty.contains("nv_inference") && !empty.contains("wharf_http"));
        let container = metrics.container("eyes");
        metrics.watch_model("digits", Arc::new(ModelSnapshot::default));
        assert!(metrics.encode().contains("digits"));
        metrics.rename_container("eyes", "faces");
        container.begin().end(200, Duration::ZERO);
        let renamed = metrics.encode();
        assert!(renamed.contains("container=\"faces\",code=\"2xx\"} 1\n") && !renamed.contains("eyes"), "{renamed}");
        metrics.forget_container("faces");
        metrics.forget_model("digits");
        assert_eq!(metrics.encode(), empty);
        // Whoever still holds the handle counts into nothing.
        container.begin().end(200, Duration::ZERO);
    }

    #[test]
    fn one_name_is_one_set_of_counters() {
        let metrics = metrics();
        metrics.container("eyes").begin().end(404, Duration::ZERO);
        metrics.container("eyes").begin().end(404, Duration::ZERO);
        assert!(metrics.encode().contains("wharf_http_requests_total{container=\"eyes\",code=\"4xx\"} 2\n"));
        // Not a status: not counted, not a panic.
        metrics.container("eyes").begin().end(0, Duration::MAX);
    }

    #[test]
    fn labels_are_escaped() {
        let metrics = metrics();
        metrics.watch_model("a\"b\\c", Arc::new(ModelSnapshot::default));
        assert!(metrics.encode().contains(r#"nv_inference_count{model="a\"b\\c",version="1"} 0"#));
    }
}
