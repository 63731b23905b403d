//! `wharf compose` on a real host: the tutorial's file and the example, and what else a file may say.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test ends by panicking")]

mod support;

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;
use support::daemon::{TestDaemon, context, context_of, run_with_input, succeeded};
use support::eventually;
use support::guests::{example, fixture};
use support::host::{Ended, Scratch};
use support::http::Client;
use support::tutorial::{COMPOSE, ports};

/// A compose file in a folder of its own, and the host it is for.
struct Project {
    daemon: TestDaemon,
    folder: Scratch,
}

impl Project {
    fn new(file: &str) -> Project {
        let folder = Scratch::new();
        folder.file("docker-compose.yml", file.as_bytes());
        Project { daemon: TestDaemon::start(), folder }
    }

    fn with_examples(file: &str, services: &[&str]) -> Project {
        let project = Project::new(file);
        for service in services {
            fs::rename(&context(service).0, project.folder.0.join(service)).unwrap();
        }
        project
    }

    /// Every service is built from `./guest`.
    fn with_guest(guest: &str, file: &str) -> Project {
        let project = Project::new(file);
        let dockerfile = format!("FROM scratch\nCOPY {guest}.wasm /\nEXPOSE 5000\nENTRYPOINT [\"/{guest}.wasm\"]\n");
        let wasm = format!("{guest}.wasm");
        let folder = context_of(&dockerfile, &[(wasm.as_str(), fixture(guest).as_path())]);
        fs::rename(&folder.0, project.folder.0.join("guest")).unwrap();
        project
    }

    fn command(&self, arguments: &[&str]) -> Command {
        self.command_as("small", arguments)
    }

    fn command_as(&self, project: &str, arguments: &[&str]) -> Command {
        let mut command = self.daemon.wharf_command(&["compose", "-p", project]);
        for name in ["COMPOSE_FILE", "COMPOSE_PROJECT_NAME", "COMPOSE_PROFILES"] {
            command.env_remove(name);
        }
        command.args(arguments).current_dir(&self.folder.0);
        command
    }

    fn run(&self, arguments: &[&str]) -> Ended {
        run_with_input(&mut self.command(arguments), b"")
    }

    #[track_caller]
    fn ok(&self, arguments: &[&str]) -> String {
        succeeded(self.run(arguments), arguments)
    }

    /// `wharf …`, which must succeed.
    #[track_caller]
    fn wharf(&self, arguments: &[&str]) -> String {
        succeeded(self.daemon.wharf(arguments), arguments)
    }

    fn service(&self, container: &str) -> Client {
        let text = self.wharf(&["port", container, "5000"]);
        let (_, port) = text.lines().next().unwrap().rsplit_once(':').unwrap();
        Client(([127, 0, 0, 1], port.parse().unwrap()).into())
    }

    fn inspect(&self, container: &str) -> Value {
        serde_json::from_str::<Value>(&self.wharf(&["inspect", container])).unwrap()[0].clone()
    }

    #[track_caller]
    fn has_nothing_left(&self) {
        assert_eq!(self.wharf(&["ps", "-aq"]), "");
        for listed in [["network", "ls"], ["volume", "ls"]] {
            let left = self.wharf(&listed);
            assert!(!left.contains("small"), "{listed:?}: {left}");
        }
    }
}

#[test]
fn the_tutorials_file_names_the_port_both_want_and_works_when_mended() {
    let _ports = ports();
    let project = Project::with_examples(COMPOSE, &["facedetection", "maskdetection"]);
    project.ok(&["build"]);
    let refused = project.run(&["up", "-d"]);
    assert_eq!(refused.code, Some(1), "{refused:?}");
    let expected = "services facedetection and maskdetection both publish host port 5001 (0.0.0.0:5001): ";
    assert!(refused.stderr.contains(expected), "{refused:?}");
    assert_eq!(project.wharf(&["ps", "-aq"]), "", "nothing was started");

    let (first, second) = COMPOSE.rsplit_once("5001").unwrap();
    project.folder.file("docker-compose.yml", format!("{first}5002{second}").as_bytes());
    project.ok(&["up", "-d"]);
    for (name, port) in [("facedetection", 5001), ("maskdetection", 5002)] {
        let service = project.service(name);
        assert_eq!(service.0.port(), port);
        service.get("/").expect(200);
    }
    assert_eq!(project.inspect("maskdetection")["HostConfig"]["RestartPolicy"]["Name"], "always");
    project.ok(&["down", "-v", "--rmi", "all"]);
    project.has_nothing_left();
    assert_eq!(project.wharf(&["images", "-q"]), "");
}

#[test]
fn services_of_the_example_ask_each_other_by_name() {
    let _ports = ports();
    let folder = example("compose");
    let file = fs::read_to_string(folder.join("docker-compose.yml")).unwrap();
    let project = Project::with_examples(&file, &["facedetection", "maskdetection"]);
    project.ok(&["up", "-d", "--build"]);
    let faces = project.service("facedetection");
    assert_eq!(masks(faces, &folder), ["false", "false", "false", "true"]);
    project.ok(&["stop", "maskdetection"]);
    assert_eq!(masks(faces, &folder), ["null"; 4], "nobody to ask: faces still come");
    project.ok(&["start", "maskdetection"]);
    eventually("it is asked again", || masks(faces, &folder)[3] == "true");
    assert_eq!(project.ok(&["exec", "-T", "maskdetection", "ls", "/models"]), "maskdetection.onnx");
    project.ok(&["down"]);
    project.has_nothing_left();
}

/// For each face of the example's picture, whether it wears a mask.
fn masks(service: Client, folder: &Path) -> Vec<String> {
    let picture = fs::read(folder.join("people.jpg")).unwrap();
    let answer = service.post("/detect", &picture).expect(200).json();
    let face = |face: &Value| face["mask"].to_string();
    answer["faces"].as_array().unwrap().iter().map(face).collect()
}

const MANY: &str = r#"
x-base: &base
  build: ./guest
  image: small-guest
services:
  first:
    <<: *base
    healthcheck: {test: /ok, interval: 1s, retries: 3}
    networks:
      inner: {aliases: [other-name]}
  second:
    <<: *base
    depends_on:
      first: {condition: service_healthy}
    env_file: second.env
    environment:
      OWN: "1"
      FROM_HOST:
      FILLED: ${FROM_DOTENV:-no}
    ports: ["127.0.0.1::5000"]
    volumes:
      - ./files:/files:ro
      - store:/store
    networks: [default, inner]
    mem_limit: 64m
    cpus: 0.5
    labels: {who: second}
    logging: {options: {max-size: 1m}}
    colour: red
  debug:
    <<: *base
    profiles: [debug]
networks:
  inner: {internal: true}
volumes:
  store:
"#;

#[test]
fn what_a_file_says_is_what_its_containers_are() {
    let project = Project::with_guest("misbehave", MANY);
    project.folder.file("second.env", b"FILE=read\nOWN=from the file\n");
    project.folder.file(".env", b"FROM_DOTENV=dotted\n");
    fs::create_dir(project.folder.0.join("files")).unwrap();
    fs::write(project.folder.0.join("files/note"), b"n").unwrap();
    let up = run_with_input(project.command(&["up", "-d"]).env("FROM_HOST", "here"), b"");
    assert_eq!(up.code, Some(0), "{up:?}");
    assert!(up.stderr.contains("WARNING: services.second.colour: unknown key, ignored"), "{up:?}");
    assert!(up.stderr.contains("Container small-first-1  Healthy"), "{up:?}");

    let service = project.service("small-second-1");
    for (name, value) in [("FILE", "read"), ("OWN", "1"), ("FROM_HOST", "here"), ("FILLED", "dotted")] {
        assert_eq!(service.get(&format!("/env?name={name}")).expect(200).json()["value"], value, "{name}");
    }
    for name in ["first", "other-name", "small-first-1"] {
        let asked = service.get(&format!("/egress?authority={name}:5000&path=/ok")).expect(200).json();
        assert_eq!(asked["status"], 200, "{name}: {asked}");
    }
    assert_eq!(project.ok(&["exec", "-T", "second", "ls", "/files"]), "note");
    let state = project.inspect("small-second-1");
    let host = &state["HostConfig"];
    assert_eq!((host["Memory"].as_i64(), host["NanoCpus"].as_i64()), (Some(64 << 20), Some(500_000_000)));
    assert_eq!(host["LogConfig"]["Config"]["max-size"], "1m");
    assert_eq!(state["Config"]["Labels"]["who"], "second");
    let joined: Vec<&String> = state["NetworkSettings"]["Networks"].as_object().unwrap().keys().collect();
    assert_eq!(joined, ["small_default", "small_inner"]);
    assert_eq!(state["Mounts"].as_array().unwrap().len(), 2);
    assert!(!project.wharf(&["ps", "-a"]).contains("debug"));

    project.ok(&["--profile", "debug", "down", "-v"]);
    project.has_nothing_left();
}

#[test]
fn only_what_changed_is_made_again() {
    let file = "services:\n  a: {build: ./guest, environment: {COLOUR: red}}\n  b: {build: ./guest}\n";
    let project = Project::with_guest("misbehave", file);
    project.ok(&["up", "-d"]);
    let ids = || ["small-a-1", "small-b-1"].map(|name| project.inspect(name)["Id"].to_string());
    let before = ids();
    project.ok(&["up", "-d"]);
    assert_eq!(ids(), before);
    project.folder.file("docker-compose.yml", file.replace("red", "blue").as_bytes());
    project.ok(&["up", "-d"]);
    let [a, b] = ids();
    assert!(a != before[0] && b == before[1]);
    // Another image under the same name.
    let dockerfile = project.folder.0.join("guest/Dockerfile");
    let changed = fs::read_to_string(&dockerfile).unwrap() + "LABEL changed=yes\n";
    fs::write(&dockerfile, changed).unwrap();
    project.ok(&["build", "b"]);
    project.ok(&["up", "-d"]);
    let [after_a, after_b] = ids();
    assert!(after_a == a && after_b != b);
    project.ok(&["up", "-d", "--force-recreate", "a"]);
    assert_ne!(ids()[0], a);
    project.folder.file("docker-compose.yml", b"services:\n  a: {build: ./guest}\n");
    let warned = project.run(&["up", "-d"]);
    assert!(warned.stderr.contains("not in the file: small-b-1"), "{warned:?}");
    project.ok(&["down", "--remove-orphans"]);
    project.has_nothing_left();
}

#[test]
fn a_dependency_that_fails_is_named() {
    let cases = [
        ("{test: /missing, interval: 1s, retries: 1}", "service_healthy", "container small-first-1 is unhealthy"),
        ("{disable: true}", "service_healthy", "has no health check"),
    ];
    for (health, condition, expected) in cases {
        let file = format!(
            "services:\n  first: {{build: ./guest, healthcheck: {health}}}\n  \
             second: {{build: ./guest, depends_on: {{first: {{condition: {condition}}}}}}}\n"
        );
        let project = Project::with_guest("misbehave", &file);
        let up = project.run(&["up", "-d"]);
        assert_eq!(up.code, Some(1), "{up:?}");
        assert!(up.stderr.contains("service second cannot start: it depends on first: "), "{up:?}");
        assert!(up.stderr.contains(expected), "{up:?}");
        assert_ne!(project.inspect("small-second-1")["State"]["Running"], true);
        project.ok(&["down"]);
        project.has_nothing_left();
    }
}

#[test]
fn jobs_are_awaited_and_their_exit_codes_count() {
    let file = |code: &str| {
        format!(
            "services:\n  first: {{build: ./guest, image: job, command: exit {code}}}\n  second:\n    image: job\n    \
             command: lines 2\n    depends_on: {{first: {{condition: service_completed_successfully}}}}\n"
        )
    };
    let project = Project::with_guest("job", &file("0"));
    let up = project.run(&["up"]);
    assert_eq!(up.code, Some(0), "{up:?}");
    assert_eq!(up.stdout.lines().filter(|line| line.starts_with("second  | line ")).count(), 2, "{up:?}");
    assert!(
        up.stderr.contains("first exited with code 0") && up.stderr.contains("second exited with code 0"),
        "{up:?}"
    );
    let again = project.run(&["up"]);
    assert_eq!(again.stdout.matches("line 1").count(), 1, "what it said before is not shown again: {again:?}");

    project.folder.file("docker-compose.yml", file("3").as_bytes());
    let failed = project.run(&["up", "-d"]);
    assert_eq!(failed.code, Some(1), "{failed:?}");
    assert!(failed.stderr.contains("container small-first-1 didn't complete successfully: exit 3"), "{failed:?}");

    let endless = "services:\n  a: {image: job, command: exit 3}\n  b: {image: job, command: sleep 3600000}\n";
    project.folder.file("docker-compose.yml", endless.as_bytes());
    let aborted = project.run(&["up", "--remove-orphans", "--abort-on-container-exit"]);
    assert_eq!(aborted.code, Some(3), "{aborted:?}");
    project.ok(&["down"]);
    project.has_nothing_left();
}

#[test]
fn another_containers_port_is_named_before_anything_starts() {
    let project = Project::with_guest("misbehave", "services:\n  a: {build: ./guest, ports: ['127.0.0.1::5000']}\n");
    project.ok(&["build"]);
    project.wharf(&["run", "-d", "--name", "stranger", "-p", "127.0.0.1:0:5000", "small-a"]);
    let port = project.service("stranger").0.port();
    let file = format!("services:\n  a: {{build: ./guest, ports: ['{port}:5000']}}\n");
    project.folder.file("docker-compose.yml", file.as_bytes());
    let refused = project.run(&["up", "-d"]);
    assert_eq!(refused.code, Some(1), "{refused:?}");
    let expected = format!("service a and container stranger both publish host port {port} (0.0.0.0:{port}): ");
    assert!(refused.stderr.contains(&expected), "{refused:?}");
    assert!(!project.wharf(&["ps", "-a"]).contains("small-a-1"));
}

#[test]
fn in_the_foreground_lines_carry_their_service_and_ctrl_c_stops_all() {
    let file = "services:\n  one: {build: ./guest, ports: ['127.0.0.1::5000']}\n  three: {build: ./guest}\n";
    let project = Project::with_guest("misbehave", file);
    project.ok(&["build"]);
    let mut up = project.command(&["up"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(up.stdout.take().unwrap()).lines();
    let running = || project.wharf(&["ps", "-q"]).lines().count();
    eventually("both run", || running() == 2);
    project.service("small-one-1").get("/log?line=words&stream=stdout").expect(200);
    assert_eq!(lines.next().unwrap().unwrap(), "one    | words");
    Command::new("kill").args(["-INT", &up.id().to_string()]).status().unwrap();
    let code = up.wait().unwrap().code();
    let mut talk = String::new();
    up.stderr.take().unwrap().read_to_string(&mut talk).unwrap();
    assert_eq!(code, Some(130), "{talk}");
    assert!(talk.contains("Gracefully stopping") && talk.contains("three exited with code 143"), "{talk}");
    assert_eq!(running(), 0);
    assert_eq!(project.ok(&["logs", "--tail", "1", "one"]), "one  | words");
    project.ok(&["down"]);
    project.has_nothing_left();
}

#[test]
fn config_says_what_was_understood() {
    let project =
        Project::new("services:\n  a: {image: 'a:${TAG:-1}', ports: ['5001:5000'], command: run 'two words'}\n");
    project.folder.file("more.yml", b"services:\n  a: {environment: [A=1]}\n  b: {image: b}\n");
    let files = ["-f", "docker-compose.yml", "-f", "more.yml", "config"];
    let json: Value = serde_json::from_str(&project.ok(&[&files[..], &["--format", "json"]].concat())).unwrap();
    assert_eq!(json["name"], "small");
    let service = &json["services"]["a"];
    assert_eq!((&service["image"], &service["environment"]["A"]), (&"a:1".into(), &"1".into()));
    assert_eq!(service["command"], serde_json::json!(["run", "two words"]));
    assert_eq!(project.ok(&[&files[..], &["--services"]].concat()), "a\nb");
    let yaml = project.ok(&files);
    assert!(yaml.starts_with("name: small\n") && yaml.contains("    image: \"a:1\"\n"), "{yaml}");
    let mistake =
        run_with_input(&mut project.command(&["-f", "-", "config"]), b"services:\n  a: {image: a, secrets: [s]}\n");
    assert_eq!(mistake.code, Some(1), "{mistake:?}");
    assert!(mistake.stderr.contains("services.a.secrets is not supported"), "{mistake:?}");
}

#[test]
fn a_project_of_another_name_is_stopped_started_restarted_and_followed() {
    let project = Project::with_guest("misbehave", "services:\n  a: {build: ./guest, ports: ['127.0.0.1::5000']}\n");
    let command = |arguments: &[&str]| project.command_as("other", arguments);
    let ok = |arguments: &[&str]| succeeded(run_with_input(&mut command(arguments), b""), arguments);
    ok(&["up", "-d"]);
    assert!(ok(&["ps"]).contains("other-a-1"));
    project.service("other-a-1").get("/log?line=before&stream=stdout").expect(200);
    let mut follow = command(&["logs", "-f"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(follow.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "a  | before");
    project.service("other-a-1").get("/log?line=after&stream=stdout").expect(200);
    assert_eq!(lines.next().unwrap().unwrap(), "a  | after", "a line of now is followed");

    let started = || project.inspect("other-a-1")["State"]["StartedAt"].to_string();
    let before = started();
    ok(&["restart"]);
    assert_ne!(started(), before);
    project.service("other-a-1").get("/ok").expect(200);
    ok(&["stop"]);
    assert_eq!(project.inspect("other-a-1")["State"]["Running"], false);
    assert_eq!(follow.wait().unwrap().code(), Some(0), "who follows ends with the last container");
    ok(&["start"]);
    project.service("other-a-1").get("/ok").expect(200);
    ok(&["down"]);
    project.has_nothing_left();
}

const SCALED: &str = r#"
services:
  web:
    build: ./guest
    ports: [5000]
    extra_hosts: ["elsewhere:127.0.0.1"]
  fixed:
    build: ./guest
    ports: ["5999:5000"]
    profiles: [fixed]
"#;

#[test]
fn a_service_has_as_many_containers_as_were_asked_for() {
    let project = Project::with_guest("misbehave", SCALED);
    project.ok(&["up", "-d", "--scale", "web=3"]);
    let names = |project: &Project| {
        project.wharf(&["ps", "--format", "{{.Names}}"]).lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let mut all = names(&project);
    all.sort();
    assert_eq!(all, ["small-web-1", "small-web-2", "small-web-3"]);
    for name in &all {
        project.service(name).get("/ok").expect(200);
    }
    assert_eq!(project.inspect("small-web-2")["HostConfig"]["ExtraHosts"], serde_json::json!(["elsewhere:127.0.0.1"]));
    let (first, third) =
        (project.inspect("small-web-1")["Id"].clone(), project.ok(&["port", "--index", "3", "web", "5000"]));
    assert_eq!(third.rsplit_once(':').unwrap().1, project.service("small-web-3").0.port().to_string());
    assert!(project.ok(&["top", "web"]).contains("small-web-2"));
    let images = project.ok(&["images"]);
    assert!(images.lines().count() == 4 && images.contains("small-web"), "{images}");
    assert!(project.ok(&["ls"]).lines().any(|line| line.starts_with("small") && line.contains("running(3)")));

    project.ok(&["up", "-d"]);
    assert_eq!(
        (names(&project), project.inspect("small-web-1")["Id"].clone()),
        (vec!["small-web-1".to_owned()], first)
    );

    project.ok(&["kill", "-s", "TERM", "web"]);
    eventually("it has ended", || project.ok(&["ps", "-q"]).is_empty());
    project.ok(&["rm", "-f"]);
    assert_eq!(project.wharf(&["ps", "-aq"]), "");

    let refused = project.run(&["--profile", "fixed", "up", "-d", "--scale", "fixed=2", "fixed"]);
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.stderr.contains("the \"fixed\" service specifies a port on the host"), "{refused:?}");
    project.ok(&["down"]);
    project.has_nothing_left();
}

const TOOL: &str = r#"
services:
  tool:
    build: ./guest
    environment: {GREETING: hello}
    restart: always
    ports: ["5998:5000"]
    depends_on: [other]
  other:
    build: ./guest
    command: [sleep, "3600000"]
"#;

#[test]
fn a_command_runs_in_a_container_of_its_own() {
    let project = Project::with_guest("job", TOOL);
    // It builds first, and says so beside the command's own output.
    let first = project.run(&["run", "--rm", "tool", "echo", "one", "two"]);
    assert_eq!((first.code, first.stdout.as_str()), (Some(0), "one two\n"), "{first:?}");
    assert!(first.stderr.contains("Successfully tagged small-tool:latest\n"), "{first:?}");
    assert_eq!(project.ok(&["run", "--rm", "-e", "OTHER=x", "tool", "env", "GREETING"]), "hello");
    let names = project.wharf(&["ps", "-a", "--format", "{{.Names}}"]);
    assert_eq!(names, "small-other-1", "what it depends on runs, and it is gone");
    let kept = project.run(&["run", "--name", "kept", "tool", "exit", "7"]);
    assert_eq!(kept.code, Some(7), "{kept:?}");
    let state = project.inspect("kept");
    assert_eq!(state["HostConfig"]["RestartPolicy"]["Name"], "no");
    assert_eq!(state["HostConfig"]["PortBindings"], serde_json::json!({}));
    let piped = run_with_input(&mut project.command(&["run", "--rm", "-T", "tool", "cat"]), b"from outside\n");
    assert_eq!(piped.stdout, "from outside\n", "{piped:?}");
    let version = project.ok(&["version", "--short"]);
    assert_eq!(version, env!("CARGO_PKG_VERSION"));
    project.ok(&["down", "-t", "0"]);
    project.has_nothing_left();
}
