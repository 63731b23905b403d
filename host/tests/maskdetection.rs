//! `examples/maskdetection`, alone and behind `examples/facedetection`, with held-out faces.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test ends by panicking")]

mod support;

use serde_json::Value;
use support::browser::Browser;
use support::guests::{example, read_source, source};
use support::host::{Shared, TestHost};
use support::pictures;
use wharf_vision::{Format, Image, Rect};

const MASKED: &str = "examples/maskdetection/testdata/masked.jpg";
const BARE: &str = "examples/maskdetection/testdata/bare.jpg";
const PEOPLE: &str = "examples/facedetection/testdata/people.jpg";
/// A name that no network knows.
const NOBODY: &str = "http://nobody:5000/predict";
/// Of boxes around a face whose mask nobody could tell.
const AMBER: [u8; 3] = [250, 180, 0];

static HOST: Shared = Shared::new(|| TestHost::serve(&[&example("facedetection"), &example("maskdetection")], &[]));
static ALONE: Shared = Shared::new(|| {
    let variable = format!("MASK_URL={NOBODY}");
    TestHost::serve(&[&example("facedetection")], &["-e", &variable])
});

/// What the service says of a picture: mask or not, and how sure it is.
#[track_caller]
fn asked(host: &TestHost, picture: &[u8]) -> (bool, f64) {
    let answer = host.service("maskdetection").post("/predict", picture).expect(200).json();
    (answer["mask"].as_bool().unwrap(), answer["score"].as_f64().unwrap())
}

#[test]
fn it_tells_the_faces_of_its_readme_apart() {
    let host = HOST.get();
    for (file, mask) in [(MASKED, true), (BARE, false)] {
        let (said, score) = asked(&host, &read_source(file));
        assert_eq!(said, mask, "{file}");
        assert!((0.5..=1.0).contains(&score), "{file}: {score}");
    }
}

#[test]
fn it_is_right_on_95_of_100_faces_it_never_saw() {
    let host = HOST.get();
    let facts: Value = serde_json::from_slice(&read_source("examples/maskdetection/testdata/heldout.json")).unwrap();
    let sheet = pictures::decode(&read_source("examples/maskdetection/testdata/heldout.jpg"));
    let number = |name: &str| u32::try_from(facts[name].as_u64().unwrap()).unwrap();
    let (width, height, columns) = (number("width"), number("height"), number("columns"));
    let masks: Vec<bool> = facts["masks"].as_array().unwrap().iter().map(|mask| mask == 1).collect();
    assert_eq!((masks.len(), masks.iter().filter(|mask| **mask).count()), (240, 120));

    let right = (0..).zip(&masks).filter(|(index, mask)| {
        let area = Rect { x: index % columns * width, y: index / columns * height, width, height };
        asked(&host, &pictures::png(&sheet.crop(area).unwrap())).0 == **mask
    });
    let accuracy = right.count() as f64 / masks.len() as f64;
    assert!(accuracy >= 0.95, "{accuracy}");
}

#[test]
fn it_is_right_on_the_boxes_that_facedetection_gives() {
    let host = HOST.get();
    let scenes: Value =
        serde_json::from_slice(&read_source("examples/facedetection/testdata/heldout/truth.json")).unwrap();
    let (mut faces, mut right) = (0, 0);
    for scene in scenes.as_array().unwrap() {
        let file = scene["file"].as_str().unwrap();
        let bytes = read_source(&format!("examples/facedetection/testdata/heldout/{file}"));
        let picture = pictures::decode(&bytes);
        let found = host.service("facedetection").post("/detect", &bytes).expect(200).json();
        for face in found["faces"].as_array().unwrap() {
            let found_at = corners(&face["box"]);
            // What is no face, or hardly met, has no right answer.
            let mut truths = scene["faces"].as_array().unwrap().iter();
            let Some(truth) = truths.find(|truth| overlap(found_at, corners(&truth["box"])) >= 0.5) else { continue };
            faces += 1;
            right += u32::from(asked(&host, &cut_out(&picture, found_at)).0 == truth["mask"].as_bool().unwrap());
        }
    }
    assert!(faces > 100, "{faces}");
    assert!(f64::from(right) >= 0.95 * f64::from(faces), "{right} of {faces}");
}

/// As facedetection sends it.
fn cut_out(picture: &Image, [left, top, right, bottom]: [f64; 4]) -> Vec<u8> {
    let (x, y) = (left as u32, top as u32);
    let (width, height) = (right.ceil() as u32 - x, bottom.ceil() as u32 - y);
    picture.crop(Rect { x, y, width, height }).unwrap().encode(Format::Jpeg, 90).unwrap()
}

fn corners(values: &Value) -> [f64; 4] {
    let numbers: Vec<f64> = values.as_array().unwrap().iter().map(|value| value.as_f64().unwrap()).collect();
    numbers.try_into().unwrap()
}

/// Intersection over union.
fn overlap(a: [f64; 4], b: [f64; 4]) -> f64 {
    let area = |[left, top, right, bottom]: [f64; 4]| (right - left).max(0.0) * (bottom - top).max(0.0);
    let both = area([a[0].max(b[0]), a[1].max(b[1]), a[2].min(b[2]), a[3].min(b[3])]);
    both / (area(a) + area(b) - both)
}

#[test]
fn what_is_no_picture_is_refused() {
    let host = HOST.get();
    let service = host.service("maskdetection");
    assert!(service.post("/predict", b"").expect(400).error().contains("no bytes"));
    assert!(service.post_as("/predict", "application/json", b"{}").expect(415).error().contains("expected a picture"));
    assert_eq!(service.get("/predict").expect(405).header("allow"), Some("POST"));
}

#[test]
fn a_face_dropped_on_its_page_is_looked_at() {
    let host = HOST.get();
    let Some(mut browser) = Browser::start() else { return };
    browser.open(host.service("maskdetection"), "/");
    browser.drop_file("#drop", &source(MASKED));
    browser.until("document.getElementById('picture').naturalWidth > 0");
    let result = browser.text("#result");
    assert!(result.starts_with("mask, ") && result.ends_with(" %"), "{result}");
    browser.choose("#file", &source(BARE));
    browser.until("document.getElementById('result').textContent.startsWith('no mask, ')");
    browser.choose("#file", &source("LICENSE"));
    browser.until("document.getElementById('result').textContent.includes('JPEG, PNG or WebP')");
    browser.has_no_complaints();
}

#[test]
fn without_another_service_faces_have_no_mask_field() {
    let host = HOST.get();
    let answer = host.service("facedetection").post("/detect", &read_source(PEOPLE)).expect(200).json();
    let faces = answer["faces"].as_array().unwrap();
    assert!(faces.len() >= 3 && faces.iter().all(|face| face.get("mask").is_none()), "{answer}");
}

#[test]
fn where_nobody_answers_the_faces_come_all_the_same() {
    let host = ALONE.get();
    let answer = host.service("facedetection").post("/detect", &read_source(PEOPLE)).expect(200).json();
    let faces = answer["faces"].as_array().unwrap();
    assert!(faces.len() >= 3 && faces.iter().all(|face| face.get("mask") == Some(&Value::Null)), "{answer}");
    let warning = format!("masks are left unknown: POST {NOBODY}: ");
    let line = host.log().wait_for("warning", |line| line.is_from("facedetection") && line.line().contains(&warning));
    assert!(line.line().starts_with("WARN "), "{}", line.text);
}

#[test]
fn a_face_nobody_could_tell_is_drawn_in_amber() {
    let host = ALONE.get();
    let drawn = host.service("facedetection").post("/detect?draw=png", &read_source(PEOPLE)).expect(200);
    let picture = pictures::decode(&drawn.body);
    let amber = picture.pixels().chunks_exact(3).filter(|pixel| *pixel == AMBER).count();
    assert!(amber > 500, "{amber} amber pixels");
}
