//! A project and what the daemon has of it: containers, networks, volumes.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::cli::client::{Client, Query, escape};
use crate::cli::table;
use crate::compose::plan::{NUMBER, ONE_OFF, PROJECT, SERVICE, is_external};
use crate::compose::project::Project;
use crate::error::{Error, ErrorKind, Result};

pub struct Work {
    pub client: Client,
    pub project: Project,
}

/// One container of the project, as a list shows it.
#[derive(Clone, Debug)]
pub struct Member {
    pub id: String,
    pub name: String,
    pub service: String,
    /// Of the service's containers, from 1 up.
    pub number: u32,
    pub running: bool,
    /// Made for one command, not by `up`.
    pub one_off: bool,
    pub row: Value,
}

impl Work {
    /// Nothing where the daemon has nothing.
    pub async fn found(&self, path: &str) -> Result<Option<Value>> {
        match self.client.get(path, &Query::new()).await {
            Ok(found) => Ok(Some(found)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Everything that carries the project's label, in the order of the names.
    pub async fn members(&self) -> Result<Vec<Member>> {
        let label = format!("label={PROJECT}={}", self.project.name);
        let query = Query::new().flag("all", true).filters(&[label])?;
        let found = self.client.get("/containers/json", &query).await?;
        let mut members: Vec<Member> = found.as_array().into_iter().flatten().map(member).collect();
        members.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(members)
    }

    /// Those of the services named, or of all.
    pub async fn members_of(&self, services: &[String]) -> Result<Vec<Member>> {
        let members = self.members().await?;
        let wanted = |one: &Member| !one.one_off && (services.is_empty() || services.contains(&one.service));
        Ok(members.into_iter().filter(wanted).collect())
    }

    /// The container of a service to turn to: the one of that number, else the first that runs.
    pub async fn running(&self, service: &str, index: Option<u32>) -> Result<Member> {
        let members = self.members_of(&[service.to_owned()]).await?;
        let asked_for = |one: &Member| one.running && index.is_none_or(|index| one.number == index);
        members.into_iter().filter(asked_for).min_by_key(|one| one.number).ok_or_else(|| {
            let which = index.map_or_else(String::new, |index| format!(" container #{index}"));
            let message = format!("service {service} is not running{which}: start it with `wharf compose up -d`");
            Error::new(ErrorKind::Conflict, message)
        })
    }

    /// Belongs to the project, and to no service of its file.
    pub fn is_orphan(&self, member: &Member) -> bool {
        !self.project.services.contains_key(&member.service) && !self.project.resting.contains_key(&member.service)
    }

    pub async fn remove(&self, member: &Member, volumes: bool) -> Result<()> {
        let query = Query::new().flag("force", true).flag("v", volumes);
        match self.client.delete(&format!("/containers/{}", member.id), &query).await {
            // Made with `--rm`: it went when it was stopped.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            removed => drop(removed?),
        }
        table::say(&format!("Container {}  Removed", member.name));
        Ok(())
    }

    /// What the chosen services join and mount; what is external must be there.
    pub async fn prepare(&self, chosen: &BTreeSet<String>) -> Result<()> {
        let project = &self.project;
        let services = || project.services.values().filter(|service| chosen.contains(&service.name));
        let networks: BTreeSet<&String> = services().flat_map(|service| service.networks()).collect();
        for key in networks {
            let settings = project.networks.get(key).unwrap_or(&Value::Null);
            self.make("network", "networks", key, &project.network_name(key), settings).await?;
        }
        let volumes: BTreeSet<&str> = services().flat_map(|service| service.volumes()).collect();
        for key in volumes {
            let settings = project.volumes.get(key).unwrap_or(&Value::Null);
            self.make("volume", "volumes", key, &project.volume_name(key), settings).await?;
        }
        Ok(())
    }

    async fn make(&self, kind: &str, kinds: &str, key: &str, name: &str, settings: &Value) -> Result<()> {
        if self.found(&format!("/{kinds}/{}", escape(name))).await?.is_some() {
            return Ok(());
        }
        if is_external(settings) {
            return Err(Error::new(
                ErrorKind::NotFound,
                format!(
                    "{kind} {name} is declared as external and is not there: make it with `wharf {kind} create {name}`"
                ),
            ));
        }
        let mut labels = crate::compose::variables::pairs(settings.get("labels"), &format!("{kinds}.{key}.labels"))?;
        labels.insert(PROJECT.to_owned(), self.project.name.clone().into());
        labels.insert(format!("com.docker.compose.{kind}"), key.into());
        let options = settings["driver_opts"].as_object().cloned().unwrap_or_default();
        let driver = settings["driver"].as_str();
        let body = if kind == "network" {
            json!({
                "Name": name, "Driver": driver.unwrap_or("bridge"), "Labels": labels, "Options": options,
                "Internal": settings["internal"] == true, "Attachable": settings["attachable"] == true,
                "IPAM": addresses(&settings["ipam"]),
            })
        } else {
            json!({"Name": name, "Driver": driver.unwrap_or("local"), "DriverOpts": options, "Labels": labels})
        };
        self.client.post(&format!("/{kinds}/create"), &Query::new(), Some(&body)).await?;
        let title = if kind == "network" { "Network" } else { "Volume" };
        table::say(&format!("{title} {name}  Created"));
        Ok(())
    }
}

/// `ipam: {config: [{subnet, gateway}]}` in the API's spelling.
fn addresses(ipam: &Value) -> Value {
    let one = |range: &Value| {
        let mut out = json!({"Subnet": range["subnet"]});
        if range["gateway"].is_string() {
            out["Gateway"] = range["gateway"].clone();
        }
        out
    };
    let ranges: Vec<Value> = ipam["config"].as_array().into_iter().flatten().map(one).collect();
    json!({"Driver": "default", "Config": ranges})
}

fn member(row: &Value) -> Member {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    Member {
        id: text(&row["Id"]),
        name: text(&row["Names"][0]).trim_start_matches('/').to_owned(),
        service: text(&row["Labels"][SERVICE]),
        number: text(&row["Labels"][NUMBER]).parse().unwrap_or(1),
        one_off: row["Labels"][ONE_OFF] == "True",
        running: matches!(row["State"].as_str(), Some("running" | "paused" | "restarting")),
        row: row.clone(),
    }
}
