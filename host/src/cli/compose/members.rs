//! `wharf compose kill`, `rm`, `top`, `images`, `port`: what is asked of a project's containers one by one. And `ls` and
//! `version`, which need no project.

use std::collections::{BTreeMap, BTreeSet};

use clap::Args;
use serde_json::Value;

use super::down::{Services, none};
use super::project::{Member, Work};
use crate::cli::client::{Client, Query};
use crate::cli::{table, units};
use crate::compose::plan::PROJECT;
use crate::error::{Error, ErrorKind, Result};

const FOLDER: &str = "com.docker.compose.project.working_dir";

/// End containers at once
#[derive(Debug, Args)]
pub struct Kill {
    #[arg(short, long, default_value = "KILL")]
    signal: String,
    #[command(flatten)]
    pub of: Services,
}

/// Remove stopped containers
#[derive(Debug, Args)]
pub struct Rm {
    /// Ask nothing, as always here
    #[arg(short, long)]
    force: bool,
    /// Stop those that run first
    #[arg(short, long)]
    stop: bool,
    /// Anonymous volumes too
    #[arg(short, long)]
    volumes: bool,
    #[command(flatten)]
    pub of: Services,
}

/// List the images that the containers were made of
#[derive(Debug, Args)]
pub struct Images {
    /// Print ids only
    #[arg(short, long)]
    quiet: bool,
    #[command(flatten)]
    pub of: Services,
}

/// Print where a port of a service is published
#[derive(Debug, Args)]
pub struct Port {
    #[arg(long, default_value = "tcp")]
    protocol: String,
    /// Which of the service's containers [default: the first that runs]
    #[arg(long)]
    index: Option<u32>,
    pub service: String,
    port: u16,
}

/// List the projects that have containers
#[derive(Debug, Args)]
pub struct Ls {
    /// Those of which nothing runs too
    #[arg(short, long)]
    all: bool,
    /// Print names only
    #[arg(short, long)]
    quiet: bool,
}

/// Show the version
#[derive(Debug, Args)]
pub struct Version {
    /// The number only
    #[arg(long)]
    short: bool,
}

impl Kill {
    pub async fn execute(self, work: Work) -> Result<()> {
        let members = work.members_of(&self.of.services).await?;
        if members.is_empty() {
            return Err(none(&work));
        }
        let query = Query::new().with("signal", self.signal);
        for member in members.iter().filter(|member| member.running) {
            work.client.post(&format!("/containers/{}/kill", member.id), &query, None).await?;
            table::say(&format!("Container {}  Killed", member.name));
        }
        Ok(())
    }
}

impl Rm {
    pub async fn execute(self, work: Work) -> Result<()> {
        let members = work.members_of(&self.of.services).await?;
        let gone: Vec<&Member> = members.iter().filter(|member| self.stop || !member.running).collect();
        if gone.is_empty() {
            table::say("No stopped containers");
        }
        for member in gone {
            if member.running {
                work.client.post(&format!("/containers/{}/stop", member.id), &Query::new(), None).await?;
            }
            work.remove(member, self.volumes).await?;
        }
        Ok(())
    }
}

pub async fn top(work: Work, services: &[String]) -> Result<()> {
    for member in work.members_of(services).await?.iter().filter(|member| member.running) {
        let found = work.client.get(&format!("/containers/{}/top", member.id), &Query::new()).await?;
        let cells = |row: &Value| -> Vec<String> {
            let all = row.as_array().into_iter().flatten();
            all.map(|cell| cell.as_str().unwrap_or_default().to_owned()).collect()
        };
        let rows = found["Processes"].as_array().into_iter().flatten().map(cells);
        let lines: Vec<Vec<String>> = std::iter::once(cells(&found["Titles"])).chain(rows).collect();
        table::println(&member.name)?;
        table::print(&table::align(&lines))?;
        table::println("")?;
    }
    Ok(())
}

impl Images {
    pub async fn execute(self, work: Work) -> Result<()> {
        let mut printed = BTreeSet::new();
        let mut lines = vec![["CONTAINER", "REPOSITORY", "TAG", "IMAGE ID", "SIZE"].map(str::to_owned).to_vec()];
        for member in work.members_of(&self.of.services).await? {
            let id = member.row["ImageID"].as_str().unwrap_or_default().to_owned();
            if self.quiet {
                // As Compose: whole, and each once.
                let whole = id.trim_start_matches("sha256:").to_owned();
                if printed.insert(whole.clone()) {
                    table::println(&whole)?;
                }
                continue;
            }
            let short = units::short_id(&id);
            let image = work.found(&format!("/images/{id}/json")).await?.unwrap_or_default();
            let name = member.row["Image"].as_str().unwrap_or_default();
            // A colon before a slash belongs to a registry's port.
            let (repository, tag) = match name.rsplit_once(':') {
                Some((repository, tag)) if !tag.contains('/') => (repository, tag),
                _ => (name, "latest"),
            };
            let size = units::size(image["Size"].as_f64().unwrap_or(0.0));
            lines.push(vec![member.name, repository.to_owned(), tag.to_owned(), short, size]);
        }
        if self.quiet { Ok(()) } else { table::print(&table::align(&lines)) }
    }
}

impl Port {
    pub async fn execute(self, work: Work) -> Result<()> {
        let port = format!("{}/{}", self.port, self.protocol);
        let member = work.running(&self.service, self.index).await?;
        let state = work.client.get(&format!("/containers/{}/json", member.id), &Query::new()).await?;
        let bound = &state["NetworkSettings"]["Ports"][&port][0];
        let (Some(ip), Some(outside)) = (bound["HostIp"].as_str(), bound["HostPort"].as_str()) else {
            let message = format!("no port {port} for container {}", member.name);
            return Err(Error::new(ErrorKind::NotFound, message));
        };
        table::println(&if ip.contains(':') { format!("[{ip}]:{outside}") } else { format!("{ip}:{outside}") })
    }
}

impl Ls {
    pub async fn execute(&self, client: Client) -> Result<()> {
        let query = Query::new().flag("all", self.all).filters(&[format!("label={PROJECT}")])?;
        let found = client.get("/containers/json", &query).await?;
        let mut projects: BTreeMap<&str, (BTreeMap<&str, usize>, &str)> = BTreeMap::new();
        for row in found.as_array().into_iter().flatten() {
            let labels = &row["Labels"];
            let project = projects.entry(labels[PROJECT].as_str().unwrap_or_default()).or_default();
            *project.0.entry(row["State"].as_str().unwrap_or_default()).or_default() += 1;
            project.1 = labels[FOLDER].as_str().unwrap_or(project.1);
        }
        let mut lines = vec![["NAME", "STATUS", "FOLDER"].map(str::to_owned).to_vec()];
        for (name, (states, folder)) in projects {
            if self.quiet {
                table::println(name)?;
            }
            let states: Vec<String> = states.iter().map(|(state, count)| format!("{state}({count})")).collect();
            lines.push(vec![name.to_owned(), states.join(", "), folder.to_owned()]);
        }
        if self.quiet { Ok(()) } else { table::print(&table::align(&lines)) }
    }
}

impl Version {
    pub fn execute(&self) -> Result<()> {
        let version = env!("CARGO_PKG_VERSION");
        table::println(&if self.short { version.to_owned() } else { format!("Wharf Compose version {version}") })
    }
}
