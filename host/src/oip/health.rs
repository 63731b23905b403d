//! Live, ready, model ready. Probes look at the status only; people get a JSON body.

use axum::Json;
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::error::OipError;
use super::metadata::lookup;
use super::path::Target;
use crate::service::ServiceTable;

#[derive(Serialize)]
struct Live {
    live: bool,
}

#[derive(Serialize)]
struct Ready {
    ready: bool,
}

#[derive(Serialize)]
struct ModelReady<'a> {
    name: &'a str,
    ready: bool,
}

/// The process can answer, and proves it by answering.
pub fn live() -> Response {
    Json(Live { live: true }).into_response()
}

/// A service enters the table when it is ready and leaves it before it stops, and the host listens once the
/// services it was started for are in: whoever can ask gets a yes.
pub fn ready() -> Response {
    Json(Ready { ready: true }).into_response()
}

pub fn model_ready(services: &ServiceTable, target: &Target) -> Result<Response, OipError> {
    lookup(services, target)?;
    Ok(Json(ModelReady { name: &target.name, ready: true }).into_response())
}
