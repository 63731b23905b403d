//! The Docker SDK for Python on a real host, topic by topic: `docker_sdk.py` holds what is done and asserted.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test ends by panicking")]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use support::daemon::{TestDaemon, context, context_of, run_with_input};
use support::guests::{fixture, read_source, skip, source};

const REQUIREMENTS: &str = "host/tests/docker_sdk-requirements.txt";

/// Python with the SDK, or what went wrong when it was installed. In a venv that later runs find ready.
fn python() -> &'static Result<PathBuf, String> {
    static PYTHON: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    PYTHON.get_or_init(|| {
        let venv = Path::new(env!("CARGO_TARGET_TMPDIR")).join("docker-sdk");
        let (stamp, program) = (venv.join("requirements.txt"), venv.join("bin/python"));
        let wanted = read_source(REQUIREMENTS);
        if fs::read(&stamp).is_ok_and(|installed| installed == wanted) {
            return Ok(program);
        }
        step(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&venv))?;
        let mut pip = Command::new(&program);
        step(pip.args(["-m", "pip", "install", "-q", "--disable-pip-version-check", "-r"]).arg(source(REQUIREMENTS)))?;
        fs::write(&stamp, wanted).unwrap();
        Ok(program)
    })
}

fn step(command: &mut Command) -> Result<(), String> {
    let output = command.stdin(Stdio::null()).output().map_err(|error| format!("{command:?}: {error}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.success() { Ok(()) } else { Err(format!("{command:?}: {said}")) }
}

#[track_caller]
fn topic(name: &str) {
    let python = match python() {
        Ok(python) => python,
        Err(reason) => return skip(&format!("no Docker SDK for Python: {reason}")),
    };
    let daemon = TestDaemon::start();
    let dockerfile = "FROM scratch\nCOPY job.wasm /\nENTRYPOINT [\"/job.wasm\"]\n";
    let (job, hello) = (context_of(dockerfile, &[("job.wasm", &fixture("job"))]), context("hello"));
    let mut command = Command::new(python);
    command.arg("-B").arg(source("host/tests/docker_sdk.py")).arg(name).arg(&job.0).arg(&hello.0);
    command.env("DOCKER_HOST", format!("unix://{}", daemon.socket().display()));
    let ended = run_with_input(command.env("DOCKER_CONFIG", daemon.data.0.join("docker-config")), b"");
    assert_eq!(ended.code, Some(0), "{}{}", ended.stdout, ended.stderr);
}

#[test]
fn images_are_built_listed_saved_and_loaded() {
    topic("images");
}

#[test]
fn jobs_run_attached_and_detached() {
    topic("runs");
}

#[test]
fn a_service_is_watched_and_told_what_to_do() {
    topic("lives");
}

#[test]
fn lists_are_filtered_and_errors_have_their_kind() {
    topic("filters");
}

#[test]
fn networks_and_volumes_are_objects() {
    topic("networks");
}

#[test]
fn events_tell_what_happened() {
    topic("events");
}
