//! What bad input gets: the right status or exit code, a message that helps, neighbours unharmed, and a host that lives.
//!
//! In order: pictures, requests, slow and absent clients, guests that misbehave. Files that are no models and no
//! components are in `bad_target.rs`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test ends by panicking")]

mod support;

use std::io::Write as _;

use serde_json::Value;
use support::guests::{example, fixture, model, read_source};
use support::host::{Shared, TestHost};
use support::http::Answer;
use support::{eventually, pictures};

/// `misbehave` with the model `digits`, between the neighbours `digits` and `hello`.
static HOST: Shared = Shared::new(|| serve_misbehave(&["--memory", "64m", "--max-body", "4m"]));

/// The same, in a hurry: for what is decided by a clock.
static HURRIED: Shared =
    Shared::new(|| serve_misbehave(&["--timeout", "2s", "--header-timeout", "500ms", "--body-timeout", "1s"]));

fn serve_misbehave(flags: &[&str]) -> TestHost {
    let (misbehave, digits, hello) = (fixture("misbehave"), example("digits"), example("hello"));
    let model = format!("digits={}", model("digits", "digits").display());
    TestHost::serve(&[&misbehave, &digits, &hello], &[&["-m", &model], flags].concat())
}

/// The one that was harmed and the ones beside it answer as if nothing had been.
#[track_caller]
fn all_is_well(host: &TestHost) {
    assert_eq!(host.service("misbehave").get("/ok").expect(200).text(), "ok");
    assert_eq!(host.service("hello").get("/").expect(200).text(), "Hello from Wharf.\n");
    let seven = read_source("examples/digits/testdata/seven.png");
    assert_eq!(host.service("digits").post("/predict", &seven).expect(200).json()["digit"], 7);
}

/// The guest was told no: its own answer says what it was told.
#[track_caller]
fn told_no(answer: Answer, kind: &str, message: &str) -> Value {
    let json = answer.expect(200).json();
    assert_eq!((&json["outcome"], &json["kind"]), (&"error".into(), &kind.into()), "{json}");
    assert!(json["message"].as_str().unwrap().contains(message), "{json}");
    json
}

/// The host answered in the guest's place.
#[track_caller]
fn host_says(answer: Answer, status: u16, message: &str) {
    let answer = answer.expect(status);
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let error = answer.error();
    assert!(error.contains(message), "{error}");
}

// ---- pictures ----

#[test]
fn a_truncated_jpeg() {
    let host = HOST.get();
    let jpeg = read_source("examples/facedetection/testdata/people.jpg");
    let half = &jpeg[..jpeg.len() / 2];
    host_says(host.service("digits").post("/predict", half), 400, "the JPEG is truncated");
    told_no(host.service("misbehave").post("/decode", half), "malformed", "the JPEG is truncated");
    // The head alone.
    told_no(host.service("misbehave").post("/decode", &jpeg[..20]), "malformed", "");
    all_is_well(&host);
}

#[test]
fn a_png_that_declares_fifty_thousand_pixels_squared() {
    let host = HOST.get();
    let bomb = pictures::bomb(50_000, 50_000);
    let words = "50000 x 50000 pixels: that is 2500000000 pixels, the limit is 67108864";
    host_says(host.service("digits").post("/predict", &bomb), 413, words);
    told_no(host.service("misbehave").post("/decode", &bomb), "too-large", words);
    // Within the limit of pixels, beyond this container's memory of 64 MiB.
    let large = pictures::bomb(8000, 8000);
    told_no(host.service("misbehave").post("/decode", &large), "too-large", "8000 x 8000 pixels: that needs");
    assert!(host.peak_rss() < 600, "{} MiB", host.peak_rss());
    all_is_well(&host);
}

#[test]
fn a_body_of_no_bytes() {
    let host = HOST.get();
    host_says(
        host.service("digits").post("/predict", b""),
        400,
        "no bytes to decode: expected a JPEG, PNG or WebP picture",
    );
    told_no(host.service("misbehave").post("/decode", b""), "empty", "");
    all_is_well(&host);
}

#[test]
fn what_is_no_picture() {
    let host = HOST.get();
    host_says(host.service("digits").post("/predict", b"GIF89a, which nobody here reads"), 415, "JPEG, PNG");
    told_no(host.service("misbehave").post("/decode", b"hello"), "unsupported-format", "");
    all_is_well(&host);
}

#[test]
fn the_wrong_content_type() {
    let host = HOST.get();
    let seven = read_source("examples/digits/testdata/seven.png");
    let digits = host.service("digits");
    let words = "expected a picture (JPEG, PNG or WebP) as the body or in a form, got `text/html`";
    host_says(digits.post_as("/predict", "text/html; charset=utf-8", &seven), 415, words);
    // A picture under another picture's name is a picture.
    assert_eq!(digits.post_as("/predict", "image/jpeg", &seven).expect(200).json()["digit"], 7);
}

#[test]
fn json_where_a_picture_belongs() {
    let host = HOST.get();
    let digits = host.service("digits");
    host_says(digits.post_as("/predict", "application/json", br#"{"image":"7"}"#), 415, "got `application/json`");
    host_says(digits.post("/predict", br#"{"image":"7"}"#), 415, "JPEG, PNG");
}

#[test]
fn a_picture_of_nothing() {
    let host = HOST.get();
    let blank = pictures::png(&pictures::blank(64, 64));
    host_says(host.service("digits").post("/predict", &blank), 422, "nothing stands out from the paper");
}

// ---- requests ----

#[test]
fn a_body_over_the_limit_that_says_so() {
    let host = HOST.get();
    let body = vec![b'x'; (4 << 20) + 1];
    for path in ["/read-all", "/ignore-body"] {
        let answer = host.service("misbehave").post(path, &body);
        assert_eq!(answer.header("connection"), Some("close"), "the rest of the body is still on its way");
        host_says(answer, 413, "the body is larger than 4194304 bytes, the limit of misbehave");
    }
    let exact = host.service("misbehave").post("/read-all", &body[1..]).expect(200);
    assert_eq!(exact.json()["length"], 4 << 20);
    all_is_well(&host);
}

#[test]
fn a_body_over_the_limit_that_hides_it() {
    let host = HOST.get();
    let chunked = |path: &str| {
        let mut exchange = host.service("misbehave").connect();
        let head = format!("POST {path} HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n");
        let _ = exchange.write(head.as_bytes());
        let piece = [b"10000\r\n".as_slice(), &[b'x'; 0x10000], b"\r\n"].concat();
        // 6 MiB; the host closes before.
        let _ = (0..96).try_for_each(|_| exchange.write(&piece)).and_then(|()| exchange.write(b"0\r\n\r\n"));
        exchange.answer().unwrap()
    };
    host_says(chunked("/read-all"), 413, "the body is larger than 4194304 bytes");
    host_says(chunked("/decode"), 413, "the body is larger than 4194304 bytes");
    all_is_well(&host);
}

#[test]
fn an_unknown_route() {
    let host = HOST.get();
    host_says(host.service("digits").get("/nowhere"), 404, "/nowhere");
    host_says(host.service("digits").post("/predict/", b""), 404, "/predict/");
}

#[test]
fn a_wrong_or_unknown_method() {
    let host = HOST.get();
    for method in ["GET", "DELETE", "BREW"] {
        let answer = host.service("digits").request(method, "/predict", &[], b"");
        assert_eq!(answer.header("allow"), Some("POST"), "{method}: {answer:?}");
        host_says(answer, 405, method);
    }
    all_is_well(&host);
}

#[test]
fn what_is_no_http() {
    let host = HOST.get();
    let cases: [(&[u8], u16); 5] = [
        (b"hello?\r\n\r\n", 400),
        (b"GET / HTTP/9.9\r\nhost: x\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nno colon here\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 TLS to a port without it", 400),
        (b"POST /ok HTTP/1.1\r\nhost: x\r\ncontent-length: many\r\n\r\n", 400),
    ];
    for (bytes, status) in cases {
        let mut exchange = host.service("misbehave").connect();
        exchange.write(bytes).unwrap();
        exchange.finish();
        assert_eq!(
            exchange.answer().map(|answer| answer.status).unwrap(),
            status,
            "{}",
            String::from_utf8_lossy(bytes)
        );
    }
    let endless = [b"GET /ok HTTP/1.1\r\nhost: x\r\nx: ".as_slice(), &[b'x'; 1 << 20], b"\r\n\r\n"].concat();
    let mut exchange = host.service("misbehave").connect();
    let _ = exchange.write(&endless);
    assert_eq!(exchange.answer().unwrap().status, 431);
    all_is_well(&host);
}

#[test]
fn chunks_that_are_none() {
    let host = HOST.get();
    for garbage in ["zz\r\nhello\r\n", "5\r\nhello, more than five", "fffffffffffffffff\r\nx"] {
        let send = |service: &str, path: &str| {
            let mut exchange = host.service(service).connect();
            let head = format!("POST {path} HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n");
            exchange.write([&head, garbage].concat().as_bytes()).unwrap();
            exchange.finish();
            exchange.answer().unwrap_or_else(|error| panic!("{garbage:?} to {path}: {error}"))
        };
        assert_eq!(send("digits", "/predict").status, 400, "{garbage:?}");
        told_no(send("misbehave", "/read-all"), "internal-error", "connection terminated");
    }
    all_is_well(&host);
}

#[test]
fn the_http_of_old_clients() {
    let host = HOST.get();
    let mut exchange = host.service("misbehave").connect();
    exchange.write(b"GET /ok HTTP/1.0\r\n\r\n").unwrap();
    let answer = exchange.answer().unwrap().expect(200);
    assert_eq!(answer.text(), "ok");
}

// ---- slow and absent clients ----

#[test]
fn headers_that_do_not_arrive() {
    let host = HURRIED.get();
    let mut exchange = host.service("misbehave").connect();
    exchange.write(b"GET /ok HTTP/1.1\r\nhost: ").unwrap();
    assert_eq!(exchange.answer().expect("408 before the connection is closed").status, 408);
    all_is_well(&host);
}

#[test]
fn a_body_that_does_not_arrive() {
    let host = HURRIED.get();
    for path in ["/read-all", "/decode"] {
        let mut exchange = host.service("misbehave").connect();
        let head = format!("POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\nthe beginning");
        exchange.write(head.as_bytes()).unwrap();
        let answer = exchange.answer().unwrap();
        assert_eq!(answer.header("connection"), Some("close"));
        host_says(answer, 408, "the body did not arrive within 1 s");
    }
    all_is_well(&host);
}

#[test]
fn a_body_that_trickles() {
    let host = HURRIED.get();
    let mut exchange = host.service("digits").connect();
    exchange.write(b"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\n").unwrap();
    let answer = std::thread::scope(|scope| {
        let sender = exchange.another();
        // Each byte is in time; all of them are not.
        scope.spawn(move || {
            (0..100).try_for_each(|_| {
                std::thread::sleep(std::time::Duration::from_millis(50));
                (&sender).write_all(b"x")
            })
        });
        exchange.answer().unwrap()
    });
    host_says(answer, 408, "the body did not arrive within 1 s");
    all_is_well(&host);
}

#[test]
fn a_client_that_leaves_while_it_sends() {
    let host = HOST.get();
    let guest = host.service("misbehave");
    let exchange = guest.connect();
    exchange.write(b"POST /read-all HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\nthe beginning").unwrap();
    drop(exchange);
    all_is_well(&host);
}

#[test]
fn a_client_that_leaves_while_it_waits() {
    // Alone in its host, so that the gauge shows this request and no other.
    let host = TestHost::serve(&[&fixture("misbehave")], &["--max-in-flight", "1", "--timeout", "1h"]);
    let guest = host.service("misbehave");
    for path in ["/sleep?ms=3600000", "/loop", "/big-body?bytes=900000000"] {
        let mut exchange = guest.send("GET", path, &[], b"");
        if path.starts_with("/big-body") {
            assert_eq!(exchange.status().unwrap(), 200);
        } else {
            eventually("the request is in flight", || host.in_flight("misbehave") == 1.0);
        }
        guest.get("/ok").expect(503);
        drop(exchange);
        eventually("the place of who left is free", || guest.get("/ok").status == 200);
    }
}

#[test]
fn more_requests_than_the_limit() {
    let host = TestHost::serve(&[&fixture("misbehave"), &example("hello")], &["--max-in-flight", "2"]);
    let guest = host.service("misbehave");
    let mut slow: Vec<_> = (0..2).map(|_| guest.send("GET", "/sleep?ms=2000", &[], b"")).collect();
    eventually("both are in flight", || host.in_flight("misbehave") == 2.0);
    let answer = guest.get("/ok");
    assert_eq!(answer.header("retry-after"), Some("1"));
    host_says(answer, 503, "misbehave is busy: 2 requests are in flight, its limit; try again");
    // The limit is each service's own.
    host.service("hello").get("/").expect(200);
    for exchange in &mut slow {
        exchange.answer().unwrap().expect(200);
    }
    eventually("there is room again", || guest.get("/ok").status == 200);
    assert!(host.metric(r#"wharf_http_refused_total{container="misbehave",reason="busy"}"#) >= 1.0);
}

// ---- guests ----

#[test]
fn a_guest_that_traps() {
    let host = HOST.get();
    host_says(host.service("misbehave").get("/trap"), 500, "misbehave crashed; its log says where");
    host.log().wait_for("reason", |line| line.is_from("misbehave") && line.line().contains("unreachable"));
    all_is_well(&host);
}

#[test]
fn a_guest_that_panics() {
    let host = HOST.get();
    host_says(host.service("misbehave").get("/panic"), 500, "misbehave crashed; its log says where");
    host.log().wait_for("guest's words", |line| line.line().contains("this guest panics when asked to"));
    all_is_well(&host);
}

#[test]
fn a_guest_that_traps_midway() {
    let host = HOST.get();
    for path in ["/trap-midway", "/drop-body"] {
        // How much of it left the host before the crash is a matter of luck; that it is not whole must show.
        match host.service("misbehave").send("GET", path, &[], b"").answer() {
            Ok(answer) => assert_eq!((answer.status, answer.complete), (200, false), "{path}: {}", answer.text()),
            Err(error) => assert!(error.to_string().contains("closed without an answer"), "{path}: {error}"),
        }
    }
    host.log().wait_for("reason", |line| line.message() == "response cut short");
    all_is_well(&host);
}

#[test]
fn a_guest_without_a_response() {
    let host = HOST.get();
    host_says(host.service("misbehave").get("/no-response"), 500, "misbehave ended without a response");
    all_is_well(&host);
}

#[test]
fn a_guest_that_loops_for_ever() {
    let host = HURRIED.get();
    host_says(host.service("misbehave").get("/loop"), 504, "misbehave gave no answer within 2 s");
    all_is_well(&host);
}

#[test]
fn a_guest_that_waits_for_ever() {
    let host = HURRIED.get();
    host_says(host.service("misbehave").get("/sleep?ms=3600000"), 504, "misbehave gave no answer within 2 s");
    all_is_well(&host);
}

#[test]
fn a_guest_that_allocates_without_end() {
    let host = HOST.get();
    let words = "misbehave ran out of memory: its limit is 64 MiB (--memory)";
    host_says(host.service("misbehave").get("/alloc"), 500, words);
    told_no(host.service("misbehave").get("/grow?pages=1024"), "memory", "denied");
    told_no(host.service("misbehave").get("/grow"), "memory", "denied");
    assert!(host.peak_rss() < 600, "{} MiB", host.peak_rss());
    all_is_well(&host);
}

#[test]
fn a_guest_that_recurses_without_end() {
    let host = HOST.get();
    host_says(host.service("misbehave").get("/recurse"), 500, "misbehave crashed; its log says where");
    host.log().wait_for("reason", |line| line.line().contains("call stack exhausted"));
    all_is_well(&host);
}

#[test]
fn a_guest_that_writes_a_gigabyte_to_its_log() {
    let host = serve_misbehave(&["--timeout", "120s"]);
    let mut flood = host.service("misbehave").send("GET", "/log-flood", &[], b"");
    eventually("the flood has begun", || host.log().bytes() > 1 << 20);
    all_is_well(&host);
    let json = flood.answer().unwrap().expect(200).json();
    assert!(json["written"].as_u64().unwrap() >= 1_000_000_000, "{json}");
    assert!(host.peak_rss() < 600, "{} MiB", host.peak_rss());
    all_is_well(&host);
}

#[test]
fn a_guest_that_returns_two_gigabytes() {
    let host = serve_misbehave(&["--timeout", "120s"]);
    let mut exchange = host.service("misbehave").send("GET", "/big-body", &[], b"");
    let (status, length, complete) = exchange.measure().unwrap();
    assert_eq!((status, complete), (200, false));
    assert!(length <= 1 << 30, "the limit of --max-response is 1 GiB, {length} bytes came");
    let cut = host.log().wait_for("reason", |line| line.message() == "response cut short");
    assert!(cut.text.contains("the response is larger than 1073741824 bytes"), "{}", cut.text);
    assert!(host.peak_rss() < 600, "{} MiB", host.peak_rss());
    all_is_well(&host);
}

#[test]
fn a_response_slower_than_the_deadline_is_cut() {
    let host = HURRIED.get();
    // Read by nobody: the guest can write no more, and the deadline passes.
    let mut exchange = host.service("misbehave").send("GET", "/big-body?bytes=900000000", &[], b"");
    host.log().wait_for("reason", |line| line.text.contains("the response was not complete within 2 s"));
    let (status, _, complete) = exchange.measure().unwrap();
    assert_eq!((status, complete), (200, false));
    all_is_well(&host);
}

#[test]
fn a_guest_that_asks_its_model_wrongly() {
    let host = HOST.get();
    let guest = host.service("misbehave");
    let cases = [
        ("/infer-wrong-shape", ["image", "[1, 3]"]),
        ("/infer-wrong-dtype", ["image", "INT64"]),
        ("/infer-wrong-name", ["picture", "image"]),
        ("/infer-missing-input", ["image", ""]),
    ];
    for (path, words) in cases {
        for word in words {
            told_no(guest.get(path), "invalid-argument", word);
        }
    }
    told_no(guest.get("/tensor-wrong-size"), "invalid-argument", "3");
    for way in ["handles", "data", "start", "abandon"] {
        assert_eq!(guest.get(&format!("/infer?way={way}")).expect(200).json()["outcome"], "ok", "{way}");
    }
    all_is_well(&host);
}

#[test]
fn a_guest_that_opens_a_model_of_somebody_else() {
    let host = HOST.get();
    let guest = host.service("misbehave");
    told_no(guest.get("/open-foreign"), "not-found", "not-mine");
    // Served in this very host, but by another container, and as a path.
    let hello = TestHost::serve(&[&fixture("misbehave"), &model("digits", "digits")], &[]);
    told_no(hello.service("misbehave").get("/infer?model=digits"), "not-found", "digits");
    for path in ["../digits", "/etc/passwd", "digits/digits", "digits.onnx"] {
        told_no(guest.get(&format!("/infer?model={path}")), "not-found", path);
    }
}

#[test]
fn a_guest_that_hoards_what_the_host_holds_for_it() {
    let host = HOST.get();
    let guest = host.service("misbehave");
    let json = told_no(guest.get("/many-tensors"), "internal", "would pass the container's memory limit of 67108864");
    assert!((40..64).contains(&json["made"].as_u64().unwrap()), "of 64 MiB: {json}");
    // Small ones are not free either: the table of handles is full long before the memory is.
    host_says(guest.get("/many-tensors?bytes=1"), 500, "misbehave crashed; its log says where");
    host.log().wait_for("reason", |line| line.line().contains("resource table has no free keys"));
    told_no(guest.get("/big-image"), "too-large", "60000 x 60000 pixels");
    assert!(host.peak_rss() < 600, "{} MiB", host.peak_rss());
    all_is_well(&host);
}

#[test]
fn a_guest_that_wants_out() {
    let host = HOST.get();
    let open = host.service("hello").0;
    for authority in ["127.0.0.1:1", &open.to_string(), "example.org"] {
        let answer = host.service("misbehave").get(&format!("/egress?authority={authority}")).expect(200).json();
        assert_eq!(answer["outcome"], "error", "{authority}: {answer}");
        assert_eq!(answer["kind"], "http-request-denied", "{authority}: {answer}");
    }
    all_is_well(&host);
}
