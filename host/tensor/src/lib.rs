//! Tensors: datatype, shape and bytes. The vocabulary that the sandbox, the picture operations, the
//! model room and the protocols share.
//!
//! This crate knows no model, no guest and no protocol. Bytes are always row-major, little-endian and
//! contiguous, in the Open Inference Protocol's raw form, so that no room needs a second representation.
//!
//! - [`dtype`]: datatypes and their sizes
//! - [`tensor`]: [`Tensor`] and its checked constructors
//! - [`ops`]: the few operations guests may ask of the host: slice, softmax, top-k
//! - [`half`]: bit patterns of the 16-bit floats
//! - [`infer`]: what is asked of a model, and the trait of those that answer
//! - [`batch_dim`]: joining and splitting along dimension 0, for batching

#![forbid(unsafe_code)]

pub mod batch_dim;
pub mod dtype;
pub mod half;
pub mod infer;
pub mod ops;
pub mod tensor;

pub use dtype::DType;
pub use ops::Scored;
pub use tensor::{Element, Tensor, TensorError};
