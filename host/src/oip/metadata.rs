//! What the server and its models say about themselves, and the look-up of a model by a client's name.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use wharf_tensor::infer::{Infer, InferError, InferErrorKind, TensorSpec};

use super::error::OipError;
use super::path::Target;
use crate::service::{Placement, Service, ServiceTable};

/// The one version every model has: an image holds one, and another image is another container.
pub const VERSION: &str = "1";

/// Only what is implemented: clients choose their behaviour by this list.
const EXTENSIONS: [&str; 1] = ["binary_tensor_data"];

#[derive(Serialize)]
struct ServerMetadata {
    name: &'static str,
    version: &'static str,
    extensions: [&'static str; 1],
}

#[derive(Serialize)]
struct ModelMetadata<'a> {
    name: &'a str,
    versions: [&'static str; 1],
    platform: &'a str,
    inputs: Vec<TensorMetadata<'a>>,
    outputs: Vec<TensorMetadata<'a>>,
    /// What the protocol leaves to the server, as its gRPC form has it: here what the model runs on.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    properties: BTreeMap<String, String>,
}

#[derive(Serialize)]
struct TensorMetadata<'a> {
    name: &'a str,
    datatype: &'static str,
    /// -1 is a dimension that the model leaves open.
    shape: Vec<i64>,
}

impl<'a> From<&'a TensorSpec> for TensorMetadata<'a> {
    fn from(spec: &'a TensorSpec) -> Self {
        let dim = |dim: &Option<usize>| dim.and_then(|dim| i64::try_from(dim).ok()).unwrap_or(-1);
        TensorMetadata { name: &spec.name, datatype: spec.dtype.name(), shape: spec.shape.iter().map(dim).collect() }
    }
}

pub fn server() -> Response {
    Json(ServerMetadata { name: "wharf", version: env!("CARGO_PKG_VERSION"), extensions: EXTENSIONS }).into_response()
}

pub fn model(services: &ServiceTable, target: &Target) -> Result<Response, OipError> {
    let (model, placement) = lookup_placed(services, target)?;
    let signature = model.signature();
    let metadata = ModelMetadata {
        name: &target.name,
        versions: [VERSION],
        platform: signature.platform,
        inputs: signature.inputs.iter().map(Into::into).collect(),
        outputs: signature.outputs.iter().map(Into::into).collect(),
        properties: placement.map(properties).unwrap_or_default(),
    };
    Ok(Json(metadata).into_response())
}

/// `device`; `nodes.<provider>` where it is known; `fell_back` where another device was preferred; `engine` where TensorRT
/// is to run it.
fn properties(placement: Placement) -> BTreeMap<String, String> {
    let count = |nodes: Option<u64>| nodes.map_or_else(|| "all".to_owned(), |nodes| nodes.to_string());
    let nodes = placement.nodes.into_iter().map(|(provider, nodes)| (format!("nodes.{provider}"), count(nodes)));
    let fell_back = (!placement.fell_back.is_empty()).then(|| ("fell_back".to_owned(), placement.fell_back.join("; ")));
    let engine = placement.engine.map(|state| ("engine".to_owned(), state));
    nodes.chain(fell_back).chain(engine).chain([("device".to_owned(), placement.device)]).collect()
}

pub fn lookup(services: &ServiceTable, target: &Target) -> Result<Arc<dyn Infer>, InferError> {
    lookup_placed(services, target).map(|(model, _)| model)
}

type Placed = (Arc<dyn Infer>, Option<Placement>);

fn lookup_placed(services: &ServiceTable, target: &Target) -> Result<Placed, InferError> {
    let missing = |message| InferError::new(InferErrorKind::NotFound, message);
    let model = services.model_and_placement(&target.name).ok_or_else(|| {
        let known = names(&services.list());
        let known = if known.is_empty() { "no models".into() } else { known.join(", ") };
        missing(format!("unknown model {:?}; this host serves {known}", target.name))
    })?;
    match target.version.as_deref() {
        None | Some(VERSION) => Ok(model),
        Some(version) => Err(missing(format!("model {:?} has no version {version:?}, only {VERSION:?}", target.name))),
    }
}

/// For each model a name that [`ServiceTable::model`] finds it by.
fn names(services: &[Arc<Service>]) -> Vec<String> {
    let of_service = |service: &Arc<Service>| -> Vec<String> {
        match service.models.len() {
            1 => vec![service.name.to_string()],
            _ => service.models.keys().map(|model| format!("{}/{model}", service.name)).collect(),
        }
    };
    services.iter().flat_map(of_service).collect()
}
