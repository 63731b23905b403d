//! Whole files, from YAML to what is asked of the daemon.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::{Value, json};

use super::ports;
use super::project::{Choice, Project};
use crate::error::Result;

/// Word for word.
const TUTORIAL: &str = include_str!("../../tests/fixtures/tutorial-compose.yml");

fn read_with(yaml: &str, profiles: &[&str], named: &[&str]) -> Result<Project> {
    let document = super::yaml::read(yaml).unwrap();
    let profiles: BTreeSet<String> = profiles.iter().map(ToString::to_string).collect();
    let named: Vec<String> = named.iter().map(ToString::to_string).collect();
    let choice = Choice { name: "app", folder: Path::new("/srv/app"), profiles: &profiles, named: &named };
    Project::read(document, choice, &|name| (name == "HOST").then(|| "here".to_owned()))
}

fn read(yaml: &str) -> Project {
    read_with(yaml, &[], &[]).unwrap()
}

fn error(yaml: &str) -> String {
    read_with(yaml, &[], &[]).unwrap_err().to_string()
}

fn request(yaml: &str) -> Value {
    let project = read(yaml);
    assert_eq!(project.warnings, Vec::<String>::new());
    project.request(&project.services["a"], 1).unwrap()
}

#[test]
fn services_are_scaled() {
    let mut project = read(
        "services:\n  a: {image: x, deploy: {replicas: 2}}\n  b: {image: x, container_name: own, scale: 0}\n  c: {image: x, ports: [\"5001:5000\"]}\n",
    );
    let (a, b) = (&project.services["a"], &project.services["b"]);
    assert_eq!((a.replicas().unwrap(), b.replicas().unwrap()), (2, 0));
    assert_eq!((project.container_name(a, 2), project.container_name(b, 1)), ("app-a-2".into(), "own".into()));
    let two = project.request(a, 2).unwrap();
    assert_eq!(two["Labels"]["com.docker.compose.container-number"], "2");
    let hash = a.hash();
    project.scale("a", 7).unwrap();
    assert_eq!((project.services["a"].replicas().unwrap(), project.services["a"].hash()), (7, hash));
    assert!(project.scale("d", 2).unwrap_err().to_string().contains("no such service: d; the file has a, b, c"));
    project.scale("c", 2).unwrap();
    let error = project.claims(&project.chosen(&[], true)).map(drop).unwrap_err().to_string();
    assert!(error.contains("the \"c\" service specifies a port on the host"), "{error}");
    assert!(error.contains("2 were asked for, and 5001 can be published once"), "{error}");
    assert!(project.scale("b", 2).unwrap_err().to_string().contains("Remove the custom name to scale the service"));
}

#[test]
fn a_number_of_containers_is_refused_by_its_field() {
    for (field, written) in [("scale", "scale: some"), ("deploy.replicas", "scale: null, deploy: {replicas: -1}")] {
        let error = error(&format!("services: {{a: {{image: x, {written}}}}}"));
        assert!(error.starts_with(&format!("services.a.{field}: ")), "{error}");
    }
}

#[test]
fn names_of_ones_own_are_passed_on() {
    let hosts = |written: &str| {
        request(&format!("services:\n  a: {{image: x, extra_hosts: {written}}}\n"))["HostConfig"]["ExtraHosts"].clone()
    };
    assert_eq!(
        hosts("[\"one:10.0.0.1\", \"two=::1\", \"three:[::1]\"]"),
        json!(["one:10.0.0.1", "two:::1", "three:::1"])
    );
    assert_eq!(hosts("{one: 10.0.0.1, two: [10.0.0.2, \"::1\"]}"), json!(["one:10.0.0.1", "two:10.0.0.2", "two:::1"]));
    assert!(
        error("services:\n  a: {image: x, extra_hosts: [one]}\n")
            .contains("services.a.extra_hosts: write a list of NAME:ADDRESS")
    );
}

#[test]
fn the_tutorials_file_names_both_services_and_the_port() {
    let project = read(TUTORIAL);
    assert_eq!(project.warnings, Vec::<String>::new());
    let all = project.chosen(&[], true);
    let error = ports::check(&project.claims(&all).unwrap()).unwrap_err().to_string();
    let start = "services facedetection and maskdetection both publish host port 5001 (0.0.0.0:5001): ";
    assert!(error.starts_with(start) && error.contains("port is already allocated"), "{error}");

    let mended = read(&TUTORIAL.replacen("5001:5000", "5002:5000", 1));
    ports::check(&mended.claims(&all).unwrap()).unwrap();
    let service = &mended.services["maskdetection"];
    assert_eq!(
        (mended.image(service), mended.container_name(service, 1)),
        ("app-maskdetection".into(), "maskdetection".into())
    );
    let body = mended.request(service, 1).unwrap();
    assert_eq!(body["HostConfig"]["RestartPolicy"], json!({"Name": "always", "MaximumRetryCount": 0}));
    assert_eq!(body["HostConfig"]["PortBindings"], json!({"5000/tcp": [{"HostIp": "", "HostPort": "5001"}]}));
    assert_eq!(body["HostConfig"]["NetworkMode"], "app_default");
    assert_eq!(body["NetworkingConfig"]["EndpointsConfig"], json!({"app_default": {"Aliases": ["maskdetection"]}}));
    assert_eq!(service.keys["build"]["context"], "/srv/app/maskdetection");
}

#[test]
fn what_is_said_once_is_shared_by_anchors_and_merge_keys() {
    let project = read(
        "x-base: &base\n  image: one\n  environment: &env {A: '1'}\nservices:\n  a:\n    <<: *base\n    restart: no\n  \
         b:\n    <<: *base\n    image: two\n    environment: {<<: *env, B: '2'}\n",
    );
    assert_eq!(project.services["a"].keys["image"], "one");
    assert_eq!(project.services["b"].keys["image"], "two");
    assert_eq!(project.services["b"].keys["environment"], json!({"A": "1", "B": "2"}));
}

#[test]
fn limits_reach_the_request() {
    let cases = [
        ("mem_limit: 64m, cpus: '0.5'", 64 << 20, 500_000_000_i64),
        ("mem_limit: 1048576, cpus: 2", 1 << 20, 2_000_000_000),
        ("deploy: {resources: {limits: {memory: 1g, cpus: '1.5'}}}", 1 << 30, 1_500_000_000),
    ];
    for (keys, memory, cpus) in cases {
        let host = &request(&format!("services: {{a: {{image: x, {keys}}}}}"))["HostConfig"];
        assert_eq!((host["Memory"].as_i64(), host["NanoCpus"].as_i64()), (Some(memory), Some(cpus)), "{keys}");
    }
    let gpu = |keys: &str| {
        request(&format!("services: {{a: {{image: x, {keys}}}}}"))["HostConfig"]["DeviceRequests"][0].clone()
    };
    assert_eq!(gpu("gpus: all")["Count"], -1);
    let reserved = "deploy: {resources: {reservations: {devices: [{driver: nvidia, count: 1, capabilities: [gpu]}]}}}";
    assert_eq!(gpu(reserved)["Driver"], "nvidia");
    assert_eq!(gpu(reserved)["Count"], 1);
    assert_eq!(request("services: {a: {image: x, runtime: nvidia}}")["HostConfig"]["Runtime"], "nvidia");
    let own = request(
        "services: {a: {image: x, x-wharf: {device: 'cuda:1', require-device: true, gpu-memory: 2g, cuda-graph: true}}}",
    );
    let label = |name: &str| own["Labels"][name].clone();
    let labels = ["wharf.device", "wharf.require-device", "wharf.gpu-memory", "wharf.cuda-graph"].map(label);
    assert_eq!(labels, ["cuda:1", "true", "2g", "true"]);
    assert_eq!(gpu("gpus: [{device_ids: ['0', '1']}]")["DeviceIDs"], json!(["0", "1"]));
    assert!(error("services: {a: {image: x, mem_limit: lots}}").starts_with("services.a.mem_limit: "));
}

#[test]
fn health_checks_in_every_form() {
    let health = |written: &str| {
        request(&format!("services: {{a: {{image: x, healthcheck: {written}}}}}"))["Healthcheck"].clone()
    };
    let full = health("{test: [CMD, /check.wasm], interval: 1m30s, timeout: 500ms, retries: 3, start_period: 2s}");
    assert_eq!(full["Test"], json!(["CMD", "/check.wasm"]));
    assert_eq!((full["Interval"].as_i64(), full["Timeout"].as_i64()), (Some(90_000_000_000), Some(500_000_000)));
    assert_eq!((full["Retries"].as_i64(), full["StartPeriod"].as_i64()), (Some(3), Some(2_000_000_000)));
    assert_eq!(health("{test: GET /healthz}")["Test"], json!(["CMD-SHELL", "GET /healthz"]));
    assert_eq!(health("{disable: true}")["Test"], json!(["NONE"]));
    assert!(error("services: {a: {image: x, healthcheck: {test: [GET]}}}").contains("healthcheck.test: write"));
    assert!(error("services: {a: {image: x, healthcheck: {interval: often}}}").contains("healthcheck.interval: often"));
}

const MANY: &str = r#"
services:
  a:
    image: x
    command: /a.wasm 'two words'
    entrypoint: [/e.wasm]
    environment: [A=1, HOST, GONE]
    working_dir: /w
    hostname: h
    user: 1000
    stop_grace_period: 1500ms
    stop_signal: SIGINT
    init: true
    ipc: host
    read_only: true
    tty: true
    runtime: nvidia
    restart: on-failure:3
    expose: [7]
    labels: [l=1]
    logging: {driver: json-file, options: {max-size: 5m, max-file: 5}}
    tmpfs: /t
    x-wharf: {egress: [a.example:443, b.example:80]}
    networks: {one: {aliases: [al]}, two: }
networks:
  one: {name: mine}
  two: {external: true}
"#;

#[test]
fn what_else_a_service_may_say() {
    let body = request(MANY);
    assert_eq!(body["Cmd"], json!(["/a.wasm", "two words"]));
    assert_eq!(body["Entrypoint"], json!(["/e.wasm"]));
    assert_eq!(body["Env"], json!(["A=1", "HOST=here"]));
    assert_eq!((&body["WorkingDir"], &body["Hostname"], &body["User"]), (&json!("/w"), &json!("h"), &json!("1000")));
    assert_eq!((&body["StopTimeout"], &body["StopSignal"], &body["Tty"]), (&json!(2), &json!("SIGINT"), &json!(true)));
    assert_eq!(body["ExposedPorts"], json!({"7/tcp": {}}));
    assert_eq!(
        (&body["Labels"]["l"], &body["Labels"]["wharf.egress"]),
        (&json!("1"), &json!("a.example:443,b.example:80"))
    );
    let host = &body["HostConfig"];
    assert_eq!(
        (&host["Init"], &host["IpcMode"], &host["ReadonlyRootfs"]),
        (&json!(true), &json!("host"), &json!(true))
    );
    assert_eq!((&host["Runtime"], &host["RestartPolicy"]["MaximumRetryCount"]), (&json!("nvidia"), &json!(3)));
    assert_eq!(host["LogConfig"], json!({"Type": "json-file", "Config": {"max-size": "5m", "max-file": "5"}}));
    assert_eq!(host["Tmpfs"], json!({"/t": ""}));
    assert_eq!(
        body["NetworkingConfig"]["EndpointsConfig"],
        json!({"mine": {"Aliases": ["a", "al"]}, "two": {"Aliases": ["a"]}})
    );
}

#[test]
fn order_profiles_and_choices() {
    let yaml = "services:\n  a: {image: a, depends_on: {b: {condition: service_healthy}}, colour: red}\n  \
                b: {image: b, depends_on: [c]}\n  c: {image: c}\n  debug: {image: d, profiles: [debug]}\n";
    let project = read(yaml);
    let names: Vec<&str> = project.order().unwrap().iter().map(|service| service.name.as_str()).collect();
    assert_eq!(names, ["c", "b", "a"]);
    assert_eq!(project.warnings, ["services.a.colour: unknown key, ignored"]);
    assert_eq!(project.chosen(&["b".to_owned()], true), BTreeSet::from(["b".to_owned(), "c".to_owned()]));
    assert_eq!(project.chosen(&["b".to_owned()], false).len(), 1);
    assert_eq!(read_with(yaml, &["debug"], &[]).unwrap().services.len(), 4);
    assert_eq!(read_with(yaml, &[], &["debug"]).unwrap().services.len(), 4);
    assert!(read_with(yaml, &[], &["nobody"]).unwrap_err().to_string().contains("no such service: nobody"));
}

#[test]
fn mistakes_name_their_place() {
    let cases = [
        ("services: {a: {}}", "service \"a\" has neither an image nor a build"),
        ("services: [a]", "no `services:`"),
        (
            "services: {a: {image: a, depends_on: [b]}, b: {image: b, depends_on: [a]}}",
            "depends_on of a, b leads in a circle",
        ),
        ("services: {a: {image: a, depends_on: [b]}}", "service a depends on undefined service b"),
        (
            "services: {a: {image: a, depends_on: [b]}, b: {image: b, profiles: [p]}}",
            "b is required by a but is disabled: enable it with --profile p",
        ),
        (
            "services: {a: {image: a, depends_on: {a: {condition: ready}}}}",
            "services.a.depends_on.a: no condition ready",
        ),
        ("services: {a: {image: a, networks: [n]}}", "services.a.networks: refers to undefined network n"),
        ("services: {a: {image: a, volumes: ['v:/v']}}", "services.a.volumes: refers to undefined volume v"),
        ("services: {a: {image: a, networks: [default], network_mode: host}}", "exclude each other"),
        ("services: {a: {image: a, restart: sometimes}}", "services.a.restart: write"),
        (
            "services: {a: {image: a, container_name: x}, b: {image: b, container_name: x}}",
            "services a and b both have container_name x",
        ),
        ("services: {a: {image: a, extends: b}}", "services.a.extends is not supported"),
        ("services: {a: {image: '${X:?say so}'}}", "required variable X is missing a value: say so"),
    ];
    for (yaml, expected) in cases {
        assert!(error(yaml).contains(expected), "{yaml}: {}", error(yaml));
    }
}

#[test]
fn the_hash_changes_with_the_container_only() {
    let hash = |yaml: &str| read(yaml).services["a"].hash();
    let plain = hash("services: {a: {image: a, environment: {A: 1}}}");
    assert_eq!(plain, hash("services: {a: {image: a, environment: [A=1], profiles: []}}"));
    assert_ne!(plain, hash("services: {a: {image: a, environment: {A: 2}}}"));
}

#[test]
fn the_canonical_file_means_the_same() {
    let project = read(
        "services:\n  a: {image: a, ports: ['1:2'], volumes: ['./m:/m', 'v:/v'], command: x $$y, depends_on: [b]}\n  \
         b: {build: .}\nvolumes: {v: }\n",
    );
    let again = read(&super::yaml::write(&project.canonical()));
    for (name, service) in &project.services {
        assert_eq!(again.request(&again.services[name], 1).unwrap(), project.request(service, 1).unwrap(), "{name}");
    }
    assert_eq!(again.canonical(), project.canonical());
}
