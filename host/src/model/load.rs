//! From a model's file to a session, and the cache of optimised models in between.
//!
//! ONNX Runtime spends most of a load on optimising the graph. The optimised graph is kept under
//! `<cache>/models/`, so that the next start, and the narrow lanes of this one, skip that work. The cache is
//! disposable: an entry that does not load is made anew.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ort::logging::LogLevel;
use ort::session::Session;
use ort::session::builder::{GraphOptimizationLevel, SessionBuilder};
use sha2::{Digest, Sha256};
use wharf_tensor::infer::Signature;

use super::device::Device;
use super::environment::OnnxRuntime;
use super::options::{CudaOptions, TensorRtOptions};
use super::placement::{self, Placement};
use super::seen::hashed;
use super::session::ModelSession;
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

/// All it takes to open sessions of one model. Keeps no bytes: they are read again for the narrow lanes.
pub struct Recipe {
    pub runtime: &'static OnnxRuntime,
    /// As the one who asked calls it; for messages.
    pub name: String,
    pub path: PathBuf,
    pub sha256: String,
    pub device: Device,
    pub cuda: CudaOptions,
    pub tensorrt: TensorRtOptions,
    /// Where the optimised model is or will be; `None` if this model is not cached.
    pub optimised: Option<PathBuf>,
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
}

/// Whether a tensor of this model lies in another file: such tensors carry an entry with the key `location`
/// (protobuf: field 1, 8 bytes). Seeing it where it is none costs a cache entry, nothing else.
fn names_external_files(model: &[u8]) -> bool {
    const KEY: &[u8] = b"\x0a\x08location";
    model.windows(KEY.len()).any(|window| window == KEY)
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

impl Recipe {
    /// The first session of a model, from bytes already read, the signature all its sessions share, and which provider
    /// got how many of its nodes.
    pub fn open_wide(&self, source: &Source) -> Result<(ModelSession, Arc<Signature>, Option<Placement>)> {
        let session = match self.open_optimised(Width::Wide) {
            Some(session) => session,
            None => self.open_original(source)?,
        };
        let signature = signature::read(&session).map_err(|reason| {
            Error::invalid(format!("cannot serve model {:?} ({}): {reason}", self.name, self.path.display()))
        })?;
        let signature = Arc::new(signature);
        let placement = match self.device {
            Device::Cpu => self.optimised.as_deref().and_then(placement::of_the_cpu_alone),
            _ => placement::read(self.runtime, &session),
        };
        Ok((ModelSession::new(session, signature.clone()), signature, placement))
    }

    /// One more session, for a narrow lane.
    pub fn open_narrow(&self, signature: &Arc<Signature>) -> Result<ModelSession> {
        let session = match self.open_optimised(Width::Narrow) {
            Some(session) => session,
            None => {
                let source = Source::read(&self.name, &self.path)?;
                if source.sha256 != self.sha256 {
                    let message =
                        format!("model {:?}: {} has changed since it was loaded", self.name, self.path.display());
                    return Err(Error::new(ErrorKind::Conflict, message));
                }
                self.open_as_is(&source, Width::Narrow)?
            }
        };
        Ok(ModelSession::new(session, signature.clone()))
    }

    /// Load the cached graph, if there is one. One that does not load is removed, to be made again.
    fn open_optimised(&self, width: Width) -> Option<Session> {
        let path = self.optimised.as_deref().filter(|path| path.exists())?;
        let session = self
            .builder(width, GraphOptimizationLevel::Disable)
            .and_then(|mut builder| builder.commit_from_file(path).map_err(|error| self.refused(error, None)));
        match session {
            Ok(session) => Some(session),
            Err(error) => {
                tracing::warn!(model = self.name, error = error.chain(), "cached model is unreadable, making it again");
                let _ = fs::remove_file(path);
                None
            }
        }
    }

    /// Load the model itself, and leave its optimised form in the cache.
    fn open_original(&self, source: &Source) -> Result<Session> {
        let Some(optimised) = &self.optimised else { return self.open_as_is(source, Width::Wide) };
        self.open_and_keep(source, optimised).or_else(|reason| {
            // A cache that cannot be written must not keep a model from running; a model that cannot be
            // loaded fails again, with its own reason.
            let session = self.open_as_is(source, Width::Wide)?;
            tracing::warn!(model = self.name, error = reason.chain(), "cannot cache the optimised model");
            Ok(session)
        })
    }

    fn open_as_is(&self, source: &Source, width: Width) -> Result<Session> {
        let mut builder = self.builder(width, GraphOptimizationLevel::All)?;
        // Weights in other files are found relative to the model's own path.
        let session = if source.external {
            builder.commit_from_file(&self.path)
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
        let providers = register::dispatches(self.device, &self.cuda, &self.tensorrt);
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
                self.name,
                self.device,
                library.version,
                library.path.display()
            );
            Error::new(ErrorKind::Unmet, message).because(ort::Error::<()>::from(error))
        })
    }

    /// ONNX Runtime's refusal in terms of the file.
    fn refused(&self, error: ort::Error, source: Option<&Source>) -> Error {
        let hint = source.and_then(|source| hint(&source.bytes, error.message())).unwrap_or_default();
        let message = format!("ONNX Runtime cannot load model {:?} ({}){hint}", self.name, self.path.display());
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
