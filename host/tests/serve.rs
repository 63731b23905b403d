//! `wharf serve` as an operator meets it: what it takes, what it says, when it is ready, and how it ends.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test ends by panicking")]

mod support;

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use support::eventually;
use support::guests::{example, fixture, library, model, source};
use support::host::{Scratch, Shared, TestHost, WHARF, refused, run};

/// `misbehave` (also `/sleep`, `/env`, `/counter` …) beside `hello`.
static HOST: Shared = Shared::new(|| {
    let (misbehave, hello) = (fixture("misbehave"), example("hello"));
    TestHost::serve(&[&misbehave, &hello], &["-e", "COLOUR=green", "-e", "ABSENT"])
});

// ---- targets ----

#[test]
fn a_folder_with_component_and_models_is_a_service() {
    let host = TestHost::serve(&[&example("digits")], &[]);
    let seven = fs::read(source("examples/digits/testdata/seven.png")).unwrap();
    assert_eq!(host.service("digits").post("/predict", &seven).expect(200).json()["digit"], 7);
    // Its model answers the protocol under its name too.
    assert_eq!(host.http().get("/v2/models/digits").expect(200).json()["name"], "digits");
}

#[test]
fn a_core_module_and_the_component_made_of_it_are_the_same_service() {
    let scratch = Scratch::new();
    let (module, component) = (fixture("preview1"), scratch.0.join("made.wasm"));
    let made = run(Command::new(WHARF).arg("componentize").arg(&module).arg("-o").arg(&component));
    assert_eq!(made.code, Some(0), "{}", made.stderr);
    let starts = [&module, &component].map(|path| fs::read(path).unwrap()[4..8].to_vec());
    assert_ne!(starts[0], starts[1], "a module and a component differ in their fifth byte");

    let host = TestHost::serve(&[&module, &component], &[]);
    for name in ["preview1", "made"] {
        assert_eq!(host.service(name).get("/").expect(200).json()["written"], 21);
        host.log().wait_for("greeting", |line| line.is_from(name) && line.line() == "hello from preview 1");
    }
}

#[test]
fn a_model_alone_answers_the_protocol() {
    let host = TestHost::serve(&[&model("digits", "digits")], &[]);
    assert_eq!(host.http().get("/v2/models/digits/ready").expect(200).json()["ready"], true);
    host.log().wait_for("announcement", |line| line.message() == "model loaded");
}

#[test]
fn a_triton_repository_is_served_at_its_highest_version() {
    let scratch = Scratch::new();
    let digits = fs::read(model("digits", "digits")).unwrap();
    scratch.file("repository/models/reader/2/model.onnx", b"an older version, never looked at");
    scratch.file("repository/models/reader/10/model.onnx", &digits);
    let host = TestHost::serve(&[&scratch.0.join("repository")], &[]);
    let metadata = host.http().get("/v2/models/repository%2Freader").expect(200).json();
    assert_eq!(metadata["inputs"][0]["name"], "image");
}

#[test]
fn targets_that_are_none_are_named() {
    let scratch = Scratch::new();
    let text = scratch.file("notes.txt", b"hello");
    let source = scratch.0.join("source");
    scratch.file("source/Cargo.toml", b"[package]");
    scratch.file("two/a.wasm", b"");
    scratch.file("two/b.wasm", b"");
    let cases: [(PathBuf, i32, &str); 4] = [
        (scratch.0.join("nowhere"), 1, "no such file or folder: "),
        (text, 2, "notes.txt is neither a component (.wasm) nor a model (.onnx)"),
        (source, 2, "it is a Cargo package: build it first and serve its folder of results"),
        (scratch.0.join("two"), 2, "holds 2 components (a.wasm, b.wasm) and none is called two.wasm: name the file"),
    ];
    for (target, code, message) in cases {
        let ended = refused(&[&target], &[]);
        assert_eq!(ended.code, Some(code), "{}", ended.stderr);
        assert!(ended.stderr.contains(message), "{}", ended.stderr);
    }
}

// ---- ready, ports, names ----

#[test]
fn ready_is_said_when_the_ports_answer() {
    let host = TestHost::serve(&[&example("hello")], &[]);
    // `serve` returned at the line `ready`; nothing is waited for here.
    assert_eq!(host.service("hello").get("/").expect(200).text(), "Hello from Wharf.\n");
    host.http().get("/v2/health/ready").expect(200);
}

#[test]
fn every_service_has_a_port_of_its_own() {
    let host = HOST.get();
    assert_eq!(host.service("hello").get("/").expect(200).text(), "Hello from Wharf.\n");
    assert_eq!(host.service("misbehave").get("/ok").expect(200).text(), "ok");
    assert_eq!(host.service("hello").get("/ok").status, 404);
}

#[test]
fn the_nth_name_is_the_nth_targets() {
    let (hello, digits) = (example("hello"), model("digits", "digits"));
    let host = TestHost::serve(&[&digits, &hello], &["--name", "reader", "--name", "greeter"]);
    host.service("greeter").get("/").expect(200);
    host.http().get("/v2/models/reader/ready").expect(200);

    let twice = refused(&[&hello, &hello], &[]);
    assert_eq!(twice.code, Some(1));
    assert!(
        twice.stderr.contains("two targets are called \"hello\": give one of them another --name"),
        "{}",
        twice.stderr
    );
    let bad = refused(&[&hello], &["--name", "a b"]);
    assert_eq!(bad.code, Some(2));
    assert!(bad.stderr.contains("\"a b\" is no container name"), "{}", bad.stderr);
}

#[test]
fn a_port_in_use_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let ended = refused(&[&example("hello")], &["-p", &format!("127.0.0.1:{port}:5000")]);
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    let message = format!("port {port} on 127.0.0.1 is in use by another process; choose another with -p");
    assert!(ended.stderr.contains(&message), "{}", ended.stderr);

    let mut command = Command::new(WHARF);
    command.arg("serve").arg(model("digits", "digits")).args(["--http", &format!("127.0.0.1:{port}")]);
    let ended = run(command.env("ORT_DYLIB_PATH", library()));
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    assert!(ended.stderr.contains(&format!("port {port} on 127.0.0.1")), "{}", ended.stderr);
    assert!(ended.stderr.contains("--http"), "{}", ended.stderr);
}

#[test]
fn more_ports_than_services_are_an_error() {
    let ended = refused(&[&model("digits", "digits")], &["-p", "127.0.0.1:0:5000"]);
    assert_eq!(ended.code, Some(2), "{}", ended.stderr);
    assert!(ended.stderr.contains("-p 127.0.0.1:0:5000 has no service to belong to"), "{}", ended.stderr);
}

#[test]
fn without_p_a_service_gets_a_free_port_on_loopback() {
    let scratch = Scratch::new();
    let mut command = Command::new(WHARF);
    command.arg("serve").arg(example("hello")).args(["--http", "127.0.0.1:0", "--log-format", "json", "--data"]);
    let host = TestHost::start(command.arg(&scratch.0));
    let address: SocketAddr = host.service("hello").0;
    assert!(address.ip().is_loopback() && address.port() >= 5000, "{address}");
    host.service("hello").get("/").expect(200);
}

// ---- what the guest is given ----

#[test]
fn variables_reach_the_guest_and_no_others_do() {
    let host = HOST.get();
    let guest = host.service("misbehave");
    assert_eq!(guest.get("/env?name=COLOUR").expect(200).json()["value"], "green");
    for hidden in ["ABSENT", "PATH", "HOME", "ORT_DYLIB_PATH"] {
        assert!(guest.get(&format!("/env?name={hidden}")).expect(200).json()["value"].is_null(), "{hidden}");
    }
}

#[test]
fn a_volume_must_be_a_folder() {
    let hello = example("hello");
    let ended = refused(&[&hello], &["-v", "nowhere-at-all:/data", "-p", "127.0.0.1:0:5000"]);
    assert_eq!(ended.code, Some(2), "{}", ended.stderr);
    assert!(ended.stderr.contains("volume source nowhere-at-all is not a folder"), "{}", ended.stderr);

    let scratch = Scratch::new();
    let folder = scratch.0.display();
    let host = TestHost::serve(&[&hello], &["-v", &format!("{folder}:/data:ro")]);
    host.service("hello").get("/").expect(200);
}

#[test]
fn each_request_gets_a_fresh_instance() {
    let host = HOST.get();
    let guest = host.service("misbehave");
    for _ in 0..5 {
        assert_eq!(guest.get("/counter").expect(200).json()["count"], 1);
    }
}

#[test]
fn instances_are_reused_as_often_as_allowed() {
    let host = TestHost::serve(&[&fixture("misbehave")], &["--instance-max-requests", "3"]);
    let guest = host.service("misbehave");
    let counts: Vec<_> = (0..7).map(|_| guest.get("/counter").expect(200).json()["count"].as_u64().unwrap()).collect();
    assert_eq!(counts, [1, 2, 3, 1, 2, 3, 1]);
    // One that crashed serves nobody again.
    assert_eq!(guest.get("/counter").expect(200).json()["count"], 2);
    guest.get("/trap").expect(500);
    assert_eq!(guest.get("/counter").expect(200).json()["count"], 1);
}

// ---- repositories of models ----

#[test]
fn a_repository_is_served_as_triton_serves_it() {
    let digits = fs::read(model("digits", "digits")).unwrap();
    let scratch = Scratch::new();
    for file in ["digits/1/model.onnx", "digits/3/model.onnx", "plain/model.onnx", "flat.onnx"] {
        scratch.file(&format!("repository/{file}"), &digits);
    }
    scratch.file("repository/digits/config.pbtxt", b"platform: \"onnxruntime_onnx\"\n");
    scratch.file("repository/README.md", b"no model");
    let host = TestHost::serve(&[&scratch.0.join("repository")], &[]);
    for name in ["digits", "plain", "flat"] {
        assert_eq!(host.http().get(&format!("/v2/models/{name}")).expect(200).json()["name"], name);
    }
    assert_eq!(host.stop(), Some(0));

    // One model of it, which is called as its folder.
    let host = TestHost::serve(&[&scratch.0.join("repository/digits")], &[]);
    host.http().get("/v2/models/digits/ready").expect(200);
    assert_eq!(host.stop(), Some(0));

    let empty = scratch.0.join("repository/none");
    fs::create_dir(&empty).unwrap();
    let ended = refused(&[&empty], &[]);
    assert_eq!(ended.code, Some(2), "{}", ended.stderr);
    let hint = "no model (models/*.onnx, *.onnx, NAME/VERSION/model.onnx)";
    assert!(ended.stderr.contains(hint), "{}", ended.stderr);
}

// ---- the log ----

#[test]
fn guests_lines_are_json_on_the_stream_they_were_written_to() {
    let host = HOST.get();
    let guest = host.service("misbehave");
    guest.get("/log?line=first%20%22quoted%22").expect(200);
    guest.get("/log?line=second&stream=stdout").expect(200);
    let first = host.log().wait_for("first line", |line| line.line() == "first \"quoted\"");
    assert!(first.is_from("misbehave") && first.from == "stderr" && first.json["stream"] == "stderr");
    let second = host.log().wait_for("second line", |line| line.line() == "second");
    assert!(second.is_from("misbehave") && second.from == "stdout" && second.json["stream"] == "stdout");
    let broken = |line: &&support::host::LogLine| line.json.is_null();
    assert!(!host.log().lines().iter().any(|line| broken(&line)), "every line is JSON:\n{}", host.log().text());
}

#[test]
fn the_hosts_own_log_goes_where_it_is_told_to() {
    let (flag, variable) = (["--log-to", "stdout"].as_slice(), "stdout");
    for (flags, set, from) in [(&[][..], "", "stderr"), (flag, "", "stdout"), (&[], variable, "stdout")] {
        let mut command = Command::new(WHARF);
        command.arg("serve").arg(fixture("misbehave")).args(["-p", "127.0.0.1:0:5000", "--http", "127.0.0.1:0"]);
        command.args(flags).env_remove("WHARF_LOG_TO").env("ORT_DYLIB_PATH", library());
        if !set.is_empty() {
            command.env("WHARF_LOG_TO", set);
        }
        let mut host = TestHost::start(&mut command);
        // A service's words stay on the stream that it chose.
        host.service("misbehave").get("/log?line=said").expect(200);
        let said = host.log().wait_for("the service's line", |line| line.line() == "said");
        assert_eq!(said.from, "stderr");
        host.signal("TERM");
        host.wait();
        let last = host.log().wait_for("last word", |line| line.message() == "stopped");
        assert_eq!(last.from, from);
        let astray: Vec<_> = host.log().lines().into_iter().filter(|line| !line.message().is_empty()).collect();
        assert!(astray.iter().all(|line| line.from == from), "{flags:?} {set:?}:\n{}", host.log().text());
    }
    let ended = run(Command::new(WHARF).args(["serve", "--log-to", "syslog"]));
    assert_eq!(ended.code, Some(2), "{}", ended.stderr);
    assert!(ended.stderr.contains("invalid value 'syslog' for '--log-to <STREAM>'"), "{}", ended.stderr);
}

#[test]
fn people_get_a_log_without_json_and_without_control_characters() {
    let mut command = Command::new(WHARF);
    command.arg("serve").arg(fixture("no-handler")).args(["--http", "127.0.0.1:0", "--log-format", "human"]);
    let ended = run(command.env("ORT_DYLIB_PATH", library()));
    assert!(!ended.stderr.contains('{') && !ended.stderr.contains('\x1b'), "{}", ended.stderr);
}

// ---- the end ----

#[test]
fn sigterm_lets_open_requests_finish() {
    let mut host = TestHost::serve(&[&fixture("misbehave")], &[]);
    let guest = host.service("misbehave");
    let mut slow = guest.send("GET", "/sleep?ms=1500", &[], b"");
    eventually("the slow request is in flight", || host.in_flight("misbehave") == 1.0);
    host.signal("TERM");
    host.log().wait_for("word of draining", |line| line.message().starts_with("draining"));
    eventually("no new connection is taken", || !guest.is_listening());
    let answer = slow.answer().unwrap().expect(200);
    assert!(answer.json()["milliseconds"].as_u64().unwrap() >= 1500);
    assert_eq!(host.wait().code(), Some(0));
    host.log().wait_for("last word", |line| line.message() == "stopped");
}

#[test]
fn sigint_ends_an_idle_host_at_once() {
    let mut host = TestHost::serve(&[&example("hello")], &[]);
    // Kept alive and idle: it must not hold up the end.
    let idle = host.service("hello").connect();
    host.signal("INT");
    let started = Instant::now();
    assert_eq!(host.wait().code(), Some(0));
    assert!(started.elapsed().as_secs() < 5, "{:?}", started.elapsed());
    drop(idle);
}

#[test]
fn a_second_signal_forces_the_end() {
    let mut host = TestHost::serve(&[&fixture("misbehave")], &["--stop-timeout", "1h"]);
    let mut slow = host.service("misbehave").send("GET", "/sleep?ms=20000", &[], b"");
    eventually("the slow request is in flight", || host.in_flight("misbehave") == 1.0);
    host.signal("TERM");
    host.log().wait_for("word of draining", |line| line.message().starts_with("draining"));
    let started = Instant::now();
    host.signal("TERM");
    assert_eq!(host.wait().code(), Some(0));
    assert!(started.elapsed().as_secs() < 10, "{:?}", started.elapsed());
    host.log().wait_for("warning", |line| line.message() == "stopped at once: requests still open were cut");
    assert!(slow.answer().is_err());
}

#[test]
fn the_stop_timeout_cuts_what_does_not_finish() {
    let mut host = TestHost::serve(&[&fixture("misbehave")], &["--stop-timeout", "200ms"]);
    let mut slow = host.service("misbehave").send("GET", "/loop", &[], b"");
    eventually("the endless request is in flight", || host.in_flight("misbehave") == 1.0);
    host.signal("TERM");
    assert_eq!(host.wait().code(), Some(0));
    host.log().wait_for("warning", |line| line.message() == "stopped: requests still open were cut");
    assert!(slow.answer().is_err());
}

// ---- under a service manager ----

#[test]
fn a_service_manager_hears_of_start_life_and_end() {
    let scratch = Scratch::new();
    let path = scratch.0.join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(support::PATIENCE)).unwrap();
    let hears = || {
        let mut buffer = [0; 256];
        let read = manager.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..read]).into_owned()
    };
    let mut command = Command::new(WHARF);
    command.args(["serve", "--http", "127.0.0.1:0", "--log-format", "json", "--data"]).arg(scratch.0.join("data"));
    command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "20000");
    let mut host = TestHost::start(&mut command);
    assert_eq!(hears(), "STATUS=starting containers");
    assert_eq!(hears(), format!("READY=1\nSTATUS=answering on {}", host.http().0));
    for _ in 0..3 {
        assert_eq!(hears(), "WATCHDOG=1");
    }
    host.signal("TERM");
    while let heard = hears()
        && heard != "STOPPING=1\nSTATUS=finishing open requests"
    {
        assert_eq!(heard, "WATCHDOG=1");
    }
    assert_eq!(host.wait().code(), Some(0));
}

// ---- the cache of compiled components ----

#[test]
fn a_compiled_component_is_kept_and_used() {
    let scratch = Scratch::new();
    let hello = example("hello");
    assert_eq!(TestHost::serve_from(&scratch.0, &[&hello], &[]).stop(), Some(0));
    let (code, made) = only_entry(&scratch.0);
    let host = TestHost::serve_from(&scratch.0, &[&hello], &[]);
    host.service("hello").get("/").expect(200);
    let (same, untouched) = only_entry(&scratch.0);
    assert_eq!((same, untouched), (code.clone(), made), "nothing was compiled again");
    let maps = fs::read_to_string(format!("/proc/{}/maps", host.id())).unwrap();
    assert!(maps.contains(code.file_name().unwrap().to_str().unwrap()), "the entry is what runs");
}

#[test]
fn a_damaged_entry_is_compiled_again() {
    let scratch = Scratch::new();
    let hello = example("hello");
    assert_eq!(TestHost::serve_from(&scratch.0, &[&hello], &[]).stop(), Some(0));
    let (code, _) = only_entry(&scratch.0);
    let good = fs::read(&code).unwrap();
    let mut damaged = good.clone();
    let middle = damaged.len() / 2;
    damaged[middle..middle + 64].iter_mut().for_each(|byte| *byte = !*byte);
    fs::write(&code, damaged).unwrap();

    let host = TestHost::serve_from(&scratch.0, &[&hello], &[]);
    host.log().wait_for("warning", |line| line.message() == "a compiled component is corrupt: compiling it again");
    host.service("hello").get("/").expect(200);
    assert!(fs::read(&code).unwrap() == good, "the entry is whole again");

    fs::write(&code, b"").unwrap();
    TestHost::serve_from(&scratch.0, &[&hello], &[]).service("hello").get("/").expect(200);
}

#[test]
fn a_cache_that_others_may_write_is_not_used() {
    let scratch = Scratch::new();
    let folder = scratch.0.join("cache/components");
    fs::create_dir_all(&folder).unwrap();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o777)).unwrap();
    let host = TestHost::serve_from(&scratch.0, &[&example("hello")], &[]);
    let warned = host.log().wait_for("warning", |line| line.message().starts_with("compiled components are not kept"));
    assert!(
        warned.text.contains("must belong to this user and be writable by nobody else (chmod go-w)"),
        "{}",
        warned.text
    );
    host.service("hello").get("/").expect(200);
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
}

/// The one compiled component below `data`, and when it was written.
fn only_entry(data: &Path) -> (PathBuf, std::time::SystemTime) {
    let entries = fs::read_dir(data.join("cache/components")).unwrap().map(|entry| entry.unwrap().path());
    let code: Vec<_> = entries.filter(|path| path.extension().is_some_and(|extension| extension == "cwasm")).collect();
    assert_eq!(code.len(), 1, "{code:?}");
    (code[0].clone(), fs::metadata(&code[0]).unwrap().modified().unwrap())
}
