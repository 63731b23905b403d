//! A real host: started, listened to, measured and stopped.

use std::collections::VecDeque;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex, Weak};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::http::Client;
use super::{PATIENCE, guests};

pub const WHARF: &str = env!("CARGO_BIN_EXE_wharf");

/// How long a host may take to end: its own stop timeout of 10 s, and as much again.
const LONGEST_END: Duration = Duration::from_secs(20);

/// `wharf serve` in a process of its own, ready to be asked. Killed when dropped.
pub struct TestHost {
    child: Child,
    services: Vec<(String, SocketAddr)>,
    log: Log,
}

impl TestHost {
    /// Serve `targets` on free ports, one for each service, until the host says it is ready.
    #[track_caller]
    pub fn serve(targets: &[&Path], flags: &[&str]) -> TestHost {
        TestHost::serve_from(&shared_data(), targets, flags)
    }

    /// The same, with another `$WHARF_DATA`.
    #[track_caller]
    pub fn serve_from(data: &Path, targets: &[&Path], flags: &[&str]) -> TestHost {
        let mut command = Command::new(WHARF);
        command.arg("serve").args(targets).args(["--http", "127.0.0.1:0", "--log-format", "json", "--data"]).arg(data);
        for _ in targets.iter().filter(|target| holds_component(target)) {
            command.args(["-p", "127.0.0.1:0:5000"]);
        }
        TestHost::start(command.args(flags))
    }

    /// Start any command that ends up as a host with a JSON log.
    #[track_caller]
    pub fn start(command: &mut Command) -> TestHost {
        command.env("ORT_DYLIB_PATH", guests::library());
        keep_off_the_machine(command);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("cannot start {WHARF}: {error}"));
        let log = Log::default();
        let (stdout, stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        log.follow("stdout", stdout);
        log.follow("stderr", stderr);
        let mut host = TestHost { child, services: Vec::new(), log };
        let ready = host.log.find(PATIENCE, |line| line.message() == "ready");
        assert!(ready.is_some(), "the host did not get ready; its log:\n{}", host.log.text());
        let listening = |line: &LogLine| {
            let field = |name: &str| line.json["fields"][name].as_str();
            let address = field("address")?.parse().ok()?;
            (line.message() == "listening").then(|| (field("name").unwrap_or_default().to_owned(), address))
        };
        host.services = host.log.lines().iter().filter_map(listening).collect();
        host
    }

    /// The service of that name.
    #[track_caller]
    pub fn service(&self, name: &str) -> Client {
        let found = self.services.iter().find(|(known, _)| known == name);
        Client(found.unwrap_or_else(|| panic!("no service {name:?} among {:?}", self.services)).1)
    }

    /// The host's own port.
    #[track_caller]
    pub fn http(&self) -> Client {
        self.service("host")
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn log(&self) -> &Log {
        &self.log
    }

    /// A number of `/metrics`, by name and labels as they are written there.
    #[track_caller]
    pub fn metric(&self, name: &str) -> f64 {
        let text = self.http().get("/metrics").expect(200).text();
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.unwrap_or_else(|| panic!("no {name} in:\n{text}")).parse().unwrap()
    }

    /// Requests that a service is answering now.
    #[track_caller]
    pub fn in_flight(&self, service: &str) -> f64 {
        self.metric(&format!("wharf_http_requests_in_flight{{container=\"{service}\"}}"))
    }

    /// Memory in use now, in MiB.
    pub fn rss(&self) -> u64 {
        self.memory("VmRSS:")
    }

    /// The most memory that was ever in use, in MiB.
    pub fn peak_rss(&self) -> u64 {
        self.memory("VmHWM:")
    }

    fn memory(&self, field: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() >> 10
    }

    /// Send a signal, e.g. `TERM`. By the shell, which every machine has.
    pub fn signal(&self, signal: &str) {
        let sent = Command::new("sh").args(["-c", &format!("kill -{signal} {}", self.id())]).status().unwrap();
        assert!(sent.success());
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Wait for the end, however it comes about.
    #[track_caller]
    pub fn wait(&mut self) -> ExitStatus {
        wait(&mut self.child).unwrap_or_else(|| panic!("the host does not end; its log:\n{}", self.log.text()))
    }

    /// SIGTERM: the exit code.
    #[track_caller]
    pub fn stop(mut self) -> Option<i32> {
        self.signal("TERM");
        self.wait().code()
    }
}

impl Drop for TestHost {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- the host's log:\n{}", self.log.text());
        }
    }
}

/// One host for the tests of a file that run at the same time: started by the first, killed after the last.
pub struct Shared {
    current: Mutex<Weak<TestHost>>,
    start: fn() -> TestHost,
}

impl Shared {
    pub const fn new(start: fn() -> TestHost) -> Shared {
        Shared { current: Mutex::new(Weak::new()), start }
    }

    pub fn get(&self) -> Arc<TestHost> {
        // A test that failed while it started the host leaves nothing half-made.
        let mut current = self.current.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        current.upgrade().unwrap_or_else(|| {
            let host = Arc::new((self.start)());
            *current = Arc::downgrade(&host);
            host
        })
    }
}

/// What the program said before it ended by itself.
#[derive(Debug)]
pub struct Ended {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

/// Run the program to its end, without ONNX Runtime's library unless the caller names it.
#[track_caller]
pub fn run(command: &mut Command) -> Ended {
    keep_off_the_machine(command);
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let read = |mut from: Box<dyn Read + Send>| {
        std::thread::spawn(move || {
            let mut text = Vec::new();
            from.read_to_end(&mut text).map(|_| String::from_utf8_lossy(&text).into_owned())
        })
    };
    let (stdout, stderr) = (read(Box::new(child.stdout.take().unwrap())), read(Box::new(child.stderr.take().unwrap())));
    let Some(status) = wait(&mut child) else {
        let _ = child.kill();
        panic!("still running: {command:?}; stderr:\n{}", stderr.join().unwrap().unwrap());
    };
    Ended { code: status.code(), stdout: stdout.join().unwrap().unwrap(), stderr: stderr.join().unwrap().unwrap() }
}

/// `wharf serve` with what cannot work: how it ended.
#[track_caller]
pub fn refused(targets: &[&Path], flags: &[&str]) -> Ended {
    let mut command = Command::new(WHARF);
    command.arg("serve").args(targets).args(["--http", "127.0.0.1:0", "--log-format", "json", "--data"]);
    run(command.arg(shared_data()).args(flags).env("ORT_DYLIB_PATH", guests::library()))
}

fn wait(child: &mut Child) -> Option<ExitStatus> {
    let started = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return Some(status);
        }
        if started.elapsed() > LONGEST_END {
            return None;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Without `--data`, the host would write where this machine's own host does.
fn keep_off_the_machine(command: &mut Command) {
    if command.get_envs().all(|(name, _)| name != "WHARF_DATA") {
        command.env("WHARF_DATA", shared_data());
    }
}

/// Shared by all tests, so that each component is compiled once.
fn shared_data() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("wharf-data")
}

fn holds_component(target: &Path) -> bool {
    let is_component = |path: &Path| path.extension().is_some_and(|extension| extension == "wasm");
    is_component(target)
        || fs::read_dir(target).is_ok_and(|mut dir| dir.any(|entry| is_component(&entry.unwrap().path())))
}

/// A folder of one test's own, gone when it ends.
pub struct Scratch(pub PathBuf);

impl Scratch {
    pub fn new() -> Scratch {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("scratch-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        Scratch(folder)
    }

    /// A file in it.
    pub fn file(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.0.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// What a host has written, as it comes. Keeps the latest lines only: some guests write a gigabyte.
#[derive(Clone, Default)]
pub struct Log(Arc<(Mutex<Written>, Condvar)>);

#[derive(Default)]
struct Written {
    lines: VecDeque<LogLine>,
    /// Bytes that came in all.
    bytes: u64,
    open: u32,
}

/// One line of JSON. Its whole text is not kept where it is long.
#[derive(Clone, Debug)]
pub struct LogLine {
    pub from: &'static str,
    pub text: String,
    pub json: Value,
}

impl LogLine {
    /// Of the host's own events.
    pub fn message(&self) -> &str {
        self.json["fields"]["message"].as_str().unwrap_or_default()
    }

    /// Whether a container wrote this line.
    pub fn is_from(&self, container: &str) -> bool {
        self.json["container"] == container
    }

    /// What the container wrote.
    pub fn line(&self) -> &str {
        self.json["line"].as_str().unwrap_or_default()
    }
}

const KEPT_LINES: usize = 20_000;
const KEPT_TEXT: usize = 1 << 10;

impl Log {
    fn follow(&self, from: &'static str, pipe: impl Read + Send + 'static) {
        self.0.0.lock().unwrap().open += 1;
        let log = self.clone();
        std::thread::spawn(move || {
            let mut pipe = BufReader::with_capacity(256 << 10, pipe);
            let mut line = Vec::new();
            while pipe.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
                log.push(from, &line);
                line.clear();
            }
            log.0.0.lock().unwrap().open -= 1;
            log.0.1.notify_all();
        });
    }

    fn push(&self, from: &'static str, line: &[u8]) {
        let text = String::from_utf8_lossy(line.get(..line.len().min(KEPT_TEXT)).unwrap()).trim_end().to_owned();
        let json = if line.len() > KEPT_TEXT { Value::Null } else { serde_json::from_str(&text).unwrap_or_default() };
        let mut written = self.0.0.lock().unwrap();
        written.bytes += line.len() as u64;
        if written.lines.len() == KEPT_LINES {
            written.lines.pop_front();
        }
        written.lines.push_back(LogLine { from, text, json });
        self.0.1.notify_all();
    }

    pub fn lines(&self) -> Vec<LogLine> {
        self.0.0.lock().unwrap().lines.iter().cloned().collect()
    }

    pub fn bytes(&self) -> u64 {
        self.0.0.lock().unwrap().bytes
    }

    pub fn text(&self) -> String {
        let lines = self.lines();
        lines[lines.len().saturating_sub(40)..].iter().map(|line| line.text.clone() + "\n").collect()
    }

    /// The first line that fits, now or soon.
    #[track_caller]
    pub fn wait_for(&self, what: &str, fits: impl Fn(&LogLine) -> bool) -> LogLine {
        self.find(PATIENCE, fits).unwrap_or_else(|| panic!("no {what} in the log:\n{}", self.text()))
    }

    /// `None` when the time is over, or the host has ended and nothing more can come.
    fn find(&self, time: Duration, fits: impl Fn(&LogLine) -> bool) -> Option<LogLine> {
        let started = Instant::now();
        let mut written = self.0.0.lock().unwrap();
        loop {
            if let Some(line) = written.lines.iter().find(|line| fits(line)) {
                return Some(line.clone());
            }
            let left = time.checked_sub(started.elapsed())?;
            if written.open == 0 {
                return None;
            }
            written = self.0.1.wait_timeout(written, left).unwrap().0;
        }
    }
}
