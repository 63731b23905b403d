//! A model on TensorRT. Its engine is taken from the cache, or from the archive that its image brought; where there is
//! none, another device serves at once and the engine is built meanwhile ([`super::engine_build`]). Nothing here, and
//! no request, waits for a build.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use wharf_tensor::infer::Signature;

use super::device::Device;
use super::engine_archive::{self, Beside};
use super::engine_build::Build;
use super::engine_cache::{self, EngineFolder, EngineKey};
use super::lanes::{Backlog, Lanes};
use super::load::Source;
use super::open::{Opener, Recipe, Target};
use super::options::{Profile, TensorRtOptions};
use super::plan::Plan;
use super::routes::{EngineState, First, Main, Routed, Routes};
use super::store::{Loading, QueueOf};
use crate::error::{Error, ErrorKind, Result};

/// The engine a model needs.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    pub key: EngineKey,
    pub profile: Option<Profile>,
}

impl Wanted {
    /// The error is one clause: why there can be no engine.
    fn new(source: &Source, signature: &Signature, target: &Target, options: &TensorRtOptions) -> Result<Self, String> {
        options.check()?;
        let profile = Profile::of_batches(signature, options.max_batch)?;
        let options = TensorRtOptions { profile: profile.clone(), ..options.clone() };
        let weights = source.weights().map_err(|error| error.chain())?;
        let key = EngineKey::new(&weights, &target.gpu, &target.versions, &options);
        let key = key.ok_or_else(|| format!("the compute capability of GPU {} is not known", target.gpu.index))?;
        Ok(Wanted { key, profile })
    }

    /// The folder of the engine: built here before, or brought by the image.
    fn find(&mut self, cache: &Path, brought: &[Beside]) -> Option<PathBuf> {
        if let Some(folder) = engine_cache::find(cache, &self.key) {
            return Some(folder);
        }
        let archive = brought.iter().find(|archive| archive.key == self.key)?;
        let key = self.key.of_archive(&archive.sha256);
        let folder = engine_cache::find(cache, &key).map_or_else(|| import(cache, &key, archive), Ok);
        match folder {
            Ok(folder) => {
                self.key = key;
                Some(folder)
            }
            Err(error) => {
                tracing::warn!(file = %archive.path.display(), error = error.chain(), "cannot take the engine in");
                None
            }
        }
    }
}

fn import(cache: &Path, key: &EngineKey, archive: &Beside) -> Result<PathBuf> {
    let folder = EngineFolder::open(cache, key)?;
    // Another process may have been first.
    if let Some(engine) = folder.engine() {
        return Ok(engine);
    }
    let path = &archive.path;
    let file = File::open(path)
        .map_err(|error| Error::new(ErrorKind::Io, format!("cannot read {}", path.display())).because(error))?;
    let engine = engine_archive::import(&folder, file)?;
    tracing::info!(file = %path.display(), "engine taken in");
    Ok(engine)
}

/// Open a model on the TensorRT of GPU `gpu`, which is the plan's device.
///
/// # Errors
///
/// [`ErrorKind::Unmet`] where TensorRT cannot be used here, or nothing that could serve meanwhile.
pub(super) fn open<O: Opener, Q: Backlog<O::Session>>(
    loading: &Loading<'_, O, Q>,
    cache: &Path,
    plan: &Plan,
    gpu: u32,
) -> Result<Routed<O::Session, Q>> {
    let refused = |reason: String| {
        let message = format!("model {:?} is to run on tensorrt:{gpu}, which cannot be used: {reason}", loading.name);
        Error::new(ErrorKind::Unmet, message)
    };
    let target = loading.opener.target(gpu).map_err(refused)?;
    let recipe = loading.recipe(Device::TensorRt(gpu));
    let want = |signature: &Signature| Wanted::new(loading.source, signature, &target, &recipe.tensorrt);
    // One that the CPU cannot load is looked at when its GPU session is open.
    let early = loading.opener.signature(&recipe, loading.source).ok().map(|signature| want(&signature));
    let early = match early {
        Some(Ok(mut wanted)) => {
            if let Some(folder) = wanted.find(cache, &loading.brought) {
                match open_engine(&**loading.opener, &recipe, &wanted, &folder, loading.source, &loading.queue) {
                    Ok((main, signature)) => {
                        let spare = spare(loading, plan, gpu, &signature);
                        let routes = Routes::new(main, EngineState::Ready, wanted.profile, spare);
                        return Ok((Arc::new(routes), signature));
                    }
                    Err(error) if error.kind() == ErrorKind::Unmet => return Err(error),
                    Err(error) => {
                        tracing::warn!(model = loading.name, error = error.chain(), "a kept engine is of no use");
                    }
                }
            }
            Some(Ok(wanted))
        }
        other => other,
    };
    let (main, signature) = loading.open_first(&meanwhile(plan, gpu))?;
    let spare = spare(loading, plan, gpu, &signature);
    let wanted = match early.unwrap_or_else(|| want(&signature)) {
        Ok(wanted) => wanted,
        Err(reason) => {
            tracing::warn!(model = loading.name, device = %main.device, reason, "no engine for TensorRT");
            let routes = Routes::new(main, EngineState::Failed(reason), None, spare);
            return Ok((Arc::new(routes), signature));
        }
    };
    let building = EngineState::Building { since: Instant::now() };
    let routes = Arc::new(Routes::new(main, building, wanted.profile.clone(), spare));
    Build {
        opener: loading.opener.clone(),
        cache: cache.to_owned(),
        target,
        recipe,
        wanted,
        queue: loading.queue.clone(),
        routes: Arc::downgrade(&routes),
    }
    .start();
    Ok((routes, signature))
}

/// What serves while there is no engine, and what is outside of its profile: CUDA on the same GPU, then what the plan
/// has after it.
fn meanwhile(plan: &Plan, gpu: u32) -> Vec<Device> {
    let mut devices = vec![Device::Cuda(gpu)];
    for device in &plan.alternatives {
        if !matches!(device, Device::TensorRt(_)) && !devices.contains(device) {
            devices.push(*device);
        }
    }
    devices
}

fn spare<O: Opener, Q: Backlog<O::Session>>(
    loading: &Loading<'_, O, Q>,
    plan: &Plan,
    gpu: u32,
    signature: &Arc<Signature>,
) -> super::routes::OpenSpare<O::Session, Q> {
    let recipes: Vec<Recipe> = meanwhile(plan, gpu).into_iter().map(|device| loading.recipe(device)).collect();
    let recipes = Arc::new(recipes);
    let (opener, queue, signature) = (loading.opener.clone(), loading.queue.clone(), signature.clone());
    Box::new(move || {
        let (opener, recipes) = (opener.clone(), recipes.clone());
        Lanes::opening(queue(&signature), move || open_any(&*opener, &recipes))
    })
}

/// A session by the first recipe that works. The error is one clause.
fn open_any<O: Opener>(opener: &O, recipes: &[Recipe]) -> Result<O::Session, String> {
    let mut refused = Vec::new();
    for recipe in recipes {
        match Source::again(recipe).and_then(|source| opener.open(recipe, &source)) {
            Ok(opened) => {
                tracing::info!(model = recipe.name, device = %recipe.device, "opened for shapes outside of the engine's");
                return Ok(opened.session);
            }
            Err(error) => refused.push(format!("{}: {}", recipe.device, error.chain())),
        }
    }
    let refused = refused.join("; ");
    tracing::warn!(error = refused, "no session for shapes outside of the engine's");
    Err(refused)
}

/// Sessions from an engine that is there, proved to run.
pub(super) fn open_engine<O: Opener, Q: Backlog<O::Session>>(
    opener: &O,
    recipe: &Recipe,
    wanted: &Wanted,
    folder: &Path,
    source: &Source,
    queue: &QueueOf<Q>,
) -> Result<First<O::Session, Q>> {
    let recipe = with_engine(recipe, wanted, folder);
    let mut opened = opener.open(&recipe, source)?;
    opener.prove(&mut opened.session, &recipe, &opened.signature, wanted.profile.as_ref())?;
    let lanes = Lanes::new(opened.session, queue(&opened.signature), 0, Box::new(|| None));
    let main = Main { lanes: Arc::new(lanes), device: recipe.device, placement: opened.placement, refused: Vec::new() };
    Ok((main, opened.signature))
}

pub(super) fn with_engine(recipe: &Recipe, wanted: &Wanted, folder: &Path) -> Recipe {
    let mut recipe = recipe.clone();
    recipe.tensorrt.profile.clone_from(&wanted.profile);
    recipe.tensorrt.engine_cache = Some(folder.to_owned());
    recipe
}

#[cfg(test)]
#[path = "engines_tests.rs"]
mod tests;
