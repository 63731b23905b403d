//! `wharf login` and `logout`, and what is kept of them: docker's own `config.json`, which both programs read.

use std::fs;
use std::io::{self, BufRead, IsTerminal, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::ExitCode;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use clap::Args;
use rustix::termios::{self, LocalModes, OptionalActions};
use serde_json::{Value, json};

use super::client::{Client, Query};
use super::transfer::file_error;
use super::{environment, table};
use crate::error::{Error, ErrorKind, Result};

/// Where docker logs in when no registry is named.
const DEFAULT: &str = "https://index.docker.io/v1/";

/// Authenticate to a registry
///
/// Examples:
///   wharf login registry.example:5000
///   wharf login -u me --password-stdin registry.example < password
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct Login {
    /// Asked for on a terminal if it is missing
    #[arg(short, long)]
    username: Option<String>,
    /// Better not: others see it; leave it out, or use --password-stdin
    #[arg(short, long, conflicts_with = "password_stdin")]
    password: Option<String>,
    /// Read the password from stdin
    #[arg(long)]
    password_stdin: bool,
    /// The registry [default: Docker Hub]
    #[arg(value_name = "SERVER")]
    server: Option<String>,
}

/// Log out from a registry
#[derive(Debug, Args)]
pub struct Logout {
    /// The registry [default: Docker Hub]
    #[arg(value_name = "SERVER")]
    server: Option<String>,
}

impl Login {
    pub async fn execute(self, client: Client) -> Result<ExitCode> {
        let server = server(self.server.as_deref());
        if self.password_stdin && self.username.is_none() {
            return Err(Error::invalid("the --password-stdin option requires --username"));
        }
        if self.password.is_some() {
            table::say("WARNING! Using --password via the CLI is insecure. Use --password-stdin.");
        }
        let username = match self.username {
            Some(username) => username,
            None => asked("Username: ", true)?,
        };
        let password = match self.password {
            Some(password) => password,
            None if self.password_stdin => io::read_to_string(io::stdin())
                .map_err(|error| Error::new(ErrorKind::Io, "cannot read stdin").because(error))?
                .trim_end_matches(['\r', '\n'])
                .to_owned(),
            None => asked("Password: ", false)?,
        };
        if password.is_empty() {
            return Err(Error::invalid("Error: Password Required"));
        }
        let body = json!({"username": username, "password": password, "serveraddress": server});
        let answer = client.post("/auth", &Query::new(), Some(&body)).await?;
        let kept = match answer["IdentityToken"].as_str().filter(|token| !token.is_empty()) {
            Some(token) => json!({"auth": STANDARD.encode(format!("{username}:")), "identitytoken": token}),
            None => json!({"auth": STANDARD.encode(format!("{username}:{password}"))}),
        };
        change_store(|store| store["auths"][&server] = kept)?;
        let path = environment::docker_config();
        table::say(&format!("\nWARNING! Your credentials are stored unencrypted in '{}'.\n", path.display()));
        table::println(answer["Status"].as_str().unwrap_or("Login Succeeded")).map(|()| ExitCode::SUCCESS)
    }
}

impl Logout {
    pub fn execute(self) -> Result<ExitCode> {
        let server = server(self.server.as_deref());
        table::println(&format!("Removing login credentials for {server}"))?;
        change_store(|store| {
            if let Some(all) = store["auths"].as_object_mut() {
                all.remove(&server);
            }
        })?;
        Ok(ExitCode::SUCCESS)
    }
}

/// The key of a registry in the store: its host, without what a browser would put around it.
fn server(typed: Option<&str>) -> String {
    let Some(typed) = typed else { return DEFAULT.to_owned() };
    let host = typed.strip_prefix("https://").or_else(|| typed.strip_prefix("http://")).unwrap_or(typed);
    match host.split('/').next().unwrap_or(host) {
        "docker.io" | "index.docker.io" | "registry-1.docker.io" => DEFAULT.to_owned(),
        host => host.to_owned(),
    }
}

/// A line typed at the terminal; a secret one leaves no trace there.
fn asked(prompt: &str, visible: bool) -> Result<String> {
    if !io::stdin().is_terminal() {
        return Err(Error::invalid("Error: Cannot perform an interactive login from a non TTY device"));
    }
    let fail = |error: io::Error| Error::new(ErrorKind::Io, "cannot read from the terminal").because(error);
    let before = termios::tcgetattr(io::stdin()).map_err(|error| fail(error.into()))?;
    if !visible {
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO);
        termios::tcsetattr(io::stdin(), OptionalActions::Now, &silent).map_err(|error| fail(error.into()))?;
    }
    let _ = write!(io::stderr(), "{prompt}");
    let mut line = String::new();
    let read = io::stdin().lock().read_line(&mut line);
    if !visible {
        termios::tcsetattr(io::stdin(), OptionalActions::Now, &before).map_err(|error| fail(error.into()))?;
        table::say("");
    }
    read.map_err(fail)?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

/// What a request about an image carries for its registry: the value of `X-Registry-Auth`.
pub fn header(image: &str) -> Result<String> {
    let first = image.split_once('/').map(|(first, _)| first);
    let server = server(first.filter(|first| first.contains(['.', ':']) || *first == "localhost"));
    let store = read_store()?;
    let entry = &store["auths"][&server];
    let known = entry["auth"].as_str().and_then(|auth| STANDARD.decode(auth).ok());
    let known = known.and_then(|auth| String::from_utf8(auth).ok());
    let header = match known.as_deref().and_then(|auth| auth.split_once(':')) {
        Some((name, password)) => {
            let mut header = json!({"username": name, "password": password, "serveraddress": server});
            if let Some(token) = entry["identitytoken"].as_str() {
                header["identitytoken"] = token.into();
            }
            header
        }
        None => json!({}),
    };
    Ok(URL_SAFE.encode(header.to_string()))
}

fn read_store() -> Result<Value> {
    let path = environment::docker_config();
    match fs::read(&path) {
        Ok(bytes) => match serde_json::from_slice(&bytes) {
            Ok(store @ Value::Object(_)) => Ok(store),
            _ => Err(Error::invalid(format!("{} is not docker's configuration: no JSON object", path.display()))),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(json!({})),
        Err(error) => Err(file_error("read", &path, error)),
    }
}

fn change_store(change: impl FnOnce(&mut Value)) -> Result<()> {
    let path = environment::docker_config();
    let mut store = read_store()?;
    if !store["auths"].is_object() {
        store["auths"] = json!({});
    }
    change(&mut store);
    let text = serde_json::to_vec_pretty(&store)
        .map_err(|error| Error::new(ErrorKind::Failed, "cannot write credentials").because(error))?;
    let fresh = path.with_extension(format!("json.{}", std::process::id()));
    let write = || -> io::Result<()> {
        fs::create_dir_all(path.parent().unwrap_or(Path::new("/")))?;
        // Secrets: readable by nobody else, from the first byte on.
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh)?;
        file.write_all(&text)?;
        file.sync_all()?;
        fs::rename(&fresh, &path)
    };
    write().map_err(|error| {
        let _ = fs::remove_file(&fresh);
        file_error("write", &path, error)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registries_are_known_by_their_host() {
        assert_eq!(server(None), DEFAULT);
        assert_eq!(server(Some("docker.io")), DEFAULT);
        assert_eq!(server(Some("https://registry.example:5000/v2/")), "registry.example:5000");
        assert_eq!(server(Some("localhost:5000")), "localhost:5000");
    }
}
