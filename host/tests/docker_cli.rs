//! What people will do first with the stock `docker` command line on a real host, beyond the tutorial's own commands:
//! logs, networks, mistakes, and a host that dies.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test ends by panicking")]

mod support;

use std::fs;

use support::daemon::{TestDaemon, context_of, has_docker};
use support::eventually;
use support::guests::fixture;

/// A host with the image `digits`, or a loud skip.
fn with_digits() -> Option<TestDaemon> {
    if !has_docker() {
        return None;
    }
    let daemon = TestDaemon::start();
    daemon.build("digits", "digits");
    Some(daemon)
}

#[test]
fn logs_follow_and_stats_count() {
    if !has_docker() {
        return;
    }
    let daemon = TestDaemon::start();
    let image = context_of(
        "FROM scratch\nCOPY m.wasm /\nEXPOSE 5000\nENTRYPOINT [\"/m.wasm\"]\n",
        &[("m.wasm", &fixture("misbehave"))],
    );
    daemon.ok(&["build", "-q", "-t", "m", image.0.to_str().unwrap()]);
    daemon.ok(&["run", "-d", "-p", "127.0.0.1:0:5000", "--name", "mm", "m"]);
    let service = daemon.published("mm");
    for word in ["one", "two", "three"] {
        service.get(&format!("/log?line={word}&stream=stdout")).expect(200);
    }
    eventually("the lines are in the log", || daemon.ok(&["logs", "mm"]) == "one\ntwo\nthree");
    assert_eq!(daemon.ok(&["logs", "--tail", "1", "mm"]), "three");
    let stamped = daemon.ok(&["logs", "-t", "--tail", "1", "mm"]);
    assert!(stamped.ends_with("Z three") && stamped.starts_with("20"), "{stamped}");
    let on_disk = daemon.ok(&["inspect", "-f", "{{.LogPath}}", "mm"]);
    let line = fs::read_to_string(on_disk).unwrap();
    assert!(line.starts_with("{\"log\":\"one\\n\",\"stream\":\"stdout\",\"time\":\"20"), "{line}");

    let mut follow = daemon.docker_command(&["logs", "-f", "mm"]);
    let following = std::thread::spawn(move || support::host::run(&mut follow));
    service.get("/log?line=four&stream=stdout").expect(200);
    daemon.ok(&["stop", "-t", "1", "mm"]);
    assert!(following.join().unwrap().stdout.ends_with("four\n"), "a follower sees the end");

    daemon.ok(&["start", "mm"]);
    daemon.published("mm").get("/counter").expect(200);
    let stats =
        daemon.ok(&["stats", "--no-stream", "--format", "{{.Name}} {{.CPUPerc}} {{.MemUsage}} {{.NetIO}}", "mm"]);
    assert!(stats.starts_with("mm ") && stats.contains("256MiB") && !stats.contains(" 0B / 0B"), "{stats}");
}

#[test]
fn containers_of_one_network_know_each_other() {
    if !has_docker() {
        return;
    }
    let daemon = TestDaemon::start();
    daemon.ok(&["network", "create", "net"]);
    assert!(daemon.ok(&["network", "ls", "--format", "{{.Name}} {{.Driver}}"]).contains("net bridge"));
    daemon.build("hello", "hello");
    daemon.ok(&["run", "-d", "--network", "net", "--name=one", "hello"]);
    let inspected = daemon.ok(&["network", "inspect", "-f", "{{range .Containers}}{{.Name}}{{end}}", "net"]);
    assert_eq!(inspected, "one");
    let refused = daemon.docker(&["network", "rm", "net"]);
    assert!(refused.stderr.contains("has active endpoints"), "{refused:?}");
}

#[test]
fn mistakes_get_dockers_words_and_codes() {
    let Some(daemon) = with_digits() else { return };
    let missing = daemon.docker(&["run", "--rm", "--pull", "never", "nothing"]);
    assert_eq!(missing.code, Some(125), "{missing:?}");
    assert!(missing.stderr.contains("No such image: nothing:latest"), "{missing:?}");
    daemon.ok(&["run", "-d", "--name", "taken", "-p", "127.0.0.1:0:5000", "digits"]);
    let twice = daemon.docker(&["run", "-d", "--name", "taken", "digits"]);
    assert_eq!(twice.code, Some(125));
    assert!(twice.stderr.contains("The container name \"/taken\" is already in use"), "{twice:?}");
    let port = daemon.published("taken").0.port();
    let in_use = daemon.docker(&["run", "-d", "--name", "late", "-p", &format!("127.0.0.1:{port}:5000"), "digits"]);
    assert_eq!(in_use.code, Some(125));
    assert!(in_use.stderr.contains("port is already allocated"), "{in_use:?}");
    let state = daemon.ok(&["inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", "late"]);
    assert_eq!(state, "created 128");
    for verb in ["kill", "pause", "exec"] {
        let arguments: &[&str] = if verb == "exec" { &["exec", "late", "ls"] } else { &[verb, "late"] };
        let refused = daemon.docker(arguments);
        assert!(refused.code == Some(1) && refused.stderr.contains("is not running"), "{verb}: {refused:?}");
    }
    let unknown = daemon.docker(&["stop", "nobody"]);
    assert!(unknown.stderr.contains("No such container: nobody"), "{unknown:?}");
    let linux = context_of("FROM scratch\nRUN apt-get update\n", &[]);
    let built = daemon.docker(&["build", linux.0.to_str().unwrap()]);
    assert_eq!(built.code, Some(1), "{built:?}");
    assert!(built.stderr.contains("Dockerfile:2:1: RUN apt-get update"), "{built:?}");
}

#[test]
fn containers_survive_the_hosts_death() {
    let Some(mut daemon) = with_digits() else { return };
    let always =
        daemon.ok(&["run", "-d", "--restart", "always", "--name", "always", "-p", "127.0.0.1:0:5000", "digits"]);
    daemon.ok(&["run", "-d", "--restart", "unless-stopped", "--name", "stopped", "digits"]);
    daemon.ok(&["stop", "stopped"]);
    daemon.ok(&["run", "-d", "--name", "never", "digits"]);
    daemon.kill();
    daemon.start_again();
    eventually("it is back", || daemon.ok(&["ps", "--format", "{{.Names}}"]) == "always");
    assert_eq!(daemon.ok(&["inspect", "-f", "{{.Id}}", "always"]), always);
    daemon.published("always").get("/").expect(200);
    assert_eq!(daemon.ok(&["ps", "-aq"]).lines().count(), 3);
    assert_eq!(daemon.host.take().unwrap().stop(), Some(0));
}
