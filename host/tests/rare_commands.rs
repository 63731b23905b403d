//! What is asked of containers seldom: names that change, models alone, tags in logs, sockets in volumes. Through the
//! stock `docker` command line where it is here, and through ours.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test ends by panicking")]

mod support;

use serde_json::json;
use support::daemon::{TestDaemon, context_of, has_docker};
use support::engine::Engine;
use support::eventually;
use support::guests::{fixture, model, source};
use support::http::Client;

const JOB: &str = "FROM scratch\nCOPY job.wasm /\nENTRYPOINT [\"/job.wasm\"]\n";
const SERVICE: &str = "FROM scratch\nCOPY service.wasm /\nEXPOSE 5000\nENTRYPOINT [\"/service.wasm\"]\n";

/// `wharf …`, which must succeed; what it printed, trimmed.
#[track_caller]
fn ok(daemon: &TestDaemon, arguments: &[&str]) -> String {
    support::daemon::succeeded(daemon.wharf(arguments), arguments)
}

fn published(daemon: &TestDaemon, container: &str) -> Client {
    Client(ok(daemon, &["port", container, "5000"]).parse().unwrap())
}

/// A host with a service that does whatever its path says.
fn with_misbehave(flags: &[&str]) -> TestDaemon {
    let daemon = TestDaemon::start_with(flags);
    let context = context_of(SERVICE, &[("service.wasm", &fixture("misbehave"))]);
    ok(&daemon, &["build", "-q", "-t", "misbehave", context.0.to_str().unwrap()]);
    daemon
}

#[test]
fn a_renamed_container_is_called_by_its_present_name() {
    let daemon = with_misbehave(&["--max-in-flight", "1"]);
    ok(&daemon, &["run", "-d", "-p", "127.0.0.1:0:5000", "--name", "earlier", "misbehave"]);
    let service = published(&daemon, "earlier");
    service.get("/ok").expect(200);
    ok(&daemon, &["rename", "earlier", "present"]);
    let ended = service.get("/no-response").expect(500);
    assert_eq!(ended.json()["error"], "present ended without a response");
    let host = daemon.host();
    let slow = service.send("GET", "/sleep?ms=3600000", &[], b"");
    eventually("it is in flight", || host.in_flight("present") == 1.0);
    let busy = service.get("/ok").expect(503);
    assert_eq!(busy.json()["error"], "present is busy: 1 requests are in flight, its limit; try again");
    drop(slow);
    let metrics = host.http().get("/metrics").expect(200).text();
    assert!(metrics.contains(r#"wharf_http_requests_total{container="present",code="2xx"} 1"#), "{metrics}");
    assert!(!metrics.contains("earlier"), "{metrics}");
    ok(&daemon, &["rm", "-f", "present"]);
    let metrics = host.http().get("/metrics").expect(200).text();
    assert!(!metrics.contains("present"), "{metrics}");
}

#[test]
fn lines_of_a_log_carry_the_tag_that_was_asked_for() {
    let daemon = TestDaemon::start();
    let context = context_of(JOB, &[("job.wasm", &fixture("job"))]);
    ok(&daemon, &["build", "-q", "-t", "job", context.0.to_str().unwrap()]);
    let tag = ["--log-opt", "tag={{.Name}}/{{.ImageName}}", "--log-opt", "labels=team", "--label", "team=vision"];
    ok(&daemon, &[&["run", "--name", "tagged"], &tag[..], &["job", "echo", "hello"]].concat());
    assert_eq!(ok(&daemon, &["logs", "tagged"]), "hello");
    assert_eq!(ok(&daemon, &["logs", "--details", "tagged"]), "tag=tagged%2Fjob,team=vision hello");
    if has_docker() {
        assert_eq!(daemon.ok(&["logs", "--details", "tagged"]), "tag=tagged%2Fjob,team=vision hello");
    }
    ok(&daemon, &["rename", "tagged", "again"]);
    ok(&daemon, &["start", "-a", "again"]);
    let both = ok(&daemon, &["logs", "--details", "again"]);
    assert_eq!(both, "tag=tagged%2Fjob,team=vision hello\ntag=again%2Fjob,team=vision hello");
    let wrong = daemon.wharf(&["run", "--log-opt", "tag={{.Nmae}}", "job"]);
    assert_eq!(wrong.code, Some(125), "{wrong:?}");
    assert!(wrong.stderr.contains("{{.Nmae}} is not known"), "{wrong:?}");
}

#[test]
fn a_network_of_another_container_is_refused_with_the_way_out() {
    let daemon = TestDaemon::start();
    let context = context_of(JOB, &[("job.wasm", &fixture("job"))]);
    ok(&daemon, &["build", "-q", "-t", "job", context.0.to_str().unwrap()]);
    let refused = daemon.wharf(&["run", "--network", "container:web", "job"]);
    assert_eq!(refused.code, Some(125), "{refused:?}");
    for words in ["docker network create NET", "--network NET", "call http://web:PORT"] {
        assert!(refused.stderr.contains(words), "{refused:?}");
    }
    assert_eq!(ok(&daemon, &["run", "--network", "none", "--name", "alone", "job", "echo", "quiet"]), "quiet");
    assert_eq!(ok(&daemon, &["inspect", "-f", "{{.HostConfig.NetworkMode}}", "alone"]), "none");
}

#[test]
fn another_component_of_the_image_and_head_run_inside_a_container() {
    let daemon = TestDaemon::start();
    let files = [("job.wasm", &fixture("job")), ("lines", &source("host/tests/fixtures/tutorial-compose.yml"))];
    let files = files.map(|(name, path)| (name, path.as_path()));
    let context = context_of("FROM scratch\nCOPY . /\nENTRYPOINT [\"/job.wasm\"]\n", &files);
    ok(&daemon, &["build", "-q", "-t", "job", context.0.to_str().unwrap()]);
    ok(&daemon, &["run", "-d", "--name", "busy", "job", "sleep", "3600000"]);
    assert_eq!(ok(&daemon, &["exec", "busy", "/job.wasm", "echo", "one", "two"]), "one two");
    let failed = daemon.wharf(&["exec", "busy", "/job.wasm", "exit", "9"]);
    assert_eq!(failed.code, Some(9), "{failed:?}");
    let whole = std::fs::read_to_string(source("host/tests/fixtures/tutorial-compose.yml")).unwrap();
    let two = whole.lines().take(2).collect::<Vec<_>>().join("\n");
    assert_eq!(ok(&daemon, &["exec", "busy", "sh", "-c", "head -n 2 /lines"]), two);
}

#[test]
fn an_image_of_a_model_alone_answers_the_protocol() {
    let daemon = TestDaemon::start();
    let context =
        context_of("FROM scratch\nCOPY digits.onnx /models/\n", &[("digits.onnx", &model("digits", "digits"))]);
    ok(&daemon, &["build", "-q", "-t", "bare", context.0.to_str().unwrap()]);
    ok(&daemon, &["run", "-d", "--name", "alone", "bare"]);
    let host = daemon.host().http();
    let told = host.get("/v2/models/alone/digits").expect(200).json();
    assert_eq!(told["inputs"], json!([{"name": "image", "datatype": "FP32", "shape": [-1, 1, 8, 8]}]), "{told}");
    assert_eq!(host.get("/v2/models/alone/digits/ready").expect(200).json()["ready"], true);
    // An empty picture and a full one: each gets a distribution, and not the same.
    let pixels: Vec<f64> = [[0.0; 64], [1.0; 64]].concat();
    let input = json!({"name": "image", "datatype": "FP32", "shape": [2, 1, 8, 8], "data": pixels});
    let body = json!({"inputs": [input]}).to_string();
    let answer = host.post("/v2/models/alone/digits/infer", body.as_bytes()).expect(200).json();
    let output = &answer["outputs"][0];
    assert_eq!((&output["name"], &output["shape"]), (&json!("probabilities"), &json!([2, 10])), "{answer}");
    let data: Vec<f64> = output["data"].as_array().unwrap().iter().map(|value| value.as_f64().unwrap()).collect();
    let (empty, full) = data.split_at(10);
    assert!([empty, full].iter().all(|row| (row.iter().sum::<f64>() - 1.0).abs() < 1e-3), "{answer}");
    assert_ne!(empty, full);
    ok(&daemon, &["stop", "alone"]);
    host.get("/v2/models/alone/digits").expect(404);
}

#[test]
fn a_guest_that_wants_more_than_its_share_is_held_back_and_stats_say_so() {
    let daemon = TestDaemon::start();
    let context = context_of(JOB, &[("job.wasm", &fixture("job"))]);
    ok(&daemon, &["build", "-q", "-t", "job", context.0.to_str().unwrap()]);
    ok(&daemon, &["run", "-d", "--name", "tenth", "--cpus", "0.1", "job", "spin"]);
    ok(&daemon, &["run", "-d", "--name", "free", "job", "spin"]);
    let engine = Engine::of(&daemon);
    let stats = |name: &str| {
        let told = engine.get(&format!("/containers/{name}/stats?stream=false&one-shot=true")).expect(200).json();
        told["cpu_stats"].clone()
    };
    eventually("it is held back", || stats("tenth")["throttling_data"]["throttled_periods"].as_u64() > Some(2));
    let held = stats("tenth")["throttling_data"].clone();
    let count = |name: &str| held[name].as_u64().unwrap();
    assert!(count("periods") >= count("throttled_periods") && count("throttled_time") > 0, "{held}");
    eventually("the other has run", || stats("free")["cpu_usage"]["total_usage"].as_u64() > Some(0));
    let none = json!({"periods": 0, "throttled_periods": 0, "throttled_time": 0});
    assert_eq!(stats("free")["throttling_data"], none);
    ok(&daemon, &["rm", "-f", "tenth", "free"]);
}

#[test]
fn the_control_socket_in_a_volume_is_of_no_use_to_a_guest() {
    let daemon = TestDaemon::start();
    let context = context_of(JOB, &[("job.wasm", &fixture("job"))]);
    ok(&daemon, &["build", "-q", "-t", "job", context.0.to_str().unwrap()]);
    let socket = format!("{}:/wharf.sock", daemon.socket().display());
    let refused = daemon.wharf(&["run", "-v", &socket, "job", "cat", "/wharf.sock"]);
    assert_eq!(refused.code, Some(125), "{refused:?}");
    assert!(refused.stderr.contains("Not a directory"), "{refused:?}");
    // Nor through its folder: WASI opens no sockets by name.
    let folder = format!("{}:/data", daemon.data.0.display());
    for words in [&["cat", "/data/wharf.sock"][..], &["write", "/data/wharf.sock", "GET", "/"]] {
        let failed = daemon.wharf(&[&["run", "--rm", "-v", &folder, "job"], words].concat());
        assert_eq!(failed.code, Some(1), "{failed:?}");
        assert!(failed.stderr.contains("/data/wharf.sock"), "{failed:?}");
    }
    ok(&daemon, &["ps"]);
}
