//! Runtime: turns an image's files and settings into a running container.
//!
//! It must never know how requests arrive (`ingress/`, `oip/`) or how containers are asked for (`control/`,
//! `cli/`). Everything slow happens here, before a service is published: compiling, loading models,
//! making the first instance.
//!
//! - [`launch`]: starts containers, as `container/` asks for it; [`task`]: one that was started
//! - [`workload`]: what `wharf serve` is given by path, without an image
//! - [`devices`]: which of this machine's devices a container's models are placed on; [`instances`],
//!   [`tensorrt`], [`pbtxt`]: what a model's own `config.pbtxt` says of it
//! - [`contents`]: what a folder holds; [`programs`]: its components, loaded once
//! - [`guest`]: a sandboxed component as an [`HttpService`](crate::service::HttpService)
//! - [`calls`], [`outside`]: what a guest's own requests reach
//! - [`exec`], [`shell`]: `docker exec`: the image's tools, and a shell to look around with
//! - [`log`]: lines of workloads, on their way to the terminal
//! - [`tooling`]: what building an image needs of the sandbox
//! - [`totals`]: a model's totals and what it runs on, for all who tell of it

pub mod calls;
pub mod contents;
pub mod devices;
pub mod exec;
pub mod guest;
pub mod instances;
pub mod launch;
pub mod log;
pub mod outside;
pub mod pbtxt;
pub mod programs;
pub mod shell;
pub mod task;
pub mod tensorrt;
pub mod tooling;
pub mod totals;
pub mod workload;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use wharf_sandbox::cache::ComponentCache;
use wharf_sandbox::component::Component;
use wharf_sandbox::engine::Engine;
use wharf_sandbox::service::Service as Sandbox;
use wharf_sandbox::state::Guest;
use wharf_sandbox::stdio::Output;
use wharf_tensor::infer::Infer;

use crate::batch::{Batcher, ModelOptions, Models};
use crate::container::devices::DeviceWish;
use crate::container::spec::Gpus;
use crate::error::{Error, ErrorKind, Result};
use crate::service::{HttpService, Name, PlacementSource, Service};

pub use launch::Launcher;
pub use log::ContainerLog;
pub use workload::Workload;

use devices::{Choices, Devices};
use instances::ModelConfig;
use programs::{Program, Programs};

/// An instance smaller than this cannot even hold its stack and the SDK's first allocation. Bytes.
const LEAST_MEMORY: usize = 4 << 20;

/// What all containers of a host share.
#[derive(Clone)]
pub struct Runtime {
    programs: Programs,
    components: Option<ComponentCache>,
    models: Arc<Models>,
    /// Where nothing else is asked for.
    wish: Arc<DeviceWish>,
    devices: Arc<Devices>,
}

/// A workload that is ready to be published.
pub struct Started {
    pub service: Service,
    /// What serves its models, for metrics and inspection.
    pub batchers: Vec<(String, Arc<Batcher>)>,
}

/// A container's program and models.
struct Loaded {
    program: Option<Arc<Program>>,
    models: LoadedModels,
}

/// By name.
type LoadedModels = Vec<(String, Arc<Batcher>)>;

/// What models run on, for the data plane.
fn placements(models: &LoadedModels) -> BTreeMap<String, PlacementSource> {
    let of = |(name, batcher): &(String, Arc<Batcher>)| {
        let batcher = batcher.clone();
        let source: PlacementSource = Arc::new(move || totals::placement(&batcher));
        (name.clone(), source)
    };
    models.iter().map(of).collect()
}

impl Runtime {
    /// `wish` is what models run on where their container leaves it open, `devices` what this machine has.
    pub fn new(
        engine: Engine,
        components: Option<ComponentCache>,
        models: Arc<Models>,
        wish: DeviceWish,
        devices: Devices,
    ) -> Runtime {
        Runtime {
            programs: Programs::new(engine, components.clone()),
            components,
            models,
            wish: Arc::new(wish),
            devices: Arc::new(devices),
        }
    }

    /// What models of a container with this wish may run on. An error is a requirement this machine cannot meet. Not for
    /// an asynchronous thread.
    pub fn choices(&self, wish: &DeviceWish, gpus: Option<&Gpus>) -> Result<Choices> {
        Choices::new(wish, &self.wish, gpus, &self.devices)
    }

    pub fn devices(&self) -> &Devices {
        &self.devices
    }

    pub fn programs(&self) -> &Programs {
        &self.programs
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
        workload.check()?;
        self.check_memory(workload.memory)?;
        let choices = self.choices(&DeviceWish::default(), None)?;
        let batchers = self.load_models(&workload.models, &choices)?;
        let placements = placements(&batchers);
        let models: BTreeMap<String, Arc<dyn Infer>> =
            batchers.iter().map(|(name, batcher)| (name.clone(), batcher.clone() as Arc<dyn Infer>)).collect();
        let sandbox = match &workload.component {
            Some(path) => {
                let wasm = std::fs::read(path).map_err(|error| {
                    Error::new(ErrorKind::Io, format!("cannot read component {}", path.display())).because(error)
                })?;
                let component = Component::load(self.programs.engine(), self.components.as_ref(), &wasm)
                    .map_err(|error| Error::invalid(format!("{} is not a service", path.display())).because(error))?;
                let guest = Guest {
                    models: models.iter().map(|(name, model)| (name.clone(), model.clone())).collect(),
                    environment: workload.environment.clone(),
                    arguments: vec![format!("/{}", path.file_name().unwrap_or_default().to_string_lossy())],
                    mounts: workload.mounts.clone(),
                    ..Guest::new(Output::Lines(Arc::new(log.clone())), workload.memory)
                };
                let sandbox = Sandbox::new(component, guest, workload.max_requests);
                let name = Name::new(workload.name.as_str());
                Some(Arc::new(guest::GuestService::new(name, sandbox, Arc::new(log))))
            }
            None => None,
        };
        let http = sandbox.clone().map(|sandbox| sandbox as Arc<dyn HttpService>);
        let service = Service { name: workload.name.as_str().into(), http, models, placements };
        Ok((Started { service, batchers }, sandbox))
    }

    /// Load models, name to file; equal files share their sessions.
    fn load_models(&self, models: &BTreeMap<String, PathBuf>, choices: &Choices) -> Result<LoadedModels> {
        models.iter().map(|(name, path)| Ok((name.clone(), Arc::new(self.load_model(name, path, choices)?)))).collect()
    }

    /// On the first device that takes it.
    fn load_model(&self, name: &str, path: &Path, choices: &Choices) -> Result<Batcher> {
        let config = ModelConfig::of_model(path)?;
        for unused in config.iter().flat_map(|config| &config.unused) {
            tracing::warn!(model = name, "config.pbtxt: {unused}");
        }
        let placing = choices.of_model(name, config.as_ref())?;
        let options = ModelOptions { placing: placing.clone(), max_batch: config.map_or(1, |config| config.max_batch) };
        let batcher = self.models.load(name, path, options).map_err(|error| choices.refused(&placing, error))?;
        let device = batcher.device().to_string();
        match batcher.fell_back().as_slice() {
            [] => tracing::info!(model = name, device, "loaded"),
            reasons => tracing::warn!(model = name, device, instead_of = reasons.join("; "), "loaded"),
        }
        Ok(batcher)
    }

    /// Whether one instance may have so many bytes.
    fn check_memory(&self, bytes: usize) -> Result<()> {
        let most = self.programs.engine().max_memory();
        if bytes < LEAST_MEMORY || bytes > most {
            return Err(Error::invalid(format!(
                "memory limit of {bytes} bytes: this host accepts {LEAST_MEMORY} to {most} bytes"
            )));
        }
        Ok(())
    }
}
