//! `docker container prune`, and the filters that every prune request has.

use std::time::SystemTime;

use axum::response::Response;
use serde_json::json;

use crate::container::PruneFilter;
use crate::control::call::{Call, ok};
use crate::control::filters::Filters;
use crate::control::times;
use crate::error::Result;

pub async fn prune(call: Call) -> Result<Response> {
    let filters = Filters::parse(&call.query, &["until", "label", "label!"])?;
    let pruned = call.control.containers.prune(&filter(&filters)?).await?;
    ok(&json!({"ContainersDeleted": pruned.removed, "SpaceReclaimed": pruned.reclaimed}))
}

pub fn filter(filters: &Filters) -> Result<PruneFilter> {
    let now = SystemTime::now();
    let owned = |key| filters.values(key).map(str::to_owned).collect();
    let until = filters.values("until").next().map(|text| times::parse(text, now)).transpose()?;
    Ok(PruneFilter {
        until,
        labels: owned("label"),
        without_labels: owned("label!"),
        all: filters.flag("all")?.unwrap_or(false),
    })
}
