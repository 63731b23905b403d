//! `wharf componentize`: a core module made by wit-bindgen → a component.

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use wharf_sandbox::component::componentise;

use crate::error::{Error, ErrorKind, Result};

/// Make a component of a core module built with wit-bindgen (`wharf serve` does so by itself).
///
/// Other hosts, such as `wasmtime serve`, take components only.
#[derive(Debug, Args)]
pub struct Componentize {
    /// The core module
    #[arg(value_name = "MODULE.wasm")]
    input: PathBuf,

    /// The component to write
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
}

impl Componentize {
    pub fn execute(self) -> Result<ExitCode> {
        let wasm = fs::read(&self.input).map_err(|error| {
            Error::new(ErrorKind::Io, format!("cannot read {}", self.input.display())).because(error)
        })?;
        let component = componentise(&wasm).map_err(|error| {
            Error::invalid(format!("{} cannot become a component", self.input.display())).because(error)
        })?;
        fs::write(&self.output, &component).map_err(|error| {
            Error::new(ErrorKind::Io, format!("cannot write {}", self.output.display())).because(error)
        })?;
        Ok(ExitCode::SUCCESS)
    }
}
