//! What a service waits for before it starts: others that run, are healthy, or are done.

use std::collections::BTreeSet;

use http::Method;
use serde_json::{Value, json};

use super::project::Work;
use crate::cli::client::{Call, Query, escape};
use crate::cli::stream::Objects;
use crate::cli::table;
use crate::compose::project::Service;
use crate::error::{Error, ErrorKind, Result};

impl Work {
    pub async fn await_dependencies(&self, service: &Service, chosen: &BTreeSet<String>) -> Result<()> {
        for (name, condition) in service.depends_on() {
            let Some(other) = self.project.services.get(&name).filter(|_| chosen.contains(&name)) else { continue };
            let required = service.keys["depends_on"][&name]["required"] != false;
            match self.await_all(other, &condition).await {
                Err(error) if required => {
                    let message = format!("service {} cannot start: it depends on {name}", service.name);
                    return Err(Error::new(ErrorKind::Failed, message).because(error.chain()));
                }
                Err(error) => table::say(&format!("WARNING: service {}: {}", service.name, error.chain())),
                Ok(()) => {}
            }
        }
        Ok(())
    }

    async fn await_all(&self, other: &Service, condition: &str) -> Result<()> {
        for number in 1..=other.replicas()? {
            self.await_condition(&self.project.container_name(other, number), condition).await?;
        }
        Ok(())
    }

    async fn await_condition(&self, container: &str, condition: &str) -> Result<()> {
        if condition == "service_started" {
            return Ok(());
        }
        // Events first, then the state: nothing that happens in between is missed.
        let filters = json!({"container": {container: true}, "type": {"container": true}}).to_string();
        let query = Query::new().with("filters", filters);
        let mut events =
            Objects::new(self.client.send(Method::GET, "/events", &query, Call::empty()).await?.into_body());
        let path = format!("/containers/{}/json", escape(container));
        let mut told = false;
        loop {
            let state = self.client.get(&path, &Query::new()).await?;
            let met = if condition == "service_healthy" { healthy(container, &state) } else { done(container, &state) };
            if met? {
                if told {
                    let word = if condition == "service_healthy" { "Healthy" } else { "Exited" };
                    table::say(&format!("Container {container}  {word}"));
                }
                return Ok(());
            }
            if !std::mem::replace(&mut told, true) {
                table::say(&format!("Container {container}  Waiting"));
            }
            if events.next().await?.is_none() {
                return Err(Error::new(ErrorKind::Io, "the daemon stopped telling its events"));
            }
        }
    }
}

fn healthy(container: &str, state: &Value) -> Result<bool> {
    let state = &state["State"];
    let failed = |what: String| Err(Error::new(ErrorKind::Failed, format!("container {container} {what}")));
    match (state["Status"].as_str(), state["Health"]["Status"].as_str()) {
        (Some("exited" | "dead"), _) => failed(format!("exited ({})", state["ExitCode"])),
        (_, Some("healthy")) => Ok(true),
        (_, Some("unhealthy")) => {
            let last = state["Health"]["Log"].as_array().and_then(|log| log.last());
            let said = last.and_then(|entry| entry["Output"].as_str()).unwrap_or_default().trim();
            failed(if said.is_empty() { "is unhealthy".to_owned() } else { format!("is unhealthy: {said}") })
        }
        (_, Some("starting")) => Ok(false),
        _ => {
            failed("has no health check: write `healthcheck:` in the file, or HEALTHCHECK in its Dockerfile".to_owned())
        }
    }
}

fn done(container: &str, state: &Value) -> Result<bool> {
    let state = &state["State"];
    match (state["Status"].as_str(), state["ExitCode"].as_i64()) {
        (Some("exited"), Some(0)) => Ok(true),
        (Some("exited" | "dead"), code) => {
            let message = format!("container {container} didn't complete successfully: exit {}", code.unwrap_or(-1));
            Err(Error::new(ErrorKind::Failed, message))
        }
        _ => Ok(false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_and_what_they_mean() {
        let state = |status: &str, code: i64, health: &str| {
            let health = json!({"Status": health, "Log": [{"Output": "503"}]});
            json!({"State": {"Status": status, "ExitCode": code, "Health": health}})
        };
        assert!(healthy("c", &state("running", 0, "healthy")).unwrap());
        assert!(!healthy("c", &state("running", 0, "starting")).unwrap());
        let error = |state: &Value| healthy("c", state).unwrap_err().to_string();
        assert_eq!(error(&state("running", 0, "unhealthy")), "container c is unhealthy: 503");
        assert_eq!(error(&state("exited", 7, "starting")), "container c exited (7)");
        assert!(error(&json!({"State": {"Status": "running"}})).contains("has no health check"));
        assert!(done("c", &state("exited", 0, "")).unwrap() && !done("c", &state("running", 0, "")).unwrap());
        let error = done("c", &state("exited", 3, "")).unwrap_err().to_string();
        assert_eq!(error, "container c didn't complete successfully: exit 3");
    }
}
