//! `cp`, `export` and `diff`, by the stock `docker` command line and by our own: the same files, words and exit codes.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test ends by panicking")]

mod support;

use std::fs;
use std::process::Command;

use support::daemon::{TestDaemon, context_of, has_docker, run_with_input};
use support::golden;
use support::guests::fixture;
use support::host::{Ended, Scratch};

const JOB: &str = "FROM scratch\nCOPY job.wasm note /srv/\nVOLUME /own\nENTRYPOINT [\"/srv/job.wasm\"]\n";

/// A host with a container `box`, which never ran: a volume at /data, one that began with the image's /srv, and a bind
/// that is read-only. Or a loud skip.
fn with_box() -> Option<(TestDaemon, Scratch)> {
    if !has_docker() {
        return None;
    }
    let daemon = TestDaemon::start();
    let context = context_of(JOB, &[("job.wasm", &fixture("job")), ("note", &support::guests::source("LICENSE"))]);
    daemon.ok(&["build", "-q", "-t", "job", context.0.to_str().unwrap()]);
    let scratch = Scratch::new();
    let fixed = format!("{}:/fixed:ro", scratch.0.display());
    daemon.ok(&[
        "create",
        "--name",
        "box",
        "-v",
        "store:/data",
        "-v",
        "seeded:/srv",
        "-v",
        &fixed,
        "job",
        "sleep",
        "9999",
    ]);
    Some((daemon, scratch))
}

type Client<'a> = (&'a str, Box<dyn Fn(&[&str]) -> Command + 'a>);

fn clients(daemon: &TestDaemon) -> [Client<'_>; 2] {
    [
        ("docker", Box::new(move |arguments: &[&str]| daemon.docker_command(arguments))),
        ("wharf", Box::new(move |arguments: &[&str]| daemon.wharf_command(arguments))),
    ]
}

fn run(command: &mut Command) -> Ended {
    run_with_input(command, b"")
}

#[test]
fn files_go_in_and_come_out_whoever_copies_them() {
    let Some((daemon, _fixed)) = with_box() else { return };
    for (client, command) in clients(&daemon) {
        let local = Scratch::new();
        local.file("one", b"first");
        fs::create_dir_all(local.0.join("tree/below")).unwrap();
        fs::write(local.0.join("tree/below/two"), "second").unwrap();
        std::os::unix::fs::symlink("below/two", local.0.join("tree/link")).unwrap();
        let at = |path: &str| local.0.join(path).display().to_string();
        let inside = |path: &str| format!("box:/data/{client}{path}");
        let cp = |from: &str, to: &str| {
            let ended = run(&mut command(&["cp", "--quiet=false", from, to]));
            assert_eq!(ended.code, Some(0), "{client} cp {from} {to}: {ended:?}");
            ended.stderr
        };
        let said = cp(&at("one"), &inside("-file"));
        assert!(said.contains("Successfully copied 2.05kB to box:/data/"), "{said}");
        cp(&at("tree"), &inside(""));
        cp(&at("tree"), &inside(""));
        cp(&at("one"), &inside(""));
        cp(&format!("{}/.", at("tree")), &inside("/below"));
        let said = cp(&inside("-file"), &at("back"));
        assert!(said.contains(&format!("Successfully copied 2.05kB to {}", at("back"))), "{said}");
        assert_eq!(fs::read_to_string(at("back")).unwrap(), "first");
        cp(&inside(""), &at("all"));
        for (path, text) in [
            ("all/below/two", "second"),
            ("all/link", "second"),
            ("all/tree/below/two", "second"),
            ("all/one", "first"),
            ("all/below/below/two", "second"),
        ] {
            assert_eq!(fs::read_to_string(at(path)).unwrap(), text, "{client}: {path}");
        }
        assert!(fs::symlink_metadata(at("all/link")).unwrap().is_symlink(), "{client}");
        cp(&inside("/."), &at("all"));
        cp("box:/srv/note", &at("all"));
        assert!(fs::read_to_string(at("all/note")).unwrap().contains("Apache"));

        let packed = run(&mut command(&["cp", &inside("-file"), "-"]));
        let name = format!("{client}-file");
        assert!(packed.code == Some(0) && packed.stdout.starts_with(&name), "{client}: {packed:?}");
        let taken = run_with_input(&mut command(&["cp", "-", "box:/own"]), packed.stdout.as_bytes());
        assert_eq!(taken.code, Some(0), "{client}: {taken:?}");
        cp(&format!("box:/own/{name}"), &at("again"));
        assert_eq!(fs::read_to_string(at("again")).unwrap(), "first");
    }
}

#[test]
fn what_cannot_be_copied_says_why() {
    let Some((daemon, _fixed)) = with_box() else { return };
    let local = Scratch::new();
    local.file("one", b"first");
    fs::create_dir_all(local.0.join("tree")).unwrap();
    let (one, tree) = (local.0.join("one").display().to_string(), local.0.join("tree").display().to_string());
    let missing = local.0.join("no/where").display().to_string();
    for (client, command) in clients(&daemon) {
        for (from, to, words) in [
            (one.as_str(), "box:/", "container rootfs is marked read-only"),
            (&one, "box:/new.wasm", "build the file into the image (COPY)"),
            (&one, "box:/fixed", "mounted volume is marked read-only"),
            (&one, "box:/nowhere/file", "Could not find the file /nowhere in container box"),
            (&one, "nobody:/data", "No such container: nobody"),
            (&tree, "box:/srv/note", "cannot copy directory"),
            ("box:/nothing", &one, "Could not find the file /nothing in container box"),
            ("box:/srv", &one, "cannot copy directory"),
            ("box:/srv/note", &missing, "does not exist"),
            ("box:/srv", "box:/data", "copying between containers is not supported"),
            (&one, &tree, "must specify at least one container source"),
            ("-", "box:/srv/note", "must be a directory"),
        ] {
            let ended = run(&mut command(&["cp", from, to]));
            assert!(ended.code == Some(1) && ended.stderr.contains(words), "{client} cp {from} {to}: {ended:?}");
        }
    }
}

#[test]
fn an_export_is_the_root_and_a_diff_what_mounts_added() {
    let Some((daemon, _fixed)) = with_box() else { return };
    daemon.ok(&["start", "box"]);
    let mut seen = Vec::new();
    for (client, command) in clients(&daemon) {
        let diff = run(&mut command(&["diff", "box"])).stdout;
        assert_eq!(diff, "A /data\nA /fixed\nA /own\n", "{client}");
        let file = daemon.data.0.join(format!("{client}.tar"));
        let ended = run(&mut command(&["export", "-o", file.to_str().unwrap(), "box"]));
        assert_eq!(ended.code, Some(0), "{client}: {ended:?}");
        let listed = Command::new("tar").arg("-tf").arg(&file).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&listed.stdout), "data/\nfixed/\nown/\nsrv/\nsrv/job.wasm\nsrv/note\n");
        seen.push(fs::read(&file).unwrap());
        let refused = run(&mut command(&["export", "nobody"]));
        assert!(
            refused.code == Some(1) && refused.stderr.contains("No such container: nobody"),
            "{client}: {refused:?}"
        );
    }
    assert!(seen[0] == seen[1], "both are the daemon's");
}

#[test]
fn a_build_ends_with_the_code_of_its_tool() {
    let Some((daemon, _fixed)) = with_box() else { return };
    let context = context_of("FROM job\nRUN [\"/srv/job.wasm\", \"exit\", \"37\"]\n", &[]);
    for (client, command) in clients(&daemon) {
        let ended = run(command(&["build", context.0.to_str().unwrap()]).env("DOCKER_BUILDKIT", "0"));
        assert!(ended.stderr.contains("returned a non-zero code: 37"), "{client}: {ended:?}");
        assert_eq!(ended.code, Some(37), "{client}: {ended:?}");
    }
}

#[test]
fn the_whole_usage_of_the_disk_looks_like_dockers() {
    let Some((daemon, _fixed)) = with_box() else { return };
    daemon.ok(&["tag", "job", "job:other"]);
    let seen = daemon.ok(&["system", "df", "-v"]);
    let ours = daemon.wharf(&["system", "df", "-v"]);
    assert_eq!(golden::masked(ours.stdout.trim()), golden::masked(&seen), "{ours:?}");
    for words in ["Images space usage:", "UNIQUE SIZE", "Containers space usage:", "LINKS", "Build cache usage: 0B"] {
        assert!(seen.contains(words), "{seen}");
    }
}
