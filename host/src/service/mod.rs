//! The seam between the planes: a table from container name to something that answers HTTP and/or infers.
//!
//! `runtime/` publishes into it; `ingress/` and `oip/` look up. It knows no Docker, no Wasm and no ONNX.
//!
//! - [`front`]: how a service gets behind limits and onto ports, without knowing who does that
//! - [`name`]: what a container is called, also after a rename
//! - [`respond`]: answers the host gives in a service's place

pub mod front;
pub mod name;
pub mod respond;

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, RwLock};
use std::time::Instant;

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use wharf_tensor::infer::Infer;

pub use front::{Front, Guarded, Listening, Traffic};
pub use name::Name;

pub type BodyError = Box<dyn std::error::Error + Send + Sync>;
pub type Body = UnsyncBoxBody<Bytes, BodyError>;
pub type ResponseFuture<'a> = Pin<Box<dyn Future<Output = http::Response<Body>> + Send + 'a>>;

/// Something that answers HTTP requests. Failures are answers too (500, 503, 504 …), so there is no error.
pub trait HttpService: Send + Sync {
    /// Dropping the future, or the body of its response, cancels the request. `deadline` is when the caller will
    /// do so, for whatever is asked further down.
    fn call(&self, request: http::Request<Body>, deadline: Instant) -> ResponseFuture<'_>;
}

/// A container as the data plane sees it.
#[derive(Clone)]
pub struct Service {
    pub name: Arc<str>,
    /// `None` for a bare model.
    pub http: Option<Arc<dyn HttpService>>,
    pub models: BTreeMap<String, Arc<dyn Infer>>,
    /// By the same names; a model may be missing here.
    pub placements: BTreeMap<String, PlacementSource>,
}

/// Asked each time: what a model runs on may change while it serves.
pub type PlacementSource = Arc<dyn Fn() -> Placement + Send + Sync>;

/// What a model runs on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Placement {
    /// E.g. `cuda:0`.
    pub device: String,
    /// How many of the graph's nodes each provider has, `None` being all of them, uncounted; empty where the session
    /// does not tell.
    pub nodes: BTreeMap<String, Option<u64>>,
    /// Devices that were preferred, each with why it is not used.
    pub fell_back: Vec<String>,
    /// How its TensorRT engine is doing: `building for 75 s`, `ready`, `failed: …`; `None` where it is to have none.
    pub engine: Option<String>,
}

impl Service {
    /// How clients of the Open Inference Protocol name a model of this container: its own name when the container is
    /// called the same, `container/model` otherwise.
    pub fn model_path(&self, model: &str) -> String {
        if *self.name == *model { model.to_owned() } else { format!("{}/{model}", self.name) }
    }
}

/// Container name to [`Service`]. Cheap to clone; look-ups never wait for a start or a stop.
#[derive(Clone, Default)]
pub struct ServiceTable(Arc<RwLock<BTreeMap<Arc<str>, Arc<Service>>>>);

impl ServiceTable {
    pub fn publish(&self, service: Service) -> Arc<Service> {
        let service = Arc::new(service);
        self.write().insert(service.name.clone(), service.clone());
        service
    }

    /// Take out this very service: another one that has its name by now stays.
    pub fn withdraw(&self, service: &Arc<Service>) {
        let mut table = self.write();
        if table.get(&service.name).is_some_and(|known| Arc::ptr_eq(known, service)) {
            table.remove(&service.name);
        }
    }

    pub fn get(&self, name: &str) -> Option<Arc<Service>> {
        self.read().get(name).cloned()
    }

    /// All services, by name.
    pub fn list(&self) -> Vec<Arc<Service>> {
        self.read().values().cloned().collect()
    }

    /// The model a client of the Open Inference Protocol means by `name`: a bare model's container name or
    /// model name first, then `container/model`, then a model name that only one container has.
    pub fn model(&self, name: &str) -> Option<Arc<dyn Infer>> {
        self.model_and_placement(name).map(|(model, _)| model)
    }

    /// [`ServiceTable::model`], and what it runs on.
    pub fn model_and_placement(&self, name: &str) -> Option<(Arc<dyn Infer>, Option<Placement>)> {
        let table = self.read();
        let of = |service: &Service, (name, model): (&String, &Arc<dyn Infer>)| {
            (model.clone(), service.placements.get(name).map(|placement| placement()))
        };
        if let Some(service) = table.get(name)
            && let Some(found) = service.models.get_key_value(name).or_else(|| only(service.models.iter()))
        {
            return Some(of(service, found));
        }
        if let Some((container, model)) = name.split_once('/') {
            let service = table.get(container)?;
            return service.models.get_key_value(model).map(|found| of(service, found));
        }
        only(table.values().filter_map(|service| Some(of(service, service.models.get_key_value(name)?))))
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, BTreeMap<Arc<str>, Arc<Service>>> {
        // Every critical section is one map operation: a panic cannot leave the map half-written.
        self.0.read().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, BTreeMap<Arc<str>, Arc<Service>>> {
        self.0.write().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

fn only<T>(mut items: impl Iterator<Item = T>) -> Option<T> {
    let first = items.next()?;
    items.next().is_none().then_some(first)
}
