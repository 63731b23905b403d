//! Finding, listing and naming.

use super::*;
use crate::error::ErrorKind;

#[test]
fn an_image_is_found_by_every_name_it_has() {
    let mut store = Store::new();
    let made = store.image("one", &["app", "localhost:5000/app:1"]);
    assert_eq!(made.tags, ["app:latest", "localhost:5000/app:1"]);
    assert_eq!((made.size, made.config.os.as_str()), (3, "wasi"));
    store.images.note_digest(&made.id, &format!("app@{}", made.manifest).parse().unwrap()).unwrap();
    store.reopen();
    let names = [
        "app".to_owned(),
        "app:latest".into(),
        "docker.io/library/app".into(),
        "localhost:5000/app:1".into(),
        format!("app@{}", made.manifest),
        made.id.to_string(),
        made.id.hex().to_owned(),
        made.id.short().to_owned(),
        format!("sha256:{}", made.id.short()),
        made.manifest.to_string(),
    ];
    for name in names {
        assert_eq!(store.images.find(&name).unwrap().id, made.id, "{name}");
    }
    for (name, text) in [
        ("ap", "No such image: ap:latest"),
        ("app:2", "No such image: app:2"),
        ("", "No such image: "),
        ("sha256:", "No such image: sha256:"),
        ("Capital", "No such image: Capital"),
    ] {
        let error = store.images.find(name).unwrap_err();
        assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::NotFound, text), "{name}");
    }
}

#[test]
fn an_ambiguous_prefix_is_refused() {
    let store = Store::new();
    // Sixteen first digits and seventeen images: two share one.
    let ids: Vec<Digest> = (0..17).map(|number| store.image(&number.to_string(), &[]).id).collect();
    let shared = |id: &&Digest| ids.iter().filter(|other| other.hex()[..1] == id.hex()[..1]).count() > 1;
    let prefix = &ids.iter().find(shared).unwrap().hex()[..1];
    let error = store.images.find(prefix).unwrap_err();
    assert_eq!(error.to_string(), format!("multiple IDs found with provided prefix: {prefix}"));
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
}

#[test]
fn a_name_comes_before_a_prefix() {
    let store = Store::new();
    let by_prefix = store.image("one", &[]);
    let named = store.image("two", &[&by_prefix.id.hex()[..6]]);
    assert_eq!(store.images.find(&by_prefix.id.hex()[..6]).unwrap().id, named.id);
    assert_eq!(store.images.find(&by_prefix.id.hex()[..7]).unwrap().id, by_prefix.id);
}

#[test]
fn a_tag_moves_and_leaves_a_dangling_image() {
    let store = Store::new();
    let (one, two) = (store.image("one", &["app"]), store.image("two", &["app"]));
    let listed = store.images.list().unwrap();
    assert_eq!(listed.len(), 2);
    let tags = |id: &Digest| listed.iter().find(|image| image.id == *id).unwrap().tags.clone();
    assert_eq!((tags(&one.id), tags(&two.id)), (vec![], vec!["app:latest".to_owned()]));
    store.images.tag(&one.id, &"app:old".parse().unwrap()).unwrap();
    assert_eq!(store.images.find("app:old").unwrap().id, one.id);
    let error = store.images.tag(&Digest::of(b"none"), &"x".parse().unwrap()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
}

#[test]
fn committing_twice_is_committing_once() {
    let store = Store::new();
    let (first, again) = (store.image("one", &["app"]), store.image("one", &["app", "web"]));
    assert_eq!(first.id, again.id);
    assert_eq!(again.tags, ["app:latest", "web:latest"]);
    assert_eq!(store.images.list().unwrap().len(), 1);
}

#[test]
fn history_tells_steps_and_the_layers_without_one() {
    let store = Store::new();
    let image = store.stack(&[tar(&[("app.wasm", "12345")]), tar(&[("more", "1")])], &["app"]).unwrap();
    let history = store.images.history(&image).unwrap();
    let told: Vec<_> =
        history.iter().map(|entry| (entry.created_by.as_str(), entry.size, entry.id.is_some())).collect();
    assert_eq!(told, [("", 1, true), ("COPY app.wasm /", 5, false)]);
    assert_eq!(history[0].tags, ["app:latest"]);
}

#[test]
fn many_threads_name_at_once() {
    let store = Store::new();
    std::thread::scope(|scope| {
        for number in 0..8 {
            let store = &store;
            scope.spawn(move || store.image(&number.to_string(), &["app", &format!("app:{number}")]));
        }
    });
    let images = store.images.list().unwrap();
    assert_eq!(images.len(), 8);
    assert_eq!(images.iter().filter(|image| image.tags.contains(&"app:latest".to_owned())).count(), 1);
}
