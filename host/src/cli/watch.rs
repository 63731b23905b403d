//! Looking at containers as they go on: stats, events.

use std::io::{self, IsTerminal};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use futures_util::future;
use http::Method;
use serde_json::{Map, Value, json};

use super::client::{Call, Client, Query, escape};
use super::json::Json;
use super::look::labels;
use super::stream::Objects;
use super::table::{self, Listing, row};
use super::template::Template;
use super::{units, values};
use crate::error::{ErrorKind, Result};

const STATS: Listing = Listing {
    headings: &[
        ("ID", "CONTAINER ID"),
        ("Container", "CONTAINER"),
        ("Name", "NAME"),
        ("CPUPerc", "CPU %"),
        ("MemUsage", "MEM USAGE / LIMIT"),
        ("MemPerc", "MEM %"),
        ("NetIO", "NET I/O"),
        ("BlockIO", "BLOCK I/O"),
        ("PIDs", "PIDS"),
    ],
    usual: &["ID", "Name", "CPUPerc", "MemUsage", "MemPerc", "NetIO", "BlockIO", "PIDs"],
};

/// Between two tables of `stats`; taking the samples needs a second of its own.
const PAUSE: Duration = Duration::from_millis(200);

/// Show live resource usage of containers
///
/// Examples:
///   wharf stats
///   wharf stats --no-stream --format '{{.Name}} {{.CPUPerc}}' digits
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct Stats {
    /// Stopped containers too
    #[arg(short, long)]
    all: bool,
    /// One sample, then end
    #[arg(long)]
    no_stream: bool,
    /// Show whole ids
    #[arg(long)]
    no_trunc: bool,
    /// table, json, 'table {{.X}}' or '{{.X}}'
    #[arg(long)]
    format: Option<String>,
    #[arg(value_name = "CONTAINER")]
    containers: Vec<String>,
}

/// Get events from the daemon as they happen
#[derive(Debug, Args)]
pub struct Events {
    /// KEY=VALUE; repeat for more
    #[arg(short, long, value_parser = values::pair)]
    filter: Vec<String>,
    /// json or '{{.X}}'
    #[arg(long)]
    format: Option<String>,
    /// Events since then, e.g. 10m
    #[arg(long)]
    since: Option<String>,
    /// End with the events until then
    #[arg(long)]
    until: Option<String>,
}

impl Stats {
    pub async fn execute(self, client: Client) -> Result<ExitCode> {
        let terminal = io::stdout().is_terminal() && !self.no_stream;
        loop {
            let rows = self.sample(&client).await?;
            // Home and clear, so that the table stands still.
            let clear = if terminal { "\x1b[H\x1b[J" } else { "" };
            table::print(&format!("{clear}{}", STATS.render(&rows, self.format.as_deref())?))?;
            if self.no_stream {
                return Ok(ExitCode::SUCCESS);
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// One sample of each at the same time: a sample takes a second.
    async fn sample(&self, client: &Client) -> Result<Vec<Map<String, Value>>> {
        let named = !self.containers.is_empty();
        let names = if named { self.containers.clone() } else { present(client, self.all).await? };
        let samples = future::join_all(names.iter().map(async |name| {
            let query = Query::new().with("stream", "0");
            client.get(&format!("/containers/{}/stats", escape(name)), &query).await
        }));
        let mut rows = Vec::new();
        for (name, sample) in names.iter().zip(samples.await) {
            match sample {
                Ok(sample) => rows.push(usage_row(name, &sample, self.no_trunc)),
                // It went while the list was read.
                Err(error) if !named && error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(rows)
    }
}

async fn present(client: &Client, all: bool) -> Result<Vec<String>> {
    let found = client.get("/containers/json", &Query::new().flag("all", all)).await?;
    let ids = found.as_array().into_iter().flatten().filter_map(|one| one["Id"].as_str());
    Ok(ids.map(units::short_id).collect())
}

fn usage_row(asked: &str, sample: &Value, whole: bool) -> Map<String, Value> {
    let number = |pointer: &str| sample.pointer(pointer).and_then(Value::as_f64).unwrap_or(0.0);
    let grown = |field: &str| number(&format!("/cpu_stats/{field}")) - number(&format!("/precpu_stats/{field}"));
    let (used, machine) = (grown("cpu_usage/total_usage"), grown("system_cpu_usage"));
    let cpu = if used > 0.0 && machine > 0.0 { used / machine * number("/cpu_stats/online_cpus") * 100.0 } else { 0.0 };
    let memory = number("/memory_stats/usage") - number("/memory_stats/stats/inactive_file");
    let limit = number("/memory_stats/limit");
    let network = |field: &str| -> f64 {
        sample["networks"].as_object().into_iter().flatten().filter_map(|(_, one)| one[field].as_f64()).sum()
    };
    let blocks = |op: &str| -> f64 {
        let all = sample["blkio_stats"]["io_service_bytes_recursive"].as_array();
        all.into_iter().flatten().filter(|one| one["op"] == op).filter_map(|one| one["value"].as_f64()).sum()
    };
    let id = sample["id"].as_str().unwrap_or_default();
    row([
        ("ID", if whole { id.to_owned() } else { units::short_id(id) }),
        ("Container", asked.to_owned()),
        ("Name", sample["name"].as_str().unwrap_or_default().trim_start_matches('/').to_owned()),
        ("CPUPerc", format!("{cpu:.2}%")),
        ("MemUsage", format!("{} / {}", units::binary_size(memory), units::binary_size(limit))),
        ("MemPerc", format!("{:.2}%", if limit > 0.0 { memory / limit * 100.0 } else { 0.0 })),
        ("NetIO", format!("{} / {}", units::short_size(network("rx_bytes")), units::short_size(network("tx_bytes")))),
        ("BlockIO", format!("{} / {}", units::short_size(blocks("read")), units::short_size(blocks("write")))),
        ("PIDs", number("/pids_stats/current").to_string()),
    ])
}

impl Events {
    pub async fn execute(self, client: Client) -> Result<ExitCode> {
        let moment = |typed: Option<String>| typed.as_deref().map(units::moment).transpose();
        let query = Query::new().some("since", moment(self.since)?).some("until", moment(self.until)?);
        let query = query.filters(&self.filter)?;
        let as_json = matches!(self.format.as_deref(), Some("json" | "{{json .}}"));
        let template = self.format.as_deref().filter(|_| !as_json).map(Template::parse).transpose()?;
        let mut events = Objects::new(client.send(Method::GET, "/events", &query, Call::empty()).await?.into_body());
        while let Some(event) = events.next_as::<Json>().await? {
            let line = match &template {
                _ if as_json => event.compact(),
                Some(template) => template.render(&fields(&event))?,
                None => line(&event),
            };
            table::println(&line)?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// An event under the names that docker's templates use.
fn fields(event: &Json) -> Json {
    let names = [
        ("status", "Status"),
        ("id", "ID"),
        ("from", "From"),
        ("Type", "Type"),
        ("Action", "Action"),
        ("Actor", "Actor"),
        ("scope", "Scope"),
        ("time", "Time"),
        ("timeNano", "TimeNano"),
    ];
    let field = |(from, to): (&str, &str)| {
        (to.to_owned(), event.get(from).cloned().unwrap_or_else(|| Json::Text(String::new())))
    };
    Json::Map(names.map(field).into())
}

fn line(event: &Json) -> String {
    let event: Value = serde_json::to_value(event).unwrap_or_else(|_| json!({}));
    let text = |name: &str| event[name].as_str().unwrap_or_default();
    let time = units::exact_time(event["timeNano"].as_i64().unwrap_or(0));
    let actor = &event["Actor"];
    let attributes = labels(&actor["Attributes"]).replace(',', ", ");
    let id = actor["ID"].as_str().unwrap_or_default();
    format!("{time} {} {} {id} ({attributes})", text("Type"), text("Action"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_of_stats() {
        let sample = json!({
            "id": "0123456789abcdef", "name": "/web",
            "cpu_stats": {"cpu_usage": {"total_usage": 300}, "system_cpu_usage": 1000, "online_cpus": 2},
            "precpu_stats": {"cpu_usage": {"total_usage": 200}, "system_cpu_usage": 600},
            "memory_stats": {"usage": 52428800, "limit": 1073741824}, "pids_stats": {"current": 3},
        });
        let row = usage_row("web", &sample, false);
        assert_eq!((&row["CPUPerc"], &row["MemUsage"]), (&json!("50.00%"), &json!("50MiB / 1GiB")));
        assert_eq!((&row["PIDs"], &row["BlockIO"]), (&json!("3"), &json!("0B / 0B")));
    }

    #[test]
    fn a_line_of_events() {
        let event = Json::parse(
            r#"{"id":"ab","Type":"container","Action":"die","time":1,"timeNano":1000000002,
                "Actor":{"ID":"ab","Attributes":{"name":"web","exitCode":"1"}}}"#,
        );
        let event = event.unwrap();
        assert_eq!(line(&event), "1970-01-01T00:00:01.000000002Z container die ab (exitCode=1, name=web)");
        let template = Template::parse("{{.ID}} {{.Actor.Attributes.name}} {{.Time}}").unwrap();
        assert_eq!(template.render(&fields(&event)).unwrap(), "ab web 1");
    }
}
