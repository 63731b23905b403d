//! `wharf engine …`: TensorRT engines that a host has built, and carrying them to another machine.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::environment;
use super::table::{self, Listing, row};
use super::units;
use crate::error::Result;
use crate::serve::engines;

const ENGINES: Listing = Listing {
    headings: &[
        ("Model", "MODEL"),
        ("GPU", "GPU"),
        ("Versions", "VERSIONS"),
        ("Options", "OPTIONS"),
        ("Size", "SIZE"),
        ("Key", "KEY"),
    ],
    usual: &["Model", "GPU", "Versions", "Options", "Size"],
};

/// List TensorRT engines that a host has built, and carry them to another machine
#[derive(Debug, Subcommand)]
pub enum Engine {
    Ls(List),
    Export(Export),
    Import(Import),
}

/// List the engines in a host's cache
#[derive(Debug, Args)]
pub struct List {
    #[command(flatten)]
    place: Place,

    /// Format with a Go template: table, json, or e.g. '{{.Key}}'
    #[arg(long)]
    format: Option<String>,

    /// Do not shorten the model's hash
    #[arg(long)]
    no_trunc: bool,
}

/// Write an engine to a file
///
/// Beside the model in an image (`COPY digits.onnx digits.engine /models/`), hosts with the same GPU and the same libraries
/// take it instead of building their own. To bring several, name them `digits.ANYTHING.engine`.
#[derive(Debug, Args)]
pub struct Export {
    #[command(flatten)]
    place: Place,

    /// The model's file, or the start of an engine's key
    #[arg(value_name = "MODEL.onnx|KEY")]
    wanted: String,

    /// The file to write [default: the model's name with the ending .engine, in this folder]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// Take an exported engine into a host's cache
#[derive(Debug, Args)]
pub struct Import {
    #[command(flatten)]
    place: Place,

    #[arg(value_name = "FILE.engine")]
    file: PathBuf,
}

#[derive(Debug, Args)]
struct Place {
    /// Where images, containers and caches live [env: WHARF_DATA]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
}

impl Place {
    fn data(self) -> PathBuf {
        self.data.unwrap_or_else(environment::data)
    }
}

impl Engine {
    pub fn execute(self) -> Result<ExitCode> {
        match self {
            Engine::Ls(verb) => verb.execute()?,
            Engine::Export(verb) => {
                let (file, key) = engines::export(&verb.place.data(), &verb.wanted, verb.output.as_deref())?;
                table::say(&format!("{}: for {}", file.display(), key.as_str()));
                table::println(&file.display().to_string())?;
            }
            Engine::Import(verb) => {
                let key = engines::import(&verb.place.data(), &verb.file)?;
                table::println(key.as_str())?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl List {
    fn execute(self) -> Result<()> {
        let kept = engines::list(&self.place.data());
        let rows: Vec<_> = kept
            .iter()
            .map(|kept| {
                let key = kept.key.as_str();
                let mut parts = key.split('/');
                let mut part = || parts.next().unwrap_or_default().to_owned();
                let (model, gpu, nvidia, onnxruntime, options) = (part(), part(), part(), part(), part());
                row([
                    ("Model", if self.no_trunc { model } else { units::short_id(&model) }),
                    ("GPU", gpu),
                    ("Versions", format!("{nvidia} {onnxruntime}")),
                    ("Options", options),
                    ("Size", units::size(kept.bytes as f64)),
                    ("Key", key.to_owned()),
                ])
            })
            .collect();
        table::print(&ENGINES.render(&rows, self.format.as_deref())?)
    }
}
