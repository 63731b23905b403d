//! What container images lean on: `wharf health` as the health check, and `--services`, the folder an appliance fills.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test ends by panicking")]

mod support;

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::symlink;
use std::process::Command;
use std::thread;

use support::guests::{example, library, model, source};
use support::host::{Ended, Scratch, TestHost, WHARF, run};

fn health(address: SocketAddr) -> Ended {
    run(Command::new(WHARF).args(["health", "--http", &address.to_string()]))
}

#[test]
fn a_host_that_serves_is_ready_and_one_that_ended_is_not() {
    let host = TestHost::serve(&[&model("digits", "digits")], &[]);
    let address = host.http().0;
    let ready = health(address);
    assert_eq!((ready.code, ready.stdout.as_str()), (Some(0), "ready\n"), "{ready:?}");
    // The address `serve` listens on in a container, from the variable that both read.
    let unspecified = format!("0.0.0.0:{}", address.port());
    let by_variable = run(Command::new(WHARF).arg("health").env("WHARF_HTTP", unspecified));
    assert_eq!(by_variable.code, Some(0), "{by_variable:?}");

    drop(host);
    let ended = health(address);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stderr.contains(&format!("no host answers at {address}")), "{}", ended.stderr);
}

#[test]
fn a_host_that_says_no_and_one_that_says_nothing_are_not_ready() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let answering = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = [0; 1024];
        let read = stream.read(&mut request).unwrap();
        stream.write_all(b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n").unwrap();
        String::from_utf8_lossy(&request[..read]).into_owned()
    });
    let refused = health(address);
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.stderr.contains("is not ready: 503 Service Unavailable"), "{}", refused.stderr);
    assert!(answering.join().unwrap().starts_with("GET /v2/health/ready HTTP/1.1\r\n"));

    // Accepted by the kernel, and never answered.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap().to_string();
    let ended = run(Command::new(WHARF).args(["health", "--timeout", "100ms", "--http", &address]));
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stderr.contains("did not answer within 100ms"), "{}", ended.stderr);
}

#[test]
fn a_folder_of_services_is_served_in_order_beside_the_daemon() {
    let scratch = Scratch::new();
    scratch.file("srv/README.md", b"not a service");
    scratch.file("srv/.hidden/broken", b"nor is this");
    let services = scratch.0.join("srv");
    for name in ["hello", "digits"] {
        symlink(example(name), services.join(name)).unwrap();
    }
    let mut command = Command::new(WHARF);
    command.arg("serve").args(["--http", "127.0.0.1:0", "--log-format", "json", "--services"]).arg(&services);
    command.args(["-p", "127.0.0.1:0", "-p", "127.0.0.1:0", "--data"]).arg(scratch.0.join("data"));
    let host = TestHost::start(&mut command);
    let seven = fs::read(source("examples/digits/testdata/seven.png")).unwrap();
    assert_eq!(host.service("digits").post("/predict", &seven).expect(200).json()["digit"], 7);
    host.service("hello").get("/").expect(200);

    // The control plane is there as well.
    let socket = format!("unix://{}", scratch.0.join("data/wharf.sock").display());
    let listed = run(Command::new(WHARF).args(["-H", &socket, "ps", "-q"]));
    assert_eq!((listed.code, listed.stdout.as_str()), (Some(0), ""), "{listed:?}");
}

#[test]
fn an_empty_folder_of_services_is_a_host_that_waits() {
    let scratch = Scratch::new();
    let services = scratch.0.join("srv");
    fs::create_dir_all(&services).unwrap();
    let mut command = Command::new(WHARF);
    command.arg("serve").args(["--http", "127.0.0.1:0", "--log-format", "json", "--services"]).arg(&services);
    let host = TestHost::start(command.arg("--data").arg(scratch.0.join("data")));
    assert_eq!(health(host.http().0).code, Some(0));
}

#[test]
fn a_folder_of_services_with_one_that_is_none_is_refused_by_name() {
    let scratch = Scratch::new();
    scratch.file("srv/notes/todo.txt", b"");
    let mut command = Command::new(WHARF);
    command.arg("serve").args(["--http", "127.0.0.1:0", "--services"]).arg(scratch.0.join("srv"));
    let ended = run(command.arg("--data").arg(scratch.0.join("data")).env("ORT_DYLIB_PATH", library()));
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(ended.stderr.contains("srv/notes holds no component (*.wasm), no model"), "{}", ended.stderr);
}
