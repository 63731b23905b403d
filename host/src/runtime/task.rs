//! A started container: watched, paused, measured, stopped.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Empty};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};
use wharf_sandbox::job::{Job, JobSpec};
use wharf_sandbox::log::{LogSink, LogStream};
use wharf_sandbox::service::CallError;
use wharf_sandbox::state::Guest;
use wharf_tensor::infer::Infer;

use super::LoadedModels;
use super::exec::{self, Toolbox};
use super::launch::{Launcher, LineSink};
use super::programs::Program;
use super::shell::{self, View};
use super::totals;
use crate::batch::Batcher;
use crate::container::runtime::{
    BoundPort, BoxFuture, Exec, Exit, Kind, ModelDevice, Probe, ProbeResult, Start, Task, Usage,
};
use crate::container::spec::Mount;
use crate::error::Result;
use crate::service::{Guarded, Listening, Name, Service};

/// Bytes of a health check's answer that are kept, as Docker keeps them.
const PROBE_OUTPUT: usize = 4096;

/// A trapped guest, in the words of a Unix shell: ended by SIGABRT.
const TRAPPED: i32 = 134;

/// What was made at the start, until it runs.
pub struct Parts {
    launcher: Launcher,
    start: Start,
    name: Name,
    guest: Guest,
    pub batchers: Vec<(String, Arc<Batcher>)>,
    pub guarded: Option<Arc<dyn Guarded>>,
    pub ports: Vec<BoundPort>,
    pub listening: Vec<Box<dyn Listening>>,
    pub published: Option<Arc<Service>>,
    /// Held so that other containers of the image find it loaded.
    pub program: Option<Arc<Program>>,
}

impl Parts {
    pub(super) fn new(launcher: Launcher, start: Start, guest: Guest, models: LoadedModels) -> Parts {
        Parts {
            launcher,
            name: Name::new(start.name.as_str()),
            start,
            guest,
            batchers: models,
            guarded: None,
            ports: Vec::new(),
            listening: Vec::new(),
            published: None,
            program: None,
        }
    }

    pub fn name(&self) -> Name {
        self.name.clone()
    }

    pub fn guest(&self) -> &Guest {
        &self.guest
    }

    pub fn labels(&self) -> &BTreeMap<String, String> {
        &self.start.labels
    }

    pub fn sink(&self) -> Arc<dyn LogSink> {
        Arc::new(LineSink(self.start.output.clone()))
    }

    pub fn into_running(self, kind: Kind) -> Running {
        Running { shared: Arc::new(Shared::new(self, kind)) }
    }

    /// Run `job` to its end; `program` is what it belongs to.
    pub fn into_job(
        mut self,
        job: Job,
        stdin: Option<mpsc::Receiver<Bytes>>,
        program: Option<Arc<Program>>,
    ) -> Running {
        self.program = program;
        let spec = JobSpec { guest: self.guest.clone(), stdin, terminal: self.start.tty };
        let sink = self.sink();
        let running = self.into_running(Kind::Job);
        let shared = running.shared.clone();
        let task = tokio::spawn(async move {
            let ended = job.run(spec).await;
            shared.end(exit(ended, &*sink));
        });
        *running.shared.job.lock().unwrap_or_else(PoisonError::into_inner) = Some(task);
        running
    }
}

/// How a job ended, in Docker's codes; what its code does not say goes to the log.
pub fn exit(ended: Result<i32, CallError>, log: &dyn LogSink) -> Exit {
    let (code, out_of_memory, error) = match ended {
        Ok(code) => return Exit { code, ..Exit::default() },
        Err(error @ CallError::OutOfMemory { .. }) => (137, true, error.to_string()),
        Err(error @ CallError::Trap(_)) => (TRAPPED, false, error.to_string()),
        Err(error) => (125, false, error.to_string()),
    };
    for line in format!("wharf: {error}").lines() {
        log.try_write(LogStream::Stderr, Bytes::copy_from_slice(line.as_bytes()));
    }
    Exit { code, out_of_memory, error }
}

/// A started container.
pub struct Running {
    shared: Arc<Shared>,
}

struct Shared {
    kind: Kind,
    launcher: Launcher,
    name: Name,
    guest: Guest,
    argv: Vec<String>,
    root: std::path::PathBuf,
    mounts: Vec<Mount>,
    batchers: Vec<(String, Arc<Batcher>)>,
    guarded: Option<Arc<dyn Guarded>>,
    ports: Vec<BoundPort>,
    listening: Mutex<Vec<Box<dyn Listening>>>,
    published: Mutex<Option<Arc<Service>>>,
    job: Mutex<Option<JoinHandle<()>>>,
    /// Of one instance, in bytes; changes with an update.
    memory: AtomicUsize,
    stopping: AtomicBool,
    ending: watch::Sender<Option<Exit>>,
    _program: Option<Arc<Program>>,
}

impl Shared {
    fn new(parts: Parts, kind: Kind) -> Shared {
        let (name, memory) = (parts.name(), parts.guest.memory);
        Shared {
            kind,
            launcher: parts.launcher,
            name,
            guest: parts.guest,
            argv: parts.start.argv,
            root: parts.start.root,
            mounts: parts.start.mounts,
            batchers: parts.batchers,
            guarded: parts.guarded,
            ports: parts.ports,
            listening: Mutex::new(parts.listening),
            published: Mutex::new(parts.published),
            job: Mutex::default(),
            memory: AtomicUsize::new(memory),
            stopping: AtomicBool::new(false),
            ending: watch::Sender::new(None),
            _program: parts.program,
        }
    }

    /// The first end counts.
    fn end(&self, exit: Exit) {
        self.ending.send_if_modified(|ending| {
            let first = ending.is_none();
            if first {
                *ending = Some(exit);
            }
            first
        });
    }

    /// New requests and inferences no longer find it; those under way go on.
    fn withdraw(&self) {
        let published = self.published.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(service) = published else { return };
        self.launcher.services.withdraw(&service);
        for (model, _) in &self.batchers {
            self.launcher.metrics.forget_model(&service.model_path(model));
        }
    }

    /// Let open requests finish, for `grace` at most, and cut what is left. Called again meanwhile, the shorter grace
    /// and its `code` count.
    async fn drain(&self, grace: Option<Duration>, code: i32) {
        let mut ended = self.ending.subscribe();
        let elapsed = async {
            match grace {
                Some(grace) => tokio::time::sleep(grace).await,
                None => std::future::pending().await,
            }
        };
        if self.stopping.swap(true, Ordering::Relaxed) {
            tokio::select! {
                () = elapsed => self.end(Exit { code, ..Exit::default() }),
                _ = ended.wait_for(Option::is_some) => {}
            }
            return;
        }
        let listening = std::mem::take(&mut *self.listening.lock().unwrap_or_else(PoisonError::into_inner));
        let mut closing: JoinSet<()> = listening.into_iter().map(|open| open.close(None)).collect();
        tokio::select! {
            () = async { while closing.join_next().await.is_some() {} } => {}
            () = elapsed => {}
            // A second call was in more of a hurry.
            _ = ended.wait_for(Option::is_some) => {}
        }
        // What is still open is cut by dropping it.
        closing.shutdown().await;
        let job = self.job.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(job) = job {
            // WASI knows no signals: a job that is told to stop is ended. Its last output is written when its instance
            // is dropped.
            job.abort();
            let _ = job.await;
        }
    }

    fn usage(&self) -> Usage {
        let governed = self.guest.governor.usage();
        let compute: Duration = self.batchers.iter().map(|(_, batcher)| totals::compute(batcher)).sum();
        let traffic = self.guarded.as_ref().map(|guarded| guarded.traffic()).unwrap_or_default();
        Usage {
            cpu: governed.cpu + compute,
            memory: governed.memory,
            memory_limit: self.memory.load(Ordering::Relaxed) as u64,
            received: traffic.received,
            sent: traffic.sent,
            in_flight: traffic.in_flight,
            requests: traffic.requests,
            periods: governed.throttling.periods,
            throttled_periods: governed.throttling.throttled_periods,
            throttled_time: governed.throttling.throttled_time,
        }
    }

    fn view(self: &Arc<Self>) -> View {
        let shared = self.clone();
        View {
            name: self.name.to_string(),
            root: self.root.clone(),
            mounts: self.mounts.clone(),
            argv: self.argv.clone(),
            models: self.batchers.iter().map(|(name, model)| (name.clone(), model.clone() as Arc<dyn Infer>)).collect(),
            usage: Arc::new(move || shared.usage()),
            tools: Arc::new(self.toolbox()),
        }
    }

    fn toolbox(&self) -> Toolbox {
        Toolbox { programs: self.launcher.runtime.programs.clone(), root: self.root.clone(), guest: self.guest.clone() }
    }
}

impl Task for Running {
    fn kind(&self) -> Kind {
        self.shared.kind
    }

    fn ports(&self) -> Vec<BoundPort> {
        self.shared.ports.clone()
    }

    fn devices(&self) -> Vec<ModelDevice> {
        self.shared.batchers.iter().map(|(name, batcher)| totals::device(name, batcher)).collect()
    }

    fn models(&self) -> Vec<String> {
        self.shared.batchers.iter().map(|(name, _)| name.clone()).collect()
    }

    fn exited(&self) -> BoxFuture<'static, Exit> {
        let mut ending = self.shared.ending.subscribe();
        Box::pin(async move {
            // The sender lives as long as the container; without it there is nothing left to wait for.
            let ended = ending.wait_for(Option::is_some).await;
            ended.ok().and_then(|exit| exit.clone()).unwrap_or_default()
        })
    }

    fn stop(&self, grace: Option<Duration>, code: i32) -> BoxFuture<'static, ()> {
        let shared = self.shared.clone();
        Box::pin(async move {
            // Whoever stands still cannot finish.
            shared.guest.governor.unpause();
            shared.withdraw();
            shared.drain(grace, code).await;
            shared.end(Exit { code, ..Exit::default() });
            shared.launcher.front.forget(&shared.name.get());
        })
    }

    fn pause(&self) {
        self.shared.guest.governor.pause();
    }

    fn unpause(&self) {
        self.shared.guest.governor.unpause();
    }

    fn renamed(&self, name: &str) {
        let shared = &self.shared;
        let before = shared.name.change(name);
        shared.launcher.front.renamed(&before, name);
        let mut published = shared.published.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(old) = published.take() else { return };
        let service = Service { name: name.into(), ..(*old).clone() };
        for (model, batcher) in &shared.batchers {
            shared.launcher.metrics.forget_model(&old.model_path(model));
            shared.launcher.metrics.watch_model(&service.model_path(model), totals::source(batcher));
        }
        shared.launcher.services.withdraw(&old);
        *published = Some(shared.launcher.services.publish(service));
    }

    fn update(&self, memory: Option<u64>, nano_cpus: Option<u64>) -> Result<()> {
        let governor = &self.shared.guest.governor;
        if let Some(memory) = memory {
            let memory = usize::try_from(memory).unwrap_or(usize::MAX);
            self.shared.launcher.runtime.check_memory(memory)?;
            governor.set_memory(memory);
            self.shared.memory.store(memory, Ordering::Relaxed);
        }
        if let Some(nano_cpus) = nano_cpus {
            governor.set_nano_cpus(Some(nano_cpus));
        }
        Ok(())
    }

    fn usage(&self) -> Usage {
        self.shared.usage()
    }

    fn probe(&self, probe: Probe, timeout: Duration) -> BoxFuture<'static, ProbeResult> {
        let shared = self.shared.clone();
        Box::pin(async move {
            let check = async {
                match probe {
                    Probe::Http(path) => shared.get(&path, timeout).await,
                    Probe::Exec(argv) => exec::captured(&shared.toolbox(), argv, PROBE_OUTPUT).await,
                }
            };
            tokio::time::timeout(timeout, check).await.unwrap_or_else(|_| ProbeResult {
                code: -1,
                output: format!("Health check exceeded timeout ({timeout:?})"),
            })
        })
    }

    fn exec(&self, exec: Exec) -> BoxFuture<'static, Exit> {
        let shared = self.shared.clone();
        Box::pin(async move {
            let toolbox = shared.toolbox();
            let command = exec.argv.first().map_or("", String::as_str);
            // The image's own tool wins over a built-in command of the same name.
            let own = shell::Tools::find(&toolbox, command, &exec.working_dir);
            if !own && shell::takes(&exec.argv) {
                return shell::run(shared.view(), exec).await;
            }
            shell::Tools::run(&toolbox, exec).await
        })
    }
}

impl Shared {
    /// `GET path` of the service itself, past its limits: a busy service is not an unhealthy one.
    async fn get(&self, path: &str, timeout: Duration) -> ProbeResult {
        let unhealthy = |output: String| ProbeResult { code: 1, output };
        let Some(service) = &self.guarded else { return unhealthy("the container answers no HTTP".to_owned()) };
        let body = Empty::new().map_err(|never| match never {}).boxed_unsync();
        let request = Request::get(format!("http://localhost{path}")).body(body);
        let request = match request {
            Ok(request) => request,
            Err(error) => return unhealthy(format!("{path:?} is no path: {error}")),
        };
        let response = service.call(request, Instant::now() + timeout).await;
        let status = response.status();
        let body = response.into_body().collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
        let shown = body.get(..body.len().min(PROBE_OUTPUT)).unwrap_or_default();
        ProbeResult {
            code: i32::from(!(status.is_success() || status.is_redirection())),
            output: format!("{status}: {}", String::from_utf8_lossy(shown)),
        }
    }
}
