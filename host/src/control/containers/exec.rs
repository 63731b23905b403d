//! `docker exec`: make, start, ask.

use axum::response::Response;
use http::{Method, StatusCode};
use serde::Deserialize;
use serde_json::json;

use crate::container::{ExecSpec, ExecState};
use crate::control::call::{Call, created, empty, ok};
use crate::control::hijack::{self, Pipe};
use crate::control::router::unknown;
use crate::control::stream::Wire;
use crate::error::{Error, Result};

use super::create::request::Words;
use super::verbs;

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct CreateRequest {
    user: String,
    privileged: bool,
    tty: bool,
    attach_stdin: bool,
    attach_stdout: bool,
    attach_stderr: bool,
    detach_keys: String,
    env: Vec<String>,
    working_dir: String,
    cmd: Words,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct StartRequest {
    detach: bool,
    /// Height, width.
    console_size: Option<(u16, u16)>,
}

pub async fn route(call: Call, method: &Method, id: &str, verb: &str) -> Result<Response> {
    match (method.as_str(), verb) {
        ("POST", "start") => start(call, id).await,
        ("POST", "resize") => resize(&call, id),
        ("GET", "json") => inspect(&call, id),
        _ => Err(unknown()),
    }
}

/// `POST /containers/{id}/exec`.
pub async fn create(mut call: Call, id: &str) -> Result<Response> {
    let request: CreateRequest = call.json().await?;
    let argv = request.cmd.into_list();
    if argv.is_empty() {
        return Err(Error::invalid("no exec command specified"));
    }
    let spec = ExecSpec {
        argv,
        environment: request.env,
        working_dir: request.working_dir,
        tty: request.tty,
        attach_stdin: request.attach_stdin,
        attach_stdout: request.attach_stdout,
        attach_stderr: request.attach_stderr,
        user: request.user,
        privileged: request.privileged,
        detach_keys: request.detach_keys,
    };
    created(&json!({"Id": call.control.containers.exec_create(id, spec).await?}))
}

/// Errors are answered before the connection becomes raw: afterwards nobody could read them.
async fn start(mut call: Call, id: &str) -> Result<Response> {
    let request: StartRequest = call.json().await?;
    let size = request.console_size.map(|(height, width)| (width, height));
    let state = call.control.containers.exec_inspect(id)?;
    let streams = call.control.containers.exec_start(id, size).await?;
    if request.detach {
        // Dropping the streams leaves the command running.
        return empty(StatusCode::OK);
    }
    let pipe = Pipe { output: streams.output, input: streams.stdin, end: Some(streams.done) };
    Ok(hijack::answer(call, Wire::of(state.spec.tty), pipe))
}

fn resize(call: &Call, id: &str) -> Result<Response> {
    call.control.containers.exec_inspect(id)?;
    let (columns, rows) = verbs::terminal_size(call)?;
    call.control.containers.exec_resize(id, columns, rows)?;
    empty(StatusCode::OK)
}

fn inspect(call: &Call, id: &str) -> Result<Response> {
    let ExecState { id, container, spec, running, exit } = call.control.containers.exec_inspect(id)?;
    let (entrypoint, arguments) =
        spec.argv.split_first().map_or((String::new(), Vec::new()), |(first, rest)| (first.clone(), rest.to_vec()));
    ok(&json!({
        "ID": id, "Running": running, "ExitCode": exit.map(|exit| exit.code),
        "ProcessConfig": {
            "tty": spec.tty, "entrypoint": entrypoint, "arguments": arguments, "privileged": spec.privileged,
            "user": spec.user,
        },
        "OpenStdin": spec.attach_stdin, "OpenStdout": spec.attach_stdout, "OpenStderr": spec.attach_stderr,
        "CanRemove": !running, "ContainerID": container, "DetachKeys": spec.detach_keys,
        "Pid": if running { std::process::id() } else { 0 },
    }))
}
