//! What broken Dockerfiles and hostile archives get, as contexts of `docker build` and in `docker load`: a message that
//! says where and what, and a store in which nothing has changed.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test ends by panicking")]

mod support;

use std::fs;

use serde_json::{Value, json};
use support::archives::{Entry, Kind, entry, file, gzip, tar};
use support::daemon::TestDaemon;
use support::engine::{Engine, built, failure};
use support::eventually;
use support::http::Answer;

/// Larger than any disk the tests run on should have to give.
const TEN_GB: u64 = 10 << 30;

const COPY_ALL: &[u8] = b"FROM scratch\nCOPY . /\n";

fn start() -> (TestDaemon, Engine) {
    let daemon = TestDaemon::start();
    let engine = Engine::of(&daemon);
    (daemon, engine)
}

fn build(engine: &Engine, context: &[u8]) -> Answer {
    engine.try_build("t=victim", context).unwrap()
}

/// The request failed, its message holds all these words, and it left nothing: no image, no context, no file elsewhere.
#[track_caller]
fn refused(daemon: &TestDaemon, engine: &Engine, what: &str, answer: &Answer, words: &[&str]) {
    let error = failure(answer).unwrap_or_else(|| panic!("{what}: accepted: {}", answer.text()));
    assert!([200, 400, 413].contains(&answer.status), "{what}: {} {error}", answer.status);
    for word in words {
        assert!(error.contains(word), "{what}: no {word:?} in {error:?}");
    }
    assert_eq!(engine.get("/images/json?all=1").expect(200).json(), json!([]), "{what}");
    eventually("its context is removed", || entries(daemon, "cache/contexts") == 0);
    let outside = ["escaped", "cache/escaped", "cache/contexts/escaped"].map(|name| daemon.data.0.join(name));
    assert!(outside.iter().all(|path| !path.exists()), "{what}: a file lies outside");
}

fn entries(daemon: &TestDaemon, folder: &str) -> usize {
    fs::read_dir(daemon.data.0.join(folder)).map_or(0, Iterator::count)
}

/// Kilobytes on disk below the data folder, holes not counted.
fn on_disk(daemon: &TestDaemon) -> u64 {
    fn sum(folder: &std::path::Path) -> u64 {
        use std::os::unix::fs::MetadataExt;
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        let size = |entry: fs::DirEntry| match entry.metadata() {
            Ok(meta) if meta.is_dir() => sum(&entry.path()),
            Ok(meta) => meta.blocks() / 2,
            Err(_) => 0,
        };
        entries.map(size).sum()
    }
    sum(&daemon.data.0)
}

#[test]
fn a_broken_dockerfile_is_told_by_line_and_column() {
    let (daemon, engine) = start();
    for (dockerfile, words) in [
        ("FROM scratch\nFOO bar\n", ["dockerfile parse error on line 2: unknown instruction: FOO", "Dockerfile:2:1"]),
        ("", ["cannot be empty", "Dockerfile"]),
        ("# only words\n", ["dockerfile parse error on line 1:", "Dockerfile:1:1"]),
        ("\n\n  COPY a /\n", ["dockerfile parse error on line 3: no build stage", "Dockerfile:3:3"]),
        ("FROM scratch\nCOPY a\n", ["dockerfile parse error on line 2:", "Dockerfile:2:"]),
        ("FROM scratch\nENV A=\"x\n", ["dockerfile parse error on line 2:", "Dockerfile:2:"]),
        ("FROM scratch\nCOPY --form=x a /\n", ["dockerfile parse error on line 2:", "Dockerfile:2:"]),
        ("FROM scratch\nCOPY a \\\n  b --c=\"\n", ["dockerfile parse error on line 3:", "Dockerfile:3:"]),
        ("FROM scratch\nEXPOSE\n", ["requires at least one argument", "Dockerfile:2:"]),
        ("FROM scratch\nRUN apt-get update\n", ["Dockerfile:2:1", "RUN"]),
        ("FROM scratch\nCOPY nowhere /\n", ["file not found in build context", "nowhere"]),
        ("FROM scratch\nCOPY --from=later /a /\nFROM scratch AS later\n", ["Dockerfile:2:", "later"]),
        ("FROM scratch\nCOPY <<END /a\nno end\n", ["dockerfile parse error on line 2:", "Dockerfile:2:"]),
    ] {
        let answer = build(&engine, &tar(&[file("Dockerfile", dockerfile.as_bytes())]));
        refused(&daemon, &engine, dockerfile, &answer, &words);
    }
    let binary = build(&engine, &tar(&[file("Dockerfile", b"FROM scratch\n\xff\xfe\n")]));
    refused(&daemon, &engine, "no UTF-8", &binary, &["Dockerfile"]);
    let missing = engine.try_build("dockerfile=Other", &tar(&[file("Dockerfile", COPY_ALL)])).unwrap();
    refused(&daemon, &engine, "another name", &missing, &["Cannot locate specified Dockerfile: Other"]);
    let climbing = engine.try_build("dockerfile=../../wharf.sock", &tar(&[file("Dockerfile", COPY_ALL)])).unwrap();
    refused(&daemon, &engine, "a Dockerfile outside", &climbing, &[]);
    for query in ["t=UPPER", "t=a:b:c", "t=victim&buildargs=%7B", "t=victim&labels=[1]"] {
        let answer = engine.try_build(query, &tar(&[file("Dockerfile", COPY_ALL)])).unwrap();
        assert_eq!(answer.status, 400, "{query}: {}", answer.text());
    }
}

#[test]
fn a_hostile_context_stays_outside() {
    let (daemon, engine) = start();
    let before = on_disk(&daemon);
    let one = |name: &'static str, kind| vec![entry(name, kind)];
    let hostile: Vec<(&str, Vec<Entry<'_>>, &[&str])> = vec![
        ("a name that climbs", vec![file("../escaped", b"x")], &["../escaped", "climbs out"]),
        ("a name that climbs late", vec![file("a/../../escaped", b"x")], &["climbs out"]),
        ("an absolute name", vec![file("/escaped", b"x")], &["/escaped", "absolute"]),
        ("a link out", one("link", Kind::Link("../../escaped")), &["link", "outside"]),
        ("a link out of a folder", one("a/b/link", Kind::Link("../../../escaped")), &["outside"]),
        ("a hard link out", one("link", Kind::HardLink("../escaped")), &["../escaped"]),
        ("a hard link to the machine", one("link", Kind::HardLink("/etc/passwd")), &["/etc/passwd"]),
        ("a hard link to nothing", one("link", Kind::HardLink("nothing")), &["nothing"]),
        ("a character device", one("dev/null", Kind::CharDevice), &["dev/null", "device"]),
        ("a block device", one("dev/sda", Kind::BlockDevice), &["dev/sda", "device"]),
        ("a pipe", one("pipe", Kind::Fifo), &["pipe"]),
        ("a sparse file of 10 GB", one("weights.onnx", Kind::Sparse(TEN_GB)), &["weights.onnx", "sparse or a bomb"]),
        ("a file that is not there", one("weights.onnx", Kind::Claims(TEN_GB)), &["cut short"]),
        ("a file without a name", vec![file("", b"x")], &[]),
    ];
    for (what, entries, words) in hostile {
        let mut entries = entries;
        entries.insert(0, file("Dockerfile", COPY_ALL));
        let answer = build(&engine, &tar(&entries));
        refused(&daemon, &engine, what, &answer, words);
        refused(&daemon, &engine, what, &build(&engine, &gzip(&tar(&entries))), words);
    }
    // Links within are what a file system makes of them: they cannot be followed out.
    let through = [
        file("Dockerfile", b"FROM scratch\nCOPY . /\n"),
        entry("up", Kind::Link("/../..")),
        file("up/escaped", b"x"),
        entry("etc", Kind::Link("/etc")),
        file("etc/escaped", b"x"),
    ];
    let answer = build(&engine, &tar(&through));
    assert!(answer.status == 200 || answer.status == 400, "{}", answer.text());
    assert!(!std::path::Path::new("/etc/escaped").exists());
    assert!(!daemon.data.0.join("escaped").exists() && !daemon.data.0.join("cache/escaped").exists());
    engine.verb("/images/prune?filters=%7B%22dangling%22%3A%7B%22false%22%3Atrue%7D%7D").expect(200);
    let grown = on_disk(&daemon).saturating_sub(before);
    assert!(grown < 1000, "{grown} kB are left");
    let host = daemon.host();
    assert!(host.peak_rss() < 500, "{} MiB", host.peak_rss());
}

#[test]
fn a_damaged_context_is_no_context() {
    let (daemon, engine) = start();
    let noise: Vec<u8> = (0..200_000_u32).map(|number| (number.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let honest = tar(&[file("Dockerfile", COPY_ALL), file("noise", &noise)]);
    let packed = gzip(&honest);
    for (what, context) in [
        ("nothing", Vec::new()),
        ("text", b"this is no archive, however long one looks at it".repeat(50)),
        ("noise", noise.clone()),
        ("half a tar", honest[..honest.len() / 2].to_vec()),
        ("half a gzip", packed[..packed.len() / 2].to_vec()),
        ("a gzip without its end", packed[..packed.len() - 8].to_vec()),
        ("a gzip's head", packed[..10].to_vec()),
        ("a gzip with a wrong checksum", {
            let mut wrong = packed.clone();
            let at = wrong.len() - 6;
            wrong[at] ^= 0xff;
            wrong
        }),
        ("zstd's first bytes", vec![0x28, 0xb5, 0x2f, 0xfd, 0, 0]),
        ("bzip2", b"BZh91AY&SY".to_vec()),
    ] {
        let answer = build(&engine, &context);
        refused(&daemon, &engine, what, &answer, &[]);
        assert_eq!(answer.status, 400, "{what}: {}", answer.text());
    }
}

#[test]
fn the_last_of_two_files_of_one_name_counts() {
    let (_daemon, engine) = start();
    let dockerfile = file("Dockerfile", COPY_ALL);
    let once = engine.build("once", &[dockerfile.clone(), file("note", b"second")]);
    let twice = engine.build("twice", &[dockerfile.clone(), file("note", b"the first"), file("note", b"second")]);
    assert_eq!(once, twice, "the same files, the same image");
    let folder = engine
        .build("folder", &[dockerfile, entry("note", Kind::Folder), file("note/inner", b"x"), file("note", b"second")]);
    assert_eq!(once, folder, "a file takes a folder's place");
}

#[test]
fn garbage_is_not_loaded() {
    let (daemon, engine) = start();
    let layer = tar(&[file("app", b"x")]);
    let manifest = |config: &str, layer: &str| {
        json!([{"Config": config, "RepoTags": ["victim:latest"], "Layers": [layer]}]).to_string()
    };
    let config = json!({
        "architecture": "wasm", "os": "wasi", "config": {},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{}", "0".repeat(64))]},
    });
    let config = config.to_string();
    let index = json!({"schemaVersion": 2, "manifests": [{
        "mediaType": "application/vnd.oci.image.manifest.v1+json", "size": 2,
        "digest": format!("sha256:{}", "0".repeat(64)),
    }]});
    let index = index.to_string();
    let (whole, outside, absolute) = (
        manifest("config.json", "layer.tar"),
        manifest("../../../wharf.sock", "layer.tar"),
        manifest("/etc/hosts", "x"),
    );
    let blob = format!("blobs/sha256/{}", "0".repeat(64));
    for (what, archive) in [
        ("nothing", Vec::new()),
        ("text", b"no archive".to_vec()),
        ("no image", tar(&[file("readme", b"hello")])),
        ("a manifest that is no JSON", tar(&[file("manifest.json", b"[{")])),
        ("a manifest of another shape", tar(&[file("manifest.json", b"{\"Config\":1}")])),
        ("an empty manifest", tar(&[file("manifest.json", b"[]")])),
        ("missing files", tar(&[file("manifest.json", whole.as_bytes())])),
        ("files outside", tar(&[file("manifest.json", outside.as_bytes()), file("layer.tar", &layer)])),
        ("the machine's files", tar(&[file("manifest.json", absolute.as_bytes())])),
        (
            "a layer that is another",
            tar(&[
                file("manifest.json", whole.as_bytes()),
                file("config.json", config.as_bytes()),
                file("layer.tar", &layer),
            ]),
        ),
        (
            "a blob that is another",
            tar(&[
                file("oci-layout", b"{\"imageLayoutVersion\":\"1.0.0\"}"),
                file("index.json", index.as_bytes()),
                file(&blob, b"{}"),
            ]),
        ),
        ("a file that climbs", tar(&[file("../../escaped", b"x"), file("manifest.json", b"[]")])),
    ] {
        let answer = engine.ask("POST", "/images/load?quiet=1", "application/x-tar", &archive).unwrap();
        refused(&daemon, &engine, what, &answer, &[]);
    }
    // Half of what was saved is not loaded by half.
    engine.build("good", &[file("Dockerfile", COPY_ALL), file("note", &[7; 100_000])]);
    let saved = engine.get("/images/get?names=good").expect(200).body;
    let answer = engine.ask("POST", "/images/load", "application/x-tar", &saved[..saved.len() / 2]).unwrap();
    assert!(failure(&answer).is_some(), "{}", answer.text());
    let listed: Value = engine.get("/images/json?all=1").expect(200).json();
    assert_eq!(listed.as_array().unwrap().len(), 1, "{listed}");
    let whole = engine.ask("POST", "/images/load", "application/x-tar", &saved).unwrap().expect(200);
    assert!(whole.text().contains("Loaded image: good:latest"), "{}", whole.text());
    assert!(built(&build(&engine, &tar(&[file("Dockerfile", COPY_ALL)]))).is_some());
}
