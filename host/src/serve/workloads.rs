//! What was named on the command line by path: components, models and folders, without an image.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::config::{FIRST_PORT, Publish, ServeConfig};
use super::host::Host;
use crate::error::{Error, ErrorKind, Result};
use crate::ingress::Port;
use crate::ingress::call::Ladder;
use crate::runtime::log::LogLine;
use crate::runtime::{ContainerLog, Started, Workload, totals};
use crate::service::Name;

/// Those that run, with their addresses; bare models have none.
#[derive(Clone, Default)]
pub struct Workloads {
    pub addresses: Vec<(Arc<str>, Option<SocketAddr>)>,
}

impl Workloads {
    /// Start all of them in order; the first that cannot start ends it.
    pub async fn start(
        config: &ServeConfig,
        host: &Host,
        lines: &mpsc::Sender<LogLine>,
        running: &mut JoinSet<()>,
        draining: &watch::Receiver<bool>,
    ) -> Result<Workloads> {
        let mut started = Workloads::default();
        let mut publish = config.publish.iter();
        let mut free_port = FIRST_PORT;
        for workload in start_order(config) {
            let log = ContainerLog::new(workload.name.as_str(), lines.clone());
            let Started { service, batchers } = host.runtime.start(workload.clone(), log).await?;
            let models_served: Vec<String> = service.models.keys().cloned().collect();
            let address = match &service.http {
                Some(http) => {
                    let metrics = host.metrics.container(&service.name);
                    let ladder = Ladder::new(Name::new(service.name.clone()), http.clone(), config.limits, metrics);
                    let port = bind(publish.next(), config.bind, &mut free_port, Arc::new(ladder)).await?;
                    let address = port.address();
                    running.spawn(port.serve(draining.clone()));
                    Some(address)
                }
                None => None,
            };
            for (name, batcher) in batchers {
                host.metrics.watch_model(&service.model_path(&name), totals::source(&batcher));
            }
            let service = host.services.publish(service);
            started.addresses.push((service.name.clone(), address));
            match address {
                Some(address) => {
                    tracing::info!(name = %service.name, address = %address, models = models_served.join(","), "listening");
                }
                None => tracing::info!(name = %service.name, models = models_served.join(","), "model loaded"),
            }
        }
        match publish.next() {
            Some(unused) => Err(Error::invalid(format!(
                "-p {unused} has no service to belong to: there are fewer services than -p"
            ))),
            None => Ok(started),
        }
    }
}

/// Services first, in the order given, so that ports are handed out as typed; bare models after them.
fn start_order(config: &ServeConfig) -> impl Iterator<Item = &Workload> {
    let is_service = |workload: &&Workload| workload.component.is_some();
    config.workloads.iter().filter(is_service).chain(config.workloads.iter().filter(move |w| !is_service(w)))
}

async fn bind(publish: Option<&Publish>, ip: IpAddr, free_port: &mut u16, ladder: Arc<Ladder>) -> Result<Port> {
    if let Some(publish) = publish {
        return Port::bind(publish.address, ladder).await;
    }
    // No port was asked for: from 5000 up, past what others use.
    loop {
        let address = (ip, *free_port).into();
        *free_port =
            free_port.checked_add(1).ok_or_else(|| Error::new(ErrorKind::Conflict, "no free port from 5000 up"))?;
        match Port::bind(address, ladder.clone()).await {
            Err(error) if error.kind() == ErrorKind::Conflict => {}
            other => return other,
        }
    }
}
