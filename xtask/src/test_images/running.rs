//! The cpu image in use: as strictly as it can be run (no root, no capability, nothing to write but its volume), stopped,
//! killed, started again; and the appliance made of it.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

use super::engine::Engine;
use crate::tree::Tree;
use crate::{guests, layout, step};

/// A host that is not ready by then will not be.
const PATIENCE: Duration = Duration::from_secs(90);
const POLL: Duration = Duration::from_millis(250);
const PICTURE: &str = "examples/digits/testdata/seven.png";
const APPLIANCE: &str = "examples/appliance/Dockerfile";

/// A container with its volume, both gone when dropped.
struct Container<'a> {
    engine: &'a Engine,
    name: String,
}

impl Drop for Container<'_> {
    fn drop(&mut self) {
        // Best effort: the store is this task's own.
        step::succeeds(&mut self.engine.podman(&["rm", "--force", "--time", "0", &self.name]));
        step::succeeds(&mut self.engine.podman(&["volume", "rm", "--force", &self.name]));
    }
}

pub fn check(tree: &Tree, engine: &Engine, work: &Path) -> Result<()> {
    let picture = fs::read(tree.root().join(PICTURE)).with_context(|| format!("cannot read {PICTURE}"))?;
    let digits = guests::folder(tree, "digits").context("run `cargo xtask guests` first")?;
    host(engine, &digits, &picture).context("wharf:cpu")?;
    appliance(tree, engine, &digits, work, &picture).context("the appliance")
}

/// A daemon that is given an image and runs it, with all its state on the volume.
fn host(engine: &Engine, digits: &Path, picture: &[u8]) -> Result<()> {
    let context = format!("{}:/context:ro", digits.display());
    let container = Container::run(engine, "wharf-test-host", "wharf:cpu", &["-v", &context])?;
    container.confined()?;
    container.logs_to_stdout()?;
    container.exec(&["wharf", "build", "-t", "digits", "/context"])?;
    let run = ["wharf", "run", "-d", "-p", "5000:5000", "--restart", "always", "--name", "seven", "digits"];
    container.exec(&run)?;
    container.sees_a_seven(picture)?;
    step::note("answers the digits example over a published port");

    step::run(container.podman("stop").stdout(std::process::Stdio::null()))?;
    let code = container.inspect("{{.State.ExitCode}}")?;
    ensure!(code == "0", "stopped with SIGTERM it ended with {code}, not 0");
    container.comes_back(picture).context("after a stop")?;
    step::note("stopped: it ended with 0; started: the container inside is back, without being asked");

    step::run(container.podman("kill").stdout(std::process::Stdio::null()))?;
    container.comes_back(picture).context("after a kill")?;
    step::note("killed and started: the same");
    let listed = container.exec(&["wharf", "ps", "--format", "{{.Names}}"])?;
    ensure!(listed.trim() == "seven", "wharf ps says {listed:?}");
    Ok(())
}

/// Two lines of Dockerfile: the host with a service in it, which it serves by itself.
fn appliance(tree: &Tree, engine: &Engine, digits: &Path, work: &Path, picture: &[u8]) -> Result<()> {
    let context = work.join("appliance");
    layout::mirror(digits, &context.join("digits"))?;
    layout::place(&tree.root().join(APPLIANCE), &context.join("Dockerfiles/Dockerfile"))?;
    engine.build(&context, "Dockerfile", "linux/amd64", "wharf-test-appliance", &[])?;
    let container = Container::run(engine, "wharf-test-appliance", "wharf-test-appliance", &[])?;
    container.sees_a_seven(picture)?;
    step::note("two lines of Dockerfile make an image that answers by itself");
    Ok(())
}

impl<'a> Container<'a> {
    fn run(engine: &'a Engine, name: &str, image: &str, flags: &[&str]) -> Result<Self> {
        let container = Container { engine, name: name.to_owned() };
        let volume = format!("{name}:/var/lib/wharf");
        let mut command = engine.podman(&["run", "--detach", "--name", name, "--pull", "never"]);
        command.args(["--read-only", "--read-only-tmpfs=false", "--cap-drop", "ALL"]);
        command.args(["--security-opt", "no-new-privileges", "--publish", "127.0.0.1::5000", "--volume", &volume]);
        // podman asks for more than a machine without CAP_SYS_RESOURCE gives.
        command.args(["--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1000:1000"]).args(flags).arg(image);
        step::run(command.stdout(std::process::Stdio::null()))?;
        container.ready()?;
        Ok(container)
    }

    fn podman(&self, verb: &str) -> std::process::Command {
        self.engine.podman(&[verb, &self.name])
    }

    fn inspect(&self, format: &str) -> Result<String> {
        self.engine.ask(&["inspect", "--format", format, &self.name])
    }

    fn exec(&self, words: &[&str]) -> Result<String> {
        self.engine.ask(&[&["exec", &self.name], words].concat())
    }

    /// Until its own health check says so.
    fn ready(&self) -> Result<()> {
        let started = Instant::now();
        while !step::succeeds(&mut self.engine.podman(&["healthcheck", "run", &self.name])) {
            if started.elapsed() > PATIENCE || self.inspect("{{.State.Running}}")? != "true" {
                step::run(&mut self.podman("logs"))?;
                bail!("{} does not get ready: its log is above", self.name);
            }
            std::thread::sleep(POLL);
        }
        Ok(())
    }

    fn comes_back(&self, picture: &[u8]) -> Result<()> {
        step::run(self.podman("start").stdout(std::process::Stdio::null()))?;
        self.ready()?;
        self.sees_a_seven(picture)
    }

    /// As the kernel has it, not as it was asked for.
    fn confined(&self) -> Result<()> {
        let process = self.inspect("{{.State.Pid}}")?;
        let status = fs::read_to_string(format!("/proc/{process}/status")).context("cannot see the process")?;
        let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim();
        ensure!(field("Uid:").split_whitespace().all(|id| id == "65532"), "it runs as {}", field("Uid:"));
        for set in ["CapEff:", "CapPrm:", "CapBnd:"] {
            ensure!(field(set).trim_start_matches('0').is_empty(), "{set} {}", field(set));
        }
        ensure!(field("NoNewPrivs:") == "1", "it may gain privileges");
        let mounts = fs::read_to_string(format!("/proc/{process}/mounts")).context("cannot see its mounts")?;
        let root =
            mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>()).find(|mount| mount.get(1) == Some(&"/"));
        let read_only = root.and_then(|mount| mount.get(3).map(|flags| flags.split(',').any(|flag| flag == "ro")));
        ensure!(read_only == Some(true), "its root can be written:\n{mounts}");
        step::note("runs as 65532, without a capability, on a read-only root");
        Ok(())
    }

    /// `docker logs` has the host's own log, and has it as standard output.
    fn logs_to_stdout(&self) -> Result<()> {
        let output = self.podman("logs").output().context("cannot run podman logs")?;
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        ensure!(out.contains("\"message\":\"ready\"") && err.is_empty(), "stdout:\n{out}\nstderr:\n{err}");
        step::note("its log is on stdout");
        Ok(())
    }

    fn sees_a_seven(&self, picture: &[u8]) -> Result<()> {
        let published = self.engine.ask(&["port", &self.name, "5000/tcp"])?;
        let answer = post(&published, "/predict", picture).with_context(|| format!("{} at {published}", self.name))?;
        ensure!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("\"digit\":7"), "it answered {answer}");
        Ok(())
    }
}

/// One request on a connection of its own; the answer with its head.
fn post(address: &str, path: &str, body: &[u8]) -> Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let length = body.len();
    write!(stream, "POST {path} HTTP/1.1\r\nhost: {address}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n")?;
    stream.write_all(body)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}
