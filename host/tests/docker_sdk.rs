//! The Docker SDK for Python on a real host, topic by topic: `docker_sdk.py` holds what is done and asserted.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test ends by panicking")]

mod support;

use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use support::daemon::{TestDaemon, context, context_of, run_with_input};
use support::guests::{fixture, skip, source};
use support::python::venv;

/// Python with the SDK, or what went wrong when it was installed.
fn python() -> &'static Result<PathBuf, String> {
    static PYTHON: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    PYTHON.get_or_init(|| venv("docker-sdk", "host/tests/docker_sdk-requirements.txt"))
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
