//! The command line: one file per verb or family of verbs, which turns what was typed into what it means. stdout is
//! data, stderr is talk.
//!
//! Verbs that need no daemon: [`serve`], [`health`], [`doctor`], [`engine`], [`componentize`], [`new`], [`completion`], [`manual`]. All others
//! ([`verbs`] lists them) are a client of the Docker Engine API, and know of the host only what that says:
//!
//! - [`client`], [`stream`], [`session`]: the connection, what comes over it, a person at a container
//! - [`run`], [`spec`], [`lifecycle`]: containers: starting and ending them
//! - [`copy`], [`tree`]: files in and out of containers
//! - [`look`], [`watch`]: containers: looking at them, once and as they go on
//! - [`build`], [`images`], [`transfer`], [`login`]: images: making, listing, and moving them
//! - [`objects`], [`system`], [`usage`], [`prune`], [`compose`]: networks and volumes, the daemon, cleaning up, many at once
//! - [`json`], [`table`], [`template`], [`units`], [`colour`]: how answers are shown
//!
//! And for both: [`environment`]: every environment variable, read here and nowhere else; [`values`]: sizes and durations
//! as people type them; [`help`] and [`exit`]: help and exit codes.

pub mod build;
pub mod client;
pub mod colour;
pub mod completion;
pub mod componentize;
pub mod compose;
pub mod copy;
pub mod doctor;
pub mod engine;
pub mod environment;
pub mod exit;
pub mod health;
pub mod help;
pub mod images;
pub mod json;
pub mod lifecycle;
pub mod login;
pub mod look;
pub mod manual;
pub mod new;
pub mod objects;
pub mod prune;
pub mod run;
pub mod serve;
pub mod session;
pub mod spec;
pub mod stream;
pub mod system;
pub mod table;
pub mod template;
pub mod transfer;
pub mod tree;
pub mod units;
pub mod usage;
pub mod values;
pub mod verbs;
pub mod watch;

use std::process::ExitCode;

use clap::{FromArgMatches, Parser, Subcommand};

/// Docker for model services: sandboxed WebAssembly components in one host, their models on ONNX Runtime.
#[derive(Debug, Parser)]
#[command(name = "wharf", version, max_term_width = 100, arg_required_else_help = true)]
pub struct Cli {
    /// The daemon's socket [env: WHARF_HOST, DOCKER_HOST] [default: wharf.sock in the data folder]
    #[arg(short = 'H', long, global = true, value_name = "SOCKET")]
    host: Option<String>,

    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Serve(Box<serve::Serve>),
    #[command(flatten)]
    Remote(verbs::Remote),
    Health(health::Health),
    Doctor(doctor::Doctor),
    #[command(subcommand)]
    Engine(engine::Engine),
    Componentize(componentize::Componentize),
    New(new::New),
    Completion(completion::Completion),
    #[command(hide = true)]
    Manual(manual::Manual),
}

/// Run the program; returns its exit code.
pub fn main() -> ExitCode {
    environment::keep_onnxruntime_quiet();
    let parsed = help::command().try_get_matches().and_then(|matches| Cli::from_arg_matches(&matches));
    let cli = match parsed {
        Ok(cli) => cli,
        Err(error) => return exit::usage(&error, docker_has_it()),
    };
    let result = match cli.verb {
        Verb::Remote(verb) => return exit::remote(verb.execute(cli.host.as_deref())),
        Verb::Serve(verb) => verb.execute(),
        Verb::Health(verb) => verb.execute(),
        Verb::Doctor(verb) => verb.execute(),
        Verb::Engine(verb) => verb.execute(),
        Verb::Componentize(verb) => verb.execute(),
        Verb::New(verb) => verb.execute(),
        Verb::Completion(verb) => verb.execute(),
        Verb::Manual(verb) => verb.execute(),
    };
    exit::code(result)
}

/// Whether what was typed, which made no sense, was for a verb that docker has.
fn docker_has_it() -> bool {
    let verb = std::env::args().skip(1).find(|word| !word.starts_with('-'));
    verb.is_some_and(|verb| !help::OWN.contains(&verb.as_str()))
}
