//! Transfers with registries that lie, stumble, break off and never end.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::runtime::Runtime;

use super::fake::{Content, Fake, Reply, Seen, Twist, cut, endless, reply, streamed, typed, with};
use super::transport::Pace;
use super::{Credentials, Pulled, Pushed, Registry};
use crate::error::{Error, ErrorKind};
use crate::image::manifest::{Descriptor, Manifest, media};
use crate::image::{Digest, Images, Reference};

const MANIFEST: &str = "/v2/app/manifests/1";

/// An answer, and what its refusal is to say.
type Lie = (Box<dyn Fn() -> Reply + Send + Sync>, &'static str);

/// A store and the runtime in which something is pulled into it.
struct Bench {
    folder: tempfile::TempDir,
    images: Images,
    runtime: Runtime,
}

impl Bench {
    fn new() -> Bench {
        let folder = tempfile::tempdir().unwrap();
        let images = Images::open(folder.path()).unwrap();
        Bench { folder, images, runtime: Runtime::new().unwrap() }
    }

    fn fake(&self, twist: impl Fn(&Seen, usize) -> Option<Reply> + Send + Sync + 'static) -> Fake {
        let twist: Twist = Arc::new(twist);
        self.runtime.block_on(Fake::start(twist))
    }

    fn registry(&self) -> Registry {
        let second = Duration::from_secs(1);
        let pace = Pace { connect: second, silence: second, pause: Duration::ZERO, attempts: 3 };
        Registry::with(self.images.clone(), vec![self.folder.path().join("certs.d")], pace)
    }

    fn pull(&self, fake: &Fake, credentials: Option<&Credentials>) -> Result<Pulled, Error> {
        self.runtime.block_on(self.registry().pull(&image(fake), credentials, None, &|_| {}))
    }

    fn push(&self, fake: &Fake) -> Result<Pushed, Error> {
        self.runtime.block_on(self.registry().push(&image(fake), None, &|_| {}))
    }

    /// After a failure: no image, and nothing that the collector does not find.
    fn expect_nothing(self) {
        // What is let go of in the background is gone with the runtime.
        drop(self.runtime);
        self.images.collect_garbage().unwrap();
        assert!(self.images.list().unwrap().is_empty());
        assert_eq!(fs::read_dir(self.images.blobs().folder()).unwrap().count(), 0);
    }
}

fn image(fake: &Fake) -> Reference {
    format!("{}/app:1", fake.authority).parse().unwrap()
}

fn layer() -> String {
    Content::blob_path(&Content::new().layer)
}

fn refused(path: String, answer: impl Fn() -> Reply + Send + Sync + 'static) -> (Error, usize) {
    let bench = Bench::new();
    let asked = path.clone();
    let fake = bench.fake(move |seen, _| (seen.path == asked).then(&answer));
    let error = bench.pull(&fake, None).unwrap_err();
    bench.expect_nothing();
    (error, fake.seen().iter().filter(|seen| seen.path == path).count())
}

fn mended(path: String, answer: impl Fn(&Seen, usize) -> Option<Reply> + Send + Sync + 'static) -> Vec<Seen> {
    let bench = Bench::new();
    let asked = path.clone();
    let fake = bench.fake(move |seen, before| if seen.path == asked { answer(seen, before) } else { None });
    let pulled = bench.pull(&fake, None).unwrap();
    assert_eq!(pulled.digest, Digest::of(&Content::new().manifest));
    assert!(bench.images.rootfs(&pulled.image.id).unwrap().join("hello").is_file());
    fake.seen().into_iter().filter(|seen| seen.path == path).collect()
}

fn page() -> Reply {
    typed("text/html; charset=utf-8", "<html>log in to the hotel</html>".into())
}

#[test]
fn an_honest_registry_is_believed_and_asked_once() {
    let bench = Bench::new();
    let fake = bench.fake(|_, _| None);
    assert!(bench.pull(&fake, None).unwrap().newer);
    assert!(!bench.pull(&fake, None).unwrap().newer);
    assert_eq!(fake.seen().iter().filter(|seen| seen.path == layer()).count(), 1);
}

#[test]
fn lies_about_a_manifest_are_refused() {
    let manifest = || Content::new().manifest;
    let zero = format!("sha256:{}", "0".repeat(64));
    let cases: Vec<Lie> = vec![
        (Box::new(page), "is a web page"),
        (
            Box::new(move || with(typed(media::MANIFEST, manifest()), "docker-content-digest", &zero)),
            "verification failed",
        ),
        (Box::new(endless), "larger than the limit of 4194304 bytes"),
        (Box::new(|| typed(media::MANIFEST, vec![b' '; (4 << 20) + 1].into())), "larger than the limit"),
        (Box::new(|| typed(media::MANIFEST, "{}".into())), "names no config or no layers"),
    ];
    for (answer, problem) in cases {
        let (error, asked) = refused(MANIFEST.into(), answer);
        assert!(error.chain().to_string().contains(problem), "{}", error.chain());
        assert_eq!(asked, 1, "{problem}");
    }
}

#[test]
fn lies_about_a_layer_are_refused() {
    let size = Content::new().layer.len();
    let of = move |size: usize| move || reply(200, vec![b'x'; size].into());
    let unmeasured = |size: usize| {
        move || streamed(Box::pin(futures_util::stream::iter([Ok(hyper::body::Frame::data(vec![b'x'; size].into()))])))
    };
    let cases: Vec<Lie> = vec![
        (Box::new(of(size)), "filesystem layer verification failed for digest"),
        (Box::new(of(size - 1)), "bytes long by the manifest"),
        (Box::new(of(size + 1)), "bytes long by the manifest"),
        (Box::new(unmeasured(size + 1)), "the registry sends more than"),
        (Box::new(endless), "the registry sends more than"),
        (Box::new(page), "bytes long by the manifest"),
        (Box::new(|| reply(404, Bytes::new())), "answered 404"),
    ];
    for (answer, problem) in cases {
        let (error, asked) = refused(layer(), answer);
        assert!(error.chain().to_string().contains(problem), "{}", error.chain());
        assert_eq!(asked, 1, "{problem}");
    }
}

#[test]
fn a_wrong_name_for_a_manifest_does_no_harm() {
    let answer = |_: &Seen, _| Some(typed("application/octet-stream", Content::new().manifest));
    mended(MANIFEST.into(), answer);
}

#[test]
fn what_may_pass_is_tried_again() {
    let stumble = |status| move |_: &Seen, before| (before == 0).then(|| reply(status, Bytes::new()));
    assert_eq!(mended(MANIFEST.into(), stumble(500)).len(), 2);
    assert_eq!(mended(layer(), stumble(429)).len(), 2);
}

#[test]
fn what_does_not_pass_is_given_up() {
    for status in [429, 503] {
        let (error, asked) = refused(layer(), move || reply(status, Bytes::new()));
        assert!(error.to_string().contains(&status.to_string()), "{error}");
        assert_eq!(asked, 3);
    }
}

#[test]
fn a_cut_layer_goes_on_where_it_broke_off() {
    let seen = mended(layer(), |_, before| (before == 0).then(|| cut(&Content::new().layer)));
    let half = Content::new().layer.len() / 2;
    assert_eq!(seen[1].header("range"), Some(format!("bytes={half}-").as_str()));
}

#[test]
fn a_server_that_knows_no_ranges_sends_the_whole_again() {
    let whole = |_: &Seen, before| {
        let layer = Content::new().layer;
        Some(if before == 0 { cut(&layer) } else { reply(200, layer) })
    };
    assert_eq!(mended(layer(), whole).len(), 2);
}

#[test]
fn the_next_pull_goes_on_with_what_came() {
    let bench = Bench::new();
    let bad = bench.fake(|seen, _| (seen.path == layer()).then(|| cut(&Content::new().layer)));
    assert!(bench.pull(&bad, None).is_err());
    assert!(bench.images.list().unwrap().is_empty());
    let good = bench.fake(|_, _| None);
    bench.pull(&good, None).unwrap();
    let asked = good.seen().into_iter().find(|seen| seen.path == layer()).unwrap();
    assert!(asked.header("range").is_some());
}

fn credentials() -> Credentials {
    Credentials { username: "u".into(), password: "p".into(), identity_token: None }
}

fn ask_for_password() -> Reply {
    with(reply(401, Bytes::new()), "www-authenticate", "Basic realm=\"r\"")
}

#[test]
fn a_password_goes_to_the_registry_and_nobody_else() {
    for asks in [false, true] {
        let bench = Bench::new();
        let other = bench.fake(move |seen, _| match seen.path.as_str() {
            "/elsewhere" if asks => {
                let realm = format!("Bearer realm=\"http://{}/token\"", seen.header("host").unwrap());
                Some(with(reply(401, Bytes::new()), "www-authenticate", &realm))
            }
            "/elsewhere" => Some(reply(200, Content::new().layer)),
            _ => None,
        });
        let place = format!("http://{}/elsewhere", other.authority);
        let fake = bench.fake(move |seen, _| {
            if seen.header("authorization").is_none() {
                return Some(ask_for_password());
            }
            (seen.path == layer()).then(|| with(reply(307, Bytes::new()), "location", &place))
        });
        assert_eq!(bench.pull(&fake, Some(&credentials())).is_ok(), !asks);
        assert!(fake.seen().iter().any(|seen| seen.header("authorization").is_some()));
        assert_eq!(other.seen().len(), 1);
        assert!(other.seen().iter().all(|seen| seen.header("authorization").is_none()));
    }
}

#[test]
fn asking_who_is_there_comes_to_an_end() {
    let bench = Bench::new();
    let fake = bench.fake(|seen, before| match seen.path.as_str() {
        "/token" => Some(reply(200, format!(r#"{{"token":"t{before}"}}"#).into())),
        _ => {
            // Another challenge and another token every time.
            let realm = format!("Bearer realm=\"/token\",scope=\"{}{before}\"", seen.path);
            Some(with(reply(401, Bytes::new()), "www-authenticate", &realm))
        }
    });
    let error = bench.pull(&fake, Some(&credentials())).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthorized);
    assert!(fake.seen().len() < 12, "{}", fake.seen().len());
    bench.expect_nothing();
}

#[test]
fn a_password_that_is_refused_is_shown_once() {
    let bench = Bench::new();
    let fake = bench.fake(|_, _| Some(ask_for_password()));
    let error = bench.pull(&fake, Some(&credentials())).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthorized);
    assert_eq!(fake.seen().iter().filter(|seen| seen.path == MANIFEST).count(), 1);
    bench.expect_nothing();
}

/// An answer to each step of a push; `stored` is what the registry says the manifest is.
fn takes(seen: &Seen, place: &str, stored: &str) -> Option<Reply> {
    match seen.method.as_str() {
        "HEAD" => Some(reply(404, Bytes::new())),
        "POST" | "PATCH" => Some(with(reply(202, Bytes::new()), "location", place)),
        "PUT" => Some(with(reply(201, Bytes::new()), "docker-content-digest", stored)),
        _ => None,
    }
}

#[test]
fn a_push_asks_first_and_sends_what_is_missing() {
    let bench = Bench::new();
    let digest = Digest::of(&Content::new().manifest).to_string();
    let stored = digest.clone();
    let fake = bench.fake(move |seen, _| match (seen.method.as_str(), seen.path == layer()) {
        ("HEAD", true) => None,
        _ => takes(seen, "/up?state=1", &stored),
    });
    bench.pull(&fake, None).unwrap();
    let pushed = bench.push(&fake).unwrap();
    assert_eq!((pushed.tag.as_str(), pushed.digest.to_string()), ("1", digest));
    let seen = fake.seen();
    let steps = |method: &str| seen.iter().filter(|seen| seen.method.as_str() == method).count();
    // Only the config had to be sent, then the manifest.
    assert_eq!((steps("HEAD"), steps("POST"), steps("PATCH"), steps("PUT")), (2, 1, 1, 2));
    let manifest = seen.iter().rfind(|seen| seen.path == MANIFEST).unwrap();
    assert_eq!(manifest.header("content-type"), Some(media::MANIFEST));
}

#[test]
fn a_registry_that_misleads_a_push_is_found_out() {
    let zero = format!("sha256:{}", "0".repeat(64));
    for (place, problem) in [("http://reg.example/up", "an address without TLS"), ("/up", "it cannot be relied on")] {
        let bench = Bench::new();
        let stored = zero.clone();
        let fake = bench.fake(move |seen, _| takes(seen, place, &stored));
        bench.pull(&fake, None).unwrap();
        let error = bench.push(&fake).unwrap_err().to_string();
        assert!(error.contains(problem), "{error}");
    }
}

#[test]
fn transfers_may_run_on_any_thread() {
    fn sent<T: Send>(_: T) {}
    let folder = tempfile::tempdir().unwrap();
    let registry = Registry::new(Images::open(folder.path()).unwrap(), folder.path()).unwrap();
    let reference: Reference = "localhost:1/app".parse().unwrap();
    sent(registry.pull(&reference, None, None, &|_| {}));
    sent(registry.push(&reference, None, &|_| {}));
}

#[test]
fn layers_are_fetched_side_by_side() {
    let layer = |name: &str| {
        let mut archive = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_ustar();
        header.set_size(5);
        header.set_mode(0o644);
        archive.append_data(&mut header, name, &b"hello"[..]).unwrap();
        Bytes::from(archive.into_inner().unwrap())
    };
    let (first, second) = (layer("first"), layer("second"));
    let config = serde_json::json!({
        "architecture": "wasm", "os": "wasi", "config": {},
        "rootfs": { "type": "layers", "diff_ids": [Digest::of(&first), Digest::of(&second)] },
    });
    let config = Bytes::from(config.to_string());
    let piece = |media_type, bytes: &[u8]| Descriptor::new(media_type, Digest::of(bytes), bytes.len() as u64);
    let layers = vec![piece(media::LAYER, &first), piece(media::LAYER, &second)];
    let manifest = serde_json::to_vec(&Manifest::new(piece(media::CONFIG, &config), layers)).unwrap();
    let manifest = Bytes::from(manifest);
    let bench = Bench::new();
    let is_asked = Arc::new(tokio::sync::Notify::new());
    let fake = bench.fake(move |seen, _| {
        let is = |bytes: &Bytes| Content::blob_path(bytes) == seen.path;
        if is(&first) {
            // Not a byte of the first before somebody asks for the second.
            let (is_asked, first) = (is_asked.clone(), first.clone());
            let body = futures_util::stream::once(async move {
                is_asked.notified().await;
                Ok(hyper::body::Frame::data(first))
            });
            return Some(streamed(Box::pin(body)));
        }
        if is(&second) {
            is_asked.notify_one();
            return Some(reply(200, second.clone()));
        }
        if is(&config) {
            return Some(reply(200, config.clone()));
        }
        (seen.path == MANIFEST).then(|| typed(media::MANIFEST, manifest.clone()))
    });
    let pulled = bench.pull(&fake, None).unwrap();
    let root = bench.images.rootfs(&pulled.image.id).unwrap();
    assert!(root.join("first").is_file() && root.join("second").is_file());
}
