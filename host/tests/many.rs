//! Many containers of one image in one host: all start, all answer, and what they share is there once.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test ends by panicking")]

mod support;

use std::fs;
use std::net::SocketAddr;
use std::thread;
use std::time::Instant;

use serde_json::json;
use support::archives::file;
use support::daemon::TestDaemon;
use support::engine::{Engine, service};
use support::guests::example;
use support::http::Client;

const CONTAINERS: usize = 500;

/// Those who start them and ask them, at once.
const CLIENTS: usize = 8;

#[test]
fn five_hundred_containers_of_one_image() {
    let daemon = TestDaemon::start();
    let engine = Engine::of(&daemon);
    let dockerfile = b"FROM scratch\nCOPY hello.wasm /\nEXPOSE 5000\nENTRYPOINT [\"/hello.wasm\"]\n";
    let component = fs::read(example("hello").join("hello.wasm")).unwrap();
    engine.build("hello", &[file("Dockerfile", dockerfile), file("hello.wasm", &component)]);
    let alone = daemon.host().rss();
    let unpacked = || fs::read_dir(daemon.data.0.join("cache/rootfs")).unwrap().count();
    let unpacked_before = unpacked();

    let started = Instant::now();
    thread::scope(|scope| {
        for client in 0..CLIENTS {
            let engine = &engine;
            scope.spawn(move || {
                for number in (client..CONTAINERS).step_by(CLIENTS) {
                    engine.run(&format!("hello-{number}"), &service("hello"));
                }
            });
        }
    });
    let up = started.elapsed();
    let listed = engine.get("/containers/json").expect(200).json();
    let listed = listed.as_array().unwrap();
    assert_eq!(listed.len(), CONTAINERS);
    let port = |one: &serde_json::Value| u16::try_from(one["Ports"][0]["PublicPort"].as_u64().unwrap()).unwrap();
    let services: Vec<Client> =
        listed.iter().map(|one| Client(SocketAddr::from(([127, 0, 0, 1], port(one))))).collect();
    thread::scope(|scope| {
        for part in services.chunks(CONTAINERS.div_ceil(CLIENTS)) {
            scope.spawn(move || {
                for service in part {
                    assert_eq!(service.get("/").expect(200).text(), "Hello from Wharf.\n");
                }
            });
        }
    });
    println!(
        "{CONTAINERS} containers created and started in {:.2} s, all answered after {:.2} s; {} MiB, {alone} before",
        up.as_secs_f64(),
        started.elapsed().as_secs_f64(),
        daemon.host().rss()
    );

    let exec =
        engine.post("/containers/hello-250/exec", &json!({"Cmd": ["ls", "/"], "AttachStdout": true})).expect(201);
    let exec = exec.json()["Id"].as_str().unwrap().to_owned();
    let output = engine.post(&format!("/exec/{exec}/start"), &json!({"Detach": false})).expect(200);
    assert!(output.text().contains("hello.wasm"), "{}", output.text());
    assert_eq!(engine.get(&format!("/exec/{exec}/json")).expect(200).json()["ExitCode"], 0);

    let open = fs::read_dir(format!("/proc/{}/fd", daemon.host().id())).unwrap().count();
    assert!(open < 3 * CONTAINERS, "{open} files are open for {CONTAINERS} containers");
    assert!(unpacked() <= unpacked_before + 1, "the image is on disk once, however many run it");
    thread::scope(|scope| {
        for client in 0..CLIENTS {
            let engine = &engine;
            scope.spawn(move || {
                for number in (client..CONTAINERS).step_by(CLIENTS) {
                    engine.delete(&format!("/containers/hello-{number}?force=1")).expect(204);
                }
            });
        }
    });
    assert_eq!(engine.get("/containers/json?all=1").expect(200).json(), json!([]));
    assert!(services.iter().all(|service| !service.is_listening()), "a port is still open");
    let left = fs::read_dir(format!("/proc/{}/fd", daemon.host().id())).unwrap().count();
    assert!(left < 100, "{left} files are still open");
}
