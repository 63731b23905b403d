//! Starts containers: the one place that knows what a container is made of. Everything that can fail fails here, before
//! the container counts as started, and leaves nothing behind.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use wharf_sandbox::log::{LogSink, LogStream};
use wharf_sandbox::service::Service as Sandbox;
use wharf_sandbox::state::{Guest, Mount};
use wharf_sandbox::stdio::Output as GuestOutput;
use wharf_tensor::infer::Infer;

use super::calls::Calls;
use super::contents;
use super::devices::Choices;
use super::guest::GuestService;
use super::outside::Outside;
use super::programs::Program;
use super::task::{Parts, Running};
use super::{Loaded, LoadedModels, Runtime, totals};
use crate::batch::Batcher;
use crate::container::runtime::{BoundPort, BoxFuture, Kind, Output, PortRequest, Start, Stream, Task};
use crate::container::{self};
use crate::error::{Error, ErrorKind, Result};
use crate::metrics::Metrics;
use crate::service::{Front, Guarded, HttpService, Listening, Service, ServiceTable};

/// How many requests an instance may serve, one after the other.
const MAX_REQUESTS: &str = "wharf.instance.max-requests";

/// Where an image keeps its models.
const MODELS: &str = "/models";

/// Starts containers into a service table. Cheap to clone.
#[derive(Clone)]
pub struct Launcher {
    pub runtime: Runtime,
    pub services: ServiceTable,
    pub front: Arc<dyn Front>,
    pub metrics: Metrics,
    pub outside: Outside,
    /// Memory of one instance where a container asks for none. Bytes.
    pub memory: usize,
}

impl container::runtime::Runtime for Launcher {
    fn start(&self, start: Start) -> BoxFuture<'static, Result<Arc<dyn Task>>> {
        let launcher = self.clone();
        Box::pin(async move { launcher.launch(start).await.map(|running| Arc::new(running) as Arc<dyn Task>) })
    }
}

impl Launcher {
    async fn launch(&self, mut start: Start) -> Result<Running> {
        let (loader, plan) = (self.clone(), Plan::new(&start)?);
        let (root, mounts) = (start.root.clone(), start.mounts.clone());
        let (wish, gpus) = (start.devices.clone(), start.gpus.clone());
        let loading = tokio::task::spawn_blocking(move || {
            let choices = loader.runtime.choices(&wish, gpus.as_ref())?;
            loader.load(&plan, &root, &mounts, &choices)
        });
        let Loaded { program, models } = loading.await.map_err(|error| {
            Error::new(ErrorKind::Failed, "loading a container ended unexpectedly").because(error)
        })??;
        say_what_fell_back(&models, &*start.output);
        let guest = self.guest(&start, &models)?;
        let ports = std::mem::take(&mut start.ports);
        let stdin = start.stdin.take();
        let mut parts = Parts::new(self.clone(), start, guest, models);
        match program.as_deref() {
            None => {
                refuse_ports(&ports, "it holds models only, which answer on the host's own port")?;
                self.publish(&mut parts, None);
                Ok(parts.into_running(Kind::Model))
            }
            Some(Program::Job(job)) => {
                refuse_ports(&ports, "it is a job (wasi:cli/run), which runs once and answers no requests")?;
                let job = job.clone();
                Ok(parts.into_job(job, stdin, program.clone()))
            }
            Some(Program::Service(component)) => {
                let sandbox = Sandbox::new(component.clone(), parts.guest().clone(), max_requests(parts.labels())?);
                let service = GuestService::new(parts.name(), sandbox, parts.sink());
                service.check().await?;
                let guarded = self.front.guard(parts.name(), Arc::new(service));
                let (bound, listening) = bind(&guarded, &ports).await?;
                parts.guarded = Some(guarded.clone());
                (parts.ports, parts.listening) = (bound, listening);
                parts.program = program.clone();
                self.publish(&mut parts, Some(guarded.as_service()));
                Ok(parts.into_running(Kind::Service))
            }
        }
    }

    /// Compile and load, on a thread that may block.
    fn load(&self, plan: &Plan, root: &Path, mounts: &[container::spec::Mount], choices: &Choices) -> Result<Loaded> {
        let program = match &plan.command {
            Some(command) => {
                let file = contents::program(root, &plan.working_dir, command)?;
                Some(self.runtime.programs.load(&file, command)?)
            }
            None => None,
        };
        // A folder mounted over the image's models replaces them, as it does for every other reader.
        let mounted = mounts.iter().find(|mount| mount.target.trim_end_matches('/') == MODELS);
        let folder = mounted.map_or_else(|| root.join("models"), |mount| mount.source.clone());
        let models = self.runtime.load_models(&contents::models(&folder)?, choices)?;
        if program.is_none() && models.is_empty() {
            return Err(Error::invalid(
                "no command specified: the image names no component to run (ENTRYPOINT [\"/app.wasm\"]) and has no \
                 models in /models",
            ));
        }
        Ok(Loaded { program, models })
    }

    /// What instances see.
    fn guest(&self, start: &Start, batchers: &[(String, Arc<Batcher>)]) -> Result<Guest> {
        let memory = start.memory.map_or(self.memory, |bytes| usize::try_from(bytes).unwrap_or(usize::MAX));
        self.runtime.check_memory(memory)?;
        let sink: Arc<dyn LogSink> = Arc::new(LineSink(start.output.clone()));
        let image = Mount { source: start.root.clone(), target: "/".to_owned(), read_only: true };
        let mounts = start.mounts.iter().map(|mount| Mount {
            source: mount.source.clone(),
            target: mount.target.clone(),
            read_only: mount.read_only,
        });
        let calls = Calls::new(start.peers.clone(), self.services.clone(), self.outside.clone(), sink.clone());
        let guest = Guest {
            models: batchers.iter().map(|(name, model)| (name.clone(), model.clone() as Arc<dyn Infer>)).collect(),
            environment: start.environment.clone(),
            arguments: start.argv.clone(),
            working_dir: start.working_dir.clone(),
            mounts: std::iter::once(image).chain(mounts).collect(),
            outgoing: Arc::new(calls),
            ..Guest::new(GuestOutput::Lines(sink), memory)
        };
        guest.governor.set_nano_cpus(start.nano_cpus);
        Ok(guest)
    }

    /// From here on requests and inferences find it.
    fn publish(&self, parts: &mut Parts, http: Option<Arc<dyn HttpService>>) {
        let models: BTreeMap<String, Arc<dyn Infer>> =
            parts.batchers.iter().map(|(name, batcher)| (name.clone(), batcher.clone() as Arc<dyn Infer>)).collect();
        let service =
            Service { name: parts.name().get(), http, models, placements: super::placements(&parts.batchers) };
        for (name, batcher) in &parts.batchers {
            self.metrics.watch_model(&service.model_path(name), totals::source(batcher));
        }
        parts.published = Some(self.services.publish(service));
    }
}

/// What is to be loaded, before looking at files.
struct Plan {
    command: Option<String>,
    working_dir: String,
}

impl Plan {
    fn new(start: &Start) -> Result<Plan> {
        let working_dir = if start.working_dir.is_empty() { "/".to_owned() } else { start.working_dir.clone() };
        let command = start.argv.first().cloned();
        if command.as_deref() == Some("") {
            return Err(Error::invalid("exec: \"\": executable file not found in $PATH"));
        }
        Ok(Plan { command, working_dir })
    }
}

fn max_requests(labels: &BTreeMap<String, String>) -> Result<u32> {
    labels.get(MAX_REQUESTS).map_or(Ok(1), |value| match value.parse() {
        Ok(number) if number > 0 => Ok(number),
        _ => Err(Error::invalid(format!("label {MAX_REQUESTS}={value}: write a number of requests from 1 up"))),
    })
}

/// A device that was preferred and is not used is worth a line of the container's own log. Lost where there is no room.
fn say_what_fell_back(models: &LoadedModels, output: &dyn Output) {
    let devices = models.iter().map(|(name, batcher)| totals::device(name, batcher));
    for of in devices.filter(|of| !of.fell_back.is_empty()) {
        let line =
            format!("wharf: model {} runs on {}, not on {}", of.model, of.device, of.fell_back.join("; not on "));
        for line in line.lines() {
            output.try_write(Stream::Stderr, Bytes::copy_from_slice(line.as_bytes()));
        }
    }
}

fn refuse_ports(ports: &[PortRequest], why: &str) -> Result<()> {
    match ports.first() {
        None => Ok(()),
        Some(port) => Err(Error::invalid(format!("cannot publish {}: {why}", port.guest))),
    }
}

type Bound = (Vec<BoundPort>, Vec<Box<dyn Listening>>);

/// Bind all ports, or none.
async fn bind(guarded: &Arc<dyn Guarded>, ports: &[PortRequest]) -> Result<Bound> {
    let (mut bound, mut listening) = (Vec::with_capacity(ports.len()), Vec::with_capacity(ports.len()));
    for port in ports {
        let open = guarded.clone().bind(port.host).await?;
        bound.push(BoundPort { guest: port.guest, host: open.address() });
        listening.push(open);
    }
    Ok((bound, listening))
}

/// A container's log as the sandbox writes to it.
pub struct LineSink(pub Arc<dyn Output>);

impl LogSink for LineSink {
    fn try_write(&self, stream: LogStream, line: Bytes) -> bool {
        let stream = match stream {
            LogStream::Stdout => Stream::Stdout,
            LogStream::Stderr => Stream::Stderr,
        };
        self.0.try_write(stream, line)
    }

    fn ready(&self) -> BoxFuture<'_, ()> {
        self.0.ready()
    }
}
