//! Removing names and images, pruning, and what may not be collected.

use super::*;
use crate::error::ErrorKind;
use crate::image::{PruneFilter, Removed, Use};

fn unused(_: &Digest) -> Use {
    Use::None
}

fn untagged(name: &str) -> Removed {
    Removed::Untagged(name.into())
}

#[test]
fn the_last_name_takes_the_image_along() {
    let store = Store::new();
    let image = store.image("one", &["app", "app:v2"]);
    store.images.rootfs(&image.id).unwrap();
    assert_eq!(store.images.remove("app", false, true, &unused).unwrap(), [untagged("app:latest")]);
    assert_eq!(store.images.find("app:v2").unwrap().tags, ["app:v2"]);
    let removed = store.images.remove("app:v2", false, true, &unused).unwrap();
    assert_eq!(removed, [untagged("app:v2"), Removed::Deleted(image.id)]);
    store.assert_empty();
}

#[test]
fn by_id_several_names_need_force() {
    let store = Store::new();
    let image = store.image("one", &["app", "web"]);
    let error = store.images.remove(image.id.short(), false, true, &unused).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    let text = "(must be forced) - image is referenced in multiple repositories";
    assert_eq!(error.to_string(), format!("conflict: unable to delete {} {text}", image.id.short()));
    let removed = store.images.remove(image.id.short(), true, true, &unused).unwrap();
    assert_eq!(removed, [untagged("app:latest"), untagged("web:latest"), Removed::Deleted(image.id)]);
    store.assert_empty();
}

#[test]
fn what_containers_use_stays() {
    let store = Store::new();
    let image = store.image("one", &["app"]);
    let container = "0123456789abcdef";
    let running = |_: &Digest| Use::Running(container.into());
    let stopped = |_: &Digest| Use::Stopped(container.into());
    let refused = |force, used: &dyn Fn(&Digest) -> Use| store.images.remove("app", force, true, used).unwrap_err();
    let short = image.id.short();
    assert_eq!(
        refused(true, &running).to_string(),
        format!(
            "conflict: unable to delete {short} (cannot be forced) - image is being used by running container \
             0123456789ab"
        )
    );
    assert!(refused(false, &running).to_string().contains("(cannot be forced)"));
    assert!(refused(false, &stopped).to_string().contains("(must be forced) - image is being used by stopped"));
    // A name that is not the last may go all the same.
    store.images.tag(&image.id, &"app:v2".parse().unwrap()).unwrap();
    assert_eq!(store.images.remove("app:v2", false, true, &running).unwrap(), [untagged("app:v2")]);
    store.images.remove("app", true, true, &stopped).unwrap();
    store.assert_empty();
}

#[test]
fn a_digest_goes_with_its_last_tag() {
    let store = Store::new();
    let image = store.image("one", &["localhost:5000/app:1", "app"]);
    let digest = format!("localhost:5000/app@{}", image.manifest);
    store.images.note_digest(&image.id, &digest.parse().unwrap()).unwrap();
    let removed = store.images.remove("localhost:5000/app:1", false, true, &unused).unwrap();
    assert_eq!(removed, [untagged("localhost:5000/app:1"), untagged(&digest)]);
    assert_eq!(store.images.find("app").unwrap().repo_digests, [] as [String; 0]);
}

#[test]
fn nameless_parents_go_along_unless_something_is_upon_them() {
    let store = Store::new();
    let parent = store.image("one", &[]);
    let child = |content: &str, tag: &str| {
        let layers = [tar(&[("app.wasm", "one")]), tar(&[("child", content)])];
        let layers = layers.map(|layer| (media::LAYER, layer.clone(), Digest::of(&layer)));
        let (manifest, _) = store.blobs_of(&layers, &[]);
        store.images.commit_manifest(&manifest, media::MANIFEST, &references(&[tag]), Some(&parent.id)).unwrap()
    };
    let (first, second) = (child("1", "first"), child("2", "second"));
    assert_eq!(first.parent.as_ref(), Some(&parent.id));
    let deleted = |id: &Digest| Removed::Deleted(id.clone());
    let removed = store.images.remove("first", false, true, &unused).unwrap();
    assert_eq!(removed, [untagged("first:latest"), deleted(&first.id)]);
    assert_eq!(listing(&store.images.rootfs(&second.id).unwrap()), ["app.wasm = one", "child = 2"]);
    let removed = store.images.remove("second", false, true, &unused).unwrap();
    assert_eq!(removed, [untagged("second:latest"), deleted(&second.id), deleted(&parent.id)]);
    store.assert_empty();
}

#[test]
fn pruning_takes_what_the_filter_says() {
    let nothing = PruneFilter::default();
    let all = PruneFilter { all: true, ..PruneFilter::default() };
    let before = |text: &str| Some(crate::image::store::parse_time(text).unwrap());
    let label = |text: &str| vec![text.to_owned()];
    let cases: [(PruneFilter, &[&str]); 8] = [
        (nothing.clone(), &["dangling"]),
        (all.clone(), &["dangling", "plain", "labelled"]),
        (PruneFilter { until: before("2025-12-31T00:00:00Z"), ..all.clone() }, &[]),
        (PruneFilter { until: before("2026-01-02T00:00:00Z"), ..nothing }, &["dangling"]),
        (PruneFilter { labels: label("kind"), ..all.clone() }, &["labelled"]),
        (PruneFilter { labels: label("kind=test"), ..all.clone() }, &["labelled"]),
        (PruneFilter { labels: label("kind=other"), ..all.clone() }, &[]),
        (PruneFilter { without_labels: label("kind"), ..all }, &["dangling", "plain"]),
    ];
    for (filter, expected) in cases {
        let store = Store::new();
        let layer = tar(&[("app.wasm", "labelled")]);
        let (manifest, labelled) =
            store.blobs_of(&[(media::LAYER, layer.clone(), Digest::of(&layer))], &[("kind", "test")]);
        store.images.commit_manifest(&manifest, media::MANIFEST, &references(&["labelled"]), None).unwrap();
        let used = store.image("used", &["used"]).id;
        let ids = [
            ("dangling", store.image("dangling", &[]).id),
            ("plain", store.image("plain", &["plain"]).id),
            ("labelled", labelled),
        ];
        let pruned = store.images.prune(&filter, &|id| *id == used).unwrap();
        let gone: Vec<&str> = ids
            .iter()
            .filter(|(_, id)| pruned.removed.contains(&Removed::Deleted(id.clone())))
            .map(|(name, _)| *name)
            .collect();
        assert_eq!(gone, expected, "{filter:?}");
        assert_eq!(pruned.reclaimed > 0, !expected.is_empty());
        assert_eq!(store.images.list().unwrap().len(), 4 - expected.len());
    }
}

#[test]
fn nothing_is_collected_beside_a_hold() {
    let store = Store::new();
    let (first, second) = (store.images.hold(), store.images.hold());
    let layer = tar(&[("app.wasm", "held")]);
    let (manifest, _) = store.blobs_of(&[(media::LAYER, layer.clone(), Digest::of(&layer))], &[]);
    store.images.blobs().put(b"orphan").unwrap();
    assert_eq!(store.images.collect_garbage().unwrap(), 0);
    drop(first);
    assert!(store.images.blobs().has(&Digest::of(&layer)) && store.images.blobs().has(&Digest::of(b"orphan")));
    store.images.commit_manifest(&manifest, media::MANIFEST, &references(&["app"]), None).unwrap();
    drop(second);
    // The postponed collection ran with the last one.
    assert!(store.images.blobs().has(&Digest::of(&layer)) && !store.images.blobs().has(&Digest::of(b"orphan")));
}

#[test]
fn a_shared_layer_stays_with_the_other_image() {
    let store = Store::new();
    let shared = tar(&[("app.wasm", "shared")]);
    store.stack(&[shared.clone(), tar(&[("a", "a")])], &["one"]).unwrap();
    let two = store.stack(&[shared.clone(), tar(&[("b", "b")])], &["two"]).unwrap();
    assert_eq!(store.images.layers_size().unwrap(), 3 * shared.len() as u64);
    store.images.remove("one", false, true, &unused).unwrap();
    assert_eq!(listing(&store.images.rootfs(&two.id).unwrap()), ["app.wasm = shared", "b = b"]);
    assert_eq!(store.counts(), (4, 2, 1));
}
