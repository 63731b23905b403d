//! Verbs that change containers by name: stop, restart, kill, pause, unpause, wait, rename, update, rm.

use std::process::ExitCode;

use clap::Args;
use serde_json::{Value, json};

use super::client::{Client, Query, escape};
use super::{run, spec, table, values};
use crate::error::{Error, Result};

/// Names or ids of containers.
#[derive(Debug, Args)]
pub struct Names {
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

/// How `stop` and `restart` end a container.
#[derive(Debug, Args)]
pub struct Stop {
    /// Signal to send first
    #[arg(short, long)]
    signal: Option<String>,
    /// Seconds to wait before killing it
    #[arg(short, long, alias = "timeout", allow_negative_numbers = true)]
    time: Option<i64>,
    #[command(flatten)]
    names: Names,
}

/// Kill one or more running containers
#[derive(Debug, Args)]
pub struct Kill {
    #[arg(short, long, default_value = "KILL")]
    signal: String,
    #[command(flatten)]
    names: Names,
}

/// Rename a container
#[derive(Debug, Args)]
pub struct Rename {
    #[arg(value_name = "CONTAINER")]
    container: String,
    #[arg(value_name = "NEW_NAME")]
    new_name: String,
}

/// Update limits and restart policy of one or more containers
#[derive(Debug, Args)]
pub struct Update {
    #[arg(short, long, value_parser = values::size)]
    memory: Option<u64>,
    #[arg(long)]
    cpus: Option<f64>,
    #[arg(long)]
    restart: Option<String>,
    #[command(flatten)]
    names: Names,
}

/// Remove one or more containers
#[derive(Debug, Args)]
pub struct Remove {
    /// Remove running ones too
    #[arg(short, long)]
    force: bool,
    /// Remove their anonymous volumes
    #[arg(short, long)]
    volumes: bool,
    #[command(flatten)]
    names: Names,
}

impl Names {
    pub async fn post(self, client: Client, verb: &str) -> Result<ExitCode> {
        each(&self.containers, async |name| post(&client, name, verb, Query::new(), None).await).await
    }

    pub async fn wait(self, client: Client) -> Result<ExitCode> {
        for name in &self.containers {
            let ended = run::wait(&client, name, "not-running").await?.next().await?.unwrap_or_default();
            table::println(&ended["StatusCode"].as_i64().unwrap_or(0).to_string())?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Stop {
    pub async fn execute(self, client: Client, verb: &str) -> Result<ExitCode> {
        let query = Query::new().some("t", self.time.map(|time| time.to_string())).some("signal", self.signal);
        each(&self.names.containers, async |name| post(&client, name, verb, query.clone(), None).await).await
    }
}

impl Kill {
    pub async fn execute(self, client: Client) -> Result<ExitCode> {
        let query = Query::new().with("signal", self.signal);
        each(&self.names.containers, async |name| post(&client, name, "kill", query.clone(), None).await).await
    }
}

impl Rename {
    pub async fn execute(self, client: Client) -> Result<ExitCode> {
        let renamed = post(&client, &self.container, "rename", Query::new().with("name", self.new_name), None).await;
        renamed.map(|()| ExitCode::SUCCESS).map_err(|error| {
            table::say(&error.chain());
            Error::new(error.kind(), format!("Error: failed to rename container named {}", self.container))
        })
    }
}

impl Update {
    pub async fn execute(self, client: Client) -> Result<ExitCode> {
        let mut body = json!({"Memory": self.memory.unwrap_or(0), "NanoCpus": (self.cpus.unwrap_or(0.0) * 1e9) as i64});
        if let Some(policy) = &self.restart {
            body["RestartPolicy"] = spec::restart_policy(policy)?;
        }
        each(&self.names.containers, async |name| post(&client, name, "update", Query::new(), Some(&body)).await).await
    }
}

impl Remove {
    pub async fn execute(self, client: Client) -> Result<ExitCode> {
        let query = Query::new().flag("force", self.force).flag("v", self.volumes);
        each(&self.names.containers, async |name| {
            client.delete(&format!("/containers/{}", escape(name)), &query).await.map(|_| ())
        })
        .await
    }
}

async fn post(client: &Client, name: &str, verb: &str, query: Query, body: Option<&Value>) -> Result<()> {
    client.post(&format!("/containers/{}/{verb}", escape(name)), &query, body).await.map(|_| ())
}

/// One request a name; prints the names that went well and goes on after one that did not, as docker does.
pub async fn each(names: &[String], act: impl AsyncFn(&str) -> Result<()>) -> Result<ExitCode> {
    let mut code = ExitCode::SUCCESS;
    for name in names {
        match act(name).await {
            Ok(()) => table::println(name)?,
            Err(error) => {
                table::say(&error.chain());
                code = ExitCode::FAILURE;
            }
        }
    }
    Ok(code)
}
