//! What is in `deploy/`: Kubernetes, KServe and Swarm, checked strictly against their schemas. `manifests.py` holds what
//! is asserted of the files; here the serving runtime's own arguments start a real host.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test ends by panicking")]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use support::guests::{model, skip, source};
use support::host::{Ended, Scratch, TestHost, WHARF, run};
use support::python::venv;

/// What the helper said of a file or folder, or a loud skip.
fn ask(topic: &str, path: &Path) -> Option<Ended> {
    static PYTHON: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let python = PYTHON.get_or_init(|| venv("manifests", "host/tests/manifests-requirements.txt"));
    match python {
        Err(reason) => {
            skip(&format!("no Python with kubernetes-validate, deploy/ is not checked: {reason}"));
            None
        }
        Ok(python) => {
            let mut command = Command::new(python);
            let ended = run(command.arg("-B").arg(source("host/tests/manifests.py")).arg(topic).arg(path));
            assert_eq!(ended.code, Some(0), "{}{}", ended.stdout, ended.stderr);
            Some(ended)
        }
    }
}

#[test]
fn kubernetes_takes_the_base_and_each_overlay() {
    if let Some(ended) = ask("kubernetes", &source("deploy/kubernetes")) {
        // What could not be compared, if anything.
        eprint!("{}", ended.stdout);
    }
}

#[test]
fn kserve_takes_the_runtime_and_the_example() {
    ask("kserve", &source("deploy/kserve"));
}

#[test]
fn the_serving_runtime_serves_what_kserve_downloads() {
    let Some(ended) = ask("arguments", &source("deploy/kserve/clusterservingruntime.yaml")) else { return };
    // As KServe lays it out: one file, and a repository.
    let (mnt, data) = (Scratch::new(), Scratch::new());
    let digits = fs::read(model("digits", "digits")).unwrap();
    mnt.file("models/digits.onnx", &digits);
    mnt.file("models/numbers/3/model.onnx", &digits);
    mnt.file("models/numbers/config.pbtxt", b"platform: \"onnxruntime_onnx\"\n");
    mnt.file("models/plain/model.onnx", &digits);
    let mut command = Command::new(WHARF);
    for argument in ended.stdout.lines() {
        match argument {
            "/mnt/models" => command.arg(mnt.0.join("models")),
            "/var/lib/wharf" => command.arg(&data.0),
            "0.0.0.0:8080" => command.arg("127.0.0.1:0"),
            other => command.arg(other),
        };
    }
    let host = TestHost::start(command.args(["--log-format", "json"]));
    for path in ["/v2/health/ready", "/v2/health/live", "/metrics"] {
        host.http().get(path).expect(200);
    }
    for name in ["digits", "numbers", "plain"] {
        host.http().get(&format!("/v2/models/{name}/ready")).expect(200);
    }
    assert_eq!(host.stop(), Some(0));
}

#[test]
fn swarm_takes_the_stack() {
    let stack = source("deploy/swarm/stack.yml");
    let mut command = Command::new("docker-compose");
    command.arg("-f").arg(&stack).arg("config").env_remove("DOCKER_HOST").env_remove("WHARF_IMAGE");
    if command.output().is_err() {
        return skip("no docker-compose: deploy/swarm is not checked");
    }
    let ended = run(&mut command);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let scratch = Scratch::new();
    ask("swarm", &scratch.file("stack.yml", ended.stdout.as_bytes()));
}
