//! A server under test: a child process that writes a line for every address it listens on, stopped when
//! dropped.

use std::collections::VecDeque;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::usage::{self, Memory};

/// A first start compiles components, which takes seconds on a loaded machine.
const READY_WITHIN: Duration = Duration::from_secs(120);
/// Lines of the server's log shown when it does not start.
const LAST_LINES: usize = 20;

/// "I listen": which service, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listening {
    pub name: String,
    pub address: SocketAddr,
}

pub struct Server {
    child: Child,
    listening: Vec<Listening>,
    log: Arc<Mutex<VecDeque<String>>>,
    started: Instant,
}

impl Server {
    /// Start `command` and wait until every service in `names` listens.
    pub fn start(mut command: Command, names: &[&str]) -> Result<Self> {
        let program = command.get_program().to_string_lossy().into_owned();
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let started = Instant::now();
        let mut child = command.spawn().with_context(|| format!("cannot start {program}"))?;
        let stderr = child.stderr.take().context("the child has no stderr")?;
        let log = Arc::new(Mutex::new(VecDeque::new()));
        let (announce, announced) = channel();
        std::thread::spawn({
            let log = log.clone();
            move || {
                // Read to the end even when nobody asks any more: a full pipe would stop the server.
                for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                    if let Some(listening) = listening(&line) {
                        let _ = announce.send(listening);
                    }
                    let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
                    log.push_back(line);
                    if log.len() > LAST_LINES {
                        log.pop_front();
                    }
                }
            }
        });
        let mut server = Self { child, listening: Vec::new(), log, started };
        server.await_services(&announced, names).with_context(|| format!("{program} did not start"))?;
        Ok(server)
    }

    fn await_services(&mut self, announced: &Receiver<Listening>, names: &[&str]) -> Result<()> {
        while let Some(missing) = names.iter().find(|name| self.address(name).is_err()) {
            let left = READY_WITHIN.saturating_sub(self.started.elapsed());
            match announced.recv_timeout(left) {
                Ok(listening) => self.listening.push(listening),
                Err(RecvTimeoutError::Timeout) => {
                    bail!("{missing:?} does not listen after {READY_WITHIN:?}; its last lines:\n{}", self.last_lines())
                }
                Err(RecvTimeoutError::Disconnected) => bail!("it ended; its last lines:\n{}", self.last_lines()),
            }
        }
        Ok(())
    }

    fn last_lines(&self) -> String {
        let log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        log.iter().map(String::as_str).collect::<Vec<_>>().join("\n")
    }

    pub fn address(&self, name: &str) -> Result<SocketAddr> {
        let found = self.listening.iter().find(|listening| listening.name == name);
        let found = found.with_context(|| format!("no service {name:?} among {:?}", self.listening))?;
        Ok(found.address)
    }

    /// When the process was spawned.
    pub fn started(&self) -> Instant {
        self.started
    }

    pub fn processor_time(&self) -> Result<Duration> {
        usage::processor_time(self.child.id())
    }

    pub fn memory(&self) -> Result<Memory> {
        usage::memory(self.child.id())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Nothing of it is kept, so it need not be asked politely.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The service and address in a JSON log line that says "listening", wherever in the line they stand.
fn listening(line: &str) -> Option<Listening> {
    if !line.contains("listening") {
        return None;
    }
    let value: Value = serde_json::from_str(line).ok()?;
    let fields = value.get("fields").unwrap_or(&value);
    let address = fields.get("address")?.as_str()?;
    let address = address.strip_prefix("http://").unwrap_or(address).trim_end_matches('/').parse().ok()?;
    let name = fields.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
    Some(Listening { name, address })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    #[test]
    fn log_lines_are_read_leniently() {
        let nested = r#"{"level":"INFO","fields":{"message":"listening","name":"digits","address":"127.0.0.1:41"}}"#;
        assert_eq!(listening(nested), Some(Listening { name: "digits".into(), address: at(41) }));
        let flat = r#"{"msg":"listening","address":"http://127.0.0.1:42/"}"#;
        assert_eq!(listening(flat), Some(Listening { name: String::new(), address: at(42) }));
        assert_eq!(listening(r#"{"fields":{"message":"ready"}}"#), None);
        assert_eq!(listening("listening, but not JSON"), None);
    }

    #[test]
    fn a_server_that_ends_shows_its_last_lines() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo no such model >&2"]);
        let error = Server::start(command, &["any"]).err().unwrap();
        assert!(format!("{error:#}").contains("no such model"), "{error:#}");
    }

    #[test]
    fn a_server_is_ready_when_all_services_listen() {
        let mut command = Command::new("sh");
        let line = r#"echo '{"fields":{"message":"listening","name":"NAME","address":"127.0.0.1:9"}}' >&2"#;
        command.args(["-c", &format!("{};{};exec sleep 60", line.replace("NAME", "a"), line.replace("NAME", "b"))]);
        let server = Server::start(command, &["b", "a"]).unwrap();
        assert_eq!(server.address("b").unwrap(), at(9));
        assert!(server.address("c").is_err());
    }
}
