//! Builds an engine on a thread of its own and puts it in its place. One at a time per kind of GPU, in whichever process:
//! two would measure each other's load. A model that is unloaded meanwhile stops what has not begun; TensorRT itself
//! cannot be stopped, so an engine it is at work on is finished and kept for the next load.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::{Duration, Instant};

use super::engine_cache::{self, EngineFolder, Timings};
use super::engines::{Wanted, open_engine, with_engine};
use super::lanes::Backlog;
use super::load::Source;
use super::open::{Opener, Recipe, Target};
use super::routes::{Main, Routes};
use super::store::QueueOf;
use crate::error::{Error, ErrorKind, Result};

/// How often a build that goes on says so.
const PROGRESS: Duration = Duration::from_secs(30);

/// Unix niceness: who serves requests comes first.
const NICE: i32 = 10;

pub(super) struct Build<O: Opener, Q: Backlog<O::Session>> {
    pub opener: Arc<O>,
    pub cache: PathBuf,
    pub target: Target,
    pub recipe: Recipe,
    pub wanted: Wanted,
    pub queue: QueueOf<Q>,
    /// Gone when the model is unloaded.
    pub routes: Weak<Routes<O::Session, Q>>,
}

impl<O: Opener, Q: Backlog<O::Session>> Build<O, Q> {
    pub fn start(self) {
        let routes = self.routes.clone();
        if let Err(error) = thread::Builder::new().name("engine-build".into()).spawn(move || self.run())
            && let Some(routes) = routes.upgrade()
        {
            routes.fail(format!("cannot start a thread: {error}"));
        }
    }

    fn run(self) {
        // Threads that TensorRT starts from here inherit it. A machine that refuses builds all the same.
        let _ = rustix::process::setpriority_process(None, NICE);
        let since = Instant::now();
        // The model does not stay "building" for ever.
        let outcome = catch_unwind(AssertUnwindSafe(|| self.engine()))
            .unwrap_or_else(|_| Err(Error::new(ErrorKind::Failed, "making its engine panicked")));
        let (model, seconds) = (&self.recipe.name, since.elapsed().as_secs());
        let Some(routes) = self.routes.upgrade() else {
            tracing::info!(model, "unloaded before its engine was ready");
            return;
        };
        match outcome {
            Ok(Some(engine)) => {
                let device = engine.device;
                routes.switch(engine);
                tracing::info!(model, %device, seconds, "engine ready, requests go to it from now on");
            }
            Ok(None) => {}
            Err(error) => {
                let (reason, device) = (error.chain(), routes.of_main(|main| main.device));
                tracing::warn!(model, seconds, error = reason, "no engine, the model stays on {device}");
                routes.fail(reason);
            }
        }
    }

    fn is_unloaded(&self) -> bool {
        self.routes.strong_count() == 0
    }

    /// Sessions on the engine; `None` where the model was unloaded.
    fn engine(&self) -> Result<Option<Main<O::Session, Q>>> {
        tracing::info!(model = self.recipe.name, engine = self.wanted.key.as_str(), "an engine is needed");
        let timings = Timings::open(&self.cache, &self.target.gpu, &self.target.versions)?;
        let folder = EngineFolder::open(&self.cache, &self.wanted.key)?;
        if self.is_unloaded() {
            return Ok(None);
        }
        let source = Source::again(&self.recipe)?;
        if !self.wanted.key.is_for(&source.weights()?) {
            let message = format!("the weights of model {:?} have changed since it was loaded", self.recipe.name);
            return Err(Error::new(ErrorKind::Conflict, message));
        }
        // Whoever was first may have been at this very engine.
        if let Some(engine) = engine_cache::find(&self.cache, &self.wanted.key) {
            match self.open(&engine, &source) {
                Err(error) if error.kind() != ErrorKind::Unmet => {
                    tracing::warn!(
                        model = self.recipe.name,
                        error = error.chain(),
                        "removing an engine that is of no use"
                    );
                    folder.discard()?;
                }
                opened => return opened.map(Some),
            }
        }
        let unfinished = folder.begin()?;
        let lent = timings.lend(&unfinished)?;
        let mut recipe = with_engine(&self.recipe, &self.wanted, unfinished.path());
        recipe.tensorrt.timing_cache = Some(lent.clone());
        self.build(&recipe, &source)?;
        if let Err(error) = timings.keep(&lent) {
            tracing::warn!(error = error.chain(), "the next build measures again");
        }
        let engine = folder.publish(unfinished)?;
        drop((timings, folder));
        if self.is_unloaded() {
            return Ok(None);
        }
        self.open(&engine, &source).map(Some)
    }

    fn open(&self, engine: &Path, source: &Source) -> Result<Main<O::Session, Q>> {
        open_engine(&*self.opener, &self.recipe, &self.wanted, engine, source, &self.queue).map(|(main, _)| main)
    }

    /// Open a session where there is no engine yet, which makes one, and close it. Says how long it has been at it.
    fn build(&self, recipe: &Recipe, source: &Source) -> Result<()> {
        let model = &recipe.name;
        tracing::info!(model, "building a TensorRT engine, which takes minutes");
        let since = Instant::now();
        thread::scope(|scope| {
            let (done, waiting) = mpsc::channel::<()>();
            let builder = scope.spawn(move || {
                let _done = done;
                self.opener.open(recipe, source).map(drop)
            });
            // Nothing is ever sent: the sender goes when the builder ends.
            while waiting.recv_timeout(PROGRESS) == Err(RecvTimeoutError::Timeout) {
                tracing::info!(model, seconds = since.elapsed().as_secs(), "still building");
            }
            builder.join().unwrap_or_else(|panic| resume_unwind(panic))
        })
    }
}
