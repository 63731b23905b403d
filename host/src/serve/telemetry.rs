//! The host's own log: events with fields, for people on a terminal, as JSON lines otherwise. On stderr, so that stdout
//! is the services' alone, unless told otherwise.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::writer::BoxMakeWriter;

use crate::error::{Error, ErrorKind, Result};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    Human,
    Json,
}

impl LogFormat {
    /// Human on a terminal, JSON where a program reads.
    pub fn detect(output: LogOutput) -> LogFormat {
        if output.is_terminal() { LogFormat::Human } else { LogFormat::Json }
    }
}

/// Where the log is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogOutput {
    Stdout,
    Stderr,
}

impl LogOutput {
    fn is_terminal(self) -> bool {
        match self {
            LogOutput::Stdout => std::io::stdout().is_terminal(),
            LogOutput::Stderr => std::io::stderr().is_terminal(),
        }
    }

    fn writer(self) -> BoxMakeWriter {
        match self {
            LogOutput::Stdout => BoxMakeWriter::new(std::io::stdout),
            LogOutput::Stderr => BoxMakeWriter::new(std::io::stderr),
        }
    }
}

/// Install the log of this process, once. `level` is a filter: `info`, `debug`, `wharf=debug,ort=warn` …; `coloured` says
/// whether a terminal may be written to in colour.
pub fn install(output: LogOutput, format: LogFormat, level: &str, coloured: bool) -> Result<()> {
    let filter = EnvFilter::try_new(level)
        .map_err(|error| {
            Error::invalid(format!("log level {level:?} is no filter; e.g. info or wharf=debug")).because(error)
        })?
        // ONNX Runtime tells its life story at info.
        .add_directive("ort=warn".parse().map_err(|error| Error::new(ErrorKind::Failed, "log filter").because(error))?);
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(output.writer());
    let installed = match format {
        LogFormat::Human => builder.with_target(false).with_ansi(coloured && output.is_terminal()).try_init(),
        LogFormat::Json => {
            builder.json().flatten_event(false).with_current_span(false).with_span_list(false).try_init()
        }
    };
    installed.map_err(|error| Error::new(ErrorKind::Conflict, "the log is installed already").because(error))
}
