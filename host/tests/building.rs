//! Where `docker build` takes its Dockerfile and its context from, and what both may be packed with: the stock command
//! line and ours, on a real host.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test ends by panicking")]

mod support;

use std::fs;

use support::archives::{file, tar};
use support::daemon::{TestDaemon, has_docker, run_with_input, succeeded};
use support::guests::source;
use support::host::Scratch;

const DOCKERFILE: &[u8] = b"FROM scratch\nCOPY hello.txt /\n";

/// Both command lines where both are here.
fn programs() -> Vec<fn(&TestDaemon, &[&str]) -> std::process::Command> {
    let ours: fn(&TestDaemon, &[&str]) -> std::process::Command = TestDaemon::wharf_command;
    let docker = has_docker().then_some(TestDaemon::docker_command as fn(&TestDaemon, &[&str]) -> _);
    docker.into_iter().chain([ours]).collect()
}

/// A command that reads `input` and succeeds; what it printed.
#[track_caller]
fn ok(
    program: fn(&TestDaemon, &[&str]) -> std::process::Command,
    daemon: &TestDaemon,
    line: &[&str],
    input: &[u8],
) -> String {
    let mut command = program(daemon, line);
    succeeded(run_with_input(command.env("DOCKER_BUILDKIT", "0"), input), line)
}

#[test]
fn a_dockerfile_may_lie_outside_the_context_or_come_by_standard_input() {
    let daemon = TestDaemon::start();
    let (context, elsewhere) = (Scratch::new(), Scratch::new());
    context.file("hello.txt", b"hello\n");
    context.file("large", &b"0123456789".repeat(100_000));
    context.file(".dockerignore", b"large\n");
    let dockerfile = elsewhere.file("Dockerfile.cpu", DOCKERFILE);
    let (context, dockerfile) = (context.0.to_str().unwrap(), dockerfile.to_str().unwrap());
    for program in programs() {
        for _ in 0..3 {
            let built = ok(program, &daemon, &["build", "-t", "outside", "-f", dockerfile, context], b"");
            assert!(built.contains("Successfully tagged outside:latest"), "{built}");
            let built = ok(program, &daemon, &["build", "-t", "given", "-f", "-", context], DOCKERFILE);
            assert!(built.contains("Successfully tagged given:latest"), "{built}");
        }
        let without = b"FROM scratch\nCOPY . /\n";
        ok(program, &daemon, &["build", "-t", "all", "-f", "-", context], without);
        let size = daemon.wharf(&["image", "inspect", "-f", "{{.Size}}", "all"]).stdout;
        assert!(size.trim().parse::<u64>().unwrap() < 100_000, "what is to be ignored was copied: {size} bytes");
        daemon.wharf(&["create", "--name", "files", "all", "/x.wasm"]);
        let exported = daemon.wharf(&["export", "files"]).stdout;
        assert!(exported.contains("hello.txt") && !exported.contains("FROM scratch"), "the Dockerfile was copied");
        daemon.wharf(&["rm", "files"]);
    }
}

#[test]
fn a_context_may_be_an_archive_however_it_is_packed() {
    let daemon = TestDaemon::start();
    let plain = tar(&[file("Dockerfile", DOCKERFILE), file("hello.txt", b"hello\n")]);
    let packed = |name: &str| fs::read(source("host/tests/fixtures").join(name)).unwrap();
    let contexts = [
        ("plain", plain.clone()),
        ("gzip", support::archives::gzip(&plain)),
        ("bzip2", packed("context.tar.bz2")),
        ("xz", packed("context.tar.xz")),
    ];
    for program in programs() {
        for (name, context) in &contexts {
            let built = ok(program, &daemon, &["build", "-t", name, "-"], context);
            assert!(built.contains(&format!("Successfully tagged {name}:latest")), "{name}: {built}");
        }
        let labels = b"FROM scratch\nLABEL from=stdin\n";
        ok(program, &daemon, &["build", "-t", "alone", "-"], labels);
        assert_eq!(daemon.wharf(&["inspect", "-f", "{{.Config.Labels.from}}", "alone"]).stdout, "stdin\n");
    }
}

#[test]
fn no_cache_makes_every_step_again() {
    let daemon = TestDaemon::start();
    let context = Scratch::new();
    context.file("Dockerfile", DOCKERFILE);
    context.file("hello.txt", b"hello\n");
    let context = context.0.to_str().unwrap();
    for program in programs() {
        let build = |line: &[&str]| ok(program, &daemon, &[&["build"], line, &[context]].concat(), b"");
        build(&["-t", "cached"]);
        assert_eq!(build(&["-t", "cached"]).matches(" ---> Using cache").count(), 1);
        let again = build(&["-t", "cached", "--no-cache"]);
        assert!(again.contains("Step 2/2") && !again.contains("Using cache"), "{again}");
        let layers = |image: &str| daemon.wharf(&["image", "inspect", "-f", "{{.RootFS.Layers}}", image]).stdout;
        let quiet = build(&["-q", "--no-cache"]);
        assert_eq!(layers(&quiet), layers("cached"), "the same input is the same layer");
    }
}

#[test]
fn an_archive_of_images_may_be_packed_with_anything() {
    let daemon = TestDaemon::start();
    let context = Scratch::new();
    context.file("Dockerfile", DOCKERFILE);
    context.file("hello.txt", b"hello\n");
    daemon.wharf(&["build", "-t", "travels", context.0.to_str().unwrap()]);
    let saved = context.0.join("saved.tar");
    succeeded(daemon.wharf(&["save", "-o", saved.to_str().unwrap(), "travels"]), &["save"]);
    for program in ["gzip", "bzip2", "xz", "zstd"] {
        let packed = std::process::Command::new(program).arg("-c").arg(&saved).output();
        let Ok(packed) = packed else {
            support::guests::skip(&format!("no {program} on the PATH: nothing packed by it is loaded"));
            continue;
        };
        let archive = context.file("packed", &packed.stdout);
        for line in programs() {
            succeeded(daemon.wharf(&["rmi", "travels"]), &["rmi"]);
            let loaded = ok(line, &daemon, &["load", "-i", archive.to_str().unwrap()], b"");
            assert_eq!(loaded, "Loaded image: travels:latest", "{program}");
        }
    }
}
