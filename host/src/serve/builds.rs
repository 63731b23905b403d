//! What building an image needs of the other rooms: the sandbox for modules and `RUN`, the registry for `FROM`.

use std::path::Path;

use tokio::runtime::Handle;

use crate::error::Result;
use crate::image::build::{BuildHooks, RunStep};
use crate::image::registry::Registry;
use crate::image::{Progress, Reference};
use crate::runtime::tooling::Tooling;

pub struct Hooks {
    tooling: Tooling,
    registry: Registry,
    tokio: Handle,
}

impl Hooks {
    pub fn new(tooling: Tooling, registry: Registry, tokio: Handle) -> Hooks {
        Hooks { tooling, registry, tokio }
    }
}

impl BuildHooks for Hooks {
    fn componentise(&self, wasm: &[u8]) -> Result<Option<Vec<u8>>> {
        self.tooling.componentise(wasm)
    }

    fn precompile(&self, wasm: &Path) -> Result<()> {
        self.tooling.precompile(wasm)
    }

    fn run(&self, step: RunStep<'_>, line: &dyn Fn(&str)) -> Result<i32> {
        self.tooling.run(&step, line)
    }

    fn pull(&self, reference: &Reference, progress: &(dyn Fn(Progress) + Send + Sync)) -> Result<()> {
        // Builds run on a thread of their own, which may wait.
        self.tokio.block_on(self.registry.pull(reference, None, None, progress)).map(drop)
    }
}
