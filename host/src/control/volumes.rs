//! The routes under `/volumes`.

use std::collections::BTreeMap;

use axum::response::Response;
use http::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use super::call::{Call, blocking, created, no_content, ok};
use super::containers::prune::filter as prune_filter;
use super::filters::Filters;
use super::router::unknown;
use super::times;
use crate::container::{Volume, VolumeSpec};
use crate::error::Result;

pub async fn route(call: Call, method: &Method, path: &[&str]) -> Result<Response> {
    match (method.as_str(), path) {
        ("GET", []) => list(&call),
        ("POST", ["create"]) => create(call).await,
        ("POST", ["prune"]) => prune(call).await,
        ("GET", [name]) => ok(&shape(&call.control.containers.volumes().find(name)?)),
        ("DELETE", [name]) => remove(call, name).await,
        _ => Err(unknown()),
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct CreateRequest {
    name: String,
    driver: String,
    labels: BTreeMap<String, String>,
    driver_opts: BTreeMap<String, String>,
}

async fn create(mut call: Call) -> Result<Response> {
    let request: CreateRequest = call.json().await?;
    let spec = VolumeSpec {
        anonymous: request.name.is_empty(),
        name: (!request.name.is_empty()).then_some(request.name),
        driver: request.driver,
        labels: request.labels,
        options: request.driver_opts,
    };
    let volumes = call.control.containers.volumes().clone();
    created(&shape(&blocking(move || volumes.create(spec)).await?))
}

fn list(call: &Call) -> Result<Response> {
    let filters = Filters::parse(&call.query, &["name", "driver", "label", "dangling"])?;
    let dangling = filters.flag("dangling")?;
    let mut volumes = call.control.containers.volumes().list();
    volumes.retain(|volume| {
        filters.admits_name("name", &volume.name)
            && filters.admits("driver", |driver| driver == "local")
            && filters.admits_labels(&volume.labels)
            && dangling.is_none_or(|dangling| dangling == volume.users.is_empty())
    });
    ok(&json!({"Volumes": volumes.iter().map(shape).collect::<Vec<_>>(), "Warnings": null}))
}

pub fn shape(volume: &Volume) -> Value {
    let options = (!volume.options.is_empty()).then_some(&volume.options);
    json!({
        "Name": volume.name, "Driver": "local", "Mountpoint": volume.mountpoint,
        "CreatedAt": times::rfc3339(volume.created), "Labels": volume.labels, "Scope": "local", "Options": options,
    })
}

async fn remove(call: Call, name: &str) -> Result<Response> {
    let (volumes, name, force) = (call.control.containers.volumes().clone(), name.to_owned(), call.query.flag("force"));
    blocking(move || volumes.remove(&name, force)).await?;
    no_content()
}

async fn prune(call: Call) -> Result<Response> {
    let filter = prune_filter(&Filters::parse(&call.query, &["all", "label", "label!"])?)?;
    let volumes = call.control.containers.volumes().clone();
    let pruned = blocking(move || volumes.prune(&filter)).await?;
    ok(&json!({"VolumesDeleted": pruned.removed, "SpaceReclaimed": pruned.reclaimed}))
}
