//! Pictures in host memory: decode, resize, crop, pad, convert, draw, encode, and the way into a tensor.
//!
//! Everything a guest may ask of a picture, as plain synchronous functions on [`Image`]. This crate knows
//! no guest, no stream and no container; whoever calls it brings the [`Limits`] and accounts for
//! [`Image::memory`]. Bad input is always an error, never a panic.
//!
//! - [`image`]: the picture itself and its pixel formats
//! - [`limits`]: how large pictures may be, checked before memory is taken
//! - [`decode`], `jpeg`: bytes to pixels; [`encode`]: pixels to bytes
//! - [`geometry`]: resize, crop, pad; `convert`: between pixel formats
//! - [`normalise`]: pixels to a tensor
//! - `draw`: rectangles and text

#![forbid(unsafe_code)]

mod convert;
pub mod decode;
mod draw;
pub mod encode;
pub mod error;
pub mod geometry;
pub mod image;
mod jpeg;
pub mod limits;
pub mod normalise;

pub use decode::Format;
pub use error::{ErrorKind, VisionError};
pub use geometry::{Filter, Rect};
pub use image::{Color, Image, PixelFormat};
pub use limits::Limits;
pub use normalise::{Channels, Layout, TensorOptions};

#[cfg(test)]
mod pictures;
