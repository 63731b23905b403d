//! The inspection shell of `docker exec -it NAME sh`. An image holds no shell, yet people look inside containers: this
//! one is built into the host and sees what the container sees: its files, environment, models and numbers, and can run
//! the image's own tools. It changes nothing.
//!
//! It must never reach a file outside of the container's image and mounts, whatever links lie there.
//!
//! - [`words`]: a line to commands, pure
//! - [`line`]: keys of a terminal to lines, pure
//! - [`files`]: the container's files, confined by the kernel
//! - [`commands`]: what each command prints

mod commands;
mod files;
mod line;
mod words;

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc;
use wharf_tensor::infer::Infer;

use crate::container::runtime::{BoxFuture, Exec, Exit, Stream, Usage};
use crate::container::spec::Mount;
use crate::error::Result;

use commands::Session;
use line::{Editor, Key};
use words::{Joint, Step};

/// Names under which people ask for a shell.
const SHELLS: [&str; 8] = ["sh", "bash", "ash", "dash", "/bin/sh", "/bin/bash", "/bin/ash", "/usr/bin/bash"];

/// What the shell shows of a container.
#[derive(Clone)]
pub struct View {
    pub name: String,
    pub root: PathBuf,
    pub mounts: Vec<Mount>,
    pub argv: Vec<String>,
    pub models: Vec<(String, Arc<dyn Infer>)>,
    pub usage: Arc<dyn Fn() -> Usage + Send + Sync>,
    pub tools: Arc<dyn Tools>,
}

/// Runs components of the image.
pub trait Tools: Send + Sync {
    /// Whether `command` names one, seen from `working_dir`.
    fn find(&self, command: &str, working_dir: &str) -> bool;

    fn run(&self, exec: Exec) -> BoxFuture<'static, Exit>;
}

/// Whether this is for the shell: a shell by name, or one of its commands that the image has no tool for.
pub fn takes(argv: &[String]) -> bool {
    argv.first().is_some_and(|first| SHELLS.contains(&first.as_str()) || commands::is_one(first))
}

/// Run `exec.argv`: a shell with or without `-c`, or one command.
pub async fn run(view: View, exec: Exec) -> Exit {
    let Exec { argv, environment, working_dir, tty, stdin, output } = exec;
    let out = Out { tty, output };
    let mut session = match Session::new(view, environment, &working_dir) {
        Ok(session) => session,
        Err(error) => {
            out.error(&format!("{}\n", error.chain())).await;
            return Exit { code: 126, ..Exit::default() };
        }
    };
    let rest = argv.get(1..).unwrap_or_default();
    let code = match argv.first().map(String::as_str) {
        Some(shell) if SHELLS.contains(&shell) => match script(rest) {
            Script::Text(text) => run_line(&mut session, &text, &out).await,
            Script::Input if tty => interactive(&mut session, stdin, &out).await,
            Script::Input => from_input(&mut session, stdin, &out).await,
            Script::Refused(why) => {
                out.error(&format!("{shell}: {why}\n")).await;
                2
            }
        },
        _ => session.run(&argv, &out).await,
    };
    Exit { code, ..Exit::default() }
}

/// Where a container's words go.
pub(super) struct Out {
    tty: bool,
    output: mpsc::Sender<(Stream, Bytes)>,
}

impl Out {
    pub async fn print(&self, text: &str) {
        self.bytes(Stream::Stdout, text.as_bytes()).await;
    }

    pub async fn error(&self, text: &str) {
        self.bytes(Stream::Stderr, text.as_bytes()).await;
    }

    /// A terminal in raw mode goes down a line at `\n` and back to its start at `\r`.
    pub async fn bytes(&self, stream: Stream, bytes: &[u8]) {
        let bytes = match self.tty {
            true => Bytes::from(bytes.split_inclusive(|byte| *byte == b'\n').fold(Vec::new(), |mut all, line| {
                match line.split_last() {
                    Some((b'\n', text)) => all.extend_from_slice(&[text, b"\r\n"].concat()),
                    _ => all.extend_from_slice(line),
                }
                all
            })),
            false => Bytes::copy_from_slice(bytes),
        };
        // A caller that has gone hears nothing more; the shell ends when its input does.
        let _ = self.output.send((stream, bytes)).await;
    }

    fn is_closed(&self) -> bool {
        self.output.is_closed()
    }
}

enum Script {
    Text(String),
    Input,
    Refused(String),
}

/// The flags of `sh` that mean something here.
fn script(flags: &[String]) -> Script {
    let mut flags = flags.iter();
    while let Some(flag) = flags.next() {
        match flag.as_str() {
            "-c" | "-lc" | "-ec" => {
                return flags.next().map_or(Script::Refused("-c: option requires an argument".into()), |text| {
                    Script::Text(text.clone())
                });
            }
            "-i" | "-l" | "-e" | "--login" => {}
            other => {
                return Script::Refused(format!(
                    "{other}: this inspection shell runs no script files; write sh -c 'COMMAND'"
                ));
            }
        }
    }
    Script::Input
}

/// One line: commands joined by `;`, `&&` and `||`. The code of the last one that ran.
async fn run_line(session: &mut Session, text: &str, out: &Out) -> i32 {
    let steps = match words::parse(text, &|name| session.variable(name)) {
        Ok(steps) => steps,
        Err(why) => {
            out.error(&format!("sh: {why}\n")).await;
            return 2;
        }
    };
    let mut code = session.last_code();
    for Step { joint, argv } in steps {
        let wanted = match joint {
            Joint::Then => true,
            Joint::And => code == 0,
            Joint::Or => code != 0,
        };
        if wanted && !session.is_over() {
            code = session.run(&argv, out).await;
        }
    }
    code
}

/// Lines from a pipe, until it ends or `exit` is said.
async fn from_input(session: &mut Session, stdin: Option<mpsc::Receiver<Bytes>>, out: &Out) -> i32 {
    let Some(mut stdin) = stdin else { return 0 };
    let mut pending = Vec::new();
    let mut code = 0;
    while !session.is_over() && !out.is_closed() {
        let Some(end) = pending.iter().position(|byte| *byte == b'\n') else {
            match stdin.recv().await {
                Some(bytes) => pending.extend_from_slice(&bytes),
                None if pending.is_empty() => break,
                None => pending.push(b'\n'),
            }
            continue;
        };
        let line: Vec<u8> = pending.drain(..=end).collect();
        code = run_line(session, String::from_utf8_lossy(&line).trim_end(), out).await;
    }
    code
}

/// A prompt on a terminal.
async fn interactive(session: &mut Session, stdin: Option<mpsc::Receiver<Bytes>>, out: &Out) -> i32 {
    let Some(mut stdin) = stdin else {
        out.error("sh: a prompt needs input: docker exec -it\n").await;
        return 2;
    };
    out.print("Wharf's inspection shell: it shows this container and changes nothing. `help` lists its commands.\n")
        .await;
    let mut editor = Editor::default();
    let mut code = 0;
    out.print(&editor.start(&session.prompt())).await;
    while let Some(keys) = stdin.recv().await {
        let (events, echo) = editor.feed(&keys);
        out.print(&echo).await;
        for event in events {
            match event {
                Key::Line(line) => code = run_line(session, &line, out).await,
                Key::Interrupt => code = 130,
                Key::End => return code,
            }
            if session.is_over() || out.is_closed() {
                return code;
            }
            out.print(&editor.start(&session.prompt())).await;
        }
    }
    code
}

/// A command's outcome: its code, or what went wrong with it.
pub(super) type Outcome = Result<i32>;
