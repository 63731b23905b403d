//! Damage on disk: noticed, told, and never spread.

use super::*;

#[test]
fn a_damaged_document_hides_only_its_own_image() {
    let mut store = Store::new();
    let (good, bad) = (store.image("good", &["good"]), store.image("bad", &["bad"]));
    for blob in [&bad.id, &bad.manifest] {
        let path = store.images.blobs().path(blob);
        let content = fs::read(&path).unwrap();
        fs::write(&path, [&content[..content.len() - 1], b" "].concat()).unwrap();
        store.reopen();
        assert_eq!(store.images.list().unwrap().len(), 1);
        assert!(store.images.find("bad").is_err());
        assert_eq!(store.images.find("good").unwrap().id, good.id);
        fs::write(&path, content).unwrap();
        store.reopen();
        assert_eq!(store.images.find("bad").unwrap().id, bad.id);
    }
}

#[test]
fn the_collector_notices_damage_done_meanwhile() {
    let store = Store::new();
    let image = store.image("one", &["app"]);
    fs::write(store.images.blobs().path(&image.id), "{}").unwrap();
    store.images.collect_garbage().unwrap();
    assert!(store.images.find("app").is_err());
}

#[test]
fn a_damaged_layer_is_noticed_when_it_is_unpacked() {
    let mut store = Store::new();
    let layer = tar(&[("app.wasm", "one")]);
    let image = store.stack(std::slice::from_ref(&layer), &["app"]).unwrap();
    fs::write(store.images.blobs().path(&Digest::of(&layer)), tar(&[("app.wasm", "two")])).unwrap();
    fs::remove_dir_all(store.path("cache")).unwrap();
    store.reopen();
    let error = store.images.rootfs(&image.id).unwrap_err();
    assert!(error.to_string().contains("damaged or a fake"), "{error}");
    let error = store.images.save(&["app".into()], &mut std::io::sink()).unwrap_err();
    assert!(error.to_string().contains("is corrupt in the store"), "{error}");
}

#[test]
fn a_full_disk_is_said_and_leaves_nothing() {
    let full = std::io::Error::from(std::io::ErrorKind::StorageFull);
    let error = crate::image::durable::failed("write", Path::new("blob"), full);
    assert!(error.to_string().contains("free some space"), "{error}");
    // A writer that broke off anywhere keeps nothing.
    let store = Store::new();
    let mut writer = store.images.blobs().writer().unwrap();
    writer.write_all(b"half").unwrap();
    drop(writer);
    store.assert_empty();
}
