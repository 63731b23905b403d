//! Between those who ask and the models: the bounded queue, batches, deadlines, cancellation.
//!
//! A pure core ([`policy`], [`queue`], [`assemble`]: no clock, no thread, no I/O) inside a shell ([`ticket`],
//! [`batcher`]) that waits and runs. It must never know a protocol, a guest or a container; `ort` it knows
//! only through `model/`.
//!
//! The way in is [`Models::load`]: a file to a [`Batcher`], which is an [`Infer`](wharf_tensor::infer::Infer).

pub mod assemble;
pub mod batcher;
pub mod policy;
pub mod queue;
pub mod ticket;
mod work;

#[cfg(test)]
mod tests;

pub use batcher::{Batcher, ModelOptions, Models};
