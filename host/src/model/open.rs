//! The seam between keeping models and opening their sessions: what the store, and the building of engines, need of
//! ONNX Runtime and of this machine. [`Onnx`](super::load::Onnx) is the real one; tests bring one that "builds" when
//! they say so. Must never know who uses a session, or when.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use wharf_tensor::infer::Signature;

use super::device::Device;
use super::engine_cache::Versions;
use super::load::Source;
use super::machine::NvidiaGpu;
use super::options::{CudaOptions, Profile, TensorRtOptions};
use super::placement::Placement;
use crate::error::Result;

/// All it takes to open sessions of one model. Keeps no bytes: they are read again for further sessions.
#[derive(Clone, Debug)]
pub struct Recipe {
    /// As the one who asked calls it; for messages.
    pub name: String,
    pub path: PathBuf,
    pub sha256: String,
    pub device: Device,
    pub cuda: CudaOptions,
    /// With the folder of the engine where `device` is TensorRT: a session opened on an empty one builds, which takes
    /// minutes.
    pub tensorrt: TensorRtOptions,
    /// Where the optimised model is or will be; `None` if this model is not cached.
    pub optimised: Option<PathBuf>,
}

/// The first session of a model on a device.
pub struct Opened<S> {
    pub session: S,
    pub signature: Arc<Signature>,
    /// Which provider got how many nodes.
    pub placement: Option<Placement>,
}

/// What engines of a GPU are bound to.
#[derive(Clone, Debug)]
pub struct Target {
    pub gpu: NvidiaGpu,
    pub versions: Versions,
}

/// Opens sessions. All of this blocks.
pub trait Opener: Send + Sync + 'static {
    type Session: Send + 'static;

    /// That inference may use.
    fn cores(&self) -> usize;

    /// Where the optimised form of this model is kept, if it is.
    fn optimised(&self, cache: &Path, source: &Source, device: Device) -> Option<PathBuf>;

    /// The first session, from bytes already read.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unmet`](crate::error::ErrorKind::Unmet) where the device is to blame, not the model or its engine.
    fn open(&self, recipe: &Recipe, source: &Source) -> Result<Opened<Self::Session>>;

    /// One more session, of one thread.
    fn open_narrow(&self, recipe: &Recipe, signature: &Arc<Signature>) -> Result<Self::Session>;

    /// What the model takes and gives, found out without a GPU.
    fn signature(&self, recipe: &Recipe, source: &Source) -> Result<Signature>;

    /// Run the model once on zeros, at the largest shapes of the profile: a session that opens and does not run must not
    /// take another's place.
    fn prove(
        &self,
        session: &mut Self::Session,
        recipe: &Recipe,
        signature: &Signature,
        profile: Option<&Profile>,
    ) -> Result<()>;

    /// What engines of this GPU are bound to. The error is one clause.
    fn target(&self, gpu: u32) -> Result<Target, String>;
}
