//! The verbs that change a container's state and answer with nothing, and the small questions about one.

use std::time::SystemTime;

use axum::response::Response;
use http::StatusCode;
use serde_json::json;

use super::shapes;
use crate::container::{Changed, Event, EventKind};
use crate::control::call::{Call, empty, no_content, ok};
use crate::error::{Error, ErrorKind, Result};

fn done(changed: Changed) -> Result<Response> {
    match changed {
        Changed::Yes => no_content(),
        Changed::No => empty(StatusCode::NOT_MODIFIED),
    }
}

pub async fn start(call: Call, id: &str) -> Result<Response> {
    done(call.control.containers.start(id).await?)
}

pub async fn stop(call: Call, id: &str) -> Result<Response> {
    let timeout = call.query.number("t")?;
    done(call.control.containers.stop(id, timeout, call.query.text("signal")).await?)
}

pub async fn restart(call: Call, id: &str) -> Result<Response> {
    call.control.containers.restart(id, call.query.number("t")?).await?;
    no_content()
}

pub async fn kill(call: Call, id: &str) -> Result<Response> {
    call.control.containers.kill(id, call.query.text("signal").unwrap_or("KILL")).await?;
    no_content()
}

pub async fn pause(call: Call, id: &str) -> Result<Response> {
    call.control.containers.pause(id).await?;
    no_content()
}

pub async fn unpause(call: Call, id: &str) -> Result<Response> {
    call.control.containers.unpause(id).await?;
    no_content()
}

pub async fn rename(call: Call, id: &str) -> Result<Response> {
    let Some(name) = call.query.text("name") else {
        return Err(Error::invalid("Neither old nor new names may be empty"));
    };
    call.control.containers.rename(id, name.trim_start_matches('/')).await?;
    no_content()
}

pub async fn remove(call: Call, id: &str) -> Result<Response> {
    if call.query.flag("link") {
        return Err(Error::invalid("links are not offered by this host: there is none to remove"));
    }
    call.control.containers.remove(id, call.query.flag("force"), call.query.flag("v")).await?;
    no_content()
}

/// A component has no terminal: its size is checked and means nothing.
pub fn resize(call: &Call, id: &str) -> Result<Response> {
    let container = call.control.containers.find(id)?;
    terminal_size(call)?;
    if !container.status.has_task() {
        return Err(Error::new(ErrorKind::Conflict, format!("container {} is not running", container.id)));
    }
    empty(StatusCode::OK)
}

/// Columns and rows of the client's terminal, as `?w=` and `?h=`.
pub fn terminal_size(call: &Call) -> Result<(u16, u16)> {
    let size = |key| {
        let text = call.query.text(key).unwrap_or_default();
        text.parse::<u32>()
            .map(|size| u16::try_from(size).unwrap_or(u16::MAX))
            .map_err(|_| Error::invalid(format!("invalid resize {key} {text:?}: a number of cells is expected")))
    };
    let rows = size("h")?;
    Ok((size("w")?, rows))
}

/// One line: a component is one process as far as anybody can tell.
pub async fn top(call: Call, id: &str) -> Result<Response> {
    let container = call.control.containers.find(id)?;
    if !container.status.has_task() {
        return Err(Error::new(ErrorKind::Conflict, format!("container {} is not running", container.id)));
    }
    let usage = call.control.containers.usage(id).await?.unwrap_or_default();
    let seconds = usage.cpu.as_secs();
    let time = format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
    let started = container.started.unwrap_or(SystemTime::UNIX_EPOCH);
    let clock = shapes::clock(started);
    let terminal = if container.spec.tty { "pts/0" } else { "?" };
    let event = Event::new(EventKind::Container, "top", &container.id).with("name", &container.name);
    call.control.containers.events().publish(event.with("image", &container.spec.image));
    let command = shapes::command(&container.spec);
    ok(&json!({
        "Titles": ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"],
        "Processes": [["root", "1", "0", "0", clock, terminal, time, command]],
    }))
}
