//! Write a Wharf service: a component that answers HTTP and runs models.
//!
//! This is `examples/hello`, whole:
//!
//! ```rust
#![doc = include_str!("../../examples/hello/src/lib.rs")]
//! ```
//!
//! A service is a [`Router`] of handlers. A handler is a plain function: its arguments are *extractors*
//! ([`Image`], [`Json`], [`Query`], [`Path`], [`Multipart`], [`Headers`], …, at most six), its result is
//! anything a response can be made of ([`IntoResponse`]). Errors are [`Error`]: a status and a sentence;
//! `?` turns what [`Model`], [`Tensor`], [`Image`] and outgoing calls ([`client`]) say into the right status.
//!
//! | what happened | status |
//! |---|---|
//! | no such path / path known, method not | 404 / 405 with `allow` |
//! | body is not what the extractor takes (content type) / is damaged or empty / has the wrong fields | 415 / 400 / 422 |
//! | picture has too many pixels, body too many bytes / body came too slowly | 413 / 408 |
//! | model: wrong shape, datatype or input / queue full / deadline passed / failed, or not in the image | 400 / 503 / 504 / 500 |
//! | another service: refused by the network, no such host, not reachable, wrong answer / too slow | 502 / 504 |
//!
//! Pictures and tensors live in the host: an [`Image`] or [`Tensor`] is a handle, and the bytes of a
//! request never enter the guest unless asked for.
//!
//! Handlers run one at a time; by default every request gets a fresh instance, so nothing leaks from one
//! caller to the next. Log with [`log`]'s macros (`LOG_LEVEL` sets the level, `info` unless set): records
//! and the message of a panic go to the container's log.
//!
//! Build with `crate-type = ["cdylib"]` for `wasm32-unknown-unknown`, `wasm32-wasip1` or `wasm32-wasip2`. On
//! any other target the crate compiles too, so that handlers can be tested with [`Router::call`]; what
//! needs the host (pictures, tensors, models, outgoing calls) panics there.

#![deny(missing_docs, unsafe_code)]

// The bindings name this crate as services see it.
extern crate self as wharf_guest;

#[cfg(all(feature = "allocator", target_arch = "wasm32"))]
mod allocator;
#[doc(hidden)]
pub mod bindings;
mod body;
pub mod client;
mod environment;
mod error;
mod export;
mod extract;
mod handler;
mod headers;
mod image;
mod logging;
mod model;
mod multipart;
mod normalise;
mod picture;
mod request;
mod response;
mod router;
mod tensor;
mod values;

pub use client::{ClientError, ClientErrorKind};
pub use environment::{env, monotonic, now, random_bytes};
pub use error::{Error, InferenceError, InferenceErrorKind, Result, VisionError, VisionErrorKind};
pub use extract::{FromRequest, Json, Path, Query};
pub use handler::Handler;
pub use headers::Headers;
pub use http::{Method, StatusCode};
pub use image::{Color, Filter, Format, Image, Letterbox, PixelFormat, Rect};
pub use log::{self, debug, error, info, trace, warn};
pub use model::{Metadata, Model, Outputs, Pending, TensorMetadata};
pub use multipart::{Multipart, Part};
pub use normalise::Normalise;
pub use picture::Encoded;
pub use request::Request;
pub use response::{Html, IntoResponse, Response};
pub use router::Router;
pub use tensor::{Datatype, Element, Scored, Tensor, TensorView};
pub use wharf_guest_macros::service;

/// For the expansion of [`service`](macro@service) only.
#[doc(hidden)]
pub mod __private {
    pub use crate::__export_service as export;
    pub use crate::bindings;
    pub use crate::export::{Guest, serve};
    pub use wit_bindgen;
}

/// Export a service. Off WebAssembly there is nothing to export to.
#[doc(hidden)]
#[macro_export]
macro_rules! __export_service {
    ($app:path) => {
        const _: fn() -> $crate::Router = $app;
        #[cfg(target_family = "wasm")]
        const _: () = {
            struct Service;

            impl $crate::__private::Guest for Service {
                fn handle(
                    request: $crate::__private::bindings::wasi::http::types::IncomingRequest,
                    out: $crate::__private::bindings::wasi::http::types::ResponseOutparam,
                ) {
                    $crate::__private::serve($app, request, out);
                }
            }

            $crate::__private::bindings::export! { Service with_types_in $crate::__private::bindings }
        };
    };
}
