//! Removing what nobody uses: `container|image|network|volume|system prune`, each after a question.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::Value;

use super::client::{Client, Query};
use super::{table, units, values};
use crate::error::Result;

#[derive(Debug, Args)]
pub struct PruneFlags {
    /// Do not ask
    #[arg(short, long)]
    force: bool,
    /// until=24h, label=KEY[=VALUE]
    #[arg(long, value_parser = values::pair)]
    filter: Vec<String>,
}

/// Remove all stopped containers
#[derive(Debug, Args)]
pub struct Containers {
    #[command(flatten)]
    flags: PruneFlags,
}

/// Remove unused images
#[derive(Debug, Args)]
pub struct Images {
    /// All that no container uses, not only those without a tag
    #[arg(short, long)]
    all: bool,
    #[command(flatten)]
    flags: PruneFlags,
}

/// Remove all unused networks
#[derive(Debug, Args)]
pub struct Networks {
    #[command(flatten)]
    flags: PruneFlags,
}

/// Remove unused local volumes
#[derive(Debug, Args)]
pub struct Volumes {
    /// Named ones too
    #[arg(short, long)]
    all: bool,
    #[command(flatten)]
    flags: PruneFlags,
}

/// Remove unused containers, networks, images (and volumes)
#[derive(Debug, Args)]
pub struct Everything {
    #[arg(short, long)]
    all: bool,
    #[arg(long)]
    volumes: bool,
    #[command(flatten)]
    flags: PruneFlags,
}

/// Manage builds
#[derive(Debug, Subcommand)]
pub enum Builder {
    Prune(Steps),
}

/// Remove the cache of build steps
#[derive(Debug, Args)]
pub struct Steps {
    /// All, not only what hangs in the air
    #[arg(short, long)]
    all: bool,
    #[command(flatten)]
    flags: PruneFlags,
}

impl Builder {
    pub async fn execute(self, client: Client) -> Result<ExitCode> {
        let Builder::Prune(Steps { all, flags }) = self;
        let which = if all { "all" } else { "all dangling" };
        if flags.agreed(&format!("WARNING! This will remove {which} build cache."))? {
            let query = Query::new().flag("all", all).filters(&flags.filter)?;
            let found = client.post("/build/prune", &query, None).await?;
            reclaimed(found["SpaceReclaimed"].as_f64().unwrap_or(0.0))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl PruneFlags {
    fn agreed(&self, warning: &str) -> Result<bool> {
        Ok(self.force || table::confirmed(warning)?)
    }
}

impl Containers {
    pub async fn execute(self, client: Client) -> Result<ExitCode> {
        if self.flags.agreed("WARNING! This will remove all stopped containers.")? {
            let freed = containers(&client, &self.flags.filter).await?;
            reclaimed(freed)?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Images {
    pub async fn execute(self, client: Client) -> Result<ExitCode> {
        let warning = if self.all {
            "WARNING! This will remove all images without at least one container associated to them."
        } else {
            "WARNING! This will remove all dangling images."
        };
        if self.flags.agreed(warning)? {
            let freed = images(&client, self.all, &self.flags.filter).await?;
            reclaimed(freed)?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Networks {
    pub async fn execute(self, client: Client) -> Result<ExitCode> {
        if self.flags.agreed("WARNING! This will remove all custom networks not used by at least one container.")? {
            networks(&client, &self.flags.filter).await?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Volumes {
    pub async fn execute(self, client: Client) -> Result<ExitCode> {
        let which = if self.all { "all" } else { "anonymous" };
        let warning = format!("WARNING! This will remove {which} local volumes not used by at least one container.");
        if self.flags.agreed(&warning)? {
            let freed = volumes(&client, self.all, &self.flags.filter).await?;
            reclaimed(freed)?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Everything {
    pub async fn execute(self, client: Client) -> Result<ExitCode> {
        if !self.flags.agreed(&self.warning())? {
            return Ok(ExitCode::SUCCESS);
        }
        let filter = &self.flags.filter;
        let mut freed = containers(&client, filter).await?;
        networks(&client, filter).await?;
        if self.volumes {
            freed += volumes(&client, false, filter).await?;
        }
        freed += images(&client, self.all, filter).await?;
        let cache = client.post("/build/prune", &Query::new(), None).await?;
        freed += cache["SpaceReclaimed"].as_f64().unwrap_or(0.0);
        reclaimed(freed).map(|()| ExitCode::SUCCESS)
    }

    fn warning(&self) -> String {
        let mut lines = vec!["all stopped containers", "all networks not used by at least one container"];
        lines.extend(self.volumes.then_some("all anonymous volumes not used by at least one container"));
        lines.push(if self.all {
            "all images without at least one container associated to them"
        } else {
            "all dangling images"
        });
        lines.push(if self.all { "all build cache" } else { "unused build cache" });
        format!("WARNING! This will remove:\n{}", lines.iter().map(|line| format!("  - {line}\n")).collect::<String>())
    }
}

fn reclaimed(bytes: f64) -> Result<()> {
    table::println(&format!("Total reclaimed space: {}", units::size(bytes)))
}

async fn prune(client: &Client, kind: &str, filter: &[String], title: &str, key: &str) -> Result<f64> {
    let found = client.post(&format!("/{kind}/prune"), &Query::new().filters(filter)?, None).await?;
    let lines = match key {
        "ImagesDeleted" => removed_lines(&found[key], ["untagged", "deleted"]),
        _ => {
            found[key].as_array().into_iter().flatten().filter_map(Value::as_str).map(|id| format!("{id}\n")).collect()
        }
    };
    if !lines.is_empty() {
        table::print(&format!("{title}:\n{lines}\n"))?;
    }
    Ok(found["SpaceReclaimed"].as_f64().unwrap_or(0.0))
}

async fn containers(client: &Client, filter: &[String]) -> Result<f64> {
    prune(client, "containers", filter, "Deleted Containers", "ContainersDeleted").await
}

async fn networks(client: &Client, filter: &[String]) -> Result<f64> {
    prune(client, "networks", filter, "Deleted Networks", "NetworksDeleted").await
}

async fn volumes(client: &Client, all: bool, filter: &[String]) -> Result<f64> {
    let mut filter = filter.to_vec();
    filter.extend(all.then(|| "all=true".to_owned()));
    prune(client, "volumes", &filter, "Deleted Volumes", "VolumesDeleted").await
}

async fn images(client: &Client, all: bool, filter: &[String]) -> Result<f64> {
    let mut filter = filter.to_vec();
    filter.push(format!("dangling={}", !all));
    prune(client, "images", &filter, "Deleted Images", "ImagesDeleted").await
}

/// What docker writes large in `rmi`.
pub const LARGE: [&str; 2] = ["Untagged", "Deleted"];

/// A line for each name taken away and each image deleted, with the words for these two.
pub fn removed_lines(removed: &Value, words: [&str; 2]) -> String {
    let mut out = String::new();
    for one in removed.as_array().into_iter().flatten() {
        for (kind, word) in LARGE.into_iter().zip(words) {
            if let Some(name) = one[kind].as_str() {
                out += &format!("{word}: {name}\n");
            }
        }
    }
    out
}
