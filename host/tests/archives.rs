//! Images as files: `docker save` and `docker load`, and skopeo on what the host writes and on its own store.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test ends by panicking")]

mod support;

use std::fs;
use std::process::{Command, Stdio};

use serde_json::Value;
use support::daemon::{TestDaemon, has_docker, run_with_input};
use support::guests::skip;
use support::host::{Scratch, run};

/// Two hosts, the first of which has the image `hello`; or a loud skip.
fn two_hosts() -> Option<(TestDaemon, TestDaemon)> {
    if !has_docker() {
        return None;
    }
    let hosts = (TestDaemon::start(), TestDaemon::start());
    hosts.0.build("hello", "hello");
    Some(hosts)
}

fn has_skopeo() -> bool {
    let found = Command::new("skopeo").arg("--version").stdout(Stdio::null()).status();
    let found = found.is_ok_and(|status| status.success());
    if !found {
        skip("no skopeo on the PATH: it looks at no image");
    }
    found
}

#[track_caller]
fn skopeo(arguments: &[&str]) -> String {
    let policy = Scratch::new();
    let policy = policy.file("policy.json", br#"{"default":[{"type":"insecureAcceptAnything"}]}"#);
    let mut command = Command::new("skopeo");
    command.arg("--policy").arg(policy).args(["--override-os", "wasi", "--override-arch", "wasm"]);
    let ended = run(command.args(arguments));
    assert_eq!(ended.code, Some(0), "{arguments:?}: {ended:?}");
    ended.stdout
}

#[track_caller]
fn id(daemon: &TestDaemon, image: &str) -> String {
    daemon.ok(&["inspect", "-f", "{{.Id}}", image])
}

#[test]
fn what_is_saved_is_loaded_as_it_was() {
    let Some((here, there)) = two_hosts() else { return };
    here.ok(&["tag", "hello", "hello:other"]);
    let scratch = Scratch::new();
    let file = scratch.0.join("images.tar");
    let file = file.to_str().unwrap();
    here.ok(&["save", "-o", file, "hello", "hello:other"]);
    let loaded = there.ok(&["load", "-i", file]);
    assert!(loaded.contains("Loaded image: hello:latest") && loaded.contains("Loaded image: hello:other"), "{loaded}");
    assert_eq!(id(&there, "hello:other"), id(&here, "hello"));
    there.ok(&["run", "-d", "--name", "hello", "-p", "127.0.0.1:0:5000", "hello"]);
    there.published("hello").get("/").expect(200);

    // As people pipe it, and packed.
    there.ok(&["rm", "-f", "hello"]);
    there.ok(&["rmi", "hello", "hello:other"]);
    let packed = run(Command::new("gzip").args(["-k", file]));
    assert_eq!(packed.code, Some(0), "{packed:?}");
    let piped = fs::read(format!("{file}.gz")).unwrap();
    let loaded = run_with_input(&mut there.docker_command(&["load", "-q"]), &piped);
    assert_eq!(loaded.code, Some(0), "{loaded:?}");
    assert_eq!(id(&there, "hello"), id(&here, "hello"));
    let again = scratch.0.join("again.tar");
    there.ok(&["save", "-o", again.to_str().unwrap(), "hello", "hello:other"]);
    assert!(fs::read(&again).unwrap() == fs::read(file).unwrap(), "the same images make the same file");
}

#[test]
fn an_image_saved_by_its_id_has_no_name() {
    let Some((here, there)) = two_hosts() else { return };
    let image = id(&here, "hello");
    let scratch = Scratch::new();
    let file = scratch.0.join("image.tar");
    here.ok(&["save", "-o", file.to_str().unwrap(), &image]);
    let loaded = there.ok(&["load", "-i", file.to_str().unwrap()]);
    assert!(loaded.contains(&format!("Loaded image ID: {image}")), "{loaded}");
    assert_eq!(there.ok(&["images", "--format", "{{.Repository}}"]), "<none>");
}

#[test]
fn what_is_no_archive_leaves_nothing() {
    let Some((here, there)) = two_hosts() else { return };
    let scratch = Scratch::new();
    let file = scratch.0.join("images.tar");
    here.ok(&["save", "-o", file.to_str().unwrap(), "hello"]);
    let whole = fs::read(&file).unwrap();
    for (what, bytes) in [("text", b"no archive at all".to_vec()), ("half", whole[..whole.len() / 2].to_vec())] {
        let refused = run_with_input(&mut there.docker_command(&["load"]), &bytes);
        assert_eq!(refused.code, Some(1), "{what}: {refused:?}");
        assert!(!refused.stderr.trim().is_empty(), "{what}: says why");
    }
    assert_eq!(there.ok(&["images", "-aq"]), "");
    let missing = here.docker(&["save", "-o", file.to_str().unwrap(), "nothing"]);
    assert!(missing.code == Some(1) && missing.stderr.contains("No such image"), "{missing:?}");
}

#[test]
fn skopeo_reads_the_store_and_what_is_saved() {
    let Some((here, there)) = two_hosts() else { return };
    if !has_skopeo() {
        return;
    }
    let store = format!("oci:{}", here.data.0.join("images").display());
    let scratch = Scratch::new();
    let saved = scratch.0.join("hello.tar");
    here.ok(&["save", "-o", saved.to_str().unwrap(), "hello"]);
    let saved = format!("docker-archive:{}", saved.display());
    // The store names an image in full, the archive as people do.
    let of_store: Value = serde_json::from_str(&skopeo(&["inspect", &store])).unwrap();
    let of_archive: Value = serde_json::from_str(&skopeo(&["inspect", &saved])).unwrap();
    for seen in [&of_store, &of_archive] {
        assert_eq!((&seen["Os"], &seen["Architecture"]), (&"wasi".into(), &"wasm".into()), "{seen}");
        assert_eq!(seen["Layers"].as_array().map(Vec::len), Some(1), "{seen}");
    }
    let config: Value = serde_json::from_str(&skopeo(&["inspect", "--config", &store])).unwrap();
    assert_eq!(config["config"]["Entrypoint"][0], "/hello.wasm");

    // Through skopeo's own hands: a layout and an archive that it wrote are loaded.
    let copy = scratch.0.join("copy.tar");
    skopeo(&["copy", "-q", &store, &format!("docker-archive:{}:copied:1", copy.display())]);
    there.ok(&["load", "-i", copy.to_str().unwrap()]);
    assert_eq!(id(&there, "copied:1"), id(&here, "hello"));
    there.ok(&["rmi", "copied:1"]);
    let copy = scratch.0.join("oci.tar");
    skopeo(&["copy", "-q", &saved, &format!("oci-archive:{}:copied:2", copy.display())]);
    there.ok(&["load", "-i", copy.to_str().unwrap()]);
    assert_eq!(there.ok(&["run", "-d", "copied:2"]).len(), 64);
}
