//! Archives out and in, also those of others and those that lie.

use std::io::Read;

use serde_json::{Value, json};
use tar::{Archive, Builder, EntryType};

use super::Loaded;
use crate::error::{Error, ErrorKind};
use crate::image::digest::Digest;
use crate::image::manifest::media;
use crate::image::tests::{Store, entry, gzip, listing, references, tar};

fn saved(store: &Store, names: &[&str]) -> Vec<u8> {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut out = Vec::new();
    store.images.save(&names, &mut out).unwrap();
    out
}

fn load(store: &Store, archive: &[u8]) -> Result<Vec<Loaded>, Error> {
    store.images.load(&mut &archive[..], &|_| ())
}

fn tag(name: &str) -> Loaded {
    Loaded::Tag(name.to_owned())
}

/// Paths and contents, folders without content.
fn files(archive: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    for file in Archive::new(archive).entries().unwrap() {
        let mut file = file.unwrap();
        let path = file.path().unwrap().display().to_string();
        let mut content = Vec::new();
        file.read_to_end(&mut content).unwrap();
        found.push((path, content));
    }
    found
}

fn document(archive: &[u8], path: &str) -> Value {
    let files = files(archive);
    serde_json::from_slice(&files.iter().find(|(name, _)| name == path).unwrap().1).unwrap()
}

/// The archive with one file changed, added or (with `None`) left out.
fn with(archive: &[u8], path: &str, content: Option<&[u8]>) -> Vec<u8> {
    let mut out = Builder::new(Vec::new());
    for (name, old) in files(archive).iter().filter(|(name, _)| name != path) {
        let kind = if name.ends_with('/') { EntryType::Directory } else { EntryType::Regular };
        entry(&mut out, kind, name, "", old);
    }
    if let Some(content) = content {
        entry(&mut out, EntryType::Regular, path, "", content);
    }
    out.into_inner().unwrap()
}

fn blob(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

#[test]
fn an_archive_is_a_layout_and_dockers() {
    let store = Store::new();
    let layer = tar(&[("app.wasm", "one")]);
    let image = store.stack(std::slice::from_ref(&layer), &["app", "localhost:5000/app:v2"]).unwrap();
    let archive = saved(&store, &["app", "localhost:5000/app:v2", "app"]);
    assert_eq!(archive, saved(&store, &["localhost:5000/app:v2", "app"]));
    let index = document(&archive, "index.json");
    let names: Vec<(&str, &str)> = index["manifests"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| &entry["annotations"])
        .map(|it| (&it["io.containerd.image.name"], &it["org.opencontainers.image.ref.name"]))
        .map(|(name, tag)| (name.as_str().unwrap(), tag.as_str().unwrap()))
        .collect();
    assert_eq!(names, [("docker.io/library/app:latest", "latest"), ("localhost:5000/app:v2", "v2")]);
    let expected = json!([{"Config": blob(&image.id), "RepoTags": ["app:latest", "localhost:5000/app:v2"],
        "Layers": [blob(&Digest::of(&layer))]}]);
    assert_eq!(document(&archive, "manifest.json"), expected);
    assert_eq!(document(&archive, "oci-layout")["imageLayoutVersion"], "1.0.0");
}

#[test]
fn what_was_saved_is_loaded() {
    let store = Store::new();
    let (one, two) = (store.image("one", &["app", "app:v2"]), store.image("two", &["web"]));
    let archive = saved(&store, &["app", "app:v2", two.id.short()]);
    for packed in [archive.clone(), gzip(&archive), zstd::encode_all(&archive[..], 0).unwrap()] {
        let other = Store::new();
        // Twice: what is there already does no harm.
        for _ in 0..2 {
            let loaded = load(&other, &packed).unwrap();
            assert_eq!(loaded, [tag("app:latest"), tag("app:v2"), Loaded::Id(two.id.clone())]);
        }
        let found = other.images.find("app:v2").unwrap();
        assert_eq!((&found.id, &found.manifest, found.size), (&one.id, &one.manifest, 3));
        assert_eq!(listing(&other.images.rootfs(&two.id).unwrap()), ["app.wasm = two"]);
        assert_eq!(std::fs::read_dir(other.path("cache/work")).unwrap().count(), 0);
    }
}

#[test]
fn packed_layers_leave_plain() {
    let store = Store::new();
    let layer = tar(&[("app.wasm", "packed")]);
    for (kind, packed) in
        [(media::LAYER_GZIP, gzip(&layer)), (media::LAYER_ZSTD, zstd::encode_all(&layer[..], 0).unwrap())]
    {
        let (manifest, id) = store.blobs_of(&[(kind, packed, Digest::of(&layer))], &[]);
        store.images.commit_manifest(&manifest, media::MANIFEST, &references(&["app"]), None).unwrap();
        let archive = saved(&store, &["app"]);
        assert!(files(&archive).contains(&(blob(&Digest::of(&layer)), layer.clone())));
        let other = Store::new();
        assert_eq!(load(&other, &archive).unwrap(), [tag("app:latest")]);
        assert_eq!(other.images.find("app").unwrap().id, id);
    }
}

#[test]
fn a_bare_component_travels() {
    let store = Store::new();
    let wasm = b"\0asm".to_vec();
    let (manifest, id) = store.blobs_of(&[(media::WASM[0], wasm.clone(), Digest::of(&wasm))], &[]);
    store.images.commit_manifest(&manifest, media::MANIFEST, &references(&["app"]), None).unwrap();
    let other = Store::new();
    load(&other, &saved(&store, &["app"])).unwrap();
    assert_eq!(other.images.find("app").unwrap().id, id);
}

#[test]
fn dockers_forms_old_and_new_are_loaded() {
    let store = Store::new();
    let layers = [tar(&[("app.wasm", "one")]), tar(&[("more", "two")])];
    let image = store.stack(&layers, &["app"]).unwrap();
    let config = store.images.blobs().read(&image.id).unwrap();
    let old = |packed: bool| {
        let mut out = Builder::new(Vec::new());
        let mut put = |name: &str, content: &[u8]| entry(&mut out, EntryType::Regular, name, "", content);
        put(&format!("{}.json", image.id.hex()), &config);
        put("1/layer.tar", &if packed { gzip(&layers[0]) } else { layers[0].clone() });
        put("1/VERSION", b"1.0");
        put("real.tar", &layers[1]);
        let manifest = json!([{"Config": format!("{}.json", image.id.hex()), "RepoTags": ["docker.io/library/old:1"],
            "Layers": ["1/layer.tar", "2/layer.tar"]}]);
        put("manifest.json", manifest.to_string().as_bytes());
        put("repositories", br#"{"old":{"1":"2"}}"#);
        // Equal layers were links in their day.
        entry(&mut out, EntryType::Symlink, "2/layer.tar", "../real.tar", b"");
        out.into_inner().unwrap()
    };
    let new = with(&saved(&store, &["app"]), "index.json", None);
    for (archive, name) in [(old(false), "old:1"), (old(true), "old:1"), (new, "app:latest")] {
        let other = Store::new();
        assert_eq!(load(&other, &archive).unwrap(), [tag(name)]);
        assert_eq!(other.images.find(name).unwrap().id, image.id);
        assert_eq!(listing(&other.images.rootfs(&image.id).unwrap()), ["app.wasm = one", "more = two"]);
    }
}

#[test]
fn layouts_of_others_are_loaded() {
    let store = Store::new();
    let image = store.image("one", &["app"]);
    let archive = with(&saved(&store, &["app"]), "manifest.json", None);
    let manifest = json!({"mediaType": media::MANIFEST, "digest": image.manifest, "size": image.manifest_size});
    let named = |name: &str| {
        let mut entry = manifest.clone();
        entry["annotations"] = json!({"org.opencontainers.image.ref.name": name});
        entry
    };
    let attestation = json!({"mediaType": media::MANIFEST, "digest": Digest::of(b"none"), "size": 4,
        "annotations": {"vnd.docker.reference.type": "attestation-manifest"}});
    let id = || Loaded::Id(image.id.clone());
    for (entries, expected) in [
        (json!([manifest]), vec![id()]),
        (json!([attestation, manifest]), vec![id()]),
        (json!([named("v1")]), vec![id()]),
        (json!([named("web:v1"), named("web:v2"), named("web:v1")]), vec![tag("web:v1"), tag("web:v2")]),
    ] {
        let index = json!({"schemaVersion": 2, "manifests": entries}).to_string();
        let other = Store::new();
        assert_eq!(load(&other, &with(&archive, "index.json", Some(index.as_bytes()))).unwrap(), expected, "{index}");
    }
    // One image for several platforms, of which only ours is there.
    let mut ours = manifest.clone();
    ours["platform"] = json!({"os": "wasi", "architecture": "wasm"});
    let theirs = json!({"mediaType": media::MANIFEST, "digest": Digest::of(b"none"), "size": 4,
        "platform": {"os": "linux", "architecture": "s390x"}});
    let nested = json!({"schemaVersion": 2, "mediaType": media::INDEX, "manifests": [theirs, ours]}).to_string();
    let digest = Digest::of(nested.as_bytes());
    let index = json!({"schemaVersion": 2, "manifests": [{"mediaType": media::INDEX, "digest": digest,
        "size": nested.len(), "annotations": {"io.containerd.image.name": "docker.io/library/multi:1"}}]});
    let archive = with(&archive, &blob(&digest), Some(nested.as_bytes()));
    let archive = with(&archive, "index.json", Some(index.to_string().as_bytes()));
    assert_eq!(load(&Store::new(), &archive).unwrap(), [tag("multi:1")]);
}

#[test]
fn lies_are_refused_and_leave_nothing() {
    let store = Store::new();
    let layer = tar(&[("app.wasm", "one")]);
    let image = store.stack(std::slice::from_ref(&layer), &["app"]).unwrap();
    let archive = saved(&store, &["app"]);
    let docker_only = with(&archive, "index.json", None);
    let index = |change: fn(&mut Value)| {
        let mut index = document(&archive, "index.json");
        change(&mut index["manifests"][0]);
        with(&archive, "index.json", Some(index.to_string().as_bytes()))
    };
    let docker = |change: fn(&mut Value)| {
        let mut listed = document(&archive, "manifest.json");
        change(&mut listed[0]);
        with(&docker_only, "manifest.json", Some(listed.to_string().as_bytes()))
    };
    let layer = blob(&Digest::of(&layer));
    for (what, archive, text) in [
        ("other layer", with(&archive, &layer, Some(b"other")), "is not what its digest says"),
        ("other layer", with(&docker_only, &layer, Some(b"other")), "is not what its digest says"),
        ("other config", with(&archive, &blob(&image.id), Some(b"{}")), "is not what its digest says"),
        ("other manifest", with(&archive, &blob(&image.manifest), Some(b"{}")), "is not what its digest says"),
        ("no layer", with(&archive, &layer, None), "it has no file"),
        ("no layer", with(&docker_only, &layer, None), "it has no file"),
        ("no manifest", with(&archive, &blob(&image.manifest), None), "it has no file"),
        ("size", index(|entry| entry["size"] = json!(1)), "and is said to have 1"),
        ("digest", index(|entry| entry["digest"] = json!("sha256:../../etc/passwd")), "is no index of images"),
        ("name", index(|entry| entry["annotations"]["io.containerd.image.name"] = json!("A b")), "calls an image"),
        ("name", docker(|image| image["RepoTags"] = json!(["A b"])), "calls an image"),
        ("layers", docker(|image| image["Layers"] = json!([])), "names 1 layers, and 0 are listed"),
        ("path", docker(|image| image["Layers"][0] = json!("../../etc/passwd")), "climbs out"),
        ("path", docker(|image| image["Config"] = json!("/etc/passwd")), "absolute"),
        ("folder", docker(|image| image["Config"] = json!("blobs")), "it has no file"),
        ("no json", with(&archive, "index.json", Some(b"{")), "is no index of images"),
        ("no json", with(&docker_only, "manifest.json", Some(b"{")), "is no list of images"),
        ("empty", with(&docker_only, "manifest.json", Some(b"[]")), "holds no image"),
        ("a file system", tar(&[("app.wasm", "one")]), "has neither index.json nor manifest.json"),
        ("ancient", tar(&[("repositories", "{}")]), "older than 1.10"),
        ("climbs", with(&archive, "../x", Some(b"")), "climbs out"),
        ("cut", archive[..archive.len() / 2].to_vec(), "damaged, cut short"),
        ("cut gzip", gzip(&archive)[..200].to_vec(), "damaged, cut short"),
        ("bomb", crate::image::tests::bomb(16 << 20), "sparse or a bomb"),
    ] {
        let other = Store::new();
        let error = load(&other, &archive).unwrap_err();
        assert!(error.to_string().contains(text), "{what}: {}", error.chain());
        other.assert_empty();
    }
}

#[test]
fn one_bad_image_of_two_names_neither() {
    let store = Store::new();
    store.image("good", &["good"]);
    let bad = store.image("bad", &["bad"]);
    let archive = with(&saved(&store, &["good", "bad"]), &blob(&bad.id), Some(b"{}"));
    for archive in [with(&archive, "index.json", None), archive] {
        let other = Store::new();
        let before = other.image("before", &["good"]);
        let counts = other.counts();
        load(&other, &archive).unwrap_err();
        assert_eq!(other.images.find("good").unwrap().id, before.id);
        assert_eq!((other.images.list().unwrap().len(), other.counts()), (1, counts));
    }
}

#[test]
fn a_load_mends_a_damaged_store() {
    let store = Store::new();
    let image = store.image("one", &["app"]);
    let archive = saved(&store, &["app"]);
    std::fs::write(store.images.blobs().path(&image.id), "{}").unwrap();
    store.images.collect_garbage().unwrap();
    assert_eq!(store.images.find("app").unwrap_err().kind(), ErrorKind::NotFound);
    load(&store, &archive).unwrap();
    assert_eq!(store.images.find("app").unwrap().id, image.id);
}

#[test]
fn saving_what_is_not_there_writes_nothing() {
    let mut out = Vec::new();
    let error = Store::new().images.save(&["app".into()], &mut out).unwrap_err();
    assert_eq!((error.kind(), out.len()), (ErrorKind::NotFound, 0));
}
