//! `wharf completion`: completions for a shell.

use std::io::{self, Write};
use std::process::ExitCode;

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::Cli;
use crate::error::Result;

/// Print completions for a shell: `source <(wharf completion bash)`.
#[derive(Debug, Args)]
pub struct Completion {
    #[arg(value_enum)]
    shell: Shell,
}

impl Completion {
    pub fn execute(self) -> Result<ExitCode> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "wharf", &mut script);
        // A reader that has seen enough (`wharf completion bash | head`) is no failure.
        let _ = io::stdout().write_all(&script);
        Ok(ExitCode::SUCCESS)
    }
}
