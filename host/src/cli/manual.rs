//! `wharf manual`: the manual pages, one for each verb, made of the same words as `--help`. Hidden: packages run it.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory};

use super::Cli;
use crate::error::{Error, ErrorKind, Result};

/// Write the manual pages (wharf.1, wharf-run.1, …) into a folder.
#[derive(Debug, Args)]
pub struct Manual {
    #[arg(value_name = "DIR")]
    folder: PathBuf,
}

impl Manual {
    pub fn execute(self) -> Result<ExitCode> {
        let cannot = |error| {
            let text = format!("cannot write the manual pages into {}", self.folder.display());
            Error::new(ErrorKind::Io, text).because(error)
        };
        std::fs::create_dir_all(&self.folder).map_err(cannot)?;
        // `wharf help run` is `wharf run --help`: pages of it would be every page twice.
        let command = Cli::command().disable_help_subcommand(true);
        clap_mangen::generate_to(command, &self.folder).map_err(cannot)?;
        Ok(ExitCode::SUCCESS)
    }
}
