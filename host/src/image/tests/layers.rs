//! File systems made of layers.

use super::*;

#[test]
fn upper_layers_replace_and_hide() {
    let store = Store::new();
    let lower =
        tar(&[("a", "1"), ("dir/", ""), ("dir/x", "x"), ("dir/y", "y"), ("opaque/", ""), ("opaque/old", "old")]);
    let upper = tar(&[
        ("a", "2"),
        ("dir/.wh.x", ""),
        ("opaque/new", "new"),
        // After what it must not hide: it means the lower layers alone.
        ("opaque/.wh..wh..opq", ""),
        (".wh.nothing", ""),
    ]);
    let image = store.stack(&[lower, upper], &["app"]).unwrap();
    let root = store.images.rootfs(&image.id).unwrap();
    assert_eq!(listing(&root), ["a = 2", "dir/", "dir/y = y", "opaque/", "opaque/new = new"]);
}

#[test]
fn a_folder_becomes_a_file_and_back() {
    let store = Store::new();
    let layers = [tar(&[("a/b", "1"), ("c", "1")]), tar(&[("a", "2"), ("c/d", "2")])];
    let image = store.stack(&layers, &[]).unwrap();
    assert_eq!(listing(&store.images.rootfs(&image.id).unwrap()), ["a = 2", "c/", "c/d = 2"]);
}

#[test]
fn hostile_marks_hide_nothing_outside() {
    let store = Store::new();
    std::fs::write(store.path("precious"), "still here").unwrap();
    let mut lower = Builder::new(Vec::new());
    entry(&mut lower, EntryType::Symlink, "link", "dir", b"");
    entry(&mut lower, EntryType::Regular, "dir/kept", "", b"kept");
    let upper = tar(&[(".wh..", ""), (".wh...", ""), (".wh.", ""), ("dir/.wh...", ""), ("link/.wh.kept", "")]);
    let image = store.stack(&[lower.into_inner().unwrap(), upper], &[]).unwrap();
    assert_eq!(listing(&store.images.rootfs(&image.id).unwrap()), ["dir/", "dir/kept = kept", "link -> dir"]);
    assert_eq!(std::fs::read_to_string(store.path("precious")).unwrap(), "still here");
}

#[test]
fn a_root_file_system_is_made_again() {
    let mut store = Store::new();
    let image = store.stack(&[tar(&[("a", "1")]), tar(&[("b", "2")])], &["app"]).unwrap();
    let root = store.images.rootfs(&image.id).unwrap();
    for gone in ["cache/rootfs", "cache/layers", "cache"] {
        std::fs::remove_dir_all(store.path(gone)).unwrap();
        store.reopen();
        assert_eq!(store.images.rootfs(&image.id).unwrap(), root);
        assert_eq!(listing(&root), ["a = 1", "b = 2"]);
    }
}

#[test]
fn equal_layers_share_a_file_system_and_packing_does_not_matter() {
    let store = Store::new();
    let layer = tar(&[("app.wasm", "same")]);
    let plain = store.stack(std::slice::from_ref(&layer), &["plain"]).unwrap();
    for (kind, blob) in [
        (media::LAYER_GZIP, gzip(&layer)),
        (media::LAYER_ZSTD, zstd::encode_all(&layer[..], 0).unwrap()),
        // What the type says is not believed.
        (media::LAYER, gzip(&layer)),
    ] {
        let (manifest, _) = store.blobs_of(&[(kind, blob, Digest::of(&layer))], &[("kind", kind)]);
        let other = store.images.commit_manifest(&manifest, media::MANIFEST, &[], None).unwrap();
        assert_ne!(other.id, plain.id);
        assert_eq!(store.images.rootfs(&other.id).unwrap(), store.images.rootfs(&plain.id).unwrap());
    }
}

#[test]
fn a_layer_that_lies_makes_no_image() {
    let store = Store::new();
    let layer = tar(&[("app.wasm", "x")]);
    let cases = [
        ("unpacks to", gzip(&layer), Digest::of(b"something else")),
        ("cannot be read", gzip(&layer)[..20].to_vec(), Digest::of(&layer)),
        ("climbs out", tar(&[("../x", "")]), Digest::of(&tar(&[("../x", "")]))),
    ];
    for (text, blob, diff_id) in cases {
        let (manifest, _) = store.blobs_of(&[(media::LAYER_GZIP, blob, diff_id)], &[]);
        let error = store.images.commit_manifest(&manifest, media::MANIFEST, &references(&["app"]), None).unwrap_err();
        assert!(error.to_string().contains(text), "{error}");
        store.assert_empty();
    }
}

#[test]
fn a_packed_bomb_is_refused() {
    let store = Store::new();
    let blob = bomb(16 << 20);
    // It is refused before its digest could be known.
    let (manifest, _) = store.blobs_of(&[(media::LAYER_GZIP, blob, Digest::of(b"unknown"))], &[]);
    let error = store.images.commit_manifest(&manifest, media::MANIFEST, &[], None).unwrap_err();
    assert!(error.to_string().contains("sparse or a bomb"), "{error}");
    store.assert_empty();
}

#[test]
fn a_bare_component_is_one_file() {
    let store = Store::new();
    let wasm = b"\0asm".to_vec();
    let (manifest, _) = store.blobs_of(&[(media::WASM[0], wasm.clone(), Digest::of(&wasm))], &[]);
    let image = store.images.commit_manifest(&manifest, media::MANIFEST, &references(&["app"]), None).unwrap();
    let root = store.images.rootfs(&image.id).unwrap();
    assert_eq!(std::fs::read(root.join("app.wasm")).unwrap(), wasm);
}
