//! `wharf cp` and `wharf export`: files between a container and this machine. What a path's end means is decided in
//! [`plan`](Landing::plan), by docker's rules; [`super::tree`] packs and unpacks here.

use std::fs;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use http::{HeaderMap, Method};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde_json::Value;

use super::client::{Call, Client, Query, escape};
use super::tree::{self, Counted};
use super::{table, transfer, units};
use crate::error::{Error, ErrorKind, Result};

const STAT: &str = "x-docker-container-path-stat";
/// Bits of Go's `FileMode`.
const FOLDER: u64 = 1 << 31;
const LINK: u64 = 1 << 27;

/// Copy files/folders between a container and the local filesystem
///
/// Use '-' as the source to read a tar archive from stdin and extract it to a directory in a container, and as the
/// destination to stream a tar archive of a container's path to stdout. Into a container, only volumes and writable
/// binds can be written: all else is the image's.
#[derive(Debug, Args)]
#[command(
    override_usage = "wharf cp [OPTIONS] CONTAINER:SRC_PATH DEST_PATH|-\n       wharf cp [OPTIONS] SRC_PATH|- CONTAINER:DEST_PATH"
)]
pub struct Copy {
    /// Archive mode (copy all uid/gid information)
    #[arg(short, long)]
    archive: bool,
    /// Always follow symbol link in SRC_PATH
    #[arg(short = 'L', long)]
    follow_link: bool,
    /// Suppress progress output during copy; the default where stdout is no terminal
    #[arg(short, long, num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    quiet: Option<bool>,
    #[arg(value_name = "SRC_PATH", allow_hyphen_values = true)]
    source: String,
    #[arg(value_name = "DEST_PATH", allow_hyphen_values = true)]
    destination: String,
}

/// Export a container's filesystem as a tar archive
#[derive(Debug, Args)]
pub struct Export {
    /// Write to a file, instead of stdout
    #[arg(short, long, value_name = "string")]
    output: Option<PathBuf>,
    #[arg(value_name = "CONTAINER")]
    container: String,
}

/// One end of a copy.
#[derive(Debug, PartialEq, Eq)]
struct End<'a> {
    container: Option<&'a str>,
    path: &'a str,
}

/// What is known of a path at either end.
#[derive(Clone, Debug, Default)]
struct Seen {
    path: String,
    exists: bool,
    is_folder: bool,
}

/// Where an archive is unpacked, and what the top of it is called there.
#[derive(Debug, PartialEq, Eq)]
struct Landing {
    folder: String,
    name: String,
}

impl Copy {
    pub async fn execute(self, client: Client) -> Result<ExitCode> {
        for (text, what) in [(&self.source, "source"), (&self.destination, "destination")] {
            if text.is_empty() {
                return Err(Error::invalid(format!("{what} can not be empty")));
            }
        }
        let (source, destination) = (End::parse(&self.source), End::parse(&self.destination));
        match (source.container, destination.container) {
            (Some(_), Some(_)) => Err(Error::invalid("copying between containers is not supported")),
            (None, None) => Err(Error::invalid("must specify at least one container source")),
            (Some(container), None) => self.fetch(&client, container, source.path, destination.path).await,
            (None, Some(container)) => self.bring(&client, source.path, container, destination.path).await,
        }
        .map(|()| ExitCode::SUCCESS)
    }

    async fn fetch(&self, client: &Client, container: &str, path: &str, to: &str) -> Result<()> {
        let mut path = path.to_owned();
        if self.follow_link
            && let Ok(Some(target)) = stat(client, container, &path).await.map(|stat| stat.link())
        {
            path = target;
        }
        let to = if to == "-" { None } else { Some(local(to)?) };
        let query = Query::new().with("path", &path);
        let response = client.send(Method::GET, &archive_of(container), &query, Call::empty()).await?;
        let stat = Stat::read(response.headers())?;
        let Some(to) = to else {
            return to_stdout(response.into_body()).await;
        };
        let seen = Seen { path: path.clone(), exists: true, is_folder: stat.mode & FOLDER != 0 };
        let landing = Landing::plan(&seen, &look(&to))?;
        let top = base(&path).to_owned();
        let body = tree::download(response.into_body());
        let unpacking = tokio::task::spawn_blocking(move || {
            let mut counted = Counted::new(body);
            tree::unpack(&mut counted, Path::new(&landing.folder), &top, &landing.name).map(|()| counted.bytes())
        });
        let bytes =
            unpacking.await.map_err(|error| Error::new(ErrorKind::Failed, "the copy broke off").because(error))??;
        self.done(bytes, &to);
        Ok(())
    }

    async fn bring(&self, client: &Client, from: &str, container: &str, to: &str) -> Result<()> {
        let mut to = to.to_owned();
        let mut found = stat(client, container, &to).await.ok();
        if let Some(target) = found.as_ref().and_then(Stat::link) {
            to = target;
            found = stat(client, container, &to).await.ok();
        }
        let is_folder = found.as_ref().is_some_and(|stat| stat.mode & FOLDER != 0);
        let seen = Seen { path: to.clone(), exists: found.is_some(), is_folder };
        let (folder, input): (String, Box<dyn io::Read + Send>) = if from == "-" {
            if !is_folder {
                return Err(Error::invalid(format!("destination \"{container}:{to}\" must be a directory")));
            }
            (to.clone(), Box::new(io::stdin()))
        } else {
            let from = local_path(from)?;
            let source = tree::source(&from, self.follow_link)?;
            let landing = Landing::plan(&Seen { path: from, exists: true, is_folder: source.is_folder }, &seen)?;
            (landing.folder, Box::new(tree::pack(source, landing.name)?))
        };
        let counted = Counted::new(input);
        let bytes = counted.shared();
        let query =
            Query::new().with("path", folder).with("noOverwriteDirNonDir", "true").flag("copyUIDGID", self.archive);
        let call = Call::stream("application/x-tar", transfer::upload(Box::new(counted)));
        client.send(Method::PUT, &archive_of(container), &query, call).await?;
        if from != "-" {
            self.done(bytes.load(std::sync::atomic::Ordering::Relaxed), &format!("{container}:{to}"));
        }
        Ok(())
    }

    fn done(&self, bytes: u64, to: &str) {
        if !self.quiet.unwrap_or_else(|| !io::stdout().is_terminal()) {
            table::say(&format!("Successfully copied {} to {to}", units::short_size(bytes as f64)));
        }
    }
}

impl Export {
    pub async fn execute(self, client: Client) -> Result<ExitCode> {
        if self.output.is_none() && io::stdout().is_terminal() {
            return Err(Error::invalid("cowardly refusing to save to a terminal. Use the -o flag or redirect"));
        }
        let path = format!("/containers/{}/export", escape(&self.container));
        let response = client.send(Method::GET, &path, &Query::new(), Call::empty()).await?;
        let Some(output) = self.output else {
            return to_stdout(response.into_body()).await.map(|()| ExitCode::SUCCESS);
        };
        let file = fs::File::create(&output).map_err(|error| transfer::file_error("write", &output, error))?;
        write_all(response.into_body(), file).await.map(|()| ExitCode::SUCCESS)
    }
}

impl<'a> End<'a> {
    /// `CONTAINER:PATH`; `/a:b` and `./a:b` are of this machine.
    fn parse(typed: &'a str) -> End<'a> {
        match typed.split_once(':') {
            Some((container, path)) if !typed.starts_with('/') && !container.starts_with('.') => {
                End { container: Some(container), path }
            }
            _ => End { container: None, path: typed },
        }
    }
}

impl Landing {
    /// A file or folder that is there is unpacked into a folder that is there; otherwise it takes the place's name.
    fn plan(source: &Seen, to: &Seen) -> Result<Landing> {
        let (above, name) = split(&to.path);
        let refuse = |text: &str| Err(Error::invalid(text));
        match (to.exists, source.is_folder) {
            (true, _) if to.is_folder => Ok(Landing { folder: to.path.clone(), name: base(&source.path).to_owned() }),
            (true, true) => refuse("cannot copy directory"),
            (false, false) if to.path.ends_with('/') || to.path.ends_with("/.") => refuse("no such directory"),
            _ => Ok(Landing { folder: above.to_owned(), name: name.to_owned() }),
        }
    }
}

/// What the daemon says of a path.
struct Stat {
    mode: u64,
    target: String,
}

impl Stat {
    fn read(headers: &HeaderMap) -> Result<Stat> {
        let missing =
            || Error::new(ErrorKind::Failed, "unable to get resource stat from response: the header is missing");
        let header = headers.get(STAT).and_then(|header| STANDARD.decode(header).ok()).ok_or_else(missing)?;
        let stat: Value = serde_json::from_slice(&header).map_err(|error| missing().because(error))?;
        let target = stat["linkTarget"].as_str().unwrap_or_default().to_owned();
        Ok(Stat { mode: stat["mode"].as_u64().unwrap_or(0), target })
    }

    fn link(&self) -> Option<String> {
        (self.mode & LINK != 0 && !self.target.is_empty()).then(|| self.target.clone())
    }
}

async fn stat(client: &Client, container: &str, path: &str) -> Result<Stat> {
    let query = Query::new().with("path", path);
    Stat::read(client.send(Method::HEAD, &archive_of(container), &query, Call::empty()).await?.headers())
}

fn archive_of(container: &str) -> String {
    format!("/containers/{}/archive", escape(container))
}

async fn to_stdout(body: Incoming) -> Result<()> {
    write_all(body, io::stdout()).await
}

async fn write_all(mut body: Incoming, mut out: impl Write) -> Result<()> {
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Error::new(ErrorKind::Io, "the daemon broke off").because(error))?;
        let bytes = frame.data_ref().map_or(&[][..], |bytes| bytes);
        out.write_all(bytes).map_err(|error| Error::new(ErrorKind::Io, "cannot write the archive").because(error))?;
    }
    out.flush().map_err(|error| Error::new(ErrorKind::Io, "cannot write the archive").because(error))
}

/// A path of this machine, absolute, its end as typed.
fn local_path(typed: &str) -> Result<String> {
    let here = || std::env::current_dir().map_err(|error| Error::new(ErrorKind::Io, "where are we?").because(error));
    let whole = if typed.starts_with('/') { PathBuf::from(typed) } else { here()?.join(typed) };
    let mut clean = tree::clean(&whole).display().to_string();
    for end in ["/.", "/"] {
        if typed.ends_with(end) || typed == "." && end == "/." {
            clean = format!("{}{end}", clean.trim_end_matches('/'));
            break;
        }
    }
    Ok(clean)
}

/// Where something is to go: the folder above must be there.
fn local(typed: &str) -> Result<String> {
    let whole = local_path(typed)?;
    let (above, _) = split(&whole);
    if !Path::new(above).exists() {
        return Err(Error::invalid(format!("invalid output path: directory {above:?} does not exist")));
    }
    Ok(whole)
}

fn look(path: &str) -> Seen {
    let found = fs::metadata(path).ok();
    Seen {
        path: path.to_owned(),
        exists: found.is_some() || fs::symlink_metadata(path).is_ok(),
        is_folder: found.is_some_and(|found| found.is_dir()),
    }
}

/// The last name of a path, as Go's `filepath.Base` has it.
fn base(path: &str) -> &str {
    let trimmed = path.trim_end_matches('/');
    match trimmed.rsplit('/').next() {
        Some("") | None => "/",
        Some(name) => name,
    }
}

/// The folder above, and the name in it.
fn split(path: &str) -> (&str, &str) {
    let path = path.trim_end_matches("/.").trim_end_matches('/');
    match path.rsplit_once('/') {
        Some(("", name)) => ("/", name),
        Some((above, name)) => (above, name),
        None => ("/", path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_told_apart() {
        for (typed, container, path) in [
            ("web:/data", Some("web"), "/data"),
            ("web:", Some("web"), ""),
            ("/a:b", None, "/a:b"),
            ("./a:b", None, "./a:b"),
            ("-", None, "-"),
        ] {
            assert_eq!(End::parse(typed), End { container, path }, "{typed}");
        }
    }

    #[test]
    fn things_land_where_docker_puts_them() {
        let seen = |path: &str, exists, is_folder| Seen { path: path.to_owned(), exists, is_folder };
        let file = seen("/data/f", true, false);
        let folder = seen("/data/d", true, true);
        let content = seen("/data/d/.", true, true);
        for (source, to, landing) in [
            (&file, seen("/x", true, true), Ok(("/x", "f"))),
            (&file, seen("/x/g", false, false), Ok(("/x", "g"))),
            (&file, seen("/x/g", true, false), Ok(("/x", "g"))),
            (&file, seen("/x/g/", false, false), Err("no such directory")),
            (&folder, seen("/x", true, true), Ok(("/x", "d"))),
            (&folder, seen("/x/e", false, false), Ok(("/x", "e"))),
            (&folder, seen("/x/e", true, false), Err("cannot copy directory")),
            (&content, seen("/x", true, true), Ok(("/x", "."))),
            (&content, seen("/e", false, false), Ok(("/", "e"))),
        ] {
            let planned = Landing::plan(source, &to).map_err(|error| error.to_string());
            let expected = landing.map(|(folder, name)| Landing { folder: folder.into(), name: name.into() });
            assert_eq!(planned, expected.map_err(str::to_owned), "{source:?} {to:?}");
        }
    }
}
