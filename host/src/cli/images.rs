//! `wharf images` and `wharf image …`: list, history, tag, remove, prune.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::{Map, Value};

use super::client::{Client, Query};
use super::look::{Inspect, ListFlags, print_list};
use super::table::{self, Listing, row};
use super::{build, prune, transfer, units};
use crate::error::Result;

const IMAGES: Listing = Listing {
    headings: &[
        ("Repository", "REPOSITORY"),
        ("Tag", "TAG"),
        ("Digest", "DIGEST"),
        ("ID", "IMAGE ID"),
        ("CreatedSince", "CREATED"),
        ("CreatedAt", "CREATED AT"),
        ("Size", "SIZE"),
    ],
    usual: &["Repository", "Tag", "ID", "CreatedSince", "Size"],
};

/// With `--digests`.
const DIGESTS: Listing =
    Listing { headings: IMAGES.headings, usual: &["Repository", "Tag", "Digest", "ID", "CreatedSince", "Size"] };

const HISTORY: Listing = Listing {
    headings: &[
        ("ID", "IMAGE"),
        ("CreatedSince", "CREATED"),
        ("CreatedAt", "CREATED AT"),
        ("CreatedBy", "CREATED BY"),
        ("Size", "SIZE"),
        ("Comment", "COMMENT"),
    ],
    usual: &["ID", "CreatedSince", "CreatedBy", "Size", "Comment"],
};

/// Manage images
#[derive(Debug, Subcommand)]
pub enum Image {
    Build(build::Build),
    Ls(List),
    Inspect(Inspect),
    History(History),
    Tag(Tag),
    Rm(Remove),
    Prune(prune::Images),
    Pull(transfer::Pull),
    Push(transfer::Push),
    Save(transfer::Save),
    Load(transfer::Load),
}

/// List images
#[derive(Debug, Args)]
pub struct List {
    /// Intermediate ones too
    #[arg(short, long)]
    all: bool,
    /// Show digests
    #[arg(long)]
    digests: bool,
    #[command(flatten)]
    list: ListFlags,
    /// Only this name
    repository: Option<String>,
}

/// Show the history of an image
#[derive(Debug, Args)]
pub struct History {
    /// table, json, 'table {{.X}}' or '{{.X}}'
    #[arg(long)]
    format: Option<String>,
    /// Show whole ids and commands
    #[arg(long)]
    no_trunc: bool,
    /// Only ids
    #[arg(short, long)]
    quiet: bool,
    /// Ages and sizes for people
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    human: bool,
    #[arg(value_name = "IMAGE")]
    image: String,
}

/// Create a tag TARGET that refers to SOURCE
#[derive(Debug, Args)]
pub struct Tag {
    source: String,
    target: String,
}

/// Remove one or more images
#[derive(Debug, Args)]
pub struct Remove {
    #[arg(short, long)]
    force: bool,
    /// Keep untagged parents
    #[arg(long)]
    no_prune: bool,
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
}

impl Image {
    pub async fn execute(self, client: Client) -> Result<ExitCode> {
        match self {
            Image::Build(verb) => verb.execute(client).await,
            Image::Ls(verb) => verb.execute(client).await,
            Image::Inspect(verb) => verb.execute(client, &["images"]).await,
            Image::History(verb) => verb.execute(client).await,
            Image::Tag(verb) => verb.execute(client).await,
            Image::Rm(verb) => verb.execute(client).await,
            Image::Prune(verb) => verb.execute(client).await,
            Image::Pull(verb) => verb.execute(client).await,
            Image::Push(verb) => verb.execute(client).await,
            Image::Save(verb) => verb.execute(client).await,
            Image::Load(verb) => verb.execute(client).await,
        }
    }
}

impl List {
    pub async fn execute(self, client: Client) -> Result<ExitCode> {
        let mut filters = self.list.filter.clone();
        filters.extend(self.repository.map(|name| format!("reference={name}")));
        let found = client.get("/images/json", &Query::new().flag("all", self.all).filters(&filters)?).await?;
        let rows: Vec<_> =
            found.as_array().into_iter().flatten().flat_map(|one| rows(one, self.list.no_trunc)).collect();
        print_list(if self.digests { &DIGESTS } else { &IMAGES }, &rows, &self.list)
    }
}

/// A row a tag; an image without any is `<none>`.
pub fn rows(one: &Value, whole: bool) -> Vec<Map<String, Value>> {
    let id = one["Id"].as_str().unwrap_or_default();
    let created = one["Created"].as_i64().unwrap_or(0);
    let size = one["Size"].as_f64().unwrap_or(0.0);
    let tags: Vec<&str> = one["RepoTags"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let digest = one["RepoDigests"].as_array().and_then(|all| all.first()?.as_str()?.split_once('@'));
    let tags = if tags.is_empty() { vec!["<none>:<none>"] } else { tags };
    let row_of = |tag: &str| {
        let (repository, tag) = tag.rsplit_once(':').unwrap_or((tag, "<none>"));
        row([
            ("Repository", repository.to_owned()),
            ("Tag", tag.to_owned()),
            ("Digest", digest.map_or("<none>", |(_, digest)| digest).to_owned()),
            ("ID", if whole { id.to_owned() } else { units::short_id(id) }),
            ("CreatedSince", units::ago(created)),
            ("CreatedAt", units::go_time(created)),
            ("Size", units::short_size(size)),
            ("VirtualSize", units::size(size)),
            ("UniqueSize", "N/A".to_owned()),
            ("SharedSize", "N/A".to_owned()),
            ("Containers", "N/A".to_owned()),
        ])
    };
    tags.into_iter().map(row_of).collect()
}

impl History {
    pub async fn execute(self, client: Client) -> Result<ExitCode> {
        let found = client.get(&format!("/images/{}/history", self.image), &Query::new()).await?;
        let whole = self.no_trunc;
        let row_of = |one: &Value| {
            let text = |name: &str| one[name].as_str().unwrap_or_default().to_owned();
            let created = one["Created"].as_i64().unwrap_or(0);
            let size = one["Size"].as_f64().unwrap_or(0.0);
            let by = text("CreatedBy").replace('\t', " ");
            row([
                ("ID", if whole { text("Id") } else { units::short_id(&text("Id")) }),
                ("CreatedSince", if self.human { units::ago(created) } else { units::iso_time(created) }),
                ("CreatedAt", units::iso_time(created)),
                ("CreatedBy", if whole { by } else { units::ellipsis(&by, 45) }),
                ("Size", if self.human { units::short_size(size) } else { size.to_string() }),
                ("Comment", text("Comment")),
            ])
        };
        let rows: Vec<_> = found.as_array().into_iter().flatten().map(row_of).collect();
        let format = if self.quiet { Some("{{.ID}}") } else { self.format.as_deref() };
        table::print(&HISTORY.render(&rows, format)?).map(|()| ExitCode::SUCCESS)
    }
}

impl Tag {
    pub async fn execute(self, client: Client) -> Result<ExitCode> {
        let (repository, tag) = transfer::split(&self.target);
        let query = Query::new().with("repo", repository).with("tag", tag.unwrap_or("latest"));
        client.post(&format!("/images/{}/tag", self.source), &query, None).await?;
        Ok(ExitCode::SUCCESS)
    }
}

impl Remove {
    pub async fn execute(self, client: Client) -> Result<ExitCode> {
        let query = Query::new().flag("force", self.force).flag("noprune", self.no_prune);
        let mut code = ExitCode::SUCCESS;
        for image in &self.images {
            match client.delete(&format!("/images/{image}"), &query).await {
                Ok(removed) => table::print(&prune::removed_lines(&removed, prune::LARGE))?,
                Err(error) => {
                    table::say(&error.chain());
                    code = ExitCode::FAILURE;
                }
            }
        }
        Ok(code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_row_a_tag() {
        let one =
            json!({"Id": "sha256:0123456789abcdef", "RepoTags": ["localhost:5000/app:1", "app:latest"], "Size": 3e6});
        let seen = rows(&one, false);
        assert_eq!((&seen[0]["Repository"], &seen[0]["Tag"]), (&json!("localhost:5000/app"), &json!("1")));
        assert_eq!((&seen[1]["ID"], &seen[1]["Size"]), (&json!("0123456789ab"), &json!("3MB")));
        assert_eq!(rows(&json!({"RepoTags": []}), false)[0]["Tag"], "<none>");
    }
}
