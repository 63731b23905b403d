//! Containers' lines, written by one thread: `name | line` for people, one JSON object a line for programs.
//! Lines of a guest's stdout go to stdout, of its stderr to stderr.

use std::io::{self, Write};
use std::thread::JoinHandle;

use tokio::runtime::Handle;
use tokio::sync::mpsc::Receiver;
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

/// Start the writing thread; call it inside a tokio runtime.
pub fn spawn(mut lines: Receiver<LogLine>, format: LogFormat) -> Result<Console> {
    let (stop, mut stopped) = oneshot::channel();
    let runtime = Handle::current();
    let write = move || {
        while let Some(line) = runtime.block_on(next(&mut lines, &mut stopped)) {
            // A closed pipe (`wharf serve | head`) must not stop the services.
            let _ = match line.stream {
                LogStream::Stdout => write_line(&mut io::stdout().lock(), &line, format),
                LogStream::Stderr => write_line(&mut io::stderr().lock(), &line, format),
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

fn write_line(out: &mut impl Write, line: &LogLine, format: LogFormat) -> io::Result<()> {
    let text = match format {
        LogFormat::Human => printable(&String::from_utf8_lossy(&line.text)),
        LogFormat::Json => String::from_utf8_lossy(&line.text).into_owned(),
    };
    match format {
        LogFormat::Human => writeln!(out, "{} | {text}", line.container),
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
        let line = LogLine { container: "digits".into(), stream: LogStream::Stderr, text: text.into() };
        let mut out = Vec::new();
        write_line(&mut out, &line, format).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn people_see_the_name_and_no_control_characters() {
        assert_eq!(written(LogFormat::Human, "hello\x1b[2J"), "digits | hello\u{fffd}[2J\n");
    }

    #[test]
    fn programs_get_json() {
        let line = written(LogFormat::Json, "a \"quoted\" line");
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(value["line"], "a \"quoted\" line");
        assert_eq!(value["stream"], "stderr");
    }
}
