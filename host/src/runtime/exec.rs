//! Running another component of an image beside its container: `docker exec NAME /tool.wasm`, health checks, and tools
//! called from the inspection shell.

use std::path::PathBuf;

use bytes::{Bytes, BytesMut};
use tokio::sync::mpsc;
use wharf_sandbox::job::JobSpec;
use wharf_sandbox::log::LogStream;
use wharf_sandbox::state::Guest;
use wharf_sandbox::stdio::Output;

use super::contents;
use super::programs::{Program, Programs};
use super::shell::Tools;
use super::task::exit;
use crate::container::runtime::{BoxFuture, Exec, Exit, ProbeResult, Stream};
use crate::error::{Error, ErrorKind, Result};

/// Pieces of output under way.
const PIECES: usize = 16;

/// The tools of one container.
#[derive(Clone)]
pub struct Toolbox {
    pub programs: Programs,
    pub root: PathBuf,
    /// The container's own, whose files, limits and account a tool shares.
    pub guest: Guest,
}

impl Tools for Toolbox {
    fn find(&self, command: &str, working_dir: &str) -> bool {
        contents::program(&self.root, self.folder(working_dir), command).is_ok()
    }

    fn run(&self, exec: Exec) -> BoxFuture<'static, Exit> {
        let toolbox = self.clone();
        Box::pin(async move { toolbox.run_tool(exec).await })
    }
}

impl Toolbox {
    /// The folder a command starts in: its own, else the container's.
    fn folder<'a>(&'a self, asked: &'a str) -> &'a str {
        match (asked, self.guest.working_dir.as_str()) {
            ("", "") => "/",
            ("", own) => own,
            (asked, _) => asked,
        }
    }

    async fn run_tool(self, exec: Exec) -> Exit {
        let Exec { argv, environment, working_dir, tty, stdin, output } = exec;
        let refused = output.clone();
        let folder = self.folder(&working_dir).to_owned();
        let program = match self.load(&argv, &folder).await {
            Ok(program) => program,
            Err(error) => {
                // The terminal that shows it may be raw.
                let text = format!("{}\r\n", error.chain());
                let _ = refused.send((Stream::Stdout, text.into())).await;
                let code = if error.kind() == ErrorKind::NotFound { 127 } else { 126 };
                return Exit { code, error: error.chain(), ..Exit::default() };
            }
        };
        let Program::Job(job) = &*program else { return Exit { code: 126, ..Exit::default() } };
        let (pieces, received) = mpsc::channel(PIECES);
        let guest = Guest {
            arguments: argv,
            environment,
            working_dir: folder,
            output: Output::Chunks(pieces),
            ..self.guest.clone()
        };
        let ended = {
            let running = job.run(JobSpec { guest, stdin, terminal: tty });
            let (ended, ()) = tokio::join!(running, forward(received, output));
            ended
        };
        exit(ended, &Told(refused))
    }

    async fn load(&self, argv: &[String], folder: &str) -> Result<std::sync::Arc<Program>> {
        let command = argv.first().cloned().unwrap_or_default();
        let file = contents::program(&self.root, folder, &command)?;
        let programs = self.programs.clone();
        let shown = command.clone();
        let loading = tokio::task::spawn_blocking(move || programs.load(&file, &shown));
        let program = loading
            .await
            .map_err(|error| Error::new(ErrorKind::Failed, "loading a tool ended unexpectedly").because(error))??;
        match &*program {
            Program::Job(_) => Ok(program),
            Program::Service(_) => Err(Error::invalid(format!(
                "{command} is a service (wasi:http): it answers requests, it cannot be run as a command"
            ))),
        }
    }
}

/// Pass pieces on until the tool has ended. A caller that has gone does not stop it.
async fn forward(mut pieces: mpsc::Receiver<(LogStream, Bytes)>, output: mpsc::Sender<(Stream, Bytes)>) {
    while let Some((stream, piece)) = pieces.recv().await {
        let stream = match stream {
            LogStream::Stdout => Stream::Stdout,
            LogStream::Stderr => Stream::Stderr,
        };
        let _ = output.send((stream, piece)).await;
    }
}

/// Remarks of the host on a tool's end go where its output went.
struct Told(mpsc::Sender<(Stream, Bytes)>);

impl wharf_sandbox::log::LogSink for Told {
    fn try_write(&self, _stream: LogStream, line: Bytes) -> bool {
        let mut text = BytesMut::from(line.as_ref());
        text.extend_from_slice(b"\r\n");
        self.0.try_send((Stream::Stderr, text.freeze())).is_ok()
    }

    fn ready(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }
}

/// Run a tool and keep the first `limit` bytes of what it says.
pub async fn captured(toolbox: &Toolbox, argv: Vec<String>, limit: usize) -> ProbeResult {
    let (output, mut received) = mpsc::channel::<(Stream, Bytes)>(PIECES);
    let exec = Exec {
        argv,
        environment: toolbox.guest.environment.clone(),
        working_dir: String::new(),
        tty: false,
        stdin: None,
        output,
    };
    let collect = async {
        let mut text = Vec::new();
        while let Some((_, piece)) = received.recv().await {
            let room = limit.saturating_sub(text.len());
            text.extend_from_slice(piece.get(..piece.len().min(room)).unwrap_or_default());
        }
        String::from_utf8_lossy(&text).into_owned()
    };
    let (ended, output) = tokio::join!(toolbox.clone().run_tool(exec), collect);
    ProbeResult { code: ended.code, output }
}
