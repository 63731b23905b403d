//! What all that runs in this process shares.

use std::sync::Arc;

use wharf_sandbox::cache::ComponentCache;
use wharf_sandbox::engine::Engine;

use super::config::ServeConfig;
use crate::batch::Models;
use crate::error::{Error, ErrorKind, Result};
use crate::ingress::Ingress;
use crate::metrics::Metrics;
use crate::model::OnnxRuntime;
use crate::model::environment::usable_cores;
use crate::runtime::devices::Devices;
use crate::runtime::{Launcher, Runtime};
use crate::service::ServiceTable;

/// Memory of one instance of a container that asks for none. Bytes.
const MEMORY: usize = 256 << 20;

pub struct Host {
    pub runtime: Runtime,
    pub services: ServiceTable,
    pub metrics: Metrics,
    pub launcher: Launcher,
    pub cores: usize,
}

impl Host {
    /// Reserve the sandbox's memory and load ONNX Runtime; either missing ends it here.
    pub fn start(config: &ServeConfig) -> Result<Host> {
        raise_descriptor_limit();
        let engine = Engine::new().map_err(|error| Error::new(ErrorKind::Unmet, "no guest can run").because(error))?;
        let cores = usable_cores();
        let library = OnnxRuntime::start(&config.search, cores)?;
        let devices = Devices::look(&config.sysroot, &library.library().path);
        let models = Arc::new(Models::on(devices.machine(), library, Some(config.data.join("cache"))));
        let runtime = Runtime::new(engine, component_cache(config), models, config.devices.clone(), devices);
        let (services, metrics) = (ServiceTable::default(), Metrics::new());
        let launcher = Launcher {
            runtime: runtime.clone(),
            services: services.clone(),
            front: Arc::new(Ingress::new(config.limits, metrics.clone())),
            metrics: metrics.clone(),
            outside: crate::runtime::outside::Outside::default(),
            memory: MEMORY,
        };
        Ok(Host { runtime, services, metrics, launcher, cores })
    }
}

fn component_cache(config: &ServeConfig) -> Option<ComponentCache> {
    match ComponentCache::open(config.data.join("cache").join("components")) {
        Ok(cache) => Some(cache),
        Err(error) => {
            tracing::warn!(%error, "compiled components are not kept: every start compiles again");
            None
        }
    }
}

/// Every connection and every container's folder is a descriptor; shells start with 1024 of them.
fn raise_descriptor_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        limit.current = limit.maximum;
        if let Err(error) = setrlimit(Resource::Nofile, limit) {
            tracing::warn!(%error, "the limit of open files stays as it is");
        }
    }
}
