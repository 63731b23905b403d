//! A host that is killed again and again, at any instant of anything it does: what it has acknowledged is there when it
//! is back, whole, and what it has not acknowledged happened or did not, but not by half.
//!
//! `WHARF_KILLS=N` asks for other than 200 kills, `WHARF_SEED=N` for other instants. The traffic is in
//! `support/traffic.rs`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test ends by panicking")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::archives::file;
use support::daemon::TestDaemon;
use support::engine::{Engine, service};
use support::eventually;
use support::guests::{example, fixture, library};
use support::host::WHARF;
use support::traffic::{Builder, KINDS, Keeper, Random, Stage, Tagger, Writer};

const KILLS: usize = 200;

/// Of so many restarts, one is killed before it is ready.
const EARLY: u64 = 8;

/// How names of unfinished files and folders begin or end.
const UNFINISHED: [&str; 6] = [".unfinished-", ".new-", ".gone-", ".tmp", ".next", ".unreadable-"];

fn number(variable: &str, default: usize) -> usize {
    env::var(variable).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{variable}={text}: no number")))
}

/// Everybody who keeps the host busy, and knows what it has promised.
struct Traffic {
    keepers: Vec<Keeper>,
    builder: Builder,
    tagger: Tagger,
    writers: Vec<Writer>,
}

#[test]
fn nothing_acknowledged_is_lost_by_kills_at_any_instant() {
    let (kills, seed) = (number("WHARF_KILLS", KILLS), number("WHARF_SEED", 7));
    let mut random = Random(seed as u64);
    let started = Instant::now();
    let mut daemon = TestDaemon::start();
    let engine = Engine::of(&daemon);
    let mut traffic = prepare(&engine);
    let stage = Stage::default();
    let mut interrupted: BTreeMap<&str, usize> = BTreeMap::new();
    let mut done = 0;
    while done < kills {
        let kind = KINDS[done % KINDS.len()];
        for other in round(&engine, &mut traffic, &stage, kind, &mut random, || daemon.kill()) {
            *interrupted.entry(other).or_default() += 1;
        }
        done += 1;
        while random.below(EARLY) == 0 && done < kills {
            kill_while_it_starts(&daemon, &mut random);
            *interrupted.entry("restart").or_default() += 1;
            done += 1;
        }
        daemon.start_again();
        check(&daemon, &engine, &mut traffic, done);
    }
    println!(
        "{done} kills (seed {seed}) in {:.0} s; in the middle of {interrupted:?}; at most {} answered lines were still \
         on their way to the log",
        started.elapsed().as_secs_f64(),
        traffic.writers.iter().map(|writer| writer.most_lost).max().unwrap_or_default()
    );
    if kills >= KILLS {
        let spared: Vec<_> = KINDS.iter().filter(|kind| !interrupted.contains_key(*kind)).collect();
        assert!(spared.is_empty(), "never killed in the middle of {spared:?}");
    }
    traffic.writers.iter_mut().for_each(|writer| writer.check(&engine, true));
    nothing_is_left(&daemon, &engine);
}

/// Two images, and two services whose policy is `always` and whose lines are counted: one log grows, one rotates.
fn prepare(engine: &Engine) -> Traffic {
    let (hello, misbehave) = (fs::read(example("hello").join("hello.wasm")), fs::read(fixture("misbehave")));
    let dockerfile = b"FROM scratch\nCOPY app.wasm /\nEXPOSE 5000\nENTRYPOINT [\"/app.wasm\"]\n";
    let base = engine.build("base", &[file("Dockerfile", dockerfile), file("app.wasm", &hello.unwrap())]);
    engine.build("talker", &[file("Dockerfile", dockerfile), file("app.wasm", &misbehave.unwrap())]);
    let writer = |name: &'static str, options: Value| {
        let mut spec = service("talker");
        spec["HostConfig"]["RestartPolicy"] = json!({"Name": "always"});
        spec["HostConfig"]["LogConfig"] = json!({"Type": "json-file", "Config": options});
        engine.run(name, &spec);
        Writer::new(name, options["max-size"].is_string())
    };
    Traffic {
        keepers: vec![Keeper::new("a"), Keeper::new("b")],
        builder: Builder::default(),
        tagger: Tagger::new(&base),
        writers: vec![writer("plain", json!({})), writer("rotating", json!({"max-size": "16k", "max-file": "3"}))],
    }
}

/// Traffic of all kinds at once, until the host is killed in or shortly after an operation of this kind. What was under
/// way at that instant.
fn round(
    engine: &Engine,
    traffic: &mut Traffic,
    stage: &Stage,
    kind: &'static str,
    random: &mut Random,
    kill: impl FnOnce(),
) -> Vec<&'static str> {
    let seeds: Vec<u64> = (0..3 + traffic.keepers.len()).map(|_| random.next()).collect();
    let Traffic { keepers, builder, tagger, writers } = traffic;
    for writer in writers.iter_mut() {
        writer.find(engine);
    }
    stage.open();
    thread::scope(|scope| {
        for (keeper, seed) in keepers.iter_mut().zip(&seeds[2..]) {
            scope.spawn(move || keeper.work(engine, stage, Random(*seed)));
        }
        scope.spawn(|| builder.work(engine, stage));
        scope.spawn(|| tagger.work(engine, stage, Random(seeds[0])));
        for writer in writers {
            scope.spawn(|| writer.work(engine, stage));
        }
        stage.wait_for(kind, 1 + random.below(3));
        let usual = stage.usual(kind);
        thread::sleep(usual.mul_f64(random.below(1200) as f64 / 1000.0));
        let under_way = stage.close();
        kill();
        under_way
    })
}

fn kill_while_it_starts(daemon: &TestDaemon, random: &mut Random) {
    let mut command = Command::new(WHARF);
    command.args(["serve", "--http", "127.0.0.1:0", "--data"]).arg(&daemon.data.0).env("ORT_DYLIB_PATH", library());
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    thread::sleep(Duration::from_micros(random.below(150_000)));
    child.kill().unwrap();
    child.wait().unwrap();
}

/// Everything the host has promised, right after it is back.
fn check(daemon: &TestDaemon, engine: &Engine, traffic: &mut Traffic, done: usize) {
    let left = unfinished(&daemon.data.0);
    assert!(left.is_empty(), "kill {done}: left of what was under way: {left:?}");
    let listed = engine.get("/containers/json?all=1").expect(200).json();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let found = listed.as_array().unwrap().iter();
    let mut found: BTreeMap<String, String> =
        found.map(|one| (text(&one["Names"][0])[1..].to_owned(), text(&one["Id"]))).collect();
    for keeper in &mut traffic.keepers {
        keeper.check(&mut found);
    }
    for writer in &mut traffic.writers {
        found.remove(writer.container).unwrap_or_else(|| panic!("kill {done}: {} is gone", writer.container));
        eventually("the service answers again", || {
            let running = engine.inspect(writer.container)["State"]["Running"] == true;
            running && engine.published(writer.container).get("/ok").status == 200
        });
        writer.check(engine, false);
    }
    assert!(found.is_empty(), "kill {done}: nobody asked for these containers, or they were removed: {found:?}");

    let images = engine.get("/images/json").expect(200).json();
    let mut tags: BTreeMap<String, String> = BTreeMap::new();
    for image in images.as_array().unwrap() {
        for tag in image["RepoTags"].as_array().unwrap() {
            tags.insert(text(tag), text(&image["Id"]));
        }
    }
    tags.remove("base:latest").unwrap();
    tags.remove("talker:latest").unwrap();
    traffic.builder.check(&mut tags);
    traffic.tagger.check(&mut tags);
    assert!(tags.is_empty(), "kill {done}: nobody gave these tags, or they were taken back: {tags:?}");
    verify_blobs(&daemon.data.0.join("images"));
}

/// Every blob that the index leads to is there, and is what its name says. Gives their digests.
fn verify_blobs(layout: &Path) -> BTreeSet<String> {
    let mut verified = BTreeSet::new();
    let index: Value = serde_json::from_slice(&fs::read(layout.join("index.json")).unwrap()).unwrap();
    for entry in index["manifests"].as_array().unwrap() {
        let manifest: Value = serde_json::from_slice(&blob(layout, entry, &mut verified)).unwrap();
        blob(layout, &manifest["config"], &mut verified);
        for layer in manifest["layers"].as_array().unwrap() {
            blob(layout, layer, &mut verified);
        }
    }
    verified
}

fn blob(layout: &Path, descriptor: &Value, verified: &mut BTreeSet<String>) -> Vec<u8> {
    use sha2::{Digest, Sha256};
    let digest = descriptor["digest"].as_str().unwrap().strip_prefix("sha256:").unwrap();
    let path = layout.join("blobs/sha256").join(digest);
    let content = fs::read(&path).unwrap_or_else(|error| panic!("a blob of an image is missing: {digest}: {error}"));
    if verified.insert(digest.to_owned()) {
        let found: String = Sha256::digest(&content).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(found, digest, "a blob is not what its name says: {} bytes", content.len());
    }
    content
}

/// Files and folders below that somebody was making when the host was killed.
fn unfinished(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if UNFINISHED.iter().any(|mark| name.starts_with(mark) || name.ends_with(mark)) {
            found.push(entry.path());
        } else if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.extend(unfinished(&entry.path()));
        }
    }
    found
}

/// `system prune -a`, before and after the last containers go.
fn nothing_is_left(daemon: &TestDaemon, engine: &Engine) {
    let layout = daemon.data.0.join("images");
    let here = |folder: PathBuf| -> BTreeSet<String> {
        let entries = fs::read_dir(folder).unwrap().flatten();
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
    };
    prune_all(engine);
    let used = engine.get("/images/json").expect(200).json();
    assert_eq!(used.as_array().unwrap().len(), 1, "only what the services run is used: {used}");
    assert_eq!(here(layout.join("blobs/sha256")), verify_blobs(&layout), "blobs, and what the index leads to");

    for container in ["plain", "rotating"] {
        engine.delete(&format!("/containers/{container}?force=1&v=1")).expect(204);
    }
    prune_all(engine);
    // A volume whose container was never made, or is gone without it, stays until somebody prunes: as with Docker.
    engine.verb("/volumes/prune").expect(200);
    for folder in
        ["images/blobs/sha256", "images/ingest", "cache/layers", "cache/rootfs", "cache/build", "containers", "volumes"]
    {
        assert_eq!(here(daemon.data.0.join(folder)), BTreeSet::new(), "{folder}");
    }
}

fn prune_all(engine: &Engine) {
    for what in ["containers/prune", "networks/prune", "images/prune?filters={\"dangling\":{\"false\":true}}"] {
        engine.verb(&format!("/{}", what.replace('{', "%7B").replace('}', "%7D").replace('"', "%22"))).expect(200);
    }
    engine.verb("/build/prune?all=1").expect(200);
}
