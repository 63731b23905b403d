//! What a container reaches of the world outside: nothing, unless a label, a compose file or `--network host` says so;
//! and of the machine itself not even then, unless it is named.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test ends by panicking")]

mod support;

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};

use serde_json::{Value, json};
use support::archives::file;
use support::daemon::TestDaemon;
use support::engine::{Engine, service};
use support::eventually;
use support::guests::fixture;
use support::http::Client;

/// A server of the machine that is none of Wharf's business, and answers 200 to everybody.
fn neighbour() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut client in listener.incoming().map_while(Result::ok) {
            let _ = client.read(&mut [0; 4096]);
            let _ = client.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok");
        }
    });
    address
}

/// A container of the guest that asks whom it is told to, in a network of its own, with a label.
fn started(engine: &Engine, name: &str, network: &str, label: Option<String>) -> Box<dyn Fn(&str) -> Value> {
    let mut spec = service("asker");
    spec["HostConfig"]["NetworkMode"] = json!(network);
    if let Some(allowed) = label {
        spec["Labels"] = json!({"wharf.egress": allowed});
    }
    engine.run(name, &spec);
    let service = engine.published(name);
    Box::new(move |authority| service.get(&format!("/egress?authority={authority}")).expect(200).json())
}

#[test]
fn the_machine_is_out_of_reach_unless_it_is_named() {
    let daemon = TestDaemon::start();
    let engine = Engine::of(&daemon);
    let dockerfile = b"FROM scratch\nCOPY app.wasm /\nEXPOSE 5000\nENTRYPOINT [\"/app.wasm\"]\n";
    let component = fs::read(fixture("misbehave")).unwrap();
    engine.build("asker", &[file("Dockerfile", dockerfile), file("app.wasm", &component)]);
    engine.post("/networks/create", &json!({"Name": "own"})).expect(201);
    let neighbour = neighbour();
    let host = daemon.host().http().0;
    let guarded = [
        neighbour.to_string(),
        format!("localhost:{}", neighbour.port()),
        format!("[::ffff:127.0.0.1]:{}", neighbour.port()),
        host.to_string(),
        "169.254.169.254".to_owned(),
        "[fe80::1]:80".to_owned(),
        "0.0.0.0:80".to_owned(),
    ];
    for (name, network, label) in
        [("plain", "bridge", None), ("joined", "own", None), ("allowed", "own", Some("example.org:443".to_owned()))]
    {
        let ask = started(&engine, name, network, label);
        for authority in &guarded {
            let answer = ask(authority);
            assert_eq!(answer["kind"], "http-request-denied", "{name} asks {authority}: {answer}");
        }
        eventually("the log says why, and what to do", || {
            let lines = engine.logs(name, "all");
            let way_out = format!("Allow it with --egress {neighbour}");
            lines.iter().any(|line| line.contains("outgoing request denied") && line.contains(&way_out))
        });
    }
    let ask = started(&engine, "named", "own", Some(format!("{neighbour}, example.org")));
    assert_eq!(engine.inspect("named")["Config"]["Labels"]["wharf.egress"], format!("{neighbour}, example.org"));
    assert_eq!(ask(&neighbour.to_string())["status"], 200);
    let other = format!("127.0.0.1:{}", host.port());
    assert_eq!(ask(&other)["kind"], "http-request-denied", "one port is allowed, not its neighbours");

    // The same by a flag of our own command line.
    let allowed = neighbour.to_string();
    let flags = ["run", "-d", "--name", "flagged", "--egress", &allowed, "--egress", "example.org:443"];
    let run = daemon.wharf(&[&flags[..], &["-p", "127.0.0.1:0:5000", "asker"]].concat());
    assert_eq!(run.code, Some(0), "{run:?}");
    let asked = engine.published("flagged").get(&format!("/egress?authority={allowed}")).expect(200).json();
    assert_eq!(asked["status"], 200, "{asked}");
}

#[test]
fn on_the_hosts_network_the_machine_is_in_reach_and_its_surroundings_are_not() {
    let daemon = TestDaemon::start();
    let engine = Engine::of(&daemon);
    // Without a port to publish, the one it exposes is bound as it is.
    let own = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let dockerfile = format!("FROM scratch\nCOPY app.wasm /\nEXPOSE {}\nENTRYPOINT [\"/app.wasm\"]\n", own.port());
    let component = fs::read(fixture("misbehave")).unwrap();
    engine.build("asker", &[file("Dockerfile", dockerfile.as_bytes()), file("app.wasm", &component)]);
    engine.run("open", &json!({"Image": "asker", "HostConfig": {"NetworkMode": "host"}}));
    let ask = |authority: &str| Client(own).get(&format!("/egress?authority={authority}")).expect(200).json();
    assert_eq!(ask(&neighbour().to_string())["status"], 200);
    assert_eq!(ask("169.254.169.254")["kind"], "http-request-denied");
    engine.run("closed", &json!({"Image": "asker", "HostConfig": {"NetworkMode": "none"}}));
    assert_eq!(engine.inspect("closed")["HostConfig"]["NetworkMode"], "none");
}
