//! `wharf-bench`: Wharf beside a native server that does the identical job, in the same run on the same
//! machine, as ratios. See README.md for the method.

#![expect(clippy::print_stdout, reason = "its tables are its output")]

mod agreement;
mod call;
mod cold_start;
mod containers;
mod contender;
mod daemon;
mod http;
mod idle_memory;
mod load;
mod models;
mod native;
mod onnx;
mod picture;
mod report;
mod rounds;
mod server;
mod stage;
mod start;
mod statistics;
mod usage;
mod workload;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand, ValueEnum as _};

use crate::contender::Installation;
use crate::report::Report;
use crate::rounds::Plan;
use crate::stage::{Guests, Stage};
use crate::workload::Workload;

/// The host uses it too, so that the native server has no disadvantage.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Measure Wharf against a native server.
#[derive(Parser)]
#[command(version, args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: RunOptions,
}

#[derive(Subcommand)]
enum Command {
    /// Compare (the default).
    Run(RunOptions),
    /// Only the native server, until it is stopped.
    Native(native::Options),
    /// Write the benchmark's models and pictures into a folder.
    Fixtures { folder: PathBuf },
    /// Print how many milliseconds loading these models takes.
    #[command(hide = true)]
    LoadTime {
        #[arg(long, env = "ORT_DYLIB_PATH")]
        onnxruntime: PathBuf,
        models: Vec<PathBuf>,
    },
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Scenario {
    Hello,
    Tensor,
    Classify,
    Digits,
    ColdStart,
    IdleMemory,
    Start,
    Containers,
    Call,
}

impl Scenario {
    fn workload(self) -> Option<Workload> {
        match self {
            Scenario::Hello => Some(Workload::Hello),
            Scenario::Tensor => Some(Workload::Tensor),
            Scenario::Classify => Some(Workload::Classify),
            Scenario::Digits => Some(Workload::Digits),
            Scenario::ColdStart | Scenario::IdleMemory | Scenario::Start | Scenario::Containers | Scenario::Call => {
                None
            }
        }
    }
}

#[derive(clap::Args)]
struct RunOptions {
    /// What to measure; may be repeated. Everything when left out.
    #[arg(long, value_enum)]
    scenario: Vec<Scenario>,
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Measured seconds of each load; as much as a third of it, at most one second, warms up before.
    #[arg(long, default_value_t = 4.0)]
    seconds: f64,
    /// Closed-loop callers, separated by commas.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 8, 32])]
    connections: Vec<usize>,
    /// Starts of each image in `start`.
    #[arg(long, default_value_t = 30)]
    starts: usize,
    /// Containers of one image in `containers`.
    #[arg(long, default_value_t = 500)]
    containers: usize,
    /// Also write every measurement to this file.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Measure the native server alone: the limit.
    #[arg(long)]
    native_only: bool,
    /// ONNX Runtime's library, for all servers.
    #[arg(long, env = "ORT_DYLIB_PATH")]
    onnxruntime: Option<PathBuf>,
    /// The `wharf` program; beside this one when left out.
    #[arg(long, env = "WHARF_BIN")]
    wharf: Option<PathBuf>,
    /// Folder with the built guests: `hello/hello.wasm`, `digits/digits.wasm`, `digits/models/`.
    #[arg(long, env = "WHARF_GUESTS")]
    guests: Option<PathBuf>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match perform(arguments.command.unwrap_or(Command::Run(arguments.run))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn perform(command: Command) -> Result<()> {
    match command {
        Command::Run(options) => run(&options),
        Command::Native(options) => {
            tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(native::serve(options))
        }
        Command::Fixtures { folder } => stage::write_fixtures(&folder),
        Command::LoadTime { onnxruntime, models } => {
            let environment = native::Environment::load(&onnxruntime)?;
            let times = models.iter().map(|model| native::load_time(environment, model));
            println!("{:.3}", times.sum::<Result<Duration>>()?.as_secs_f64() * 1e3);
            Ok(())
        }
    }
}

fn run(options: &RunOptions) -> Result<()> {
    let installation = options.installation()?;
    let wanted = |scenario| options.scenario.is_empty() || options.scenario.contains(&scenario);
    let mut workloads: Vec<Workload> =
        Scenario::value_variants().iter().copied().filter(|s| wanted(*s)).filter_map(Scenario::workload).collect();
    let stage = Stage::new()?;
    if options.native_only && !installation.guests.has_digits() {
        eprintln!("SKIPPED digits: {} has no digits/models/digits.onnx", installation.guests.0.display());
        workloads.retain(|workload| *workload != Workload::Digits);
    } else if workloads.contains(&Workload::Digits) {
        stage.add_digits_model(&installation.guests)?;
    }
    let measured = Duration::from_secs_f64(options.seconds);
    let plan = Plan {
        workloads,
        connections: options.connections.clone(),
        rounds: options.rounds.max(1),
        measured,
        warm_up: (measured / 3).min(Duration::from_secs(1)),
        native_only: options.native_only,
    };
    let measurements = plan.run(&installation, &stage)?;
    let alone = |scenario| !options.native_only && wanted(scenario);
    let cold_start = alone(Scenario::ColdStart).then(|| cold_start::measure(&installation, &stage)).transpose()?;
    let idle_memory = alone(Scenario::IdleMemory).then(|| idle_memory::measure(&installation, &stage)).transpose()?;
    let start = alone(Scenario::Start).then(|| start::measure(&installation, &stage, options.starts)).transpose()?;
    let containers = alone(Scenario::Containers)
        .then(|| containers::measure(&installation, &stage, options.containers))
        .transpose()?;
    let call = alone(Scenario::Call).then(|| call::measure(&installation, &stage, &plan)).transpose()?;

    let report = Report { measurements, cold_start, idle_memory, start, containers, call };
    println!("{report}");
    if let Some(path) = &options.json {
        let json = serde_json::to_vec_pretty(&report.document())?;
        std::fs::write(path, json).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

impl RunOptions {
    fn installation(&self) -> Result<Installation> {
        let onnxruntime = self.onnxruntime.clone();
        let onnxruntime = onnxruntime
            .context("no ONNX Runtime: give --onnxruntime PATH or set ORT_DYLIB_PATH (`cargo xtask bench` does)")?;
        // Cargo puts both programs into `<target>/release`; the guests lie in `<target>/wharf`.
        let own = std::env::current_exe().context("this program has no path")?;
        let beside = own.parent().context("this program has no folder")?;
        let wharf = self.wharf.clone().unwrap_or_else(|| beside.join("wharf"));
        let guests = self.guests.clone().unwrap_or_else(|| beside.with_file_name("wharf"));
        Ok(Installation { onnxruntime, wharf, guests: Guests(guests) })
    }
}
