//! Copying in and out, and what must not be possible that way.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::path::Path;

use tar::{EntryType, Header};

use super::*;
use crate::container::fixture::{FakeRuntime, add_image, spec};
use crate::container::spec::{MountKind, MountSpec, Spec};
use crate::container::{Containers, Options};
use crate::image::Images;

struct Bench {
    folder: tempfile::TempDir,
    containers: Containers,
    id: String,
}

/// A container with a volume at /data, a bind at /host, and one that is read-only at /fixed.
async fn bench() -> Bench {
    let folder = tempfile::tempdir().unwrap();
    let images = Images::open(folder.path()).unwrap();
    add_image(&images);
    let runtime = Arc::new(FakeRuntime::default());
    let containers = Containers::open(Options::new(folder.path().into()), images, runtime).unwrap();
    fs::create_dir_all(folder.path().join("bind")).unwrap();
    fs::write(folder.path().join("secret"), "secret").unwrap();
    let mount = |kind, source: &str, target: &str, read_only| MountSpec {
        kind,
        source: source.to_owned(),
        target: target.into(),
        read_only,
        anonymous: false,
        create_source: false,
        no_copy: false,
    };
    let bind = folder.path().join("bind").display().to_string();
    let mounts = vec![
        mount(MountKind::Volume, "vol", "/data", false),
        mount(MountKind::Bind, &bind, "/host", false),
        mount(MountKind::Bind, &bind, "/fixed", true),
        mount(MountKind::Tmpfs, "", "/tmp", false),
    ];
    let id = containers.create(Some("box"), Spec { mounts, ..spec() }).await.unwrap().id;
    Bench { folder, containers, id }
}

impl Bench {
    fn files(&self) -> Files {
        self.containers.files("box").unwrap()
    }

    fn volume(&self, path: &str) -> PathBuf {
        self.folder.path().join("volumes/vol/_data").join(path)
    }

    fn put(&self, path: &str, archive: &[u8]) -> Result<()> {
        self.files().unpack(path, &mut &archive[..], Clash::Refused)
    }

    /// Names in the archive, and the text of its files.
    fn get(&self, path: &str) -> Vec<String> {
        let mut packed = Vec::new();
        self.files().pack(path, &mut packed).unwrap();
        listed(&packed)
    }
}

fn listed(packed: &[u8]) -> Vec<String> {
    let mut archive = tar::Archive::new(packed);
    let mut names = Vec::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let mut text = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        if let Some(target) = entry.link_name().unwrap() {
            text += &format!(" -> {}", target.display());
        }
        let mut content = String::new();
        entry.read_to_string(&mut content).unwrap();
        names.push(if content.is_empty() { text } else { format!("{text}={content}") });
    }
    names
}

/// Entries by name, kind, and content or link.
fn archive(entries: &[(&str, EntryType, &str)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, kind, content) in entries {
        let mut header = Header::new_gnu();
        header.set_entry_type(*kind);
        header.set_mode(0o4755);
        header.set_mtime(1_700_000_000);
        let is_link = matches!(kind, EntryType::Symlink | EntryType::Link);
        let gnu = header.as_gnu_mut().unwrap();
        gnu.name[..name.len()].copy_from_slice(name.as_bytes());
        if is_link {
            gnu.linkname[..content.len()].copy_from_slice(content.as_bytes());
        }
        header.set_size(if is_link { 0 } else { content.len() as u64 });
        header.set_cksum();
        bytes.write_all(header.as_bytes()).unwrap();
        if !is_link {
            bytes.write_all(content.as_bytes()).unwrap();
            bytes.resize(bytes.len().next_multiple_of(512), 0);
        }
    }
    bytes.resize(bytes.len() + 1024, 0);
    bytes
}

#[tokio::test]
async fn what_goes_into_a_volume_comes_out_again() {
    let bench = bench().await;
    let long = "x/".repeat(70) + "deep";
    let packed = archive(&[
        ("a", EntryType::Directory, ""),
        ("a/one", EntryType::Regular, "1"),
        ("/b/two", EntryType::Regular, "2"),
        ("a/link", EntryType::Symlink, "../b/two"),
        ("a/hard", EntryType::Link, "a/one"),
    ]);
    bench.put("/data", &packed).unwrap();
    bench.put("/data/.", &packed).unwrap();
    assert_eq!(fs::read_to_string(bench.volume("a/hard")).unwrap(), "1");
    fs::create_dir_all(bench.volume(&long).parent().unwrap()).unwrap();
    fs::write(bench.volume(&long), "3").unwrap();
    assert_eq!(bench.get("/data/a"), ["a/", "a/hard=1", "a/link -> ../b/two", "a/one=1"]);
    assert_eq!(bench.get("/data/a/."), ["./", "./hard=1", "./link -> ../b/two", "./one=1"]);
    assert_eq!(bench.get("data/a/one"), ["one=1"]);
    assert_eq!(bench.get("/data/a/link"), ["link -> ../b/two"]);
    assert!(bench.get("/data").contains(&format!("data/{long}=3")), "names longer than a header");
    assert_eq!(bench.get("/")[..2], ["/".to_owned(), "/data/".to_owned()]);
    let stat = bench.files().stat("/data/a/link").unwrap();
    assert_eq!((stat.kind, stat.link_target.as_str(), stat.name.as_str()), (PathKind::Link, "/data/b/two", "link"));
    let stat = bench.files().stat("/data/a/one").unwrap();
    assert_eq!((stat.size, stat.mode), (1, 0o755), "nothing set-uid");
    assert_eq!(stat.modified, SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000));
}

#[tokio::test]
async fn the_image_and_what_is_read_only_are_not_written() {
    let bench = bench().await;
    let packed = archive(&[("f", EntryType::Regular, "1")]);
    for (path, words) in [
        ("/", "container rootfs is marked read-only: / is the image's"),
        ("/fixed", "mounted volume is marked read-only"),
        ("/tmp", "start the container first"),
    ] {
        let error = bench.put(path, &packed).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Forbidden, "{path}");
        assert!(error.to_string().contains(words), "{error}");
    }
    let error = bench.put("/nothing", &packed).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert_eq!(error.to_string(), "Could not find the file /nothing in container box");
    fs::write(bench.volume("file"), "").unwrap();
    assert_eq!(bench.put("/data/file", &packed).unwrap_err().to_string(), "extraction point is not a directory");
    assert!(bench.put("/data", b"no tar at all").is_err());
    assert!(bench.files().stat("/data/file/.").is_err() && bench.files().stat("/data/file/x").is_err());
}

#[tokio::test]
async fn nothing_is_written_outside() {
    let bench = bench().await;
    let outside = bench.folder.path().to_owned();
    symlink("../../..", bench.volume("up")).unwrap();
    symlink(&outside, bench.volume("absolute")).unwrap();
    symlink("../../../secret", bench.volume("file")).unwrap();
    symlink("/host", bench.volume("over")).unwrap();
    for (name, kind, content) in [
        ("../escaped", EntryType::Regular, "x"),
        ("a/../../escaped", EntryType::Regular, "x"),
        ("up/escaped", EntryType::Regular, "x"),
        ("absolute/escaped", EntryType::Regular, "x"),
        ("link", EntryType::Symlink, "../escaped"),
        ("a/link", EntryType::Symlink, "b/../../../escaped"),
        ("hard", EntryType::Link, "../secret"),
        ("hard", EntryType::Link, "file"),
        ("hard", EntryType::Link, "up/secret"),
        ("null", EntryType::Char, ""),
        ("disk", EntryType::Block, ""),
        ("pipe", EntryType::Fifo, ""),
        ("sparse", EntryType::GNUSparse, ""),
        ("odd", EntryType::new(b'Z'), ""),
        ("empty", EntryType::Symlink, ""),
    ] {
        let refused = bench.put("/data", &archive(&[(name, kind, content)]));
        assert!(refused.is_err(), "{name} {kind:?}");
        let kind = refused.unwrap_err().kind();
        assert_ne!(kind, ErrorKind::Io, "{name} {kind:?}");
    }
    // A link is replaced, not written through; one into another mount is followed, as the container would.
    bench
        .put("/data", &archive(&[("file", EntryType::Regular, "new"), ("over/f", EntryType::Regular, "there")]))
        .unwrap();
    assert_eq!(fs::read_to_string(outside.join("secret")).unwrap(), "secret");
    assert_eq!(fs::read_to_string(outside.join("bind/f")).unwrap(), "there");
    assert!(!outside.join("escaped").exists() && !outside.parent().unwrap().join("escaped").exists());
    // What a half-sent archive held back leaves nothing.
    let packed = archive(&[("cut", EntryType::Regular, &"x".repeat(4000))]);
    assert!(bench.put("/data", &packed[..2048]).is_err());
    let left: Vec<_> = fs::read_dir(bench.volume("")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(
        !left.iter().any(|name| name.to_string_lossy().contains("cut") || name.to_string_lossy().starts_with(".wharf"))
    );
}

#[tokio::test]
async fn folders_and_files_do_not_take_each_others_place_unasked() {
    let bench = bench().await;
    fs::create_dir_all(bench.volume("folder/below")).unwrap();
    fs::write(bench.volume("file"), "").unwrap();
    for (name, kind, words) in [
        ("folder", EntryType::Regular, "cannot overwrite directory \"/data/folder\" with non-directory"),
        ("file", EntryType::Directory, "cannot overwrite non-directory \"/data/file\" with directory"),
    ] {
        let packed = archive(&[(name, kind, "")]);
        let error = bench.put("/data", &packed).unwrap_err();
        assert!(error.to_string().contains(words), "{error}");
        bench.files().unpack("/data", &mut &packed[..], Clash::Replaced).unwrap();
        assert_eq!(bench.volume(name).is_dir(), kind == EntryType::Directory);
    }
}

#[tokio::test]
async fn an_export_has_the_root_without_volumes_and_a_diff_what_mounts_needed() {
    let bench = bench().await;
    fs::write(bench.volume("note"), "kept").unwrap();
    let mut packed = Vec::new();
    bench.files().export(&mut packed).unwrap();
    assert_eq!(listed(&packed), ["data/", "fixed/", "host/", "tmp/"]);
    assert!(bench.files().changes().is_empty(), "it was never started");
    bench.containers.start(&bench.id).await.unwrap();
    let changes = bench.files().changes();
    let added = ["/data", "/fixed", "/host", "/tmp"].map(|path| Change::Added(path.into()));
    assert_eq!(changes, added);
    assert!(Path::new("/data").is_absolute());
}
