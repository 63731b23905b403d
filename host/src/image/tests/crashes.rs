//! A host that dies at any instant: what each step of the store writes is cut short or left out, then the store is opened
//! again.

use super::*;

/// Everything below a folder, to be put back.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let (path, target) = {
            let path = entry.unwrap().path();
            let target = to.join(path.file_name().unwrap());
            (path, target)
        };
        if path.is_dir() {
            copy(&path, &target);
        } else {
            fs::copy(&path, &target).unwrap();
        }
    }
}

fn files(root: &Path) -> Vec<std::path::PathBuf> {
    let all = crate::image::tree::walk(root).unwrap();
    all.into_iter().filter(|path| root.join(path).is_file()).collect()
}

#[test]
fn a_commit_that_did_not_reach_the_index_leaves_only_orphans() {
    let store = Store::new();
    let kept = store.image("kept", &["kept"]);
    let before = store.counts();
    let index = fs::read(store.path("images/index.json")).unwrap();
    store.image("lost", &["lost", "kept"]);
    let added = files(store.folder.path());
    // Each file in turn is the last that reached the disk, and is cut in the middle under its unfinished name.
    for (number, cut) in added.iter().enumerate() {
        let copied = tempfile::tempdir().unwrap();
        copy(store.folder.path(), copied.path());
        fs::write(copied.path().join("images/index.json"), &index).unwrap();
        let content = fs::read(store.folder.path().join(cut)).unwrap();
        for folder in ["images", "images/ingest", "images/blobs/sha256", "cache/layers", "cache/rootfs", "cache/work"] {
            let unfinished = copied.path().join(folder).join(format!(".unfinished-1-{number}"));
            fs::write(unfinished, &content[..content.len() / 2]).unwrap();
        }
        let reopened = Store { images: Images::open(copied.path()).unwrap(), folder: copied };
        assert_eq!(reopened.images.find("kept").unwrap().id, kept.id);
        assert!(reopened.images.find("lost").is_err());
        reopened.images.collect_garbage().unwrap();
        assert_eq!(reopened.counts(), before, "{}", cut.display());
        assert!(files(reopened.folder.path()).iter().all(|path| !path.to_string_lossy().contains(".unfinished-")));
        assert_eq!(listing(&reopened.images.rootfs(&kept.id).unwrap()), ["app.wasm = kept"]);
        // And what was lost can be made again.
        assert_eq!(reopened.image("lost", &["lost"]).tags, ["lost:latest"]);
    }
}

#[test]
fn an_index_that_did_not_lose_an_image_yet_keeps_it_whole() {
    let store = Store::new();
    let image = store.image("one", &["app"]);
    let copied = tempfile::tempdir().unwrap();
    copy(store.folder.path(), copied.path());
    store.images.remove("app", false, true, &|_| crate::image::Use::None).unwrap();
    // Killed after the index was written and before anything was collected.
    fs::copy(store.path("images/index.json"), copied.path().join("images/index.json")).unwrap();
    let reopened = Store { images: Images::open(copied.path()).unwrap(), folder: copied };
    assert!(reopened.images.find(image.id.as_str()).is_err());
    reopened.assert_empty();
}

#[test]
fn a_cache_of_which_parts_are_missing_is_made_again() {
    let mut store = Store::new();
    let layers = [tar(&[("app.wasm", "one"), ("dir/", ""), ("dir/file", "two")]), tar(&[("top", "three")])];
    let image = store.stack(&layers, &["app"]).unwrap();
    let whole = listing(&store.images.rootfs(&image.id).unwrap());
    let diff_id = Digest::of(&layers[0]);
    for facts in [None, Some(""), Some("{"), Some("[]")] {
        fs::remove_dir_all(store.path("cache/rootfs")).unwrap();
        let layer = store.path("cache/layers").join(diff_id.hex());
        fs::remove_dir_all(layer.join("tree/dir")).unwrap();
        match facts {
            Some(text) => fs::write(layer.join("layer.json"), text).unwrap(),
            None => fs::remove_file(layer.join("layer.json")).unwrap(),
        }
        store.reopen();
        assert_eq!(listing(&store.images.rootfs(&image.id).unwrap()), whole, "{facts:?}");
    }
}

#[test]
fn opening_survives_any_missing_part() {
    for gone in ["images/oci-layout", "images/index.json", "images/ingest", "cache", "cache/build"] {
        let mut store = Store::new();
        store.image("one", &["app"]);
        let path = store.path(gone);
        if path.is_dir() {
            fs::remove_dir_all(&path).unwrap()
        } else {
            fs::remove_file(&path).unwrap()
        }
        store.reopen();
        assert_eq!(store.images.find("app").is_ok(), gone != "images/index.json", "{gone}");
        store.image("one", &["app"]);
        assert!(store.images.find("app").is_ok());
    }
}
