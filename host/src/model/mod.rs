//! Models: finding ONNX Runtime, loading files, running sessions. The only room that names `ort`.
//!
//! It must never know who asks (a guest, a protocol), how requests are queued or joined into batches
//! (`batch/` does, through the traits of [`lanes`]), or what a container is.
//!
//! - [`library`]: where the shared library is; one error that says how to get it
//! - [`environment`]: the one process-wide ONNX Runtime environment and its thread pool
//! - [`device`]: where a session runs, what was asked for
//! - [`machine`], [`driver`]: what this machine has; [`preflight`], [`elf`], [`fatbin`]: whether a provider's
//!   libraries load, and for which GPUs they are
//! - [`plan`]: from the wish to the device, or to the reason why not; [`options`]: what the providers are told,
//!   [`register`]: telling them
//! - [`open`]: the seam to whoever opens sessions; [`load`]: who really does, and the cache of optimised models
//! - [`store`]: loaded models, shared by content; [`seen`]: files that need not be hashed again
//! - [`placement`]: which provider got which nodes
//! - [`engines`]: TensorRT's engines: taken from the cache, or built while another device serves ([`engine_build`]);
//!   [`routes`]: which sessions a request goes to; [`engine_cache`]: under a key of our own; [`engine_archive`]: carried
//!   to other machines; [`versions`]: what they are bound to
//! - [`lanes`]: who may use which session when
//! - [`session`], [`convert`], [`signature`]: one run; tensors in and out; what a model takes and gives
//! - [`binding`], [`replay`], [`gpu_copy`]: a GPU's runs: through pinned memory, and as a recording; [`gate`]: who may use
//!   the GPU meanwhile; [`closeness`]: whether two answers are the same one
//! - [`watchdog`]: the one timer: deadlines and cancellation
//! - [`counters`]: plain numbers that the metrics room reads

mod binding;
pub mod closeness;
pub mod convert;
pub mod counters;
pub mod device;
pub mod driver;
mod elf;
pub mod engine_archive;
mod engine_build;
pub mod engine_cache;
mod engines;
pub mod environment;
pub mod fatbin;
mod gate;
mod gpu_copy;
pub mod lanes;
pub mod library;
pub mod load;
pub mod machine;
pub mod open;
pub mod options;
pub mod placement;
pub mod plan;
pub mod preflight;
mod register;
mod replay;
pub mod routes;
mod seen;
pub mod session;
pub mod signature;
pub mod store;
mod versions;
pub mod watchdog;

#[cfg(test)]
pub(crate) mod fixture;

pub use counters::Counters;
pub use device::{Device, Strictness, Wish};
pub use environment::OnnxRuntime;
pub use machine::Machine;
pub use plan::{Placing, Plan};
pub use preflight::Readiness;
pub use routes::EngineState;
pub use store::{LoadedModel, ModelStore};
