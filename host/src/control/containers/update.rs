//! `docker update`: new limits and a new restart policy; what is zero or absent stays as it is.

use axum::response::Response;
use serde::Deserialize;
use serde_json::json;

use super::create::limits;
use super::create::request::RestartRequest;
use crate::container::Update;
use crate::control::call::{Call, ok};
use crate::error::Result;

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct UpdateRequest {
    memory: i64,
    nano_cpus: i64,
    cpu_quota: i64,
    cpu_period: i64,
    restart_policy: RestartRequest,
}

pub async fn update(mut call: Call, id: &str) -> Result<Response> {
    let request: UpdateRequest = call.json().await?;
    let cores = call.control.host.cores;
    let policy = &request.restart_policy;
    let container = call.control.containers.find(id)?;
    let restart = if policy.name.is_empty() { None } else { Some(limits::restart(policy)?) };
    limits::check_auto_remove(container.spec.auto_remove, restart.unwrap_or_default())?;
    let update = Update {
        memory: limits::memory(request.memory)?,
        nano_cpus: limits::nano_cpus(request.nano_cpus, request.cpu_quota, request.cpu_period, cores)?,
        restart,
    };
    call.control.containers.update(id, update).await?;
    ok(&json!({"Warnings": null}))
}
