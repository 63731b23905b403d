//! Components and tools of images, loaded once and shared by all containers that run them.
//!
//! Files are known by their path: an image's files lie in a folder that is named after its content and never changes.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use wharf_sandbox::cache::ComponentCache;
use wharf_sandbox::component::{self, Component, Kind, LoadError};
use wharf_sandbox::engine::Engine;
use wharf_sandbox::job::Job;

use crate::error::{Error, ErrorKind, Result};

/// A compiled file.
pub enum Program {
    Service(Component),
    Job(Job),
}

/// One file's place. Its lock is held while the file compiles, so that many starts at once wait for one compilation.
type Place = Arc<Mutex<Weak<Program>>>;

#[derive(Clone)]
pub struct Programs {
    engine: Engine,
    cache: Option<ComponentCache>,
    places: Arc<Mutex<HashMap<PathBuf, Place>>>,
}

impl Programs {
    pub fn new(engine: Engine, cache: Option<ComponentCache>) -> Programs {
        Programs { engine, cache, places: Arc::default() }
    }

    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Load `file`, which the container calls `shown`. Takes the time that compiling takes, unless the cache has it.
    pub fn load(&self, file: &Path, shown: &str) -> Result<Arc<Program>> {
        let place = {
            let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
            // Places of programs that nobody runs any more.
            places.retain(|_, place| {
                Arc::strong_count(place) > 1 || place.try_lock().is_ok_and(|p| p.strong_count() > 0)
            });
            places.entry(file.to_owned()).or_default().clone()
        };
        let mut loaded = place.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(program) = loaded.upgrade() {
            return Ok(program);
        }
        let program = Arc::new(self.compile(file, shown)?);
        *loaded = Arc::downgrade(&program);
        Ok(program)
    }

    /// Compile into the cache only, so that a later start finds it there.
    pub fn precompile(&self, file: &Path) -> Result<()> {
        let Some(cache) = &self.cache else { return Ok(()) };
        let wasm = read(file, &file.display().to_string())?;
        component::precompile(&self.engine, cache, &wasm)
            .map_err(|error| Error::invalid(format!("{} cannot be compiled", file.display())).because(error))
    }

    fn compile(&self, file: &Path, shown: &str) -> Result<Program> {
        let wasm = read(file, shown)?;
        let refused = |error: LoadError| match error {
            LoadError::NotWasm { .. } => {
                Error::invalid(format!("exec format error: {shown} is not a WebAssembly component")).because(error)
            }
            error => Error::invalid(format!("{shown} cannot run here")).because(error),
        };
        let cache = self.cache.as_ref();
        match component::kind(&wasm) {
            Kind::Service => Component::load(&self.engine, cache, &wasm).map(Program::Service).map_err(refused),
            Kind::Job => Job::load(&self.engine, cache, &wasm).map(Program::Job).map_err(refused),
            Kind::Neither(error) => Err(refused(error)),
        }
    }
}

fn read(file: &Path, shown: &str) -> Result<Vec<u8>> {
    std::fs::read(file).map_err(|error| Error::new(ErrorKind::Io, format!("cannot read {shown}")).because(error))
}
