//! `docker cp` and `docker export`: a container's files as an archive.

use axum::response::Response;
use http::Method;

use crate::control::call::{Call, not_offered};
use crate::error::Result;

pub async fn archive(call: Call, method: &Method, id: &str) -> Result<Response> {
    let _ = (method, call.control.containers.find(id)?);
    not_offered("copying files is not offered: mount a folder with -v")
}

pub async fn export(call: Call, id: &str) -> Result<Response> {
    call.control.containers.find(id)?;
    not_offered("export is not offered: a container's files are its image's; use docker save")
}
