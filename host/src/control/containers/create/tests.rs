//! What becomes of requests: goldens of Docker's merge, its refusals, and the warnings.

use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use serde_json::{Value, json};

use super::merge::merge;
use super::request::CreateRequest;
use crate::container::Spec;
use crate::container::spec::{Gpus, RestartPolicy};
use crate::control::HostFacts;
use crate::error::Result;
use crate::image::{Digest, Image};

fn image(config: Value) -> Image {
    Image {
        id: Digest::of(b"config"),
        manifest: Digest::of(b"manifest"),
        manifest_size: 1,
        media_type: String::new(),
        config: serde_json::from_value(json!({"architecture": "wasm", "os": "wasi", "config": config})).unwrap(),
        tags: vec!["app:latest".into()],
        repo_digests: Vec::new(),
        created: UNIX_EPOCH,
        size: 1,
        parent: None,
        last_tagged: None,
    }
}

fn merged(request: Value, config: Value) -> Result<(Spec, Vec<String>)> {
    let request: CreateRequest = serde_json::from_value(request).unwrap();
    merge(request, &image(config), &HostFacts::read(Path::new("/nowhere"), 2))
}

fn spec(request: Value, config: Value) -> Spec {
    merged(request, config).unwrap().0
}

/// The message with which a `HostConfig` is refused.
fn refused(host_config: Value) -> String {
    merged(json!({"Image": "app", "HostConfig": host_config}), json!({})).map(|_| ()).unwrap_err().to_string()
}

#[test]
fn an_entry_point_drops_the_images_command() {
    let config = || json!({"Entrypoint": ["/app.wasm"], "Cmd": ["--default"]});
    for (request, entrypoint, command) in [
        (json!({}), vec!["/app.wasm"], vec!["--default"]),
        (json!({"Cmd": ["a"]}), vec!["/app.wasm"], vec!["a"]),
        (json!({"Cmd": "a"}), vec!["/app.wasm"], vec!["a"]),
        (json!({"Entrypoint": ["/x"]}), vec!["/x"], vec![]),
        (json!({"Entrypoint": ["/x"], "Cmd": ["a"]}), vec!["/x"], vec!["a"]),
        (json!({"Entrypoint": [""]}), vec![], vec![]),
    ] {
        let spec = spec(request.clone(), config());
        assert_eq!((spec.entrypoint, spec.command), (own(&entrypoint), own(&command)), "{request}");
    }
}

fn own(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

#[test]
fn environment_and_labels_are_joined() {
    let config = json!({"Env": ["PATH=/bin", "A=image", "GONE=1"], "Labels": {"a": "image", "b": "image"}});
    let request = json!({"Env": ["A=1", "GONE", "B=2", "A=3"], "Labels": {"a": "own", "wharf.egress": "x:443, y:80"}});
    let spec = spec(request, config);
    assert_eq!(spec.environment, own(&["A=3", "B=2", "PATH=/bin"]));
    assert_eq!((spec.labels["a"].as_str(), spec.labels["b"].as_str()), ("own", "image"));
    assert_eq!(spec.egress, own(&["x:443", "y:80"]));
}

#[test]
fn health_checks_are_joined_field_by_field() {
    let config = json!({"Healthcheck": {"Test": ["CMD", "/health"], "Interval": 5_000_000_000_i64, "Retries": 7}});
    let check = |request: Value| spec(json!({"Healthcheck": request}), config.clone()).healthcheck;
    let joined = check(json!({"Interval": 1_000_000_000})).unwrap();
    assert_eq!((joined.test, joined.retries), (own(&["CMD", "/health"]), 7));
    assert_eq!((joined.interval, joined.timeout), (Duration::from_secs(1), Duration::from_secs(30)));
    assert!(check(json!({"Test": ["NONE"]})).is_none());
    let error = merged(json!({"Healthcheck": {"Interval": 10}}), config.clone()).unwrap_err();
    assert_eq!(error.to_string(), "Interval in Healthcheck cannot be less than 1ms");
}

#[test]
fn the_tutorials_command_line() {
    let request = json!({
        "Image": "vision", "ExposedPorts": {"5000/tcp": {}},
        "HostConfig": {
            "PortBindings": {"5000/tcp": [{"HostIp": "", "HostPort": "5000"}]}, "IpcMode": "host", "NetworkMode": "default",
            "LogConfig": {"Type": "", "Config": {"max-size": "5m", "max-file": "5"}},
            "RestartPolicy": {"Name": "always", "MaximumRetryCount": 0}, "Runtime": "nvidia",
            "DeviceRequests": [{"Driver": "", "Count": -1, "Capabilities": [["gpu"]], "Options": {}}],
        },
        "NetworkingConfig": {"EndpointsConfig": {"default": {}}},
    });
    let (spec, warnings) = merged(request, json!({})).unwrap();
    assert_eq!((spec.log.max_size, spec.log.max_file), (Some(5_000_000), 5));
    assert_eq!((spec.restart, spec.gpus), (RestartPolicy::Always, Some(Gpus::All)));
    assert_eq!(spec.publish[0].host_port, Some(5000));
    assert_eq!((spec.network_mode.as_str(), spec.endpoints.keys().next().unwrap().as_str()), ("bridge", "bridge"));
    assert_eq!(spec.host_config["LogConfig"]["Type"], "json-file");
    assert_eq!(warnings, ["--ipc has no effect here: containers share no namespaces with the host."]);
}

#[test]
fn logs_are_compressed_where_there_is_something_to_compress() {
    let log = |config: Value| {
        let config = json!({"LogConfig": {"Type": "json-file", "Config": config}});
        merged(json!({"HostConfig": config}), json!({})).map(|(spec, _)| spec.log)
    };
    let whole = log(json!({"compress": "true", "max-size": "1k", "max-file": "2", "tag": "{{.Name}}"})).unwrap();
    assert!(whole.compresses() && whole.options["tag"] == "{{.Name}}");
    assert!(!log(json!({"compress": "false"})).unwrap().compresses());
    for config in [json!({"compress": "true"}), json!({"compress": "1", "max-size": "1k"})] {
        assert!(log(config).unwrap_err().to_string().contains("compress cannot be true when max-file is less than 2"));
    }
    assert!(log(json!({"compress": "maybe"})).unwrap_err().to_string().contains("invalid syntax"));
}

#[test]
fn what_has_no_effect_is_warned_of() {
    let host_config = json!({
        "PidsLimit": 5, "CpusetCpus": "0", "Privileged": true, "CapAdd": ["CAP_X"],
    });
    let (_, warnings) = merged(json!({"User": "me", "HostConfig": host_config}), json!({})).unwrap();
    let flags: Vec<&str> = warnings.iter().filter_map(|warning| warning.split(' ').next()).collect();
    assert_eq!(flags, ["--user", "--privileged", "--cap-add", "--pids-limit", "--cpuset-cpus"]);
    // Set by the image, not by whoever could rely on it.
    assert!(merged(json!({}), json!({"User": "me"})).unwrap().1.is_empty());
}

#[test]
fn gpus_are_asked_for_in_many_ways() {
    for (host_config, gpus) in [
        (json!({"DeviceRequests": [{"Count": 2, "Capabilities": [["gpu"]]}]}), Some(Gpus::Count(2))),
        (
            json!({"DeviceRequests": [{"Count": 0, "DeviceIDs": ["0", "1"], "Capabilities": [["gpu"]]}]}),
            Some(Gpus::Devices(own(&["0", "1"]))),
        ),
        (json!({"Runtime": "nvidia"}), Some(Gpus::All)),
        (json!({"DeviceRequests": [{"Driver": "cdi", "DeviceIDs": ["nvidia.com/gpu=all"]}]}), Some(Gpus::All)),
        (
            json!({"DeviceRequests": [{"Driver": "cdi", "DeviceIDs": ["nvidia.com/gpu=1"]}]}),
            Some(Gpus::Devices(own(&["1"]))),
        ),
        (
            json!({"Devices": [{"PathOnHost": "/dev/nvidia1"}, {"PathOnHost": "/dev/nvidiactl"}]}),
            Some(Gpus::Devices(own(&["1"]))),
        ),
        (json!({}), None),
    ] {
        assert_eq!(spec(json!({"HostConfig": host_config}), json!({})).gpus, gpus);
    }
}

#[test]
fn refusals_are_dockers() {
    for (host_config, message) in [
        (json!({"Memory": 1000}), "Minimum memory limit allowed is 6MB"),
        (
            json!({"NanoCpus": 3_000_000_000_i64}),
            "Range of CPUs is from 0.01 to 2.00, as there are only 2 CPUs available",
        ),
        (json!({"Runtime": "odd"}), "unknown or invalid runtime name: odd"),
        (json!({"LogConfig": {"Config": {"x": "1"}}}), "unknown log opt 'x' for json-file log driver"),
        (json!({"LogConfig": {"Config": {"max-file": "0"}}}), "max-file cannot be less than 1"),
        (json!({"LogConfig": {"Config": {"max-size": "big"}}}), "invalid size: 'big'"),
        (
            json!({"RestartPolicy": {"Name": "always", "MaximumRetryCount": 3}}),
            "invalid restart policy: maximum retry count can only be used with 'on-failure'",
        ),
        (
            json!({"RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": -1}}),
            "invalid restart policy: maximum retry count cannot be negative",
        ),
        (
            json!({"AutoRemove": true, "RestartPolicy": {"Name": "always"}}),
            "can't create 'AutoRemove' container with restart policy",
        ),
        (json!({"Devices": [{"PathOnHost": "/dev/x"}]}), "device \"/dev/x\" is not available to Wasm components"),
        (json!({"Memory": "much"}), "invalid JSON: HostConfig"),
    ] {
        assert_eq!(refused(host_config), message);
    }
    assert!(refused(json!({"Links": ["a"]})).starts_with("--link is not offered"));
}

#[test]
fn processors_are_a_quota_too() {
    let cpus = |host_config: Value| spec(json!({"HostConfig": host_config}), json!({})).nano_cpus;
    assert_eq!(cpus(json!({"NanoCpus": 1_500_000_000_i64})), Some(1_500_000_000));
    assert_eq!(cpus(json!({"CpuQuota": 50_000})), Some(500_000_000));
    assert_eq!(cpus(json!({"CpuQuota": 50_000, "CpuPeriod": 50_000})), Some(1_000_000_000));
    assert_eq!(cpus(json!({"CpuQuota": -1})), None);
}

#[test]
fn platforms_of_this_host_are_accepted() {
    for platform in ["", "wasi/wasm", "wasm", "wasip2/wasm", "linux/amd64"] {
        super::limits::check_platform(platform, "app", "amd64").unwrap();
    }
    let error = super::limits::check_platform("linux/riscv64", "app", "amd64").unwrap_err();
    assert_eq!(
        error.to_string(),
        "image with reference app was found but its platform (wasi/wasm) does not match the specified platform \
         (linux/riscv64)"
    );
}
