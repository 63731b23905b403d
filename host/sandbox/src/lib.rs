//! The sandbox: everything that names wasmtime, behind a small API that is not generic.
//!
//! It is a crate of its own because the WASI glue, monomorphised for the state of a guest, takes minutes to
//! compile; nothing that changes daily belongs here. It knows no container, no port, no Docker and no ONNX:
//! models arrive as [`wharf_tensor::infer::Infer`], log lines leave through [`log::LogSink`], requests through
//! [`egress::Outgoing`].
//!
//! - [`engine`]: the wasmtime engine, its memory layout and the epoch ticker
//! - [`cache`]: compiled components on disk
//! - [`component`]: from a `.wasm` file to a checked, compiled component; `command`: preview 1's exit codes
//! - [`bindings`], [`linker`]: what a guest may touch, all of it
//! - [`state`]: what one instance holds; [`limits`]: how much
//! - [`governor`]: what a container's instances have used together, and what keeps them back
//! - [`inference`], [`vision`], [`nn`], [`egress`], [`stdio`], [`log`]: the host's side of each import
//! - [`instance`]: how an instance is made, and why one fails
//! - [`service`]: instances, their reuse, and one call; `turn`: when a running guest lets others have the thread
//! - [`job`]: a component that runs once and ends

pub mod bindings;
pub mod cache;
mod command;
pub mod component;
pub mod egress;
pub mod engine;
pub mod governor;
pub mod inference;
pub mod instance;
pub mod job;
pub mod limits;
pub mod linker;
pub mod log;
pub mod nn;
pub mod service;
pub mod state;
pub mod stdio;
pub(crate) mod turn;
pub mod vision;
