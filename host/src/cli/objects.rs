//! `wharf network …` and `wharf volume …`.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::client::{Client, Query, escape};
use super::look::{Inspect, ListFlags, labels, print_list};
use super::table::{self, Listing, row};
use super::{lifecycle, prune, spec, units};
use crate::error::Result;

const NETWORKS: Listing = Listing {
    headings: &[
        ("ID", "NETWORK ID"),
        ("Name", "NAME"),
        ("Driver", "DRIVER"),
        ("Scope", "SCOPE"),
        ("Labels", "LABELS"),
        ("CreatedAt", "CREATED AT"),
        ("IPv4", "IPV4"),
        ("IPv6", "IPV6"),
        ("Internal", "INTERNAL"),
    ],
    usual: &["ID", "Name", "Driver", "Scope"],
};
const VOLUMES: Listing = Listing {
    headings: &[
        ("Driver", "DRIVER"),
        ("Name", "VOLUME NAME"),
        ("Mountpoint", "MOUNTPOINT"),
        ("Labels", "LABELS"),
        ("Scope", "SCOPE"),
        ("Size", "SIZE"),
        ("Links", "LINKS"),
    ],
    usual: &["Driver", "Name"],
};

/// Manage networks
#[derive(Debug, Subcommand)]
pub enum Network {
    /// Create a network
    Create(CreateNetwork),
    /// List networks
    #[command(visible_alias = "list")]
    Ls(ListFlags),
    Inspect(Inspect),
    /// Connect a container to a network
    Connect(Connect),
    /// Disconnect a container from a network
    Disconnect(Disconnect),
    /// Remove one or more networks
    Rm(Named),
    Prune(prune::Networks),
}

#[derive(Debug, Args)]
pub struct CreateNetwork {
    #[arg(short, long, default_value = "bridge")]
    driver: String,
    #[arg(long)]
    subnet: Option<String>,
    #[arg(long)]
    gateway: Option<String>,
    /// No way out
    #[arg(long)]
    internal: bool,
    #[arg(long)]
    label: Vec<String>,
    #[arg(short, long)]
    opt: Vec<String>,
    name: String,
}

#[derive(Debug, Args)]
pub struct Connect {
    /// Further name of the container there
    #[arg(long)]
    alias: Vec<String>,
    #[arg(long)]
    ip: Option<String>,
    network: String,
    container: String,
}

#[derive(Debug, Args)]
pub struct Disconnect {
    #[arg(short, long)]
    force: bool,
    network: String,
    container: String,
}

#[derive(Debug, Args)]
pub struct Named {
    #[arg(short, long)]
    force: bool,
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
}

impl Network {
    pub async fn execute(self, client: Client) -> Result<ExitCode> {
        match self {
            Network::Create(verb) => verb.execute(client).await,
            Network::Ls(list) => networks(client, list).await,
            Network::Inspect(verb) => verb.execute(client, &["networks"]).await,
            Network::Connect(verb) => {
                let mut endpoint = json!({"Aliases": verb.alias});
                if let Some(ip) = verb.ip {
                    endpoint["IPAMConfig"] = json!({"IPv4Address": ip});
                }
                let body = json!({"Container": verb.container, "EndpointConfig": endpoint});
                client
                    .post(&format!("/networks/{}/connect", escape(&verb.network)), &Query::new(), Some(&body))
                    .await?;
                Ok(ExitCode::SUCCESS)
            }
            Network::Disconnect(verb) => {
                let body = json!({"Container": verb.container, "Force": verb.force});
                let path = format!("/networks/{}/disconnect", escape(&verb.network));
                client.post(&path, &Query::new(), Some(&body)).await?;
                Ok(ExitCode::SUCCESS)
            }
            Network::Rm(verb) => verb.remove(client, "networks").await,
            Network::Prune(verb) => verb.execute(client).await,
        }
    }
}

impl CreateNetwork {
    async fn execute(self, client: Client) -> Result<ExitCode> {
        let ranges = match (self.subnet, self.gateway) {
            (None, None) => json!([]),
            (subnet, gateway) => {
                json!([{"Subnet": subnet.unwrap_or_default(), "Gateway": gateway.unwrap_or_default()}])
            }
        };
        let body = json!({
            "Name": self.name, "Driver": self.driver, "Internal": self.internal, "Labels": spec::pairs(&self.label),
            "Options": spec::pairs(&self.opt), "IPAM": {"Driver": "default", "Config": ranges},
        });
        let made = client.post("/networks/create", &Query::new(), Some(&body)).await?;
        table::println(made["Id"].as_str().unwrap_or_default()).map(|()| ExitCode::SUCCESS)
    }
}

async fn networks(client: Client, list: ListFlags) -> Result<ExitCode> {
    let found = client.get("/networks", &Query::new().filters(&list.filter)?).await?;
    let row_of = |one: &Value| {
        let text = |name: &str| one[name].as_str().unwrap_or_default().to_owned();
        let on = |name: &str| one[name].as_bool().unwrap_or(false).to_string();
        row([
            ("ID", if list.no_trunc { text("Id") } else { units::short_id(&text("Id")) }),
            ("Name", text("Name")),
            ("Driver", text("Driver")),
            ("Scope", text("Scope")),
            ("Labels", labels(&one["Labels"])),
            ("CreatedAt", units::go_time_of(&text("Created"))),
            ("IPv4", on("EnableIPv4")),
            ("IPv6", on("EnableIPv6")),
            ("Internal", on("Internal")),
        ])
    };
    let mut rows: Vec<_> = found.as_array().into_iter().flatten().map(row_of).collect();
    rows.sort_by_key(|row| row["Name"].to_string());
    print_list(&NETWORKS, &rows, &list)
}

impl Named {
    async fn remove(self, client: Client, kind: &str) -> Result<ExitCode> {
        let query = Query::new().flag("force", self.force);
        lifecycle::each(&self.names, async |name| {
            client.delete(&format!("/{kind}/{}", escape(name)), &query).await.map(|_| ())
        })
        .await
    }
}

/// Manage volumes
#[derive(Debug, Subcommand)]
pub enum Volume {
    /// Create a volume
    Create(CreateVolume),
    /// List volumes
    #[command(visible_alias = "list")]
    Ls(ListFlags),
    Inspect(Inspect),
    /// Remove one or more volumes
    Rm(Named),
    Prune(prune::Volumes),
}

#[derive(Debug, Args)]
pub struct CreateVolume {
    #[arg(long)]
    label: Vec<String>,
    name: Option<String>,
}

impl Volume {
    pub async fn execute(self, client: Client) -> Result<ExitCode> {
        match self {
            Volume::Create(verb) => {
                let body = json!({"Name": verb.name.unwrap_or_default(), "Labels": spec::pairs(&verb.label)});
                let made = client.post("/volumes/create", &Query::new(), Some(&body)).await?;
                table::println(made["Name"].as_str().unwrap_or_default()).map(|()| ExitCode::SUCCESS)
            }
            Volume::Ls(list) => volumes(client, list).await,
            Volume::Inspect(verb) => verb.execute(client, &["volumes"]).await,
            Volume::Rm(verb) => verb.remove(client, "volumes").await,
            Volume::Prune(verb) => verb.execute(client).await,
        }
    }
}

async fn volumes(client: Client, list: ListFlags) -> Result<ExitCode> {
    let found = client.get("/volumes", &Query::new().filters(&list.filter)?).await?;
    // What docker shows for what only a cluster or `system df` knows.
    let unknown = || "N/A".to_owned();
    let row_of = |one: &Value| {
        let text = |name: &str| one[name].as_str().unwrap_or_default().to_owned();
        row([
            ("Driver", text("Driver")),
            ("Name", text("Name")),
            ("Mountpoint", text("Mountpoint")),
            ("Labels", labels(&one["Labels"])),
            ("Scope", text("Scope")),
            ("Size", unknown()),
            ("Links", unknown()),
            ("Status", unknown()),
            ("Availability", unknown()),
            ("Group", unknown()),
        ])
    };
    let mut rows: Vec<_> = found["Volumes"].as_array().into_iter().flatten().map(row_of).collect();
    rows.sort_by_key(|row| row["Name"].to_string());
    if list.quiet {
        return table::print(&VOLUMES.render(&rows, Some("{{.Name}}"))?).map(|()| ExitCode::SUCCESS);
    }
    print_list(&VOLUMES, &rows, &list)
}
