//! What models run on, from the request to the answer, on a machine without a GPU: what is required is refused with
//! docker's words and ours, what is preferred runs on the CPU and says so everywhere.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test ends by panicking")]

mod support;

use std::path::Path;

use serde_json::{Value, json};
use support::daemon::{TestDaemon, has_docker};
use support::engine::Engine;
use support::guests::skip;
use support::host::Ended;

const REFUSED: &str = "could not select device driver \"\" with capabilities: [[gpu]]";

/// A host with the image `digits`, which has a model; or a loud skip.
fn start() -> Option<(TestDaemon, Engine)> {
    if !has_docker() {
        return None;
    }
    if ["/dev/nvidia0", "/dev/nvidiactl", "/dev/nvhost-gpu"].iter().any(|file| Path::new(file).exists()) {
        skip("this machine has a GPU: nothing is missing here");
        return None;
    }
    let daemon = TestDaemon::start();
    daemon.build("digits", "digits");
    let engine = Engine::of(&daemon);
    Some((daemon, engine))
}

#[track_caller]
fn is_refused(ended: Ended, words: &[&str]) {
    assert_eq!(ended.code, Some(125), "{ended:?}");
    for words in words {
        assert!(ended.stderr.contains(words), "no {words:?} in {ended:?}");
    }
}

#[test]
fn a_gpu_that_is_asked_for_and_missing_keeps_it_from_starting() {
    let Some((daemon, engine)) = start() else { return };
    let missing = "no NVIDIA GPU: /dev/nvidia0 does not exist";
    for flags in [
        ["--gpus", "all"],
        ["--gpus", "2"],
        ["--gpus", "device=GPU-8f0e"],
        ["--runtime", "nvidia"],
        ["--device", "nvidia.com/gpu=all"],
    ] {
        let run = daemon.docker(&[&["run", "-d", "--name", "eyes"], flags.as_slice(), &["digits"]].concat());
        is_refused(run, &[REFUSED, missing]);
        let state = engine.inspect("eyes")["State"].clone();
        assert_eq!((&state["Status"], &state["ExitCode"]), (&json!("created"), &json!(128)), "{flags:?}: {state}");
        assert!(state["Error"].as_str().unwrap().contains(missing), "{state}");
        assert!(daemon.ok(&["ps", "-a", "--format", "{{.Names}} {{.Status}}"]).contains("eyes Created"));
        daemon.ok(&["rm", "eyes"]);
    }
    let run = daemon.wharf(&["run", "-d", "--gpus", "all", "digits"]);
    is_refused(run, &[REFUSED, missing]);
    let run = daemon.wharf(&["run", "-d", "--device", "cuda:1", "--require-device", "digits"]);
    is_refused(run, &["the required device cannot be used: cuda:1: no NVIDIA GPU", "wharf doctor"]);
    assert!(!daemon.ok(&["info", "--format", "{{json .Runtimes}}"]).contains("nvidia"));
}

#[test]
fn a_device_that_is_preferred_and_missing_leaves_the_cpu() {
    let Some((daemon, engine)) = start() else { return };
    let flags = ["--device", "cuda:1", "--gpu-memory", "2g", "-p", "127.0.0.1:0:5000"];
    let run = daemon.wharf(&[&["run", "-d", "--name", "eyes"], flags.as_slice(), &["digits"]].concat());
    assert_eq!(run.code, Some(0), "{run:?}");
    let shown = engine.inspect("eyes")["Wharf"].clone();
    assert_eq!(shown["Wish"], json!({"Devices": "cuda:1", "Required": false, "GpuMemory": 2u64 << 30}));
    let device = &shown["Devices"][0];
    assert_eq!((&device["Model"], &device["Device"]), (&json!("digits"), &json!("cpu")), "{shown}");
    assert!(device["FellBack"][0].as_str().unwrap().starts_with("cuda:1: "), "{shown}");
    let log = daemon.docker(&["logs", "eyes"]).stderr;
    assert!(log.contains("wharf: model digits runs on cpu, not on cuda:1: "), "{log}");
    engine.published("eyes").get("/").expect(200);

    // As docker's own client says it; `auto`, where there is no GPU, is the CPU without a word.
    daemon.ok(&["run", "-d", "--name", "labelled", "--label", "wharf.device=tensorrt,cuda", "digits"]);
    let devices = engine.inspect("labelled")["Wharf"]["Devices"].clone();
    assert_eq!((&devices[0]["Device"], devices[0]["FellBack"].as_array().unwrap().len()), (&json!("cpu"), 2));
    daemon.ok(&["run", "-d", "--name", "plain", "digits"]);
    let devices = engine.inspect("plain")["Wharf"]["Devices"].clone();
    assert_eq!(devices[0]["FellBack"], json!([]), "{devices}");
    assert_eq!(daemon.docker(&["logs", "plain"]).stderr, "");
}

#[test]
fn wishes_that_make_no_sense_are_refused_at_once() {
    let Some((_daemon, engine)) = start() else { return };
    let create = |labels: Value| engine.post("/containers/create", &json!({"Image": "digits", "Labels": labels}));
    for (labels, words) in [
        (
            json!({"wharf.device": "gpu"}),
            "label wharf.device=gpu: \"gpu\" is no device: write auto, cpu, cuda[:N|:UUID]",
        ),
        (json!({"wharf.require-device": "true"}), "needs wharf.device"),
        (json!({"wharf.gpu-memory": "lots"}), "label wharf.gpu-memory=lots: \"lots\" is no size"),
    ] {
        let answer = create(labels);
        assert_eq!(answer.status, 400, "{}", answer.text());
        assert!(answer.json()["message"].as_str().unwrap().contains(words), "{}", answer.text());
    }
    let cdi = json!({"DeviceRequests": [{"Driver": "cdi", "DeviceIDs": ["amd.com/gpu=0"]}]});
    let answer = engine.post("/containers/create", &json!({"Image": "digits", "HostConfig": cdi}));
    assert!(
        answer.status == 400 && answer.text().contains("unresolvable CDI devices amd.com/gpu=0"),
        "{}",
        answer.text()
    );
}
