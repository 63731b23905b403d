//! Runtime: turns an image's files and settings into a running container.
//!
//! It must never know how requests arrive (`ingress/`, `oip/`) or how containers are asked for (`control/`,
//! `cli/`). Everything slow happens here, before a service is published: compiling, loading models,
//! making the first instance.
//!
//! - [`launch`]: starts containers, as `container/` asks for it; [`task`]: one that was started
//! - [`workload`]: what `wharf serve` is given by path, without an image
//! - [`accelerators`]: the GPUs of this machine; [`devices`]: which of them a container's models try, in which order
//! - [`contents`]: what a folder holds; [`programs`]: its components, loaded once
//! - [`guest`]: a sandboxed component as an [`HttpService`](crate::service::HttpService)
//! - [`calls`], [`outside`]: what a guest's own requests reach
//! - [`exec`], [`shell`]: `docker exec`: the image's tools, and a shell to look around with
//! - [`log`]: lines of workloads, on their way to the terminal
//! - [`tooling`]: what building an image needs of the sandbox
//! - [`totals`]: a model's totals for the metrics

pub mod accelerators;
pub mod calls;
pub mod contents;
pub mod devices;
pub mod exec;
pub mod guest;
pub mod launch;
pub mod log;
pub mod outside;
pub mod programs;
pub mod shell;
pub mod task;
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
use crate::container::runtime::ModelDevice;
use crate::container::spec::Gpus;
use crate::error::{Error, ErrorKind, Result};
use crate::model::Placing;
use crate::service::{HttpService, Placement, Service};

pub use launch::Launcher;
pub use log::ContainerLog;
pub use workload::Workload;

use accelerators::Accelerators;
use devices::Choices;
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
    devices: Arc<DeviceWish>,
    accelerators: Arc<Accelerators>,
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

/// Models by name, and what each runs on, in the same order.
#[derive(Default)]
struct LoadedModels {
    batchers: Vec<(String, Arc<Batcher>)>,
    devices: Vec<ModelDevice>,
}

impl LoadedModels {
    fn placements(&self) -> BTreeMap<String, Placement> {
        placements(&self.devices)
    }
}

/// As the data plane tells it.
fn placements(devices: &[ModelDevice]) -> BTreeMap<String, Placement> {
    let of = |of: &ModelDevice| (of.model.clone(), Placement { device: of.device.clone(), nodes: of.nodes.clone() });
    devices.iter().map(of).collect()
}

impl Runtime {
    /// `devices` is what models run on where their container leaves it open; `sysroot` see [`Accelerators::read`].
    pub fn new(
        engine: Engine,
        components: Option<ComponentCache>,
        models: Arc<Models>,
        devices: DeviceWish,
        sysroot: &Path,
    ) -> Runtime {
        Runtime {
            programs: Programs::new(engine, components.clone()),
            components,
            models,
            devices: Arc::new(devices),
            accelerators: Arc::new(Accelerators::read(sysroot)),
        }
    }

    /// The devices that models of a container with this wish try. An error is a requirement this machine cannot meet.
    pub fn choices(&self, wish: &DeviceWish, gpus: Option<&Gpus>) -> Result<Choices> {
        Choices::new(&wish.or(&self.devices), gpus, &self.accelerators)
    }

    pub fn accelerators(&self) -> &Accelerators {
        &self.accelerators
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
        let loaded = self.load_models(&workload.models, &choices)?;
        let placements = loaded.placements();
        let batchers = loaded.batchers;
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
                let name = workload.name.as_str().into();
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
        let mut loaded = LoadedModels::default();
        for (name, path) in models {
            let (batcher, fell_back) = self.load_model(name, path, choices)?;
            let device = batcher.device().to_string();
            match fell_back.is_empty() {
                true => tracing::info!(model = name, device, "loaded"),
                false => tracing::warn!(model = name, device, instead_of = fell_back.join("; "), "loaded"),
            }
            let placement = batcher.placement().unwrap_or_default();
            let nodes = placement.iter().map(|(provider, nodes)| (provider.clone(), *nodes as u64)).collect();
            loaded.devices.push(ModelDevice { model: name.clone(), device, nodes, fell_back });
            loaded.batchers.push((name.clone(), Arc::new(batcher)));
        }
        Ok(loaded)
    }

    /// On the first device that takes it; beside it, why those before it did not.
    fn load_model(&self, name: &str, path: &Path, choices: &Choices) -> Result<(Batcher, Vec<String>)> {
        let mut reasons = Vec::new();
        for device in &choices.devices {
            let mut placing = Placing::only(*device);
            placing.cuda.memory_limit = choices.gpu_memory;
            let options = ModelOptions { placing, ..ModelOptions::default() };
            match self.models.load(name, path, options) {
                Ok(batcher) => return Ok((batcher, reasons)),
                // Anything else is the model's own fault, which no other device mends.
                Err(error) if error.kind() == ErrorKind::Unmet => reasons.push(format!("{device}: {}", error.chain())),
                Err(error) => return Err(error),
            }
        }
        Err(choices.refusal(reasons))
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
