//! `wharf compose down`, `stop`, `start`, `restart`.

use clap::{Args, ValueEnum};

use super::project::{Member, Work};
use crate::cli::client::{Query, escape};
use crate::cli::table;
use crate::compose::plan::is_external;
use crate::error::{Error, ErrorKind, Result};

/// Stop and remove containers and networks
#[derive(Debug, Args)]
pub struct Down {
    /// Volumes of the file and anonymous ones too
    #[arg(short, long)]
    volumes: bool,
    /// Images too: all, or local for those without a name of their own
    #[arg(long, value_name = "WHICH", num_args = 0..=1, default_missing_value = "all")]
    rmi: Option<Images>,
    /// Containers of services that are no longer in the file too
    #[arg(long)]
    remove_orphans: bool,
    /// Seconds to stop in
    #[arg(short, long)]
    timeout: Option<i64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Images {
    All,
    Local,
}

#[derive(Debug, Args)]
pub struct Services {
    pub services: Vec<String>,
}

#[derive(Debug, Args)]
pub struct Stop {
    /// Seconds to stop in
    #[arg(short, long)]
    timeout: Option<i64>,
    #[command(flatten)]
    pub of: Services,
}

impl Services {
    pub async fn start(self, work: Work) -> Result<()> {
        let members = work.members_of(&self.services).await?;
        if members.is_empty() {
            return Err(none(&work));
        }
        let chosen = work.project.chosen(&self.services, false);
        for service in work.project.order()?.into_iter().filter(|service| chosen.contains(&service.name)) {
            for member in members.iter().filter(|member| member.service == service.name) {
                work.await_dependencies(service, &chosen).await?;
                work.client.post(&format!("/containers/{}/start", member.id), &Query::new(), None).await?;
                table::say(&format!("Container {}  Started", member.name));
            }
        }
        Ok(())
    }
}

impl Stop {
    pub async fn execute(self, work: Work, verb: &str) -> Result<()> {
        let mut members = work.members_of(&self.of.services).await?;
        if members.is_empty() {
            return Err(none(&work));
        }
        work.sort_for_stopping(&mut members)?;
        let word = if verb == "stop" { "Stopped" } else { "Restarted" };
        for member in members.iter().filter(|member| member.running || verb == "restart") {
            let query = Query::new().some("t", self.timeout.map(|seconds| seconds.to_string()));
            work.client.post(&format!("/containers/{}/{verb}", member.id), &query, None).await?;
            table::say(&format!("Container {}  {word}", member.name));
        }
        Ok(())
    }
}

pub fn none(work: &Work) -> Error {
    let name = &work.project.name;
    let message = format!("project {name} has no such containers: make them with `wharf compose up`");
    Error::new(ErrorKind::NotFound, message)
}

impl Down {
    pub async fn execute(self, work: Work) -> Result<()> {
        let mut members = work.members().await?;
        work.sort_for_stopping(&mut members)?;
        let (gone, orphans): (Vec<Member>, Vec<Member>) =
            members.into_iter().partition(|member| self.remove_orphans || !work.is_orphan(member));
        for member in &gone {
            if member.running {
                let query = Query::new().some("t", self.timeout.map(|seconds| seconds.to_string()));
                work.client.post(&format!("/containers/{}/stop", member.id), &query, None).await?;
                table::say(&format!("Container {}  Stopped", member.name));
            }
            work.remove(member, self.volumes).await?;
        }
        if !orphans.is_empty() {
            let names: Vec<&str> = orphans.iter().map(|member| member.name.as_str()).collect();
            table::say(&format!(
                "WARNING: containers of services that are not in the file stay: {}; remove them with --remove-orphans",
                names.join(", ")
            ));
        }
        self.networks(&work).await?;
        if self.volumes {
            let project = &work.project;
            for (key, _) in project.volumes.iter().filter(|(_, settings)| !is_external(settings)) {
                drop_one(&work, "Volume", &project.volume_name(key), "volumes").await?;
            }
        }
        self.images(&work).await
    }

    async fn networks(&self, work: &Work) -> Result<()> {
        let project = &work.project;
        let declared =
            project.networks.iter().filter(|(_, settings)| !is_external(settings)).map(|(key, _)| key.as_str());
        let mut keys: Vec<&str> = declared.collect();
        if !project.networks.contains_key("default") {
            keys.push("default");
        }
        for key in keys {
            drop_one(work, "Network", &project.network_name(key), "networks").await?;
        }
        Ok(())
    }

    async fn images(&self, work: &Work) -> Result<()> {
        let Some(which) = self.rmi else { return Ok(()) };
        for service in work.project.services.values().chain(work.project.resting.values()) {
            if which == Images::All || !service.keys.contains_key("image") {
                drop_one(work, "Image", &work.project.image(service), "images").await?;
            }
        }
        Ok(())
    }
}

/// One that is not there is as good as removed; one that others use stays.
async fn drop_one(work: &Work, title: &str, name: &str, kinds: &str) -> Result<()> {
    match work.client.delete(&format!("/{kinds}/{}", escape(name)), &Query::new()).await {
        Ok(_) => table::say(&format!("{title} {name}  Removed")),
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) if matches!(error.kind(), ErrorKind::Conflict | ErrorKind::Forbidden) => {
            table::say(&format!("WARNING: {title} {name} stays: {}", error.chain()));
        }
        Err(error) => return Err(error),
    }
    Ok(())
}

impl Work {
    /// Dependents before what they depend on.
    fn sort_for_stopping(&self, members: &mut [Member]) -> Result<()> {
        let order: Vec<&String> = self.project.order()?.into_iter().map(|service| &service.name).collect();
        members.sort_by_key(|member| std::cmp::Reverse(order.iter().position(|name| **name == member.service)));
        Ok(())
    }
}
