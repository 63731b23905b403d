//! `docker-compose` 1.29 on a real host: its verbs on a small file of two services, the example whose services ask
//! each other by name, and the tutorial's file, whose two services want the same port.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test ends by panicking")]

mod support;

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use support::daemon::{TestDaemon, context, has_docker, run_with_input, succeeded};
use support::eventually;
use support::guests::{example, skip};
use support::host::{Ended, Scratch};
use support::http::Client;
use support::tutorial::{COMPOSE, ports};

const SMALL: &str = r#"version: "3"
services:
  hello:
    build: ./hello
    environment:
      COLOUR: red
    ports:
      - "127.0.0.1::5000"
    volumes:
      - store:/store
  digits:
    build: ./digits
    depends_on:
      - hello
    ports:
      - "127.0.0.1::5000"
volumes:
  store:
"#;

/// A compose file in a folder of its own, and the host it is for.
struct Project {
    daemon: TestDaemon,
    folder: Scratch,
}

impl Project {
    /// `None`, after a loud remark, where there is no docker-compose of version 1.
    fn new(file: &str, services: &[&str]) -> Option<Project> {
        if !has_docker() {
            return None;
        }
        let version = Command::new("docker-compose").arg("--version").output();
        if !version.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains("version 1.")) {
            skip("no docker-compose 1.29 on the PATH: nothing is driven by it");
            return None;
        }
        let folder = Scratch::new();
        folder.file("docker-compose.yml", file.as_bytes());
        for service in services {
            fs::rename(&context(service).0, folder.0.join(service)).unwrap();
        }
        Some(Project { daemon: TestDaemon::start(), folder })
    }

    fn run(&self, arguments: &[&str]) -> Ended {
        let mut command = Command::new("docker-compose");
        command.envs(self.daemon.docker_command(&[]).get_envs().filter_map(|(name, value)| Some((name, value?))));
        command.env("COMPOSE_PROJECT_NAME", "small").env_remove("COMPOSE_FILE").current_dir(&self.folder.0);
        run_with_input(command.args(arguments), b"")
    }

    #[track_caller]
    fn ok(&self, arguments: &[&str]) -> String {
        succeeded(self.run(arguments), arguments)
    }

    fn write(&self, file: &str) {
        self.folder.file("docker-compose.yml", file.as_bytes());
    }
}

#[test]
fn its_verbs_build_start_show_and_remove() {
    let Some(project) = Project::new(SMALL, &["hello", "digits"]) else { return };
    let config = project.ok(&["config"]);
    assert!(config.contains("COLOUR: red") && config.contains("depends_on:"), "{config}");
    assert_eq!(project.ok(&["config", "--services"]).lines().count(), 2);
    project.ok(&["build"]);
    project.ok(&["up", "-d"]);
    project.daemon.published("small_hello_1").get("/").expect(200);

    let table = project.ok(&["ps"]);
    let row = table.lines().find(|line| line.starts_with("small_digits_1")).unwrap_or_else(|| panic!("{table}"));
    assert!(row.contains("/digits.wasm") && row.contains("Up") && row.contains("->5000/tcp"), "{row}");
    let port = project.ok(&["port", "digits", "5000"]);
    let said = Client(port.parse().unwrap()).get("/").expect(200);
    assert!(!said.body.is_empty());
    assert!(project.ok(&["exec", "-T", "digits", "ls", "/"]).contains("digits.wasm"));
    assert_eq!(project.run(&["exec", "-T", "digits", "sh", "-c", "exit 4"]).code, Some(4));
    project.ok(&["logs", "--tail", "5"]);

    project.ok(&["stop"]);
    assert_eq!(project.daemon.ok(&["ps", "-q"]), "");
    assert!(project.ok(&["ps"]).contains("Exit 143"));
    project.ok(&["start"]);
    project.ok(&["restart", "-t", "2", "hello"]);
    project.ok(&["pause", "hello"]);
    assert!(project.ok(&["ps"]).contains("Paused"));
    project.ok(&["unpause", "hello"]);
    project.daemon.published("small_hello_1").get("/").expect(200);
    project.ok(&["kill", "hello"]);
    project.ok(&["rm", "-f", "hello"]);

    let again = project.run(&["up", "-d"]);
    assert!(again.code == Some(0) && again.stderr.contains("small_digits_1 is up-to-date"), "{again:?}");
    project.ok(&["down", "-v"]);
    for listed in [["ps", "-aq"], ["volume", "ls"], ["network", "ls"]] {
        let left = project.daemon.ok(&listed);
        assert!(!left.contains("small"), "{listed:?}: {left}");
    }
    assert_eq!(project.daemon.ok(&["ps", "-aq"]), "");
}

#[test]
fn a_changed_service_is_made_anew() {
    let Some(project) = Project::new(SMALL, &["hello", "digits"]) else { return };
    project.ok(&["up", "-d"]);
    let id = |service: &str| project.ok(&["ps", "-q", service]);
    let (hello, digits) = (id("hello"), id("digits"));
    let volume = |name: &str| project.daemon.ok(&["inspect", "-f", "{{(index .Mounts 0).Name}}", name]);
    assert_eq!(volume(&hello), "small_store");
    project.write(&SMALL.replace("COLOUR: red", "COLOUR: blue"));
    let changed = project.run(&["up", "-d"]);
    assert!(changed.code == Some(0) && changed.stderr.contains("Recreating small_hello_1"), "{changed:?}");
    assert_ne!(id("hello"), hello);
    assert_eq!(volume(&id("hello")), "small_store");
    assert!(project.daemon.ok(&["inspect", "-f", "{{.Config.Env}}", "small_hello_1"]).contains("COLOUR=blue"));
    assert_eq!(project.daemon.ok(&["ps", "-aq"]).lines().count(), 2, "the old one is gone");
    assert_eq!(id("digits"), digits, "what did not change stays");
    project.daemon.published("small_hello_1").get("/").expect(200);
    project.ok(&["up", "-d", "--scale", "digits=3"]);
    assert_eq!(id("digits").lines().count(), 3);
    project.ok(&["down"]);
    assert!(project.daemon.ok(&["volume", "ls", "-q"]).contains("small_store"), "volumes stay without -v");
}

#[test]
fn it_builds_by_itself_and_stays_in_the_foreground() {
    let Some(project) = Project::new(SMALL, &["hello", "digits"]) else { return };
    let mut command = Command::new("docker-compose");
    command.envs(project.daemon.docker_command(&[]).get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.env("COMPOSE_PROJECT_NAME", "small").env("COMPOSE_DOCKER_CLI_BUILD", "0").current_dir(&project.folder.0);
    let built = run_with_input(command.arg("build"), b"");
    assert!(built.code == Some(0) && built.stdout.contains("Successfully tagged small_digits"), "{built:?}");

    let up = std::thread::scope(|scope| {
        let up = scope.spawn(|| project.run(&["up"]));
        let names = || project.daemon.ok(&["ps", "--format", "{{.Names}}"]);
        eventually("both are up", || names().lines().count() == 2);
        project.daemon.published("small_hello_1").get("/").expect(200);
        project.daemon.ok(&["stop", "small_hello_1", "small_digits_1"]);
        up.join().unwrap()
    });
    let text = format!("{}{}", up.stdout, up.stderr);
    assert!(text.contains("small_hello_1 exited with code 143"), "{text}");
}

#[test]
fn services_of_the_example_ask_each_other_by_name() {
    let _ports = ports();
    let folder = example("compose");
    let file = fs::read_to_string(folder.join("docker-compose.yml")).unwrap();
    let Some(project) = Project::new(&file, &["facedetection", "maskdetection"]) else { return };
    project.ok(&["build"]);
    project.ok(&["up", "-d"]);
    let faces = project.daemon.published("facedetection");
    assert_eq!(faces.0.port(), 5001);
    assert_eq!(masks(faces, &folder), ["false", "false", "false", "true"]);
    project.ok(&["stop", "maskdetection"]);
    assert_eq!(masks(faces, &folder), ["null"; 4], "nobody to ask: faces still come");
    project.ok(&["start", "maskdetection"]);
    eventually("it is asked again", || masks(faces, &folder)[3] == "true");
    assert!(project.ok(&["logs", "facedetection"]).contains("facedetection"));
    project.ok(&["down"]);
}

/// For each face of the example's picture, whether it wears a mask.
fn masks(service: Client, folder: &Path) -> Vec<String> {
    let picture = fs::read(folder.join("people.jpg")).unwrap();
    let answer = service.post("/detect", &picture).expect(200).json();
    let face = |face: &Value| face["mask"].to_string();
    answer["faces"].as_array().unwrap().iter().map(face).collect()
}

#[test]
fn the_tutorials_file_names_the_port_both_want_and_works_when_mended() {
    let _ports = ports();
    let Some(project) = Project::new(COMPOSE, &["facedetection", "maskdetection"]) else { return };
    project.ok(&["build"]);
    let refused = project.run(&["up", "-d"]);
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.stderr.contains("5001 failed: port is already allocated"), "{refused:?}");
    let running = project.daemon.ok(&["ps", "--format", "{{.Names}}"]);
    assert_eq!(running.lines().count(), 1, "the other one runs: {running}");

    project.ok(&["down"]);
    let (first, second) = COMPOSE.rsplit_once("5001").unwrap();
    project.write(&format!("{first}5002{second}"));
    project.ok(&["up", "-d"]);
    for (name, port) in [("facedetection", 5001), ("maskdetection", 5002)] {
        let service = project.daemon.published(name);
        assert_eq!(service.0.port(), port);
        service.get("/").expect(200);
    }
    project.ok(&["down", "-v", "--rmi", "all"]);
    assert_eq!(project.daemon.ok(&["images", "-q"]), "");
}
