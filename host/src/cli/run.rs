//! `wharf run`, `create`, `start`, `attach`, `exec`: a container or a command in one, and a person at it.

use std::process::ExitCode;

use clap::Args;
use http::Method;
use serde_json::{Value, json};

use super::client::{Call, Client, Query, escape};
use super::session::{self, Left, Seat};
use super::spec::SpecFlags;
use super::stream::Objects;
use super::{table, transfer};
use crate::error::{Error, ErrorKind, Result};

/// Create and run a new container from an image
///
/// Examples:
///   wharf run -d -p 5000:5000 --restart always --name digits digits
///   wharf run --rm tool --help
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct Run {
    /// Run in the background and print the container's id
    #[arg(short, long)]
    detach: bool,
    /// Keys that leave a container running
    #[arg(long, default_value = session::DETACH_KEYS, value_parser = session::Keys::parse)]
    detach_keys: session::Keys,
    #[command(flatten)]
    spec: SpecFlags,
}

/// Create a new container
#[derive(Debug, Args)]
pub struct Create {
    #[command(flatten)]
    spec: SpecFlags,
}

/// Start one or more stopped containers
#[derive(Debug, Args)]
pub struct Start {
    /// Attach stdout and stderr, and forward signals
    #[arg(short, long)]
    attach: bool,
    /// Attach stdin
    #[arg(short, long)]
    interactive: bool,
    /// Keys that leave a container running
    #[arg(long, default_value = session::DETACH_KEYS, value_parser = session::Keys::parse)]
    detach_keys: session::Keys,
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

/// Attach stdin, stdout and stderr to a running container
#[derive(Debug, Args)]
pub struct Attach {
    #[arg(long)]
    no_stdin: bool,
    /// Keys that leave it running
    #[arg(long, default_value = session::DETACH_KEYS, value_parser = session::Keys::parse)]
    detach_keys: session::Keys,
    #[arg(value_name = "CONTAINER")]
    container: String,
}

/// Execute a command in a running container
///
/// Examples:
///   wharf exec -it digits sh
///   wharf exec digits /tool.wasm --version
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct Exec {
    /// Run it in the background
    #[arg(short, long)]
    detach: bool,
    /// Keys that leave it running
    #[arg(long, default_value = session::DETACH_KEYS, value_parser = session::Keys::parse)]
    detach_keys: session::Keys,
    /// Keep stdin open
    #[arg(short, long)]
    interactive: bool,
    /// Give it a terminal
    #[arg(short, long)]
    tty: bool,
    /// NAME=VALUE
    #[arg(short, long)]
    env: Vec<String>,
    /// Folder to run it in
    #[arg(short, long)]
    workdir: Option<String>,
    #[arg(short, long)]
    user: Option<String>,
    #[arg(value_name = "CONTAINER")]
    container: String,
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "COMMAND")]
    command: Vec<String>,
}

impl Run {
    pub async fn execute(self, client: Client) -> Result<ExitCode> {
        let seat = Seat { tty: self.spec.tty, input: self.spec.interactive, keys: self.detach_keys };
        if !self.detach {
            seat.check()?;
        }
        // Whatever keeps the container from running is 125, as docker's: other codes are the container's.
        let id = match create(&client, &self.spec, !self.detach).await {
            Ok(id) => id,
            Err(error) => return Ok(failed(&error)),
        };
        begin(&client, &id, self.spec.rm, (!self.detach).then_some(seat)).await
    }
}

/// Start what was created. With somebody at it, its exit code; in the background, its id is printed.
pub async fn begin(client: &Client, id: &str, removed: bool, at: Option<Seat>) -> Result<ExitCode> {
    let condition = if removed { "removed" } else { "next-exit" };
    match start(client, id, condition, at).await {
        Ok(Some(code)) => Ok(code),
        Ok(None) => table::println(id).map(|()| ExitCode::SUCCESS),
        Err(error) => Ok(failed(&error)),
    }
}

impl Create {
    pub async fn execute(self, client: Client) -> Result<ExitCode> {
        let id = create(&client, &self.spec, true).await?;
        table::println(&id).map(|()| ExitCode::SUCCESS)
    }
}

impl Start {
    pub async fn execute(self, client: Client) -> Result<ExitCode> {
        if self.attach || self.interactive {
            let [container] = &self.containers[..] else {
                return Err(Error::invalid("you cannot start and attach multiple containers at once"));
            };
            let (id, tty) = inspect(&client, container).await?;
            let seat = Seat { tty, input: self.interactive, keys: self.detach_keys };
            let code = start(&client, &id, "next-exit", Some(seat)).await?;
            return Ok(code.unwrap_or(ExitCode::SUCCESS));
        }
        let mut failed = Vec::new();
        for name in &self.containers {
            match client.post(&format!("/containers/{}/start", escape(name)), &Query::new(), None).await {
                Ok(_) => table::println(name)?,
                Err(error) => {
                    table::say(&error.chain());
                    failed.push(name.as_str());
                }
            }
        }
        if failed.is_empty() {
            return Ok(ExitCode::SUCCESS);
        }
        Err(Error::new(ErrorKind::Failed, format!("Error: failed to start containers: {}", failed.join(", "))))
    }
}

impl Attach {
    pub async fn execute(self, client: Client) -> Result<ExitCode> {
        let state = client.get(&format!("/containers/{}/json", escape(&self.container)), &Query::new()).await?;
        for (flag, wanted, words) in [
            ("Running", true, "a stopped container, start it first"),
            ("Paused", false, "a paused container, unpause it first"),
            ("Restarting", false, "a restarting container, wait until it is running"),
        ] {
            if state["State"][flag].as_bool().unwrap_or(false) != wanted {
                return Err(Error::new(ErrorKind::Conflict, format!("You cannot attach to {words}")));
            }
        }
        let (id, tty) = identity(&state);
        let mut exit = wait(&client, &id, "not-running").await?;
        let seat = Seat { tty, input: !self.no_stdin, keys: self.detach_keys };
        match join(&client, &id, seat).await? {
            Left::Ended => exit_code(&mut exit).await,
            Left::Detached => Ok(ExitCode::SUCCESS),
        }
    }
}

impl Exec {
    pub async fn execute(self, client: Client) -> Result<ExitCode> {
        let seat = Seat { tty: self.tty, input: self.interactive, keys: self.detach_keys };
        if !self.detach {
            seat.check()?;
        }
        let body = json!({
            "AttachStdin": self.interactive && !self.detach, "AttachStdout": !self.detach,
            "AttachStderr": !self.detach, "Tty": self.tty, "Env": self.env, "Cmd": self.command,
            "WorkingDir": self.workdir.as_deref().unwrap_or(""), "User": self.user.as_deref().unwrap_or(""),
        });
        let container = escape(&self.container);
        let made = client.post(&format!("/containers/{container}/exec"), &Query::new(), Some(&body)).await?;
        let exec = made["Id"].as_str().unwrap_or_default().to_owned();
        let path = format!("/exec/{exec}/start");
        let how = json!({"Detach": self.detach, "Tty": self.tty});
        if self.detach {
            client.post(&path, &Query::new(), Some(&how)).await?;
            return Ok(ExitCode::SUCCESS);
        }
        let raw = seat.raw()?;
        let connection = client.hijack(&path, &Query::new(), Some(&how)).await?;
        if self.tty {
            tokio::spawn(session::follow_size(client.clone(), format!("/exec/{exec}")));
        }
        let left = session::carry(connection, seat).await?;
        drop(raw);
        if left == Left::Detached {
            return Ok(ExitCode::SUCCESS);
        }
        let ended = client.get(&format!("/exec/{exec}/json"), &Query::new()).await?;
        Ok(code(ended["ExitCode"].as_i64().unwrap_or(0)))
    }
}

/// Create, after pulling the image where it is missing or was asked for. Returns the id.
async fn create(client: &Client, spec: &SpecFlags, attached: bool) -> Result<String> {
    let body = spec.body(attached)?;
    let query = Query::new().some("name", spec.name.clone()).some("platform", spec.platform.clone());
    if spec.pull == "always" {
        transfer::pull_aside(client, &spec.image).await?;
    }
    let made = match client.post("/containers/create", &query, Some(&body)).await {
        Err(error) if error.kind() == ErrorKind::NotFound && spec.pull != "never" => {
            table::say(&format!("Unable to find image '{}' locally", spec.image));
            transfer::pull_aside(client, &spec.image).await?;
            client.post("/containers/create", &query, Some(&body)).await?
        }
        made => made?,
    };
    Ok(made_id(&made))
}

/// The id of what was created, after its warnings.
pub fn made_id(made: &Value) -> String {
    for warning in made["Warnings"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        table::say(&format!("WARNING: {warning}"));
    }
    made["Id"].as_str().unwrap_or_default().to_owned()
}

/// Attach (if somebody looks), wait, start: in this order, so that neither output nor the end can be missed.
async fn start(client: &Client, id: &str, condition: &str, at: Option<Seat>) -> Result<Option<ExitCode>> {
    let path = format!("/containers/{id}/start");
    let Some(seat) = at else {
        client.post(&path, &Query::new(), None).await?;
        return Ok(None);
    };
    let query = Query::new().with("stream", "1").flag("stdin", seat.input).with("stdout", "1").with("stderr", "1");
    let connection = client.hijack(&format!("/containers/{id}/attach"), &query, None).await?;
    let mut exit = wait(client, id, condition).await?;
    let signals = tokio::spawn(session::forward_signals(client.clone(), id.to_owned()));
    client.post(&path, &Query::new(), None).await?;
    let raw = seat.raw()?;
    if seat.tty {
        tokio::spawn(session::follow_size(client.clone(), format!("/containers/{id}")));
    }
    let left = session::carry(connection, seat).await?;
    drop(raw);
    let ended = match left {
        Left::Ended => exit_code(&mut exit).await?,
        Left::Detached => ExitCode::SUCCESS,
    };
    signals.abort();
    Ok(Some(ended))
}

async fn join(client: &Client, id: &str, seat: Seat) -> Result<Left> {
    let query = Query::new().with("stream", "1").flag("stdin", seat.input).with("stdout", "1").with("stderr", "1");
    let connection = client.hijack(&format!("/containers/{id}/attach"), &query, None).await?;
    let signals = tokio::spawn(session::forward_signals(client.clone(), id.to_owned()));
    let raw = seat.raw()?;
    if seat.tty {
        tokio::spawn(session::follow_size(client.clone(), format!("/containers/{id}")));
    }
    let left = session::carry(connection, seat).await?;
    drop(raw);
    signals.abort();
    Ok(left)
}

/// Registered with the daemon when this returns.
pub async fn wait(client: &Client, id: &str, condition: &str) -> Result<Objects> {
    let query = Query::new().with("condition", condition);
    let path = format!("/containers/{}/wait", escape(id));
    Ok(Objects::new(client.send(Method::POST, &path, &query, Call::empty()).await?.into_body()))
}

async fn exit_code(exit: &mut Objects) -> Result<ExitCode> {
    let ended = exit.next().await?.unwrap_or_default();
    if let Some(message) = ended["Error"]["Message"].as_str() {
        table::say(message);
        return Ok(ExitCode::from(125));
    }
    Ok(code(ended["StatusCode"].as_i64().unwrap_or(0)))
}

pub async fn inspect(client: &Client, name: &str) -> Result<(String, bool)> {
    Ok(identity(&client.get(&format!("/containers/{}/json", escape(name)), &Query::new()).await?))
}

fn identity(state: &Value) -> (String, bool) {
    (state["Id"].as_str().unwrap_or_default().to_owned(), state["Config"]["Tty"].as_bool().unwrap_or(false))
}

fn code(status: i64) -> ExitCode {
    ExitCode::from((status & 0xff) as u8)
}

/// Docker's reading of the daemon's text: 127 not found, 126 not runnable, 125 the rest.
fn failed(error: &Error) -> ExitCode {
    let text = error.chain();
    table::say(&format!("wharf: {text}\n\nRun 'wharf run --help' for more information"));
    ExitCode::from(failure_code(&text))
}

fn failure_code(text: &str) -> u8 {
    let says = |words: &[&str]| words.iter().any(|word| text.contains(word));
    match () {
        () if says(&["executable file not found", "no such file or directory"]) => 127,
        () if says(&["permission denied", "is a directory"]) => 126,
        () => 125,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_of_a_start_that_failed() {
        assert_eq!(failure_code("exec: \"x\": executable file not found in $PATH"), 127);
        assert_eq!(failure_code("exec: permission denied"), 126);
        assert_eq!(failure_code("port is already allocated"), 125);
    }
}
