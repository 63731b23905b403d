//! Containers' lines, written by one thread: `name | line` for people, one JSON object a line for programs.
//! Lines of a guest's stdout go to stdout, of its stderr to stderr.

use std::collections::HashMap;
use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::thread::JoinHandle;

use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::sync::mpsc::{Receiver, Sender};
use tokio::sync::oneshot;
use wharf_sandbox::log::LogStream;

use super::telemetry::LogFormat;
use crate::error::{Error, ErrorKind, Result};
use crate::runtime::log::LogLine;

pub struct Console {
    thread: JoinHandle<()>,
    stop: oneshot::Sender<()>,
}

impl Console {
    /// Write what has been sent so far and end. Guests that are still being cut off may hold senders: they are not
    /// waited for.
    pub fn finish(self) {
        // A writer that panicked has lost its lines already.
        let _ = self.stop.send(());
        let _ = self.thread.join();
    }
}

/// Where lines enter that came from a container some other way than its guest's own log.
#[derive(Clone)]
pub struct Printer(Sender<LogLine>);

impl Printer {
    pub fn new(lines: Sender<LogLine>) -> Printer {
        Printer(lines)
    }

    /// One line without its newline. Waits while the console is behind.
    pub async fn print(&self, container: &Arc<str>, to_stderr: bool, text: Bytes) {
        let stream = if to_stderr { LogStream::Stderr } else { LogStream::Stdout };
        // Closed: the host is at its end, and so is its console.
        let _ = self.0.send(LogLine { container: container.clone(), stream, text }).await;
    }
}

/// Colours of the names, one container after the other.
pub const COLOURS: &[u8] = &[36, 33, 32, 35, 34, 96, 93, 92, 95, 94];

/// The colours given so far.
#[derive(Default)]
struct Palette(HashMap<Arc<str>, u8>);

impl Palette {
    fn of(&mut self, container: &Arc<str>) -> u8 {
        let next = COLOURS[self.0.len() % COLOURS.len()];
        *self.0.entry(container.clone()).or_insert(next)
    }
}

/// Start the writing thread; call it inside a tokio runtime. `coloured`: people's terminals get coloured names.
pub fn spawn(mut lines: Receiver<LogLine>, format: LogFormat, coloured: bool) -> Result<Console> {
    let (stop, mut stopped) = oneshot::channel();
    let runtime = Handle::current();
    let coloured = coloured && format == LogFormat::Human;
    let (out_coloured, err_coloured) = (coloured && io::stdout().is_terminal(), coloured && io::stderr().is_terminal());
    let mut palette = Palette::default();
    let write = move || {
        while let Some(line) = runtime.block_on(next(&mut lines, &mut stopped)) {
            let colour = palette.of(&line.container);
            // A closed pipe (`wharf serve | head`) must not stop the services.
            let _ = match line.stream {
                LogStream::Stdout => {
                    write_line(&mut io::stdout().lock(), &line, format, out_coloured.then_some(colour))
                }
                LogStream::Stderr => {
                    write_line(&mut io::stderr().lock(), &line, format, err_coloured.then_some(colour))
                }
            };
        }
    };
    let thread = std::thread::Builder::new().name("wharf-console".into()).spawn(write);
    let thread = thread.map_err(|error| Error::new(ErrorKind::Io, "cannot start the console thread").because(error))?;
    Ok(Console { thread, stop })
}

/// The next line; `None` when stopped and everything sent before that is written.
async fn next(lines: &mut Receiver<LogLine>, stopped: &mut oneshot::Receiver<()>) -> Option<LogLine> {
    tokio::select! {
        biased;
        line = lines.recv() => line,
        _ = stopped, if !stopped.is_terminated() => {
            lines.close();
            lines.recv().await
        }
    }
}

fn write_line(out: &mut impl Write, line: &LogLine, format: LogFormat, colour: Option<u8>) -> io::Result<()> {
    let text = match format {
        LogFormat::Human => printable(&String::from_utf8_lossy(&line.text)),
        LogFormat::Json => String::from_utf8_lossy(&line.text).into_owned(),
    };
    match format {
        LogFormat::Human => match colour {
            Some(colour) => writeln!(out, "\x1b[{colour}m{} |\x1b[0m {text}", line.container),
            None => writeln!(out, "{} | {text}", line.container),
        },
        LogFormat::Json => {
            let stream = match line.stream {
                LogStream::Stdout => "stdout",
                LogStream::Stderr => "stderr",
            };
            writeln!(out, "{}", serde_json::json!({ "container": &*line.container, "stream": stream, "line": text }))
        }
    }
}

/// A guest must not steer the operator's terminal: control characters are shown, not obeyed.
fn printable(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() && letter != '\t' { '\u{fffd}' } else { letter }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(format: LogFormat, text: &'static str) -> String {
        written_in(None, format, text)
    }

    fn written_in(colour: Option<u8>, format: LogFormat, text: &'static str) -> String {
        let line = LogLine { container: "digits".into(), stream: LogStream::Stderr, text: text.into() };
        let mut out = Vec::new();
        write_line(&mut out, &line, format, colour).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn people_see_the_name_and_no_control_characters() {
        assert_eq!(written(LogFormat::Human, "hello\x1b[2J"), "digits | hello\u{fffd}[2J\n");
    }

    #[test]
    fn each_name_keeps_its_colour() {
        let mut palette = Palette::default();
        let (a, b): (Arc<str>, Arc<str>) = ("a".into(), "b".into());
        assert_eq!([palette.of(&a), palette.of(&b), palette.of(&a)], [36, 33, 36]);
        assert_eq!(written_in(Some(36), LogFormat::Human, "hello"), "\x1b[36mdigits |\x1b[0m hello\n");
    }

    #[test]
    fn programs_get_json() {
        let line = written(LogFormat::Json, "a \"quoted\" line");
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(value["line"], "a \"quoted\" line");
        assert_eq!(value["stream"], "stderr");
    }
}
