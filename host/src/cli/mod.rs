//! The command line: one file per verb, which turns what was typed into what it means. stdout is data, stderr is talk.
//!
//! - [`serve`], [`doctor`], [`componentize`], [`new`], [`completion`]: the verbs
//! - [`environment`]: every environment variable, read here and nowhere else
//! - [`values`]: sizes and durations as people type them
//! - [`exit`]: exit codes

pub mod completion;
pub mod componentize;
pub mod doctor;
pub mod environment;
pub mod exit;
pub mod new;
pub mod serve;
pub mod values;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Docker for model services: sandboxed WebAssembly components in one host, their models on ONNX Runtime.
#[derive(Debug, Parser)]
#[command(name = "wharf", version, max_term_width = 100, arg_required_else_help = true)]
pub struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Serve(Box<serve::Serve>),
    Doctor(doctor::Doctor),
    Componentize(componentize::Componentize),
    New(new::New),
    Completion(completion::Completion),
}

/// Run the program; returns its exit code.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        // Help and version are not errors; clap prints each where it belongs and knows its exit code.
        Err(error) => error.exit(),
    };
    let result = match cli.verb {
        Verb::Serve(verb) => verb.execute(),
        Verb::Doctor(verb) => verb.execute(),
        Verb::Componentize(verb) => verb.execute(),
        Verb::New(verb) => verb.execute(),
        Verb::Completion(verb) => verb.execute(),
    };
    exit::code(result)
}
