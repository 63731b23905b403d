//! A disk that fills up under the host: what was acknowledged stays, what does not fit is refused with a reason or
//! counted, services go on answering, and with room again everything works. Needs the right to mount a small disk.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test ends by panicking")]

mod support;

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread;

use serde_json::json;
use support::archives::{file, gzip, tar};
use support::daemon::TestDaemon;
use support::engine::{Engine, built, failure, service};
use support::eventually;
use support::guests::{fixture, skip};

const SERVICE: &[u8] = b"FROM scratch\nCOPY app.wasm /\nEXPOSE 5000\nENTRYPOINT [\"/app.wasm\"]\n";

/// Bytes of the disk: room for a component, what it compiles to, and little more.
const DISK: usize = 32 << 20;

/// A small disk over a folder; goes with this.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// `None`, after a loud remark, where mounting is not permitted.
    fn over(folder: &Path) -> Option<SmallDisk> {
        let mut command = Command::new("mount");
        command.args(["-t", "tmpfs", "-o", &format!("size={DISK}"), "small-disk"]).arg(folder);
        let mounted = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
        if !mounted.is_ok_and(|status| status.success()) {
            skip("a small disk cannot be mounted (that takes root): no disk is filled");
            return None;
        }
        Some(SmallDisk(folder.to_owned()))
    }

    /// Take all the room there is, to the last block; given back with the file.
    fn fill(&self) -> PathBuf {
        let path = self.0.join("ballast");
        let mut ballast = File::create(&path).unwrap();
        for size in [1 << 20, 4096, 1] {
            let piece = vec![b'x'; size];
            while ballast.write_all(&piece).is_ok() {}
        }
        path
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // The host may still have files open there.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// A host on a small disk, with the service `talker` running from the image of that name.
fn start() -> Option<(TestDaemon, SmallDisk, Engine)> {
    let mut daemon = TestDaemon::start();
    daemon.kill();
    let disk = SmallDisk::over(&daemon.data.0)?;
    daemon.start_again();
    let engine = Engine::of(&daemon);
    engine.build("talker", &[file("Dockerfile", SERVICE), file("app.wasm", &fs::read(fixture("misbehave")).unwrap())]);
    let mut spec = service("talker");
    spec["HostConfig"]["RestartPolicy"] = json!({"Name": "always"});
    engine.run("talker", &spec);
    Some((daemon, disk, engine))
}

fn log(engine: &Engine, line: &str) {
    engine.published("talker").get(&format!("/log?line={line}&stream=stdout")).expect(200);
}

#[track_caller]
fn says_full(error: Option<String>) {
    let error = error.expect("there is no room for that");
    assert!(error.contains("No space left on device"), "{error}");
}

/// Bytes in use on the disk, by anybody.
fn used(folder: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let size = |entry: fs::DirEntry| match entry.metadata() {
        Ok(meta) if meta.is_dir() => used(&entry.path()),
        Ok(meta) => meta.blocks() * 512 / meta.nlink(),
        Err(_) => 0,
    };
    fs::read_dir(folder).map_or(0, |entries| entries.flatten().map(size).sum())
}

/// Bytes that nothing makes shorter.
fn noise(size: usize) -> Vec<u8> {
    let mut state = 1_u64;
    let step = |_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 56) as u8
    };
    (0..size).map(step).collect()
}

#[test]
fn a_build_or_a_load_that_does_not_fit_changes_nothing() {
    let Some((_daemon, disk, engine)) = start() else { return };
    let images = engine.get("/images/json?all=1").expect(200).text();
    let before = used(&disk.0);
    let large = noise(DISK);
    let dockerfile = file("Dockerfile", b"FROM scratch\nCOPY . /\n");
    // It ends in the context, or (half of it) in the layer made of it.
    for part in [&large[..], &large[..DISK * 2 / 5]] {
        let context = tar(&[dockerfile.clone(), file("weights", part)]);
        says_full(failure(&engine.try_build("t=large", &context).unwrap()));
        says_full(failure(
            &engine.ask("POST", "/images/load", "application/x-tar", &gzip(&large_image(part))).unwrap(),
        ));
    }
    assert_eq!(engine.get("/images/json?all=1").expect(200).text(), images);
    engine.verb("/images/prune").expect(200);
    eventually("all room is given back", || used(&disk.0) <= before + (64 << 10));
    let small = engine.try_build("t=small", &tar(&[dockerfile, file("note", b"x")])).unwrap();
    assert!(built(&small).is_some(), "{}", small.text());
    assert_eq!(engine.published("talker").get("/ok").expect(200).text(), "ok");
}

fn digest(content: &[u8]) -> String {
    use sha2::{Digest, Sha256};
    let hex: String = Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

/// Of an image with this one layer.
fn configuration(layer: &[u8]) -> serde_json::Value {
    json!({
        "architecture": "wasm", "os": "wasi", "config": {},
        "rootfs": {"type": "layers", "diff_ids": [digest(layer)]},
    })
}

/// As `docker save` writes it, with a layer that holds this.
fn large_image(content: &[u8]) -> Vec<u8> {
    let layer = tar(&[file("weights", content)]);
    let config = configuration(&layer);
    let manifest = json!([{"Config": "config.json", "RepoTags": ["large:latest"], "Layers": ["layer.tar"]}]);
    let (config, manifest) = (config.to_string(), manifest.to_string());
    tar(&[
        file("config.json", config.as_bytes()),
        file("layer.tar", &layer),
        file("manifest.json", manifest.as_bytes()),
    ])
}

/// A registry with one image, `large`, of this one layer. Answers for as long as the test lasts.
fn registry(layer: Vec<u8>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let config = configuration(&layer).to_string().into_bytes();
    let kind = |what: &str| format!("application/vnd.oci.image.{what}");
    let describe =
        |what: &str, content: &[u8]| json!({"mediaType": kind(what), "size": content.len(), "digest": digest(content)});
    let manifest = json!({
        "schemaVersion": 2, "mediaType": kind("manifest.v1+json"),
        "config": describe("config.v1+json", &config), "layers": [describe("layer.v1.tar", &layer)],
    });
    let (manifest, manifest_kind) = (manifest.to_string().into_bytes(), kind("manifest.v1+json"));
    let served = Arc::new(move |path: &str| -> (String, Vec<u8>) {
        match path {
            path if path.contains("/manifests/") => (manifest_kind.clone(), manifest.clone()),
            path if path.ends_with(&digest(&config)) => ("application/octet-stream".to_owned(), config.clone()),
            path if path.ends_with(&digest(&layer)) => ("application/octet-stream".to_owned(), layer.clone()),
            _ => ("application/json".to_owned(), b"{}".to_vec()),
        }
    });
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let served = served.clone();
            thread::spawn(move || give(&stream, |path| served(path)));
        }
    });
    address
}

/// Answer one request.
fn give(mut stream: &TcpStream, served: impl Fn(&str) -> (String, Vec<u8>)) {
    // HTTPS is tried first. A hello of TLS has no lines to wait for.
    let mut start = [0];
    if stream.peek(&mut start).is_err() || !start[0].is_ascii_uppercase() {
        return;
    }
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
    let first = lines.next().unwrap_or_default();
    lines.find(String::is_empty);
    let (kind, mut content) = served(first.split(' ').nth(1).unwrap_or_default());
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-length: {}\r\ndocker-content-digest: {}\r\n\
         connection: close\r\n\r\n",
        content.len(),
        digest(&content)
    );
    if first.starts_with("HEAD") {
        content.clear();
    }
    // Who has no room for it leaves early.
    let _ = stream.write_all(&[head.as_bytes(), &content].concat());
}

#[test]
fn a_pull_that_does_not_fit_changes_nothing() {
    let Some((_daemon, disk, engine)) = start() else { return };
    let images = engine.get("/images/json?all=1").expect(200).text();
    let before = used(&disk.0);
    for size in [DISK, DISK * 3 / 5] {
        let name = format!("{}/large", registry(tar(&[file("weights", &noise(size))])));
        let pulled = engine.verb(&format!("/images/create?fromImage={name}&tag=latest"));
        says_full(failure(&pulled));
        engine.get(&format!("/images/{name}:latest/json")).expect(404);
        engine.verb("/images/prune").expect(200);
        eventually("all room is given back", || used(&disk.0) <= before + (64 << 10));
    }
    assert_eq!(engine.get("/images/json?all=1").expect(200).text(), images);
    let name = format!("{}/large", registry(tar(&[file("weights", &noise(1000))])));
    let pulled = engine.verb(&format!("/images/create?fromImage={name}&tag=latest"));
    assert_eq!(failure(&pulled), None, "{}", pulled.text());
    engine.get(&format!("/images/{name}:latest/json")).expect(200);
}

#[test]
fn lines_that_do_not_fit_are_counted_and_services_go_on() {
    let Some((_daemon, disk, engine)) = start() else { return };
    let path = PathBuf::from(engine.inspect("talker")["LogPath"].as_str().unwrap());
    (0..3).for_each(|number| log(&engine, &format!("before-{number}")));
    eventually("the lines are on disk", || fs::read_to_string(&path).is_ok_and(|text| text.lines().count() == 3));
    let ballast = disk.fill();
    // Beyond the block that the log's file has.
    let long = "x".repeat(2000);
    (0..20).for_each(|number| log(&engine, &format!("full-{number}-{long}")));
    let full = engine.logs("talker", "all");
    assert_eq!(full[..3], ["before-0", "before-1", "before-2"]);
    let kept = full.len() - 3;
    assert!(kept < 20, "the disk is full");
    for (number, line) in full[3..].iter().enumerate() {
        assert_eq!(*line, format!("full-{number}-{long}"), "whole lines only");
    }
    fs::remove_file(ballast).unwrap();
    log(&engine, "after");
    let lost = 20 - kept;
    let remark = format!("wharf: {lost} lines of this log were lost: they could not be written to the disk");
    assert_eq!(engine.logs("talker", "2"), [remark, "after".to_owned()]);
    for line in fs::read_to_string(&path).unwrap().lines() {
        assert!(serde_json::from_str::<serde_json::Value>(line).is_ok(), "no record: {line}");
    }
}

#[test]
fn containers_are_made_whole_or_not_at_all_and_survive_a_full_disk() {
    let Some((mut daemon, disk, engine)) = start() else { return };
    let id = engine.inspect("talker")["Id"].as_str().unwrap().to_owned();
    let ballast = disk.fill();
    for path in ["/containers/create?name=late", "/volumes/create", "/networks/create"] {
        let answer =
            engine.post(path, &json!({"Image": "talker", "Name": "late", "Labels": {"long": "x".repeat(9000)}}));
        assert_eq!(answer.status, 500, "{path}: {}", answer.text());
        says_full(failure(&answer));
    }
    says_full(failure(&engine.verb("/images/talker/tag?repo=other")));
    engine.get("/images/other/json").expect(404);
    engine.get("/volumes/late").expect(404);
    engine.get("/networks/late").expect(404);
    assert_eq!(engine.get("/containers/json?all=1").expect(200).json().as_array().unwrap().len(), 1);
    assert_eq!(engine.published("talker").get("/ok").expect(200).text(), "ok");

    // It comes up on a full disk, and all is there.
    daemon.kill();
    daemon.start_again();
    assert_eq!(engine.inspect("talker")["Id"], json!(id));
    eventually("the service answers again", || {
        let running = engine.inspect("talker")["State"]["Running"] == true;
        running && engine.published("talker").get("/ok").status == 200
    });
    // Stopping and removing need no room.
    engine.verb("/containers/talker/stop?t=0").expect(204);
    assert_eq!(engine.inspect("talker")["State"]["Status"], "exited");
    engine.verb("/containers/talker/start").expect(204);
    fs::remove_file(ballast).unwrap();
    engine.create("late", &json!({"Image": "talker"}));
    engine.delete("/containers/talker?force=1").expect(204);
    daemon.kill();
    daemon.start_again();
    let listed = engine.get("/containers/json?all=1").expect(200).json();
    assert_eq!((listed.as_array().unwrap().len(), &listed[0]["Names"][0]), (1, &json!("/late")));
}
