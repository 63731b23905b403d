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
use super::placement::Placement;
use super::plan::{Placing, Plan};
use super::seen::Seen;
use super::session::ModelSession;
use crate::error::Result;

/// Narrow lanes hold their own copy of the weights. Together they may take this much; a larger model gets
/// fewer of them, a much larger one keeps to the wide lane.
const NARROW_BYTES: usize = 1 << 30;

pub struct LoadedModel<Q: Backlog<ModelSession>> {
    pub signature: Arc<Signature>,
    /// As it came out, after what refused when it was used.
    pub plan: Plan,
    /// Of the model's file, in hexadecimal.
    pub sha256: String,
    pub lanes: Lanes<ModelSession, Q>,
    placement: Option<Placement>,
}

impl<Q: Backlog<ModelSession>> LoadedModel<Q> {
    pub fn device(&self) -> Device {
        self.plan.device
    }

    /// What would have been preferred to [`LoadedModel::device`], each with the reason why it cannot be had.
    pub fn fell_back(&self) -> &[String] {
        &self.plan.fell_back
    }

    /// How many nodes each provider got: by ONNX Runtime's own record when it divided the graph, or all of the optimised
    /// graph's the CPU's where nothing was divided. `None` where neither is known: ONNX Runtime before 1.24 with a GPU, and a model on
    /// the CPU whose optimised graph is not kept.
    pub fn placement(&self) -> Option<&[(String, usize)]> {
        self.placement.as_deref()
    }
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct Key {
    sha256: String,
    /// Set for models whose weights lie in other files, which the hash does not cover.
    path: Option<PathBuf>,
    /// With its reasons: who fell back does not share with who chose the same device.
    placing: Placing,
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
    seen: Seen,
}

impl<Q: Backlog<ModelSession>> ModelStore<Q> {
    /// `cache`: the folder for disposable files, or `None` to keep none.
    pub fn new(runtime: &'static OnnxRuntime, cache: Option<PathBuf>) -> Self {
        ModelStore { runtime, cache, places: Mutex::default(), seen: Seen::default() }
    }

    pub fn runtime(&self) -> &'static OnnxRuntime {
        self.runtime
    }

    /// Load a file, or share what an equal file was loaded as. `queue_options` tells queues apart that must
    /// not be shared. A device that refuses is left for the plan's next. Takes as long as ONNX Runtime does: not for an asynchronous thread.
    pub fn load(
        &self,
        name: &str,
        path: &Path,
        placing: &Placing,
        queue_options: &str,
        queue: impl FnOnce(&Signature) -> Q,
    ) -> Result<Arc<LoadedModel<Q>>> {
        let seen = self.seen.look(name, path)?;
        let key = Key {
            sha256: seen.sha256.clone(),
            path: seen.external.then(|| path.to_path_buf()),
            placing: placing.clone(),
            queue: queue_options.to_string(),
        };
        let place = self.place(key);
        let mut place = place.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(loaded) = place.upgrade() {
            return Ok(loaded);
        }
        let loaded = Arc::new(self.open(name, &seen.source(name)?, placing, queue)?);
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
        source: &Source,
        placing: &Placing,
        queue: impl FnOnce(&Signature) -> Q,
    ) -> Result<LoadedModel<Q>> {
        let mut plan = placing.plan.clone();
        let (recipe, (wide, signature, placement)) = loop {
            let recipe = self.recipe(name, source, placing, plan.device);
            let error = match recipe.open_wide(source) {
                Ok(opened) => break (recipe, opened),
                Err(error) => error,
            };
            // A model that is no model fails on the CPU, too, and with its own reason.
            match plan.next(&error.chain()) {
                Some(next) => {
                    let (refused, instead) = (plan.device, next.device);
                    tracing::warn!(model = name, error = error.chain(), "{refused} refuses, falling back to {instead}");
                    plan = next;
                }
                None => return Err(plan.refused(error)),
            }
        };
        let narrow = self.narrow_lanes(plan.device, source.bytes.len(), placing.sessions);
        let shared = signature.clone();
        let open_narrow = Box::new(move || match recipe.open_narrow(&shared) {
            Ok(session) => Some(session),
            Err(error) => {
                tracing::warn!(model = recipe.name, error = error.chain(), "cannot open a session per core");
                None
            }
        });
        let lanes = Lanes::new(wide, queue(&signature), narrow, open_narrow);
        Ok(LoadedModel { signature, plan, sha256: source.sha256.clone(), lanes, placement })
    }

    fn recipe(&self, name: &str, source: &Source, placing: &Placing, device: Device) -> Recipe {
        Recipe {
            runtime: self.runtime,
            name: name.to_string(),
            path: source.path.clone(),
            sha256: source.sha256.clone(),
            device,
            cuda: placing.cuda.clone(),
            tensorrt: placing.tensorrt.clone(),
            optimised: self.cache.as_deref().and_then(|cache| load::cache_path(cache, source, self.runtime, device)),
        }
    }

    /// A GPU is one device however many ask for it, and one core needs no second lane.
    fn narrow_lanes(&self, device: Device, model_bytes: usize, asked: Option<u32>) -> usize {
        // One of the sessions is the wide lane's.
        let most = asked.map_or(usize::MAX, |most| most.saturating_sub(1) as usize);
        let cores = self.runtime.cores();
        if device != Device::Cpu || cores < 2 {
            return 0;
        }
        match cores.min(NARROW_BYTES / model_bytes.max(1)).min(most) {
            // One narrow lane beside the wide one would serve less than the wide one alone; but two may be asked for.
            1 if asked.is_none() => 0,
            lanes => lanes,
        }
    }
}
