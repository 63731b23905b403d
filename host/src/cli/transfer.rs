//! Images on their way: pull, push, save, load; and the progress of all of them.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use http::Method;
use http_body_util::{BodyExt, Full};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::Value;

use super::client::{Body, Call, Client, Query};
use super::stream::Objects;
use super::{exit, login, table};
use crate::error::{Error, ErrorKind, Result};

/// Download an image from a registry
#[derive(Debug, Args)]
pub struct Pull {
    /// All tags of it
    #[arg(short, long)]
    all_tags: bool,
    #[arg(short, long)]
    quiet: bool,
    image: String,
}

/// Upload an image to a registry
#[derive(Debug, Args)]
pub struct Push {
    /// All tags of it
    #[arg(short, long)]
    all_tags: bool,
    #[arg(short, long)]
    quiet: bool,
    image: String,
}

/// Save one or more images to a tar archive
#[derive(Debug, Args)]
pub struct Save {
    /// File to write [default: stdout]
    #[arg(short, long)]
    output: Option<PathBuf>,
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
}

/// Load images from a tar archive
#[derive(Debug, Args)]
pub struct Load {
    /// File to read [default: stdin]
    #[arg(short, long)]
    input: Option<PathBuf>,
    #[arg(short, long)]
    quiet: bool,
}

impl Pull {
    pub async fn execute(self, client: Client) -> Result<ExitCode> {
        let (name, tag) = split(&self.image);
        if self.all_tags {
            no_tag(tag)?;
            let mut objects = pulling(&client, name, None).await?;
            follow(&mut objects, if self.quiet { Show::Nothing } else { Show::Stdout }).await?;
            return table::println(&canonical_name(name)).map(|()| ExitCode::SUCCESS);
        }
        if !self.quiet && tag.is_none() {
            table::println("Using default tag: latest")?;
        }
        pull(&client, &self.image, if self.quiet { Show::Nothing } else { Show::Stdout }).await?;
        table::println(&canonical(&self.image)).map(|()| ExitCode::SUCCESS)
    }
}

pub async fn pull(client: &Client, image: &str, show: Show) -> Result<()> {
    let (name, tag) = split(image);
    follow(&mut pulling(client, name, Some(tag.unwrap_or("latest"))).await?, show).await.map(|_| ())
}

/// Pull with its progress on stderr: stdout is somebody else's.
pub async fn pull_aside(client: &Client, image: &str) -> Result<()> {
    pull(client, image, Show::Stderr).await
}

/// Without a tag, every tag that the registry has.
async fn pulling(client: &Client, name: &str, tag: Option<&str>) -> Result<Objects> {
    let query = Query::new().with("fromImage", name).some("tag", tag);
    let mut call = Call::empty();
    call.headers.push(("x-registry-auth", login::header(name)?));
    let response = client.send(Method::POST, "/images/create", &query, call).await?;
    Ok(Objects::new(response.into_body()))
}

/// All tags and one of them cannot both be meant.
fn no_tag(tag: Option<&str>) -> Result<()> {
    match tag {
        Some(_) => Err(Error::new(ErrorKind::Failed, "tag can't be used with --all-tags/-a")),
        None => Ok(()),
    }
}

impl Push {
    pub async fn execute(self, client: Client) -> Result<ExitCode> {
        let (name, tag) = split(&self.image);
        if self.all_tags {
            no_tag(tag)?;
        } else if tag.is_none() && !self.quiet {
            table::println("Using default tag: latest")?;
        }
        let tag = (!self.all_tags).then_some(tag.unwrap_or("latest"));
        let mut call = Call::empty();
        call.headers.push(("x-registry-auth", login::header(&self.image)?));
        let path = format!("/images/{name}/push");
        let response = client.send(Method::POST, &path, &Query::new().some("tag", tag), call).await?;
        let show = if self.quiet { Show::Nothing } else { Show::Stdout };
        follow(&mut Objects::new(response.into_body()), show).await?;
        if self.quiet {
            table::println(&canonical(&self.image))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Save {
    pub async fn execute(self, client: Client) -> Result<ExitCode> {
        if self.output.is_none() && io::stdout().is_terminal() {
            return Err(Error::invalid("cowardly refusing to save to a terminal. Use the -o flag or redirect"));
        }
        let query = self.images.iter().fold(Query::new(), |query, image| query.with("names", image));
        let mut body = client.send(Method::GET, "/images/get", &query, Call::empty()).await?.into_body();
        // Only now: a refusal must not cost the file that is there.
        let mut out: Box<dyn Write + Send> = match &self.output {
            Some(path) => Box::new(File::create(path).map_err(|error| file_error("write", path, error))?),
            None => Box::new(io::stdout()),
        };
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| Error::new(ErrorKind::Io, "the daemon broke off").because(error))?;
            let bytes = frame.data_ref().map_or(&[][..], |bytes| bytes);
            out.write_all(bytes)
                .map_err(|error| Error::new(ErrorKind::Io, "cannot write the archive").because(error))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Load {
    pub async fn execute(self, client: Client) -> Result<ExitCode> {
        let input: Box<dyn Read + Send> = match &self.input {
            Some(path) => Box::new(File::open(path).map_err(|error| file_error("read", path, error))?),
            None if io::stdin().is_terminal() => {
                return Err(Error::invalid("requested load from stdin, but stdin is empty: use -i or redirect"));
            }
            None => Box::new(io::stdin()),
        };
        let query = Query::new().flag("quiet", self.quiet);
        let call = Call::stream("application/x-tar", upload(input));
        let response = client.send(Method::POST, "/images/load", &query, call).await?;
        follow(&mut Objects::new(response.into_body()), Show::Stdout).await?;
        Ok(ExitCode::SUCCESS)
    }
}

/// A reader as a request's body: read on a thread, a few pieces ahead.
pub fn upload(mut input: Box<dyn Read + Send>) -> Body {
    let (sender, receiver) = tokio::sync::mpsc::channel::<io::Result<bytes::Bytes>>(4);
    std::thread::spawn(move || {
        let mut buffer = vec![0; 256 * 1024];
        loop {
            let piece = match input.read(&mut buffer) {
                Ok(0) => return,
                Ok(read) => Ok(bytes::Bytes::copy_from_slice(&buffer[..read])),
                Err(error) => Err(error),
            };
            let last = piece.is_err();
            if sender.blocking_send(piece).is_err() || last {
                return;
            }
        }
    });
    let pieces = futures_util::stream::unfold(receiver, |mut receiver| async {
        let piece = receiver.recv().await?;
        Some((piece.map(http_body::Frame::data), receiver))
    });
    http_body_util::StreamBody::new(pieces).boxed_unsync_to_sync()
}

/// `BoxBody` asks for `Sync`, which a channel's stream has.
trait Boxed {
    fn boxed_unsync_to_sync(self) -> Body;
}

impl<B> Boxed for B
where
    B: http_body::Body<Data = bytes::Bytes, Error = io::Error> + Send + Sync + 'static,
{
    fn boxed_unsync_to_sync(self) -> Body {
        BodyExt::boxed(self)
    }
}

/// Where progress goes. What a stream says in words of its own (`stream`) is shown even by `Nothing`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Show {
    Nothing,
    #[default]
    Stdout,
    Stderr,
}

impl Show {
    pub fn print(self, text: &str) -> Result<()> {
        if self == Show::Stderr {
            table::say(text.trim_end_matches('\n'));
            return Ok(());
        }
        table::print(text)
    }

    fn terminal(self) -> bool {
        match self {
            Show::Nothing => false,
            Show::Stdout => io::stdout().is_terminal(),
            Show::Stderr => io::stderr().is_terminal(),
        }
    }
}

/// Show a progress stream to its end: bars on a terminal, lines otherwise. An error in it is the error; returns the
/// last `aux`.
pub async fn follow(objects: &mut Objects, show: Show) -> Result<Value> {
    let terminal = show.terminal();
    let bars = MultiProgress::with_draw_target(match show {
        Show::Stderr => ProgressDrawTarget::stderr(),
        _ => ProgressDrawTarget::stdout(),
    });
    let mut layers: BTreeMap<String, ProgressBar> = BTreeMap::new();
    let mut aux = Value::Null;
    while let Some(object) = objects.next().await? {
        if let Some(message) = object["errorDetail"]["message"].as_str().or(object["error"].as_str()) {
            let code = object["errorDetail"]["code"].as_i64().filter(|code| *code != 0).unwrap_or(1);
            return Err(Error::new(ErrorKind::Failed, message).because(exit::Told::new(code, message)));
        }
        if !object["aux"].is_null() {
            aux = object["aux"].clone();
        } else if let Some(text) = object["stream"].as_str() {
            show.print(text)?;
        } else if let (Some(status), true) = (object["status"].as_str(), show != Show::Nothing) {
            let (id, detail) = (object["id"].as_str(), &object["progressDetail"]);
            match id {
                Some(id) if terminal => {
                    let bar = layers.entry(id.to_owned()).or_insert_with(|| bars.add(bar(id)));
                    bar.set_message(status.to_owned());
                    bar.set_length(detail["total"].as_u64().unwrap_or(0));
                    bar.set_position(detail["current"].as_u64().unwrap_or(0));
                }
                _ if detail["current"].is_u64() => {}
                Some(id) => show.print(&format!("{id}: {status}\n"))?,
                None => show.print(&format!("{status}\n"))?,
            }
        }
    }
    Ok(aux)
}

fn bar(id: &str) -> ProgressBar {
    let style = ProgressStyle::with_template("{prefix}: {msg} [{bar:30}] {bytes}/{total_bytes}");
    let bar = ProgressBar::new(0).with_prefix(id.to_owned());
    match style {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

pub fn file_error(verb: &str, path: &Path, error: io::Error) -> Error {
    Error::new(ErrorKind::Io, format!("cannot {verb} {}", path.display())).because(error)
}

/// `localhost:5000/app:1` → name and tag (or digest).
pub fn split(image: &str) -> (&str, Option<&str>) {
    if let Some((name, digest)) = image.split_once('@') {
        return (name, Some(digest));
    }
    match image.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
        _ => (image, None),
    }
}

/// With its registry and folder.
fn canonical_name(name: &str) -> String {
    let (first, rest) = name.split_once('/').unwrap_or(("", name));
    let has_registry = first.contains(['.', ':']) || first == "localhost";
    match (first, rest) {
        _ if has_registry => name.to_owned(),
        ("", name) => format!("docker.io/library/{name}"),
        _ => format!("docker.io/{name}"),
    }
}

/// The whole name: registry, folder and tag, as docker ends a pull.
fn canonical(image: &str) -> String {
    let (name, tag) = split(image);
    let name = canonical_name(name);
    match tag {
        Some(digest) if image.contains('@') => format!("{name}@{digest}"),
        tag => format!("{name}:{}", tag.unwrap_or("latest")),
    }
}

/// A whole body at once.
pub fn full(bytes: Vec<u8>) -> Body {
    Full::new(bytes::Bytes::from(bytes)).map_err(|never| match never {}).boxed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_tags() {
        assert_eq!(split("app"), ("app", None));
        assert_eq!(split("localhost:5000/app"), ("localhost:5000/app", None));
        assert_eq!(split("localhost:5000/app:1"), ("localhost:5000/app", Some("1")));
        assert_eq!(split("app@sha256:ab"), ("app", Some("sha256:ab")));
        assert_eq!(canonical("app"), "docker.io/library/app:latest");
        assert_eq!(canonical("me/app:1"), "docker.io/me/app:1");
        assert_eq!(canonical("localhost:5000/app"), "localhost:5000/app:latest");
    }
}
