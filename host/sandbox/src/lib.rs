//! The sandbox: everything that names wasmtime, behind a small API that is not generic.
//!
//! It is a crate of its own because the WASI glue, monomorphised for the state of a guest, takes minutes to
//! compile; nothing that changes daily belongs here. It knows no container, no port, no Docker and no ONNX:
//! models arrive as [`wharf_tensor::infer::Infer`], log lines leave through [`LogSink`].
//!
//! - [`engine`]: the wasmtime engine, its memory layout and the epoch ticker
//! - [`cache`]: compiled components on disk
//! - [`component`]: from a `.wasm` file to a checked, compiled component
//! - [`bindings`], [`linker`]: what a guest may touch, all of it
//! - [`state`]: what one instance holds; [`limits`]: how much
//! - [`inference`], [`vision`], [`nn`], [`egress`], [`log`]: the host's side of each import
//! - [`service`]: instances, their reuse, and one call; `turn`: when a running guest lets others have the thread

pub mod bindings;
pub mod cache;
pub mod component;
pub mod egress;
pub mod engine;
pub mod inference;
pub mod limits;
pub mod linker;
pub mod log;
pub mod nn;
pub mod service;
pub mod state;
pub(crate) mod turn;
pub mod vision;
