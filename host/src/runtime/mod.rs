//! Runtime: turns a workload (a component, models, settings) into a running service.
//!
//! It must never know how requests arrive (`ingress/`, `oip/`) or how containers are asked for (`control/`,
//! `cli/`). Everything slow happens here, before a service is published: compiling, loading models,
//! making the first instance.
//!
//! - [`workload`]: what to run
//! - [`guest`]: a sandboxed component as an [`HttpService`](crate::service::HttpService)
//! - [`log`]: lines of containers, on their way to whoever keeps them

pub mod guest;
pub mod log;
pub mod workload;

use std::collections::BTreeMap;
use std::sync::Arc;

use wharf_sandbox::cache::ComponentCache;
use wharf_sandbox::component::Component;
use wharf_sandbox::engine::Engine;
use wharf_sandbox::service::Service as Sandbox;
use wharf_sandbox::state::Guest;
use wharf_tensor::infer::Infer;

use crate::batch::{Batcher, ModelOptions, Models};
use crate::error::{Error, ErrorKind, Result};
use crate::service::{HttpService, Service};

pub use log::ContainerLog;
pub use workload::Workload;

/// What all containers of a host share.
#[derive(Clone)]
pub struct Runtime {
    engine: Engine,
    components: Option<ComponentCache>,
    models: Arc<Models>,
}

/// A container that is ready to be published.
pub struct Started {
    pub service: Service,
    /// What serves its models, for metrics and inspection.
    pub batchers: Vec<(String, Arc<Batcher>)>,
}

impl Runtime {
    pub fn new(engine: Engine, components: Option<ComponentCache>, models: Arc<Models>) -> Runtime {
        Runtime { engine, components, models }
    }

    /// Load everything `workload` needs and prove that it starts. Takes the time that compiling and loading take.
    pub async fn start(&self, workload: Workload, log: ContainerLog) -> Result<Started> {
        let runtime = self.clone();
        let loading = tokio::task::spawn_blocking(move || runtime.load(workload, log));
        let (started, sandbox) = loading.await.map_err(|error| {
            Error::new(ErrorKind::Failed, "loading a container ended unexpectedly").because(error)
        })??;
        if let Some(sandbox) = sandbox {
            sandbox.check().await?;
        }
        Ok(started)
    }

    fn load(&self, workload: Workload, log: ContainerLog) -> Result<(Started, Option<Arc<guest::GuestService>>)> {
        workload.check(&self.engine)?;
        let mut batchers = Vec::with_capacity(workload.models.len());
        for (name, path) in &workload.models {
            batchers.push((name.clone(), Arc::new(self.models.load(name, path, ModelOptions::default())?)));
        }
        let models: BTreeMap<String, Arc<dyn Infer>> =
            batchers.iter().map(|(name, batcher)| (name.clone(), batcher.clone() as Arc<dyn Infer>)).collect();
        let sandbox = match &workload.component {
            Some(path) => {
                let wasm = std::fs::read(path).map_err(|error| {
                    Error::new(ErrorKind::Io, format!("cannot read component {}", path.display())).because(error)
                })?;
                let component = Component::load(&self.engine, self.components.as_ref(), &wasm)
                    .map_err(|error| Error::invalid(format!("{} is not a service", path.display())).because(error))?;
                let guest = Guest {
                    models: models.iter().map(|(name, model)| (name.clone(), model.clone())).collect(),
                    environment: workload.environment.clone(),
                    arguments: vec![format!("/{}", path.file_name().unwrap_or_default().to_string_lossy())],
                    mounts: workload.mounts.clone(),
                    log: Arc::new(log.clone()),
                    memory: workload.memory,
                    pictures: wharf_vision::Limits::default(),
                };
                let sandbox = Sandbox::new(component, guest, workload.max_requests);
                Some(Arc::new(guest::GuestService::new(workload.name.as_str().into(), sandbox, log)))
            }
            None => None,
        };
        let http = sandbox.clone().map(|sandbox| sandbox as Arc<dyn HttpService>);
        let service = Service { name: workload.name.as_str().into(), http, models };
        Ok((Started { service, batchers }, sandbox))
    }
}
