//! `wharf new`, as a newcomer meets it: each template is made, built by its own `build.sh`, served and called.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test ends by panicking")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::{env, fs};

const WHARF: &str = env!("CARGO_BIN_EXE_wharf");

/// 6 × 4 pixels of #c86428.
const ORANGE_PNG: [u8; 74] = [
    0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a, 0x00, 0x00, 0x00, 0x0d, 0x49, 0x48, 0x44, 0x52, 0x00, 0x00, 0x00,
    0x06, 0x00, 0x00, 0x00, 0x04, 0x08, 0x02, 0x00, 0x00, 0x00, 0x22, 0x66, 0xd9, 0x14, 0x00, 0x00, 0x00, 0x11, 0x49,
    0x44, 0x41, 0x54, 0x78, 0xda, 0x63, 0x38, 0x91, 0xa2, 0x81, 0x86, 0x18, 0xc8, 0x15, 0x02, 0x00, 0xca, 0xc8, 0x1f,
    0xe1, 0x02, 0xe7, 0xed, 0x2f, 0x00, 0x00, 0x00, 0x00, 0x49, 0x45, 0x4e, 0x44, 0xae, 0x42, 0x60, 0x82,
];

#[test]
fn a_json_service_builds_and_answers() {
    let scratch = Scratch::new("json");
    let service = scratch.build("scaffold-json", "json");
    let served = Served::start(&service, &scratch.0);
    let greet = |body: &str| served.call("POST", "/greet", "application/json", body.as_bytes());
    assert_eq!(greet(r#"{"name": "Ada"}"#), (200, r#"{"message":"Hello Ada"}"#.to_owned()));
    assert_eq!(greet(r#"{"name": " "}"#), (422, r#"{"error":"`name` is empty"}"#.to_owned()));
    assert_eq!(greet("{").0, 400);
}

#[test]
fn an_image_service_builds_and_answers() {
    let scratch = Scratch::new("image");
    let service = scratch.build("scaffold-image", "image");
    let served = Served::start(&service, &scratch.0);
    assert_eq!(
        served.call("POST", "/describe", "image/png", &ORANGE_PNG),
        (200, r##"{"width":6,"height":4,"format":"png","mean_color":"#c86428"}"##.to_owned())
    );
    assert_eq!(served.call("POST", "/describe", "image/png", b"no picture").0, 415);
    let (status, page) = served.call("GET", "/", "", b"");
    assert_eq!(status, 200);
    assert!(page.contains("<title>scaffold-image</title>"), "{page}");
}

#[test]
fn what_was_made_and_what_comes_next_is_said() {
    let scratch = Scratch::new("report");
    let output = scratch.new_service(&["mask-detection"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}");
    assert!(text.starts_with("mask-detection/\n  Cargo.toml\n"), "{text}");
    assert!(text.contains("guest-sdk (the checkout this wharf was built from)\n"), "{text}");
    assert!(
        text.ends_with(
            "Next:\n  cd mask-detection\n  ./build.sh\n  \
             wharf serve target/wasm32-unknown-unknown/release/mask_detection.wasm -p 5000:5000\n"
        ),
        "{text}"
    );
    let left: Vec<_> = fs::read_dir(&scratch.0).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["mask-detection"], "nothing else stays behind");
}

#[test]
fn a_folder_that_exists_is_left_alone() {
    let scratch = Scratch::new("exists");
    fs::create_dir(scratch.0.join("taken")).unwrap();
    fs::write(scratch.0.join("taken/notes"), "mine").unwrap();
    let output = scratch.new_service(&["greeter", "--path", "taken"]);
    refused(&output, 1, "wharf: taken exists already: remove it, or name another folder with --path\n");
    assert_eq!(fs::read_dir(scratch.0.join("taken")).unwrap().count(), 1);
}

#[test]
fn a_bad_name_is_refused_before_anything_is_made() {
    let scratch = Scratch::new("names");
    refused(&scratch.new_service(&["Mask"]), 2, "\"Mask\" cannot name a service: it does not start with a lowercase");
    refused(&scratch.new_service(&["a/b"]), 2, "it contains '/'");
    refused(&scratch.new_service(&["match"]), 2, "has that name already");
    assert_eq!(fs::read_dir(&scratch.0).unwrap().count(), 0);
}

#[test]
fn an_sdk_that_is_none_is_named() {
    let scratch = Scratch::new("sdk");
    refused(
        &scratch.new_service(&["greeter", "--sdk", "nowhere"]),
        1,
        "--sdk nowhere: there is no crate called wharf-guest",
    );
    let sdk = Path::new(env!("CARGO_MANIFEST_DIR")).join("../guest-sdk");
    let output = scratch.new_service(&["greeter", "--path", "deep/down/greeter", "--sdk", sdk.to_str().unwrap()]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let manifest = fs::read_to_string(scratch.0.join("deep/down/greeter/Cargo.toml")).unwrap();
    assert!(manifest.contains("wharf-guest = { path = \"/"), "{manifest}");
}

fn refused(output: &Output, code: i32, message: &str) {
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{text}");
    assert!(text.contains(message), "{text}");
}

/// A folder of this test's own, gone when it ends.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("new-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        Scratch(folder)
    }

    fn new_service(&self, arguments: &[&str]) -> Output {
        Command::new(WHARF).arg("new").args(arguments).current_dir(&self.0).output().unwrap()
    }

    /// Make a service and build it: the file to serve.
    fn build(&self, name: &str, template: &str) -> PathBuf {
        let made = self.new_service(&[name, "--template", template]);
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let folder = self.0.join(name);
        // The versions that the examples were built with: what both need is compiled already.
        let lock = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/Cargo.lock");
        fs::copy(lock, folder.join("Cargo.lock")).unwrap();
        let target = guests_target();
        let built = Command::new("./build.sh").current_dir(&folder).env("CARGO_TARGET_DIR", &target).output().unwrap();
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        target.join("wasm32-unknown-unknown/release").join(name.replace('-', "_")).with_extension("wasm")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Where `cargo xtask guests` builds; `WHARF_NEW_TARGET` names another folder.
fn guests_target() -> PathBuf {
    match env::var_os("WHARF_NEW_TARGET") {
        Some(folder) => PathBuf::from(folder),
        None => Path::new(WHARF).ancestors().nth(2).unwrap().join("guests"),
    }
}

/// `wharf serve` on ports of its own; killed when the test ends.
struct Served {
    child: Child,
    address: String,
}

impl Served {
    fn start(component: &Path, data: &Path) -> Self {
        let mut child = Command::new(WHARF)
            .args(["serve", "-p", "127.0.0.1:0:5000", "--http", "127.0.0.1:0", "--log-format", "json", "--data"])
            .arg(data)
            .arg(component)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut seen = String::new();
        let mut address = None;
        loop {
            let Some(Ok(line)) = log.next() else { panic!("the host ended before it was ready:\n{seen}") };
            let event: serde_json::Value = serde_json::from_str(&line).unwrap_or_default();
            match event["fields"]["message"].as_str() {
                // The first one is the service's, the second the host's own.
                Some("listening") if address.is_none() => {
                    address = event["fields"]["address"].as_str().map(str::to_owned);
                }
                Some("ready") => break,
                _ => {}
            }
            seen += &line;
            seen.push('\n');
        }
        // The pipe must not fill up.
        std::thread::spawn(move || log.for_each(drop));
        Served { child, address: address.unwrap() }
    }

    /// Status and body of the answer.
    fn call(&self, method: &str, path: &str, content_type: &str, body: &[u8]) -> (u16, String) {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        let length = body.len();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\ncontent-type: {content_type}\r\n\
             content-length: {length}\r\n\r\n"
        );
        stream.write_all(&[head.as_bytes(), body].concat()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        assert!(!head.to_ascii_lowercase().contains("transfer-encoding"), "these answers have a length:\n{head}");
        (status, body.to_owned())
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
