//! Loaded models, shared by content: containers that bring the same model share its sessions, its queue and
//! so its batches. A model is unloaded when its last user lets go of it.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use wharf_tensor::infer::Signature;

use super::device::Device;
use super::engine_archive::{self, Beside};
use super::engines;
use super::environment::OnnxRuntime;
use super::lanes::{Backlog, Lanes};
use super::load::{Onnx, Source};
use super::open::{Opened, Opener, Recipe};
use super::plan::{Placing, Plan};
use super::routes::{EngineState, First, Main, Routes};
use super::seen::Seen;
use super::session::ModelSession;
use crate::error::{Error, ErrorKind, Result};

/// Narrow lanes hold their own copy of the weights. Together they may take this much; a larger model gets
/// fewer of them, a much larger one keeps to the wide lane.
const NARROW_BYTES: usize = 1 << 30;

/// Makes the queue in front of a model's sessions. A model on TensorRT has several: see [`super::routes`].
pub type QueueOf<Q> = Arc<dyn Fn(&Signature) -> Q + Send + Sync>;

pub struct LoadedModel<Q: Backlog<S>, S: Send + 'static = ModelSession> {
    pub signature: Arc<Signature>,
    /// Of the model's file, in hexadecimal.
    pub sha256: String,
    /// As it came out, after what refused when it was used.
    plan: Plan,
    way: Way<S, Q>,
}

/// The way from a request to its lanes.
enum Way<S: Send + 'static, Q: Backlog<S>> {
    /// The same for ever.
    Straight(Main<S, Q>),
    /// By shape, and by how the engine is doing.
    Engine(Arc<Routes<S, Q>>),
}

impl<Q: Backlog<S>, S: Send + 'static> LoadedModel<Q, S> {
    /// The lanes for a request of these shapes, by input name; to be kept until it is answered. Another request's may be
    /// others: see [`LoadedModel::engine`].
    pub fn lanes<'a>(&self, shapes: impl Iterator<Item = (&'a str, &'a [usize])>) -> Arc<Lanes<S, Q>> {
        match &self.way {
            Way::Straight(main) => main.lanes.clone(),
            Way::Engine(routes) => routes.lanes(shapes),
        }
    }

    /// Where most requests run now. It changes when an engine is ready.
    pub fn device(&self) -> Device {
        self.of_main(|main| main.device)
    }

    /// What would have been preferred to [`LoadedModel::device`], each with the reason why it cannot be had.
    pub fn fell_back(&self) -> Vec<String> {
        let mut reasons = self.plan.fell_back.clone();
        if let Some(EngineState::Failed(reason)) = self.engine() {
            reasons.push(format!("{}: {reason}", self.plan.device));
        }
        self.of_main(|main| reasons.extend_from_slice(&main.refused));
        reasons
    }

    /// How the TensorRT engine is doing; `None` for a model that is not to have one.
    pub fn engine(&self) -> Option<EngineState> {
        match &self.way {
            Way::Straight(_) => None,
            Way::Engine(routes) => Some(routes.engine()),
        }
    }

    /// How many nodes each provider got: by ONNX Runtime's own record when it divided the graph, or all of the optimised
    /// graph's the CPU's where nothing was divided. `None` where neither is known: ONNX Runtime before 1.24 with a GPU,
    /// and a model on the CPU whose optimised graph is not kept.
    pub fn placement(&self) -> Option<Vec<(String, usize)>> {
        self.of_main(|main| main.placement.clone())
    }

    /// Sessions that most requests go to, open now.
    pub fn sessions(&self) -> usize {
        self.of_main(|main| main.lanes.clone()).count()
    }

    /// Something of the queue that most requests wait in.
    pub fn with_queue<T>(&self, change: impl FnOnce(&mut Q) -> T) -> T {
        self.of_main(|main| main.lanes.clone()).with_queue(change)
    }

    fn of_main<T>(&self, look: impl FnOnce(&Main<S, Q>) -> T) -> T {
        match &self.way {
            Way::Straight(main) => look(main),
            Way::Engine(routes) => routes.of_main(look),
        }
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
    /// Engines that lie beside the model: who brings none does not run on another's.
    brought: Vec<String>,
}

/// One model's place in the store. Its lock is held while the model loads, so that two who ask for the same
/// model wait for one load, and those who ask for another do not wait.
type Place<Q, S> = Arc<Mutex<Weak<LoadedModel<Q, S>>>>;

pub struct ModelStore<Q: Backlog<O::Session>, O: Opener = Onnx> {
    opener: Arc<O>,
    cache: Option<PathBuf>,
    places: Mutex<HashMap<Key, Place<Q, O::Session>>>,
    seen: Seen,
}

impl<Q: Backlog<ModelSession>> ModelStore<Q> {
    /// `cache`: the folder for disposable files, or `None` to keep none.
    pub fn new(runtime: &'static OnnxRuntime, cache: Option<PathBuf>) -> Self {
        ModelStore::of(Onnx::new(runtime), cache)
    }

    pub fn runtime(&self) -> &'static OnnxRuntime {
        self.opener.runtime()
    }
}

impl<Q: Backlog<O::Session>, O: Opener> ModelStore<Q, O> {
    /// A store whose sessions `opener` opens.
    pub fn of(opener: O, cache: Option<PathBuf>) -> Self {
        ModelStore { opener: Arc::new(opener), cache, places: Mutex::default(), seen: Seen::default() }
    }

    /// Load a file, or share what an equal file was loaded as. `queue_options` tells queues apart that must
    /// not be shared. A device that refuses is left for the plan's next; one that needs an engine first is not waited
    /// for. Takes as long as ONNX Runtime does: not for an asynchronous thread.
    pub fn load(
        &self,
        name: &str,
        path: &Path,
        placing: &Placing,
        queue_options: &str,
        queue: QueueOf<Q>,
    ) -> Result<Arc<LoadedModel<Q, O::Session>>> {
        let seen = self.seen.look(name, path)?;
        let may_have_engine = std::iter::once(&placing.plan.device).chain(&placing.plan.alternatives);
        let brought = match may_have_engine.into_iter().any(|device| matches!(device, Device::TensorRt(_))) {
            true => engine_archive::beside(path),
            false => Vec::new(),
        };
        let key = Key {
            sha256: seen.sha256.clone(),
            path: seen.external.then(|| path.to_path_buf()),
            placing: placing.clone(),
            queue: queue_options.to_string(),
            brought: brought.iter().map(|archive| archive.sha256.clone()).collect(),
        };
        let place = self.place(key);
        let mut place = place.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(loaded) = place.upgrade() {
            return Ok(loaded);
        }
        let source = seen.source(name)?;
        let (opener, cache) = (&self.opener, self.cache.as_deref());
        let loading = Loading { opener, cache, name, source: &source, placing, brought, queue };
        let loaded = Arc::new(loading.open()?);
        *place = Arc::downgrade(&loaded);
        Ok(loaded)
    }

    fn place(&self, key: Key) -> Place<Q, O::Session> {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        // Places nobody holds and whose model is gone.
        places.retain(|_, place| {
            Arc::strong_count(place) > 1 || place.lock().unwrap_or_else(PoisonError::into_inner).strong_count() > 0
        });
        places.entry(key).or_default().clone()
    }
}

/// A model being loaded.
pub(super) struct Loading<'a, O: Opener, Q: Backlog<O::Session>> {
    pub opener: &'a Arc<O>,
    pub cache: Option<&'a Path>,
    pub name: &'a str,
    pub source: &'a Source,
    pub placing: &'a Placing,
    /// Engines that lie beside it.
    pub brought: Vec<Beside>,
    pub queue: QueueOf<Q>,
}

impl<O: Opener, Q: Backlog<O::Session>> Loading<'_, O, Q> {
    fn open(&self) -> Result<LoadedModel<Q, O::Session>> {
        let mut plan = self.placing.plan.clone();
        let (signature, way) = loop {
            let opened = match (plan.device, self.cache) {
                (Device::TensorRt(gpu), Some(cache)) => {
                    engines::open(self, cache, &plan, gpu).map(|(routes, signature)| (signature, Way::Engine(routes)))
                }
                // Without a place to keep engines, TensorRT builds as the session opens: for trying a tiny model.
                (device, _) => self.open_on(device).map(|(main, signature)| (signature, Way::Straight(main))),
            };
            let error = match opened {
                Ok(opened) => break opened,
                Err(error) => error,
            };
            // A model that is no model fails on the CPU, too, and with its own reason.
            match plan.next(&error.chain()) {
                Some(next) => {
                    let (refused, instead) = (plan.device, next.device);
                    tracing::warn!(
                        model = self.name,
                        error = error.chain(),
                        "{refused} refuses, falling back to {instead}"
                    );
                    plan = next;
                }
                None => return Err(plan.refused(error)),
            }
        };
        Ok(LoadedModel { signature, sha256: self.source.sha256.clone(), plan, way })
    }

    /// On the first of these devices that takes it.
    pub fn open_first(&self, devices: &[Device]) -> Result<First<O::Session, Q>> {
        let (mut refused, mut last) = (Vec::new(), None);
        for device in devices {
            match self.open_on(*device) {
                Ok((main, signature)) => return Ok((Main { refused, ..main }, signature)),
                Err(error) => {
                    refused.push(format!("{device}: {}", error.chain()));
                    last = Some(error);
                }
            }
        }
        Err(last.unwrap_or_else(|| Error::new(ErrorKind::Unmet, "there is no device to run on")))
    }

    fn open_on(&self, device: Device) -> Result<First<O::Session, Q>> {
        let recipe = self.recipe(device);
        let Opened { session, signature, placement } = self.opener.open(&recipe, self.source)?;
        let (opener, shared) = (self.opener.clone(), signature.clone());
        let open_narrow = Box::new(move || match opener.open_narrow(&recipe, &shared) {
            Ok(session) => Some(session),
            Err(error) => {
                tracing::warn!(model = recipe.name, error = error.chain(), "cannot open a session per core");
                None
            }
        });
        let lanes = Lanes::new(session, (self.queue)(&signature), self.narrow_lanes(device), open_narrow);
        Ok((Main { lanes: Arc::new(lanes), device, placement, refused: Vec::new() }, signature))
    }

    pub fn recipe(&self, device: Device) -> Recipe {
        Recipe {
            name: self.name.to_string(),
            path: self.source.path.clone(),
            sha256: self.source.sha256.clone(),
            device,
            cuda: self.placing.cuda.clone(),
            tensorrt: self.placing.tensorrt.clone(),
            optimised: self.cache.and_then(|cache| self.opener.optimised(cache, self.source, device)),
        }
    }

    /// A GPU is one device however many ask for it, and one core needs no second lane.
    fn narrow_lanes(&self, device: Device) -> usize {
        // One of the sessions is the wide lane's.
        let asked = self.placing.sessions;
        let most = asked.map_or(usize::MAX, |most| most.saturating_sub(1) as usize);
        let cores = self.opener.cores();
        if device != Device::Cpu || cores < 2 {
            return 0;
        }
        match cores.min(NARROW_BYTES / self.source.bytes.len().max(1)).min(most) {
            // One narrow lane beside the wide one would serve less than the wide one alone; but two may be asked for.
            1 if asked.is_none() => 0,
            lanes => lanes,
        }
    }
}
