//! The examples, built as anybody builds them and called over HTTP with real pictures.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test ends by panicking")]

mod support;

use serde_json::Value;
use support::guests::{example, fixture_model, model, optional_example, read_source};
use support::host::{Shared, TestHost};
use support::pictures;
use wharf_vision::{Image, Rect};

static DIGITS: Shared = Shared::new(|| TestHost::serve(&[&example("digits")], &[]));
static FACES: Shared = Shared::new(|| TestHost::serve(&[&example("facedetection")], &[]));

// ---- digits ----

#[test]
fn digits_reads_the_pictures_of_its_readme() {
    let host = DIGITS.get();
    for (file, digit) in [("seven.png", 7), ("three.jpg", 3)] {
        let picture = read_source(&format!("examples/digits/testdata/{file}"));
        let answer = host.service("digits").post("/predict", &picture).expect(200).json();
        assert_eq!(answer["digit"], digit, "{file}: {answer}");
        let probabilities = numbers(&answer["probabilities"]);
        assert_eq!(probabilities.len(), 10);
        assert!((probabilities.iter().sum::<f64>() - 1.0).abs() < 1e-3, "{answer}");
    }
}

#[test]
fn digits_is_right_on_97_of_100_it_never_saw() {
    let host = DIGITS.get();
    let facts: Value = serde_json::from_slice(&read_source("examples/digits/testdata/heldout.json")).unwrap();
    let sheet = pictures::decode(&read_source("examples/digits/testdata/heldout.png"));
    let (side, columns) = (number(&facts["tile"]), number(&facts["columns"]));
    let labels: Vec<u32> = facts["labels"].as_array().unwrap().iter().map(number).collect();
    assert_eq!(labels.len(), 450);

    let mut right = 0;
    for (index, label) in (0..).zip(&labels) {
        let area = Rect { x: index % columns * side, y: index / columns * side, width: side, height: side };
        let picture = pictures::png(&as_sent(&sheet.crop(area).unwrap(), index));
        let answer = host.service("digits").post("/predict", &picture).expect(200).json();
        right += u32::from(number(&answer["digit"]) == *label);
    }
    let accuracy = f64::from(right) / labels.len() as f64;
    assert!(accuracy >= 0.97, "{accuracy}");
}

/// As different users would send it: large or small, bright on dark or dark on bright, always with a margin.
fn as_sent(tile: &Image, index: u32) -> Image {
    let margined = pictures::with_margin(&pictures::enlarged(tile, [8, 10, 16][index as usize % 3]), 12);
    if index.is_multiple_of(2) { pictures::inverted(&margined) } else { margined }
}

// ---- facedetection ----

#[test]
fn facedetection_finds_the_people_of_its_readme() {
    let host = FACES.get();
    let people = read_source("examples/facedetection/testdata/people.jpg");
    let answer = host.service("facedetection").post("/detect", &people).expect(200).json();
    assert_eq!((number(&answer["width"]), number(&answer["height"])), (640, 480));
    let faces = answer["faces"].as_array().unwrap();
    assert!(faces.len() >= 3, "{answer}");
    for face in faces {
        assert!(face["score"].as_f64().unwrap() >= 0.5, "{face}");
        let corners = corners(&face["box"]);
        assert!(corners[0] < corners[2] && corners[1] < corners[3] && corners[2] <= 640.0 && corners[3] <= 480.0);
    }
}

#[test]
fn facedetection_draws_what_it_found() {
    let host = FACES.get();
    let people = read_source("examples/facedetection/testdata/people.jpg");
    let before = pictures::decode(&people);
    for (draw, content_type) in [("1", "image/jpeg"), ("png", "image/png")] {
        let answer = host.service("facedetection").post(&format!("/detect?draw={draw}"), &people).expect(200);
        assert_eq!(answer.header("content-type"), Some(content_type));
        let after = pictures::decode(&answer.body);
        assert_eq!((after.width(), after.height()), (before.width(), before.height()));
        let changed = before.pixels().iter().zip(after.pixels()).filter(|(a, b)| a.abs_diff(**b) > 60).count();
        assert!((500..before.pixels().len() / 10).contains(&changed), "{draw}: {changed} values changed clearly");
    }
}

#[test]
fn facedetection_says_which_parameter_is_wrong() {
    let host = FACES.get();
    let people = read_source("examples/facedetection/testdata/people.jpg");
    for (query, words) in [("score=2", "`score`: expected 0 to 1, got 2"), ("iou=x", "`iou`"), ("draw=7", "`draw`")] {
        let error = host.service("facedetection").post(&format!("/detect?{query}"), &people).expect(400).error();
        assert!(error.contains(words), "{query}: {error}");
    }
}

#[test]
fn facedetection_reaches_an_average_precision_of_90() {
    let host = FACES.get();
    let scenes: Value = serde_json::from_slice(&read_source(HELDOUT_TRUTH)).unwrap();
    let mut found = Vec::new();
    let mut truth = Vec::new();
    for scene in scenes.as_array().unwrap() {
        let file = scene["file"].as_str().unwrap();
        let picture = read_source(&format!("examples/facedetection/testdata/heldout/{file}"));
        // Low, because the precision at every recall counts.
        let answer = host.service("facedetection").post("/detect?score=0.02", &picture).expect(200).json();
        let faces = answer["faces"].as_array().unwrap().iter();
        found.push(faces.map(|face| (face["score"].as_f64().unwrap(), corners(&face["box"]))).collect());
        truth.push(scene["faces"].as_array().unwrap().iter().map(|face| corners(&face["box"])).collect());
    }
    assert!(truth.len() >= 50, "{} scenes", truth.len());
    let precision = average_precision(&found, &truth);
    assert!(precision >= 0.90, "{precision}");
}

const HELDOUT_TRUTH: &str = "examples/facedetection/testdata/heldout/truth.json";

type Corners = [f64; 4];

/// Area under the precision-recall curve at an overlap of 0.5, all points: as `train/average_precision.py` does it.
/// A truth is matched once, by the best-scored detection whose best overlap it is.
fn average_precision(found: &[Vec<(f64, Corners)>], truth: &[Vec<Corners>]) -> f64 {
    let mut ranked: Vec<_> = (0..).zip(found).flat_map(|(i, faces)| faces.iter().map(move |face| (i, face))).collect();
    ranked.sort_by(|(_, (a, _)), (_, (b, _))| b.total_cmp(a));
    let mut taken: Vec<Vec<bool>> = truth.iter().map(|boxes| vec![false; boxes.len()]).collect();
    let total: usize = truth.iter().map(Vec::len).sum();
    let (mut hits, mut curve) = (0.0, Vec::new());
    for (rank, (scene, (_, corners))) in (1..).zip(ranked) {
        let scene: usize = scene;
        let overlaps = truth[scene].iter().map(|truth| overlap(corners, truth)).enumerate();
        let hit = match overlaps.max_by(|(_, a), (_, b)| a.total_cmp(b)) {
            Some((best, overlap)) => overlap >= 0.5 && !std::mem::replace(&mut taken[scene][best], true),
            None => false,
        };
        hits += f64::from(u8::from(hit));
        curve.push((hits / total as f64, hits / f64::from(rank)));
    }
    // Precision at a recall is the best at that recall or any higher one.
    let (mut area, mut best) = (0.0, 0.0_f64);
    for (index, (recall, precision)) in curve.iter().enumerate().rev() {
        best = best.max(*precision);
        let below = if index == 0 { 0.0 } else { curve[index - 1].0 };
        area += (recall - below) * best;
    }
    area
}

fn overlap(a: &Corners, b: &Corners) -> f64 {
    let area = |[left, top, right, bottom]: Corners| (right - left).max(0.0) * (bottom - top).max(0.0);
    let both = area([a[0].max(b[0]), a[1].max(b[1]), a[2].min(b[2]), a[3].min(b[3])]);
    both / (area(*a) + area(*b) - both)
}

#[test]
fn the_measure_itself_is_right() {
    let (here, there) = ([0.0, 0.0, 10.0, 10.0], [20.0, 20.0, 30.0, 30.0]);
    let truth = [vec![here, there]];
    assert_eq!(average_precision(&[vec![(0.9, here), (0.8, there)]], &truth), 1.0);
    assert_eq!(average_precision(&[vec![(0.9, here)]], &truth), 0.5);
    // A second box on the same face is wrong; the face after it is found at a precision of 2 in 3.
    let twice = [vec![(0.9, here), (0.8, here), (0.7, there)]];
    assert!((average_precision(&twice, &truth) - (0.5 + 0.5 * 2.0 / 3.0)).abs() < 1e-9);
    assert_eq!(overlap(&here, &[5.0, 0.0, 15.0, 10.0]), 1.0 / 3.0);
}

// ---- wasi-nn, python-hello, hello ----

#[test]
fn wasi_nn_runs_a_model_on_standard_interfaces_alone() {
    let digits = format!("digits={}", model("digits", "digits").display());
    let host = TestHost::serve(&[&example("wasi-nn").join("wasi-nn.wasm")], &["-m", &digits]);
    let guest = host.service("wasi-nn");
    assert!(guest.get("/").expect(200).text().contains("/classify"));

    // The first held-out digit, 0 to 1.
    let facts: Value = serde_json::from_slice(&read_source("examples/digits/testdata/heldout.json")).unwrap();
    let sheet = pictures::decode(&read_source("examples/digits/testdata/heldout.png"));
    let tile = sheet.crop(Rect { x: 0, y: 0, width: 8, height: 8 }).unwrap();
    let pixels: Vec<f32> = tile.pixels().iter().map(|ink| f32::from(*ink) / 255.0).collect();
    let text = serde_json::to_string(&pixels).unwrap();
    let raw: Vec<u8> = pixels.iter().flat_map(|pixel| pixel.to_le_bytes()).collect();
    let from_text = guest.post("/classify", text.as_bytes()).expect(200).json();
    let from_bytes = guest.post_as("/classify", "application/octet-stream", &raw).expect(200).json();
    assert_eq!(from_text["digit"], facts["labels"][0]);
    assert_eq!(from_text, from_bytes);

    // The Open Inference Protocol, which shares the session, says the same.
    let input = serde_json::json!({"name": "image", "shape": [1, 1, 8, 8], "datatype": "FP32", "data": pixels});
    let body = serde_json::json!({ "inputs": [input] }).to_string();
    let direct = host.http().post("/v2/models/wasi-nn/infer", body.as_bytes()).expect(200).json();
    for (a, b) in numbers(&direct["outputs"][0]["data"]).iter().zip(numbers(&from_text["probabilities"])) {
        assert!((a - b).abs() < 1e-4, "{direct} {from_text}");
    }
}

#[test]
fn wasi_nn_says_what_is_wrong() {
    let digits = format!("digits={}", fixture_model("sum").display());
    let wasm = example("wasi-nn").join("wasi-nn.wasm");
    let host = TestHost::serve(&[&wasm], &["-m", &digits]);
    let guest = host.service("wasi-nn");
    let text = |body: &[u8], status| guest.post("/classify", body).expect(status).text();
    assert_eq!(text(b"[1,2,3]", 400), "the body has 3 numbers; send 64, row by row\n");
    assert!(text(b"", 400).contains("empty"));
    // Another model under that name.
    let pixels = format!("{:?}", [0.0; 64]);
    let error = text(pixels.as_bytes(), 500);
    assert!(error.starts_with("wasi:nn invalid-argument: "), "{error}");

    let without = TestHost::serve(&[&wasm], &[]);
    let error = without.service("wasi-nn").post("/classify", pixels.as_bytes()).expect(404).text();
    assert!(error.starts_with("wasi:nn not-found: "), "{error}");
}

#[test]
fn python_answers_on_standard_interfaces() {
    let Some(folder) = optional_example("python-hello") else { return };
    let host = TestHost::serve(&[&folder], &[]);
    let guest = host.service("python-hello");
    let greeting = guest.get("/").expect(200).json();
    assert_eq!(greeting["message"], "Hello from Python in a sandbox");
    assert!(greeting["python"].as_str().unwrap().starts_with("3."), "{greeting}");

    let text = "hello ".repeat(20_000);
    let answer = guest.post_as("/echo", "text/plain", text.as_bytes()).expect(200);
    assert_eq!((answer.header("x-body-length"), answer.header("content-type")), (Some("120000"), Some("text/plain")));
    assert!(answer.text() == text);
    assert!(guest.get("/nowhere").expect(404).error().contains("no route '/nowhere'"));
    assert_eq!(guest.get("/echo").expect(405).header("allow"), Some("POST"));
}

#[test]
fn hello_does_what_its_readme_says() {
    let host = TestHost::serve(&[&example("hello")], &[]);
    let guest = host.service("hello");
    assert_eq!(guest.get("/").expect(200).text(), "Hello from Wharf.\n");
    assert_eq!(guest.get("/json").expect(200).text(), r#"{"message":"Hello, World!"}"#);
    assert_eq!(guest.post("/echo", b"hello").expect(200).text(), "hello");
    let page = guest.get("/hello/%3Cb%3E").expect(200);
    assert_eq!(page.text(), "<h1>Hello &lt;b></h1>");
    assert!(page.header("content-type").unwrap().starts_with("text/html"));
    // The model of `/tensor` is not here: the service's own fault, and it says which.
    let error = guest.post("/tensor", b"").expect(500).error();
    assert!(error.contains("tensor"), "{error}");
}

fn number(value: &Value) -> u32 {
    value.as_u64().and_then(|value| value.try_into().ok()).unwrap_or_else(|| panic!("no number: {value}"))
}

fn numbers(values: &Value) -> Vec<f64> {
    values.as_array().unwrap().iter().map(|value| value.as_f64().unwrap()).collect()
}

fn corners(values: &Value) -> Corners {
    numbers(values).try_into().unwrap()
}
