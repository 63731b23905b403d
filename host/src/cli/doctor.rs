//! `wharf doctor`: what this machine can run, and why not the rest.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, ValueEnum};

use super::{environment, serve};
use crate::error::{Error, ErrorKind, Result};
use crate::serve::doctor::{Report, examine};

/// Say what this machine can run: the sandbox, ONNX Runtime, devices, and why each is or isn't usable.
///
/// The exit code is 0 only if a component with a model can run.
#[derive(Debug, Args)]
pub struct Doctor {
    /// ONNX Runtime's shared library, or the folder it is in
    #[arg(long, value_name = "PATH")]
    onnxruntime: Option<PathBuf>,

    /// Where images, containers and caches live [env: WHARF_DATA]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,

    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    Table,
    Json,
}

impl Doctor {
    pub fn execute(self) -> Result<ExitCode> {
        let data = self.data.unwrap_or_else(environment::data);
        let report = examine(&serve::search(self.onnxruntime, &data), &data, &environment::sysroot());
        let text = match self.format {
            Format::Table => table(&report),
            Format::Json => serde_json::to_string_pretty(&report)
                .map_err(|error| Error::new(ErrorKind::Failed, "cannot write the report").because(error))?,
        };
        // A reader that has seen enough (`wharf doctor | head -1`) is no failure.
        let _ = writeln!(io::stdout(), "{text}");
        Ok(if report.usable() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

fn table(report: &Report) -> String {
    let width = report.findings.iter().map(|finding| finding.name.len()).max().unwrap_or(0);
    let mut text = String::new();
    for finding in &report.findings {
        let mark = if finding.usable { "ok" } else { "--" };
        text.push_str(&format!("{mark}  {:width$}  {}\n", finding.name, finding.detail));
    }
    text.push_str(if report.usable() {
        "\nThis machine can serve."
    } else {
        "\nThis machine cannot serve yet: see the lines with --."
    });
    text
}
