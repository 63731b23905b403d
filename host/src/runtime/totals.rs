//! A model's totals in the metrics room's words.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::batch::Batcher;
use crate::metrics::{ModelSnapshot, ModelSource};

pub fn source(batcher: &Batcher) -> ModelSource {
    let (counters, device) = (batcher.counters().clone(), batcher.device().to_string());
    Arc::new(move || {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let failed = &counters.failures;
        let failures = [&failed.invalid, &failed.unavailable, &failed.expired, &failed.cancelled, &failed.internal];
        let (queue_us, compute_infer_us) = (read(&counters.queue_ns) / 1000, read(&counters.compute_ns) / 1000);
        ModelSnapshot {
            device: device.clone(),
            nodes: BTreeMap::new(),
            success: read(&counters.requests).saturating_sub(failures.into_iter().map(read).sum()),
            failed_rejected: read(&failed.unavailable),
            failed_canceled: read(&failed.expired) + read(&failed.cancelled),
            failed_backend: read(&failed.internal),
            failed_other: read(&failed.invalid),
            inferences: read(&counters.batch_elements),
            executions: read(&counters.executions),
            request_us: queue_us + compute_infer_us,
            queue_us,
            compute_infer_us,
            pending: 0,
        }
    })
}

/// Time its runs took so far. A run on several threads counts once.
pub fn compute(batcher: &Batcher) -> Duration {
    Duration::from_nanos(batcher.counters().compute_ns.load(Ordering::Relaxed))
}
