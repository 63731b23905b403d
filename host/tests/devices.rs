//! What models run on, from the request to the answer, on machines made of files: what is required is refused with
//! docker's words and ours, what is preferred runs on the CPU and says so everywhere.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test ends by panicking")]

mod support;

use std::process::Command;

use serde_json::{Value, json};
use support::daemon::{TestDaemon, context_of, has_docker};
use support::engine::Engine;
use support::guests::fixture_model;
use support::host::{Ended, TestHost, WHARF, run};
use support::machines::{FIRST, Machine, SECOND};

const REFUSED: &str = "could not select device driver \"\" with capabilities: [[gpu]]";
const NONE: &str = "no NVIDIA GPU: libcuda.so.1: no such library";
/// ONNX Runtime's own words: the tests' is the CPU's.
const NOT_BUILT: &str = "CUDA execution provider is not enabled in this build";

/// A host on that machine with the image `digits`, which has a model; or a loud skip.
fn start(machine: &Machine) -> Option<(TestDaemon, Engine)> {
    if !has_docker() {
        return None;
    }
    let daemon = TestDaemon::start_at(Some(&machine.root.0), &machine.flags());
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

/// `wharf doctor` on that machine.
fn doctor(machine: &Machine, flags: &[&str]) -> Ended {
    let mut command = Command::new(WHARF);
    command.arg("doctor").args(machine.flags()).args(flags).env("WHARF_SYSROOT", &machine.root.0);
    run(&mut command)
}

#[track_caller]
fn says(ended: &Ended, line: &str, words: &[&str]) {
    let found = ended.stdout.lines().find(|own| own.starts_with(line));
    let found = found.unwrap_or_else(|| panic!("no line {line:?} in:\n{}", ended.stdout));
    for words in words {
        assert!(found.contains(words), "no {words:?} in {found:?}");
    }
}

#[test]
fn doctor_says_of_each_device_whether_it_can_be_used() {
    let report = doctor(&Machine::with_gpus().for_the_second_gpu_only(), &[]);
    let misfit = "ONNX Runtime's CUDA provider here has code for sm_90a only, and GPU 0 is sm_89: use an ONNX Runtime \
                  that was built with CMAKE_CUDA_ARCHITECTURES=89";
    says(&report, "--  gpu 0 ", &[FIRST, "whose driver runs CUDA 13.1", misfit]);
    says(&report, "ok  gpu 1 ", &[SECOND]);
    says(&report, "ok  cuda libraries ", &["all open; ONNX Runtime has code for sm_90a"]);
    says(&report, "--  tensorrt libraries ", &["libonnxruntime_providers_tensorrt.so", "libnvinfer10"]);
    says(&report, "ok  device cpu ", &["always"]);
    says(&report, "--  device cuda:0 ", &[misfit]);
    says(&report, "--  device cuda:1 ", &[NOT_BUILT]);
    says(&report, "--  device tensorrt:1 ", &["libraries are missing: see tensorrt libraries"]);
    assert_eq!(report.code, Some(0), "the CPU serves: {report:?}");

    let report = doctor(&Machine::with_gpus().without_cublas(), &[]);
    says(&report, "ok  gpu 0 ", &[FIRST]);
    let missing = "missing: libcublas.so.99, in the wheel nvidia-cublas or the package libcublas-13-0";
    says(&report, "--  cuda libraries ", &[missing]);
    says(&report, "--  device cuda:1 ", &["libraries are missing: see cuda libraries"]);
}

#[test]
fn doctor_knows_a_jetson_and_a_machine_without_a_gpu() {
    let report = doctor(&Machine::jetson(), &[]);
    says(&report, "ok  jetson ", &["NVIDIA Jetson AGX Orin Developer Kit (tegra234), L4T 36.4.3 (JetPack 6.1 or 6.2)"]);
    says(&report, "--  gpu ", &["the GPU of this NVIDIA Jetson AGX Orin", "start the host with --runtime nvidia"]);
    says(&report, "--  device tensorrt ", &["see gpu"]);

    let report = doctor(&Machine::bare(), &["--format", "json"]);
    let report: Value = serde_json::from_str(&report.stdout).unwrap();
    let findings = report["findings"].as_array().unwrap();
    let of = |name: &str| findings.iter().find(|finding| finding["name"] == name);
    assert_eq!(of("jetson"), None);
    assert_eq!(of("device cpu").unwrap()["usable"], true);
    let gpu = of("gpu").unwrap();
    assert!(gpu["usable"] == false && gpu["detail"].as_str().unwrap().starts_with(NONE), "{gpu}");
}

#[test]
fn a_gpu_that_is_asked_for_and_missing_keeps_it_from_starting() {
    let machine = Machine::bare();
    let Some((daemon, engine)) = start(&machine) else { return };
    for flags in [
        ["--gpus", "all"],
        ["--gpus", "2"],
        ["--gpus", "device=GPU-8f0e"],
        ["--runtime", "nvidia"],
        ["--device", "nvidia.com/gpu=all"],
    ] {
        let run = daemon.docker(&[&["run", "-d", "--name", "eyes"], flags.as_slice(), &["digits"]].concat());
        is_refused(run, &[REFUSED, NONE]);
        let state = engine.inspect("eyes")["State"].clone();
        assert_eq!((&state["Status"], &state["ExitCode"]), (&json!("created"), &json!(128)), "{flags:?}: {state}");
        assert!(state["Error"].as_str().unwrap().contains(NONE), "{state}");
        assert!(daemon.ok(&["ps", "-a", "--format", "{{.Names}} {{.Status}}"]).contains("eyes Created"));
        daemon.ok(&["rm", "eyes"]);
    }
    let run = daemon.wharf(&["run", "-d", "--gpus", "all", "digits"]);
    is_refused(run, &[REFUSED, NONE]);
    let run = daemon.wharf(&["run", "-d", "--device", "cuda:1", "--require-device", "digits"]);
    is_refused(run, &["the required device cannot be used: cuda:1: no NVIDIA GPU", "wharf doctor"]);
    assert!(!daemon.ok(&["info", "--format", "{{json .Runtimes}}"]).contains("nvidia"));
}

#[test]
fn a_device_that_is_preferred_and_missing_leaves_the_cpu() {
    let machine = Machine::bare();
    let Some((daemon, engine)) = start(&machine) else { return };
    let flags = ["--device", "cuda:1", "--gpu-memory", "2g", "-p", "127.0.0.1:0:5000"];
    let run = daemon.wharf(&[&["run", "-d", "--name", "eyes"], flags.as_slice(), &["digits"]].concat());
    assert_eq!(run.code, Some(0), "{run:?}");
    let shown = engine.inspect("eyes")["Wharf"].clone();
    assert_eq!(shown["Wish"], json!({"Devices": "cuda:1", "Required": false, "GpuMemory": 2u64 << 30}));
    let device = &shown["Devices"][0];
    assert_eq!((&device["Model"], &device["Device"]), (&json!("digits"), &json!("cpu")), "{shown}");
    let reason = device["FellBack"][0].as_str().unwrap();
    assert!(reason.starts_with(&format!("cuda:1: {NONE}")), "{shown}");
    let nodes = device["Nodes"]["CPUExecutionProvider"].as_u64().unwrap();
    assert!(nodes > 1, "{shown}");
    let log = daemon.docker(&["logs", "eyes"]).stderr;
    assert!(log.contains(&format!("wharf: model digits runs on cpu, not on {reason}")), "{log}");
    let row = daemon.wharf(&["ps", "--format", "{{.Names}} {{.Devices}}"]);
    assert_eq!(row.stdout, "eyes digits=cpu (not cuda:1)\n");
    let properties = daemon.host().http().get("/v2/models/eyes/digits").expect(200).json()["properties"].clone();
    let nodes = nodes.to_string();
    assert_eq!(properties, json!({"device": "cpu", "fell_back": reason, "nodes.CPUExecutionProvider": nodes}));
    let metric = |name: &str| daemon.host().metric(name);
    assert_eq!(metric("wharf_model_device{model=\"eyes/digits\",device=\"cpu\"}"), 1.0);
    assert_eq!(metric("wharf_model_fell_back{model=\"eyes/digits\"}"), 1.0);
    let counted = metric("wharf_model_nodes{model=\"eyes/digits\",provider=\"CPUExecutionProvider\"}");
    assert_eq!(counted.to_string(), nodes);
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
fn a_host_in_the_foreground_says_what_its_models_run_on() {
    let machine = Machine::bare();
    let serve = |flags: &[&str]| {
        let mut command = Command::new(WHARF);
        command.arg("serve").arg(fixture_model("sum")).args(["--http", "127.0.0.1:0", "--log-format", "json"]);
        command.args(machine.flags()).args(flags).env("WHARF_SYSROOT", &machine.root.0);
        command
    };
    let ended = run(&mut serve(&["--device", "cuda:1", "--require-device"]));
    is_refused(ended, &["the required device cannot be used: cuda:1: no NVIDIA GPU", "wharf doctor"]);

    let host = TestHost::start(&mut serve(&["--device", "tensorrt,cuda:1"]));
    let lines = host.log().lines();
    let loaded = lines.iter().find(|line| line.message() == "loaded").unwrap();
    let fields = &loaded.json["fields"];
    assert_eq!(
        (&fields["model"], &fields["device"], &loaded.json["level"]),
        (&json!("sum"), &json!("cpu"), &json!("WARN"))
    );
    let instead = fields["instead_of"].as_str().unwrap();
    assert!(instead.contains("tensorrt: no NVIDIA GPU") && instead.contains("; cuda:1: no NVIDIA GPU"), "{instead}");
    let properties = host.http().get("/v2/models/sum").expect(200).json()["properties"].clone();
    assert_eq!(properties["fell_back"], json!(instead));
}

#[test]
fn gpus_are_chosen_by_number_and_uuid() {
    let machine = Machine::with_gpus();
    let Some((daemon, engine)) = start(&machine) else { return };
    assert!(daemon.ok(&["info", "--format", "{{json .Runtimes}}"]).contains("nvidia"));
    let second = "GPU-292a2b2c-2d2e-2f30-3132-333435363738";
    let by_uuid = format!("\"device={second}\"");
    // Planned for, and refused by ONNX Runtime when the model is opened: the reason names which GPU it was.
    for (flags, device) in [
        (["--gpus", "all"], "cuda:0"),
        (["--gpus", "device=1"], "cuda:1"),
        (["--gpus", &by_uuid], "cuda:1"),
        (["--runtime", "nvidia"], "cuda:0"),
    ] {
        let run = daemon.docker(&[&["run", "--rm", "-d"], flags.as_slice(), &["digits"]].concat());
        is_refused(run, &[REFUSED, &format!("{device}: model \"digits\" is to run on {device}"), NOT_BUILT]);
    }
    for gpu in ["7", "GPU-77", "x"] {
        let run = daemon.docker(&["run", "--rm", "-d", "--gpus", &format!("device={gpu}"), "digits"]);
        is_refused(run, &[REFUSED, gpu]);
    }
    let run = daemon.docker(&["run", "--rm", "-d", "--gpus", "3", "digits"]);
    is_refused(run, &[REFUSED, "3 GPUs are asked for, and this machine has 2"]);

    let fell_back = |name: &str, list: &str| {
        let run = daemon.wharf(&["run", "-d", "--name", name, "--device", list, "digits"]);
        assert_eq!(run.code, Some(0), "{run:?}");
        engine.inspect(name)["Wharf"]["Devices"][0]["FellBack"].clone()
    };
    let reasons = fell_back("listed", &format!("cuda:7,cuda:{second},cuda:GPU-77"));
    let reason = |at: usize| reasons[at].as_str().unwrap_or_default();
    assert_eq!(reason(0), format!("cuda:7: there is no GPU 7; there are {FIRST}, {SECOND}"), "{reasons}");
    assert!(reason(1).starts_with("cuda:1: ") && reason(1).contains(NOT_BUILT), "{reasons}");
    // What comes after the one that is planned for is not asked for any more.
    assert_eq!(reasons.as_array().unwrap().len(), 2, "{reasons}");
    let reasons = fell_back("unknown", "cuda:GPU-77");
    assert_eq!(reasons, json!([format!("cuda:GPU-77: no GPU has the UUID GPU-77; there are {FIRST}, {SECOND}")]));
    let run = daemon.wharf(&["run", "--rm", "-d", "--device", "cuda:GPU-77", "--require-device", "digits"]);
    is_refused(run, &["the required device cannot be used: cuda:GPU-77: no GPU has the UUID GPU-77; there are 0 (NV"]);
}

#[test]
fn a_gpu_whose_library_or_code_is_missing_is_refused_by_name() {
    let machine = Machine::with_gpus().without_cublas();
    let Some((daemon, _)) = start(&machine) else { return };
    let run = daemon.docker(&["run", "-d", "--gpus", "all", "digits"]);
    is_refused(run, &[REFUSED, "cuda:0: missing: libcublas.so.99 (", "in the wheel nvidia-cublas"]);
    let machine = Machine::with_gpus().for_the_second_gpu_only();
    let Some((daemon, _)) = start(&machine) else { return };
    let run = daemon.docker(&["run", "-d", "--gpus", "device=0", "digits"]);
    is_refused(
        run,
        &[REFUSED, "cuda:0: ONNX Runtime's CUDA provider here has code for sm_90a only, and GPU 0 is sm_89"],
    );
    let run = daemon.docker(&["run", "-d", "--gpus", "device=1", "digits"]);
    is_refused(run, &[REFUSED, "cuda:1: model \"digits\" is to run on cuda:1", NOT_BUILT]);
}

#[test]
fn a_model_says_itself_where_it_runs() {
    let machine = Machine::bare();
    let Some((daemon, engine)) = start(&machine) else { return };
    let build = |tag: &str, config: &str| {
        let context = context_of(
            "FROM scratch\nCOPY model.onnx /models/sum/1/\nCOPY config.pbtxt /models/sum/\nCOPY model.onnx /models/plain.onnx\n",
            &[("model.onnx", &fixture_model("sum"))],
        );
        context.file("config.pbtxt", config.as_bytes());
        daemon.ok(&["build", "-t", tag, context.0.to_str().unwrap()]);
    };
    build("fast", "platform: \"onnxruntime_onnx\"\ninstance_group [{ kind: KIND_GPU }]\n");
    let run = daemon.docker(&["run", "-d", "fast"]);
    is_refused(run, &["the required device cannot be used: cuda: no NVIDIA GPU"]);
    // Whoever starts it knows better.
    daemon.ok(&["run", "-d", "--name", "here", "--label", "wharf.device=cpu", "fast"]);
    daemon.ok(&["run", "-d", "--name", "one", "--label", "wharf.device.sum=cuda,cpu", "fast"]);
    let devices = engine.inspect("one")["Wharf"]["Devices"].clone();
    assert_eq!((&devices[0]["Model"], &devices[0]["FellBack"]), (&json!("plain"), &json!([])), "{devices}");
    assert!(devices[1]["FellBack"][0].as_str().unwrap().starts_with("cuda: no NVIDIA GPU"), "{devices}");

    build("slow", "instance_group [{ kind: KIND_CPU count: 1 }]\noptimization { graph { level: 1 } }\n");
    daemon.ok(&["run", "-d", "--name", "slow", "slow"]);
    let warning = daemon.host().log().text();
    assert!(warning.contains("config.pbtxt: optimization.graph has no effect: it is not known here"), "{warning}");
    build("wrong", "instance_group [{ kind: KIND_TPU }]\n");
    let run = daemon.docker(&["run", "-d", "wrong"]);
    is_refused(run, &["config.pbtxt: instance_group.kind: \"KIND_TPU\" is no kind: write KIND_AUTO"]);
}

#[test]
fn wishes_that_make_no_sense_are_refused_at_once() {
    let machine = Machine::bare();
    let Some((_daemon, engine)) = start(&machine) else { return };
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
