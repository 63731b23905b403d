//! `POST /containers/create`: a request and an image become a container's settings.
//!
//! - [`request`]: the body
//! - [`merge`]: request and image joined
//! - [`mounts`], [`ports`], [`hosts`], [`limits`]: what is read from which flags, and what is refused
//! - [`stored`]: the `HostConfig` that `inspect` shows

mod hosts;
pub mod limits;
pub mod merge;
pub mod mounts;
pub mod ports;
pub mod request;
pub mod stored;
#[cfg(test)]
mod tests;

use axum::response::Response;
use serde_json::json;

use self::request::CreateRequest;
use crate::control::call::{Call, blocking, created};
use crate::control::error::not_missing;
use crate::error::{Error, Result};

/// 404 means a missing image and nothing else: on it, the CLI pulls and asks again.
pub async fn create(mut call: Call) -> Result<Response> {
    let request: CreateRequest = call.json().await?;
    if request.image.is_empty() {
        return Err(Error::invalid("config cannot be empty in order to create a container: name an Image"));
    }
    let control = &call.control;
    let (images, name) = (control.images.clone(), request.image.clone());
    let image = blocking(move || images.find(&name)).await?;
    let platform = call.query.text("platform").unwrap_or_default();
    limits::check_platform(platform, &request.image, control.host.go_architecture())?;
    let (spec, mut warnings) = merge::merge(request, &image, &control.host).map_err(not_missing)?;
    let name = call.query.text("name").map(|name| name.trim_start_matches('/').to_owned());
    let made = control.containers.create(name.as_deref(), spec).await.map_err(not_missing)?;
    warnings.extend(made.warnings);
    created(&json!({"Id": made.id, "Warnings": warnings}))
}
