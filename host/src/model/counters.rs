//! Numbers per model that the metrics room reads. Plain atomics: the hot path adds, nobody waits.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use wharf_tensor::infer::{InferError, InferErrorKind};

#[derive(Debug, Default)]
pub struct Counters {
    /// Requests that came in, whatever became of them.
    pub requests: AtomicU64,
    /// Runs of the model; fewer than requests where batches form.
    pub executions: AtomicU64,
    /// Elements (rows along dimension 0) in those runs.
    pub batch_elements: AtomicU64,
    pub failures: Failures,
    /// Time requests waited in the queue, in nanoseconds.
    pub queue_ns: AtomicU64,
    /// Time in ONNX Runtime, in nanoseconds of wall clock.
    pub compute_ns: AtomicU64,
}

/// Requests that got no answer, by reason.
#[derive(Debug, Default)]
pub struct Failures {
    pub invalid: AtomicU64,
    pub unavailable: AtomicU64,
    pub expired: AtomicU64,
    pub cancelled: AtomicU64,
    pub internal: AtomicU64,
}

impl Counters {
    pub fn failed(&self, error: &InferError) {
        let counter = match error.kind {
            InferErrorKind::InvalidArgument | InferErrorKind::NotFound => &self.failures.invalid,
            InferErrorKind::Unavailable => &self.failures.unavailable,
            InferErrorKind::DeadlineExceeded => &self.failures.expired,
            InferErrorKind::Cancelled => &self.failures.cancelled,
            InferErrorKind::Internal => &self.failures.internal,
        };
        counter.fetch_add(1, Relaxed);
    }

    pub fn executed(&self, elements: usize, compute: Duration) {
        self.executions.fetch_add(1, Relaxed);
        self.batch_elements.fetch_add(elements as u64, Relaxed);
        self.compute_ns.fetch_add(nanoseconds(compute), Relaxed);
    }

    pub fn queued(&self, waited: Duration) {
        self.queue_ns.fetch_add(nanoseconds(waited), Relaxed);
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
