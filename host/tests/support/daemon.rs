//! A host that keeps images and containers in a folder of its own, and the clients that drive it: the stock `docker`
//! command line, and ours.

use std::fs;
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::guests;
use super::host::{Ended, Scratch, TestHost, WHARF, run};
use super::http::Client;

/// `wharf serve` without a target, in a folder that goes with it.
pub struct TestDaemon {
    pub host: Option<TestHost>,
    pub data: Scratch,
    flags: Vec<String>,
    /// Below it are the files that say which devices there are, in place of this machine's.
    sysroot: Option<PathBuf>,
}

impl TestDaemon {
    #[track_caller]
    pub fn start() -> TestDaemon {
        TestDaemon::start_with(&[])
    }

    #[track_caller]
    pub fn start_with(flags: &[&str]) -> TestDaemon {
        TestDaemon::start_at(None, flags)
    }

    /// On the machine whose files lie below `sysroot`.
    #[track_caller]
    pub fn start_at(sysroot: Option<&Path>, flags: &[&str]) -> TestDaemon {
        let data = Scratch::new();
        let flags = flags.iter().map(ToString::to_string).collect();
        let mut daemon = TestDaemon { host: None, data, flags, sysroot: sysroot.map(Path::to_owned) };
        // Components compiled by other tests need not be compiled again here.
        daemon.borrow_compiled();
        daemon.start_again();
        daemon
    }

    #[track_caller]
    pub fn start_again(&mut self) {
        let mut command = Command::new(WHARF);
        command.args(["serve", "--http", "127.0.0.1:0", "--log-format", "json", "--data"]).arg(&self.data.0);
        if let Some(sysroot) = &self.sysroot {
            command.env("WHARF_SYSROOT", sysroot);
        }
        self.host = Some(TestHost::start(command.args(&self.flags)));
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        self.host = None;
    }

    pub fn host(&self) -> &TestHost {
        self.host.as_ref().expect("the host runs")
    }

    pub fn socket(&self) -> PathBuf {
        self.data.0.join("wharf.sock")
    }

    fn borrow_compiled(&self) {
        let shared = Path::new(env!("CARGO_TARGET_TMPDIR")).join("wharf-data/cache/components");
        let own = self.data.0.join("cache/components");
        fs::create_dir_all(&own).unwrap();
        fs::set_permissions(&own, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
        let Ok(entries) = fs::read_dir(shared) else { return };
        for entry in entries.flatten() {
            let _ = fs::hard_link(entry.path(), own.join(entry.file_name()));
        }
    }

    /// The stock `docker` command line on this host.
    pub fn docker(&self, arguments: &[&str]) -> Ended {
        run(&mut self.docker_command(arguments))
    }

    pub fn docker_command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("docker");
        let config = self.data.0.join("docker-config");
        command.env("DOCKER_HOST", format!("unix://{}", self.socket().display())).env("DOCKER_CONFIG", config);
        command.env_remove("DOCKER_CONTEXT").env_remove("DOCKER_BUILDKIT").args(arguments);
        command
    }

    /// Our own command line on this host.
    pub fn wharf(&self, arguments: &[&str]) -> Ended {
        run(&mut self.wharf_command(arguments))
    }

    pub fn wharf_command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(WHARF);
        command.env("WHARF_DATA", &self.data.0).env("DOCKER_CONFIG", self.data.0.join("docker-config"));
        command.env_remove("DOCKER_HOST").env_remove("WHARF_HOST").args(arguments);
        command
    }

    /// `docker …`, which must succeed; what it printed, trimmed.
    #[track_caller]
    pub fn ok(&self, arguments: &[&str]) -> String {
        succeeded(self.docker(arguments), arguments)
    }

    /// `docker build` of an example under the given name.
    #[track_caller]
    pub fn build(&self, example: &str, tag: &str) {
        let context = context(example);
        self.ok(&["build", "-t", tag, context.0.to_str().unwrap()]);
    }

    /// The address at which a container's port is published.
    #[track_caller]
    pub fn published(&self, container: &str) -> Client {
        let text = self.ok(&["port", container]);
        let address = text.lines().find_map(|line| line.split_once("-> "));
        let (_, address) = address.unwrap_or_else(|| panic!("no published port: {text:?}"));
        let address: SocketAddr = address.parse().unwrap();
        Client(SocketAddr::new([127, 0, 0, 1].into(), address.port()))
    }
}

#[track_caller]
pub fn succeeded(ended: Ended, arguments: &[&str]) -> String {
    assert_eq!(ended.code, Some(0), "{arguments:?}: {}{}", ended.stdout, ended.stderr);
    ended.stdout.trim().to_owned()
}

/// The stock command line, or a loud skip.
pub fn has_docker() -> bool {
    let found = Command::new("docker").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    let found = found.is_ok_and(|status| status.success());
    if !found {
        guests::skip("no docker command line on the PATH: nothing is driven by it");
    }
    found
}

/// A folder to build an example in: its Dockerfile, component and models.
pub fn context(example: &str) -> Scratch {
    let scratch = Scratch::new();
    copy(&guests::example(example), &scratch.0);
    let dockerfile = guests::source("examples").join(example).join("Dockerfile");
    fs::copy(dockerfile, scratch.0.join("Dockerfile")).unwrap();
    scratch
}

/// A folder to build in, with a Dockerfile of these words and a copy of each file.
pub fn context_of(dockerfile: &str, files: &[(&str, &Path)]) -> Scratch {
    let scratch = Scratch::new();
    scratch.file("Dockerfile", dockerfile.as_bytes());
    for (name, file) in files {
        scratch.file(name, &fs::read(file).unwrap());
    }
    scratch
}

fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            fs::create_dir_all(&target).unwrap();
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Run a command with something to read.
pub fn run_with_input(command: &mut Command, input: &[u8]) -> Ended {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_owned();
    let writing = std::thread::spawn(move || drop(stdin.write_all(&input)));
    let output = child.wait_with_output().unwrap();
    writing.join().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ended { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}
