//! From a model's file to a session, and the cache of optimised models in between: the real [`Opener`].
//!
//! ONNX Runtime spends most of a load on optimising the graph. The optimised graph is kept under
//! `<cache>/models/`, so that the next start, and the narrow lanes of this one, skip that work. The cache is
//! disposable: an entry that does not load is made anew.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, OnceLock};

use ort::logging::LogLevel;
use ort::session::Session;
use ort::session::builder::{GraphOptimizationLevel, SessionBuilder};
use sha2::{Digest, Sha256};
use wharf_tensor::infer::{InferError, Signature, TensorSpec};
use wharf_tensor::tensor::element_count;

use super::convert::InputRef;
use super::device::{Device, Gpu};
use super::engine_cache::Versions;
use super::environment::OnnxRuntime;
use super::gate::GATE;
use super::machine::Machine;
use super::open::{Opened, Opener, Recipe, Target};
use super::options::{CudaOptions, Profile};
use super::placement::{self, Placement};
use super::seen::{hashed, hashed_file};
use super::session::{ModelSession, Stop};
use super::{register, signature};
use crate::error::{Error, ErrorKind, Result};

/// Larger models are not cached: the copy would cost more disk than it saves time, and ONNX Runtime cannot
/// write files over 2 GiB in one piece.
const LARGEST_CACHED: u64 = 1 << 30;

/// Which threads a session computes with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Width {
    /// The process-wide pool: all cores.
    Wide,
    /// The calling thread only.
    Narrow,
}

/// A model's file, read once.
pub struct Source {
    pub path: PathBuf,
    pub bytes: Vec<u8>,
    pub sha256: String,
    /// Weights in files beside the model, which its hash does not cover.
    pub external: bool,
}

/// Opens sessions with ONNX Runtime, on this machine.
pub struct Onnx {
    runtime: &'static OnnxRuntime,
    machine: OnceLock<Machine>,
}

impl Source {
    pub fn read(name: &str, path: &Path) -> Result<Source> {
        let bytes = fs::read(path).map_err(|error| {
            let kind = if error.kind() == io::ErrorKind::NotFound { ErrorKind::NotFound } else { ErrorKind::Io };
            Error::new(kind, format!("model {name:?}: cannot read {}", path.display())).because(error)
        })?;
        let sha256 = hashed(&bytes);
        let external = names_external_files(&bytes);
        Ok(Source { path: path.to_path_buf(), bytes, sha256, external })
    }

    /// A hash of all that the model computes with: of its file and, where its weights lie in others, of those and of all
    /// their names, which ONNX Runtime's own cache goes by.
    pub fn weights(&self) -> Result<String> {
        if !self.external {
            return Ok(self.sha256.clone());
        }
        let mut all = format!("{}\n{:?}\n", self.sha256, self.path.file_name());
        for name in external_files(&self.bytes) {
            let path = self.path.with_file_name(&name);
            let is_below = Path::new(&name).components().all(|part| matches!(part, Component::Normal(_)));
            if !is_below || !path.is_file() {
                return Err(Error::invalid(format!("its weights {name:?} are no file beside the model")));
            }
            let hash = hashed_file(&path).map_err(|error| {
                Error::new(ErrorKind::Io, format!("cannot read the weights {}", path.display())).because(error)
            })?;
            let _ = writeln!(all, "{name:?} {hash}");
        }
        Ok(hashed(all.as_bytes()))
    }

    /// The file of a model that was loaded before.
    pub(super) fn again(recipe: &Recipe) -> Result<Source> {
        let source = Source::read(&recipe.name, &recipe.path)?;
        if source.sha256 == recipe.sha256 {
            return Ok(source);
        }
        let message = format!("model {:?}: {} has changed since it was loaded", recipe.name, recipe.path.display());
        Err(Error::new(ErrorKind::Conflict, message))
    }
}

/// The entry of a tensor that lies in another file: the key `location` (protobuf: field 1, 8 bytes).
const LOCATION: &[u8] = b"\x0a\x08location";

/// Whether a tensor of this model lies in another file. Seeing it where it is none costs a cache entry, nothing else.
fn names_external_files(model: &[u8]) -> bool {
    model.windows(LOCATION.len()).any(|window| window == LOCATION)
}

/// The files that tensors lie in, each once: after the key comes its value (field 2, a length below 128, the name).
/// A longer name is cut off, and then not found.
fn external_files(model: &[u8]) -> BTreeSet<String> {
    let starts = model.windows(LOCATION.len()).enumerate().filter(|(_, window)| *window == LOCATION);
    let name = |at: usize| {
        let (field, rest) = model.get(at + LOCATION.len()..)?.split_first()?;
        let (length, rest) = rest.split_first()?;
        (*field == 0x12).then_some(())?;
        rest.get(..usize::from(*length)).map(|name| String::from_utf8_lossy(name).into_owned())
    };
    starts.filter_map(|(at, _)| name(at)).collect()
}

/// The name of a cache entry: everything that changes the optimised graph is in it.
pub fn cache_path(cache: &Path, source: &Source, runtime: &OnnxRuntime, device: Device) -> Option<PathBuf> {
    // GPU providers compile parts of the graph into something that cannot be written.
    if source.external || source.bytes.len() as u64 > LARGEST_CACHED || device != Device::Cpu {
        return None;
    }
    let mut options = Sha256::new();
    options.update(ort::info().as_bytes());
    options.update(std::env::consts::ARCH);
    // Layout optimisations choose their block size by the vector unit.
    #[cfg(target_arch = "x86_64")]
    options.update([u8::from(is_x86_feature_detected!("avx2")), u8::from(is_x86_feature_detected!("avx512f"))]);
    let mut hash = String::new();
    for byte in options.finalize().iter().take(4) {
        let _ = write!(hash, "{byte:02x}");
    }
    let version: String = runtime
        .library()
        .version
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '_' })
        .collect();
    Some(cache.join("models").join(format!("{}-{version:.40}-{hash}.onnx", source.sha256)))
}

impl Onnx {
    pub fn new(runtime: &'static OnnxRuntime) -> Onnx {
        Onnx { runtime, machine: OnceLock::new() }
    }

    /// As [`Onnx::new`], on a machine that was looked at already.
    pub fn on(machine: Machine, runtime: &'static OnnxRuntime) -> Onnx {
        Onnx { runtime, machine: OnceLock::from(machine) }
    }

    pub fn runtime(&self) -> &'static OnnxRuntime {
        self.runtime
    }
}

impl Opener for Onnx {
    type Session = ModelSession;

    fn cores(&self) -> usize {
        self.runtime.cores()
    }

    fn optimised(&self, cache: &Path, source: &Source, device: Device) -> Option<PathBuf> {
        cache_path(cache, source, self.runtime, device)
    }

    fn open(&self, recipe: &Recipe, source: &Source) -> Result<Opened<ModelSession>> {
        let opening = Opening { runtime: self.runtime, recipe };
        if recipe.cuda.cuda_graph && recipe.device != Device::Cpu {
            match opening.open_recorded(source) {
                Ok(opened) => return Ok(opened),
                Err(reason) => {
                    tracing::warn!(model = recipe.name, reason, "no CUDA graph: it runs operator by operator");
                }
            }
            let cuda = CudaOptions { cuda_graph: false, ..recipe.cuda.clone() };
            return self.open(&Recipe { cuda, ..recipe.clone() }, source);
        }
        let (session, signature, placement) = opening.open_wide(source)?;
        let session = ModelSession::new(&recipe.name, session, signature.clone(), recipe.device);
        Ok(Opened { session, signature, placement })
    }

    fn open_narrow(&self, recipe: &Recipe, signature: &Arc<Signature>) -> Result<ModelSession> {
        // A recording is one thread's.
        let cuda = CudaOptions { cuda_graph: false, ..recipe.cuda.clone() };
        let recipe = &Recipe { cuda, ..recipe.clone() };
        let opening = Opening { runtime: self.runtime, recipe };
        let session = match opening.open_optimised(Width::Narrow) {
            Some(session) => session,
            None => opening.open_as_is(&Source::again(recipe)?, Width::Narrow, GraphOptimizationLevel::All)?,
        };
        Ok(ModelSession::new(&recipe.name, session, signature.clone(), recipe.device))
    }

    fn signature(&self, recipe: &Recipe, source: &Source) -> Result<Signature> {
        let recipe = Recipe { device: Device::Cpu, ..recipe.clone() };
        let opening = Opening { runtime: self.runtime, recipe: &recipe };
        opening.signature(&opening.open_as_is(source, Width::Narrow, GraphOptimizationLevel::Disable)?)
    }

    fn prove(
        &self,
        session: &mut ModelSession,
        recipe: &Recipe,
        signature: &Signature,
        profile: Option<&Profile>,
    ) -> Result<()> {
        let failed = |error: InferError| {
            Error::new(
                ErrorKind::Failed,
                format!("model {:?} opens on {} and does not run", recipe.name, recipe.device),
            )
            .because(error)
        };
        let zeros: Vec<_> = signature.inputs.iter().map(|input| zeros(input, profile)).collect();
        let inputs: Vec<InputRef<'_>> = signature
            .inputs
            .iter()
            .zip(&zeros)
            .filter_map(|(input, zeros)| {
                let (shape, data) = zeros.as_ref()?;
                Some(InputRef { name: &input.name, dtype: input.dtype, shape, data })
            })
            .collect();
        if inputs.len() != signature.inputs.len() {
            return Ok(());
        }
        session.run(&recipe.name, &inputs, &Stop::new().map_err(failed)?).map(drop).map_err(failed)
    }

    fn target(&self, gpu: u32) -> Result<Target, String> {
        let machine = self.machine.get_or_init(Machine::detect);
        let gpu = machine.find(&Gpu::Index(gpu))?.clone();
        let versions = Versions::of_libraries(self.runtime.library())?;
        Ok(Target { gpu, versions })
    }
}

/// Shape and bytes of an input of zeros; `None` for text, which has none, for an open dimension without a profile, and
/// for more than there is memory: a shape is only what a file says.
fn zeros(input: &TensorSpec, profile: Option<&Profile>) -> Option<(Vec<usize>, Vec<u8>)> {
    let shape = match profile.and_then(|profile| profile.largest(&input.name)) {
        Some(shape) => shape.to_vec(),
        None => input.shape.iter().copied().collect::<Option<Vec<usize>>>()?,
    };
    let bytes = element_count(&shape).ok()?.checked_mul(input.dtype.size()?)?;
    let mut zeros = Vec::new();
    zeros.try_reserve_exact(bytes).ok()?;
    zeros.resize(bytes, 0);
    Some((shape, zeros))
}

/// One session being opened.
struct Opening<'a> {
    runtime: &'static OnnxRuntime,
    recipe: &'a Recipe,
}

impl Opening<'_> {
    /// The first session of a model, the signature all its sessions share, and which provider got how many nodes.
    fn open_wide(&self, source: &Source) -> Result<(Session, Arc<Signature>, Option<Placement>)> {
        let session = match self.open_optimised(Width::Wide) {
            Some(session) => session,
            None => self.open_original(source)?,
        };
        let signature = Arc::new(self.signature(&session)?);
        let placement = match self.recipe.device {
            Device::Cpu => self.recipe.optimised.as_deref().and_then(placement::of_the_cpu_alone),
            _ => placement::read(self.runtime, &session),
        };
        Ok((session, signature, placement))
    }

    /// As a recording of one run. The error is one clause.
    fn open_recorded(&self, source: &Source) -> Result<Opened<ModelSession>, String> {
        let Recipe { name, device, .. } = self.recipe;
        if !matches!(device, Device::Cuda(_)) {
            return Err(format!("only cuda is recorded, not {device}"));
        }
        let (session, signature, placement) = self.open_wide(source).map_err(|error| error.chain())?;
        let session = ModelSession::replayed(session, signature.clone(), *device)?;
        tracing::info!(model = name, "its runs are replayed as a CUDA graph");
        Ok(Opened { session, signature, placement })
    }

    fn signature(&self, session: &Session) -> Result<Signature> {
        let Recipe { name, path, .. } = self.recipe;
        signature::read(session)
            .map_err(|reason| Error::invalid(format!("cannot serve model {name:?} ({}): {reason}", path.display())))
    }

    /// Load the cached graph, if there is one. One that does not load is removed, to be made again.
    fn open_optimised(&self, width: Width) -> Option<Session> {
        let path = self.recipe.optimised.as_deref().filter(|path| path.exists())?;
        let session = self
            .builder(width, GraphOptimizationLevel::Disable)
            .and_then(|mut builder| builder.commit_from_file(path).map_err(|error| self.refused(error, None)));
        match session {
            Ok(session) => Some(session),
            Err(error) => {
                tracing::warn!(
                    model = self.recipe.name,
                    error = error.chain(),
                    "cached model is unreadable, making it again"
                );
                let _ = fs::remove_file(path);
                None
            }
        }
    }

    /// Load the model itself, and leave its optimised form in the cache.
    fn open_original(&self, source: &Source) -> Result<Session> {
        let Some(optimised) = &self.recipe.optimised else {
            return self.open_as_is(source, Width::Wide, GraphOptimizationLevel::All);
        };
        self.open_and_keep(source, optimised).or_else(|reason| {
            // A cache that cannot be written must not keep a model from running; a model that cannot be
            // loaded fails again, with its own reason.
            let session = self.open_as_is(source, Width::Wide, GraphOptimizationLevel::All)?;
            tracing::warn!(model = self.recipe.name, error = reason.chain(), "cannot cache the optimised model");
            Ok(session)
        })
    }

    fn open_as_is(&self, source: &Source, width: Width, level: GraphOptimizationLevel) -> Result<Session> {
        let mut builder = self.builder(width, level)?;
        // A GPU's memory is allocated meanwhile, which ends another model's recording.
        let (_undisturbed, _building) = match self.recipe.device {
            Device::Cpu => (None, None),
            Device::Cuda(_) => (Some(GATE.undisturbed()), None),
            // This is how engines are built.
            Device::TensorRt(_) => (None, Some(GATE.building())),
        };
        // Weights in other files are found relative to the model's own path.
        let session = if source.external {
            builder.commit_from_file(&self.recipe.path)
        } else {
            builder.commit_from_memory(&source.bytes)
        };
        session.map_err(|error| self.refused(error, Some(source)))
    }

    fn open_and_keep(&self, source: &Source, optimised: &Path) -> Result<Session> {
        let folder = optimised.parent().unwrap_or(Path::new("."));
        let failed = |error: io::Error| Error::new(ErrorKind::Io, "cannot write the model cache").because(error);
        fs::create_dir_all(folder).map_err(failed)?;
        // Renamed when complete, so that no reader ever sees half a file.
        let temporary = folder.join(format!(".{}.{}.tmp", source.sha256, std::process::id()));
        let session = self
            .builder(Width::Wide, GraphOptimizationLevel::All)?
            // It warns that the file fits this machine only; so does its name.
            .with_log_level(LogLevel::Error)
            .map_err(|error| self.refused(error.into(), None))?
            .with_optimized_model_path(&temporary)
            .map_err(|error| self.refused(error.into(), None))?
            .commit_from_memory(&source.bytes)
            .map_err(|error| self.refused(error, Some(source)));
        let kept = session.and_then(|session| fs::rename(&temporary, optimised).map(|()| session).map_err(failed));
        if kept.is_err() {
            let _ = fs::remove_file(&temporary);
        }
        kept
    }

    fn builder(&self, width: Width, level: GraphOptimizationLevel) -> Result<SessionBuilder> {
        let providers = register::dispatches(self.recipe.device, &self.recipe.cuda, &self.recipe.tensorrt);
        let refused = |error: ort::Error<SessionBuilder>| self.refused(error.into(), None);
        let builder = Session::builder(&self.runtime.environment).map_err(|error| self.refused(error, None))?;
        let mut builder = builder.with_optimization_level(level).map_err(refused)?;
        if width == Width::Wide {
            builder = builder.with_config_entry("session.force_spinning_stop", "1").map_err(refused)?;
            if placement::is_known(self.runtime) {
                builder = builder.with_config_entry(placement::RECORD, "1").map_err(refused)?;
            }
        } else {
            builder =
                builder.with_independent_thread_pool().map_err(refused)?.with_intra_threads(1).map_err(refused)?;
        }
        if providers.is_empty() {
            return Ok(builder);
        }
        builder.with_execution_providers(providers).map_err(|error| {
            let library = self.runtime.library();
            let message = format!(
                "model {:?} is to run on {}, which ONNX Runtime {} ({}) cannot use here; a GPU build of ONNX Runtime, its \
                 provider libraries beside it and the driver are needed, or choose --device cpu",
                self.recipe.name,
                self.recipe.device,
                library.version,
                library.path.display()
            );
            Error::new(ErrorKind::Unmet, message).because(ort::Error::<()>::from(error))
        })
    }

    /// ONNX Runtime's refusal in terms of the file.
    fn refused(&self, error: ort::Error, source: Option<&Source>) -> Error {
        let hint = source.and_then(|source| hint(&source.bytes, error.message())).unwrap_or_default();
        let message =
            format!("ONNX Runtime cannot load model {:?} ({}){hint}", self.recipe.name, self.recipe.path.display());
        Error::invalid(message).because(error)
    }
}

/// What a reader of ONNX Runtime's message may not know.
fn hint(bytes: &[u8], message: &str) -> Option<String> {
    if bytes.is_empty() {
        return Some(", which is empty".into());
    }
    if bytes.starts_with(b"version https://git-lfs") {
        return Some(", which is a Git LFS pointer and not the model: run `git lfs pull`".into());
    }
    let lower = message.to_lowercase();
    if lower.contains("protobuf") {
        return Some(format!(", {} bytes that are cut short or no ONNX file", bytes.len()));
    }
    if lower.contains("opset") {
        return Some(
            ", made for a newer ONNX: export it with a lower opset_version or use a newer ONNX Runtime".into(),
        );
    }
    if lower.contains("ir version") || lower.contains("ir_version") {
        return Some(", made by a newer ONNX: save it with a lower ir_version or use a newer ONNX Runtime".into());
    }
    None
}

#[cfg(test)]
#[path = "load_tests.rs"]
mod tests;
