//! Images, folders to build and compose files in the foreground of `wharf serve`: a client of the host that this
//! process is, which does what `wharf build`, `run --rm` and `compose up` do, and stops all of it at the end.

use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Map, Value, json};
use tokio::io::AsyncReadExt;
use tokio::sync::{oneshot, watch};
use tokio::task::{JoinHandle, JoinSet};

use crate::cli::build::{self, Recipe};
use crate::cli::client::{Client, Hijacked, Query, escape};
use crate::cli::compose::follow::{self, Lines, Source, Style};
use crate::cli::compose::project::Work;
use crate::cli::stream::{Channel, Frames, Objects};
use crate::cli::{compose, run, table, transfer};
use crate::error::{Error, ErrorKind, Result};
use crate::serve::config::{FIRST_PORT, Foreground, Publish};
use crate::serve::console::Printer;

/// How many requests an instance may serve, one after the other.
const MAX_REQUESTS: &str = "wharf.instance.max-requests";

/// What to run, and how long stopping it may take.
pub struct Plan {
    pub client: Client,
    pub wanted: Vec<Wanted>,
    /// The host serves something else too: it goes on when all of this has ended.
    pub beside_others: bool,
    pub grace: Duration,
}

pub enum Wanted {
    Container(Box<Container>),
    Compose(Box<Work>),
}

/// A container that is removed when it ends.
pub struct Container {
    pub name: String,
    pub image: String,
    /// The folder to build the image from.
    pub context: Option<PathBuf>,
    pub publish: Option<Publish>,
    /// Where a port is published that nobody named.
    pub bind: IpAddr,
    /// `NAME=VALUE`.
    pub environment: Vec<String>,
    /// `SOURCE:TARGET[:ro]`.
    pub binds: Vec<String>,
    pub memory: Option<u64>,
    pub max_requests: Option<u32>,
}

/// What runs so far.
struct Running {
    client: Client,
    printer: Printer,
    /// Ids of containers of ours, whether they have come to run or not.
    containers: Vec<String>,
    /// The answer to a request for a container that is under way: told to stop meanwhile, what it made must go too.
    creating: Option<JoinHandle<Result<Value>>>,
    projects: Vec<(Work, Vec<Source>)>,
    /// Everybody's output, until the end: name and exit code.
    followed: JoinSet<Result<(String, i64)>>,
}

/// Start all of it in order, show its output, and stop it when told to or when one cannot start.
pub async fn run(plan: Plan, host: Foreground) -> Result<ExitCode> {
    let mut running = Running {
        client: plan.client,
        printer: host.printer,
        containers: Vec::new(),
        creating: None,
        projects: Vec::new(),
        followed: JoinSet::new(),
    };
    let mut stopping = host.stopping;
    let outcome = tokio::select! {
        outcome = running.run(plan.wanted, plan.beside_others, host.up) => outcome,
        () = told(&mut stopping) => Ok(ExitCode::SUCCESS),
    };
    running.stop(plan.grace.as_secs()).await;
    outcome
}

async fn told(stopping: &mut watch::Receiver<bool>) {
    // A host that is gone has stopped too.
    let _ = stopping.wait_for(|told| *told).await;
}

impl Running {
    async fn run(&mut self, wanted: Vec<Wanted>, beside_others: bool, up: oneshot::Sender<()>) -> Result<ExitCode> {
        for one in wanted {
            match one {
                Wanted::Container(container) => self.container(&container).await?,
                Wanted::Compose(work) => self.compose(*work).await?,
            }
        }
        // A host that is gone needs not be told.
        let _ = up.send(());
        let code = self.ended().await?;
        if beside_others {
            return std::future::pending().await;
        }
        Ok(code)
    }

    /// When all have ended: the exit code of the last that failed.
    async fn ended(&mut self) -> Result<ExitCode> {
        let mut failed = 0;
        while let Some(ended) = self.followed.join_next().await {
            let broken = |error| Error::new(ErrorKind::Failed, "a log ended early").because(error);
            let (name, code) = ended.map_err(broken)??;
            tracing::info!(name, code, "exited");
            failed = if code == 0 { failed } else { code };
        }
        Ok(ExitCode::from((failed & 0xff) as u8))
    }

    async fn container(&mut self, wanted: &Container) -> Result<()> {
        let Container { name, image, .. } = wanted;
        if let Some(context) = &wanted.context {
            let recipe = Recipe { tags: vec![image.clone()], ..Recipe::default() };
            build::build(&self.client, context, &recipe).await.map_err(|error| {
                Error::new(error.kind(), format!("cannot build {}", context.display())).because(error)
            })?;
        }
        let details = self.image(image).await?;
        let cannot = |error: Error| {
            let hint = if error.kind() == ErrorKind::Conflict { " Or choose another with --name." } else { "" };
            Error::new(error.kind(), format!("cannot start {name}")).because(format!("{}{hint}", error.chain()))
        };
        let body = wanted.body(&details)?;
        let made = self.create(name.clone(), body).await.map_err(cannot)?;
        let id = run::made_id(&made);
        self.containers.push(id.clone());
        // Attach, wait, start: in this order, so that neither output nor the end can be missed.
        let query = Query::new().with("stream", "1").with("stdout", "1").with("stderr", "1");
        let output = self.client.hijack(&format!("/containers/{id}/attach"), &query, None).await?;
        let exit = run::wait(&self.client, &id, "removed").await?;
        self.client.post(&format!("/containers/{id}/start"), &Query::new(), None).await.map_err(cannot)?;
        let tty = details["Config"]["Tty"] == true;
        self.followed.spawn(attached(name.as_str().into(), output, tty, exit, self.printer.clone()));
        self.announce(name, &id).await;
        Ok(())
    }

    /// Goes on where it is dropped: [`Running::stop`] waits for it.
    async fn create(&mut self, name: String, body: Value) -> Result<Value> {
        let client = self.client.clone();
        let task = self.creating.insert(tokio::spawn(async move {
            client.post("/containers/create", &Query::new().with("name", name), Some(&body)).await
        }));
        let made = task.await;
        self.creating = None;
        made.unwrap_or_else(|error| Err(Error::new(ErrorKind::Failed, "the request broke off").because(error)))
    }

    /// What the host keeps of the image, pulled where it is missing, as `run` does.
    async fn image(&self, image: &str) -> Result<Value> {
        let path = format!("/images/{image}/json");
        match self.client.get(&path, &Query::new()).await {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            found => return found,
        }
        table::say(&format!("Unable to find image '{image}' locally"));
        transfer::pull_aside(&self.client, image).await.map_err(|error| {
            let message = format!(
                "{image} is neither a file or folder here nor an image: there is none of that name in the data folder, \
                 and it cannot be pulled"
            );
            Error::new(ErrorKind::NotFound, message).because(error.chain())
        })?;
        self.client.get(&path, &Query::new()).await
    }

    async fn compose(&mut self, work: Work) -> Result<()> {
        // Known before it starts: what is half up is stopped too.
        self.projects.push((work, Vec::new()));
        let Some((work, sources)) = self.projects.last_mut() else { return Ok(()) };
        *sources = compose::raise(work).await?;
        let sources = sources.clone();
        for source in sources {
            let (service, id) = (source.service.clone(), source.id.clone());
            let style = Style::Console { name: service.as_str().into(), printer: self.printer.clone() };
            self.followed.spawn(follow::from_start(self.client.clone(), source, style));
            self.announce(&service, &id).await;
        }
        Ok(())
    }

    /// Where it answers.
    async fn announce(&self, name: &str, id: &str) {
        // One that has ended already is gone.
        let Ok(state) = self.client.get(&format!("/containers/{}/json", escape(id)), &Query::new()).await else {
            return;
        };
        let image = state["Config"]["Image"].as_str().unwrap_or_default();
        let ports = state["NetworkSettings"]["Ports"].as_object();
        let addresses: Vec<SocketAddr> =
            ports.into_iter().flatten().flat_map(|(_, bound)| bound.as_array()).flatten().filter_map(address).collect();
        for address in &addresses {
            tracing::info!(name, %address, url = url(*address), image, "listening");
        }
        if addresses.is_empty() && state["State"]["Running"] == true {
            tracing::info!(name, image, "running: it publishes no port");
        }
    }

    /// Containers are gone afterwards, projects are as after `compose stop`.
    async fn stop(mut self, seconds: u64) {
        if let Some(creating) = self.creating.take()
            && let Ok(Ok(made)) = creating.await
        {
            self.containers.push(run::made_id(&made));
        }
        let client = &self.client;
        let query = &Query::new().with("t", seconds.to_string());
        join_all(self.containers.iter().map(|id| async move {
            // One that has ended by itself is gone, one that never started goes now.
            let _ = client.post(&format!("/containers/{id}/stop"), query, None).await;
            let _ =
                client.delete(&format!("/containers/{id}"), &Query::new().flag("force", true).flag("v", true)).await;
        }))
        .await;
        for (work, sources) in &self.projects {
            let stopped = if sources.is_empty() {
                half_up(work, seconds).await
            } else {
                follow::stop(client, sources, Some(seconds)).await
            };
            if let Err(error) = stopped {
                tracing::warn!(project = work.project.name, error = error.chain(), "cannot stop");
            }
        }
        // Their last words.
        while self.followed.join_next().await.is_some() {}
    }
}

/// What came to run of a project that did not come up.
async fn half_up(work: &Work, seconds: u64) -> Result<()> {
    for member in work.members_of(&[]).await?.into_iter().filter(|member| member.running) {
        let query = Query::new().with("t", seconds.to_string());
        work.client.post(&format!("/containers/{}/stop", member.id), &query, None).await?;
    }
    Ok(())
}

impl Container {
    /// The body of `POST /containers/create`.
    fn body(&self, image: &Value) -> Result<Value> {
        let exposed = exposed(image);
        let port = |guest: u16, address: SocketAddr| {
            let binding = json!({"HostIp": address.ip().to_string(), "HostPort": address.port().to_string()});
            Map::from_iter([(format!("{guest}/tcp"), json!([binding]))])
        };
        let bindings = match (&self.publish, exposed) {
            (Some(publish), _) => port(publish.guest.or(exposed).unwrap_or(publish.address.port()), publish.address),
            (None, Some(guest)) => port(guest, free_address(self.bind)?),
            (None, None) => Map::new(),
        };
        let ports: Map<String, Value> = bindings.keys().map(|port| (port.clone(), json!({}))).collect();
        let labels = self.max_requests.map(|number| json!({MAX_REQUESTS: number.to_string()}));
        Ok(json!({
            "Image": self.image, "Env": self.environment, "Labels": labels, "ExposedPorts": ports,
            "AttachStdout": true, "AttachStderr": true,
            "HostConfig": {
                "Binds": self.binds, "PortBindings": bindings, "AutoRemove": true, "NetworkMode": "default",
                "Memory": self.memory.unwrap_or(0),
            },
        }))
    }
}

/// The lowest port the image exposes: all lead to the same service.
fn exposed(image: &Value) -> Option<u16> {
    let ports = image["Config"]["ExposedPorts"].as_object()?;
    ports.keys().filter_map(|port| port.strip_suffix("/tcp")?.parse().ok()).min()
}

/// From 5000 up, past what others use: as for targets that are files.
fn free_address(bind: IpAddr) -> Result<SocketAddr> {
    let addresses = (FIRST_PORT..=u16::MAX).map(|port| SocketAddr::from((bind, port)));
    let free = addresses.into_iter().find(|address| TcpListener::bind(address).is_ok());
    free.ok_or_else(|| Error::new(ErrorKind::Conflict, "no free port from 5000 up"))
}

fn address(bound: &Value) -> Option<SocketAddr> {
    let ip = bound["HostIp"].as_str().filter(|ip| !ip.is_empty()).unwrap_or("0.0.0.0");
    Some(SocketAddr::new(ip.parse().ok()?, bound["HostPort"].as_str()?.parse().ok()?))
}

/// As a person on this machine types it.
fn url(address: SocketAddr) -> String {
    if address.ip().is_unspecified() {
        return format!("http://127.0.0.1:{}/", address.port());
    }
    format!("http://{address}/")
}

/// A container's output line by line, then its exit code.
async fn attached(
    name: Arc<str>,
    mut output: Hijacked,
    tty: bool,
    mut exit: Objects,
    printer: Printer,
) -> Result<(String, i64)> {
    let mut frames = Frames::new(tty);
    let mut lines = Lines::default();
    let mut buffer = vec![0; 32 * 1024];
    while let Ok(read @ 1..) = output.read(&mut buffer).await {
        frames.push(&buffer[..read]);
        while let Some((channel, text)) = frames.take()? {
            for line in lines.push(channel, &text) {
                printer.print(&name, channel == Channel::Stderr, line.into()).await;
            }
        }
    }
    for (channel, line) in lines.rest() {
        printer.print(&name, channel == Channel::Stderr, line.into()).await;
    }
    let ended = exit.next().await?.unwrap_or_default();
    Ok((name.to_string(), ended["StatusCode"].as_i64().unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container(publish: Option<&str>) -> Container {
        Container {
            name: "digits".to_owned(),
            image: "digits".to_owned(),
            context: None,
            publish: publish.map(|typed| typed.parse().unwrap()),
            bind: std::net::Ipv4Addr::LOCALHOST.into(),
            environment: Vec::new(),
            binds: Vec::new(),
            memory: None,
            max_requests: Some(3),
        }
    }

    #[test]
    fn ports_are_those_typed_or_those_exposed() {
        let image = json!({"Config": {"ExposedPorts": {"6000/tcp": {}, "5001/tcp": {}, "53/udp": {}}}});
        let bindings =
            |publish, image: &Value| container(publish).body(image).unwrap()["HostConfig"]["PortBindings"].clone();
        let bound = |ip: &str, port: &str| json!([{"HostIp": ip, "HostPort": port}]);
        assert_eq!(bindings(Some("7000"), &image), json!({"5001/tcp": bound("0.0.0.0", "7000")}));
        assert_eq!(bindings(Some("127.0.0.1:7000:80"), &image), json!({"80/tcp": bound("127.0.0.1", "7000")}));
        let free = bindings(None, &image);
        assert_eq!(free["5001/tcp"][0]["HostIp"], "127.0.0.1", "{free}");
        assert_eq!(bindings(None, &json!({})), json!({}));
        assert_eq!(container(None).body(&json!({})).unwrap()["Labels"][MAX_REQUESTS], "3");
    }

    /// Answers every request on `socket` by `answer`, and tells what was asked.
    fn serve(
        socket: &std::path::Path,
        answer: impl AsyncFn(&str) -> &'static str + Clone + 'static,
    ) -> tokio::sync::mpsc::UnboundedReceiver<String> {
        use tokio::io::AsyncWriteExt;
        let (tell, told) = tokio::sync::mpsc::unbounded_channel();
        let listener = tokio::net::UnixListener::bind(socket).unwrap();
        tokio::task::spawn_local(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (tell, answer) = (tell.clone(), answer.clone());
                tokio::task::spawn_local(async move {
                    let (mut head, mut buffer) = (Vec::new(), [0; 4096]);
                    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
                        match stream.read(&mut buffer).await {
                            Ok(read @ 1..) => head.extend_from_slice(&buffer[..read]),
                            _ => return,
                        }
                    }
                    let head = String::from_utf8_lossy(&head).into_owned();
                    let line = head.lines().next().unwrap().rsplit_once(' ').unwrap().0.to_owned();
                    tell.send(line.clone()).unwrap();
                    let body = answer(&line).await;
                    let length = body.len();
                    let whole =
                        format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}");
                    let _ = stream.write_all(whole.as_bytes()).await;
                });
            }
        });
        told
    }

    #[tokio::test]
    async fn what_is_made_while_a_signal_comes_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("socket");
        let (stop, stopping) = watch::channel(false);
        let (lines, _received) = crate::runtime::log::channel();
        let (up, is_up) = oneshot::channel();
        let is_told = stopping.clone();
        let work = async {
            let mut asked = serve(&socket, async move |line| {
                if line.contains("/containers/create") {
                    // The signal comes first, then the answer.
                    stop.send_replace(true);
                    is_told.clone().wait_for(|told| *told).await.unwrap();
                    tokio::task::yield_now().await;
                    return r#"{"Id": "made", "Warnings": []}"#;
                }
                if line.contains("/images/") { r#"{"Config": {}}"# } else { "{}" }
            });
            let wanted = vec![Wanted::Container(Box::new(container(None)))];
            let client = Client::at(socket.clone());
            let plan = Plan { client, wanted, beside_others: false, grace: Duration::from_secs(1) };
            run(plan, Foreground { stopping, printer: Printer::new(lines), up }).await.unwrap();
            let mut lines = Vec::new();
            while let Ok(line) = asked.try_recv() {
                lines.push(line);
            }
            assert!(
                lines.iter().any(|line| line.starts_with("DELETE") && line.contains("/containers/made")),
                "{lines:?}"
            );
            assert!(is_up.await.is_err(), "it never was up");
        };
        tokio::task::LocalSet::new().run_until(work).await;
    }

    #[test]
    fn urls_are_what_a_person_can_open() {
        assert_eq!(url("0.0.0.0:5000".parse().unwrap()), "http://127.0.0.1:5000/");
        assert_eq!(url("[::1]:5000".parse().unwrap()), "http://[::1]:5000/");
    }
}
