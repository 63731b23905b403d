//! `wharf serve`: what was typed → [`ServeConfig`].

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, ValueEnum};
use wharf_sandbox::state::Mount;

use super::{environment, values};
use crate::error::{Error, ErrorKind, Result};
use crate::ingress::Limits;
use crate::model::library::Search;
use crate::runtime::Workload;
use crate::serve::config::{Control, Publish, ServeConfig};
use crate::serve::target::Target;
use crate::serve::telemetry::{self, LogFormat};

/// Start the host: keep images and containers, or serve components and models named here
///
/// Without a TARGET this is the daemon: it starts the containers that its restart policies
/// name, and waits for `wharf run`, `docker run` and all the others on its socket.
///
/// TARGET is a component (.wasm), a model (.onnx), or a folder with a component and models/,
/// served in the foreground without an image. Each component answers on a port of its own (-p);
/// all models answer the Open Inference Protocol on the host's port (--http).
///
/// Examples:
///   wharf serve
///   wharf serve digits.onnx
///   wharf serve -p 5000:5000 ./digits
///   wharf serve -p 5000 ./digits -p 5001 ./facedetection --memory 512m
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct Serve {
    /// Components, models or folders to serve
    #[arg(value_name = "TARGET")]
    targets: Vec<PathBuf>,

    /// Publish a service on a port, as docker does; the n-th belongs to the n-th service. Without it services
    /// get free ports from 5000 up on 127.0.0.1
    #[arg(short, long, value_name = "[IP:]HOST[:GUEST]")]
    publish: Vec<Publish>,

    /// Name of the n-th target [default: its file or folder name]
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
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8000")]
    http: SocketAddr,

    /// ONNX Runtime's shared library, or the folder it is in
    #[arg(long, value_name = "PATH")]
    onnxruntime: Option<PathBuf>,

    /// Where images, containers and caches live [env: WHARF_DATA]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,

    /// Unix socket of the Docker Engine API, when no TARGET is named [default: wharf.sock in the data folder]
    #[arg(long, value_name = "PATH", conflicts_with = "targets")]
    socket: Option<PathBuf>,

    /// How the log is written [default: human on a terminal, json otherwise]
    #[arg(long, value_enum, value_name = "FORMAT")]
    log_format: Option<Format>,

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
    /// Memory of one instance: its linear memories and the pictures and tensors it holds
    #[arg(long, value_name = "SIZE", value_parser = values::size, default_value = "256m")]
    memory: u64,

    /// Requests one instance may serve, one after the other. 1 makes a fresh instance for each; more is faster, and
    /// what one request leaves in the guest's globals the next one sees
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    instance_max_requests: u32,

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

impl Serve {
    pub fn execute(self) -> Result<ExitCode> {
        let log_format = match self.log_format {
            Some(Format::Human) => LogFormat::Human,
            Some(Format::Json) => LogFormat::Json,
            None => LogFormat::detect(),
        };
        telemetry::install(log_format, &self.log_level)?;
        let config = self.resolve(log_format)?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .map_err(|error| Error::new(ErrorKind::Io, "cannot start the runtime's threads").because(error))?;
        let served = runtime.block_on(crate::serve::run(config));
        // Requests still open were given their time: do not wait for them again.
        runtime.shutdown_background();
        served.map(|()| ExitCode::SUCCESS)
    }

    fn resolve(self, log_format: LogFormat) -> Result<ServeConfig> {
        if self.name.len() > self.targets.len() {
            return Err(Error::invalid(format!(
                "{} --name for {} targets: the n-th --name belongs to the n-th target",
                self.name.len(),
                self.targets.len()
            )));
        }
        let data = self.data.clone().unwrap_or_else(environment::data);
        let workloads = self.workloads()?;
        let control = match workloads.is_empty() {
            true => Some(Control { socket: self.socket.unwrap_or_else(|| data.join(environment::SOCKET)) }),
            false => None,
        };
        let limits = self.limits;
        Ok(ServeConfig {
            workloads,
            publish: self.publish,
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
            data,
            log_format,
            stop_timeout: limits.stop_timeout,
            control,
            when_ready: None,
        })
    }

    fn workloads(&self) -> Result<Vec<Workload>> {
        let environment: Vec<(String, String)> = self.env.iter().filter_map(|typed| variable(typed)).collect();
        let memory = usize::try_from(self.limits.memory).unwrap_or(usize::MAX);
        let mut workloads: Vec<Workload> = Vec::with_capacity(self.targets.len());
        for (index, path) in self.targets.iter().enumerate() {
            let target = Target::read(path)?;
            let mut models = target.models;
            if target.component.as_ref() == Some(path) {
                models.extend(self.model.iter().cloned());
            }
            let name = self.name.get(index).cloned().unwrap_or(target.name);
            if workloads.iter().any(|other| other.name == name) {
                return Err(Error::new(
                    ErrorKind::Conflict,
                    format!("two targets are called {name:?}: give one of them another --name"),
                ));
            }
            workloads.push(Workload {
                name,
                component: target.component,
                models,
                environment: environment.clone(),
                mounts: self.volume.clone(),
                memory,
                max_requests: self.limits.instance_max_requests,
            });
        }
        Ok(workloads)
    }
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
