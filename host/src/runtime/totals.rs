//! A model's totals and what it runs on, in the words of the rooms that tell them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::batch::Batcher;
use crate::container::runtime::ModelDevice;
use crate::metrics::{ModelSnapshot, ModelSource};
use crate::model::Device;
use crate::model::preflight::Provider;
use crate::service::Placement;

pub fn source(batcher: &Batcher) -> ModelSource {
    let (counters, batcher) = (batcher.counters().clone(), batcher.clone());
    Arc::new(move || {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        // Nobody counted "all of them", so there is no number to tell.
        let nodes = placement(&batcher).nodes;
        let failed = &counters.failures;
        let failures = [&failed.invalid, &failed.unavailable, &failed.expired, &failed.cancelled, &failed.internal];
        let (queue_us, compute_infer_us) = (read(&counters.queue_ns) / 1000, read(&counters.compute_ns) / 1000);
        ModelSnapshot {
            device: batcher.device().to_string(),
            nodes: nodes.into_iter().filter_map(|(provider, nodes)| Some((provider, nodes?))).collect(),
            fell_back: batcher.fell_back().len() as u64,
            engine: batcher.engine().map(|state| state.word()),
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

/// What it runs on now.
pub fn placement(batcher: &Batcher) -> Placement {
    let counted = batcher.placement().map(|counted| {
        counted.iter().map(|(provider, nodes)| (provider.clone(), Some(*nodes as u64))).collect::<BTreeMap<_, _>>()
    });
    let nodes = counted.unwrap_or_else(|| match batcher.device() {
        // No other provider is registered.
        Device::Cpu => BTreeMap::from([(Provider::Cpu.name().to_owned(), None)]),
        Device::Cuda(_) | Device::TensorRt(_) => BTreeMap::new(),
    });
    let engine = batcher.engine().map(|state| state.to_string());
    Placement { device: batcher.device().to_string(), nodes, fell_back: batcher.fell_back(), engine }
}

/// The same, as the control plane tells it.
pub fn device(model: &str, batcher: &Batcher) -> ModelDevice {
    let Placement { device, nodes, fell_back, engine } = placement(batcher);
    ModelDevice { model: model.to_owned(), device, nodes, fell_back, engine }
}

/// Time its runs took so far. A run on several threads counts once.
pub fn compute(batcher: &Batcher) -> Duration {
    Duration::from_nanos(batcher.counters().compute_ns.load(Ordering::Relaxed))
}
