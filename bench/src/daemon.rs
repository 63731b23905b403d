//! A host without targets, and its control API over the unix socket: images built by its own command line,
//! containers made and started by the requests that any Docker client sends.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tokio::net::UnixStream;

use crate::contender::Installation;
use crate::http::{self, Response};
use crate::server::Server;
use crate::stage::Stage;
use crate::usage::Memory;

pub struct Daemon {
    server: Server,
    wharf: PathBuf,
    data: PathBuf,
}

impl Daemon {
    pub fn start(installation: &Installation, stage: &Stage, name: &str) -> Result<Self> {
        let server = Server::start(installation.wharf(stage, name, &[]), &["host"])?;
        Ok(Self { server, wharf: installation.wharf.clone(), data: stage.data(name) })
    }

    /// `wharf build -t TAG CONTEXT`; compiles the component, as every build does.
    pub fn build(&self, tag: &str, context: &Path) -> Result<()> {
        let mut command = Command::new(&self.wharf);
        command.env_remove("DOCKER_HOST").env_remove("WHARF_HOST").env("WHARF_DATA", &self.data);
        let output =
            command.args(["build", "-q", "-t", tag]).arg(context).output().context("cannot run wharf build")?;
        ensure!(output.status.success(), "wharf build of {tag}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    }

    /// A client of the control API with a connection of its own, kept open.
    pub async fn connect(&self) -> Result<Control> {
        let path = self.data.join("wharf.sock");
        let stream =
            UnixStream::connect(&path).await.with_context(|| format!("cannot connect to {}", path.display()))?;
        Ok(Control { connection: http::Connection::over(stream) })
    }

    pub fn processor_time(&self) -> Result<Duration> {
        self.server.processor_time()
    }

    pub fn memory(&self) -> Result<Memory> {
        self.server.memory()
    }
}

pub struct Control {
    connection: http::Connection<UnixStream>,
}

impl Control {
    /// A request that must be answered with `status`.
    pub async fn ask(&mut self, method: &str, path: &str, body: &Value, status: u16) -> Result<Response> {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let request = http::request(method, path, "application/json", body.as_bytes());
        let response = self.connection.exchange(&request).await.with_context(|| format!("{method} {path}"))?;
        let text = String::from_utf8_lossy(&response.body);
        ensure!(response.status == status, "{method} {path}: {}: {text}", response.status);
        Ok(response)
    }

    pub async fn create(&mut self, name: &str, spec: &Value) -> Result<()> {
        self.ask("POST", &format!("/containers/create?name={name}"), spec, 201).await.map(drop)
    }

    pub async fn start(&mut self, name: &str) -> Result<()> {
        self.ask("POST", &format!("/containers/{name}/start"), &Value::Null, 204).await.map(drop)
    }

    pub async fn remove(&mut self, name: &str) -> Result<()> {
        self.ask("DELETE", &format!("/containers/{name}?force=1"), &Value::Null, 204).await.map(drop)
    }

    /// Where each running container's port 5000 is published.
    pub async fn published(&mut self) -> Result<Vec<SocketAddr>> {
        let listed = self.ask("GET", "/containers/json", &Value::Null, 200).await?;
        let listed: Vec<Value> = serde_json::from_slice(&listed.body).context("the list of containers is not JSON")?;
        let port = |one: &Value| one.pointer("/Ports/0/PublicPort").and_then(Value::as_u64);
        let address = |one: &Value| {
            let port = port(one).and_then(|port| u16::try_from(port).ok());
            port.map(loopback).with_context(|| format!("a container publishes no port: {one}"))
        };
        listed.iter().map(address).collect()
    }
}

/// What creates a container of `image` with its port 5000 published at `port` of loopback; 0 is any free one.
pub fn service(image: &str, port: u16) -> Value {
    json!({
        "Image": image,
        "ExposedPorts": { "5000/tcp": {} },
        "HostConfig": { "PortBindings": { "5000/tcp": [{ "HostIp": "127.0.0.1", "HostPort": port.to_string() }] } },
    })
}

/// A port of loopback that was free a moment ago.
pub fn free_port() -> Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

pub fn loopback(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}
