//! `wharf compose run SERVICE [COMMAND]`: a container like the service's, for one command.

use std::io::{self, IsTerminal};
use std::process::ExitCode;

use clap::Args;
use serde_json::{Value, json};

use super::project::Work;
use super::up::Up;
use crate::cli::client::Query;
use crate::cli::session::{DETACH_KEYS, Keys, Seat};
use crate::cli::{run, spec};
use crate::compose::plan::{NUMBER, ONE_OFF};
use crate::compose::project::Service;
use crate::error::{Error, ErrorKind, Result};

/// Run a one-off command on a service
///
/// The services it depends on are started first. Its ports are not published, and nobody finds it by the service's name.
///
/// Examples:
///   wharf compose run --rm tool convert /models
///   wharf compose run --rm --entrypoint /check.wasm facedetection
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct Run {
    /// Run in the background and print the container's id
    #[arg(short, long)]
    detach: bool,
    /// Remove the container when it ends
    #[arg(long)]
    rm: bool,
    /// Without a terminal
    #[arg(short = 'T', long)]
    no_tty: bool,
    /// Name of the container
    #[arg(long)]
    name: Option<String>,
    /// Environment variable; NAME alone takes this environment's value
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    env: Vec<String>,
    /// Component to run instead of the service's
    #[arg(long)]
    entrypoint: Option<String>,
    #[arg(short, long)]
    workdir: Option<String>,
    /// Publish the service's ports
    #[arg(short = 'P', long)]
    service_ports: bool,
    /// Without the services that it depends on
    #[arg(long)]
    no_deps: bool,
    pub service: String,
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "COMMAND")]
    command: Vec<String>,
}

impl Run {
    pub async fn execute(self, work: Work) -> Result<ExitCode> {
        let service = work
            .project
            .services
            .get(&self.service)
            .ok_or_else(|| Error::new(ErrorKind::NotFound, format!("no such service: {}", self.service)))?;
        let chosen = work.project.chosen(std::slice::from_ref(&self.service), !self.no_deps);
        let needed: Vec<String> = chosen.iter().filter(|name| **name != self.service).cloned().collect();
        if !needed.is_empty() {
            Up::of(needed).raise(&work).await?;
        }
        let own = [self.service.clone()].into();
        work.make_images(&own, false).await?;
        work.prepare(&own).await?;
        work.await_dependencies(service, &chosen).await?;
        let terminal = !self.detach && !self.no_tty && io::stdin().is_terminal() && io::stdout().is_terminal();
        let body = self.body(work.project.request(service, 1)?, terminal);
        let query = Query::new().with("name", self.container(&work, service)?);
        let made = work.client.post("/containers/create", &query, Some(&body)).await?;
        let keys = Keys::parse(DETACH_KEYS).map_err(Error::invalid)?;
        let seat = Seat { tty: terminal, input: true, keys };
        run::begin(&work.client, &run::made_id(&made), self.rm, (!self.detach).then_some(seat)).await
    }

    /// The name that Compose would give it, with a random end.
    fn container(&self, work: &Work, service: &Service) -> Result<String> {
        if let Some(name) = &self.name {
            return Ok(name.clone());
        }
        let mut random = [0; 6];
        getrandom::fill(&mut random)
            .map_err(|error| Error::new(ErrorKind::Failed, "no random numbers").because(error.to_string()))?;
        let end: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(format!("{}-{}-run-{end}", work.project.name, service.name))
    }

    /// The service's own request, for one command.
    fn body(&self, mut body: Value, terminal: bool) -> Value {
        if !self.service_ports {
            body["ExposedPorts"] = json!({});
            body["HostConfig"]["PortBindings"] = json!({});
        }
        body["HostConfig"]["RestartPolicy"] = json!({"Name": "no", "MaximumRetryCount": 0});
        body["HostConfig"]["AutoRemove"] = self.rm.into();
        body["Labels"][ONE_OFF] = "True".into();
        if let Some(labels) = body["Labels"].as_object_mut() {
            labels.remove(NUMBER);
        }
        for endpoint in
            body["NetworkingConfig"]["EndpointsConfig"].as_object_mut().into_iter().flat_map(|all| all.values_mut())
        {
            endpoint["Aliases"] = json!([]);
        }
        let attached = !self.detach;
        body["Tty"] = terminal.into();
        for field in ["OpenStdin", "StdinOnce", "AttachStdin", "AttachStdout", "AttachStderr"] {
            body[field] = attached.into();
        }
        if let Value::Array(variables) = &mut body["Env"] {
            variables.extend(self.env.iter().filter_map(|typed| spec::variable(typed)).map(Value::from));
        }
        if let Some(entrypoint) = &self.entrypoint {
            body["Entrypoint"] = json!([entrypoint]);
            body["Cmd"] = json!([]);
        }
        if !self.command.is_empty() {
            body["Cmd"] = json!(self.command);
        }
        if let Some(folder) = &self.workdir {
            body["WorkingDir"] = folder.as_str().into();
        }
        body
    }
}
