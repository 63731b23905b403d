//! Loaded models, shared by content: containers that bring the same model share its sessions, its queue and
//! so its batches. A model is unloaded when its last user lets go of it.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use wharf_tensor::infer::Signature;

use super::device::Device;
use super::environment::OnnxRuntime;
use super::lanes::{Backlog, Lanes};
use super::load::{self, Recipe, Source};
use super::session::ModelSession;
use crate::error::Result;

/// Narrow lanes hold their own copy of the weights. Together they may take this much; a larger model gets
/// fewer of them, a much larger one keeps to the wide lane.
const NARROW_BYTES: usize = 1 << 30;

pub struct LoadedModel<Q: Backlog<ModelSession>> {
    pub signature: Arc<Signature>,
    pub device: Device,
    /// Of the model's file, in hexadecimal.
    pub sha256: String,
    pub lanes: Lanes<ModelSession, Q>,
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct Key {
    sha256: String,
    /// Set for models whose weights lie in other files, which the hash does not cover.
    path: Option<PathBuf>,
    device: Device,
    /// What the queue was made with: users with other wishes need a queue of their own.
    queue: String,
}

/// One model's place in the store. Its lock is held while the model loads, so that two who ask for the same
/// model wait for one load, and those who ask for another do not wait.
type Place<Q> = Arc<Mutex<Weak<LoadedModel<Q>>>>;

pub struct ModelStore<Q: Backlog<ModelSession>> {
    runtime: &'static OnnxRuntime,
    cache: Option<PathBuf>,
    places: Mutex<HashMap<Key, Place<Q>>>,
}

impl<Q: Backlog<ModelSession>> ModelStore<Q> {
    /// `cache`: the folder for disposable files, or `None` to keep none.
    pub fn new(runtime: &'static OnnxRuntime, cache: Option<PathBuf>) -> Self {
        ModelStore { runtime, cache, places: Mutex::default() }
    }

    pub fn runtime(&self) -> &'static OnnxRuntime {
        self.runtime
    }

    /// Load a file, or share what an equal file was loaded as. `queue_options` tells queues apart that must
    /// not be shared. Takes as long as ONNX Runtime does: not for an asynchronous thread.
    pub fn load(
        &self,
        name: &str,
        path: &Path,
        device: Device,
        queue_options: &str,
        queue: impl FnOnce(&Signature) -> Q,
    ) -> Result<Arc<LoadedModel<Q>>> {
        let source = Source::read(name, path)?;
        let key = Key {
            sha256: source.sha256.clone(),
            path: source.external.then(|| source.path.clone()),
            device,
            queue: queue_options.to_string(),
        };
        let place = self.place(key);
        let mut place = place.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(loaded) = place.upgrade() {
            return Ok(loaded);
        }
        let loaded = Arc::new(self.open(name, source, device, queue)?);
        *place = Arc::downgrade(&loaded);
        Ok(loaded)
    }

    fn place(&self, key: Key) -> Place<Q> {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        // Places nobody holds and whose model is gone.
        places.retain(|_, place| {
            Arc::strong_count(place) > 1 || place.lock().unwrap_or_else(PoisonError::into_inner).strong_count() > 0
        });
        places.entry(key).or_default().clone()
    }

    fn open(
        &self,
        name: &str,
        source: Source,
        device: Device,
        queue: impl FnOnce(&Signature) -> Q,
    ) -> Result<LoadedModel<Q>> {
        let optimised = self.cache.as_deref().and_then(|cache| load::cache_path(cache, &source, self.runtime, device));
        let recipe = Recipe {
            runtime: self.runtime,
            name: name.to_string(),
            path: source.path.clone(),
            sha256: source.sha256.clone(),
            device,
            optimised,
        };
        let (wide, signature) = recipe.open_wide(&source)?;
        let narrow = self.narrow_lanes(device, source.bytes.len());
        let shared = signature.clone();
        let open_narrow = Box::new(move || match recipe.open_narrow(&shared) {
            Ok(session) => Some(session),
            Err(error) => {
                tracing::warn!(model = recipe.name, error = error.chain(), "cannot open a session per core");
                None
            }
        });
        let lanes = Lanes::new(wide, queue(&signature), narrow, open_narrow);
        Ok(LoadedModel { signature, device, sha256: source.sha256, lanes })
    }

    /// A GPU is one device however many ask for it, and one core needs no second lane.
    fn narrow_lanes(&self, device: Device, model_bytes: usize) -> usize {
        let cores = self.runtime.cores();
        if device != Device::Cpu || cores < 2 {
            return 0;
        }
        match cores.min(NARROW_BYTES / model_bytes.max(1)) {
            // One narrow lane beside the wide one would serve less than the wide one alone.
            0 | 1 => 0,
            lanes => lanes,
        }
    }
}
