//! `wharf compose up`: networks, volumes, images and containers as the file says, in the order of their dependencies.

use std::collections::BTreeSet;
use std::process::ExitCode;

use clap::Args;
use serde_json::Value;

use super::follow::{self, Source};
use super::project::{Member, Work};
use crate::cli::client::{Query, escape};
use crate::cli::table;
use crate::compose::plan::HASH;
use crate::compose::ports::{self, Claim, Published};
use crate::compose::project::Service;
use crate::error::{Error, Result};

/// Create and start the services
///
/// In the foreground their output is shown, each line after its service's name; Ctrl-C stops them all.
#[derive(Debug, Default, Args)]
pub struct Up {
    /// Run in the background
    #[arg(short, long)]
    detach: bool,
    /// Build images first
    #[arg(long)]
    build: bool,
    /// Make containers again even if nothing changed
    #[arg(long, conflicts_with = "no_recreate")]
    force_recreate: bool,
    /// Leave containers alone even if something changed
    #[arg(long)]
    no_recreate: bool,
    /// Without the services that the named ones depend on
    #[arg(long)]
    no_deps: bool,
    /// Remove containers of services that are no longer in the file
    #[arg(long)]
    remove_orphans: bool,
    /// Create, and start nothing
    #[arg(long)]
    no_start: bool,
    /// In the foreground: stop all when one ends, with its exit code
    #[arg(long, conflicts_with = "detach")]
    abort_on_container_exit: bool,
    /// How many containers a service has
    #[arg(long, value_name = "SERVICE=NUMBER", value_parser = scale)]
    pub scale: Vec<(String, u32)>,
    pub services: Vec<String>,
}

fn scale(typed: &str) -> std::result::Result<(String, u32), String> {
    let parts = typed.split_once('=').and_then(|(name, number)| Some((name.to_owned(), number.parse().ok()?)));
    parts.ok_or_else(|| format!("invalid scale specifier {typed:?}: write SERVICE=NUMBER"))
}

impl Up {
    /// Without any flag.
    pub fn of(services: Vec<String>) -> Up {
        Up { services, ..Up::default() }
    }

    pub async fn execute(self, work: Work) -> Result<ExitCode> {
        let sources = self.raise(&work).await?;
        if self.detach || self.no_start {
            return Ok(ExitCode::SUCCESS);
        }
        follow::foreground(&work, sources, self.abort_on_container_exit).await
    }

    /// Everything made and, unless that was not asked for, started; in the order of their dependencies.
    pub async fn raise(&self, work: &Work) -> Result<Vec<Source>> {
        let chosen = work.project.chosen(&self.services, !self.no_deps);
        work.check_ports(&chosen).await?;
        work.make_images(&chosen, self.build).await?;
        work.prepare(&chosen).await?;
        let members = work.members().await?;
        let orphans: Vec<&Member> = members.iter().filter(|member| work.is_orphan(member)).collect();
        self.tidy(work, &orphans).await?;
        let kept = self.clear(work, &chosen, &members).await?;
        let mut sources = Vec::new();
        for service in work.project.order()?.into_iter().filter(|service| chosen.contains(&service.name)) {
            for number in 1..=service.replicas()? {
                let is_kept = kept.contains(&(service.name.clone(), number));
                let source = work.create(service, number, is_kept).await?;
                if !self.no_start {
                    work.await_dependencies(service, &chosen).await?;
                    work.start(&source).await?;
                }
                sources.push(source);
            }
        }
        Ok(sources)
    }

    async fn tidy(&self, work: &Work, orphans: &[&Member]) -> Result<()> {
        if self.remove_orphans {
            for orphan in orphans {
                work.remove(orphan, false).await?;
            }
        } else if !orphans.is_empty() {
            let names: Vec<&str> = orphans.iter().map(|member| member.name.as_str()).collect();
            table::say(&format!(
                "WARNING: containers of services that are not in the file: {}; remove them with --remove-orphans",
                names.join(", ")
            ));
        }
        Ok(())
    }

    /// Removes what must be made again, all of it before anything is made: ports may have changed hands. Returns
    /// those that stay, by service and number.
    async fn clear(&self, work: &Work, chosen: &BTreeSet<String>, members: &[Member]) -> Result<Kept> {
        let mut kept = BTreeSet::new();
        for service in work.project.services.values().filter(|service| chosen.contains(&service.name)) {
            for member in members.iter().filter(|one| !one.one_off && one.service == service.name) {
                let wanted = member.number <= service.replicas()?;
                let same =
                    wanted && (self.no_recreate || (!self.force_recreate && work.is_current(service, member).await?));
                if same {
                    kept.insert((service.name.clone(), member.number));
                } else {
                    work.client.post(&format!("/containers/{}/stop", member.id), &Query::new(), None).await?;
                    work.remove(member, false).await?;
                }
            }
        }
        Ok(kept)
    }
}

/// Containers that stay as they are: service and number.
type Kept = BTreeSet<(String, u32)>;

impl Work {
    /// Two that ask for one port of the host are told before anything is touched.
    async fn check_ports(&self, chosen: &BTreeSet<String>) -> Result<()> {
        let own: BTreeSet<String> = self.members().await?.into_iter().map(|member| member.id).collect();
        let running = self.client.get("/containers/json", &Query::new()).await?;
        let strangers = running.as_array().into_iter().flatten();
        let strangers = strangers.filter(|one| !own.contains(one["Id"].as_str().unwrap_or_default()));
        let mut claims: Vec<Claim<'_>> = strangers.map(claim).collect();
        claims.extend(self.project.claims(chosen)?);
        ports::check(&claims)
    }

    /// Made from this configuration and this image.
    async fn is_current(&self, service: &Service, member: &Member) -> Result<bool> {
        let Some(state) = self.found(&format!("/containers/{}/json", member.id)).await? else { return Ok(false) };
        let Some(image) = self.found(&format!("/images/{}/json", self.project.image(service))).await? else {
            return Ok(true);
        };
        let named = member.name == self.project.container_name(service, member.number);
        Ok(named && state["Config"]["Labels"][HASH] == service.hash().as_str() && state["Image"] == image["Id"])
    }

    async fn create(&self, service: &Service, number: u32, kept: bool) -> Result<Source> {
        let name = self.project.container_name(service, number);
        if !kept {
            let body = self.project.request(service, number)?;
            let query = Query::new().with("name", &name).some("platform", service.text("platform"));
            let made = self.client.post("/containers/create", &query, Some(&body)).await;
            let made = made.map_err(|error| blamed(&service.name, &error))?;
            for warning in made["Warnings"].as_array().into_iter().flatten().filter_map(Value::as_str) {
                table::say(&format!("WARNING: service {}: {warning}", service.name));
            }
            table::say(&format!("Container {name}  Created"));
        }
        let state = self.client.get(&format!("/containers/{}/json", escape(&name)), &Query::new()).await?;
        let shown = if service.replicas()? > 1 { format!("{}-{number}", service.name) } else { service.name.clone() };
        Ok(Source::new(&shown, &state))
    }

    async fn start(&self, source: &Source) -> Result<()> {
        let word = if source.running { "Running" } else { "Started" };
        if !source.running {
            let path = format!("/containers/{}/start", source.id);
            let started = self.client.post(&path, &Query::new(), None).await;
            started.map_err(|error| blamed(&source.service, &error))?;
        }
        table::say(&format!("Container {}  {word}", source.name));
        Ok(())
    }
}

fn blamed(service: &str, error: &Error) -> Error {
    Error::new(error.kind(), format!("service {service}")).because(error.chain())
}

/// What a running container that is not of this project has of the host's ports.
fn claim(row: &Value) -> Claim<'static> {
    let port = |port: &Value| {
        let number = |key: &str| port[key].as_u64().and_then(|number| u16::try_from(number).ok());
        Some(Published {
            address: port["IP"].as_str().unwrap_or_default().to_owned(),
            published: Some(number("PublicPort")?),
            target: number("PrivatePort")?,
            protocol: port["Type"].as_str().unwrap_or("tcp").to_owned(),
        })
    };
    let name = row["Names"][0].as_str().unwrap_or_default().trim_start_matches('/').to_owned();
    let ports = row["Ports"].as_array().into_iter().flatten().filter_map(port).collect();
    Claim { kind: "container", name: name.into(), ports }
}
