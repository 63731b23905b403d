//! `wharf system df [-v]`: what lies on the disk, and what of it is free to go.

use std::process::ExitCode;

use clap::Args;
use serde_json::{Map, Value};

use super::client::{Client, Query};
use super::table::{self, Listing, row};
use super::{images, look, units};
use crate::error::{Error, Result};

const USAGE: Listing = Listing {
    headings: &[
        ("Type", "TYPE"),
        ("TotalCount", "TOTAL"),
        ("Active", "ACTIVE"),
        ("Size", "SIZE"),
        ("Reclaimable", "RECLAIMABLE"),
    ],
    usual: &["Type", "TotalCount", "Active", "Size", "Reclaimable"],
};

const IMAGES: Listing = Listing {
    headings: &[
        ("Repository", "REPOSITORY"),
        ("Tag", "TAG"),
        ("ID", "IMAGE ID"),
        ("CreatedSince", "CREATED"),
        ("VirtualSize", "SIZE"),
        ("SharedSize", "SHARED SIZE"),
        ("UniqueSize", "UNIQUE SIZE"),
        ("Containers", "CONTAINERS"),
    ],
    usual: &["Repository", "Tag", "ID", "CreatedSince", "VirtualSize", "SharedSize", "UniqueSize", "Containers"],
};

const CONTAINERS: Listing = Listing {
    headings: &[
        ("ID", "CONTAINER ID"),
        ("Image", "IMAGE"),
        ("Command", "COMMAND"),
        ("LocalVolumes", "LOCAL VOLUMES"),
        ("Size", "SIZE"),
        ("RunningFor", "CREATED"),
        ("Status", "STATUS"),
        ("Names", "NAMES"),
    ],
    usual: &["ID", "Image", "Command", "LocalVolumes", "Size", "RunningFor", "Status", "Names"],
};

const VOLUMES: Listing = Listing {
    headings: &[("Name", "VOLUME NAME"), ("Links", "LINKS"), ("Size", "SIZE")],
    usual: &["Name", "Links", "Size"],
};

const CACHE: Listing = Listing {
    headings: &[
        ("ID", "CACHE ID"),
        ("CacheType", "CACHE TYPE"),
        ("Size", "SIZE"),
        ("CreatedSince", "CREATED"),
        ("LastUsedSince", "LAST USED"),
        ("UsageCount", "USAGE"),
        ("Shared", "SHARED"),
    ],
    usual: &["ID", "CacheType", "Size", "CreatedSince", "LastUsedSince", "UsageCount", "Shared"],
};

/// Show disk usage
#[derive(Debug, Args)]
pub struct Usage {
    /// json or '{{.X}}'
    #[arg(short, long)]
    format: Option<String>,
    /// Show detailed information on space usage
    #[arg(short, long)]
    verbose: bool,
}

impl Usage {
    pub async fn execute(self, client: Client) -> Result<ExitCode> {
        let found = client.get("/system/df", &Query::new()).await?;
        if !self.verbose {
            return table::print(&USAGE.render(&sums(&found), self.format.as_deref())?).map(|()| ExitCode::SUCCESS);
        }
        if self.format.is_some() {
            return Err(Error::invalid("--format goes without --verbose: name one of them"));
        }
        let rows = |kind: &str, row: &dyn Fn(&Value) -> Vec<Map<String, Value>>| {
            found[kind].as_array().into_iter().flatten().flat_map(row).collect::<Vec<_>>()
        };
        let containers = rows("Containers", &container_rows);
        let cache = units::size(kind(&found["BuildCache"], &["Size"], |_| true).size);
        let parts = [
            ("Images space usage:".to_owned(), IMAGES.render(&rows("Images", &image_rows), None)?),
            ("Containers space usage:".to_owned(), CONTAINERS.render(&containers, None)?),
            ("Local Volumes space usage:".to_owned(), VOLUMES.render(&rows("Volumes", &volume_rows), None)?),
            // The steps of builds are images here.
            (format!("Build cache usage: {cache}"), CACHE.render(&[], None)?),
        ];
        let text: Vec<String> = parts.into_iter().map(|(title, table)| format!("{title}\n\n{table}")).collect();
        table::print(&text.join("\n")).map(|()| ExitCode::SUCCESS)
    }
}

fn container_rows(one: &Value) -> Vec<Map<String, Value>> {
    let mut row = look::container_row(one, false);
    // What it has written, without its image.
    row.insert("Size".to_owned(), units::short_size(one["SizeRw"].as_f64().unwrap_or(0.0)).into());
    vec![row]
}

fn image_rows(one: &Value) -> Vec<Map<String, Value>> {
    let number = |name: &str| one[name].as_f64().unwrap_or(0.0).max(0.0);
    let mut rows = images::rows(one, false);
    // As docker: an image counts once, under its first name.
    rows.truncate(1);
    for row in &mut rows {
        let (whole, shared) = (number("Size"), number("SharedSize"));
        row.insert("VirtualSize".to_owned(), units::short_size(whole).into());
        row.insert("SharedSize".to_owned(), units::short_size(shared).into());
        row.insert("UniqueSize".to_owned(), units::short_size((whole - shared).max(0.0)).into());
        row.insert("Containers".to_owned(), one["Containers"].as_i64().unwrap_or(0).to_string().into());
    }
    rows
}

fn volume_rows(one: &Value) -> Vec<Map<String, Value>> {
    let usage = &one["UsageData"];
    vec![row([
        ("Name", one["Name"].as_str().unwrap_or_default().to_owned()),
        ("Links", usage["RefCount"].as_i64().unwrap_or(0).to_string()),
        ("Size", units::short_size(usage["Size"].as_f64().unwrap_or(0.0))),
    ])]
}

fn sums(found: &Value) -> [Map<String, Value>; 4] {
    let mut images = kind(&found["Images"], &["Size"], |one| one["Containers"].as_i64().unwrap_or(0) > 0);
    let containers = kind(&found["Containers"], &["SizeRw"], |one| {
        matches!(one["State"].as_str(), Some("running" | "paused" | "restarting"))
    });
    let volumes =
        kind(&found["Volumes"], &["UsageData", "Size"], |one| one["UsageData"]["RefCount"].as_i64().unwrap_or(0) > 0);
    let cache = kind(&found["BuildCache"], &["Size"], |one| one["InUse"].as_bool().unwrap_or(false));
    let layers = found["LayersSize"].as_f64().unwrap_or(0.0);
    // As docker counts: what images in use have for themselves is used, and all else of the layers is free.
    let used = |one: &Value| {
        let number = |name: &str| one[name].as_f64().unwrap_or(0.0).max(0.0);
        if number("Containers") > 0.0 { (number("Size") - number("SharedSize")).max(0.0) } else { 0.0 }
    };
    let used: f64 = found["Images"].as_array().into_iter().flatten().map(used).sum();
    (images.size, images.free) = (layers, (layers - used).max(0.0));
    let all = [("Images", images), ("Containers", containers), ("Local Volumes", volumes), ("Build Cache", cache)];
    all.map(|(name, kind)| {
        let free = units::size(kind.free);
        // Docker gives no share for the cache.
        let share = if kind.size > 0.0 && name != "Build Cache" {
            format!("{free} ({}%)", (kind.free / kind.size * 100.0) as i64)
        } else {
            free
        };
        row([
            ("Type", name.to_owned()),
            ("TotalCount", kind.total.to_string()),
            ("Active", kind.active.to_string()),
            ("Size", units::size(kind.size)),
            ("Reclaimable", share),
        ])
    })
}

struct Kind {
    total: usize,
    active: usize,
    size: f64,
    free: f64,
}

fn kind(all: &Value, size: &[&str], active: impl Fn(&Value) -> bool) -> Kind {
    let mut kind = Kind { total: 0, active: 0, size: 0.0, free: 0.0 };
    for one in all.as_array().into_iter().flatten() {
        let bytes = size.iter().fold(one, |value, key| &value[*key]).as_f64().unwrap_or(0.0).max(0.0);
        kind.total += 1;
        kind.size += bytes;
        if active(one) {
            kind.active += 1;
        } else {
            kind.free += bytes;
        }
    }
    kind
}
