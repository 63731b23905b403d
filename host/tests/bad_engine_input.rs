//! What wrong requests on the control socket get: Docker's status and words, containers and images as they were, and a
//! host that goes on. Broken archives are in `bad_contexts.rs`, a full disk in `full_disk.rs`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test ends by panicking")]

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::thread;

use serde_json::{Value, json};
use support::archives::{Entry, file, tar};
use support::daemon::TestDaemon;
use support::engine::{Engine, built, service};
use support::eventually;
use support::guests::{example, fixture, library};
use support::host::{WHARF, run};
use support::http::Answer;

const SERVICE: &[u8] = b"FROM scratch\nCOPY app.wasm /\nEXPOSE 5000\nENTRYPOINT [\"/app.wasm\"]\n";

/// Connections that say nothing.
const SILENT: usize = 1000;

fn start() -> (TestDaemon, Engine) {
    let daemon = TestDaemon::start();
    let engine = Engine::of(&daemon);
    (daemon, engine)
}

/// The same, with the image `hello`.
fn start_with_hello() -> (TestDaemon, Engine) {
    let (daemon, engine) = start();
    engine.build("hello", &[file("Dockerfile", SERVICE), file("app.wasm", &hello())]);
    (daemon, engine)
}

fn hello() -> Vec<u8> {
    fs::read(example("hello").join("hello.wasm")).unwrap()
}

#[track_caller]
fn says(answer: Answer, status: u16, words: &str) {
    assert_eq!(answer.status, status, "{}", answer.text());
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let message = answer.json()["message"].as_str().unwrap_or_else(|| panic!("{}", answer.text())).to_owned();
    assert!(message.contains(words), "no {words:?} in {message:?}");
}

fn names(engine: &Engine) -> BTreeSet<String> {
    let listed = engine.get("/containers/json?all=1").expect(200).json();
    listed.as_array().unwrap().iter().map(|one| one["Names"][0].as_str().unwrap().to_owned()).collect()
}

/// Files the host has open.
fn open_files(daemon: &TestDaemon) -> usize {
    fs::read_dir(format!("/proc/{}/fd", daemon.host().id())).unwrap().count()
}

// ---- names ----

#[test]
fn names_that_lead_nowhere_or_to_two() {
    let (_daemon, engine) = start_with_hello();
    says(engine.post("/containers/create", &json!({"Image": "nothing"})), 404, "No such image: nothing:latest");
    says(engine.post("/containers/create", &json!({})), 400, "Image");
    for name in ["nobody", "0123456789ab", "..", "%2e%2e%2f", "a%00b"] {
        says(engine.get(&format!("/containers/{name}/json")), 404, "No such container: ");
        says(engine.verb(&format!("/containers/{name}/start")), 404, "No such container: ");
    }
    says(engine.get("/images/nothing/json"), 404, "No such image: nothing:latest");
    says(engine.delete("/images/nothing:1"), 404, "No such image: nothing:1");
    says(engine.get("/exec/0123/json"), 404, "No such exec instance: 0123");
    says(engine.get("/networks/nothing"), 404, "network nothing not found");
    says(engine.get("/volumes/nothing"), 404, "get nothing: no such volume");

    // Seventeen ids: two of them begin with the same digit.
    let mut firsts = BTreeSet::new();
    let ids: Vec<String> = (0..17).map(|_| engine.create("", &json!({"Image": "hello"}))).collect();
    let twice = ids.iter().find(|id| !firsts.insert(&id[..1])).unwrap();
    let prefix = &twice[..1];
    let words = format!("multiple IDs found with provided prefix: {prefix}");
    says(engine.get(&format!("/containers/{prefix}/json")), 400, &words);
    says(engine.delete(&format!("/containers/{prefix}?force=1")), 400, &words);
    assert_eq!(names(&engine).len(), 17);
    assert_eq!(engine.inspect(&twice[..12])["Id"].as_str(), Some(twice.as_str()));
}

#[test]
fn a_name_is_given_once() {
    let (_daemon, engine) = start_with_hello();
    let holder = engine.create("taken", &json!({"Image": "hello"}));
    let words = format!(
        "Conflict. The container name \"/taken\" is already in use by container \"{holder}\". You have to remove (or \
         rename) that container to be able to reuse that name."
    );
    says(engine.post("/containers/create?name=taken", &json!({"Image": "hello"})), 409, &words);
    engine.create("other", &json!({"Image": "hello"}));
    says(engine.verb("/containers/other/rename?name=taken"), 409, &words);
    for name in ["a%20b", "%2Fa%2Fb", "-a", "a%0Ab", "%C3%BC"] {
        says(
            engine.post(&format!("/containers/create?name={name}"), &json!({"Image": "hello"})),
            400,
            "Invalid container name",
        );
    }
    // Of many who ask at once, one gets it.
    let made: Vec<u16> = thread::scope(|scope| {
        let ask = || engine.post("/containers/create?name=wanted", &json!({"Image": "hello"})).status;
        let asking: Vec<_> = (0..16).map(|_| scope.spawn(ask)).collect();
        asking.into_iter().map(|one| one.join().unwrap()).collect()
    });
    assert_eq!(made.iter().filter(|status| **status == 201).count(), 1, "{made:?}");
    assert!(made.iter().all(|status| [201, 409].contains(status)), "{made:?}");
    assert_eq!(names(&engine), ["/other", "/taken", "/wanted"].map(str::to_owned).into());
}

#[test]
fn a_port_is_given_once() {
    let (_daemon, engine) = start_with_hello();
    engine.run("first", &service("hello"));
    let first = engine.published("first");
    let at = |port: u16| {
        let mut spec = service("hello");
        spec["HostConfig"]["PortBindings"]["5000/tcp"][0]["HostPort"] = json!(port.to_string());
        spec
    };
    engine.create("second", &at(first.0.port()));
    let words = format!("Bind for 127.0.0.1:{} failed: port is already allocated", first.0.port());
    says(engine.verb("/containers/second/start"), 500, &words);
    let state = engine.inspect("second")["State"].clone();
    assert_eq!((&state["Status"], &state["ExitCode"]), (&json!("created"), &json!(128)), "{state}");
    assert!(state["Error"].as_str().unwrap().contains(&words), "{state}");
    assert_eq!(first.get("/").expect(200).text(), "Hello from Wharf.\n");

    // By somebody else on this machine.
    let somebody = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = somebody.local_addr().unwrap().port();
    engine.create("third", &at(port));
    says(engine.verb("/containers/third/start"), 500, &format!("{port}"));
    drop(somebody);
    engine.verb("/containers/third/start").expect(204);
    engine.verb("/containers/first/stop?t=0").expect(204);
    engine.verb("/containers/second/start").expect(204);
    assert_eq!(engine.published("second").get("/").expect(200).text(), "Hello from Wharf.\n");
}

// ---- states ----

#[test]
fn every_verb_in_every_state_has_dockers_status() {
    let (_daemon, engine) = start_with_hello();
    let not_running = "is not running";
    #[rustfmt::skip]
    let table = [
        // verb      created              running              paused                          exited
        ("start",   [(204, ""),           (304, ""),           (409, "unpause instead"),       (204, "")]),
        ("stop",    [(304, ""),           (204, ""),           (204, ""),                      (304, "")]),
        ("restart", [(204, ""),           (204, ""),           (204, ""),                      (204, "")]),
        ("kill",    [(409, not_running),  (204, ""),           (204, ""),                      (409, not_running)]),
        ("pause",   [(409, not_running),  (204, ""),           (409, "is already paused"),     (409, not_running)]),
        ("unpause", [(500, "not paused"), (500, "not paused"), (204, ""),                      (500, "not paused")]),
        ("exec",    [(409, not_running),  (201, ""),           (409, "is paused, unpause"),    (409, not_running)]),
        ("top",     [(409, not_running),  (200, ""),           (200, ""),                      (409, not_running)]),
        ("rename",  [(204, ""),           (204, ""),           (204, ""),                      (204, "")]),
        ("update",  [(200, ""),           (200, ""),           (200, ""),                      (200, "")]),
        ("rm",      [(204, ""),           (409, "container is running: stop the container before removing"),
                                                               (409, "container is paused and must be unpaused first"),
                                                                                               (204, "")]),
        ("rm -f",   [(204, ""),           (204, ""),           (204, ""),                      (204, "")]),
    ];
    for (verb, expected) in table {
        for (state, (status, words)) in ["created", "running", "paused", "exited"].into_iter().zip(expected) {
            let id = in_state(&engine, state);
            let path = format!("/containers/{id}");
            let answer = match verb {
                "exec" => engine.post(&format!("{path}/exec"), &json!({"Cmd": ["ls"]})),
                "top" => engine.get(&format!("{path}/top")),
                "rename" => engine.verb(&format!("{path}/rename?name=now-{state}")),
                "update" => engine.post(&format!("{path}/update"), &json!({"Memory": 64 << 20})),
                "rm" => engine.delete(&path),
                "rm -f" => engine.delete(&format!("{path}?force=1")),
                _ => engine.verb(&format!("{path}/{verb}?t=0")),
            };
            assert_eq!(answer.status, status, "{verb} of a container that is {state}: {}", answer.text());
            if answer.status >= 400 {
                says(answer, status, words);
                assert_eq!(engine.inspect(&id)["State"]["Status"], state, "{verb} was refused, and changed it");
            }
            engine.delete(&format!("{path}?force=1"));
        }
    }
    assert!(names(&engine).is_empty());
}

fn in_state(engine: &Engine, state: &str) -> String {
    let id = engine.create("", &json!({"Image": "hello"}));
    let verbs: &[&str] = match state {
        "created" => &[],
        "running" => &["start"],
        "paused" => &["start", "pause"],
        _ => &["start", "stop?t=0"],
    };
    for verb in verbs {
        engine.verb(&format!("/containers/{id}/{verb}")).expect(204);
    }
    assert_eq!(engine.inspect(&id)["State"]["Status"], state);
    id
}

#[test]
fn an_image_in_use_stays() {
    let (_daemon, engine) = start_with_hello();
    engine.run("user", &json!({"Image": "hello"}));
    says(engine.delete("/images/hello"), 409, "image is being used by running container");
    says(engine.delete("/images/hello?force=1"), 409, "cannot be forced");
    engine.verb("/containers/user/stop?t=0").expect(204);
    says(engine.delete("/images/hello"), 409, "(must be forced) - image is being used by stopped container");
    engine.verb("/images/prune?filters=%7B%22dangling%22%3A%7B%22false%22%3Atrue%7D%7D").expect(200);
    engine.verb("/containers/user/start").expect(204);
    engine.delete("/containers/user?force=1").expect(204);
    engine.delete("/images/hello").expect(200);
}

// ---- requests ----

#[test]
fn bodies_and_queries_of_the_wrong_shape() {
    let (daemon, engine) = start_with_hello();
    let create = "/containers/create?name=never";
    let deep = "[".repeat(100_000);
    for (what, body) in [
        ("cut", "{\"Image\": \"hello\""),
        ("no JSON", "Image=hello"),
        ("a list", "[1, 2]"),
        ("a number", "7"),
        ("an image that is a number", "{\"Image\": 7}"),
        ("labels that are a list", "{\"Image\": \"hello\", \"Labels\": [\"a\"]}"),
        ("memory that is text", "{\"Image\": \"hello\", \"HostConfig\": {\"Memory\": \"1g\"}}"),
        ("ports that are a list", "{\"Image\": \"hello\", \"HostConfig\": {\"PortBindings\": [5000]}}"),
        ("a number that is none", "{\"Image\": \"hello\", \"HostConfig\": {\"NanoCpus\": 1e999}}"),
        ("deep", deep.as_str()),
    ] {
        let answer = engine.raw("POST", create, body.as_bytes());
        assert_eq!(answer.status, 400, "{what}: {}", answer.text());
        assert!(answer.json()["message"].as_str().unwrap().contains("invalid JSON"), "{what}: {}", answer.text());
    }
    let host = |config: Value| json!({"Image": "hello", "HostConfig": config});
    for (config, words) in [
        (json!({"PortBindings": {"99999/tcp": [{}]}}), "99999"),
        (json!({"PortBindings": {"5000/tcp": [{"HostPort": "many"}]}}), "many"),
        (json!({"PortBindings": {"5000/tcp": [{"HostIp": "nowhere"}]}}), "nowhere"),
        (json!({"Memory": -5}), ""),
        (json!({"Memory": 4096}), "Minimum memory limit allowed is 6MB"),
        (json!({"NanoCpus": -1}), ""),
        (json!({"RestartPolicy": {"Name": "sometimes"}}), "sometimes"),
        (json!({"RestartPolicy": {"Name": "always", "MaximumRetryCount": 3}}), "maximum retry count"),
        (json!({"AutoRemove": true, "RestartPolicy": {"Name": "always"}}), "AutoRemove"),
        (json!({"Binds": ["relative:/data:ro:x"]}), "relative"),
        (json!({"Binds": ["/a:/x/../.."]}), ".."),
        (
            json!({"Mounts": [{"Type": "bind", "Source": "/missing-folder", "Target": "/d"}]}),
            "bind source path does not exist",
        ),
        (
            json!({"LogConfig": {"Type": "json-file", "Config": {"x": "1"}}}),
            "unknown log opt 'x' for json-file log driver",
        ),
        (json!({"LogConfig": {"Type": "json-file", "Config": {"max-size": "big"}}}), "big"),
        (json!({"NetworkMode": "container:x"}), "container:x"),
    ] {
        says(engine.post(create, &host(config)), 400, words);
    }
    for path in ["json?filters=%7B", "json?filters=%7B%22colour%22%3A%5B%22red%22%5D%7D", "json?limit=many"] {
        assert_eq!(engine.get(&format!("/containers/{path}")).status, 400, "{path}");
    }
    let id = engine.create("here", &json!({"Image": "hello"}));
    says(engine.get(&format!("/containers/{id}/logs")), 400, "you must choose at least one stream");
    for query in ["tail=some", "since=yesterday", "until=-x"] {
        let answer = engine.get(&format!("/containers/{id}/logs?stdout=1&{query}"));
        assert!([200, 400].contains(&answer.status), "{query}: {}", answer.text());
    }
    says(engine.verb(&format!("/containers/{id}/wait?condition=never")), 400, "invalid condition");
    says(engine.post(&format!("/containers/{id}/exec"), &json!({"Cmd": []})), 400, "no exec command specified");
    assert_eq!(names(&engine), ["/here".to_owned()].into());
    assert!(daemon.host().peak_rss() < 500, "{} MiB", daemon.host().peak_rss());
}

#[test]
fn versions_and_routes_that_do_not_exist() {
    let (_daemon, engine) = start();
    let newest = "client version 1.60 is too new. Maximum supported API version is 1.50";
    says(engine.get("/v1.60/containers/json"), 400, newest);
    says(engine.get("/v1.12/info"), 400, "client version 1.12 is too old. Minimum supported API version is 1.24");
    engine.get("/v1.24/info").expect(200);
    engine.get("/v1.50/_ping").expect(200);
    for path in
        ["/v0.0/info", "/v99999999999.1/info", "/v1.x/info", "/nothing", "/containers", "/containers/a/b/c", "//"]
    {
        let answer = engine.get(path);
        assert!([400, 404].contains(&answer.status), "{path}: {}", answer.text());
        assert!(answer.json()["message"].is_string(), "{path}");
    }
    says(engine.get("/swarm"), 503, "This node is not a swarm manager.");
    says(engine.verb("/commit"), 501, "docker build");
    for bytes in [&b"nonsense\r\n\r\n"[..], b"GET / HTTP/9.9\r\n\r\n", b"\0\0\0\0", b"GET /\xff HTTP/1.1\r\n\r\n"] {
        let mut stream = engine.connect().unwrap();
        stream.write_all(bytes).unwrap();
        support::engine::finish(&stream);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 4"), "{}", String::from_utf8_lossy(&answer));
    }
    engine.get("/_ping").expect(200);
}

#[test]
fn two_builds_of_one_tag_at_once() {
    let (daemon, engine) = start();
    for turn in 0..10 {
        let notes = ["one", "two", "three"].map(|note| format!("{note} {turn}"));
        let ids: Vec<String> = thread::scope(|scope| {
            let building = notes.iter().map(|note| {
                let files: [Entry<'_>; 2] =
                    [file("Dockerfile", b"FROM scratch\nCOPY note /\n"), file("note", note.as_bytes())];
                let (context, engine) = (tar(&files), &engine);
                scope.spawn(move || engine.try_build("t=contended", &context).unwrap())
            });
            let building: Vec<_> = building.collect();
            building.into_iter().map(|one| built(&one.join().unwrap()).expect("built")).collect()
        });
        let named = engine.get("/images/contended/json").expect(200).json()["Id"].as_str().unwrap().to_owned();
        assert!(ids.contains(&named), "{named} of {ids:?}");
        for id in &ids {
            engine.get(&format!("/images/{id}/json")).expect(200);
        }
    }
    engine.verb("/images/prune").expect(200);
    assert_eq!(engine.get("/images/json?all=1").expect(200).json().as_array().unwrap().len(), 1);
    // A manifest, a configuration, a layer.
    assert_eq!(fs::read_dir(daemon.data.0.join("images/blobs/sha256")).unwrap().count(), 3);
}

// ---- files ----

#[test]
fn archives_that_are_none_or_lead_out() {
    let (daemon, engine) = start_with_hello();
    let spec = json!({"Image": "hello", "HostConfig": {"Binds": ["store:/data"]}});
    engine.create("box", &spec);
    let archive = |query: &str| format!("/containers/box/archive?{query}");
    let put = |query: &str, body: &[u8]| engine.raw("PUT", &archive(query), body);
    let one = tar(&[file("f", b"1")]);
    for method in ["GET", "PUT"] {
        says(engine.raw(method, "/containers/nobody/archive?path=/", &one), 404, "No such container: nobody");
        for query in ["", "path=", "name=x"] {
            says(engine.raw(method, &archive(query), &one), 400, "bad parameter: path");
        }
        says(engine.raw(method, &archive("path=a%00b"), &one), 400, "zero byte");
        says(
            engine.raw(method, &archive("path=/nothing"), &one),
            404,
            "Could not find the file /nothing in container box",
        );
        says(engine.raw(method, &archive(&format!("path=/{}", "x".repeat(5000))), &one), 400, "cannot look up");
    }
    assert_eq!(engine.raw("DELETE", &archive("path=/data"), b"").status, 404);
    says(engine.get(&archive("path=/app.wasm/")), 400, "not a directory");
    says(put("path=/", &one), 403, "container rootfs is marked read-only");
    says(put("path=/app.wasm", &one), 400, "not a directory");
    says(put("path=/data", b"this is no archive, whatever it says of itself"), 400, "cannot be read");
    let mut wrong = one.clone();
    wrong[0] = b'x';
    says(put("path=/data", &wrong), 400, "cannot be read");
    for entry in [file("../../escaped", b"x"), file("a/../../../escaped", b"x")] {
        says(put("path=/data", &tar(&[entry])), 400, "climbs out");
    }
    put("path=/data", &one).expect(200);
    says(put("path=/data&noOverwriteDirNonDir=1", &tar(&[file("f/g", b"1")])), 400, "");
    assert!(engine.get(&archive("path=/../../data/../data/f")).expect(200).text().contains('1'));
    let left = fs::read_dir(daemon.data.0.join("volumes/store/_data")).unwrap().count();
    assert_eq!(left, 1, "only what was taken");
    says(engine.get("/containers/nobody/export"), 404, "No such container: nobody");
    says(engine.get("/containers/nobody/changes"), 404, "No such container: nobody");
    assert_eq!(engine.get("/containers/box/changes").expect(200).json(), json!([]));
    says(engine.verb("/commit?container=box"), 501, "use docker build");
}

#[test]
fn terminals_that_are_not_there() {
    let (_daemon, engine) = start_with_hello();
    engine.create("box", &json!({"Image": "hello"}));
    says(engine.verb("/containers/nobody/resize?h=40&w=100"), 404, "No such container: nobody");
    says(engine.verb("/containers/box/resize?h=40&w=100"), 409, "is not running");
    says(engine.verb("/exec/0123/resize?h=40&w=100"), 404, "No such exec instance: 0123");
    engine.verb("/containers/box/start").expect(204);
    engine.verb("/containers/box/resize?h=40&w=100").expect(200);
    for query in ["", "h=40", "h=x&w=1", "h=-1&w=1", "h=1&w=99999999999"] {
        says(engine.verb(&format!("/containers/box/resize?{query}")), 400, "invalid resize");
    }
    let exec = engine.post("/containers/box/exec", &json!({"Cmd": ["ls"], "Tty": true})).expect(201).json();
    let exec = exec["Id"].as_str().unwrap();
    says(engine.verb(&format!("/exec/{exec}/resize?h=40&w=100")), 409, "is not running");
}

// ---- the socket ----

#[test]
fn the_socket_is_its_owners_and_its_groups() {
    let (daemon, engine) = start();
    assert_eq!(fs::metadata(daemon.socket()).unwrap().permissions().mode() & 0o777, 0o660);
    let elsewhere = daemon.data.0.join("other.sock");
    for socket in [daemon.socket(), elsewhere.clone()] {
        let mut command = Command::new(WHARF);
        command.args(["serve", "--http", "127.0.0.1:0", "--data"]).arg(&daemon.data.0).arg("--socket").arg(&socket);
        let second = run(command.env("ORT_DYLIB_PATH", library()));
        assert!(second.code.is_some_and(|code| code != 0), "{second:?}");
        assert!(second.stderr.contains("another host already"), "{}", second.stderr);
    }
    assert!(!elsewhere.exists());
    engine.get("/_ping").expect(200);
}

#[test]
fn clients_that_leave_in_the_middle() {
    let (daemon, engine) = start();
    engine.build("talker", &[file("Dockerfile", SERVICE), file("app.wasm", &fs::read(fixture("misbehave")).unwrap())]);
    engine.run("talker", &service("talker"));
    engine.published("talker").get("/ok").expect(200);
    let before = open_files(&daemon);
    let context = tar(&[file("Dockerfile", b"FROM scratch\nCOPY . /\n"), file("large", &vec![7; 4 << 20])]);
    for turn in 0..20 {
        let mut upload = engine.connect().unwrap();
        let head = format!("POST /build?t=never HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n", context.len());
        upload.write_all(head.as_bytes()).unwrap();
        upload.write_all(&context[..context.len() * turn / 20]).unwrap();
        drop(upload);
        let follow = "/containers/talker/logs?stdout=1&stderr=1&follow=1";
        for path in [follow, "/events", "/containers/talker/stats", "/containers/talker/json"] {
            let mut asked = engine.send("GET", path, "", b"").unwrap();
            // Some leave before the answer begins, some after.
            if turn % 2 == 0 {
                assert_eq!(asked.status().unwrap(), 200, "{path}");
            }
        }
        drop(engine.send("POST", "/containers/talker/wait", "", b"").unwrap());
    }
    eventually("the host lets go of all of them", || open_files(&daemon) <= before + 16);
    eventually("no context is left", || {
        fs::read_dir(daemon.data.0.join("cache/contexts")).map_or(0, Iterator::count) == 0
    });
    assert_eq!(engine.get("/images/json").expect(200).json().as_array().unwrap().len(), 1);
    engine.published("talker").get("/log?line=still-here&stream=stdout").expect(200);
    assert_eq!(engine.logs("talker", "all"), ["still-here"]);
}

#[test]
fn a_thousand_connections() {
    let (daemon, engine) = start_with_hello();
    engine.run("service", &service("hello"));
    let before = open_files(&daemon);
    let mut silent: Vec<_> = (0..SILENT).map(|_| engine.connect().unwrap()).collect();
    for stream in silent.iter_mut().step_by(2) {
        // Half a request.
        stream.write_all(b"GET /containers/json HTTP/1.1\r\nhost:").unwrap();
    }
    // What was open for a moment before may be closed by now.
    eventually("all are accepted", || open_files(&daemon) + 16 >= before + SILENT);
    engine.get("/_ping").expect(200);
    engine.create("one-more", &json!({"Image": "hello"}));
    assert_eq!(engine.published("service").get("/").expect(200).text(), "Hello from Wharf.\n");
    for stream in silent.iter_mut().step_by(2).take(50) {
        stream.write_all(b" x\r\nconnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    drop(silent);
    eventually("the host lets go of all of them", || open_files(&daemon) <= before + 16);
    let rss = daemon.host().rss();
    assert!(rss < 500, "{rss} MiB");
}
