//! Everybody's output, each line after its service's name: `wharf compose logs`, `up` in the foreground, and compose
//! files that `wharf serve` runs.

use std::process::ExitCode;
use std::sync::Arc;

use bytes::Bytes;
use clap::Args;
use http::Method;
use http_body_util::BodyExt;
use serde_json::Value;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;

use super::project::Work;
use crate::cli::client::{Call, Client, Query};
use crate::cli::stream::{Channel, Frames};
use crate::cli::{colour, session, table, units};
use crate::error::{Error, ErrorKind, Result};
use crate::serve::console::{COLOURS, Printer};

/// How the time begins that the daemon gives for what has not happened.
const NEVER: &str = "0001-";

/// Show the services' output
#[derive(Debug, Args)]
pub struct Logs {
    /// Go on as more comes
    #[arg(short, long)]
    follow: bool,
    /// Only so many lines from the end
    #[arg(short = 'n', long, default_value = "all")]
    tail: String,
    /// Since a time, or for so long: 10m, 2026-05-30T12:00:00Z
    #[arg(long)]
    since: Option<String>,
    /// Each line after its time
    #[arg(short, long)]
    timestamps: bool,
    /// Lines without the services' names
    #[arg(long)]
    no_log_prefix: bool,
    /// Names without colours
    #[arg(long)]
    no_color: bool,
    pub services: Vec<String>,
}

/// A container whose output is shown.
#[derive(Clone, Debug)]
pub struct Source {
    pub service: String,
    pub id: String,
    pub name: String,
    pub running: bool,
    tty: bool,
    /// When it ended before, in the daemon's spelling; nothing for one that never did.
    finished: String,
    /// Lines up to this time are old.
    seen: String,
}

impl Source {
    pub fn new(service: &str, state: &Value) -> Source {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        Source {
            service: service.to_owned(),
            id: text(&state["Id"]),
            name: text(&state["Name"]).trim_start_matches('/').to_owned(),
            running: state["State"]["Running"] == true,
            tty: state["Config"]["Tty"] == true,
            finished: text(&state["State"]["FinishedAt"]),
            seen: String::new(),
        }
    }
}

/// Where lines go, and how they look there.
#[derive(Clone)]
pub enum Style {
    /// To this program's own stdout and stderr.
    Own { prefix: String, timestamps: bool },
    /// To the console of the host that this program is, under a name.
    Console { name: Arc<str>, printer: Printer },
}

fn styles(sources: &[Source], prefixed: bool, coloured: bool, timestamps: bool) -> Vec<Style> {
    let width = sources.iter().map(|source| source.service.len()).max().unwrap_or(0);
    let prefix = |(index, source): (usize, &Source)| {
        let plain = format!("{:<width$}  | ", source.service);
        match (prefixed, coloured) {
            (false, _) => String::new(),
            (true, false) => plain,
            (true, true) => format!("\x1b[{}m{plain}\x1b[0m", COLOURS[index % COLOURS.len()]),
        }
    };
    sources.iter().enumerate().map(|one| Style::Own { prefix: prefix(one), timestamps }).collect()
}

impl Logs {
    pub async fn execute(self, work: Work) -> Result<ExitCode> {
        let mut sources = Vec::new();
        let members = work.members_of(&self.services).await?;
        for member in &members {
            let state = work.client.get(&format!("/containers/{}/json", member.id), &Query::new()).await?;
            let shown = match members.iter().filter(|other| other.service == member.service).count() {
                1 => member.service.clone(),
                _ => format!("{}-{}", member.service, member.number),
            };
            sources.push(Source::new(&shown, &state));
        }
        let coloured = colour::on_stdout() && !self.no_color;
        let styles = styles(&sources, !self.no_log_prefix, coloured, self.timestamps);
        let since = self.since.as_deref().map(units::moment).transpose()?;
        let query = Query::new().with("tail", self.tail).some("since", since);
        let mut all = JoinSet::new();
        for (source, style) in sources.into_iter().zip(styles) {
            let (client, query) = (work.client.clone(), query.clone());
            if self.follow {
                all.spawn(until_ended(client, source, style, query));
            } else {
                // One after the other: nobody's lines are torn apart.
                show(&client, source, &style, query, false).await?;
            }
        }
        while let Some(ended) = all.join_next().await {
            ended.map_err(|error| Error::new(ErrorKind::Failed, "a log ended early").because(error))??;
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// `up` without `-d`: everybody's output until all have ended, or a signal stops them.
pub async fn foreground(work: &Work, sources: Vec<Source>, abort: bool) -> Result<ExitCode> {
    let listen =
        |kind| signal(kind).map_err(|error| Error::new(ErrorKind::Io, "cannot listen for Ctrl-C").because(error));
    let (mut interrupt, mut terminate) = (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
    let styles = styles(&sources, true, colour::on_stdout(), false);
    let mut all = JoinSet::new();
    for (source, style) in sources.iter().cloned().zip(styles) {
        all.spawn(from_start(work.client.clone(), source, style));
    }
    table::say(&format!("Attaching to {}", names(&sources)));
    let code = loop {
        tokio::select! {
            ended = all.join_next() => match ended {
                None => return Ok(ExitCode::SUCCESS),
                Some(Ok(Ok((service, code)))) => {
                    table::say(&format!("{service} exited with code {code}"));
                    if abort {
                        break (code & 0xff) as u8;
                    }
                }
                Some(Ok(Err(error))) => return Err(error),
                Some(Err(error)) => return Err(Error::new(ErrorKind::Failed, "a log ended early").because(error)),
            },
            _ = interrupt.recv() => break 130,
            _ = terminate.recv() => break 143,
        }
    };
    table::say("Gracefully stopping... (press Ctrl+C again to force)");
    let stopping = stop(&work.client, &sources, None);
    tokio::pin!(stopping);
    tokio::select! {
        stopped = &mut stopping => stopped?,
        _ = interrupt.recv() => {
            for source in &sources {
                // One that has ended needs no killing.
                let _ = work.client.post(&format!("/containers/{}/kill", source.id), &Query::new(), None).await;
            }
        }
    }
    // Their last words.
    while let Some(ended) = all.join_next().await {
        if let Ok(Ok((service, code))) = ended {
            table::say(&format!("{service} exited with code {code}"));
        }
    }
    Ok(ExitCode::from(code))
}

/// Dependents before what they depend on; each within so many seconds, if that is not for the daemon to say.
pub async fn stop(client: &Client, sources: &[Source], seconds: Option<u64>) -> Result<()> {
    for source in sources.iter().rev() {
        let query = Query::new().some("t", seconds.map(|seconds| seconds.to_string()));
        client.post(&format!("/containers/{}/stop", source.id), &query, None).await?;
        table::say(&format!("Container {}  Stopped", source.name));
    }
    Ok(())
}

fn names(sources: &[Source]) -> String {
    sources.iter().map(|source| source.service.as_str()).collect::<Vec<_>>().join(", ")
}

/// Its output from this start on, as [`until_ended`].
pub async fn from_start(client: Client, mut source: Source, style: Style) -> Result<(String, i64)> {
    // What was there before is not shown again.
    let tail = if source.running { "0" } else { "all" };
    if !source.running && !source.finished.starts_with(NEVER) {
        source.seen = source.finished.clone();
    }
    until_ended(client, source, style, Query::new().with("tail", tail)).await
}

/// Its output across restarts, until it has ended for good; its service and exit code.
async fn until_ended(client: Client, mut source: Source, style: Style, mut query: Query) -> Result<(String, i64)> {
    loop {
        source = show(&client, source, &style, query, true).await?;
        // A stream also ends where the container is about to be started again.
        let exit = client.get(&format!("/containers/{}/json", source.id), &Query::new()).await;
        let state = match exit {
            Ok(state) => state["State"].clone(),
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok((source.service, 137)),
            Err(error) => return Err(error),
        };
        if state["Running"] != true && state["Restarting"] != true {
            return Ok((source.service, state["ExitCode"].as_i64().unwrap_or(0)));
        }
        if state["Restarting"] == true {
            let query = Query::new().with("condition", "next-exit");
            let path = format!("/containers/{}/wait", source.id);
            let _ = client.send(Method::POST, &path, &query, Call::empty()).await?.into_body().collect().await;
        }
        let since = (!source.seen.is_empty()).then(|| units::moment(&source.seen)).transpose()?;
        query = Query::new().some("since", since);
    }
}

/// Lines that are new since `source.seen`, whole ones only.
async fn show(client: &Client, mut source: Source, style: &Style, query: Query, follow: bool) -> Result<Source> {
    let query = query.with("stdout", "1").with("stderr", "1").with("timestamps", "1").flag("follow", follow);
    let path = format!("/containers/{}/logs", source.id);
    let mut body = client.send(Method::GET, &path, &query, Call::empty()).await?.into_body();
    let mut frames = Frames::new(source.tty);
    let mut lines = Lines::default();
    while let Some(Ok(frame)) = body.frame().await {
        frames.push(frame.data_ref().map_or(&[][..], |bytes| bytes));
        while let Some((channel, text)) = frames.take()? {
            for line in lines.push(channel, &text) {
                line_shown(&mut source, style, channel, &line).await?;
            }
        }
    }
    for (channel, line) in lines.rest() {
        line_shown(&mut source, style, channel, &line).await?;
    }
    Ok(source)
}

async fn line_shown(source: &mut Source, style: &Style, channel: Channel, line: &[u8]) -> Result<()> {
    let cut = line.iter().position(|byte| *byte == b' ').unwrap_or(0);
    let stamp = String::from_utf8_lossy(&line[..cut]).into_owned();
    // Stamps are of one length: their order is that of time.
    if stamp <= source.seen && !source.seen.is_empty() {
        return Ok(());
    }
    source.seen = stamp;
    let text = &line[(cut + 1).min(line.len())..];
    match style {
        Style::Own { prefix, timestamps } => {
            let text = if *timestamps { line } else { text };
            session::show(channel, &[prefix.as_bytes(), text, b"\n"].concat())
        }
        Style::Console { name, printer } => {
            printer.print(name, channel == Channel::Stderr, Bytes::copy_from_slice(text)).await;
            Ok(())
        }
    }
}

/// Whole lines of each channel, however they came.
#[derive(Default)]
pub struct Lines {
    out: Vec<u8>,
    err: Vec<u8>,
}

impl Lines {
    pub fn push(&mut self, channel: Channel, text: &[u8]) -> Vec<Vec<u8>> {
        let pending = if channel == Channel::Stdout { &mut self.out } else { &mut self.err };
        pending.extend_from_slice(text);
        let Some(end) = pending.iter().rposition(|byte| *byte == b'\n') else { return Vec::new() };
        let rest = pending.split_off(end + 1);
        let whole = std::mem::replace(pending, rest);
        let lines = whole[..end].split(|byte| *byte == b'\n');
        lines.map(|line| line.strip_suffix(b"\r").unwrap_or(line).to_vec()).collect()
    }

    pub fn rest(self) -> impl Iterator<Item = (Channel, Vec<u8>)> {
        [(Channel::Stdout, self.out), (Channel::Stderr, self.err)].into_iter().filter(|(_, rest)| !rest.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn lines_are_whole_and_prefixes_are_as_wide_as_the_longest() {
        let mut lines = Lines::default();
        assert!(lines.push(Channel::Stdout, b"o").is_empty());
        assert!(lines.push(Channel::Stderr, b"err").is_empty());
        assert_eq!(lines.push(Channel::Stdout, b"ne\r\ntwo\nth"), [b"one".to_vec(), b"two".to_vec()]);
        let rest: Vec<Vec<u8>> = lines.rest().map(|(_, line)| line).collect();
        assert_eq!(rest, [b"th".to_vec(), b"err".to_vec()]);

        let source = |name: &str| Source::new(name, &json!({"Id": "1", "Name": "/x"}));
        let prefixes = |coloured| -> Vec<String> {
            styles(&[source("a"), source("long")], true, coloured, false)
                .into_iter()
                .map(|style| match style {
                    Style::Own { prefix, .. } => prefix,
                    Style::Console { name, .. } => name.to_string(),
                })
                .collect()
        };
        assert_eq!(prefixes(false), ["a     | ", "long  | "]);
        assert_eq!(prefixes(true)[1], "\x1b[33mlong  | \x1b[0m");
    }
}
