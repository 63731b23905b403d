//! `wharf serve` with images, folders to build and compose files: in the foreground, with their output, and nothing of
//! them left running afterwards.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test ends by panicking")]

mod support;

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::Command;

use support::daemon::{TestDaemon, context, context_of, succeeded};
use support::guests::{example, fixture, library, source};
use support::host::{Ended, LogLine, Scratch, TestHost, WHARF, run};
use support::http::Client;

const LOOPBACK: &str = "127.0.0.1:0:5000";

/// A data folder with images in it, of a daemon that has ended.
struct Site {
    daemon: TestDaemon,
}

impl Site {
    fn new() -> Site {
        let mut daemon = TestDaemon::start();
        daemon.host.take().unwrap().stop();
        Site { daemon }
    }

    /// With an image, built from a fixture and these last lines of its Dockerfile.
    #[track_caller]
    fn with_image(name: &str, guest: &str, lines: &str) -> Site {
        let mut daemon = TestDaemon::start();
        let folder = guest_context(guest, lines);
        let arguments = ["build", "-q", "-t", name, folder.0.to_str().unwrap()];
        succeeded(daemon.wharf(&arguments), &arguments);
        daemon.host.take().unwrap().stop();
        Site { daemon }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(WHARF);
        command.args(["serve", "--http", "127.0.0.1:0", "--log-format", "json", "--data"]).arg(&self.daemon.data.0);
        for name in ["COMPOSE_FILE", "COMPOSE_PROJECT_NAME", "COMPOSE_PROFILES"] {
            command.env_remove(name);
        }
        command.args(arguments);
        command
    }

    fn serve(&self, arguments: &[&str]) -> TestHost {
        TestHost::start(&mut self.command(arguments))
    }

    fn refused(&self, arguments: &[&str]) -> Ended {
        run(self.command(arguments).env("ORT_DYLIB_PATH", library()))
    }

    /// Names and states of all containers, as the next daemon on this folder knows them.
    fn left(&mut self) -> Vec<String> {
        self.daemon.start_again();
        let arguments = ["ps", "-a", "--format", "{{.Names}} {{.State}}"];
        let text = succeeded(self.daemon.wharf(&arguments), &arguments);
        self.daemon.host.take().unwrap().stop();
        let mut rows: Vec<String> = text.lines().map(str::to_owned).collect();
        rows.sort();
        rows
    }
}

fn guest_context(guest: &str, lines: &str) -> Scratch {
    let wasm = format!("{guest}.wasm");
    let dockerfile = format!("FROM scratch\nCOPY {wasm} /\nENTRYPOINT [\"/{wasm}\"]\n{lines}\n");
    context_of(&dockerfile, &[(wasm.as_str(), fixture(guest).as_path())])
}

/// Where a target answers, once the host has said so.
#[track_caller]
fn service(host: &TestHost, name: &str) -> Client {
    let said = host.log().wait_for("address", |line| {
        line.message() == "listening" && line.json["fields"]["name"] == name && line.json["fields"]["url"].is_string()
    });
    let fields = &said.json["fields"];
    let address: SocketAddr = fields["address"].as_str().unwrap().parse().unwrap();
    assert_eq!(fields["url"], format!("http://{address}/"));
    Client(address)
}

#[track_caller]
fn ends(ended: &Ended, code: i32, words: &[&str]) {
    assert_eq!(ended.code, Some(code), "{}{}", ended.stdout, ended.stderr);
    for word in words {
        assert!(ended.stderr.contains(word), "{word:?} is not in:\n{}", ended.stderr);
    }
}

#[test]
fn an_image_is_run_and_gone_afterwards() {
    let mut site = Site::with_image("team/talker:1", "misbehave", "EXPOSE 5000");
    let scratch = Scratch::new();
    scratch.file("shared/note", b"n");
    let volume = format!("{}:/shared:ro", scratch.0.join("shared").display());
    let flags =
        ["-p", LOOPBACK, "-e", "COLOUR=green", "-v", &volume, "--memory", "64m", "--instance-max-requests", "2"];
    let host = site.serve(&[&["team/talker:1"], &flags[..]].concat());
    // It was ready when what was named answered, not before.
    let lines = host.log().lines();
    let place = |message: &str, name: &str| {
        let fields = |line: &LogLine| line.json["fields"]["name"].as_str().unwrap_or_default().to_owned();
        lines.iter().position(|line| line.message() == message && fields(line) == name).unwrap()
    };
    assert!(place("listening", "talker") < place("ready", ""), "{}", host.log().text());
    let talker = service(&host, "talker");
    assert_eq!(talker.get("/env?name=COLOUR").expect(200).json()["value"], "green");
    let counts: Vec<_> = (0..3).map(|_| talker.get("/counter").expect(200).json()["count"].clone()).collect();
    assert!(counts.contains(&2.into()), "an instance serves two requests: {counts:?}");

    talker.get("/log?line=words&stream=stdout").expect(200);
    let line = host.log().wait_for("line", |line| line.line() == "words");
    assert!(line.is_from("talker") && line.from == "stdout", "{}", line.text);

    // It is a daemon, too.
    let inspect = ["inspect", "--format", "{{.HostConfig.Memory}} {{.HostConfig.AutoRemove}}", "talker"];
    assert_eq!(succeeded(site.daemon.wharf(&inspect), &inspect), "67108864 true");
    let list = ["exec", "talker", "ls", "/shared"];
    assert_eq!(succeeded(site.daemon.wharf(&list), &list), "note");

    assert_eq!(host.stop(), Some(0));
    assert!(!talker.is_listening());
    assert_eq!(site.left(), Vec::<String>::new());
}

#[test]
fn without_p_an_exposed_port_is_published_on_loopback() {
    let site = Site::with_image("talker", "misbehave", "EXPOSE 6000");
    let host = site.serve(&["talker"]);
    let talker = service(&host, "talker");
    assert!(talker.0.ip().is_loopback() && talker.0.port() >= 5000, "{}", talker.0);
    talker.get("/ok").expect(200);
    let port = ["port", "talker", "6000"];
    assert_eq!(succeeded(site.daemon.wharf(&port), &port), talker.0.to_string());
    assert_eq!(host.stop(), Some(0));
}

#[test]
fn a_folder_with_a_dockerfile_is_built_and_run() {
    let mut site = Site::new();
    // A component right in the folder would be served without an image.
    let folder = context("digits");
    fs::create_dir(folder.0.join("built")).unwrap();
    for name in ["digits.wasm", "models"] {
        fs::rename(folder.0.join(name), folder.0.join("built").join(name)).unwrap();
    }
    let dockerfile = fs::read_to_string(folder.0.join("Dockerfile")).unwrap().replace("COPY ", "COPY built/");
    folder.file("Dockerfile", dockerfile.as_bytes());
    let host = site.serve(&[folder.0.to_str().unwrap(), "--name", "reader", "-p", LOOPBACK]);
    let seven = fs::read(source("examples/digits/testdata/seven.png")).unwrap();
    assert_eq!(service(&host, "reader").post("/predict", &seven).expect(200).json()["digit"], 7);
    host.log().wait_for("step in the log", |line| line.message().starts_with("Step 1/"));
    let tag = folder.0.file_name().unwrap().to_str().unwrap();
    let images = ["images", "--format", "{{.Repository}}"];
    assert_eq!(succeeded(site.daemon.wharf(&images), &images), tag);
    assert_eq!(host.stop(), Some(0));
    assert_eq!(site.left(), Vec::<String>::new());
}

#[test]
fn a_compose_file_is_brought_up_and_stopped() {
    let mut site = Site::new();
    let folder = example("compose");
    let file = fs::read_to_string(folder.join("docker-compose.yml")).unwrap();
    let ports = ["5001:5000", "5002:5000"].into_iter();
    let file = ports.fold(file, |file, port| file.replace(port, "\"127.0.0.1::5000\""));
    // Without a restart policy they stay as they were left.
    let file = file.replace("restart: always", "restart: \"no\"");
    let project = Scratch::new();
    let path = project.file("docker-compose.yml", file.as_bytes());
    for service in ["facedetection", "maskdetection"] {
        fs::rename(&context(service).0, project.0.join(service)).unwrap();
    }

    let host = site.serve(&[path.to_str().unwrap()]);
    let faces = service(&host, "facedetection");
    service(&host, "maskdetection").get("/").expect(200);
    let picture = fs::read(folder.join("people.jpg")).unwrap();
    let answer = faces.post("/detect", &picture).expect(200).json();
    let masks: Vec<_> = answer["faces"].as_array().unwrap().iter().map(|face| face["mask"].clone()).collect();
    assert_eq!(masks, [false, false, false, true]);
    assert_eq!(host.stop(), Some(0));
    assert_eq!(site.left(), ["facedetection exited", "maskdetection exited"]);

    // Once more: the containers are there already.
    let host = site.serve(&[path.to_str().unwrap()]);
    service(&host, "facedetection").get("/").expect(200);
    assert_eq!(host.stop(), Some(0));
}

#[test]
fn files_and_images_are_served_side_by_side() {
    let site = Site::with_image("talker", "misbehave", "EXPOSE 5000");
    let hello = example("hello");
    let host = site.serve(&["talker", "-p", LOOPBACK, hello.to_str().unwrap(), "-p", LOOPBACK]);
    assert_eq!(host.service("hello").get("/").expect(200).text(), "Hello from Wharf.\n");
    service(&host, "talker").get("/ok").expect(200);
    assert_eq!(host.stop(), Some(0));
}

#[test]
fn a_component_in_a_folder_wins_over_its_dockerfile() {
    let site = Site::new();
    let folder = context("hello");
    assert!(folder.0.join("Dockerfile").is_file());
    let host = site.serve(&[folder.0.to_str().unwrap(), "--name", "hello", "-p", LOOPBACK]);
    host.service("hello").get("/").expect(200);
    assert!(!site.daemon.socket().exists(), "no images, no containers, no socket");
    let socket = site.refused(&[folder.0.to_str().unwrap(), "--socket", "elsewhere.sock"]);
    ends(&socket, 2, &["--socket is for images and containers"]);
}

#[test]
fn jobs_end_the_host_with_their_exit_code() {
    for (command, code) in [("[\"lines\", \"2\"]", 0), ("[\"exit\", \"3\"]", 3)] {
        let mut site = Site::with_image("job", "job", &format!("CMD {command}"));
        let ended = site.refused(&["job"]);
        ends(&ended, code, &[]);
        if code == 0 {
            let lines = ended.stdout.lines().filter(|line| line.starts_with(r#"{"container":"job","line":"line "#));
            assert_eq!(lines.count(), 2, "{}", ended.stdout);
        }
        assert_eq!(site.left(), Vec::<String>::new());
    }
}

#[test]
fn what_cannot_start_ends_the_host() {
    let mut site = Site::with_image("talker", "misbehave", "EXPOSE 5000");
    // No registry listens there, so that nothing leaves this machine.
    let missing = site.refused(&["127.0.0.1:1/nobody"]);
    ends(&missing, 1, &["127.0.0.1:1/nobody is neither a file or folder here nor an image", "cannot be pulled"]);

    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let refused = site.refused(&["talker", "-p", &format!("127.0.0.1:{port}:5000")]);
    ends(&refused, 1, &["cannot start talker", &port.to_string()]);

    let broken = context_of("FROM scratch\nCOPY nothing /\n", &[]);
    let refused = site.refused(&[broken.0.to_str().unwrap()]);
    ends(&refused, 1, &["cannot build ", "nothing"]);

    // What had been started goes with it.
    let second = site.refused(&["talker", "-p", LOOPBACK, broken.0.to_str().unwrap()]);
    ends(&second, 1, &["cannot build "]);

    let project = Scratch::new();
    let file = format!(
        "services:\n  a: {{image: talker}}\n  b: {{image: talker, ports: ['127.0.0.1:{port}:5000'], depends_on: [a]}}\n"
    );
    let path = project.file("docker-compose.yml", file.as_bytes());
    ends(&site.refused(&[path.to_str().unwrap()]), 1, &["service b", &port.to_string()]);
    let states: Vec<String> = site.left().into_iter().filter(|row| !row.contains("-b-1")).collect();
    let [a] = &states[..] else { panic!("{states:?}") };
    assert!(a.ends_with("-a-1 exited"), "{a}");
}

#[test]
fn what_makes_no_sense_is_refused_by_name() {
    let site = Site::new();
    let project = Scratch::new();
    let path = project.file("app.yml", b"services:\n  a: {image: a}\n");
    let file = path.to_str().unwrap();
    let cases: [(&[&str], &str); 7] = [
        (&["-p", "5000"], "-p means nothing to a compose file: write `ports` of its services"),
        (&["-e", "A=1"], "-e means nothing to a compose file: write `environment`"),
        (&["-v", ".:/a"], "-v means nothing to a compose file: write `volumes`"),
        (&["--memory", "1g"], "--memory means nothing to a compose file: write `mem_limit`"),
        (&["--name", "x"], "a compose file names its containers itself"),
        (&["--model", "a=b.onnx"], "--model is for components given as files"),
        (&["image", "-p", "5000", "-p", "5001"], "-p 5001 has no service to belong to"),
    ];
    for (flags, words) in cases {
        ends(&site.refused(&[&[file], flags].concat()), 2, &[words]);
    }
    let mistake = project.file("mistake.yml", b"services:\n  a: {image: a, secrets: [s]}\n");
    ends(&site.refused(&[mistake.to_str().unwrap()]), 2, &["services.a.secrets is not supported"]);
    let volume = site.refused(&["image", "-v", "nowhere-at-all:/a"]);
    ends(&volume, 2, &["volume source nowhere-at-all is not a folder"]);
    ends(&site.refused(&["image", "team/image:2"]), 1, &["two targets are called \"image\""]);

    let folder = path.parent().unwrap();
    fs::rename(&path, folder.join("compose.yml")).unwrap();
    let named = format!("for its compose file, name that: {}", folder.join("compose.yml").display());
    ends(&site.refused(&[folder.to_str().unwrap()]), 2, &[" and no Dockerfile; ", &named]);
    let dockerfile = project.file("Dockerfile", b"FROM scratch\n");
    ends(&site.refused(&[dockerfile.to_str().unwrap()]), 2, &["is a Dockerfile: name the folder it is in"]);
    ends(&site.refused(&["./nowhere"]), 1, &["no such file or folder: ./nowhere; a target is "]);
}

#[test]
fn a_folder_that_another_host_holds_is_named_with_the_way_in() {
    let daemon = TestDaemon::start();
    let mut command = Command::new(WHARF);
    command.args(["serve", "some-image", "--http", "127.0.0.1:0", "--data"]).arg(&daemon.data.0);
    let ended = run(command.env("ORT_DYLIB_PATH", library()));
    ends(&ended, 1, &["another host already uses ", "give it what to run with `wharf run` or `wharf compose up`"]);
    assert!(Path::new(&daemon.socket()).exists(), "the other's socket stays");
}
