//! A packed or cross-built host on trial: started as its users would, asked for a digit over its port, and ended.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::step;
use crate::tree::Tree;

/// An emulated host compiles its guests slowly.
const PATIENCE: Duration = Duration::from_secs(300);
const PICTURE: &str = "examples/digits/testdata/seven.png";
const DIGIT: i64 = 7;

/// A running host. Killed when dropped.
pub struct Trial {
    child: Child,
    /// `address:port` of the digits service.
    address: String,
    /// What it said of the model that it loaded.
    loaded: Value,
}

impl Trial {
    /// Starts `command` (a host's program, perhaps behind an emulator) with the digits example of `guests` and nothing in
    /// its environment; `data` is where it may write.
    pub fn start(command: Command, guests: &Path, data: &Path) -> Result<Trial> {
        Trial::start_with(command, guests, data, |_| ())
    }

    /// The same with what `add` adds to the command: flags, variables.
    pub fn start_with(
        mut command: Command,
        guests: &Path,
        data: &Path,
        add: impl FnOnce(&mut Command),
    ) -> Result<Trial> {
        command.env_clear().arg("serve").arg(guests.join("digits"));
        add(&mut command);
        command.args(["-p", "127.0.0.1:0:5000", "--http", "127.0.0.1:0", "--log-format", "json", "--data"]).arg(data);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().context("cannot start the host")?;
        let lines = follow(&mut child);
        let mut trial = Trial { child, address: String::new(), loaded: Value::Null };
        let mut seen = String::new();
        loop {
            let Ok(line) = lines.recv_timeout(PATIENCE) else {
                bail!("the host did not get ready; it said:\n{seen}");
            };
            seen = seen + &line + "\n";
            let event: Value = serde_json::from_str(&line).unwrap_or_default();
            let fields = &event["fields"];
            if fields["message"] == "listening" && fields["name"] == "digits" {
                trial.address = fields["address"].as_str().unwrap_or_default().to_owned();
            }
            if fields["message"] == "loaded" {
                trial.loaded = fields.clone();
            }
            if fields["message"] == "ready" {
                step::note(format_args!("ready on {}", trial.address));
                return Ok(trial);
            }
        }
    }

    /// Sends the picture of a seven; anything but a seven for an answer is an error.
    pub fn recognises(&self, tree: &Tree) -> Result<()> {
        let picture = std::fs::read(tree.root().join(PICTURE)).with_context(|| format!("cannot read {PICTURE}"))?;
        let answer = post(&self.address, "/predict", &picture)?;
        let (head, body) = answer.split_once("\r\n\r\n").context("the answer has no head")?;
        step::note(format_args!("{} {body}", head.lines().next().unwrap_or_default()));
        let digit = serde_json::from_str::<Value>(body).ok().and_then(|json| json["digit"].as_i64());
        ensure!(digit == Some(DIGIT), "a picture of {DIGIT} was taken for {digit:?}: {answer}");
        Ok(())
    }

    /// The fields of its log's line about its model: `device`, and `instead_of` with the reasons where it fell back.
    pub fn loaded(&self) -> &Value {
        &self.loaded
    }

    /// SIGTERM, and an end as it should be.
    pub fn stop(mut self) -> Result<()> {
        step::run(Command::new("kill").args(["-TERM", &self.child.id().to_string()]))?;
        let status = self.child.wait()?;
        ensure!(status.success(), "the host was asked to stop, and ended with {status}");
        Ok(())
    }
}

impl Drop for Trial {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What the host says on either output, line by line.
fn follow(child: &mut Child) -> Receiver<String> {
    let (sender, receiver) = channel();
    let outputs: [Option<Box<dyn Read + Send>>; 2] = [
        child.stdout.take().map(|pipe| Box::new(pipe) as Box<dyn Read + Send>),
        child.stderr.take().map(|pipe| Box::new(pipe) as Box<dyn Read + Send>),
    ];
    for pipe in outputs.into_iter().flatten() {
        let sender = sender.clone();
        // Reads on to the end: a full pipe would stop the host.
        std::thread::spawn(move || {
            BufReader::new(pipe).lines().map_while(Result::ok).for_each(|l| drop(sender.send(l)))
        });
    }
    receiver
}

fn post(address: &str, route: &str, body: &[u8]) -> Result<String> {
    let mut stream = TcpStream::connect(address).with_context(|| format!("nothing listens on {address}"))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(stream, "POST {route} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\ncontent-type: image/png\r\n")?;
    write!(stream, "content-length: {}\r\n\r\n", body.len())?;
    stream.write_all(body)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).context("the answer was cut short")?;
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_that_ends_before_it_is_ready_is_reported_with_its_words() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo no library; exit 1"]);
        let error = Trial::start(command, Path::new("unused"), Path::new("unused")).err().unwrap().to_string();
        assert!(error.contains("no library"), "{error}");
    }
}
