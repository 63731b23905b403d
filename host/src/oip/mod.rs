//! The Open Inference Protocol v2 over REST: every model in the service table, for clients such as
//! `tritonclient` and for curl.
//!
//! It must never know Docker, guests, files or ONNX: only [`ServiceTable`] and the trait
//! [`Infer`](wharf_tensor::infer::Infer). Bytes become requests in `decode`, answers become bytes in `encode`; both
//! are pure. What a failure looks like to the client is decided in `error` and nowhere else.

mod decode;
mod elements;
mod encode;
mod error;
mod health;
mod infer;
mod metadata;
mod path;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::any;

use crate::service::ServiceTable;
use error::OipError;
use path::Endpoint;

/// What a client may ask of one request.
#[derive(Clone, Debug)]
pub struct Options {
    /// From the request's first byte to its answer. A request's `timeout` parameter can only shorten it.
    pub deadline: Duration,
    /// Bytes of one request body.
    pub max_body: usize,
}

impl Default for Options {
    fn default() -> Self {
        Options { deadline: Duration::from_secs(30), max_body: 64 << 20 }
    }
}

struct Oip {
    services: ServiceTable,
    options: Options,
}

/// The routes under `/v2`, to be merged into the host port's router.
///
/// One handler takes them all, because model names may hold a `/` and only reading the path from its end
/// tells the name from the verb (`path`).
pub fn router(services: ServiceTable, options: Options) -> Router {
    Router::new()
        .route("/v2", any(dispatch))
        .route("/v2/", any(dispatch))
        .route("/v2/{*rest}", any(dispatch))
        .with_state(Arc::new(Oip { services, options }))
}

async fn dispatch(State(oip): State<Arc<Oip>>, request: Request) -> Response {
    answer(&oip, request).await.unwrap_or_else(IntoResponse::into_response)
}

async fn answer(oip: &Oip, request: Request) -> Result<Response, OipError> {
    let endpoint = Endpoint::parse(request.uri().path())
        .ok_or_else(|| OipError::UnknownPath { path: request.uri().path().to_owned() })?;
    endpoint.check_method(request.method())?;
    match endpoint {
        Endpoint::Server => Ok(metadata::server()),
        Endpoint::Live => Ok(health::live()),
        Endpoint::Ready => Ok(health::ready()),
        Endpoint::Model(target) => metadata::model(&oip.services, &target),
        Endpoint::ModelReady(target) => health::model_ready(&oip.services, &target),
        Endpoint::Infer(target) => infer::infer(oip, &target, request).await,
    }
}
