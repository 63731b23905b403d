//! Building an image from a Dockerfile and a folder of files.
//!
//! Text becomes instructions ([`lines`], [`parse`], [`instruction`]); what cannot run here is refused first ([`refuse`]).
//! [`driver`] goes through stages and names the result; [`origin`] finds what a stage begins with; [`stage`] does steps or
//! takes their known outcome. A step is first a [`change`], its variables expanded ([`expand`], [`scope`]): of settings
//! ([`settings`]), or of files ([`files`]) that are copied ([`copy`], [`ignore`], [`pattern`], [`wasm`]) or made by a tool
//! ([`tool`], [`changes`]). [`told`] writes the history.
//!
//! It must never know how Wasm runs or how a registry is asked: that comes in through [`BuildHooks`].

mod change;
mod changes;
mod copy;
mod driver;
mod expand;
mod files;
mod ignore;
mod instruction;
mod lines;
mod origin;
mod parse;
mod pattern;
mod refuse;
mod scope;
mod settings;
mod stage;
mod told;
mod tool;
mod wasm;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::Path;

use super::Progress;
use super::reference::Reference;
use crate::error::Result;

pub use super::unpack::unpack_context;
pub use tool::ToolFailed;

/// What a build was asked for.
#[derive(Clone, Debug, Default)]
pub struct BuildOptions {
    /// Its path in the context; empty is `Dockerfile`.
    pub dockerfile: String,
    /// Values for ARG.
    pub args: BTreeMap<String, String>,
    pub labels: BTreeMap<String, String>,
    pub tags: Vec<Reference>,
    pub no_cache: bool,
    /// Ask the registry for newer base images.
    pub pull: bool,
    /// Say only the id.
    pub quiet: bool,
    /// The stage to stop at: a name or a number.
    pub target: Option<String>,
    /// `os/architecture`; `wasi/wasm` if not given.
    pub platform: Option<String>,
}

/// What building needs of the host. Implemented where the sandbox and the registry are known.
pub trait BuildHooks: Send + Sync {
    /// A core module as a component; `None` for what stays as it is.
    fn componentise(&self, wasm: &[u8]) -> Result<Option<Vec<u8>>>;

    /// Compile a component ahead, so that the first start is fast.
    fn precompile(&self, wasm: &Path) -> Result<()>;

    /// Run a tool of the stage on the stage's files. Its exit code.
    fn run(&self, step: RunStep<'_>, line: &dyn Fn(&str)) -> Result<i32>;

    fn pull(&self, reference: &Reference, progress: &(dyn Fn(Progress) + Send + Sync)) -> Result<()>;
}

/// One RUN.
#[derive(Clone, Copy, Debug)]
pub struct RunStep<'a> {
    /// The stage's files, which the tool may change.
    pub root: &'a Path,
    /// The tool's path in the image, and its arguments.
    pub argv: &'a [String],
    pub environment: &'a [(String, String)],
    pub working_dir: &'a str,
}
