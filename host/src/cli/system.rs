//! `wharf system info|prune|events`, `wharf info`, `wharf version`.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::Value;

use super::client::{Client, Query};
use super::json::Json;
use super::table;
use super::template::Template;
use super::{prune, units, usage, watch};
use crate::error::{Error, ErrorKind, Result};

const VERSION: &str = env!("CARGO_PKG_VERSION");
/// Of the API, as this program speaks it.
const API: &str = "1.50";

/// Manage Wharf
#[derive(Debug, Subcommand)]
pub enum System {
    Df(usage::Usage),
    /// Display system-wide information
    Info(Formatted),
    Events(watch::Events),
    Prune(prune::Everything),
}

#[derive(Debug, Args)]
pub struct Formatted {
    /// json or '{{.X}}'
    #[arg(short, long)]
    format: Option<String>,
}

impl System {
    pub async fn execute(self, client: Client) -> Result<ExitCode> {
        match self {
            System::Df(verb) => verb.execute(client).await,
            System::Info(how) => how.info(client).await,
            System::Events(verb) => verb.execute(client).await,
            System::Prune(verb) => verb.execute(client).await,
        }
    }
}

impl Formatted {
    pub async fn info(self, client: Client) -> Result<ExitCode> {
        let text = client.text("/info", &Query::new()).await?;
        if let Some(format) = self.format {
            return formatted(&format, &Json::parse(&text)?);
        }
        let found: Value = serde_json::from_str(&text)
            .map_err(|error| Error::new(ErrorKind::Failed, "the daemon's answer is not JSON").because(error))?;
        let text = |name: &str| match &found[name] {
            Value::String(text) => text.clone(),
            Value::Null => String::new(),
            other => other.to_string(),
        };
        let mut out = format!("Server: {}\n", client.socket().display());
        for (name, field) in [
            ("Containers", "Containers"),
            (" Running", "ContainersRunning"),
            (" Paused", "ContainersPaused"),
            (" Stopped", "ContainersStopped"),
            ("Images", "Images"),
            ("Server Version", "ServerVersion"),
            ("Storage Driver", "Driver"),
            ("Logging Driver", "LoggingDriver"),
            ("Default Runtime", "DefaultRuntime"),
            ("Kernel Version", "KernelVersion"),
            ("Operating System", "OperatingSystem"),
            ("Architecture", "Architecture"),
            ("CPUs", "NCPU"),
        ] {
            out += &format!(" {name}: {}\n", text(field));
        }
        out += &format!(" Total Memory: {}\n", units::binary_size(found["MemTotal"].as_f64().unwrap_or(0.0)));
        out += &format!(" Name: {}\n Root Dir: {}\n", text("Name"), text("DockerRootDir"));
        table::print(&out)?;
        for warning in found["Warnings"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            table::say(warning);
        }
        Ok(ExitCode::SUCCESS)
    }

    pub async fn version(self, client: Client) -> Result<ExitCode> {
        let (os, machine) = (std::env::consts::OS, std::env::consts::ARCH);
        let machine = match machine {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        let own = format!(
            "Client: Wharf\n Version:           {VERSION}\n API version:       {API}\n OS/Arch:           {os}/{machine}\n"
        );
        let found = match client.text("/version", &Query::new()).await.and_then(|text| Json::parse(&text)) {
            Ok(found) => found,
            Err(error) => {
                if self.format.is_none() {
                    table::print(&own)?;
                }
                return Err(error);
            }
        };
        if let Some(format) = self.format {
            let client = serde_json::json!({
                "Version": VERSION, "ApiVersion": API, "APIVersion": API, "DefaultAPIVersion": API, "Os": os,
                "Arch": machine,
            });
            let both = vec![("Client".to_owned(), Json::from(&client)), ("Server".to_owned(), found)];
            return formatted(&format, &Json::Map(both));
        }
        let found: Value = serde_json::to_value(&found)
            .map_err(|error| Error::new(ErrorKind::Failed, "cannot read the daemon's answer").because(error))?;
        let mut out = format!("{own}\nServer: {}\n", found["Platform"]["Name"].as_str().unwrap_or("Wharf"));
        for part in found["Components"].as_array().into_iter().flatten() {
            out += &format!(" {}:\n", part["Name"].as_str().unwrap_or_default());
            out += &format!("  {:<18}{}\n", "Version:", part["Version"].as_str().unwrap_or_default());
            let detail = |name: &str| part["Details"][name].as_str();
            if let (Some(api), Some(least)) = (detail("ApiVersion"), detail("MinAPIVersion")) {
                out += &format!("  {:<18}{api} (minimum version {least})\n", "API version:");
            }
            if let (Some(os), Some(machine)) = (detail("Os"), detail("Arch")) {
                out += &format!("  {:<18}{os}/{machine}\n", "OS/Arch:");
            }
        }
        table::print(&out).map(|()| ExitCode::SUCCESS)
    }
}

fn formatted(format: &str, value: &Json) -> Result<ExitCode> {
    let format = if format == "json" { "{{json .}}" } else { format };
    table::println(&Template::parse(format)?.render(value)?).map(|()| ExitCode::SUCCESS)
}
