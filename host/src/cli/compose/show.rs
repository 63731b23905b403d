//! `wharf compose ps`, `wharf compose config`.

use clap::{Args, ValueEnum};
use serde_json::Value;

use super::project::Work;
use crate::cli::look::container_row;
use crate::cli::table;
use crate::compose::yaml;
use crate::error::{Error, ErrorKind, Result};

/// List the containers
#[derive(Debug, Args)]
pub struct Ps {
    /// Stopped ones too
    #[arg(short, long)]
    all: bool,
    /// Print ids only
    #[arg(short, long)]
    quiet: bool,
    /// table or json
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
    pub services: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    Table,
    Yaml,
    Json,
}

/// Print the file as it is understood
#[derive(Debug, Args)]
pub struct Config {
    /// yaml or json
    #[arg(long, value_enum, default_value_t = Format::Yaml)]
    format: Format,
    /// Print the names of the services only
    #[arg(long)]
    services: bool,
    /// Print nothing; the exit code tells whether the file is right
    #[arg(short, long)]
    quiet: bool,
}

impl Ps {
    pub async fn execute(self, work: Work) -> Result<()> {
        let members = work.members_of(&self.services).await?;
        let members = members.into_iter().filter(|member| member.running || self.all);
        let heading = ["NAME", "IMAGE", "COMMAND", "SERVICE", "CREATED", "STATUS", "PORTS"].map(str::to_owned).to_vec();
        let mut lines = vec![heading];
        for member in members {
            let mut row = container_row(&member.row, false);
            row.insert("Service".to_owned(), member.service.into());
            let cell = |key: &&str| row.get(*key).and_then(Value::as_str).unwrap_or_default().to_owned();
            if self.quiet {
                table::println(&member.id)?;
            } else if self.format == Format::Table {
                lines.push(
                    ["Names", "Image", "Command", "Service", "RunningFor", "Status", "Ports"]
                        .iter()
                        .map(cell)
                        .collect(),
                );
            } else {
                table::println(&Value::Object(row).to_string())?;
            }
        }
        if self.quiet || self.format != Format::Table { Ok(()) } else { table::print(&table::align(&lines)) }
    }
}

impl Config {
    pub fn execute(self, work: Work) -> Result<()> {
        if self.quiet {
            return Ok(());
        }
        if self.services {
            return work.project.services.keys().try_for_each(|name| table::println(name));
        }
        let whole = work.project.canonical();
        if self.format != Format::Json {
            return table::print(&yaml::write(&whole));
        }
        let text = serde_json::to_string_pretty(&whole)
            .map_err(|error| Error::new(ErrorKind::Failed, "cannot write the configuration").because(error))?;
        table::println(&text)
    }
}
