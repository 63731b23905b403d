//! The pages as a person sees them, in headless Chromium: load, drop a picture, read the answer.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test ends by panicking")]

mod support;

use support::browser::Browser;
use support::guests::{example, source};
use support::host::{Shared, TestHost};
use support::http::Client;
use support::pictures;

static HOST: Shared = Shared::new(|| TestHost::serve(&[&example("digits"), &example("facedetection")], &[]));

/// Open a page and see that it stands: it has its parts, its scripts run, and there is something to see.
fn page(client: Client, path: &str, parts: &[&str]) -> Option<Browser> {
    let mut browser = Browser::start()?;
    browser.open(client, path);
    for part in parts {
        let found = browser.evaluate(&format!("document.querySelectorAll({:?}).length", part));
        assert!(found.as_u64().unwrap() > 0, "no {part} on the page");
    }
    // Nothing is fetched from elsewhere: an edge box has no way out.
    let foreign = "performance.getEntriesByType('resource').filter(r => !r.name.startsWith(location.origin) && \
                   !r.name.startsWith('data:') && !r.name.startsWith('blob:')).map(r => r.name).join()";
    assert_eq!(browser.evaluate(foreign), "");
    let shot = pictures::decode(&browser.screenshot());
    let first = &shot.pixels()[..3];
    let drawn = shot.pixels().chunks_exact(shot.pixels().len() / (shot.width() * shot.height()) as usize);
    let different = drawn.filter(|pixel| &pixel[..3] != first).count();
    assert!(different > 500, "a blank page: {different} pixels differ from the first");
    browser.has_no_complaints();
    Some(browser)
}

#[test]
fn a_picture_dropped_on_digits_is_read() {
    let host = HOST.get();
    let Some(mut browser) = page(host.service("digits"), "/", &["canvas", "input[type=file]", "#clear"]) else {
        return;
    };
    browser.drop_file("canvas", &source("examples/digits/testdata/seven.png"));
    browser.until("document.getElementById('digit').textContent !== ''");
    assert_eq!(browser.text("#digit"), "7");
    browser.until("document.querySelectorAll('#probabilities tr').length === 10");

    browser.evaluate("document.getElementById('clear').click()");
    assert_eq!(browser.text("#digit"), "");
    browser.choose("#file", &source("examples/digits/testdata/three.jpg"));
    browser.until("document.getElementById('digit').textContent !== ''");
    assert_eq!(browser.text("#digit"), "3");
    browser.has_no_complaints();
}

#[test]
fn a_digit_drawn_with_the_mouse_is_read() {
    let host = HOST.get();
    let Some(mut browser) = page(host.service("digits"), "/", &["canvas"]) else { return };
    let corner = browser.evaluate("{ const r = document.querySelector('canvas').getBoundingClientRect(); [r.x, r.y] }");
    let (left, top) = (corner[0].as_f64().unwrap(), corner[1].as_f64().unwrap());
    // A ring: nothing else looks like it.
    let around = (0..=40).map(|step| f64::from(step) / 40.0 * std::f64::consts::TAU);
    let ring: Vec<_> = around.map(|turn| (left + 140.0 + 50.0 * turn.sin(), top + 140.0 - 85.0 * turn.cos())).collect();
    browser.draw(&ring);
    browser.until("document.getElementById('digit').textContent !== ''");
    assert_eq!(browser.text("#digit"), "0");
}

#[test]
fn a_picture_dropped_on_facedetection_shows_its_faces() {
    let host = HOST.get();
    let parts = ["#drop", "input[type=file]", "input[type=range]"];
    let Some(mut browser) = page(host.service("facedetection"), "/", &parts) else { return };
    browser.drop_file("#drop", &source("examples/facedetection/testdata/people.jpg"));
    browser.until("document.getElementById('picture').naturalWidth > 0");
    let result = browser.text("#result");
    assert!(result.ends_with("faces in 640 × 480 pixels"), "{result}");
    let faces = browser.evaluate("document.querySelectorAll('#faces li').length").as_u64().unwrap();
    assert!(faces >= 3, "{result}");
    assert_eq!(browser.evaluate("document.getElementById('picture').naturalWidth"), 640);
    browser.has_no_complaints();
}

#[test]
fn what_is_no_picture_gets_the_services_own_words() {
    let host = HOST.get();
    let Some(mut browser) = page(host.service("facedetection"), "/", &["#drop"]) else { return };
    browser.choose("#file", &source("LICENSE"));
    browser.until("document.getElementById('result').textContent !== ''");
    let words = browser.text("#result");
    assert!(words.contains("JPEG, PNG or WebP"), "{words}");
    assert_eq!(browser.evaluate("document.getElementById('picture').hidden"), true);
}

#[test]
fn the_dashboard_leads_to_its_services() {
    let host = HOST.get();
    let Some(mut browser) = page(host.http(), "/", &["h2", "pre", "a[href='/metrics']"]) else { return };
    let names = browser.evaluate("[...document.querySelectorAll('h2')].map(name => name.textContent).join()");
    assert_eq!(names, "digits,facedetection");
    let link = browser.evaluate("document.querySelector('section a').href");
    assert_eq!(link, format!("http://{}/", host.service("digits").0));
    browser.evaluate("document.querySelector('section a').click()");
    browser.until("document.title === 'Digits' && document.readyState === 'complete'");
}
