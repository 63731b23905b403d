//! The Debian package in a container whose first process is systemd: the unit gets ready, is restarted when it is killed and
//! when it stops answering, and ends well. What a machine cannot do here is said, and is no failure.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::test_images::{self, BASE, engine, engine::Engine};
use crate::tree::Tree;
use crate::{layout, step};

const IMAGE: &str = "wharf-test-service";
/// The watchdog of the unit takes half a minute to bite.
const PATIENCE: Duration = Duration::from_secs(90);
const POLL: Duration = Duration::from_millis(500);
/// What `systemd-analyze security` may say at most, of 10: less is better.
const EXPOSURE: f32 = 2.0;

/// Installs the package and has its unit started by systemd.
pub fn check(tree: &Tree, deb: &Path) -> Result<()> {
    let missing = engine::missing();
    if !missing.is_empty() {
        step::note(format_args!("SKIPPED: the unit is not started: {}", missing.join("; ")));
        return Ok(());
    }
    let work = tree.target().join("images");
    let engine = Engine::new(&work.join("store"))?;
    test_images::base(&engine, &work)?;
    let context = work.join("service");
    layout::place(deb, &context.join("wharf.deb"))?;
    layout::write(&context.join("Dockerfiles/Dockerfile"), dockerfile().as_bytes())?;
    engine.build(&context, "Dockerfile", "linux/amd64", IMAGE, &[])?;
    let Some(machine) = Machine::boot(&engine)? else {
        step::note("SKIPPED: the unit is not started: systemd does not come up in a container here");
        return Ok(());
    };
    machine.analysed()?;
    machine.lives()
}

/// The manual is there because the unit names it, and systemd looks.
fn dockerfile() -> String {
    format!(
        "FROM {BASE}\n\
         RUN apt-get update && apt-get install -y --no-install-recommends systemd systemd-sysv dbus man-db\n\
         COPY wharf.deb /\n\
         RUN apt-get install -y --no-install-recommends /wharf.deb\n\
         CMD [\"/sbin/init\"]\n"
    )
}

/// A container with systemd in it, gone when dropped.
struct Machine<'a>(&'a Engine);

impl Drop for Machine<'_> {
    fn drop(&mut self) {
        // Best effort: the store is this task's own.
        step::succeeds(&mut self.0.podman(&["rm", "--force", "--time", "5", IMAGE]));
    }
}

impl<'a> Machine<'a> {
    fn boot(engine: &'a Engine) -> Result<Option<Machine<'a>>> {
        let machine = Machine(engine);
        let mut run = engine.podman(&["run", "--detach", "--name", IMAGE, "--pull", "never", "--systemd", "always"]);
        // podman asks for more than a machine without CAP_SYS_RESOURCE gives.
        run.args(["--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1000:1000", IMAGE]);
        step::run(run.stdout(Stdio::null()))?;
        let started = Instant::now();
        while started.elapsed() < PATIENCE {
            // It prints `starting`, and fails, until all units are there; it says nothing while systemd is not.
            let said = machine.command(&["systemctl", "is-system-running"]).stderr(Stdio::null()).output()?;
            if ["running\n", "degraded\n"].iter().any(|state| said.stdout == state.as_bytes()) {
                return Ok(Some(machine));
            }
            std::thread::sleep(POLL);
        }
        Ok(None)
    }

    fn command(&self, words: &[&str]) -> Command {
        self.0.podman(&[&["exec", IMAGE], words].concat())
    }

    fn ask(&self, words: &[&str]) -> Result<String> {
        Ok(step::capture(&mut self.command(words))?.trim().to_owned())
    }

    fn property(&self, name: &str) -> Result<String> {
        self.ask(&["systemctl", "show", "wharf", "--value", "--property", name])
    }

    /// What systemd's own tool thinks of the unit.
    fn analysed(&self) -> Result<()> {
        step::run(&mut self.command(&["systemd-analyze", "verify", "wharf.service"]))?;
        let report = self.ask(&["systemd-analyze", "security", "--no-pager", "wharf.service"])?;
        let last = report.lines().last().unwrap_or_default();
        let exposure = last.split_whitespace().find_map(|word| word.parse::<f32>().ok());
        step::note(last);
        ensure!(exposure.is_some_and(|exposure| exposure <= EXPOSURE), "at most {EXPOSURE} is allowed: {last}");
        Ok(())
    }

    fn lives(&self) -> Result<()> {
        self.until(0)?;
        ensure!(self.property("Type")? == "notify", "systemd does not wait for READY=1");
        step::note(format_args!("ready: {}", self.property("StatusText")?));
        for (restarts, signal, why) in [(1, "KILL", "code=killed, status=9/KILL"), (2, "STOP", "Watchdog timeout")] {
            self.ask(&["systemctl", "kill", "--kill-whom=main", &format!("--signal=SIG{signal}"), "wharf"])?;
            self.until(restarts)?;
            let journal = self.ask(&["journalctl", "--no-pager", "--output", "cat", "--unit", "wharf"])?;
            let said = journal.lines().rfind(|line| line.contains(why));
            step::note(format_args!("SIG{signal}: {}", said.context("systemd does not say why it restarted")?));
        }
        self.ask(&["systemctl", "stop", "wharf"])?;
        let result = self.property("Result")?;
        ensure!(result == "success", "stopping ended with {result}");
        step::note("restarted each time, and stopped well");
        Ok(())
    }

    /// Until it has been restarted so often and answers.
    fn until(&self, restarts: u32) -> Result<()> {
        let started = Instant::now();
        while started.elapsed() < PATIENCE {
            let restarted = self.property("NRestarts")? == restarts.to_string();
            if restarted
                && self.property("ActiveState")? == "active"
                && step::succeeds(&mut self.command(&["wharf", "health"]))
            {
                return Ok(());
            }
            std::thread::sleep(POLL);
        }
        step::run(&mut self.command(&["systemctl", "--no-pager", "status", "wharf"]))?;
        bail!("the service has not been restarted {restarts} times: its state is above")
    }
}
