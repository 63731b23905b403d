//! What building an image needs of the sandbox: modules to components, compiling ahead, and `RUN`.

use std::path::Path;

use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use wharf_sandbox::component::{self, Kind};
use wharf_sandbox::job::JobSpec;
use wharf_sandbox::log::LogStream;
use wharf_sandbox::state::{Guest, Mount};
use wharf_sandbox::stdio::Output;

use super::programs::{Program, Programs};
use super::{Runtime, contents};
use crate::error::{Error, ErrorKind, Result};
use crate::image::build::RunStep;

/// Memory a `RUN` step may use. Bytes.
const STEP_MEMORY: usize = 1 << 30;

const PIECES: usize = 16;

/// The sandbox as a build sees it. Called on threads that may block.
#[derive(Clone)]
pub struct Tooling {
    programs: Programs,
    tokio: Handle,
}

impl Tooling {
    pub fn new(runtime: &Runtime, tokio: Handle) -> Tooling {
        Tooling { programs: runtime.programs().clone(), tokio }
    }

    /// A core module made by wit-bindgen as a component; `None` for everything else, which stays as it is.
    pub fn componentise(&self, wasm: &[u8]) -> Result<Option<Vec<u8>>> {
        match component::kind(wasm) {
            // A file that is no program may lie in an image all the same.
            Kind::Neither(_) => Ok(None),
            Kind::Service | Kind::Job => match component::componentise(wasm) {
                Ok(std::borrow::Cow::Owned(component)) => Ok(Some(component)),
                Ok(std::borrow::Cow::Borrowed(_)) => Ok(None),
                Err(error) => Err(Error::invalid("the module cannot become a component").because(error)),
            },
        }
    }

    /// Compile into the cache, so that the first start finds it there.
    pub fn precompile(&self, file: &Path) -> Result<()> {
        self.programs.precompile(file)
    }

    /// Run a tool of the stage on the stage's own files; what it writes stays in them. Its exit code.
    pub fn run(&self, step: &RunStep<'_>, line: &dyn Fn(&str)) -> Result<i32> {
        let command = step.argv.first().map_or("", String::as_str);
        let file = contents::program(step.root, step.working_dir, command)?;
        let program = self.programs.load(&file, command)?;
        let Program::Job(job) = &*program else {
            return Err(Error::invalid(format!("{command} is a service; RUN needs a command (wasi:cli/run)")));
        };
        let (pieces, mut received) = mpsc::channel::<(LogStream, Bytes)>(PIECES);
        let guest = Guest {
            arguments: step.argv.to_vec(),
            environment: step.environment.to_vec(),
            working_dir: step.working_dir.to_owned(),
            mounts: vec![Mount { source: step.root.to_owned(), target: "/".to_owned(), read_only: false }],
            ..Guest::new(Output::Chunks(pieces), STEP_MEMORY)
        };
        let ended = self.tokio.spawn({
            let job = job.clone();
            async move { job.run(JobSpec { guest, stdin: None, terminal: false }).await }
        });
        let mut pending = Vec::new();
        while let Some((_, piece)) = received.blocking_recv() {
            pending.extend_from_slice(&piece);
            while let Some(end) = pending.iter().position(|byte| *byte == b'\n') {
                let whole: Vec<u8> = pending.drain(..=end).collect();
                line(String::from_utf8_lossy(&whole).trim_end());
            }
        }
        if !pending.is_empty() {
            line(&String::from_utf8_lossy(&pending));
        }
        let ended = self
            .tokio
            .block_on(ended)
            .map_err(|error| Error::new(ErrorKind::Failed, format!("{command} ended unexpectedly")).because(error))?;
        ended.map_err(|error| Error::new(ErrorKind::Failed, format!("{command} failed")).because(error))
    }
}
