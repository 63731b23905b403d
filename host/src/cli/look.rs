//! Looking at containers as they are: ps, inspect, logs, top, port, diff.

use std::process::ExitCode;

use clap::Args;
use http::Method;
use http_body_util::BodyExt;
use serde_json::{Map, Value};

use super::client::{Call, Client, Query, escape};
use super::json::Json;
use super::stream::Frames;
use super::table::{self, Listing, row};
use super::template::Template;
use super::{run, session, units, values};
use crate::error::{Error, ErrorKind, Result};

const CONTAINERS: Listing = Listing {
    headings: &[
        ("ID", "CONTAINER ID"),
        ("Image", "IMAGE"),
        ("Command", "COMMAND"),
        ("CreatedAt", "CREATED AT"),
        ("RunningFor", "CREATED"),
        ("Status", "STATUS"),
        ("Ports", "PORTS"),
        ("Names", "NAMES"),
        ("Networks", "NETWORKS"),
        ("Labels", "LABELS"),
        ("State", "STATE"),
        ("Size", "SIZE"),
        ("Mounts", "MOUNTS"),
        ("LocalVolumes", "LOCAL VOLUMES"),
        ("Platform", "PLATFORM"),
        // Ours: docker has no models.
        ("Devices", "DEVICES"),
    ],
    usual: &["ID", "Image", "Command", "RunningFor", "Status", "Ports", "Names"],
};

/// With `-s`.
const SIZED: Listing = Listing {
    headings: CONTAINERS.headings,
    usual: &["ID", "Image", "Command", "RunningFor", "Status", "Ports", "Names", "Size"],
};

/// Least width of a column of `top`, as docker's.
const TOP_WIDTH: usize = 20;

/// What every list takes.
#[derive(Debug, Args)]
pub struct ListFlags {
    /// KEY=VALUE; repeat for more
    #[arg(short, long, value_parser = values::pair)]
    pub filter: Vec<String>,
    /// table, json, 'table {{.X}}' or '{{.X}}'
    #[arg(long)]
    pub format: Option<String>,
    /// Show whole ids and commands
    #[arg(long)]
    pub no_trunc: bool,
    /// Only ids
    #[arg(short, long)]
    pub quiet: bool,
}

/// List containers
///
/// Examples:
///   wharf ps -a
///   wharf ps --filter status=exited --format 'table {{.Names}}\t{{.Status}}'
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct Ps {
    /// Stopped ones too
    #[arg(short, long)]
    all: bool,
    /// The N created last, whatever their state
    #[arg(short = 'n', long)]
    last: Option<u32>,
    /// The one created last
    #[arg(short, long)]
    latest: bool,
    /// Show how much each has written
    #[arg(short, long)]
    size: bool,
    #[command(flatten)]
    list: ListFlags,
}

/// Return low-level information on containers, images, networks and volumes
#[derive(Debug, Args)]
pub struct Inspect {
    /// json or '{{.X}}'
    #[arg(short, long)]
    format: Option<String>,
    /// Look among these only: container, image, network, volume
    #[arg(long = "type", value_name = "TYPE")]
    kind: Option<String>,
    /// A container's size too
    #[arg(short, long)]
    size: bool,
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
}

/// Fetch the logs of a container
///
/// Examples:
///   wharf logs -f digits
///   wharf logs --since 10m --tail 100 -t digits
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct Logs {
    /// Go on with what comes
    #[arg(short, long)]
    follow: bool,
    /// Lines from the end [default: all]
    #[arg(short = 'n', long, default_value = "all", hide_default_value = true)]
    tail: String,
    /// Only later lines, e.g. 10m or 2026-05-30T12:00:00Z
    #[arg(long)]
    since: Option<String>,
    /// Only earlier lines
    #[arg(long)]
    until: Option<String>,
    /// The time before each line
    #[arg(short, long)]
    timestamps: bool,
    /// The attributes before each line
    #[arg(long)]
    details: bool,
    #[arg(value_name = "CONTAINER")]
    container: String,
}

/// List port mappings of a container
#[derive(Debug, Args)]
pub struct Port {
    #[arg(value_name = "CONTAINER")]
    container: String,
    /// PORT[/PROTOCOL]
    port: Option<String>,
}

/// Show what runs in a container
#[derive(Debug, Args)]
pub struct Top {
    #[arg(value_name = "CONTAINER")]
    container: String,
    /// Arguments for ps
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGUMENT")]
    arguments: Vec<String>,
}

/// Inspect changes to files of a container
#[derive(Debug, Args)]
pub struct Diff {
    #[arg(value_name = "CONTAINER")]
    container: String,
}

impl Ps {
    pub async fn execute(self, client: Client) -> Result<ExitCode> {
        let last = if self.latest { Some(1) } else { self.last };
        let shown = self.list.format.as_deref().unwrap_or_default();
        let sized = self.size || shown.contains(".Size");
        let query = Query::new().flag("all", self.all).some("limit", last.map(|n| n.to_string())).flag("size", sized);
        let found = client.get("/containers/json", &query.filters(&self.list.filter)?).await?;
        let whole = self.list.no_trunc;
        let rows: Vec<_> = found.as_array().into_iter().flatten().map(|one| container_row(one, whole)).collect();
        print_list(if self.size { &SIZED } else { &CONTAINERS }, &rows, &self.list)
    }
}

pub fn print_list(listing: &Listing, rows: &[Map<String, Value>], flags: &ListFlags) -> Result<ExitCode> {
    let format = if flags.quiet { Some("{{.ID}}") } else { flags.format.as_deref() };
    table::print(&listing.render(rows, format)?)?;
    Ok(ExitCode::SUCCESS)
}

pub fn container_row(one: &Value, whole: bool) -> Map<String, Value> {
    let text = |name: &str| one[name].as_str().unwrap_or_default().to_owned();
    let created = one["Created"].as_i64().unwrap_or(0);
    let names = one["Names"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let names: Vec<&str> = names.map(|name| name.trim_start_matches('/')).collect();
    let networks = one["NetworkSettings"]["Networks"].as_object();
    let mounts = || one["Mounts"].as_array().into_iter().flatten();
    let mount_names: Vec<String> = mounts().map(|mount| mount_name(mount, whole)).collect();
    let command = if whole { text("Command") } else { units::ellipsis(&text("Command"), 20) };
    let mut row = row([
        ("ID", if whole { text("Id") } else { units::short_id(&text("Id")) }),
        ("Image", if text("Image").starts_with("sha256:") { units::short_id(&text("Image")) } else { text("Image") }),
        ("Command", format!("{command:?}")),
        ("CreatedAt", units::go_time(created)),
        ("RunningFor", units::ago(created)),
        ("Status", text("Status")),
        ("State", text("State")),
        ("Ports", ports(&one["Ports"])),
        ("Names", names.join(",")),
        ("Networks", networks.map(|all| all.keys().cloned().collect::<Vec<_>>().join(",")).unwrap_or_default()),
        ("Labels", labels(&one["Labels"])),
        ("Size", size(one)),
        ("Mounts", mount_names.join(",")),
        ("LocalVolumes", mounts().filter(|mount| mount["Driver"] == "local").count().to_string()),
        ("Devices", devices(&one["Wharf"]["Devices"])),
    ]);
    row.insert("Platform".to_owned(), one["ImageManifestDescriptor"]["platform"].clone());
    row
}

/// Of each model: `digits=cpu`, and `digits=cpu (not cuda:1)` where another device was preferred.
fn devices(models: &Value) -> String {
    let of = |model: &Value| {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        // Each starts with its device, `cuda:1: no NVIDIA GPU…`.
        let device = |reason: &Value| text(reason).split(": ").next().unwrap_or_default().to_owned();
        let instead: Vec<String> = model["FellBack"].as_array().into_iter().flatten().map(device).collect();
        let instead = if instead.is_empty() { String::new() } else { format!(" (not {})", instead.join(", ")) };
        format!("{}={}{instead}", text(&model["Model"]), text(&model["Device"]))
    };
    models.as_array().into_iter().flatten().map(of).collect::<Vec<_>>().join(", ")
}

/// What it has written, and that with its image.
fn size(one: &Value) -> String {
    let number = |name: &str| one[name].as_f64().unwrap_or(0.0);
    let own = units::short_size(number("SizeRw"));
    match number("SizeRootFs") {
        0.0 => own,
        all => format!("{own} (virtual {})", units::short_size(all)),
    }
}

fn mount_name(mount: &Value, whole: bool) -> String {
    let name = mount["Name"].as_str().filter(|name| !name.is_empty()).or(mount["Source"].as_str()).unwrap_or_default();
    if whole { name.to_owned() } else { units::ellipsis(name, 15) }
}

pub fn labels(all: &Value) -> String {
    let pair = |(key, value): (&String, &Value)| format!("{key}={}", value.as_str().unwrap_or_default());
    all.as_object().map(|all| all.iter().map(pair).collect::<Vec<_>>().join(",")).unwrap_or_default()
}

fn ports(all: &Value) -> String {
    let mut shown: Vec<(bool, u64, String)> = Vec::new();
    for port in all.as_array().into_iter().flatten() {
        let inside = port["PrivatePort"].as_u64().unwrap_or(0);
        let protocol = port["Type"].as_str().unwrap_or("tcp");
        let text = match port["PublicPort"].as_u64() {
            Some(outside @ 1..) => {
                let ip = port["IP"].as_str().unwrap_or_default();
                let ip = if ip.contains(':') { format!("[{ip}]") } else { ip.to_owned() };
                format!("{ip}:{outside}->{inside}/{protocol}")
            }
            _ => format!("{inside}/{protocol}"),
        };
        shown.push((text.contains("->"), inside, text));
    }
    shown.sort();
    shown.into_iter().map(|(.., text)| text).collect::<Vec<_>>().join(", ")
}

impl Inspect {
    pub async fn execute(self, client: Client, kinds: &[&str]) -> Result<ExitCode> {
        let typed = self.kind.as_ref().map(|kind| format!("{kind}s"));
        let kinds = match &typed {
            None => kinds.to_vec(),
            Some(kind) if ["containers", "images", "networks", "volumes"].contains(&kind.as_str()) => {
                vec![kind.as_str()]
            }
            Some(kind) => return Err(Error::invalid(format!("{kind:?} is not a valid value for --type"))),
        };
        let template = self.format.as_deref().filter(|format| *format != "json").map(Template::parse).transpose()?;
        let mut found = Vec::new();
        let mut code = ExitCode::SUCCESS;
        for name in &self.names {
            match lookup(&client, name, &kinds, self.size).await {
                Ok(one) => found.push(one),
                Err(error) => {
                    table::say(&error.chain());
                    code = ExitCode::FAILURE;
                }
            }
        }
        match template {
            Some(template) => {
                for one in &found {
                    table::println(&template.render(one)?)?;
                }
            }
            None if self.format.is_some() => table::println(&Json::List(found).compact())?,
            None => table::println(&Json::List(found).indented())?,
        }
        Ok(code)
    }
}

/// The first of its kinds that has this name.
async fn lookup(client: &Client, name: &str, kinds: &[&str], size: bool) -> Result<Json> {
    for kind in kinds {
        let path = match *kind {
            "containers" => format!("/containers/{}/json", escape(name)),
            // A name of an image keeps its slashes and colons.
            "images" => format!("/images/{name}/json"),
            kind => format!("/{kind}/{}", escape(name)),
        };
        match client.text(&path, &Query::new().flag("size", size && *kind == "containers")).await {
            Err(error) if error.kind() == ErrorKind::NotFound && kinds.len() > 1 => {}
            found => return Json::parse(&found?),
        }
    }
    Err(Error::new(ErrorKind::NotFound, format!("Error: No such object: {name}")))
}

impl Logs {
    pub async fn execute(self, client: Client) -> Result<ExitCode> {
        let (id, tty) = run::inspect(&client, &self.container).await?;
        let moment = |typed: Option<String>| typed.as_deref().map(units::moment).transpose();
        let query = Query::new()
            .with("stdout", "1")
            .with("stderr", "1")
            .flag("follow", self.follow)
            .flag("timestamps", self.timestamps)
            .flag("details", self.details)
            .with("tail", self.tail)
            .some("since", moment(self.since)?)
            .some("until", moment(self.until)?);
        let path = format!("/containers/{id}/logs");
        let mut body = client.send(Method::GET, &path, &query, Call::empty()).await?.into_body();
        let mut frames = Frames::new(tty);
        while let Some(Ok(frame)) = body.frame().await {
            frames.push(frame.data_ref().map_or(&[][..], |bytes| bytes));
            while let Some((channel, text)) = frames.take()? {
                session::show(channel, &text)?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Port {
    pub async fn execute(self, client: Client) -> Result<ExitCode> {
        let state = client.get(&format!("/containers/{}/json", escape(&self.container)), &Query::new()).await?;
        let typed = self.port.clone();
        let wanted = self.port.map(|port| if port.contains('/') { port } else { format!("{port}/tcp") });
        let mut any = false;
        for (port, bound) in state["NetworkSettings"]["Ports"].as_object().into_iter().flatten() {
            for one in bound.as_array().into_iter().flatten() {
                let outside =
                    format!("{}:{}", one["HostIp"].as_str().unwrap_or(""), one["HostPort"].as_str().unwrap_or(""));
                match &wanted {
                    None => table::println(&format!("{port} -> {outside}"))?,
                    Some(wanted) if wanted == port => table::println(&outside)?,
                    Some(_) => continue,
                }
                any = true;
            }
        }
        match typed {
            Some(port) if !any => Err(Error::new(
                ErrorKind::NotFound,
                format!("Error: No public port '{port}' published for {}", self.container),
            )),
            _ => Ok(ExitCode::SUCCESS),
        }
    }
}

impl Top {
    pub async fn execute(self, client: Client) -> Result<ExitCode> {
        let arguments = (!self.arguments.is_empty()).then(|| self.arguments.join(" "));
        let query = Query::new().some("ps_args", arguments);
        let found = client.get(&format!("/containers/{}/top", escape(&self.container)), &query).await?;
        let cells = |line: &Value| -> Vec<String> {
            line.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
        };
        let mut lines = vec![cells(&found["Titles"])];
        lines.extend(found["Processes"].as_array().into_iter().flatten().map(cells));
        table::print(&table::align_from(&lines, TOP_WIDTH)).map(|()| ExitCode::SUCCESS)
    }
}

impl Diff {
    pub async fn execute(self, client: Client) -> Result<ExitCode> {
        let found = client.get(&format!("/containers/{}/changes", escape(&self.container)), &Query::new()).await?;
        for change in found.as_array().into_iter().flatten() {
            let letter = ["C", "A", "D"].get(change["Kind"].as_u64().unwrap_or(0) as usize).unwrap_or(&"C");
            table::println(&format!("{letter} {}", change["Path"].as_str().unwrap_or_default()))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_row_of_ps() {
        let one = json!({
            "Id": "0123456789abcdef", "Names": ["/web"], "Image": "app", "Command": "/app.wasm --many words here",
            "Created": 0, "Status": "Up 3 seconds",
            "Ports": [{"IP": "0.0.0.0", "PrivatePort": 5000, "PublicPort": 5001, "Type": "tcp"}, {"PrivatePort": 7, "Type": "tcp"}],
        });
        let row = container_row(&one, false);
        assert_eq!((&row["ID"], &row["Names"]), (&json!("0123456789ab"), &json!("web")));
        assert_eq!(row["Ports"], "7/tcp, 0.0.0.0:5001->5000/tcp");
        assert_eq!(row["Command"], "\"/app.wasm --many wo…\"");
    }
}
