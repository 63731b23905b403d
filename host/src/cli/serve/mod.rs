//! `wharf serve`: what was typed → [`ServeConfig`].
//!
//! - [`targets`]: what each TARGET is
//! - [`foreground`]: those that need images and containers, started and stopped over the host's own socket

mod foreground;
mod targets;

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, ValueEnum};
use wharf_sandbox::state::Mount;

use self::foreground::{Container, Plan, Wanted};
use self::targets::{Kind, Named};
use super::client::Client;
use super::{environment, table, values};
use crate::error::{Error, ErrorKind, Result};
use crate::ingress::Limits;
use crate::model::library::Search;
use crate::runtime::Workload;
use crate::serve::config::{self, Control, DeviceList, DeviceWish, Publish, ServeConfig, WhenReady};
use crate::serve::notify::Supervisor;
use crate::serve::target;
use crate::serve::telemetry::{self, LogFormat, LogOutput};

/// Of one instance, unless --memory says otherwise.
const MEMORY: u64 = 256 << 20;

/// Start the host: keep images and containers, or serve what is named here
///
/// Without a TARGET this is the daemon: it starts the containers that its restart policies
/// name, and waits for `wharf run`, `docker run` and all the others on its socket.
///
/// With TARGETs it serves them in the foreground, with their output, until Ctrl-C. A TARGET is
///   a component (.wasm), a model (.onnx), a folder with a component and models/, or a
///     repository of models (NAME/VERSION/model.onnx): served as it is, without an image;
///   an image's name: run as `wharf run --rm` does, pulled first if it is not here;
///   a folder with a Dockerfile: built as `wharf build` does, then run the same way;
///   a compose file (.yml, .yaml): brought up as `wharf compose up` does.
///
/// A path that is there wins over an image of the same name. In a folder, a component or models/
/// win over a Dockerfile. With an image, a Dockerfile or a compose file among the targets the
/// host is the daemon too. It ends when all of them have ended, or when one cannot start; Ctrl-C
/// removes the containers it made, and stops those of compose files.
///
/// Each service answers on a port of its own (-p); all models answer the Open Inference Protocol
/// on the host's port (--http).
///
/// Examples:
///   wharf serve
///   wharf serve digits.onnx
///   wharf serve -p 5000:5000 ./digits
///   wharf serve -p 5000 ./digits -p 5001 ./facedetection --memory 512m
///   wharf serve registry.example.org/team/digits:1.0 -p 5000:5000
///   wharf serve docker-compose.yml
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct Serve {
    /// Components, models, folders, images or compose files to serve
    #[arg(value_name = "TARGET")]
    targets: Vec<PathBuf>,

    /// Folder of components, models and folders of them, served in the order of their names, beside images and
    /// containers; it may be empty
    #[arg(long, value_name = "DIR", conflicts_with = "targets")]
    services: Option<PathBuf>,

    /// Publish a service on a port, as docker does; the n-th belongs to the n-th service. Without it services
    /// get free ports from 5000 up on the address of --bind, images if they EXPOSE one
    #[arg(short, long, value_name = "[IP:]HOST[:GUEST]")]
    publish: Vec<Publish>,

    /// Address of this machine on which services without -p are published
    #[arg(long, value_name = "IP", env = environment::BIND, default_value = "127.0.0.1")]
    bind: IpAddr,

    /// Name of the n-th target [default: its file, folder or image name]
    #[arg(long, value_name = "NAME")]
    name: Vec<String>,

    /// A model for the components given as files; repeat for more
    #[arg(short, long, value_name = "NAME=FILE", value_parser = model)]
    model: Vec<(String, PathBuf)>,

    /// Environment variable for the guests; NAME alone takes the value from this environment
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    env: Vec<String>,

    /// Folder of this machine that the guests see; :ro makes it read-only
    #[arg(short, long, value_name = "HOST:GUEST[:ro]", value_parser = mount)]
    volume: Vec<Mount>,

    /// The host's own port: Open Inference Protocol, /metrics, dashboard
    #[arg(long, value_name = "ADDRESS", env = environment::HTTP, default_value = environment::HTTP_DEFAULT)]
    http: SocketAddr,

    /// ONNX Runtime's shared library, or the folder it is in
    #[arg(long, value_name = "PATH")]
    onnxruntime: Option<PathBuf>,

    /// What models run on: auto, cpu, cuda[:N], tensorrt[:N] or a list, first choice first; the CPU does what none of
    /// them can. A container's own --device, --gpus or label wharf.device comes first [default: auto]
    #[arg(long, value_name = "DEVICE")]
    device: Option<DeviceList>,

    /// Refuse what none of the devices named with --device can run, instead of running it on the CPU
    #[arg(long, requires = "device")]
    require_device: bool,

    /// Memory of the GPU that each model may use, e.g. 2g [default: all of it]
    #[arg(long, value_name = "SIZE", value_parser = config::gpu_memory)]
    gpu_memory: Option<u64>,

    /// Where images, containers and caches live [env: WHARF_DATA]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,

    /// Unix socket of the Docker Engine API, unless all TARGETs are served as they are [default: wharf.sock in the
    /// data folder]
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,

    /// How the log is written [default: human on a terminal, json otherwise]
    #[arg(long, value_enum, value_name = "FORMAT")]
    log_format: Option<Format>,

    /// Where the host's own log goes; services' lines stay on the stream they wrote them to
    #[arg(long, value_enum, value_name = "STREAM", env = environment::LOG_TO, default_value = "stderr")]
    log_to: Output,

    /// What the host logs: error, warn, info, debug, trace, or a filter such as wharf=debug
    #[arg(long, value_name = "FILTER", env = environment::LOG, default_value = "info")]
    log_level: String,

    // Last: its heading would be the heading of every flag after it.
    #[command(flatten)]
    limits: LimitFlags,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Limits of each service")]
struct LimitFlags {
    /// Memory of one instance: its linear memories and the pictures and tensors it holds [default: 256m]
    #[arg(long, value_name = "SIZE", value_parser = values::size)]
    memory: Option<u64>,

    /// Requests one instance may serve, one after the other. 1 makes a fresh instance for each; more is faster, and
    /// what one request leaves in the guest's globals the next one sees [default: 1, or what the image says]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    instance_max_requests: Option<u32>,

    /// Open connections; further ones wait
    #[arg(long, value_name = "N", default_value_t = Limits::default().connections)]
    max_connections: usize,

    /// Requests being answered at the same time; further ones get 503
    #[arg(long, value_name = "N", default_value_t = Limits::default().in_flight)]
    max_in_flight: usize,

    /// Size of a request's body; larger ones get 413
    #[arg(long, value_name = "SIZE", value_parser = values::size, default_value = "64m")]
    max_body: u64,

    /// Size of a response's body; larger ones are cut
    #[arg(long, value_name = "SIZE", value_parser = values::size, default_value = "1g")]
    max_response: u64,

    /// Time for the headers of a request; slower ones get 408
    #[arg(long, value_name = "TIME", value_parser = values::duration, default_value = "10s")]
    header_timeout: Duration,

    /// Time for the body of a request; slower ones get 408
    #[arg(long, value_name = "TIME", value_parser = values::duration, default_value = "30s")]
    body_timeout: Duration,

    /// Time for the whole answer; slower ones get 504 and are stopped
    #[arg(long, value_name = "TIME", value_parser = values::duration, default_value = "30s")]
    timeout: Duration,

    /// Time open requests have to finish after SIGTERM
    #[arg(long, value_name = "TIME", value_parser = values::duration, default_value = "10s")]
    stop_timeout: Duration,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    Human,
    Json,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Output {
    Stdout,
    Stderr,
}

impl Serve {
    pub fn execute(self) -> Result<ExitCode> {
        let log_output = match self.log_to {
            Output::Stdout => LogOutput::Stdout,
            Output::Stderr => LogOutput::Stderr,
        };
        let log_format = match self.log_format {
            Some(Format::Human) => LogFormat::Human,
            Some(Format::Json) => LogFormat::Json,
            None => LogFormat::detect(log_output),
        };
        telemetry::install(log_output, log_format, &self.log_level, environment::wants_colour())?;
        // What the verbs say that it borrows belongs into the log, in its format.
        table::divert(|line| tracing::info!("{line}"));
        let config = self.resolve(log_format)?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .map_err(|error| Error::new(ErrorKind::Io, "cannot start the runtime's threads").because(error))?;
        let served = runtime.block_on(crate::serve::run(config));
        // Requests still open were given their time: do not wait for them again.
        runtime.shutdown_background();
        served
    }

    fn resolve(mut self, log_format: LogFormat) -> Result<ServeConfig> {
        let paths = match &self.services {
            Some(folder) => target::services(folder)?,
            None => self.targets.clone(),
        };
        if self.name.len() > paths.len() {
            return Err(Error::invalid(format!(
                "{} --name for {} targets: the n-th --name belongs to the n-th target",
                self.name.len(),
                paths.len()
            )));
        }
        let data = self.data.clone().unwrap_or_else(environment::data);
        let targets = self.named(&paths)?;
        let as_they_are = targets.iter().all(Named::is_files);
        let daemon = self.targets.is_empty() || !as_they_are;
        let socket = self.socket.clone().unwrap_or_else(|| data.join(environment::SOCKET));
        if !daemon && self.socket.is_some() {
            return Err(Error::invalid(
                "--socket is for images and containers, and all that is named here is served without them",
            ));
        }
        let workloads = self.workloads(&targets);
        let when_ready = if as_they_are { None } else { Some(self.foreground(targets, &socket)?) };
        let limits = self.limits;
        Ok(ServeConfig {
            workloads,
            publish: self.publish,
            bind: self.bind,
            limits: Limits {
                connections: limits.max_connections,
                header_time: limits.header_timeout,
                body_time: limits.body_timeout,
                body_size: limits.max_body,
                in_flight: limits.max_in_flight,
                deadline: limits.timeout,
                response_size: limits.max_response,
            },
            http: self.http,
            search: search(self.onnxruntime, &data),
            devices: DeviceWish {
                list: self.device,
                required: self.require_device,
                gpu_memory: self.gpu_memory,
                ..DeviceWish::default()
            },
            sysroot: environment::sysroot(),
            data,
            log_format,
            stop_timeout: limits.stop_timeout,
            control: daemon.then_some(Control { socket }),
            coloured: environment::wants_colour(),
            supervisor: supervisor(),
            when_ready,
        })
    }

    /// What each target is, under the name it was given or has.
    fn named(&self, paths: &[PathBuf]) -> Result<Vec<Named>> {
        let mut all: Vec<Named> = Vec::with_capacity(paths.len());
        for (index, path) in paths.iter().enumerate() {
            let mut target = Named::read(path)?;
            if let Some(name) = self.name.get(index) {
                if matches!(target.kind, Kind::Compose) {
                    return Err(Error::invalid(format!(
                        "--name {name} would be for {}: a compose file names its containers itself",
                        path.display()
                    )));
                }
                target.name = name.clone();
            }
            if all.iter().any(|other| other.name == target.name) {
                return Err(Error::new(
                    ErrorKind::Conflict,
                    format!("two targets are called {:?}: give one of them another --name", target.name),
                ));
            }
            all.push(target);
        }
        Ok(all)
    }

    fn workloads(&self, targets: &[Named]) -> Vec<Workload> {
        let environment: Vec<(String, String)> = self.env.iter().filter_map(|typed| variable(typed)).collect();
        let memory = usize::try_from(self.limits.memory.unwrap_or(MEMORY)).unwrap_or(usize::MAX);
        let mut workloads: Vec<Workload> = Vec::with_capacity(targets.len());
        for target in targets {
            let Kind::Files(files) = &target.kind else { continue };
            let mut models = files.models.clone();
            if files.component.as_ref() == Some(&target.path) {
                models.extend(self.model.iter().cloned());
            }
            workloads.push(Workload {
                name: target.name.clone(),
                component: files.component.clone(),
                models,
                environment: environment.clone(),
                mounts: self.volume.clone(),
                memory,
                max_requests: self.limits.instance_max_requests.unwrap_or(1),
            });
        }
        workloads
    }

    /// What is to be done once the host answers. Takes the -p that belong to images; the others stay.
    fn foreground(&mut self, targets: Vec<Named>, socket: &Path) -> Result<WhenReady> {
        self.refuse_what_means_nothing(&targets)?;
        let environment: Vec<String> = self.env.iter().filter_map(|typed| variable(typed)).map(written).collect();
        let binds = self.volume.iter().map(bind).collect::<Result<Vec<String>>>()?;
        let client = Client::at(std::path::absolute(socket).map_err(|error| {
            Error::invalid(format!("cannot tell where the socket {} is", socket.display())).because(error)
        })?);
        let beside_others = targets.iter().any(Named::is_files);
        let mut publish = std::mem::take(&mut self.publish).into_iter();
        let mut wanted = Vec::new();
        for target in targets {
            let publish = if target.is_service() { publish.next() } else { None };
            let (image, context) = match target.kind {
                Kind::Files(_) => {
                    self.publish.extend(publish);
                    continue;
                }
                Kind::Compose => {
                    let work = super::compose::read(&target.path, client.clone())?;
                    wanted.push(Wanted::Compose(Box::new(work)));
                    continue;
                }
                Kind::Image(image) => (image, None),
                Kind::Folder { tag } => (tag, Some(target.path)),
            };
            wanted.push(Wanted::Container(Box::new(Container {
                name: target.name,
                image,
                context,
                publish,
                bind: self.bind,
                environment: environment.clone(),
                binds: binds.clone(),
                memory: self.limits.memory,
                max_requests: self.limits.instance_max_requests,
            })));
        }
        if let Some(unused) = publish.next() {
            return Err(Error::invalid(format!(
                "-p {unused} has no service to belong to: there are fewer services than -p"
            )));
        }
        let plan = Plan { client, wanted, beside_others, grace: self.limits.stop_timeout };
        Ok(Box::new(move |host| Box::pin(foreground::run(plan, host))))
    }

    /// Flags that none of the targets can have.
    fn refuse_what_means_nothing(&self, targets: &[Named]) -> Result<()> {
        let given_file = |target: &Named| target.is_files() && target.path.is_file() && target.is_service();
        if !self.model.is_empty() && !targets.iter().any(given_file) {
            return Err(Error::invalid("--model is for components given as files (.wasm): an image brings its models"));
        }
        if !targets.iter().all(|target| matches!(target.kind, Kind::Compose)) {
            return Ok(());
        }
        let given = [
            (!self.publish.is_empty(), "-p", "`ports`"),
            (!self.env.is_empty(), "-e", "`environment`"),
            (!self.volume.is_empty(), "-v", "`volumes`"),
            (self.limits.memory.is_some(), "--memory", "`mem_limit`"),
            (
                self.limits.instance_max_requests.is_some(),
                "--instance-max-requests",
                "the label `wharf.instance.max-requests`",
            ),
        ];
        match given.into_iter().find(|(given, ..)| *given) {
            Some((_, flag, key)) => {
                Err(Error::invalid(format!("{flag} means nothing to a compose file: write {key} of its services")))
            }
            None => Ok(()),
        }
    }
}

/// `SOURCE:TARGET[:ro]` with an absolute source, which must be there: a typing error must not become a volume.
fn bind(mount: &Mount) -> Result<String> {
    let source = mount.source.display();
    if !mount.source.is_dir() {
        return Err(Error::invalid(format!("volume source {source} is not a folder")));
    }
    let source = std::path::absolute(&mount.source)
        .map_err(|error| Error::invalid(format!("cannot tell where {source} is")).because(error))?;
    let read_only = if mount.read_only { ":ro" } else { "" };
    Ok(format!("{}:{}{read_only}", source.display(), mount.target))
}

fn written((name, value): (String, String)) -> String {
    format!("{name}={value}")
}

/// Where to look for ONNX Runtime.
pub fn search(explicit: Option<PathBuf>, data: &std::path::Path) -> Search {
    Search {
        explicit,
        ort_dylib_path: environment::onnxruntime(),
        executable: environment::executable(),
        data: Some(data.to_owned()),
    }
}

/// The service manager that started the host, if one did.
fn supervisor() -> Option<Supervisor> {
    environment::notify_socket().map(|socket| Supervisor { socket, watchdog: environment::watchdog() })
}

/// `NAME=VALUE`, or `NAME` with this process's value; a name that is not set here is left out, as docker does.
fn variable(typed: &str) -> Option<(String, String)> {
    match typed.split_once('=') {
        Some((name, value)) => Some((name.to_owned(), value.to_owned())),
        None => environment::variable(typed).map(|value| (typed.to_owned(), value)),
    }
}

fn model(typed: &str) -> Result<(String, PathBuf), String> {
    let (name, file) = typed.split_once('=').ok_or("write NAME=FILE, e.g. digits=models/digits.onnx")?;
    Ok((name.to_owned(), PathBuf::from(file)))
}

fn mount(typed: &str) -> Result<Mount, String> {
    let parts: Vec<&str> = typed.split(':').collect();
    let (source, target, read_only) = match parts.as_slice() {
        [source, target] => (source, target, false),
        [source, target, "ro"] => (source, target, true),
        [source, target, "rw"] => (source, target, false),
        _ => return Err("write HOST:GUEST or HOST:GUEST:ro".to_owned()),
    };
    if !target.starts_with('/') {
        return Err(format!("the guest's path {target:?} must start with /"));
    }
    Ok(Mount { source: PathBuf::from(source), target: (*target).to_owned(), read_only })
}
