//! Serve: the composition root. Builds the graph of rooms from a configuration, runs the listeners, and takes
//! them down again. The only room that sees all others; it must hold no logic that one of them could hold.
//!
//! - [`config`]: what to run, resolved: nothing left that means "default"
//! - [`target`]: from a path on the command line to a workload
//! - [`host_port`]: the host's own port: Open Inference Protocol, metrics, dashboard
//! - [`console`]: containers' lines on the terminal, or as JSON
//! - [`telemetry`]: the host's own log
//! - [`shutdown`]: the signals that end it
//! - [`doctor`]: what this machine can run, and why not the rest

pub mod config;
pub mod console;
pub mod dashboard;
pub mod doctor;
pub mod host_port;
pub mod shutdown;
pub mod target;
pub mod telemetry;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use tokio::sync::watch;
use tokio::task::JoinSet;
use wharf_sandbox::cache::ComponentCache;
use wharf_sandbox::engine::Engine;

use crate::batch::{Batcher, Models};
use crate::error::{Error, ErrorKind, Result};
use crate::ingress::Port;
use crate::ingress::call::Ladder;
use crate::metrics::{Metrics, ModelSnapshot, ModelSource};
use crate::model::OnnxRuntime;
use crate::model::environment::usable_cores;
use crate::runtime::{ContainerLog, Runtime, Started, Workload};
use crate::service::ServiceTable;

use config::ServeConfig;
use dashboard::{DashboardView, ServiceView};

/// Run `config` until a signal ends it. Everything is bound and loaded, or nothing is: a target that cannot start
/// ends the call with its reason.
pub async fn run(config: ServeConfig) -> Result<()> {
    let started = Instant::now();
    let signals = shutdown::Signals::install()?;
    let (lines, received) = crate::runtime::log::channel();
    let console = console::spawn(received, config.log_format)?;

    let engine = Engine::new().map_err(|error| Error::new(ErrorKind::Unmet, "no guest can run").because(error))?;
    let library = OnnxRuntime::start(&config.search, usable_cores())?;
    let components = component_cache(&config);
    let models = Arc::new(Models::new(library, Some(config.data.join("cache"))));
    let runtime = Runtime::new(engine, components, models);
    let metrics = Metrics::new();
    let services = ServiceTable::default();
    let (drain, draining) = watch::channel(false);
    let mut running = JoinSet::new();
    let mut view = DashboardView::default();

    let mut publish = config.publish.iter();
    let mut free_port = config::FIRST_PORT;
    for workload in start_order(&config) {
        let log = ContainerLog::new(workload.name.as_str(), lines.clone());
        let Started { service, batchers } = runtime.start(workload.clone(), log).await?;
        let models_served: Vec<String> = service.models.keys().cloned().collect();
        let address = match &service.http {
            Some(http) => {
                let ladder =
                    Ladder::new(service.name.clone(), http.clone(), config.limits, metrics.container(&service.name));
                let port = bind(publish.next(), &mut free_port, Arc::new(ladder)).await?;
                let address = port.address();
                running.spawn(port.serve(draining.clone()));
                Some(address)
            }
            None => None,
        };
        view.services.push(ServiceView::new(&service, address));
        for (name, batcher) in batchers {
            metrics.watch_model(&service.model_path(&name), totals(&batcher));
        }
        let service = services.publish(service);
        match address {
            Some(address) => {
                tracing::info!(name = %service.name, address = %address, models = models_served.join(","), "listening");
            }
            None => tracing::info!(name = %service.name, models = models_served.join(","), "model loaded"),
        }
    }
    if let Some(unused) = publish.next() {
        return Err(Error::invalid(format!(
            "-p {unused} has no service to belong to: there are fewer services than -p"
        )));
    }

    let host = host_port::bind(config.http, &services, &metrics, &config.limits, view).await?;
    tracing::info!(name = "host", address = %host.address(), "listening");
    running.spawn(host.serve(draining.clone()));
    let took = started.elapsed();
    tracing::info!(milliseconds = took.as_millis() as u64, "ready");

    signals.wait().await;
    tracing::info!(seconds = config.stop_timeout.as_secs(), "draining: no new requests; a second signal stops at once");
    drain.send_replace(true);
    let drained = async { while running.join_next().await.is_some() {} };
    tokio::select! {
        () = drained => tracing::info!("stopped"),
        () = tokio::time::sleep(config.stop_timeout) => tracing::warn!("stopped: requests still open were cut"),
        () = signals.wait() => tracing::warn!("stopped at once: requests still open were cut"),
    }
    drop((running, runtime, lines));
    console.finish();
    Ok(())
}

/// Services first, in the order given, so that ports are handed out as typed; bare models after them.
fn start_order(config: &ServeConfig) -> impl Iterator<Item = &Workload> {
    let is_service = |workload: &&Workload| workload.component.is_some();
    config.workloads.iter().filter(is_service).chain(config.workloads.iter().filter(move |w| !is_service(w)))
}

/// A model's totals in the metrics room's words.
fn totals(batcher: &Batcher) -> ModelSource {
    let counters = batcher.counters().clone();
    Arc::new(move || {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let failed = &counters.failures;
        let failures = [&failed.invalid, &failed.unavailable, &failed.expired, &failed.cancelled, &failed.internal];
        let (queue_us, compute_infer_us) = (read(&counters.queue_ns) / 1000, read(&counters.compute_ns) / 1000);
        ModelSnapshot {
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

async fn bind(publish: Option<&config::Publish>, free_port: &mut u16, ladder: Arc<Ladder>) -> Result<Port> {
    if let Some(publish) = publish {
        return Port::bind(publish.address, ladder).await;
    }
    // Not published: on loopback, from 5000 up, past what others use.
    loop {
        let address = (std::net::Ipv4Addr::LOCALHOST, *free_port).into();
        *free_port =
            free_port.checked_add(1).ok_or_else(|| Error::new(ErrorKind::Conflict, "no free port from 5000 up"))?;
        match Port::bind(address, ladder.clone()).await {
            Err(error) if error.kind() == ErrorKind::Conflict => {}
            other => return other,
        }
    }
}

fn component_cache(config: &ServeConfig) -> Option<ComponentCache> {
    match ComponentCache::open(config.data.join("cache").join("components")) {
        Ok(cache) => Some(cache),
        Err(error) => {
            tracing::warn!(%error, "compiled components are not kept: every start compiles again");
            None
        }
    }
}
