//! Control: a faithful subset of the Docker Engine API on a unix socket, so that `docker`, compose, the SDKs and our own
//! command line drive the host.
//!
//! It must never know Wasm, models, ports or the Open Inference Protocol: it translates between Docker's JSON and
//! [`Containers`], [`Images`] and [`Registry`], which decide. What Docker's clients depend on (statuses, texts, shapes)
//! is decided here and nowhere else.
//!
//! | part | what it does |
//! |---|---|
//! | [`socket`] | bind, serve, drain |
//! | `router`, `call` | from a path to a handler; a request taken apart, an answer put together |
//! | `error` | kinds to statuses, `{"message": …}` |
//! | `query`, `filters`, `times`, `status` | how clients write booleans, filters and moments; `Up 3 seconds`. Pure |
//! | `stream`, `progress`, `hijack`, `fields` | frames, JSON lines, raw connections, objects in order |
//! | `containers`, `images`, `build`, `archives`, `transfer`, `networks`, `volumes`, `system`, `events` | the routes |
//! | [`host`] | what the host tells of itself |

mod archives;
mod build;
mod call;
mod containers;
mod error;
mod events;
mod fields;
mod filters;
mod hijack;
pub mod host;
mod images;
mod networks;
mod progress;
mod query;
mod router;
pub mod socket;
mod status;
mod stream;
mod system;
mod times;
mod transfer;
mod volumes;

use std::sync::Arc;

pub use host::HostFacts;
pub use socket::{bind, serve};

use crate::container::Containers;
use crate::image::Images;
use crate::image::build::BuildHooks;
use crate::image::registry::Registry;

/// What the API is about. Cheap to clone.
#[derive(Clone)]
pub struct Control {
    containers: Containers,
    images: Images,
    registry: Registry,
    hooks: Arc<dyn BuildHooks>,
    host: Arc<HostFacts>,
}

impl Control {
    /// One per folder of data: what builds left there is removed.
    pub fn new(
        containers: Containers,
        images: Images,
        registry: Registry,
        hooks: Arc<dyn BuildHooks>,
        host: HostFacts,
    ) -> Control {
        build::clear_contexts(&host.data);
        Control { containers, images, registry, hooks, host: Arc::new(host) }
    }
}
